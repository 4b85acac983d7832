package wasmhost

import (
	"slices"
	"strings"
)

// Headers is an ordered list of header fields or trailers: names in lower case, repeated ones each on their own, the
// pseudo-headers of HTTP/2 (":method", ":path", ":authority", ":scheme", ":status") among them.
type Headers [][2]string

// Get is the value of the first field of that name, or "".
func (h Headers) Get(name string) string {
	if i := h.index(name); i >= 0 {
		return h[i][1]
	}
	return ""
}

// Has tells whether a field of that name is there.
func (h Headers) Has(name string) bool { return h.index(name) >= 0 }

// Values are the values of all fields of that name, in order.
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

// normal copies h as Envoy holds it: lower case, pseudo-headers first.
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

// single are fields of which Envoy holds one at most: adding another appends its value after a comma
// (source/common/http/header_map_impl.cc, the O(1) "inline" headers).
var single = map[string]bool{
	":authority": true, ":method": true, ":path": true, ":scheme": true, ":status": true, ":protocol": true,
	"connection": true, "content-length": true, "content-type": true, "expect": true, "grpc-message": true, "grpc-status": true,
	"grpc-timeout": true, "keep-alive": true, "location": true, "proxy-connection": true, "server": true, "te": true,
	"transfer-encoding": true, "upgrade": true, "user-agent": true, "via": true, "x-forwarded-for": true,
	"x-forwarded-host": true, "x-forwarded-proto": true, "x-request-id": true, "date": true, "host": true,
}

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

func (h *Headers) set(name, value string) {
	h.remove(name)
	h.add(name, value)
}

// put changes a field where it stands, or appends it.
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

// hostIsAuthority makes a request's "host" its ":authority".
func (h *Headers) hostIsAuthority() {
	if host := h.Get("host"); h.Has("host") {
		h.remove("host")
		if !h.Has(":authority") {
			h.add(":authority", host)
		}
	}
}

// size is Envoy's byteSize: that of all names and values.
func (h Headers) size() (n int) {
	for _, f := range h {
		n += len(f[0]) + len(f[1])
	}
	return n
}

// Header maps.

// headersRead finds a header map for reading. After the stream has gone on, a filter has none of its maps any more,
// until on_log shows it the final ones.
func (c call) headersRead() (*Headers, Status) {
	ctx := c.in.current()
	f, t := ctx.filter, c.u32(0)
	if int(t) >= len(headerMapNames) {
		return nil, StatusBadArgument
	}
	var h *Headers
	switch {
	case t == 6 || t == 7:
		if r := ctx.root.response; r != nil && t == 6 {
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

// headersWrite finds a header map for writing. In the last body callback a filter may add trailers that were not there.
func (c call) headersWrite() (*Headers, Status) {
	f, t := c.in.current().filter, c.u32(0)
	if f == nil || t > 3 {
		return nil, StatusBadArgument
	}
	switch {
	case t == 1 && f.requestTrailers == nil && f.requestBody != nil && f.endOfStream:
		f.requestTrailers = f.decode.addTrailers()
	case t == 3 && f.responseTrailers == nil && f.responseBody != nil && f.endOfStream:
		f.responseTrailers = f.encode.addTrailers()
	}
	h := f.headers(t)
	if h == nil {
		return nil, StatusBadArgument
	}
	return h, StatusOK
}

// field is the name of a header field in parameter i. A request has its host in ":authority".
func (c call) field(i int) string {
	name := strings.ToLower(c.str(i))
	if name == "host" && c.u32(0) == 0 {
		return ":authority"
	}
	return name
}

func (f *filter) headers(t uint32) *Headers {
	switch t {
	case 0:
		return f.requestHeaders
	case 1:
		return f.requestTrailers
	case 2:
		return f.responseHeaders
	case 3:
		return f.responseTrailers
	}
	return nil
}

// addTrailers lets a filter add trailers to a body that has just ended without.
func (h *activeFilter) addTrailers() *Headers {
	if h.pipe.trailers == nil {
		h.pipe.trailers = &Headers{}
	}
	return h.pipe.trailers
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

// getHeaders is OK with nothing for a map that is not available, where getHeader is BadArgument: so it is in Envoy.
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
		if *h = parsePairs(c.bytes(1)).normal(); c.u32(0) == 0 {
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
