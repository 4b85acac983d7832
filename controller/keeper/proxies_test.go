package keeper

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// fakeProxy is a proxy whose VMs ack once a second, as the filter does.
type fakeProxy struct {
	k  *Keeper
	id string

	mu      sync.Mutex
	version maintenance.Version
	skew    time.Duration
	silent  map[string]bool
	stop    chan struct{}
}

func startProxy(k *Keeper, id string, vms ...string) *fakeProxy {
	p := &fakeProxy{k: k, id: id, version: k.Current().Version(), silent: map[string]bool{}, stop: make(chan struct{})}
	go func() {
		beat := time.NewTicker(maintenance.HeartbeatSeconds * time.Second)
		defer beat.Stop()
		for {
			for _, vm := range vms {
				p.ack(vm)
			}
			select {
			case <-p.stop:
				return
			case <-beat.C:
			}
		}
	}()
	synctest.Wait()
	// As one that is known for long; TestANewProxyIsAwaited is about the others.
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

// adopt makes the next acks speak of the newest state.
func (p *fakeProxy) adopt() { p.set(func() { p.version = p.k.Current().Version() }) }

func (p *fakeProxy) ack(vm string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent[vm] {
		return
	}
	if err := p.k.Ack(maintenance.Ack{Version: p.version, Proxy: p.id, VM: vm, Node: "node-" + p.id, Time: time.Now().Add(p.skew).UnixMilli(), Requests: 1}); err != nil {
		panic(err)
	}
}

func TestLostProxiesAreForgottenInPeace(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		close(startProxy(k, "a", "1").stop)
		after(forgetAfter)
		expectEnforcement(t, k, "default", "off enforced=true 1/1 live=0")
		after(2 * saveEvery)
		expectEnforcement(t, k, "default", "off enforced=false 0/0 live=0; no proxy has reported to this controller")
	})
}

func TestProxiesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		p := startProxy(k, "a", "1")
		after(time.Second)
		close(p.stop)
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		stop()
		after(10 * time.Second)

		k, stop = open(t, dir)
		defer stop()
		after(5 * time.Second)
		expectEnforcement(t, k, "default", "pending enforced=false 0/1 live=0; a has not reported for 15s: it may have stopped, or it may be unreachable and still serve without this state; if it has stopped, forget it")
		p = startProxy(k, "a", "2")
		after(5 * time.Second)
		expectEnforcement(t, k, "default", "active enforced=true 1/1 live=1")
		close(p.stop)
	})
}

// The kernel closes a dead process's poll; a network that is cut closes nothing. So who
// hung up and then fell silent is gone, and nobody waits for it, not even the next
// controller. Who goes on speaking has only changed its connection.
func TestWhoHangsUpAndFallsSilentIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		dead, cut, alive := startProxy(k, "dead", "1"), startProxy(k, "cut", "1"), startProxy(k, "alive", "1")
		after(5 * time.Second)
		k.PollClosed("alive")
		k.PollClosed("dead")
		after(time.Second) // an ack that was under way still arrives
		close(dead.stop)
		close(cut.stop)
		on(t, k, "default", ManualActivation{Mode: maintenance.NoAccess})
		alive.adopt()
		after(4 * time.Second)
		stop()
		k, stop = open(t, dir)
		defer stop()
		alive.set(func() { alive.k = k })
		after(5 * time.Second)
		st, err := k.Status("default")
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Waiting) != 1 || st.Waiting[0].Proxy != "cut" || st.Proxies.Known != 2 {
			t.Errorf("%d known, waiting for %v; want only cut awaited, and dead forgotten", st.Proxies.Known, st.Waiting)
		}
		close(alive.stop)
	})
}

// The list is one record, written now and then, whatever the number of acks.
func TestProxiesAreWrittenInBatches(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		var all []*fakeProxy
		for i := range 20 {
			all = append(all, startProxy(k, fmt.Sprint("p", i), "main", "1", "2"))
		}
		after(10 * time.Minute)
		rec, err := k.store.Get(t.Context(), recordProxies)
		if err != nil {
			t.Fatal(err)
		}
		if rec.Revision < 5 || rec.Revision > 15 {
			t.Errorf("%d writes in 10 minutes", rec.Revision)
		}
		for _, p := range all {
			close(p.stop)
		}
	})
}

func TestAckRefuses(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		long := strings.Repeat("x", 2000)
		for field, ack := range map[string]maintenance.Ack{
			"proxy": {VM: "1"},
			"vm":    {Proxy: "a", VM: long},
			"node":  {Proxy: "a", VM: "1", Node: long},
		} {
			var fe *maintenance.FieldError
			if err := k.Ack(ack); !errors.As(err, &fe) || fe.Field != field {
				t.Errorf("%v, want field %s", err, field)
			}
		}
		for i := range maxVMs + 1 {
			err := k.Ack(maintenance.Ack{Proxy: "a", VM: fmt.Sprint(i)})
			if (err != nil) != (i == maxVMs) {
				t.Fatalf("VM %d: %v", i, err)
			}
		}
	})
}
