package keeper

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Phase is what the controller knows about an app.
type Phase string

const (
	PhaseOff       Phase = "off"
	PhaseScheduled Phase = "scheduled" // off, and a window is planned
	PhasePending   Phase = "pending"   // on, and not yet known to be enforced everywhere
	PhaseActive    Phase = "active"    // on, and every proxy enforces it
)

// AppStatus is what operators and viewers may know of an app.
type AppStatus struct {
	App     string           `json:"app"`
	Mode    maintenance.Mode `json:"mode" enum:"off,read-only,no-access"`
	Phase   Phase            `json:"phase" enum:"off,scheduled,pending,active"`
	Message string           `json:"message,omitempty"`
	Since   time.Time        `json:"since,omitzero"`
	Until   time.Time        `json:"until,omitzero" doc:"Absent when no end is known"`
	// Activations are all causes, the one that decides among them.
	Activations []ActivationStatus `json:"activations"`
	Next        *PlannedWindow     `json:"next,omitempty" doc:"The next planned window, whether it is announced yet or not"`
	Version     Version            `json:"version" doc:"The state in which anything about the app last changed"`
	Enforced    bool               `json:"enforced" doc:"Whether every proxy enforces that state or a newer one. Always false without a proxy"`
	Proxies     ProxyCount         `json:"proxies"`
	Waiting     []WaitingFor       `json:"waiting,omitempty" doc:"What keeps the app from being enforced or active; at most 100 items"`
}

// Version is [maintenance.Version], in responses.
type Version = maintenance.Version

// ActivationStatus is an activation and who began it.
type ActivationStatus struct {
	maintenance.Activation
	Actor  string `json:"actor,omitempty"`
	Remote string `json:"remote,omitempty"`
}

// PlannedWindow is a window's next occurrence.
type PlannedWindow struct {
	Window  string           `json:"window"`
	Mode    maintenance.Mode `json:"mode" enum:"read-only,no-access"`
	Start   time.Time        `json:"start"`
	End     time.Time        `json:"end"`
	Message string           `json:"message,omitempty"`
}

// ProxyCount counts the proxies that are known, lost ones included.
type ProxyCount struct {
	Known     int `json:"known"`
	Live      int `json:"live"`
	Enforcing int `json:"enforcing"`
}

// WaitingFor is one thing that is still awaited.
type WaitingFor struct {
	Proxy  string `json:"proxy,omitempty"`
	Node   string `json:"node,omitempty"`
	Reason string `json:"reason"`
}

// maxWaiting bounds the list of what is awaited, in an answer that people read.
const maxWaiting = 100

// fleet is a look at all proxies at one moment.
type fleet struct {
	proxies []seen
	live    int
	oldest  Version // that any proxy enforces
	current Version
	fresh   bool // some proxy has just started
	ahead   bool // some proxy enforces a newer one than current
	settled bool // the controller runs long enough to have heard from every live proxy
}

type seen struct {
	id, node string
	version  Version
	lostFor  time.Duration // 0: live
	fresh    bool          // not all of its VMs may have spoken yet
	skew     time.Duration
}

func (k *Keeper) fleet(now time.Time) *fleet {
	f := &fleet{settled: now.Sub(k.started) >= silent}
	k.proxies.mu.Lock()
	for _, p := range k.proxies.byID {
		if p.gone(now) {
			continue
		}
		s := seen{id: p.id, node: p.node, version: p.version(), skew: p.skew, fresh: now.Sub(p.first) < settle}
		if p.lost(now) {
			s.lostFor = now.Sub(p.seen)
		} else {
			f.live++
		}
		f.proxies = append(f.proxies, s)
	}
	k.proxies.mu.Unlock()
	// Read after what the proxies enforce, which so cannot be ahead of it by a change
	// that was just made.
	f.current = k.Current().Version()
	for i := range f.proxies {
		if v := f.proxies[i].version; i == 0 || v.Compare(f.oldest) < 0 {
			f.oldest = v
		}
		f.fresh = f.fresh || f.proxies[i].fresh
		f.ahead = f.ahead || f.proxies[i].version.Compare(f.current) > 0
	}
	slices.SortFunc(f.proxies, func(a, b seen) int { return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.id, b.id)) })
	return f
}

// enforces tells whether every proxy enforces a version, and what is awaited otherwise.
// A proxy that names a state from the future follows another controller.
func (f *fleet) enforces(v Version) (count ProxyCount, waiting []WaitingFor) {
	count = ProxyCount{Known: len(f.proxies), Live: f.live}
	if len(f.proxies) > 0 && !f.ahead && !f.fresh && f.oldest.Compare(v) >= 0 {
		count.Enforcing = count.Known
		return count, nil
	}
	for i := range f.proxies {
		p := &f.proxies[i]
		ahead := p.version.Compare(f.current) > 0
		if p.version.Compare(v) >= 0 && !ahead && !p.fresh {
			count.Enforcing++
			continue
		}
		reason := fmt.Sprintf("enforces revision %d, not yet %d", p.version.Revision, v.Revision)
		switch {
		case p.lostFor > 0:
			reason = fmt.Sprintf("has not reported for %s: it may have stopped, or it may be unreachable and still serve without this state; if it has stopped, forget it", p.lostFor.Round(time.Second))
		case ahead:
			reason = fmt.Sprintf("follows a state that this controller does not have (epoch %d, revision %d)", p.version.Epoch, p.version.Revision)
		case p.fresh && p.version.Compare(v) >= 0:
			reason = "has just started, and some of its workers may not have reported yet"
		case p.version.Epoch < v.Epoch:
			reason = "does not enforce a state of this controller yet"
		}
		if len(waiting) < maxWaiting {
			waiting = append(waiting, WaitingFor{p.id, p.node, reason})
		}
	}
	if len(f.proxies) == 0 {
		waiting = []WaitingFor{{Reason: "no proxy has reported to this controller"}}
	}
	return count, waiting
}

