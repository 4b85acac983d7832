package keeper

// This file keeps what proxies report, in memory and in the store. A proxy is a running Envoy
// process with the filter. Each of its WebAssembly VMs sends acks, which say which version of the
// state the VM enforces (AckPath in filter/maintenance/sync.go). The VMs of a proxy share one poll
// for newer states: a request that the controller answers as soon as there is one (SyncPath).

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
	// silentAfter is how long a proxy may be silent before it counts as lost. A VM that is silent
	// for as long while another VM of its proxy acks counts as crashed.
	silentAfter = maintenance.SilentSeconds * time.Second
	// newFor is how long a proxy counts as new after its first ack. While a proxy is new, no app is
	// called active (enforcement.go), because not all VMs of the proxy may be known. Each VM acks
	// every HeartbeatSeconds; half a second is for the network.
	newFor = maintenance.HeartbeatSeconds*time.Second + 500*time.Millisecond
	// lateAck is how long after the end of a proxy its last acks may still arrive.
	lateAck = time.Second
	// maxSkew is how far the clock of a proxy may be off. While it is off by more, no app is called
	// active, because each proxy opens and closes windows by its own clock.
	maxSkew = time.Second
	// forgetAfter is how long a lost proxy is kept while no app is in maintenance. While some app
	// is, a lost proxy is kept until an operator forgets it.
	forgetAfter = 15 * time.Minute
	// saveEvery is how often the list of proxies is saved if it has changed.
	saveEvery = 5 * time.Second
	// saveIdleEvery is how often the list is saved if only the times of the last acks have changed.
	saveIdleEvery = time.Minute
	// maxProxies, maxVMs and the lengths in checkAck bound the memory that a client with the sync
	// token can make the controller use.
	maxProxies = 50_000
	maxVMs     = 512 // of one proxy
)

// registry is the list of proxies.
type registry struct {
	mu      sync.Mutex // guards the fields below, up to savedAt
	byID    map[string]*trackedProxy
	changed chan struct{} // closed when a proxy comes or goes, or the version of a VM changes
	unsaved bool          // whether the list has changed since it was stored, apart from times of acks
	savedAt time.Time

	saving   sync.Mutex // held while the list is stored; guards revision
	revision uint64     // of the stored list
}

// trackedProxy is what the controller remembers about a proxy. [Proxy] is its form in the API.
type trackedProxy struct {
	id, node   string
	firstAck   time.Time             // zero if it was before this controller started
	lastAck    time.Time             // of any of its VMs
	pollClosed time.Time             // when the proxy last closed a poll before the answer; zero if never
	skew       time.Duration         // the proxy's clock minus the controller's
	vms        map[string]*trackedVM // by ID; there is at least one
}

// trackedVM is what the controller remembers about a VM. [VM] is its form in the API.
type trackedVM struct {
	version  maintenance.Version // that it enforces
	requests int                 // that it let pass and that are not answered yet
	lastAck  time.Time
}

// live reports whether v still acked when its proxy p last did. A VM that fell silent while others
// of its proxy went on has crashed. The VM that replaces it adopts the state before its first
// request, so the crashed one does not count.
func (p *trackedProxy) live(v *trackedVM) bool { return p.lastAck.Sub(v.lastAck) <= silentAfter }

// lost reports whether no VM of the proxy has acked lately. Its process may have ended, or it may
// be unreachable and still serve.
func (p *trackedProxy) lost(now time.Time) bool { return now.Sub(p.lastAck) > silentAfter }

// ended reports whether the process of a lost proxy has ended. Then its kernel closed the poll, and
// no acks followed but those that were on their way. If only the network was cut, the controller
// sees no poll closed.
func (p *trackedProxy) ended(now time.Time) bool {
	return p.lost(now) && !p.pollClosed.IsZero() && !p.lastAck.After(p.pollClosed.Add(lateAck))
}

// version returns the version that the whole proxy enforces: the oldest of its live VMs. At least
// one VM is live, the one that acked last.
func (p *trackedProxy) version() (oldest maintenance.Version) {
	first := true
	for _, v := range p.vms {
		if p.live(v) && (first || v.version.Compare(oldest) < 0) {
			oldest, first = v.version, false
		}
	}
	return oldest
}

