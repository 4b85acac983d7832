package keeper

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

const (
	// silentAfter is the time without an ack after which a VM counts as crashed and a proxy as
	// lost.
	silentAfter = maintenance.SilentSeconds * time.Second
	// newFor is how long a proxy counts as new after its first ack. Every VM acks once a heartbeat,
	// so that after this time all of its VMs are known.
	newFor = (maintenance.HeartbeatSeconds*1000 + 500) * time.Millisecond
	// maxSkew is how far the clock of a proxy may be off before it keeps apps from being active.
	maxSkew = time.Second
	// forgetAfter is how long a lost proxy is kept while no app is on. While one is, lost proxies
	// are kept until an operator forgets them.
	forgetAfter = 15 * time.Minute
	// saveEvery is how often the list of proxies is saved if it has changed.
	saveEvery = 5 * time.Second
	// saveIdleEvery is how often it is saved if only the times of the last acks have changed.
	saveIdleEvery = time.Minute
	// maxProxies and maxVMs bound the memory that a client with the sync token can make the
	// controller use.
	maxProxies = 50_000
	maxVMs     = 512 // of one proxy
)

// registry holds what proxies have reported.
type registry struct {
	mu      sync.Mutex
	byID    map[string]*proxy
	changed chan struct{} // closed when a proxy comes or goes, or the version of a VM changes
	unsaved bool          // whether the stored list differs
	savedAt time.Time

	saving   sync.Mutex // held while the list is stored
	revision uint64     // of the stored list
}

// proxy is a running Envoy process.
type proxy struct {
	id, node   string
	firstAck   time.Time // zero if it was before this controller started
	lastAck    time.Time
	pollClosed time.Time     // when it last closed a poll before the answer
	skew       time.Duration // its clock minus the controller's
	vms        map[string]*vm
}

// vm is one of the WebAssembly VMs of a proxy: the main thread has one, and each worker.
type vm struct {
	version  maintenance.Version
	requests int
	lastAck  time.Time
}

// live reports whether a VM still acked when its proxy last did. A VM that fell silent while others
// of its proxy went on has crashed. The VM that replaces it adopts the state before its first
// request, so the crashed one does not count.
func (p *proxy) live(v *vm) bool { return p.lastAck.Sub(v.lastAck) <= silentAfter }

// lost reports whether no VM of the proxy has acked lately. Its process may have ended, or it may
// be unreachable and still serve.
func (p *proxy) lost(now time.Time) bool { return now.Sub(p.lastAck) > silentAfter }

// ended reports whether the process of a lost proxy has ended, because the kernel closed its poll
// and no ack followed. Acks that were on their way may still arrive within a second.
func (p *proxy) ended(now time.Time) bool {
	return p.lost(now) && !p.pollClosed.IsZero() && !p.lastAck.After(p.pollClosed.Add(time.Second))
}

// version returns the oldest version that one of the live VMs enforces.
func (p *proxy) version() (oldest maintenance.Version) {
	first := true
	for _, v := range p.vms {
		if p.live(v) && (first || v.version.Compare(oldest) < 0) {
			oldest, first = v.version, false
		}
	}
	return oldest
}

// Ack records which version a VM of a proxy enforces. Field paths in errors are relative to the
// ack.
func (k *Keeper) Ack(ack maintenance.Ack) error {
	if err := checkAck(ack); err != nil {
		return err
	}

	now := k.now()
	r := &k.proxies
	r.mu.Lock()
	defer r.mu.Unlock()

	p := r.byID[ack.Proxy]
	if p == nil {
		if len(r.byID) >= maxProxies {
			return &maintenance.FieldError{Field: "proxy", Problem: fmt.Sprintf("there are too many proxies: the limit is %d", maxProxies)}
		}
		p = &proxy{id: ack.Proxy, firstAck: now, vms: map[string]*vm{}}
		r.byID[p.id] = p
	}

	v := p.vms[ack.VM]
	if v == nil {
		if len(p.vms) >= maxVMs {
			return &maintenance.FieldError{Field: "vm", Problem: fmt.Sprintf("the proxy has too many VMs: the limit is %d", maxVMs)}
		}
		v = &vm{}
		p.vms[ack.VM] = v
		r.notify()
	}

	if v.version != ack.Version {
		v.version = ack.Version
		r.notify()
	}
	v.requests, v.lastAck = max(0, ack.Requests), now
	p.node, p.lastAck = ack.Node, now
	p.skew = time.UnixMilli(ack.Time).Sub(now)
	return nil
}

