package wasmhost

import (
	"slices"
	"strings"
)

// Headers is an ordered list of header fields or trailers. Names are in lower case, a repeated
// field has an element for each value, and the pseudo-headers of HTTP/2 (":method", ":path",
// ":authority", ":scheme", ":status") are included.
type Headers [][2]string

// Get returns the value of the first field of that name, or "".
func (h Headers) Get(name string) string {
	if i := h.index(name); i >= 0 {
		return h[i][1]
	}
	return ""
}

// Has reports whether there is a field of that name.
func (h Headers) Has(name string) bool { return h.index(name) >= 0 }

// Values returns the values of all fields of that name, in order.
func (h Headers) Values(name string) []string {
	var vs []string
	for _, f := range h {
		if f[0] == name {
			vs = append(vs, f[1])
		}
	}

	return vs
}

func (h Headers) index(name string) int {
	return slices.IndexFunc(h, func(f [2]string) bool { return f[0] == name })
}

// normal returns a copy of h in the form of Envoy: names in lower case, pseudo-headers first.
func (h Headers) normal() Headers {
	n := make(Headers, 0, len(h)+4) // room for what a filter adds

	for _, f := range h {
		if strings.HasPrefix(f[0], ":") {
			n = append(n, [2]string{strings.ToLower(f[0]), f[1]})
		}
	}
	for _, f := range h {
		if !strings.HasPrefix(f[0], ":") {
			n = append(n, [2]string{strings.ToLower(f[0]), f[1]})
		}
	}

	return n
}

// single lists the fields of which Envoy has at most one. Adding another appends its value after a
// comma (source/common/http/header_map_impl.cc, the O(1) "inline" headers).
var single = map[string]bool{
	":authority": true, ":method": true, ":path": true, ":scheme": true, ":status": true, ":protocol": true,
	"connection": true, "content-length": true, "content-type": true, "expect": true, "grpc-message": true, "grpc-status": true,
	"grpc-timeout": true, "keep-alive": true, "location": true, "proxy-connection": true, "server": true, "te": true,
	"transfer-encoding": true, "upgrade": true, "user-agent": true, "via": true, "x-forwarded-for": true,
	"x-forwarded-host": true, "x-forwarded-proto": true, "x-request-id": true, "date": true, "host": true,
}

// add adds a field, as Envoy's HeaderMap does.
func (h *Headers) add(name, value string) {
	name = strings.ToLower(name)
	if single[name] {
		if i := h.index(name); i >= 0 {
			(*h)[i][1] += "," + value
			return
		}
	}

	*h = append(*h, [2]string{name, value})
	if strings.HasPrefix(name, ":") {
		*h = h.normal()
	}
}

// set replaces all fields of that name with one at the end.
func (h *Headers) set(name, value string) {
	h.remove(name)
	h.add(name, value)
}

// put changes the first field of that name in place, or appends the field.
func (h *Headers) put(name, value string) {
	if i := h.index(name); i >= 0 {
		(*h)[i][1] = value
		return
	}

	*h = append(*h, [2]string{name, value})
}

func (h *Headers) remove(name string) {
	name = strings.ToLower(name)
	*h = slices.DeleteFunc(*h, func(f [2]string) bool { return f[0] == name })
}

// hostIsAuthority turns the field "host" of a request into ":authority".
func (h *Headers) hostIsAuthority() {
	if host := h.Get("host"); h.Has("host") {
		h.remove("host")
		if !h.Has(":authority") {
			h.add(":authority", host)
		}
	}
}

// size returns the size of all names and values in bytes, as Envoy's byteSize does.
func (h Headers) size() (n int) {
	for _, f := range h {
		n += len(f[0]) + len(f[1])
	}
	return n
}

