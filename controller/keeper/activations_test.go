package keeper

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
		first := k.Current()

		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly, Message: "migration"})
		expectStatus(t, k, "default", "read-only pending manual:read-only")
		select {
		case <-first.Newer():
		default:
			t.Fatal("Newer is not closed although there is a newer state")
		}
		st, _ := k.Status("default")
		if a := st.Activations[0]; a.Actor != "alice" || a.Remote != "192.0.2.7" {
			t.Fatalf("begun by %q from %q", a.Actor, a.Remote)
		}

		off(t, k, "default")
		expectStatus(t, k, "default", "off off")
		want := maintenance.Version{Epoch: uint64(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()), Revision: 2}
		if v := k.Current().Version(); v != want {
			t.Fatalf("version %+v, want %+v", v, want)
		}
		if got, want := auditLog(t, k), "alice off default; alice on default"; got != want {
			t.Fatalf("audit: %s\nwant:  %s", got, want)
		}
	})
}

func TestOnAgainReplacesTheActivation(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly, Message: "migration"})
		first := k.Current().Apps()[0].Activations[0]
		advance(time.Minute)

		// With the same mode, the same maintenance goes on.
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly, Message: "still migrating", For: time.Hour})
		a := k.Current().Apps()[0].Activations[0]
		if a.ID != first.ID || !a.Since.Equal(first.Since) {
			t.Fatalf("another activation %+v, want that of %+v", a, first)
		}
		if a.Message != "still migrating" || !a.Until.Equal(time.Now().Add(time.Hour)) {
			t.Fatalf("%+v, want the new message and end", a)
		}

		// With another mode, another maintenance begins.
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "worse"})
		expectStatus(t, k, "default", "no-access pending manual:no-access")
		if a := k.Current().Apps()[0].Activations[0]; a.ID == first.ID || !a.Since.Equal(time.Now()) || !a.Until.IsZero() {
			t.Fatalf("%+v, want a new activation without an end", a)
		}

		if v := k.Current().Version(); v.Revision != 3 {
			t.Fatalf("revision %d, want one for each change", v.Revision)
		}
		if got, want := auditLog(t, k), "alice on default; alice on default; alice on default"; got != want {
			t.Fatalf("audit: %s\nwant:  %s", got, want)
		}
	})
}

func TestChangeOfNothingLeavesNoTrace(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		again := func(change func()) {
			t.Helper()
			change()
			state, log := k.Current(), auditLog(t, k)
			change()
			if k.Current() != state || auditLog(t, k) != log {
				t.Fatal("the same change again made a revision or an audit entry")
			}
		}

		again(func() { on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "worse"}) })
		again(func() { off(t, k, "default") })
		again(func() { put(t, k, shopSpec()) })
	})
}

func TestOnRefusesBadActivations(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		now := time.Now()
		put(t, k, shopSpec(withWindow("w", now, now.Add(time.Hour))))

		for _, c := range []struct {
			want  ManualActivation
			field string
		}{
			{ManualActivation{Mode: "off"}, "mode"},
			{ManualActivation{Mode: "closed"}, "mode"},
			{ManualActivation{Mode: maintenance.NoAccess, Until: now}, "until"},
			{ManualActivation{Mode: maintenance.NoAccess, Until: now.Add(-time.Hour)}, "until"},
			{ManualActivation{Mode: maintenance.NoAccess, For: -time.Hour}, "duration"},
			{ManualActivation{Mode: maintenance.NoAccess, For: time.Hour, Until: now.Add(time.Hour)}, "duration"},
			{ManualActivation{Mode: maintenance.NoAccess, Message: strings.Repeat("x", maintenance.MaxMessageBytes+1)}, "message"},
			{ManualActivation{Mode: maintenance.NoAccess, Message: "a\x00b"}, "message"},
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

func TestOffEndsTheRunningOccurrence(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		start := time.Now().Add(time.Minute).In(time.FixedZone("CET", 3600))
		spec := shopSpec(withWindow("w", start, start.Add(time.Hour)))
		tomorrow := maintenance.Occurrence{Start: start.Add(24 * time.Hour), End: start.Add(25 * time.Hour)}
		spec.Windows[0].Occurrences = append(spec.Windows[0].Occurrences, tomorrow)
		put(t, k, spec)
		advance(10 * time.Minute)
		on(t, k, "shop", ManualActivation{Mode: maintenance.ReadOnly})
		expectStatus(t, k, "shop", "no-access pending manual:read-only,window:no-access")

		off(t, k, "shop")
		expectStatus(t, k, "shop", "off scheduled")
		// A proxy opens windows by its own clock, so the document must not have the occurrence.
		w := k.Current().Specs()[1].Windows[0]
		if len(w.Occurrences) != 1 || !w.Occurrences[0].Start.Equal(tomorrow.Start) {
			t.Fatalf("occurrences %+v, want only %+v", w.Occurrences, tomorrow)
		}

		// It stays ended if an operator puts the same spec again.
		before := k.Current()
		put(t, k, spec)
		if k.Current() != before {
			t.Fatal("putting the same spec again changed something")
		}

		// Later occurrences still come, and the last one can be ended as well.
		advance(24 * time.Hour)
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		off(t, k, "shop")
		on(t, k, "shop", ManualActivation{Mode: maintenance.ReadOnly})
		expectStatus(t, k, "shop", "read-only pending manual:read-only")
	})
}

func TestOffIsRefusedForAnotherSource(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
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