// unsettled lists what else keeps an app from being active.
func (f *fleet) unsettled() (waiting []WaitingFor) {
	if !f.settled {
		waiting = append(waiting, WaitingFor{Reason: fmt.Sprintf("the controller has just started and waits %s for proxies to report", silent)})
	}
	for i := range f.proxies {
		if p := &f.proxies[i]; p.skew.Abs() > maxSkew && p.lostFor == 0 && len(waiting) < maxWaiting {
			waiting = append(waiting, WaitingFor{p.id, p.node, "has a clock that is " + clock(p.skew)})
		}
	}
	return waiting
}

// mode is the strictest that an app's activations ask for.
func mode(a *maintenance.App, now time.Time) maintenance.Mode {
	strictest := maintenance.Off
	for _, c := range a.Activations {
		if !c.Until.IsZero() && !now.Before(c.Until) {
			continue
		}
		if c.Mode == maintenance.NoAccess || strictest == maintenance.Off {
			strictest = c.Mode
		}
	}
	return strictest
}

// Status of one app.
func (k *Keeper) Status(name string) (AppStatus, error) {
	s, now := k.Current(), k.now()
	a, err := s.App(name)
	if err != nil {
		return AppStatus{}, err
	}
	return s.status(a, k.fleet(now), now), nil
}

// Statuses of all apps.
func (k *Keeper) Statuses() []AppStatus {
	s, now := k.Current(), k.now()
	f := k.fleet(now)
	list := make([]AppStatus, len(s.Apps()))
	for i := range list {
		list[i] = s.status(&s.Apps()[i], f, now)
	}
	return list
}

func (s *Snapshot) status(a *maintenance.App, f *fleet, now time.Time) AppStatus {
	st := AppStatus{App: a.Name, Phase: PhaseOff, Activations: make([]ActivationStatus, 0, len(a.Activations)), Version: s.changes[a.Name]}
	if public, ok := s.State.Status(a.Name, now); ok {
		st.Mode, st.Message = public.Mode, public.Message
		if public.Since != nil {
			st.Since = *public.Since
		}
		if public.Until != nil {
			st.Until = *public.Until
		}
	}
	for _, c := range a.Activations {
		by := s.side.Causes[causeKey(a.Name, c.ID)]
		st.Activations = append(st.Activations, ActivationStatus{c, by.Name, by.Remote})
	}
	for _, w := range a.Windows {
		for _, o := range w.Occurrences {
			if o.Start.After(now) && (st.Next == nil || o.Start.Before(st.Next.Start)) {
				st.Next = &PlannedWindow{w.ID, w.Mode, o.Start, o.End, w.Message}
			}
		}
	}
	st.Proxies, st.Waiting = f.enforces(st.Version)
	st.Enforced = len(st.Waiting) == 0
	switch {
	case st.Mode != maintenance.Off:
		st.Phase = PhasePending
		_, gate := f.enforces(s.gates[a.Name])
		if gate = append(gate, f.unsettled()...); len(gate) == 0 {
			st.Phase = PhaseActive
		}
		for _, w := range gate {
			if !slices.Contains(st.Waiting, w) {
				st.Waiting = append(st.Waiting, w)
			}
		}
	case st.Next != nil:
		st.Phase = PhaseScheduled
	}
	return st
}

// Await waits until an app's status is as wanted, or ctx is done: then the status is
// what it was last, and the error nil.
func (k *Keeper) Await(ctx context.Context, app string, wanted func(AppStatus) bool) (AppStatus, error) {
	// Silence makes no event, so look again from time to time; acks come in crowds, so
	// do not look at each.
	const lookAgain, apart = 250 * time.Millisecond, 10 * time.Millisecond
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		looked, newer, acked := time.Now(), k.Current().Newer(), k.proxies.watch()
		st, err := k.Status(app)
		if err != nil || wanted(st) || ctx.Err() != nil {
			return st, err
		}
		select {
		case <-newer:
		case <-acked:
		case <-again.C:
		case <-ctx.Done():
		}
		time.Sleep(apart - time.Since(looked))
	}
}

// ProxyCount counts proxies, and those among them that enforce the newest state.
func (k *Keeper) ProxyCount() ProxyCount {
	f := k.fleet(k.now())
	count, _ := f.enforces(f.current)
	return count
}
