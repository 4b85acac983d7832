package differential

import (
	"bytes"
	"slices"
)

// minimize returns a request without the parts that it does not need to be bad.
func minimize(r *Request, bad func(*Request) bool) *Request {
	r = r.Clone()
	attempt := func(change func(*Request)) bool {
		c := r.Clone()
		change(c)
		if sameBytes(c, r) || !bad(c) {
			return false
		}
		r = c
		return true
	}

	if r.HTTP2 != nil {
		attempt(func(c *Request) { c.HTTP2 = nil })
	}
	if r.HTTP2 != nil {
		minimizeHTTP2(attempt)
	}
	attempt(func(c *Request) { c.After = nil })
	attempt(func(c *Request) { c.Framing = Length })
	attempt(func(c *Request) { c.Version = "" })
	attempt(func(c *Request) { c.Host = "" })
	for i := len(r.Headers) - 1; i >= 0; i-- {
		attempt(func(c *Request) { c.Headers = slices.Delete(c.Headers, i, i+1) })
	}

	// Of the body and the target, halves are tried first, then ever smaller parts.
	for size := len(r.Body) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(r.Body); {
			if !attempt(func(c *Request) { c.Body = slices.Concat(c.Body[:at], c.Body[at+size:]) }) {
				at += size
			}
		}
	}
	for size := len(r.Target) / 2; size > 0; size /= 2 {
		for at := 1; at+size <= len(r.Target); {
			if !attempt(func(c *Request) { c.Target = c.Target[:at] + c.Target[at+size:] }) {
				at += size
			}
		}
	}
	return r
}

// sameBytes reports whether two requests over the same version of HTTP are the same as they are
// sent.
func sameBytes(a, b *Request) bool {
	if a.HTTP2 != nil {
		return bytes.Equal(a.Connection(), b.Connection())
	}
	return b.HTTP2 == nil && bytes.Equal(a.Bytes(), b.Bytes())
}

// minimizeHTTP2 drops what is unusual about how a request is sent over HTTP/2.
func minimizeHTTP2(attempt func(change func(*Request)) bool) {
	for _, change := range []func(*HTTP2){
		func(h *HTTP2) { h.Beside = nil },
		func(h *HTTP2) { h.PseudoLast = false },
		func(h *HTTP2) { h.RawNames = false },
		func(h *HTTP2) { h.DataSize = 0 },
		func(h *HTTP2) { h.FieldSize = 0 },
		func(h *HTTP2) { h.Padding = 0 },
		func(h *HTTP2) { h.EndApart = false },
		func(h *HTTP2) { h.Priority = false },
	} {
		attempt(func(c *Request) { change(c.HTTP2) })
	}

	attempt(func(c *Request) { c.Trailers = nil })
	// These are dropped one at a time, from the last. An index past the end leaves the request as
	// it is.
	for i := 4; i >= 0; i-- {
		attempt(func(c *Request) {
			if i < len(c.HTTP2.Pseudo) {
				c.HTTP2.Pseudo = slices.Delete(c.HTTP2.Pseudo, i, i+1)
			}
		})
		attempt(func(c *Request) {
			if i < len(c.HTTP2.Beside) {
				c.HTTP2.Beside = slices.Delete(c.HTTP2.Beside, i, i+1)
			}
		})
	}
}
