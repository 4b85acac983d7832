package keeper

// This file has fake proxies, for all tests of the package, and tests how the keeper remembers
// proxies. A proxy is an Envoy process, and each of its VMs sends acks. A proxy without acks for
// silentAfter is lost. It may have ended, or it may be cut off from the controller and still serve.

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// heartbeat is the time between two acks of a VM.
const heartbeat = maintenance.HeartbeatSeconds * time.Second

// fakeProxy is a proxy whose VMs ack once a heartbeat, as those of the filter do.
type fakeProxy struct {
	id       string
	stopAcks func() // as if the process had ended or the network were cut

	mu      sync.Mutex          // guards the fields below
	k       *Keeper             // that gets the acks
	version maintenance.Version // that the acks report
	skew    time.Duration       // the proxy's clock minus the real one
	crashed map[string]bool     // VMs that ack no more
}

// startProxy starts a proxy with VMs of these IDs, and returns once all of them have acked. They
// report the state that is current now until adopt is called. The proxy does not count as new, so
// that a test need not wait.
func startProxy(t *testing.T, k *Keeper, id string, vms ...string) *fakeProxy {
	stop := make(chan struct{})
	p := &fakeProxy{
		id: id, stopAcks: sync.OnceFunc(func() { close(stop) }),
		k: k, version: k.Current().Version(), crashed: map[string]bool{},
	}

	t.Cleanup(p.stopAcks)
	go func() {
		ticker := time.NewTicker(heartbeat)
		defer ticker.Stop()
		for {
			for _, vm := range vms {
				p.ack(vm)
			}
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
		}
	}()
	synctest.Wait() // for the first acks

	k.proxies.mu.Lock()
	defer k.proxies.mu.Unlock()
	k.proxies.byID[id].firstAck = time.Time{} // as if it had been long ago
	return p
}

// edit calls f, which may change the fields of p.
func (p *fakeProxy) edit(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// adopt makes the next acks report the newest state.
func (p *fakeProxy) adopt() { p.edit(func() { p.version = p.k.Current().Version() }) }

// ack sends an ack of a VM now, unless the VM has crashed.
func (p *fakeProxy) ack(vm string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.crashed[vm] {
		return
	}

	err := p.k.Ack(maintenance.Ack{
		Version: p.version, Proxy: p.id, VM: vm, Node: "node-" + p.id,
		Time: time.Now().Add(p.skew).UnixMilli(), Requests: 1,
	})
	if err != nil {
		panic(err)
	}
}

func TestLostProxiesAreForgottenWhileNoAppIsOn(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		startProxy(t, k, "a", "1").stopAcks()
		advance(forgetAfter)
		expectEnforcement(t, k, "default", "off enforced=true 1/1 live=0")

		advance(2 * saveEvery)
		expectEnforcement(t, k, "default", "off enforced=false 0/0 live=0; no proxy has reported to this controller")
	})
}

func TestProxiesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		p := startProxy(t, k, "a", "1")
		advance(heartbeat)
		p.stopAcks()
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		stop()
		advance(10 * time.Second)

		// The controller that starts now has never had an ack of the proxy, and still waits for it.
		k, stop = open(t, dir)
		defer stop()
		advance(5 * time.Second)
		expectEnforcement(t, k, "default", "pending enforced=false 0/1 live=0; a has not reported for 15s: "+mayHaveStopped)

		// The proxy reports again, from another VM. It has adopted the current state.
		startProxy(t, k, "a", "2")
		advance(allKnown)
		expectEnforcement(t, k, "default", "active enforced=true 1/1 live=1")
	})
}

// A proxy waits for newer states in a long poll. When its process ends, the kernel closes the
// connection of the poll; a cut network closes nothing. So a proxy that closed its poll and then
// fell silent is not waited for, even after a restart of the controller. A proxy that closed its
// poll and goes on to ack has only changed its connection.
func TestProxyThatClosesItsPollAndFallsSilentHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		ended, cut, alive := startProxy(t, k, "ended", "1"), startProxy(t, k, "cut", "1"), startProxy(t, k, "alive", "1")
		advance(allKnown)

		k.PollClosed("alive")
		k.PollClosed("ended")
		advance(lateAck) // an ack that was on its way still arrives
		ended.stopAcks()
		cut.stopAcks()
		mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		alive.adopt()
		advance(silentAfter + time.Second)
		stop()

		k, stop = open(t, dir)
		defer stop()
		alive.edit(func() { alive.k = k })

		advance(allKnown)
		st, err := k.Status("default")
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Waiting) != 1 || st.Waiting[0].Proxy != "cut" || st.Proxies.Known != 2 {
			t.Errorf("%d known, waiting for %v; want cut waited for, and ended forgotten", st.Proxies.Known, st.Waiting)
		}
	})
}

// The number of writes does not depend on the number of acks, of which there are 36000 here. While
// nothing else changes, the list is saved once in saveIdleEvery, which is a minute.
func TestProxiesAreStoredInOneRecordNowAndThen(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		for i := range 20 {
			startProxy(t, k, fmt.Sprint("p", i), "main", "1", "2")
		}
		advance(10 * time.Minute)

		rec, err := k.store.Get(t.Context(), recordProxies)
		if err != nil {
			t.Fatal(err)
		}
		// The revision of a record is the number of its writes.
		if rec.Revision < 5 || rec.Revision > 15 {
			t.Errorf("%d writes in 10 minutes, want about 10", rec.Revision)
		}
	})
}

func TestAckRefusesBadFields(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		tooLong := strings.Repeat("x", 2000)
		for badField, ack := range map[string]maintenance.Ack{
			"proxy": {Proxy: "", VM: "1"},
			"vm":    {Proxy: "a", VM: tooLong},
			"node":  {Proxy: "a", VM: "1", Node: tooLong},
		} {
			expectFieldError(t, k.Ack(ack), badField)
		}
	})
}

func TestAckRefusesTooManyVMs(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		for i := range maxVMs {
			if err := k.Ack(maintenance.Ack{Proxy: "a", VM: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		expectFieldError(t, k.Ack(maintenance.Ack{Proxy: "a", VM: "one more"}), "vm")
	})
}
