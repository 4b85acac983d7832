package keeper

// This file tests On and Off, which begin and end the manual activation of an app. An app in more
// than one activation is in the strictest mode of them.

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestOnAndOff(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		expectStatus(t, k, "default", "off off")

		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly, Message: "migration"})
		expectStatus(t, k, "default", "read-only pending manual:read-only")
		st, _ := k.Status("default")
		if a := st.Activations[0]; a.Actor != "alice" || a.Remote != "192.0.2.7" {
			t.Fatalf("begun by %q from %q, want alice from 192.0.2.7", a.Actor, a.Remote)
		}

		mustTurnOff(t, k, "default")
		expectStatus(t, k, "default", "off off")
		expectAuditLog(t, k, "alice off default; alice on default")
	})
}

func TestEveryChangeMakesARevision(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		first := k.Current()
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		select {
		case <-first.Newer():
		default:
			t.Fatal("Newer is not closed although there is a newer state")
		}

		mustTurnOff(t, k, "default")
		created := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when the store was created, in fake time
		want := maintenance.Version{Epoch: uint64(created.UnixMilli()), Revision: 2}
		if v := k.Current().Version(); v != want {
			t.Fatalf("version %+v, want %+v", v, want)
		}
	})
}

func TestOnAgainReplacesTheActivation(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		onlyActivation := func() maintenance.Activation { return k.Current().Apps()[0].Activations[0] }
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly, Message: "migration"})
		first := onlyActivation()
		advance(time.Minute)

		// With the same mode, the same maintenance goes on.
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly, Message: "still migrating", For: time.Hour})
		second := onlyActivation()
		if second.ID != first.ID || !second.Since.Equal(first.Since) {
			t.Fatalf("%+v, want the ID and start of %+v", second, first)
		}
		if second.Message != "still migrating" || !second.Until.Equal(time.Now().Add(time.Hour)) {
			t.Fatalf("%+v, want the new message and end", second)
		}

		// With another mode, another maintenance begins.
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "worse"})
		expectStatus(t, k, "default", "no-access pending manual:no-access")
		third := onlyActivation()
		if third.ID == first.ID || !third.Since.Equal(time.Now()) || !third.Until.IsZero() {
			t.Fatalf("%+v, want a new activation without an end", third)
		}

		if v := k.Current().Version(); v.Revision != 3 {
			t.Fatalf("revision %d, want one for each change", v.Revision)
		}
		expectAuditLog(t, k, "alice on default; alice on default; alice on default")
	})
}

func TestRepeatedChangeLeavesNoTrace(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		repeat := func(change func()) {
			t.Helper()
			change()
			state, log := k.Current(), auditLog(t, k)
			change()
			if k.Current() != state || auditLog(t, k) != log {
				t.Fatal("the same change again made a revision or an audit entry")
			}
		}

		repeat(func() { mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "worse"}) })
		repeat(func() { mustTurnOff(t, k, "default") })
		repeat(func() { mustPut(t, k, shopSpec()) })
	})
}

func TestOnRefusesBadActivations(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		now := time.Now()
		mustPut(t, k, shopSpec(withWindow("w", now, now.Add(time.Hour))))

		for _, c := range []struct {
			want  ManualActivation
			field string // that the error names
		}{
			{ManualActivation{Mode: "off"}, "mode"},
			{ManualActivation{Mode: "closed"}, "mode"},
			{ManualActivation{Mode: maintenance.NoAccess, Until: now}, "until"},
			{ManualActivation{Mode: maintenance.NoAccess, Until: now.Add(-time.Hour)}, "until"},
			{ManualActivation{Mode: maintenance.NoAccess, For: -time.Hour}, "duration"},
			{ManualActivation{Mode: maintenance.NoAccess, For: time.Hour, Until: now.Add(time.Hour)}, "duration"},
			{ManualActivation{Mode: maintenance.NoAccess, Message: strings.Repeat("x", maintenance.MaxMessageBytes+1)}, "message"},
			{ManualActivation{Mode: maintenance.NoAccess, Message: "a\x00b"}, "message"}, // control characters
		} {
			_, err := k.On(t.Context(), alice, Always, "shop", c.want)
			expectFieldError(t, err, c.field)
		}

		_, err := k.On(t.Context(), alice, Always, "nope", ManualActivation{Mode: maintenance.NoAccess})
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%v, want ErrNotFound for an app that does not exist", err)
		}
		if v := k.Current().Version(); v.Revision != 1 {
			t.Errorf("a refused activation made revision %d", v.Revision)
		}
	})
}

