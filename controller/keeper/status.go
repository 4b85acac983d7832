package keeper

import (
	"context"
	"slices"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Phase is what the controller knows about the maintenance of an app.
type Phase string

const (
	PhaseOff       Phase = "off"
	PhaseScheduled Phase = "scheduled" // off, and a window is planned
	PhasePending   Phase = "pending"   // on, and not known to be enforced by every proxy
	PhaseActive    Phase = "active"    // on, and enforced by every proxy
)

// AppStatus is the status of an app, for operators and viewers. It is not public: it has windows
// that are not announced yet, and the names of actors.
type AppStatus struct {
	App     string           `json:"app"`
	Mode    maintenance.Mode `json:"mode"`
	Phase   Phase            `json:"phase" enum:"off,scheduled,pending,active"`
	Message string           `json:"message,omitempty"`
	Since   time.Time        `json:"since,omitzero"`
	Until   time.Time        `json:"until,omitzero" doc:"Absent when no end is known"`
	// Activations holds all activations. The strictest of them decides the mode.
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

// PlannedWindow is the next occurrence of a window.
type PlannedWindow struct {
	Window  string           `json:"window"`
	Mode    maintenance.Mode `json:"mode"`
	Start   time.Time        `json:"start"`
	End     time.Time        `json:"end"`
	Message string           `json:"message,omitempty"`
}

// Status returns the status of an app, or [ErrNotFound].
func (k *Keeper) Status(name string) (AppStatus, error) {
	s, now := k.Current(), k.now()
	a, err := s.App(name)
	if err != nil {
		return AppStatus{}, err
	}
	return s.status(a, k.viewProxies(now), now), nil
}

// Statuses returns the status of every app.
func (k *Keeper) Statuses() []AppStatus {
	s, now := k.Current(), k.now()
	view := k.viewProxies(now)

	list := make([]AppStatus, len(s.Apps()))
	for i := range list {
		list[i] = s.status(&s.Apps()[i], view, now)
	}
	return list
}

func (s *Snapshot) status(a *maintenance.App, view *proxyView, now time.Time) AppStatus {
	st := AppStatus{
		App: a.Name, Phase: PhaseOff, Version: s.appVersions[a.Name],
		Activations: s.activationStatuses(a), Next: nextWindow(a, now),
	}
	if public, ok := s.State.Status(a.Name, now); ok {
		st.Mode, st.Message = public.Mode, public.Message
		if public.Since != nil {
			st.Since = *public.Since
		}
		if public.Until != nil {
			st.Until = *public.Until
		}
	}

	st.Proxies, st.Waiting = view.enforcing(st.Version)
	st.Enforced = len(st.Waiting) == 0

	switch {
	case st.Mode != maintenance.Off:
		_, notActive := view.enforcing(s.gateVersions[a.Name])
		notActive = append(notActive, view.whyNotActive()...)
		st.Phase = PhaseActive
		if len(notActive) > 0 {
			st.Phase = PhasePending
		}

		for _, w := range notActive {
			if !slices.Contains(st.Waiting, w) {
				st.Waiting = append(st.Waiting, w)
			}
		}
	case st.Next != nil:
		st.Phase = PhaseScheduled
	}
	return st
}

func (s *Snapshot) activationStatuses(a *maintenance.App) []ActivationStatus {
	list := make([]ActivationStatus, 0, len(a.Activations))
	for _, act := range a.Activations {
		by := s.private.Actors[activationKey(a.Name, act.ID)]
		list = append(list, ActivationStatus{act, by.Name, by.Remote})
	}
	return list
}

// nextWindow returns the first occurrence of a window that starts after now, or nil.
func nextWindow(a *maintenance.App, now time.Time) (next *PlannedWindow) {
	for _, w := range a.Windows {
		for _, o := range w.Occurrences {
			if o.Start.After(now) && (next == nil || o.Start.Before(next.Start)) {
				next = &PlannedWindow{w.ID, w.Mode, o.Start, o.End, w.Message}
			}
		}
	}
	return next
}

// Await waits until the status of an app is as wanted, or until ctx is done. It returns the last
// status, and no error if ctx is done.
func (k *Keeper) Await(ctx context.Context, app string, wanted func(AppStatus) bool) (AppStatus, error) {
	const (
		recheck = 250 * time.Millisecond // since nothing wakes the wait when a proxy falls silent
		pause   = 10 * time.Millisecond  // since many acks come at once
	)
	ticker := time.NewTicker(recheck)
	defer ticker.Stop()

	for {
		checked, newer, acked := time.Now(), k.Current().Newer(), k.proxies.watch()
		st, err := k.Status(app)
		if err != nil || wanted(st) || ctx.Err() != nil {
			return st, err
		}

		select {
		case <-newer:
		case <-acked:
		case <-ticker.C:
		case <-ctx.Done():
		}
		time.Sleep(pause - time.Since(checked))
	}
}