// headersRead returns the header map in parameter 0 for reading. A filter has no maps after the
// stream has gone on, until on_log, which has the final ones.
func (c call) headersRead() (*Headers, Status) {
	ctx := c.in.current()
	f, t := ctx.filter, c.u32(0)
	if int(t) >= len(headerMapNames) {
		return nil, StatusBadArgument
	}

	var h *Headers
	switch {
	case t == mapCallHeaders || t == mapCallTrailers:
		if r := ctx.root.response; r != nil && t == mapCallHeaders {
			h = &r.headers
		} else if r != nil && r.trailers != nil {
			h = r.trailers
		}
	case f == nil:
	case f.logging:
		s := f.stream
		if h = [...]*Headers{s.request.headers, nil, s.response.headers, s.response.trailers, nil, nil}[t]; h == nil {
			return nil, StatusNotFound
		}
	default:
		h = f.headers(t)
	}

	if h == nil {
		return nil, StatusBadArgument
	}
	return h, StatusOK
}

// headersWrite returns the header map in parameter 0 for writing. In the last body callback, a
// filter may add trailers to a message that has none.
func (c call) headersWrite() (*Headers, Status) {
	f, t := c.in.current().filter, c.u32(0)
	if f == nil || t > mapResponseTrailers {
		return nil, StatusBadArgument
	}

	switch {
	case t == mapRequestTrailers && f.requestTrailers == nil && f.requestBody != nil && f.endOfStream:
		f.requestTrailers = f.decode.addTrailers()
	case t == mapResponseTrailers && f.responseTrailers == nil && f.responseBody != nil && f.endOfStream:
		f.responseTrailers = f.encode.addTrailers()
	}

	h := f.headers(t)
	if h == nil {
		return nil, StatusBadArgument
	}
	return h, StatusOK
}

// field returns the name of a header field in parameter i. For a request, "host" is ":authority".
func (c call) field(i int) string {
	name := strings.ToLower(c.str(i))
	if name == "host" && c.u32(0) == mapRequestHeaders {
		return ":authority"
	}
	return name
}

// headers returns the map of that number that the filter has now, or nil.
func (f *filter) headers(t uint32) *Headers {
	switch t {
	case mapRequestHeaders:
		return f.requestHeaders
	case mapRequestTrailers:
		return f.requestTrailers
	case mapResponseHeaders:
		return f.responseHeaders
	case mapResponseTrailers:
		return f.responseTrailers
	}
	return nil
}

// addTrailers returns the trailers of the message, which are empty if it had none.
func (a *activeFilter) addTrailers() *Headers {
	if a.pipe.trailers == nil {
		a.pipe.trailers = &Headers{}
	}
	return a.pipe.trailers
}

func (c call) getHeader() Status {
	h, st := c.headersRead()
	if st != StatusOK {
		return st
	}

	i := h.index(c.field(1))
	if i < 0 {
		return StatusNotFound
	}

	return c.putBytes(3, []byte((*h)[i][1]))
}

// getHeaders returns no fields and OK for a map that is not available. For such a map, getHeader
// returns BadArgument. Both do as Envoy does.
func (c call) getHeaders() Status {
	if int(c.u32(0)) >= len(headerMapNames) {
		return StatusBadArgument
	}

	h, st := c.headersRead()
	if st != StatusOK || len(*h) == 0 {
		return c.put(1, nil)
	}

	c.in.noteResult(func() string { return quotePairs(*h) })
	return c.put(1, appendPairs(nil, *h))
}

func (c call) addHeader() Status {
	h, st := c.headersWrite()
	if st == StatusOK {
		h.add(c.field(1), c.str(3))
	}
	return st
}

func (c call) replaceHeader() Status {
	h, st := c.headersWrite()
	if st == StatusOK {
		h.set(c.field(1), c.str(3))
	}
	return st
}

func (c call) removeHeader() Status {
	h, st := c.headersWrite()
	if st == StatusOK {
		h.remove(c.field(1))
	}
	return st
}

func (c call) setHeaders() Status {
	h, st := c.headersWrite()
	if st == StatusOK {
		if *h = parsePairs(c.bytes(1)).normal(); c.u32(0) == mapRequestHeaders {
			h.hostIsAuthority()
		}
	}
	return st
}

func (c call) headersSize() Status {
	h, st := c.headersWrite()
	if st != StatusOK {
		return st
	}
	return c.put32(1, uint32(h.size()))
}