// dailyWindow returns a shop with a window of two occurrences: one that starts in a minute and
// takes an hour, and the same a day later. The times are in another zone than UTC, as an operator
// may write them.
func dailyWindow() (spec maintenance.Spec, tomorrow maintenance.Occurrence) {
	const day = 24 * time.Hour
	start := time.Now().Add(time.Minute).In(time.FixedZone("CET", 3600))
	spec = shopSpec(withWindow("w", start, start.Add(time.Hour)))
	tomorrow = maintenance.Occurrence{Start: start.Add(day), End: start.Add(day + time.Hour)}
	spec.Windows[0].Occurrences = append(spec.Windows[0].Occurrences, tomorrow)
	return spec, tomorrow
}

func TestOffEndsTheRunningOccurrence(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		spec, tomorrow := dailyWindow()
		mustPut(t, k, spec)
		advance(10 * time.Minute)
		mustTurnOn(t, k, "shop", ManualActivation{Mode: maintenance.ReadOnly})
		expectStatus(t, k, "shop", "no-access pending manual:read-only,window:no-access")

		mustTurnOff(t, k, "shop")
		expectStatus(t, k, "shop", "off scheduled")

		// A proxy opens windows by its own clock, so the document must not have the occurrence.
		a, _ := k.Current().App("shop")
		if left := a.Windows[0].Occurrences; len(left) != 1 || !left[0].Start.Equal(tomorrow.Start) {
			t.Fatalf("occurrences %+v, want only %+v", left, tomorrow)
		}
	})
}

func TestEndedOccurrenceStaysEnded(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		spec, _ := dailyWindow()
		mustPut(t, k, spec)
		advance(10 * time.Minute)
		mustTurnOff(t, k, "shop")

		// The spec still has the occurrence that Off ended.
		before := k.Current()
		mustPut(t, k, spec)
		if k.Current() != before {
			t.Fatal("putting the same spec again changed something")
		}

		// The occurrence of the next day comes, and can be ended as well.
		advance(24 * time.Hour)
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		mustTurnOff(t, k, "shop")
		expectStatus(t, k, "shop", "off off")

		// A manual activation is not mixed up with the windows that were ended.
		mustTurnOn(t, k, "shop", ManualActivation{Mode: maintenance.ReadOnly})
		expectStatus(t, k, "shop", "read-only pending manual:read-only")
	})
}

func TestOffIsRefusedForAnotherSource(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		// No part of the controller makes activations of this source yet, so the test makes one.
		_, _, err := k.update(t.Context(), Actor{Name: "file"}, "file.start", func(d *draft) error {
			a, _ := d.app("default")
			file := maintenance.Activation{ID: "maintenance", Source: maintenance.SourceFile, Mode: maintenance.NoAccess, Since: d.now.UTC()}
			a.Activations = append(slices.Clip(a.Activations), file)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}

		before := k.Current()
		_, err = k.Off(t.Context(), alice, Always, "default")
		var other *OtherSourceError
		if !errors.Is(err, ErrOtherSource) || !errors.As(err, &other) || other.Activations[0].Source != maintenance.SourceFile {
			t.Fatalf("%v, want an OtherSourceError with the file", err)
		}
		if !strings.Contains(err.Error(), "file maintenance") {
			t.Fatalf("%v does not name the file", err)
		}
		if k.Current() != before {
			t.Fatal("the manual activation was ended although off was refused")
		}
	})
}
