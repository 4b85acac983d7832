package keeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// waiting summarises what an app is waiting for.
func enforcement(t *testing.T, k *Keeper, app string) string {
	t.Helper()
	st, err := k.Status(app)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{fmt.Sprintf("%s enforced=%t %d/%d live=%d", st.Phase, st.Enforced, st.Proxies.Enforcing, st.Proxies.Known, st.Proxies.Live)}
	for _, w := range st.Waiting {
		lines = append(lines, strings.TrimSpace(w.Proxy+" "+w.Reason))
	}
	return strings.Join(lines, "; ")
}

func expectEnforcement(t *testing.T, k *Keeper, app, want string) {
	t.Helper()
	if got := enforcement(t, k, app); got != want {
		t.Fatalf("%s\nwant %s", got, want)
	}
}

func TestPhases(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		expectEnforcement(t, k, "default", "pending enforced=false 0/0 live=0; no proxy has reported to this controller; the controller has just started and waits 3s for proxies to report")
		after(time.Minute)
		expectEnforcement(t, k, "default", "pending enforced=false 0/0 live=0; no proxy has reported to this controller")

		a, b := startProxy(k, "a", "main", "1"), startProxy(k, "b", "main")
		expectEnforcement(t, k, "default", "active enforced=true 2/2 live=2")

		// A new revision of this app: each VM counts.
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		expectEnforcement(t, k, "default", "pending enforced=false 0/2 live=2; a enforces revision 1, not yet 2; b enforces revision 1, not yet 2")
		b.adopt()
		b.ack("main")
		a.adopt()
		a.ack("1")
		expectEnforcement(t, k, "default", "pending enforced=false 1/2 live=2; a enforces revision 1, not yet 2")
		a.ack("main")
		expectEnforcement(t, k, "default", "active enforced=true 2/2 live=2")

		// Another app's revision is none of its business; one about who may pass keeps the
		// gate shut all the same.
		put(t, k, shop())
		expectEnforcement(t, k, "default", "active enforced=true 2/2 live=2")
		if _, err := k.Allow(t.Context(), alice, Always, "default", []string{"192.0.2.1"}); err != nil {
			t.Fatal(err)
		}
		expectEnforcement(t, k, "default", "active enforced=false 0/2 live=2; a enforces revision 2, not yet 4; b enforces revision 2, not yet 4")
		a.adopt()
		b.adopt()
		after(time.Second)
		expectEnforcement(t, k, "default", "active enforced=true 2/2 live=2")

		// A VM that crashes is listed, and waited for no more after 3 s of silence.
		a.set(func() { a.silent["1"] = true })
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		a.adopt()
		b.adopt()
		after(2 * time.Second)
		expectEnforcement(t, k, "default", "pending enforced=false 1/2 live=2; a enforces revision 4, not yet 5")
		after(2 * time.Second)
		expectEnforcement(t, k, "default", "active enforced=true 2/2 live=2")
		if vms := k.Proxies()[0].VMs; vms[0].ID != "1" || vms[0].State != "crashed" || vms[1].State != "live" {
			t.Fatalf("%+v", vms)
		}

		// A proxy whose clock is off is named, and keeps the phase from active.
		b.set(func() { b.skew = 90 * time.Second })
		after(time.Second)
		expectEnforcement(t, k, "default", "pending enforced=true 2/2 live=2; b has a clock that is 1m30s fast")
		b.set(func() { b.skew = -1100 * time.Millisecond })
		after(time.Second)
		expectEnforcement(t, k, "default", "pending enforced=true 2/2 live=2; b has a clock that is 1.1s slow")
		b.set(func() { b.skew = 900 * time.Millisecond })
		after(time.Second)
		expectEnforcement(t, k, "default", "active enforced=true 2/2 live=2")

		// One that follows another controller enforces nothing of ours.
		b.set(func() { b.version.Revision = 99 })
		after(time.Second)
		expectEnforcement(t, k, "default", "pending enforced=false 1/2 live=2; b follows a state that this controller does not have (epoch 946684800000, revision 99)")
		b.set(func() { b.version.Revision = 5 })
		after(time.Second)

		// A lost proxy that enforces the gate already does not matter; for a new one it does,
		// until somebody forgets it.
		close(b.stop)
		after(4 * time.Second)
		expectEnforcement(t, k, "default", "active enforced=true 2/2 live=1")
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		a.adopt()
		after(time.Hour)
		expectEnforcement(t, k, "default", "pending enforced=false 1/2 live=1; b has not reported for 1h0m4s: it may have stopped, or it may be unreachable and still serve without this state; if it has stopped, forget it")
		if err := k.Forget(t.Context(), alice, "nobody"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		if err := k.Forget(t.Context(), alice, "b"); err != nil {
			t.Fatal(err)
		}
		expectEnforcement(t, k, "default", "active enforced=true 1/1 live=1")
		close(a.stop)
	})
}

// Off is waited for like on.
func TestOffIsEnforced(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		p := startProxy(k, "a", "1")
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		p.adopt()
		after(5 * time.Second)
		off(t, k, "default")
		expectEnforcement(t, k, "default", "off enforced=false 0/1 live=1; a enforces revision 1, not yet 2")
		p.adopt()
		after(time.Second)
		expectEnforcement(t, k, "default", "off enforced=true 1/1 live=1")
		close(p.stop)
	})
}

// The first word of a new proxy may be its main thread's, while its workers have an
// older state for another tick.
func TestANewProxyIsAwaited(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		after(2 * silentAfter)
		ack := maintenance.Ack{Version: k.Current().Version(), Proxy: "a", VM: "1", Time: time.Now().UnixMilli()}
		if err := k.Ack(ack); err != nil {
			t.Fatal(err)
		}
		expectEnforcement(t, k, "default", "pending enforced=false 0/1 live=1; a has just started, and some of its workers may not have reported yet")
		after(newFor)
		expectEnforcement(t, k, "default", "active enforced=true 1/1 live=1")
	})
}

func TestAwait(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		p := startProxy(k, "a", "1")
		after(5 * time.Second)
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		enforced := func(s AppStatus) bool { return s.Enforced }

		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		began := time.Now()
		if st, err := k.Await(ctx, "default", enforced); err != nil || st.Enforced || time.Since(began) < 500*time.Millisecond {
			t.Fatalf("%+v, %v after %s", st, err, time.Since(began))
		}

		began = time.Now()
		go func() {
			time.Sleep(100 * time.Millisecond)
			p.adopt()
			p.ack("1")
		}()
		if st, err := k.Await(t.Context(), "default", enforced); err != nil || !st.Enforced || time.Since(began) > 120*time.Millisecond {
			t.Fatalf("%+v, %v after %s", st, err, time.Since(began))
		}
		if _, err := k.Await(t.Context(), "nope", enforced); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		close(p.stop)
	})
}