func checkAck(ack maintenance.Ack) error {
	for _, f := range []struct {
		name, value string
		min, max    int
	}{
		{"proxy", ack.Proxy, 1, 128},
		{"vm", ack.VM, 1, 128},
		{"node", ack.Node, 0, 1024},
	} {
		if len(f.value) < f.min || len(f.value) > f.max {
			return &maintenance.FieldError{Field: f.name, Problem: fmt.Sprintf("must be %d to %d bytes", f.min, f.max)}
		}
	}
	return nil
}

// PollClosed records that a proxy closed its poll before the answer. If no ack follows, the proxy
// counts as ended.
func (k *Keeper) PollClosed(proxy string) {
	r := &k.proxies
	r.mu.Lock()
	defer r.mu.Unlock()

	if p := r.byID[proxy]; p != nil {
		p.pollClosed = k.now()
		r.unsaved = true
	}
}

// notify closes the channels of watch, and marks the list as unsaved. The caller holds r.mu.
func (r *registry) notify() {
	r.unsaved = true
	close(r.changed)
	r.changed = make(chan struct{})
}

// watch returns a channel that is closed by the next notify.
func (r *registry) watch() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Proxy is what is known about a running Envoy process.
type Proxy struct {
	ID       string              `json:"id" doc:"Random, one per Envoy process"`
	Node     string              `json:"node,omitempty" doc:"Envoy's node id"`
	State    string              `json:"state" enum:"live,lost" doc:"lost: none of its VMs has reported for 3 s"`
	Version  maintenance.Version `json:"version" doc:"The oldest state that any of its VMs enforces"`
	Current  bool                `json:"current" doc:"Whether every VM enforces the newest state"`
	SeenAt   time.Time           `json:"seen_at"`
	SkewMS   int64               `json:"skew_ms" doc:"Its clock minus the controller's, in milliseconds"`
	Requests int                 `json:"requests" doc:"Requests that were let through and are not answered yet"`
	VMs      []VM                `json:"vms"`
}

// VM is one of the WebAssembly VMs of a proxy: the main thread has one, and each worker.
type VM struct {
	ID       string              `json:"id"`
	State    string              `json:"state" enum:"live,crashed" doc:"crashed: it has not reported for 3 s while other VMs of its proxy have"`
	Version  maintenance.Version `json:"version"`
	SeenAt   time.Time           `json:"seen_at"`
	Requests int                 `json:"requests"`
}

// Proxies returns all known proxies, ordered by node and ID.
func (k *Keeper) Proxies() []Proxy {
	now, current := k.now(), k.Current().Version()
	k.proxies.mu.Lock()
	defer k.proxies.mu.Unlock()

	list := make([]Proxy, 0, len(k.proxies.byID))
	for _, p := range k.proxies.byID {
		if !p.ended(now) {
			list = append(list, p.describe(now, current))
		}
	}

	slices.SortFunc(list, func(a, b Proxy) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID)) })
	return list
}

