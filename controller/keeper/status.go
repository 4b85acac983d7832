package keeper

import (
	"context"
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
