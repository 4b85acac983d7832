package maintenance

import "time"

// view is the state at a moment. It is valid until the next planned change.
type view struct {
	from, until time.Time // until is zero if no change is planned
	idle        bool
	apps        []appView // by app.index
}

// appView is an app at a moment.
type appView struct {
	activation *Activation // the one that decides the mode; nil: off
	until      time.Time   // when the mode ends; zero: not known
	next       *Upcoming   // the next announced window
}

// Upcoming is a window that is announced and has not begun.
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

// viewAt returns the state at now. Most calls find the view of an earlier one still valid.
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

// viewApp returns an app at the moment of the view, and notes when it will change.
func (v *view) viewApp(a *app) (av appView) {
	now := v.from
	for i := range a.activations {
		active := &a.activations[i]
		v.noteChange(active.Until)
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
			case !now.Before(o.End) || now.Before(announced):
			case !now.Before(o.Start):
				av.addActivation(&Activation{ID: w.ID, Source: SourceWindow, Mode: w.Mode, Message: w.Message, Since: o.Start, Until: o.End})
			case av.next == nil || o.Start.Before(av.next.Start):
				av.next = &Upcoming{w.Mode, o.Start, o.End, w.Message}
			}
		}
	}

	return av
}

// noteChange notes that something changes at t. The view is valid until the nearest such time.
func (v *view) noteChange(t time.Time) {
	if t.After(v.from) && (v.until.IsZero() || t.Before(v.until)) {
		v.until = t
	}
}

// addActivation takes an active activation into account. The strictest one decides the mode, among
// equals the one that began last. The mode ends when the last of its equals does.
func (av *appView) addActivation(active *Activation) {
	stricter := 1
	if av.activation != nil {
		stricter = active.Mode.Compare(av.activation.Mode)
	}

	switch {
	case stricter < 0:
	case stricter > 0:
		av.activation, av.until = active, active.Until
	default:
		if active.Since.After(av.activation.Since) {
			av.activation = active
		}

		switch {
		case av.until.IsZero(): // one of them does not end by itself
		case active.Until.IsZero() || active.Until.After(av.until):
			av.until = active.Until
		}
	}
}
