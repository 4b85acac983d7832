package keeper

// This file tests what the status of an app says about the proxies: whether all of them enforce the
// app's last change, and if not, why. The proxies are fakes (proxies_test.go): a fakeProxy acks
// once a heartbeat, which is a second, and reports the version that it last adopted. Adopting alone
// tells the keeper nothing until the next ack.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// allKnown is longer than a new controller waits for proxies to report, and than a proxy counts as
// new.
const allKnown = 5 * time.Second

// mayHaveStopped is the end of the reason for a lost proxy.
const mayHaveStopped = "it may have stopped, or it may be unreachable and still serve without this state; if it has stopped, forget it"

// expectEnforcement compares what the status of an app says about proxies with one line, such as
//
//	pending enforced=false 1/2 live=2; a enforces revision 0, not yet 1
//
// It has the phase, whether the last change of the app is enforced, how many of the known proxies
// enforce it, and how many are live. Then come the reasons, each with its proxy, if it has one.
func expectEnforcement(t *testing.T, k *Keeper, app, want string) {
	t.Helper()
	st, err := k.Status(app)
	if err != nil {
		t.Fatal(err)
	}

	got := []string{fmt.Sprintf("%s enforced=%t %d/%d live=%d", st.Phase, st.Enforced, st.Proxies.Enforcing, st.Proxies.Known, st.Proxies.Live)}
	for _, w := range st.Waiting {
		got = append(got, strings.TrimSpace(w.Proxy+" "+w.Reason))
	}
	if got := strings.Join(got, "; "); got != want {
		t.Fatalf("%s\nwant %s", got, want)
	}
}

func TestNothingIsActiveWithoutAProxy(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		expectEnforcement(t, k, "default", "pending enforced=false 0/0 live=0; no proxy has reported to this controller; the controller has just started and waits 3s for proxies to report")

		advance(time.Minute)
		expectEnforcement(t, k, "default", "pending enforced=false 0/0 live=0; no proxy has reported to this controller")
	})
}

func TestOnIsActiveOnceEveryVMEnforcesIt(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		a, b := startProxy(t, k, "a", "main", "1"), startProxy(t, k, "b", "main")
		advance(allKnown)

		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		expectEnforcement(t, k, "default", "pending enforced=false 0/2 live=2; a enforces revision 0, not yet 1; b enforces revision 0, not yet 1")

		b.adopt()
		b.ack("main")
		a.adopt()
		a.ack("1") // but not main yet
		expectEnforcement(t, k, "default", "pending enforced=false 1/2 live=2; a enforces revision 0, not yet 1")

		a.ack("main")
		expectEnforcement(t, k, "default", "active enforced=true 2/2 live=2")
	})
}

func TestOffIsEnforcedOnceEveryProxyEnforcesIt(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		p := startProxy(t, k, "a", "1")
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		p.adopt()
		advance(allKnown)

		mustTurnOff(t, k, "default")
		expectEnforcement(t, k, "default", "off enforced=false 0/1 live=1; a enforces revision 1, not yet 2")

		p.adopt()
		advance(heartbeat)
		expectEnforcement(t, k, "default", "off enforced=true 1/1 live=1")
	})
}

func TestOtherChangesKeepAnAppActive(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		p := startProxy(t, k, "a", "main")
		advance(allKnown)

		// A change of another app makes revision 2, and does not matter.
		mustPut(t, k, shopSpec())
		expectEnforcement(t, k, "default", "active enforced=true 1/1 live=1")

		// A change that leaves the mode as it is must be enforced, but the app stays active.
		if _, err := k.Allow(t.Context(), alice, Always, "default", []string{"192.0.2.1"}); err != nil {
			t.Fatal(err)
		}
		expectEnforcement(t, k, "default", "active enforced=false 0/1 live=1; a enforces revision 1, not yet 3")

		p.adopt()
		advance(heartbeat)
		expectEnforcement(t, k, "default", "active enforced=true 1/1 live=1")
	})
}

func TestCrashedVMsDoNotCount(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		p := startProxy(t, k, "a", "main", "1")
		advance(allKnown)
		p.edit(func() { p.crashed["1"] = true })
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		p.adopt()

		// VM 1 may still serve until it has been silent for silentAfter, which is 3 s.
		advance(silentAfter - time.Second)
		expectEnforcement(t, k, "default", "pending enforced=false 0/1 live=1; a enforces revision 0, not yet 1")
		advance(2 * time.Second)
		expectEnforcement(t, k, "default", "active enforced=true 1/1 live=1")
		if vms := k.Proxies()[0].VMs; vms[0].ID != "1" || vms[0].State != "crashed" || vms[1].State != "live" {
			t.Fatalf("%+v, want VM 1 crashed and main live", vms)
		}
	})
}