// Ack records which version a VM of a proxy enforces, and adds the proxy and the VM to the list if
// they are not on it. Errors are [*maintenance.FieldError]s with paths relative to the ack.
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
		p = &trackedProxy{id: ack.Proxy, firstAck: now, vms: map[string]*trackedVM{}}
		r.byID[p.id] = p
	}

	v := p.vms[ack.VM]
	if v == nil {
		if len(p.vms) >= maxVMs {
			return &maintenance.FieldError{Field: "vm", Problem: fmt.Sprintf("the proxy has too many VMs: the limit is %d", maxVMs)}
		}
		v = &trackedVM{}
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

// PollClosed records that the proxy with that ID closed its poll before the answer. If no ack
// follows, the proxy counts as ended.
func (k *Keeper) PollClosed(id string) {
	r := &k.proxies
	r.mu.Lock()
	defer r.mu.Unlock()

	if p := r.byID[id]; p != nil {
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

// Proxy is a running Envoy process, as the API describes it.
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

// Proxies returns all known proxies, lost ones too, ordered by node and ID.
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

// describe returns the proxy as the API describes it. current is the newest version of the state.
func (p *trackedProxy) describe(now time.Time, current maintenance.Version) Proxy {
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

// Forget removes a proxy from the list, so that nothing waits for it. A proxy that still runs comes
// back with its next ack. The error is [ErrNotFound] if the proxy is not on the list.
func (k *Keeper) Forget(ctx context.Context, by Actor, id string) error {
	r := &k.proxies
	r.mu.Lock()
	p, ok := r.byID[id]
	if !ok {
		r.mu.Unlock()
		return fmt.Errorf("proxy %q: %w", id, ErrNotFound)
	}
	node := p.node
	r.mu.Unlock()

	// The audit log shows a change from this resource to none. That they differ is certain.
	removal, _ := diffResources(noApp, map[string]string{"proxy": id, "node": node}, nil)
	entry := mustMarshal(Entry{Time: k.now(), Actor: by, Action: "proxy.forget", Change: removal})
	if err := k.storeProxies(ctx, id, entry); err != nil {
		return err
	}

	// Only a removal that was stored counts: otherwise the proxy would be back after a restart.
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
	r.notify()
	return nil
}

// storedProxy is a proxy in the store. One record holds all of them. The JSON names seen and
// hung_up must stay, because existing stores have them.
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

// loadProxies fills the list, when the keeper starts, with the proxies that reported to the
// controller that ran before. They have the times of their last acks of then, so each of them
// counts as lost until it reports to this controller.
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
	r.revision, r.changed, r.byID, r.savedAt = rec.Revision, make(chan struct{}), map[string]*trackedProxy{}, k.now()

	for _, s := range list {
		p := &trackedProxy{id: s.ID, node: s.Node, lastAck: s.LastAck, pollClosed: s.PollClosed, vms: map[string]*trackedVM{}}
		for _, v := range s.VMs {
			p.vms[v.ID] = &trackedVM{version: v.Version, lastAck: s.LastAck}
		}
		r.byID[p.id] = p
	}
	return nil
}

// saveProxies removes the proxies that ended or have been lost for long, and stores the list if it
// has changed.
func (k *Keeper) saveProxies(ctx context.Context) error {
	if !k.pruneProxies() {
		return nil
	}
	return k.storeProxies(ctx, forgetNone)
}

// pruneProxies removes proxies and VMs that do not count any more, and reports whether the list
// should be stored now.
func (k *Keeper) pruneProxies() (due bool) {
	now := k.now()
	anyOn := slices.ContainsFunc(k.Current().Apps(), func(a maintenance.App) bool { return len(a.Activations) > 0 })
	r := &k.proxies
	r.mu.Lock()
	defer r.mu.Unlock()

	for id, p := range r.byID {
		longLost := now.Sub(p.lastAck) > forgetAfter
		if p.ended(now) || longLost && !anyOn {
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

	timesAreOld := len(r.byID) > 0 && now.Sub(r.savedAt) > saveIdleEvery
	return r.unsaved || timesAreOld
}

// forgetNone can be passed to storeProxies instead of an ID, which is never empty.
const forgetNone = ""

// storeProxies stores the list without the proxy whose ID is forget, together with audit entries.
// The list in memory stays as it is. The controller is the only writer of this record, so a
// conflict is an error like any other.
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
