package maintenance

import (
	"strings"
	"time"
)

// The public status tells anyone, without a token, in which mode an app is. Both the filter (at
// /.drydock/status) and the controller answer it.

// Status is the public status of an app. It omits who made a change, and windows that are not
// announced yet. In the mode off, all fields but App, Mode and Next are absent.
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
	apps := s.appsOf(r, nil) // never empty; an honest request belongs to the first one
	return s.status(apps[0], now)
}

// status returns the status of an app at the time now.
func (s *State) status(a *app, now time.Time) Status {
	av := &s.viewAt(now).apps[a.index]
	status := Status{App: a.spec.Name, Mode: Off, Next: av.next}
	if av.activation == nil {
		return status
	}

	status.Mode, status.Message = av.activation.Mode, av.activation.Message
	since := av.activation.Since
	status.Since = &since
	if !av.until.IsZero() {
		status.Until = &av.until
	}

	refused := Decision{app: a, Until: av.until} // has all that Retry-After depends on
	status.RetryAfter = refused.retryAfter(now)
	return status
}

// AppendJSON appends the status to b as JSON, with times in UTC, and returns the extended slice.
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

// appendFields appends the fields of an upcoming window to the object o.
func (u *Upcoming) appendFields(o *jsonObject) {
	o.text("mode", string(u.Mode))
	o.time("start", u.Start)
	o.time("end", u.End)
	if u.Message != "" {
		o.text("message", u.Message)
	}
}

// EdgeStatus returns the answer of the filter to a request for the public status: the status of the
// app that the host of the request belongs to.
func (s *State) EdgeStatus(r *Request, now time.Time) Reply {
	headers := [][2]string{{"cache-control", "no-store"}, {"content-type", "application/json"}}
	if r.Method != "GET" && r.Method != "HEAD" {
		return Reply{
			Status: 405, Headers: append(headers, [2]string{"allow", "GET, HEAD"}), GRPCStatus: notGRPC,
			Body: []byte(`{"type":"about:blank","title":"Method Not Allowed","status":405}`),
		}
	}

	return Reply{Status: 200, Headers: headers, GRPCStatus: notGRPC, Body: s.StatusOf(r, now).AppendJSON(nil)}
}

// IsStatusPath reports whether a path, with or without a query, is the path of the public status.
// In any other spelling the request is decided like all others.
func IsStatusPath(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	return path == EdgePrefix+"status"
}