// A skew of up to maxSkew, which is a second, does not matter.
func TestClockThatIsOffKeepsAnAppPending(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		p := startProxy(t, k, "a", "main")
		advance(allKnown)

		for _, c := range []struct {
			skew time.Duration
			want string
		}{
			{90 * time.Second, "pending enforced=true 1/1 live=1; a has a clock that is 1m30s fast"},
			{-1100 * time.Millisecond, "pending enforced=true 1/1 live=1; a has a clock that is 1.1s slow"},
			{900 * time.Millisecond, "active enforced=true 1/1 live=1"},
		} {
			p.edit(func() { p.skew = c.skew })
			advance(heartbeat)
			expectEnforcement(t, k, "default", c.want)
		}
	})
}

func TestProxyOfAnotherControllerEnforcesNothing(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		startProxy(t, k, "a", "main")
		b := startProxy(t, k, "b", "main")
		b.edit(func() { b.version.Revision = 99 }) // the newest revision of this controller is 1

		advance(allKnown)
		expectEnforcement(t, k, "default", "pending enforced=false 1/2 live=2; b follows a state that this controller does not have (epoch 946684800000, revision 99)")
	})
}

func TestLostProxyIsWaitedForUntilItIsForgotten(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		a, b := startProxy(t, k, "a", "main"), startProxy(t, k, "b", "main")
		advance(allKnown)

		// A lost proxy still enforces what it enforced before it was lost.
		b.stopAcks()
		advance(4 * time.Second)
		expectEnforcement(t, k, "default", "active enforced=true 2/2 live=1")

		// It does not enforce what changes afterwards, however long it is lost.
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		a.adopt()
		advance(time.Hour)
		expectEnforcement(t, k, "default", "pending enforced=false 1/2 live=1; b has not reported for 1h0m4s: "+mayHaveStopped)

		if err := k.Forget(t.Context(), alice, "nobody"); !errors.Is(err, ErrNotFound) {
			t.Fatalf("%v, want ErrNotFound for an unknown proxy", err)
		}
		if err := k.Forget(t.Context(), alice, "b"); err != nil {
			t.Fatal(err)
		}
		expectEnforcement(t, k, "default", "active enforced=true 1/1 live=1")
	})
}

// The first ack of a proxy may come from its main thread, while its workers still have an older
// state. So this proxy is not a fakeProxy, which would not count as new.
func TestNewProxyIsWaitedForUntilAllItsVMsMayHaveReported(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		advance(allKnown)
		firstAck := maintenance.Ack{Version: k.Current().Version(), Proxy: "a", VM: "1", Time: time.Now().UnixMilli()}
		if err := k.Ack(firstAck); err != nil {
			t.Fatal(err)
		}

		expectEnforcement(t, k, "default", "pending enforced=false 0/1 live=1; a has just started, and some of its workers may not have reported yet")
		advance(newFor)
		expectEnforcement(t, k, "default", "active enforced=true 1/1 live=1")
	})
}

func isEnforced(s AppStatus) bool { return s.Enforced }

func TestAwaitReturnsOnceTheStatusIsAsWanted(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		p := startProxy(t, k, "a", "1")
		advance(allKnown)
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})

		const ackAfter = 100 * time.Millisecond
		began := time.Now()
		go func() {
			time.Sleep(ackAfter)
			p.adopt()
			p.ack("1")
		}()

		st, err := k.Await(t.Context(), "default", isEnforced)
		// Await checks at most once in 10 ms, hence the margin.
		if took := time.Since(began); err != nil || !st.Enforced || took > ackAfter+20*time.Millisecond {
			t.Fatalf("enforced=%t, %v after %s; want it enforced after %s", st.Enforced, err, took, ackAfter)
		}
	})
}

func TestAwaitReturnsTheLastStatusOnceTheTimeIsOver(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		startProxy(t, k, "a", "1") // does not adopt what follows
		advance(allKnown)
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})

		const timeout = 500 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		began := time.Now()

		st, err := k.Await(ctx, "default", isEnforced)
		if took := time.Since(began); err != nil || st.Enforced || took < timeout {
			t.Fatalf("enforced=%t, %v after %s; want the last status after %s", st.Enforced, err, took, timeout)
		}
	})
}

func TestAwaitReturnsErrNotFoundForAnUnknownApp(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		if _, err := k.Await(t.Context(), "nope", isEnforced); !errors.Is(err, ErrNotFound) {
			t.Fatalf("%v, want ErrNotFound", err)
		}
	})
}
