package keeper

// This file tests what happens at a planned time: windows open and close, and manual activations
// with an end expire. An app with a window that has not begun is off, in the phase scheduled.

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
		mustPut(t, k, shopSpec(withWindow("sunday", start, end)))
		expectStatus(t, k, "shop", "off scheduled")

		advance(time.Hour)
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		app, _ := k.Current().App("shop")
		a := app.Activations[0]
		if a.ID != "sunday" || a.Message != "planned" || !a.Since.Equal(start) || !a.Until.Equal(end) {
			t.Fatalf("%+v, want the ID, message and times of the window", a)
		}

		advance(30 * time.Minute)
		expectStatus(t, k, "shop", "off off")
		expectAuditLog(t, k, "schedule window.end shop; schedule window.start shop; alice app.put shop")
	})
}

func TestOpenWindowMayGetAnotherEnd(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		start := time.Now()
		mustPut(t, k, shopSpec(withWindow("sunday", start, start.Add(30*time.Minute))))
		expectStatus(t, k, "shop", "no-access pending window:no-access")

		mustPut(t, k, shopSpec(withWindow("sunday", start, start.Add(20*time.Minute))))
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		advance(20 * time.Minute)
		expectStatus(t, k, "shop", "off off")

		// Each put makes two entries: what alice changed, and what the schedule made of it.
		expectAuditLog(t, k, "schedule window.end shop; schedule window.change shop; alice app.put shop; schedule window.start shop; alice app.put shop")
	})
}

func TestManualActivationEndsAtItsEnd(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, For: time.Hour})
		advance(time.Hour - time.Second)
		expectStatus(t, k, "default", "no-access pending manual:no-access")

		advance(time.Second)
		expectStatus(t, k, "default", "off off")
		if v := k.Current().Version(); v.Revision != 2 {
			t.Fatalf("revision %d, want the end published as revision 2", v.Revision)
		}
		expectAuditLog(t, k, "schedule manual.end default; alice on default")
	})
}

// A controller that starts makes the changes that came due while no controller ran: here one window
// was open and closed again, another one opened, and an activation ended.
func TestOpenCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		begin := time.Now()
		mustPut(t, k, shopSpec(
			withWindow("over", begin.Add(1*time.Hour), begin.Add(2*time.Hour)),
			withWindow("running", begin.Add(3*time.Hour), begin.Add(9*time.Hour)),
		))
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, For: 90 * time.Minute})
		stop()
		before := k.Current().Version()

		time.Sleep(4 * time.Hour) // no controller runs
		k, stop = open(t, dir)
		defer stop()
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		expectStatus(t, k, "default", "off off")
		want := maintenance.Version{Epoch: before.Epoch, Revision: before.Revision + 1}
		if v := k.Current().Version(); v != want {
			t.Fatalf("version %+v, want all of it in one revision: %+v", v, want)
		}

		advance(5 * time.Hour) // to the end of the window that is running
		expectStatus(t, k, "shop", "off off")
	})
}

func TestRestartAloneMakesNoRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		now := time.Now()
		mustPut(t, k, shopSpec(withWindow("running", now, now.Add(time.Hour))))
		stop()
		before := k.Current().Version()

		k, stop = open(t, dir)
		defer stop()
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		if v := k.Current().Version(); v != before {
			t.Fatalf("version %+v after a restart, want %+v", v, before)
		}
	})
}
