package differential

import (
	"bytes"
	"slices"
)

// This file reduces a request that got past a gate to what it needs for that, so that a person can
// see why it passed.

// minimize returns a copy of a request without parts that can be left out, one after the other,
// while isBad stays true. isBad sends the request that it is called with, which takes a while, so
// it is not called if leaving out a part changes nothing.
func minimize(r *Request, isBad func(*Request) bool) *Request {
	r = r.Clone()
	// attempt applies a change to a copy of r, which replaces r if it is still bad.
	attempt := func(change func(*Request)) (kept bool) {
		changed := r.Clone()
		change(changed)
		if sameBytes(changed, r) || !isBad(changed) {
			return false
		}
		r = changed
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

	// Halves of the body and the target are left out first, then ever smaller parts. If a part can
	// be left out, the next one has moved to its place. The first byte of the target stays.
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

// sameBytes reports whether two requests are sent as the same bytes over the same version of HTTP.
func sameBytes(a, b *Request) bool {
	if a.HTTP2 != nil {
		return bytes.Equal(a.Connection(), b.Connection())
	}
	return b.HTTP2 == nil && bytes.Equal(a.Bytes(), b.Bytes())
}

// minimizeHTTP2 leaves out what is unusual about how a request is sent over HTTP/2.
func minimizeHTTP2(attempt func(change func(*Request)) (kept bool)) {
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
	// Pseudo-header fields and requests beside this one are left out one at a time, from the last.
	// How many there are is known only in a change, so an index past the end changes nothing.
	const most = 5 // generators hardly ever add more
	for i := most - 1; i >= 0; i-- {
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
