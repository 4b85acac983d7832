package keeper

// This file says what is known about the maintenance of an app. An app is on while it has
// activations: each puts it into a mode, and comes from an operator or from a window that has
// opened. What the proxies enforce is counted in enforcement.go.

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
	Activations []ActivationStatus  `json:"activations"`
	Next        *PlannedWindow      `json:"next,omitempty" doc:"The next planned window, whether it is announced yet or not"`
	Version     maintenance.Version `json:"version" doc:"The state in which anything about the app last changed"`
	Enforced    bool                `json:"enforced" doc:"Whether every proxy enforces that state or a newer one. Always false without a proxy"`
	Proxies     ProxyCount          `json:"proxies"`
	Waiting     []WaitingFor        `json:"waiting,omitempty" doc:"What keeps the app from being enforced or active; at most 100 items"`
}

// ActivationStatus is an activation, with the name and the address of the actor who began it. Both
// are empty for a window, which the schedule began.
type ActivationStatus struct {
	maintenance.Activation
	Actor  string `json:"actor,omitempty"`
	Remote string `json:"remote,omitempty"`
}

// PlannedWindow is one occurrence of the window whose ID is Window.
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
	return s.statusOf(a, k.viewProxies(now), now), nil
}

// Statuses returns the status of every app.
func (k *Keeper) Statuses() []AppStatus {
	s, now := k.Current(), k.now()
	view := k.viewProxies(now)

	list := make([]AppStatus, len(s.Apps()))
	for i := range list {
		list[i] = s.statusOf(&s.Apps()[i], view, now)
	}
	return list
}

// statusOf returns the status of an app of this snapshot.
func (s *Snapshot) statusOf(a *maintenance.App, view *proxyView, now time.Time) AppStatus {
	st := AppStatus{
		App: a.Name, Phase: PhaseOff, Version: s.appVersions[a.Name],
		Activations: s.activationStatuses(a), Next: nextWindow(a, now),
	}
	// The proxies show clients the mode, message and times of the public status, so they are also
	// those of this one.
	if public, ok := s.State.Status(a.Name, now); ok {
		st.Mode, st.Message = public.Mode, public.Message
		if public.Since != nil {
			st.Since = *public.Since
		}
		if public.Until != nil {
			st.Until = *public.Until
		}
	}

	// Enforced: every proxy has the last change of the app, whatever it was.
	st.Proxies, st.Waiting = view.countEnforcing(st.Version)
	st.Enforced = len(st.Waiting) == 0

	if st.Mode == maintenance.Off {
		if st.Next != nil {
			st.Phase = PhaseScheduled
		}
		return st
	}

	// Active: every proxy has the last change of what is closed. A later change of the message or
	// the allowlist does not open the app, so it leaves the app active.
	_, notActive := view.countEnforcing(s.gateVersions[a.Name])
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
	return st
}

// activationStatuses returns the activations of an app. It is never nil.
func (s *Snapshot) activationStatuses(a *maintenance.App) []ActivationStatus {
	list := make([]ActivationStatus, 0, len(a.Activations))
	for _, act := range a.Activations {
		by := s.private.Actors[activationKey(a.Name, act.ID)]
		list = append(list, ActivationStatus{act, by.Name, by.Remote})
	}
	return list
}

// nextWindow returns the first occurrence of the app's windows that starts after now, or nil if
// there is none.
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

// Await waits until wanted returns true for the status of an app, or until ctx is done, and returns
// the last status. That ctx is done is not an error. The only error is [ErrNotFound] for an app
// that does not exist or is deleted meanwhile.
func (k *Keeper) Await(ctx context.Context, app string, wanted func(AppStatus) bool) (AppStatus, error) {
	const (
		recheck = 250 * time.Millisecond // nothing wakes the wait when a proxy falls silent
		pause   = 10 * time.Millisecond  // between two checks: each ack wakes the wait, and many come at once
	)
	ticker := time.NewTicker(recheck)
	defer ticker.Stop()

	for {
		checked := time.Now()
		// Both channels are taken before the status, so that no change after it is missed.
		newer, acked := k.Current().Newer(), k.proxies.watch()
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
		time.Sleep(pause - time.Since(checked)) // returns at once if this is negative
	}
}
