package maintenance

import (
	"strings"
	"time"
)

// Status is the public status of an app. It omits who made a change, and windows that are not
// announced.
type Status struct {
	App        string     `json:"app"`
	Mode       Mode       `json:"mode"`
	Message    string     `json:"message,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
	Until      *time.Time `json:"until,omitempty" doc:"Absent when no end is known"`
	RetryAfter int        `json:"retry_after,omitempty" doc:"Seconds"`
	Next       *Upcoming  `json:"next,omitempty" doc:"The next announced window"`
}

// Status returns the status of the app of this name, and reports whether there is one.
func (s *State) Status(name string, now time.Time) (Status, bool) {
	for _, a := range s.apps {
		if a.spec.Name == name {
			return s.status(a, now), true
		}
	}
	return Status{}, false
}

// StatusOf returns the status of the app that a request belongs to.
func (s *State) StatusOf(r *Request, now time.Time) Status {
	return s.status(s.appsOf(r, nil)[0], now)
}

func (s *State) status(a *app, now time.Time) Status {
	av := &s.viewAt(now).apps[a.index]
	out := Status{App: a.spec.Name, Mode: Off, Next: av.next}
	if av.activation == nil {
		return out
	}

	out.Mode, out.Message = av.activation.Mode, av.activation.Message
	since := av.activation.Since
	out.Since = &since
	if !av.until.IsZero() {
		out.Until = &av.until
	}

	d := Decision{app: a, Until: av.until}
	out.RetryAfter = d.retryAfter(now)
	return out
}

// AppendJSON appends the status as JSON, its times in UTC.
func (st Status) AppendJSON(b []byte) []byte {
	o := jsonObject(append(b, '{'))
	o.text("app", st.App)
	o.text("mode", string(st.Mode))
	if st.Message != "" {
		o.text("message", st.Message)
	}

	if st.Since != nil {
		o.time("since", *st.Since)
	}
	if st.Until != nil {
		o.time("until", *st.Until)
	}
	if st.RetryAfter != 0 {
		o.number("retry_after", int64(st.RetryAfter))
	}

	if st.Next != nil {
		o.key("next")
		o = append(o, '{')
		st.Next.appendFields(&o)
		o = append(o, '}')
	}

	return append(o, '}')
}

func (u *Upcoming) appendFields(o *jsonObject) {
	o.text("mode", string(u.Mode))
	o.time("start", u.Start)
	o.time("end", u.End)
	if u.Message != "" {
		o.text("message", u.Message)
	}
}

// EdgeStatus answers a request for the public status, with that of the app that the request belongs
// to.
func (s *State) EdgeStatus(r *Request, now time.Time) Reply {
	headers := [][2]string{{"cache-control", "no-store"}, {"content-type", "application/json"}}
	if r.Method != "GET" && r.Method != "HEAD" {
		return Reply{
			Status: 405, Headers: append(headers, [2]string{"allow", "GET, HEAD"}), GRPCStatus: -1,
			Body: []byte(`{"type":"about:blank","title":"Method Not Allowed","status":405}`),
		}
	}

	return Reply{Status: 200, Headers: headers, GRPCStatus: -1, Body: s.StatusOf(r, now).AppendJSON(nil)}
}

// IsStatusPath reports whether a path, with or without a query, is the path of the public status.
// No other spelling of it counts.
func IsStatusPath(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	return path == EdgePrefix+"status"
}
