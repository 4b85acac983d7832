package keeper

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// fakeProxy is a proxy whose VMs ack once a heartbeat, as those of the filter do.
type fakeProxy struct {
	id       string
	stopAcks func() // as if the process had ended or the network were cut

	mu      sync.Mutex
	k       *Keeper
	version maintenance.Version
	skew    time.Duration
	crashed map[string]bool // VMs that ack no more
}

// startProxy starts a proxy that has adopted the current state, and that does not count as new.
func startProxy(t *testing.T, k *Keeper, id string, vms ...string) *fakeProxy {
	stop := make(chan struct{})
	p := &fakeProxy{
		id: id, stopAcks: sync.OnceFunc(func() { close(stop) }),
		k: k, version: k.Current().Version(), crashed: map[string]bool{},
	}

	t.Cleanup(p.stopAcks)
	go func() {
		heartbeat := time.NewTicker(maintenance.HeartbeatSeconds * time.Second)
		defer heartbeat.Stop()
		for {
			for _, vm := range vms {
				p.ack(vm)
			}
			select {
			case <-stop:
				return
			case <-heartbeat.C:
			}
		}
	}()
	synctest.Wait()

	k.proxies.mu.Lock()
	defer k.proxies.mu.Unlock()
	k.proxies.byID[id].firstAck = time.Time{}
	return p
}

func (p *fakeProxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// adopt makes the next acks report the newest state.
func (p *fakeProxy) adopt() { p.set(func() { p.version = p.k.Current().Version() }) }

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
		advance(time.Second)
		p.stopAcks()
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		stop()
		advance(10 * time.Second)

		k, stop = open(t, dir)
		defer stop()
		advance(5 * time.Second)
		expectEnforcement(t, k, "default", "pending enforced=false 0/1 live=0; a has not reported for 15s: "+mayHaveStopped)

		startProxy(t, k, "a", "2")
		advance(5 * time.Second)
		expectEnforcement(t, k, "default", "active enforced=true 1/1 live=1")
	})
}

// The kernel closes the poll of a process that ended; a cut network closes nothing. So a proxy that
// closed its poll and then fell silent is not waited for, even after a restart of the controller.
// One that goes on has only changed its connection.
func TestProxyThatClosesItsPollAndFallsSilentHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		ended, cut, alive := startProxy(t, k, "ended", "1"), startProxy(t, k, "cut", "1"), startProxy(t, k, "alive", "1")
		advance(5 * time.Second)

		k.PollClosed("alive")
		k.PollClosed("ended")
		advance(time.Second) // an ack that was on its way still arrives
		ended.stopAcks()
		cut.stopAcks()
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		alive.adopt()
		advance(4 * time.Second)
		stop()

		k, stop = open(t, dir)
		defer stop()
		alive.set(func() { alive.k = k })

		advance(5 * time.Second)
		st, err := k.Status("default")
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Waiting) != 1 || st.Waiting[0].Proxy != "cut" || st.Proxies.Known != 2 {
			t.Errorf("%d known, waiting for %v; want cut waited for, and ended forgotten", st.Proxies.Known, st.Waiting)
		}
	})
}

// The number of writes does not depend on the number of acks.
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
		if rec.Revision < 5 || rec.Revision > 15 {
			t.Errorf("%d writes in 10 minutes", rec.Revision)
		}
	})
}

func TestAckRefusesBadFields(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		long := strings.Repeat("x", 2000)
		for field, ack := range map[string]maintenance.Ack{
			"proxy": {VM: "1"},
			"vm":    {Proxy: "a", VM: long},
			"node":  {Proxy: "a", VM: "1", Node: long},
		} {
			expectFieldError(t, k.Ack(ack), field)
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
