package keeper

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestWindowOpensAndCloses(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		start := time.Now().Add(time.Hour)
		end := start.Add(30 * time.Minute)
		put(t, k, shopSpec(withWindow("sunday", start, end)))
		expectStatus(t, k, "shop", "off scheduled")

		advance(time.Hour)
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		shopApp, _ := k.Current().App("shop")
		a := shopApp.Activations[0]
		if a.ID != "sunday" || a.Message != "planned" || !a.Since.Equal(start) || !a.Until.Equal(end) {
			t.Fatalf("%+v, want the window's", a)
		}

		// Putting the app meanwhile keeps the activation, and may move its end.
		put(t, k, shopSpec(withWindow("sunday", start, start.Add(20*time.Minute))))
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		advance(20 * time.Minute)
		expectStatus(t, k, "shop", "off off")

		want := "schedule window.end shop; schedule window.change shop; alice app.put shop; schedule window.start shop; alice app.put shop"
		if got := auditLog(t, k); got != want {
			t.Fatalf("audit: %s\nwant:  %s", got, want)
		}
	})
}

func TestManualActivationEndsAtItsEnd(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, For: time.Hour})
		advance(time.Hour - time.Second)
		expectStatus(t, k, "default", "no-access pending manual:no-access")

		advance(time.Second)
		expectStatus(t, k, "default", "off off")
		if v := k.Current().Version(); v.Revision != 2 {
			t.Fatalf("revision %d, want the end published as revision 2", v.Revision)
		}
		if got, want := auditLog(t, k), "schedule manual.end default; alice on default"; got != want {
			t.Fatalf("audit: %s\nwant:  %s", got, want)
		}
	})
}

// A controller that starts makes the changes that were planned for the time when none ran.
func TestOpenCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		now := time.Now()
		put(t, k, shopSpec(
			withWindow("over", now.Add(time.Hour), now.Add(2*time.Hour)),
			withWindow("running", now.Add(3*time.Hour), now.Add(9*time.Hour)),
		))
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, For: 90 * time.Minute})
		stop()
		before := k.Current().Version()

		time.Sleep(4 * time.Hour)
		k, stop = open(t, dir)
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		expectStatus(t, k, "default", "off off")
		caughtUp := k.Current().Version()
		if want := (maintenance.Version{Epoch: before.Epoch, Revision: before.Revision + 1}); caughtUp != want {
			t.Fatalf("version %+v after the start, want %+v", caughtUp, want)
		}
		stop()

		// Starting alone makes no revision.
		k, stop = open(t, dir)
		defer stop()
		if v := k.Current().Version(); v != caughtUp {
			t.Fatalf("version %+v after a restart, want %+v", v, caughtUp)
		}
		advance(5 * time.Hour)
		expectStatus(t, k, "shop", "off off")
	})
}