func (p *proxy) describe(now time.Time, current maintenance.Version) Proxy {
	out := Proxy{
		ID: p.id, Node: p.node, State: "live", Version: p.version(), SeenAt: p.lastAck.UTC().Truncate(time.Millisecond),
		SkewMS: p.skew.Milliseconds(), VMs: make([]VM, 0, len(p.vms)),
	}
	out.Current = out.Version == current
	if p.lost(now) {
		out.State = "lost"
	}

	for id, v := range p.vms {
		state := "crashed"
		if p.live(v) {
			state = "live"
			out.Requests += v.requests
		}
		out.VMs = append(out.VMs, VM{ID: id, State: state, Version: v.version, SeenAt: v.lastAck.UTC().Truncate(time.Millisecond), Requests: v.requests})
	}

	slices.SortFunc(out.VMs, func(a, b VM) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Forget removes a proxy from the list, so that nothing waits for it. A proxy that is alive comes
// back with its next ack. The error is [ErrNotFound] if the proxy is not on the list.
func (k *Keeper) Forget(ctx context.Context, by Actor, id string) error {
	r := &k.proxies
	r.mu.Lock()
	p, ok := r.byID[id]
	r.mu.Unlock()
	if !ok {
		return fmt.Errorf("proxy %q: %w", id, ErrNotFound)
	}

	change, _ := diffResources("", map[string]string{"proxy": id, "node": p.node}, nil)
	entry := mustMarshal(Entry{Time: k.now(), Actor: by, Action: "proxy.forget", Change: change})
	if err := k.storeProxies(ctx, id, entry); err != nil {
		return err
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
	r.notify()
	return nil
}

// storedProxy is a proxy in the store. One record holds all of them. The JSON names are those of
// stores that exist.
type storedProxy struct {
	ID         string     `json:"id"`
	Node       string     `json:"node,omitempty"`
	LastAck    time.Time  `json:"seen"`
	PollClosed time.Time  `json:"hung_up,omitzero"`
	VMs        []storedVM `json:"vms"`
}

type storedVM struct {
	ID string `json:"id"`
	maintenance.Version
}

// loadProxies reads the proxies that reported to the controller before this one, so that they count
// as lost until they report again.
func (k *Keeper) loadProxies(ctx context.Context) error {
	rec, err := k.store.Get(ctx, recordProxies)
	if err != nil {
		return storeError(ctx, err)
	}
	var list []storedProxy
	if rec.Revision > 0 {
		if err := json.Unmarshal(rec.Data, &list); err != nil {
			return fmt.Errorf("reading the stored list of proxies: %w", err)
		}
	}

	r := &k.proxies
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision, r.changed, r.byID, r.savedAt = rec.Revision, make(chan struct{}), map[string]*proxy{}, k.now()

	for _, s := range list {
		p := &proxy{id: s.ID, node: s.Node, lastAck: s.LastAck, pollClosed: s.PollClosed, vms: map[string]*vm{}}
		for _, v := range s.VMs {
			p.vms[v.ID] = &vm{version: v.Version, lastAck: s.LastAck}
		}
		r.byID[p.id] = p
	}
	return nil
}

// saveProxies drops the proxies that ended or have been lost for long, and stores the list if it
// has changed.
func (k *Keeper) saveProxies(ctx context.Context) error {
	if !k.pruneProxies() {
		return nil
	}
	return k.storeProxies(ctx, "")
}

// pruneProxies drops proxies and VMs that do not count any more, and reports whether the list is to
// be stored.
func (k *Keeper) pruneProxies() (due bool) {
	now := k.now()
	anyOn := slices.ContainsFunc(k.Current().Apps(), func(a maintenance.App) bool { return len(a.Activations) > 0 })
	r := &k.proxies
	r.mu.Lock()
	defer r.mu.Unlock()

	for id, p := range r.byID {
		if p.ended(now) || !anyOn && now.Sub(p.lastAck) > forgetAfter {
			k.log.Info("proxy forgotten", "proxy", id, "node", p.node, "seen_at", p.lastAck.UTC(), "poll_closed", p.ended(now))
			delete(r.byID, id)
			r.notify()
		}
		for name, v := range p.vms {
			if p.lastAck.Sub(v.lastAck) > forgetAfter {
				delete(p.vms, name)
				r.unsaved = true
			}
		}
	}
	return r.unsaved || len(r.byID) > 0 && now.Sub(r.savedAt) > saveIdleEvery
}

// storeProxies stores the list of proxies without the one that is to be forgotten, if any, together
// with audit entries.
func (k *Keeper) storeProxies(ctx context.Context, forget string, entries ...[]byte) error {
	r := &k.proxies
	r.saving.Lock()
	defer r.saving.Unlock()

	r.mu.Lock()
	list := make([]storedProxy, 0, len(r.byID))
	for _, p := range r.byID {
		if p.id == forget {
			continue
		}

		s := storedProxy{ID: p.id, Node: p.node, LastAck: p.lastAck.UTC(), PollClosed: p.pollClosed.UTC()}
		for id, v := range p.vms {
			if p.live(v) {
				s.VMs = append(s.VMs, storedVM{id, v.version})
			}
		}
		list = append(list, s)
	}
	r.unsaved, r.savedAt = false, k.now()
	r.mu.Unlock()

	if err := k.store.Swap(ctx, recordProxies, r.revision, mustMarshal(list), entries...); err != nil {
		r.mu.Lock()
		r.unsaved = true
		r.mu.Unlock()
		return storeError(ctx, err)
	}
	r.revision++
	return nil
}
