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
	// silent is how long a VM may say nothing before it counts as gone.
	silent = maintenance.SilentSeconds * time.Second
	// maxSkew is how far a proxy's clock may be off before it is named.
	maxSkew = time.Second
	// settle is how long a new proxy is awaited although all that is known of it enforces
	// a state: every VM speaks within a heartbeat, so by then all are known.
	settle = (maintenance.HeartbeatSeconds*1000 + 500) * time.Millisecond
	// forgetAfter is how long a proxy that went without goodbye is awaited by name while
	// nothing is in maintenance. In maintenance it is awaited until somebody forgets it.
	forgetAfter = 15 * time.Minute
	// saveEvery is how often what the proxies said is written, in one record.
	saveEvery = 5 * time.Second
	// maxProxies and maxVMs bound what holders of the sync token can make the
	// controller keep.
	maxProxies = 50_000
	maxVMs     = 512 // a proxy
)

// registry is what proxies have said about themselves.
type registry struct {
	mu      sync.Mutex
	byID    map[string]*proxy
	changed chan struct{} // closed when a VM's version or the set changes
	dirty   bool          // the record in the store says something else
	saved   time.Time

	writing  sync.Mutex // held while writing the record
	revision uint64     // of the record in the store
}

type proxy struct {
	id, node string
	first    time.Time // when it was first heard of; zero: before this controller's time
	seen     time.Time
	hungUp   time.Time // when it last closed a poll that was not answered
	skew     time.Duration
	vms      map[string]*vm
}

type vm struct {
	version  maintenance.Version
	requests int
	seen     time.Time
}

// live tells whether a VM speaks, or spoke when its proxy last did. One that fell
// silent while its proxy went on has crashed: its replacement adopts the state before
// its first request, so nobody waits for it.
func (p *proxy) live(v *vm) bool { return p.seen.Sub(v.seen) <= silent }

func (p *proxy) lost(now time.Time) bool { return now.Sub(p.seen) > silent }

// gone tells whether a proxy has ended, and is not only out of reach: the kernel closes
// a dead process's poll, and nothing was heard of it since. What its other VMs said in
// its last second may arrive after the poll's end.
func (p *proxy) gone(now time.Time) bool {
	return p.lost(now) && !p.hungUp.IsZero() && !p.seen.After(p.hungUp.Add(time.Second))
}

// version is the oldest that one of the proxy's VMs enforces.
func (p *proxy) version() (oldest maintenance.Version) {
	first := true
	for _, v := range p.vms {
		if p.live(v) && (first || v.version.Compare(oldest) < 0) {
			oldest, first = v.version, false
		}
	}
	return oldest
}

// Ack takes a VM's word. Fields of errors are those of the ack.
func (k *Keeper) Ack(ack maintenance.Ack) error {
	for _, f := range []struct {
		field, value string
		max          int
	}{{"proxy", ack.Proxy, 128}, {"vm", ack.VM, 128}, {"node", ack.Node, 1024}} {
		if len(f.value) > f.max || f.value == "" && f.field != "node" {
			return &maintenance.FieldError{Field: f.field, Problem: fmt.Sprintf("must be 1 to %d bytes", f.max)}
		}
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
		p = &proxy{id: ack.Proxy, first: now, vms: map[string]*vm{}}
		r.byID[p.id] = p
	}
	v := p.vms[ack.VM]
	if v == nil {
		if len(p.vms) >= maxVMs {
			return &maintenance.FieldError{Field: "vm", Problem: fmt.Sprintf("the proxy has too many VMs: the limit is %d", maxVMs)}
		}
		v = &vm{}
		p.vms[ack.VM] = v
		r.change()
	}
	if v.version != ack.Version {
		v.version = ack.Version
		r.change()
	}
	v.requests, v.seen = max(0, ack.Requests), now
	p.node, p.seen = ack.Node, now
	p.skew = time.UnixMilli(ack.Time).Sub(now)
	return nil
}

// PollClosed notes that a proxy closed its poll. It counts as gone when it says nothing more.
func (k *Keeper) PollClosed(proxy string) {
	r := &k.proxies
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.byID[proxy]; p != nil {
		p.hungUp = k.now()
		r.dirty = true
	}
}

// change wakes who waits for proxies. The lock is held.
func (r *registry) change() {
	r.dirty = true
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *registry) watch() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Proxy is what is known of a running Envoy process.
type Proxy struct {
	ID    string `json:"id" doc:"Random, one per Envoy process"`
	Node  string `json:"node,omitempty" doc:"Envoy's node id"`
	State string `json:"state" enum:"live,lost" doc:"lost: none of its VMs has reported for 3 s"`
	// Version is the oldest that one of its VMs enforces.
	Version  maintenance.Version `json:"version" doc:"The oldest state that any of its VMs enforces"`
	Current  bool                `json:"current" doc:"Whether every VM enforces the newest state"`
	SeenAt   time.Time           `json:"seen_at"`
	SkewMS   int64               `json:"skew_ms" doc:"Its clock minus the controller's, in milliseconds"`
	Requests int                 `json:"requests" doc:"Requests that were let through and are not answered yet"`
	VMs      []VM                `json:"vms"`
}

