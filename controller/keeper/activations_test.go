package keeper

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestOnOff(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		expectStatus(t, k, "default", "off off")
		first := k.Current()

		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly, Message: "migration"})
		expectStatus(t, k, "default", "read-only pending manual:read-only")
		select {
		case <-first.Newer():
		default:
			t.Fatal("whoever waits for a newer state was not told")
		}
		since := k.Current().Apps()[0].Activations[0].Since
		after(time.Minute)

		// Other words: the same maintenance goes on.
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly, Message: "still migrating", For: time.Hour})
		a := k.Current().Apps()[0].Activations[0]
		if a.Message != "still migrating" || !a.Since.Equal(since) || !a.Until.Equal(time.Now().Add(time.Hour)) {
			t.Fatalf("%+v", a)
		}
		// Another mode: another maintenance.
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "worse"})
		expectStatus(t, k, "default", "no-access pending manual:no-access")
		if a := k.Current().Apps()[0].Activations[0]; !a.Since.Equal(time.Now()) || !a.Until.IsZero() {
			t.Fatalf("%+v", a)
		}
		st, _ := k.Status("default")
		if c := st.Activations[0]; c.Actor != "alice" || c.Remote != "192.0.2.7" {
			t.Fatalf("begun by %+v", c)
		}

		// What changes nothing leaves no trace.
		was, lines := k.Current(), auditLog(t, k)
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, Message: "worse"})
		if k.Current() != was || auditLog(t, k) != lines {
			t.Fatal("the same again made a revision or an audit record")
		}

		off(t, k, "default")
		expectStatus(t, k, "default", "off off")
		was, lines = k.Current(), auditLog(t, k)
		off(t, k, "default")
		if k.Current() != was || auditLog(t, k) != lines {
			t.Fatal("off again made a revision or an audit record")
		}
		if want := "alice off default; alice on default; alice on default; alice on default"; lines != want {
			t.Fatalf("audit: %s", lines)
		}
		if v := k.Current().Version(); v.Revision != 4 || v.Epoch != uint64(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()) {
			t.Fatalf("version %+v", v)
		}
	})
}

func TestOnRefuses(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		now := time.Now()
		put(t, k, shop(window("w", now, now.Add(time.Hour))))
		for _, c := range []struct {
			what  ManualActivation
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
			_, err := k.On(t.Context(), alice, Always, "shop", c.what)
			var fe *maintenance.FieldError
			if !errors.As(err, &fe) || fe.Field != c.field {
				t.Errorf("%+v: %v, want an error of field %s", c.what, err, c.field)
			}
		}
		if _, err := k.On(t.Context(), alice, Always, "nope", ManualActivation{Mode: maintenance.NoAccess}); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if v := k.Current().Version(); v.Revision != 1 {
			t.Errorf("what was refused made revision %d", v.Revision)
		}
	})
}

func TestOffEndsTheRunningOccurrence(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		start := time.Now().Add(time.Minute).In(time.FixedZone("CET", 3600))
		spec := shop(window("w", start, start.Add(time.Hour)))
		spec.Windows[0].Occurrences = append(spec.Windows[0].Occurrences, maintenance.Occurrence{Start: start.Add(24 * time.Hour), End: start.Add(25 * time.Hour)})
		put(t, k, spec)
		after(10 * time.Minute)
		on(t, k, "shop", ManualActivation{Mode: maintenance.ReadOnly})
		expectStatus(t, k, "shop", "no-access pending manual:read-only,window:no-access")

		off(t, k, "shop")
		expectStatus(t, k, "shop", "off scheduled")
		// A proxy on its own clock must not open it either, whatever that clock says.
		if w := k.Current().Specs()[1].Windows[0]; len(w.Occurrences) != 1 || !w.Occurrences[0].Start.Equal(start.Add(24*time.Hour)) {
			t.Fatalf("%+v", w)
		}
		// Somebody applies the same list again: it stays ended.
		was := k.Current()
		put(t, k, spec)
		if k.Current() != was {
			t.Fatal("the same list again changed something")
		}
		after(24 * time.Hour)
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		// The last one may be ended too, and what follows goes on.
		off(t, k, "shop")
		on(t, k, "shop", ManualActivation{Mode: maintenance.ReadOnly})
		expectStatus(t, k, "shop", "read-only pending manual:read-only")
	})
}

func TestOffIsRefusedWhileHeld(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		_, _, err := k.change(t.Context(), Actor{Name: "file"}, "file.start", func(d *draft) error {
			a, _ := d.app("default")
			a.Activations = append(slices.Clip(a.Activations), maintenance.Activation{ID: "maintenance", Source: maintenance.SourceFile, Mode: maintenance.NoAccess, Since: d.now.UTC()})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		was := k.Current()
		_, err = k.Off(t.Context(), alice, Always, "default")
		var held *OtherSourceError
		if !errors.Is(err, ErrOtherSource) || !errors.As(err, &held) || held.Activations[0].Source != maintenance.SourceFile || !strings.Contains(err.Error(), "file maintenance") {
			t.Fatalf("%v, want one that names the file", err)
		}
		if k.Current() != was {
			t.Fatal("something was ended all the same")
		}
	})
}
