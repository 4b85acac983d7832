package keeper

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestWindow(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		start := time.Now().Add(time.Hour)
		put(t, k, shop(window("sunday", start, start.Add(30*time.Minute))))
		expectStatus(t, k, "shop", "off scheduled")
		after(time.Hour)
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		a, _ := k.Current().App("shop")
		if c := a.Activations[0]; c.ID != "sunday" || c.Message != "planned" || !c.Since.Equal(start) || !c.Until.Equal(start.Add(30*time.Minute)) {
			t.Fatalf("%+v", c)
		}
		// An edit in the middle keeps it, a moved end moves it.
		put(t, k, shop(window("sunday", start, start.Add(20*time.Minute))))
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		after(20 * time.Minute)
		expectStatus(t, k, "shop", "off off")
		if got, want := auditLog(t, k), "schedule window.end shop; schedule window.change shop; alice app.put shop; schedule window.start shop; alice app.put shop"; got != want {
			t.Fatalf("audit: %s\nwant:  %s", got, want)
		}
	})
}

func TestManualEndsByItself(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, For: time.Hour})
		after(time.Hour - time.Second)
		expectStatus(t, k, "default", "no-access pending manual:no-access")
		after(time.Second)
		expectStatus(t, k, "default", "off off")
		if v := k.Current().Version(); v.Revision != 2 {
			t.Fatalf("revision %d: the end is to be published", v.Revision)
		}
		if got := auditLog(t, k); got != "schedule manual.end default; alice on default" {
			t.Fatal(got)
		}
	})
}

// What was planned for a time without a controller has happened when it is back.
func TestCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		now := time.Now()
		put(t, k, shop(window("over", now.Add(time.Hour), now.Add(2*time.Hour)), window("running", now.Add(3*time.Hour), now.Add(9*time.Hour))))
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess, For: 90 * time.Minute})
		stop()
		before := k.Current().Version()

		time.Sleep(4 * time.Hour)
		k, stop = open(t, dir)
		expectStatus(t, k, "shop", "no-access pending window:no-access")
		expectStatus(t, k, "default", "off off")
		if v := k.Current().Version(); v.Epoch != before.Epoch || v.Revision != before.Revision+1 {
			t.Fatalf("%+v, was %+v", v, before)
		}
		stop()
		version := k.Current().Version()
		k, stop = open(t, dir)
		defer stop()
		if v := k.Current().Version(); v != version {
			t.Fatalf("a restart alone made %+v of %+v", v, version)
		}
		after(5 * time.Hour)
		expectStatus(t, k, "shop", "off off")
	})
}
