package maintenance

import "time"

// This file knows which mode each app is in at a given time. A document only changes when the
// controller publishes another one, but the modes in it also change with time: windows open and
// close, and activations end. A view is the result for one moment, kept until the next such change.

// view says which mode each app is in from one time until another, when something changes.
type view struct {
	from, until time.Time // until is zero if no change is planned
	idle        bool      // see State.Idle
	apps        []appView // by app.index
}

// appView is the mode of an app during a view.
type appView struct {
	activation *Activation // determines the mode; nil if the app is off
	until      time.Time   // when the mode ends; zero if that is not known
	next       *Upcoming   // the next announced window, or nil
}

// Upcoming is an occurrence of a window that is announced and has not begun.
type Upcoming struct {
	Mode    Mode      `json:"mode"`
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"`
	Message string    `json:"message,omitempty"`
}

// Idle reports whether no app is in maintenance and no window is announced. Without a new document
// the answer holds until the returned time, or for good if that is zero. While the state is idle,
// every request passes and [State.Decide] need not be called.
func (s *State) Idle(now time.Time) (idle bool, until time.Time) {
	v := s.viewAt(now)
	return v.idle, v.until
}

// viewAt returns the view of the time now. Most calls return the view of an earlier call, which is
// still valid. Goroutines that make one at the same time make equal ones, so either may be kept.
func (s *State) viewAt(now time.Time) *view {
	if v := s.view.Load(); v != nil && !now.Before(v.from) && (v.until.IsZero() || now.Before(v.until)) {
		return v
	}

	v := &view{from: now, idle: true, apps: make([]appView, len(s.apps))}
	for i, a := range s.apps {
		av := v.viewApp(a)
		v.apps[i] = av
		if av.activation != nil || av.next != nil {
			v.idle = false
		}
	}

	s.view.Store(v)
	return v
}

// viewApp returns the mode of an app at the beginning of the view, and shortens the view to the
// next time at which something about the app changes.
func (v *view) viewApp(a *app) (av appView) {
	now := v.from
	for i := range a.activations {
		active := &a.activations[i]
		v.noteChange(active.Until) // a zero time is in the past, and has no effect
		// Since is ignored: an activation that was published is active, whatever the proxy's own
		// clock says.
		if active.Until.IsZero() || now.Before(active.Until) {
			av.addActivation(active)
		}
	}

	for i := range a.spec.Windows {
		w := &a.spec.Windows[i]
		for _, o := range w.Occurrences {
			announced := o.Start.Add(-time.Duration(w.Announce) * time.Second)
			v.noteChange(announced)
			v.noteChange(o.Start)
			v.noteChange(o.End)

			switch {
			case !now.Before(o.End) || now.Before(announced): // over, or not public yet
			case !now.Before(o.Start): // open
				av.addActivation(&Activation{ID: w.ID, Source: SourceWindow, Mode: w.Mode, Message: w.Message, Since: o.Start, Until: o.End})
			case av.next == nil || o.Start.Before(av.next.Start):
				av.next = &Upcoming{w.Mode, o.Start, o.End, w.Message}
			}
		}
	}

	return av
}

// noteChange shortens the view so that it ends at t, when something changes, unless it ends before
// t anyway, or t is in the past.
func (v *view) noteChange(t time.Time) {
	if t.After(v.from) && (v.until.IsZero() || t.Before(v.until)) {
		v.until = t
	}
}

// addActivation takes an active activation into account. The strictest activation determines the
// mode, and among those of the same mode the one that began last. The mode ends when the last of
// them ends.
func (av *appView) addActivation(active *Activation) {
	comparison := +1 // of the modes; +1 if the new activation is stricter
	if av.activation != nil {
		comparison = active.Mode.Compare(av.activation.Mode)
	}

	switch {
	case comparison < 0:
	case comparison > 0:
		av.activation, av.until = active, active.Until
	default:
		if active.Since.After(av.activation.Since) {
			av.activation = active
		}

		switch {
		case av.until.IsZero(): // an earlier one does not end by itself
		case active.Until.IsZero() || active.Until.After(av.until):
			av.until = active.Until
		}
	}
}