// VM is one of a proxy's WebAssembly machines: one a worker, one of the main thread.
type VM struct {
	ID       string              `json:"id"`
	State    string              `json:"state" enum:"live,crashed" doc:"crashed: it has not reported for 3 s while other VMs of its proxy have"`
	Version  maintenance.Version `json:"version"`
	SeenAt   time.Time           `json:"seen_at"`
	Requests int                 `json:"requests"`
}

// Proxies lists all that are known, by node and id.
func (k *Keeper) Proxies() []Proxy {
	now, current := k.now(), k.Current().Version()
	k.proxies.mu.Lock()
	defer k.proxies.mu.Unlock()
	list := make([]Proxy, 0, len(k.proxies.byID))
	for _, p := range k.proxies.byID {
		if p.gone(now) {
			continue
		}
		out := Proxy{
			ID: p.id, Node: p.node, State: "live", Version: p.version(), SeenAt: p.seen.UTC().Truncate(time.Millisecond),
			SkewMS: p.skew.Milliseconds(), VMs: make([]VM, 0, len(p.vms)),
		}
		out.Current = out.Version == current
		if p.lost(now) {
			out.State = "lost"
		}
		for id, v := range p.vms {
			state := "live"
			if !p.live(v) {
				state = "crashed"
			} else {
				out.Requests += v.requests
			}
			out.VMs = append(out.VMs, VM{ID: id, State: state, Version: v.version, SeenAt: v.seen.UTC().Truncate(time.Millisecond), Requests: v.requests})
		}
		slices.SortFunc(out.VMs, func(a, b VM) int { return cmp.Compare(a.ID, b.ID) })
		list = append(list, out)
	}
	slices.SortFunc(list, func(a, b Proxy) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID)) })
	return list
}

// Forget takes a proxy off the list: it is awaited no more. One that is alive comes
// back with its next word.
func (k *Keeper) Forget(ctx context.Context, by Actor, id string) error {
	r := &k.proxies
	r.mu.Lock()
	p, ok := r.byID[id]
	r.mu.Unlock()
	if !ok {
		return fmt.Errorf("proxy %q: %w", id, ErrNotFound)
	}
	c, _ := difference("", map[string]string{"proxy": id, "node": p.node}, nil)
	if err := k.writeProxies(ctx, id, mustMarshal(Entry{Time: k.now(), Actor: by, Action: "proxy.forget", Change: c})); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
	r.change()
	return nil
}

// storedProxy is a proxy in the store's one record of them.
type storedProxy struct {
	ID     string     `json:"id"`
	Node   string     `json:"node,omitempty"`
	Seen   time.Time  `json:"seen"`
	HungUp time.Time  `json:"hung_up,omitzero"`
	VMs    []storedVM `json:"vms"`
}

type storedVM struct {
	ID string `json:"id"`
	maintenance.Version
}

// loadProxies remembers the proxies of before a restart, so that they are awaited by
// name until they speak again.
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
	r.revision, r.changed, r.byID, r.saved = rec.Revision, make(chan struct{}), map[string]*proxy{}, k.now()
	for _, s := range list {
		p := &proxy{id: s.ID, node: s.Node, seen: s.Seen, hungUp: s.HungUp, vms: map[string]*vm{}}
		for _, v := range s.VMs {
			p.vms[v.ID] = &vm{version: v.Version, seen: s.Seen}
		}
		r.byID[p.id] = p
	}
	return nil
}

// saveProxies forgets who is long gone, and writes the list when it says something new.
func (k *Keeper) saveProxies(ctx context.Context) error {
	now := k.now()
	idle := !slices.ContainsFunc(k.Current().Apps(), func(a maintenance.App) bool { return len(a.Activations) > 0 })
	r := &k.proxies
	r.mu.Lock()
	for id, p := range r.byID {
		if p.gone(now) || idle && now.Sub(p.seen) > forgetAfter {
			k.log.Info("proxy forgotten", "proxy", id, "node", p.node, "seen_at", p.seen.UTC(), "poll_closed", p.gone(now))
			delete(r.byID, id)
			r.change()
		}
		for name, v := range p.vms {
			if p.seen.Sub(v.seen) > forgetAfter {
				delete(p.vms, name)
				r.dirty = true
			}
		}
	}
	// How long ago they spoke is worth a write a minute, no more.
	due := r.dirty || len(r.byID) > 0 && now.Sub(r.saved) > time.Minute
	r.mu.Unlock()
	if !due {
		return nil
	}
	return k.writeProxies(ctx, "")
}

// writeProxies writes the list, but for one proxy.
func (k *Keeper) writeProxies(ctx context.Context, except string, audit ...[]byte) error {
	r := &k.proxies
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	list := make([]storedProxy, 0, len(r.byID))
	for _, p := range r.byID {
		if p.id == except {
			continue
		}
		s := storedProxy{ID: p.id, Node: p.node, Seen: p.seen.UTC(), HungUp: p.hungUp.UTC()}
		for id, v := range p.vms {
			if p.live(v) {
				s.VMs = append(s.VMs, storedVM{id, v.version})
			}
		}
		list = append(list, s)
	}
	r.dirty, r.saved = false, k.now()
	r.mu.Unlock()

	if err := k.store.Swap(ctx, recordProxies, r.revision, mustMarshal(list), audit...); err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
		return storeError(ctx, err)
	}
	r.revision++
	return nil
}
