package maintenance

import "time"

// view is the state at a moment, valid until the next planned change.
type view struct {
	from, until time.Time // until is zero when nothing is planned
	idle        bool
	apps        []appView // by app.index
}

// appView is an app at a moment.
type appView struct {
	activation *Activation // the one that decides the mode; nil: off
	until      time.Time   // when the mode ends; zero: not known
	next       *Upcoming   // an announced window
}

// Upcoming is a window that is announced and has not begun.
type Upcoming struct {
	Mode    Mode      `json:"mode"`
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"`
	Message string    `json:"message,omitempty"`
}

// Idle reports whether no app is in maintenance and no window is announced. Without a new
// document the answer holds until the returned time, or for good if that is zero. While
// the state is idle, every request passes and [State.Decide] need not be called.
func (s *State) Idle(now time.Time) (idle bool, until time.Time) {
	v := s.at(now)
	return v.idle, v.until
}

func (s *State) at(now time.Time) *view {
	if v := s.view.Load(); v != nil && !now.Before(v.from) && (v.until.IsZero() || now.Before(v.until)) {
		return v
	}
	v := &view{from: now, idle: true, apps: make([]appView, len(s.apps))}
	// later keeps the nearest moment after now at which anything changes.
	later := func(t time.Time) {
		if t.After(now) && (v.until.IsZero() || t.Before(v.until)) {
			v.until = t
		}
	}
	for i, a := range s.apps {
		st := &v.apps[i]
		var openEnded bool
		consider := func(c *Activation) {
			later(c.Until)
			// Since is not asked: a cause that was published holds, whatever the proxy's
			// own clock says of when that was.
			if !c.Until.IsZero() && !now.Before(c.Until) {
				return
			}
			stricter := 1
			if st.activation != nil {
				stricter = c.Mode.Compare(st.activation.Mode)
			}
			if stricter > 0 {
				st.until, openEnded = time.Time{}, false
			}
			if stricter >= 0 {
				if openEnded = openEnded || c.Until.IsZero(); openEnded {
					st.until = time.Time{}
				} else if c.Until.After(st.until) {
					st.until = c.Until
				}
			}
			if stricter > 0 || stricter == 0 && c.Since.After(st.activation.Since) {
				st.activation = c
			}
		}
		for j := range a.activations {
			consider(&a.activations[j])
		}
		for _, w := range a.spec.Windows {
			for _, o := range w.Occurrences {
				later(o.Start)
				later(o.End)
				announced := o.Start.Add(-time.Duration(w.Announce) * time.Second)
				later(announced)
				switch {
				case !now.Before(o.End) || now.Before(announced):
				case now.Before(o.Start):
					if st.next == nil || o.Start.Before(st.next.Start) {
						st.next = &Upcoming{w.Mode, o.Start, o.End, w.Message}
					}
				default:
					consider(&Activation{ID: w.ID, Source: SourceWindow, Mode: w.Mode, Message: w.Message, Since: o.Start, Until: o.End})
				}
			}
		}
		if st.activation != nil || st.next != nil {
			v.idle = false
		}
	}
	s.view.Store(v)
	return v
}
