package wasmhost

import (
	"slices"
	"strings"
)

// This file holds [Headers] and the host calls on header maps. The module names a map by its number
// in parameter 0 (proxy_header_map_type_t, the constants map… in abi.go): the headers or trailers
// of the request or of the response in the stream that is current, or those of the answer to a
// callout. A filter is the part of one plugin in a stream, and an activeFilter is its progress in
// one direction (filter.go, pipe.go).

// Headers is an ordered list of header fields or trailers, each with a name and a value. Names are
// in lower case, a repeated field has an element for each value, and the pseudo-headers of HTTP/2
// (":method", ":path", ":authority", ":scheme", ":status") are included. The methods that read take
// a name in lower case; those that change the list accept any case, except setInPlace.
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

// index returns the index of the first field of that name, or -1.
func (h Headers) index(name string) int {
	return slices.IndexFunc(h, func(f [2]string) bool { return f[0] == name })
}

// normalized returns a copy of h in the form that Envoy gives to headers: names in lower case, and
// the pseudo-headers first.
func (h Headers) normalized() Headers {
	const spare = 4 // a filter often adds a few fields
	n := make(Headers, 0, len(h)+spare)

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

// singleFields are the fields that Envoy keeps at most once. Adding one again appends the value to
// the existing one, after a comma (source/common/http/header_map_impl.cc, the O(1) "inline"
// headers).
var singleFields = map[string]bool{
	":authority": true, ":method": true, ":path": true, ":scheme": true, ":status": true,
	":protocol": true, "connection": true, "content-length": true, "content-type": true, "date": true,
	"expect": true, "grpc-message": true, "grpc-status": true, "grpc-timeout": true, "host": true,
	"keep-alive": true, "location": true, "proxy-connection": true, "server": true, "te": true,
	"transfer-encoding": true, "upgrade": true, "user-agent": true, "via": true,
	"x-forwarded-for": true, "x-forwarded-host": true, "x-forwarded-proto": true, "x-request-id": true,
}

// add adds a field as Envoy's HeaderMap does: it joins the values of a single field, and keeps the
// pseudo-headers first.
func (h *Headers) add(name, value string) {
	name = strings.ToLower(name)
	if i := h.index(name); i >= 0 && singleFields[name] {
		(*h)[i][1] += "," + value
		return
	}

	*h = append(*h, [2]string{name, value})
	if strings.HasPrefix(name, ":") {
		*h = h.normalized()
	}
}

// replace removes all fields of that name and adds one with the value, which is then the last
// (Envoy's HeaderMap::setCopy).
func (h *Headers) replace(name, value string) {
	h.remove(name)
	h.add(name, value)
}

// setInPlace changes the value of the first field of that name where it stands, or appends the
// field if there is none. Envoy changes the fields that it knows so, for example the content length
// of a local reply. The name must be in lower case.
func (h *Headers) setInPlace(name, value string) {
	if i := h.index(name); i >= 0 {
		(*h)[i][1] = value
		return
	}

	*h = append(*h, [2]string{name, value})
}

// remove removes all fields of that name.
func (h *Headers) remove(name string) {
	name = strings.ToLower(name)
	*h = slices.DeleteFunc(*h, func(f [2]string) bool { return f[0] == name })
}

// moveHostToAuthority removes the field "host" of a request. Its value becomes that of ":authority"
// unless there is one already.
func (h *Headers) moveHostToAuthority() {
	if !h.Has("host") {
		return
	}

	host := h.Get("host")
	h.remove("host")
	if !h.Has(":authority") {
		h.add(":authority", host)
	}
}

// size returns the size of all names and values in bytes, as Envoy's HeaderMap::byteSize does.
func (h Headers) size() (n int) {
	for _, f := range h {
		n += len(f[0]) + len(f[1])
	}
	return n
}

// readableMap returns the map that parameter 0 names, for reading, as Envoy's Context::getConstMap
// does. If the map is not available now, the status is BadArgument, except in on_log. There, a
// message that had no such part is NotFound (Context::getHeaderMapValue).
func (c call) readableMap() (*Headers, Status) {
	ctx, number := c.in.current(), c.u32(0)
	if int(number) >= len(headerMapNames) {
		return nil, StatusBadArgument
	}

	var h *Headers
	switch {
	case number == mapCallHeaders || number == mapCallTrailers:
		h = ctx.root.response.headerMap(number)
	case ctx.filter == nil: // no stream is current
	case ctx.filter.logging:
		h = ctx.filter.stream.finalMap(number)
		if h == nil {
			return nil, StatusNotFound
		}
	default:
		h = ctx.filter.headerMap(number)
	}

	if h == nil {
		return nil, StatusBadArgument
	}
	return h, StatusOK
}

// writableMap returns the map that parameter 0 names, for writing, as Envoy's Context::getMap does.
// If a message has no trailers and its last body callback is running, it adds empty trailers to the
// message and returns those: this is how a filter adds trailers. A map that the filter does not
// have now is BadArgument, also in on_log, which can read the final maps but not change them.
func (c call) writableMap() (*Headers, Status) {
	f, number := c.in.current().filter, c.u32(0)
	if f == nil || number > mapResponseTrailers {
		return nil, StatusBadArgument
	}

	switch number {
	case mapRequestTrailers:
		if f.requestTrailers == nil && f.requestBody != nil && f.endOfStream {
			f.requestTrailers = f.decode.trailersOrEmpty()
		}
	case mapResponseTrailers:
		if f.responseTrailers == nil && f.responseBody != nil && f.endOfStream {
			f.responseTrailers = f.encode.trailersOrEmpty()
		}
	}

	h := f.headerMap(number)
	if h == nil {
		return nil, StatusBadArgument
	}
	return h, StatusOK
}

// headerMap returns the map of that number that the filter can work on now, or nil. A filter loses
// a map when it lets that part of the message pass, since the part then belongs to the next filter.
func (f *filter) headerMap(number uint32) *Headers {
	switch number {
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

// finalMap returns the map of that number as on_log reads it, or nil. As in Envoy, the trailers of
// the request cannot be read there.
func (s *Stream) finalMap(number uint32) *Headers {
	switch number {
	case mapRequestHeaders:
		return s.request.headers
	case mapResponseHeaders:
		return s.response.headers
	case mapResponseTrailers:
		return s.response.trailers
	}
	return nil
}

// headerMap returns the map of that number of the answer to a callout, or nil if the answer has no
// such part or no callback for an answer is running (r is nil).
func (r *calloutResponse) headerMap(number uint32) *Headers {
	switch {
	case r == nil:
		return nil
	case number == mapCallHeaders:
		return &r.headers
	default:
		return r.trailers
	}
}

// trailersOrEmpty returns the trailers of the message, to which it adds empty ones if there are
// none.
func (a *activeFilter) trailersOrEmpty() *Headers {
	if a.pipe.trailers == nil {
		a.pipe.trailers = &Headers{}
	}
	return a.pipe.trailers
}

// fieldName returns the name of a header field in parameters i and i+1, in lower case. "host" names
// the ":authority" of a request.
func (c call) fieldName(i int) string {
	name := strings.ToLower(c.str(i))
	if name == "host" && c.u32(0) == mapRequestHeaders {
		return ":authority"
	}
	return name
}

// getHeader is proxy_get_header_map_value. Its parameters are 0 the map, 1 and 2 the name, and 3
// and 4 where to return the value of the first field of that name.
func (c call) getHeader() Status {
	h, st := c.readableMap()
	if st != StatusOK {
		return st
	}

	i := h.index(c.fieldName(1))
	if i < 0 {
		return StatusNotFound
	}

	return c.putBytes(3, []byte((*h)[i][1]))
}

// getHeaders is proxy_get_header_map_pairs. Its parameters are 0 the map, and 1 and 2 where to
// return all fields. Unlike getHeader, it returns no fields and OK if the map is not available, as
// in Envoy (Context::getHeaderMapPairs).
func (c call) getHeaders() Status {
	if int(c.u32(0)) >= len(headerMapNames) {
		return StatusBadArgument
	}

	h, st := c.readableMap()
	if st != StatusOK || len(*h) == 0 {
		return c.put(1, nil)
	}

	c.in.noteResult(func() string { return quotePairs(*h) })
	return c.put(1, appendPairs(nil, *h))
}

// addHeader is proxy_add_header_map_value. Its parameters are 0 the map, 1 and 2 the name, and 3
// and 4 the value.
func (c call) addHeader() Status {
	h, st := c.writableMap()
	if st == StatusOK {
		h.add(c.fieldName(1), c.str(3))
	}
	return st
}

// replaceHeader is proxy_replace_header_map_value. Its parameters are 0 the map, 1 and 2 the name,
// and 3 and 4 the value.
func (c call) replaceHeader() Status {
	h, st := c.writableMap()
	if st == StatusOK {
		h.replace(c.fieldName(1), c.str(3))
	}
	return st
}

// removeHeader is proxy_remove_header_map_value. Its parameters are 0 the map, and 1 and 2 the
// name.
func (c call) removeHeader() Status {
	h, st := c.writableMap()
	if st == StatusOK {
		h.remove(c.fieldName(1))
	}
	return st
}

// setHeaders is proxy_set_header_map_pairs, which replaces all fields. Its parameters are 0 the
// map, and 1 and 2 the new fields.
func (c call) setHeaders() Status {
	h, st := c.writableMap()
	if st != StatusOK {
		return st
	}

	*h = parsePairs(c.bytes(1)).normalized()
	if c.u32(0) == mapRequestHeaders {
		h.moveHostToAuthority()
	}
	return StatusOK
}

// headersSize is proxy_get_header_map_size. Its parameters are 0 the map and 1 where to return its
// size in bytes. Envoy looks the map up as if for writing (Context::getHeaderMapSize), so the call
// may add trailers, and it fails for maps that can only be read: the final ones in on_log and those
// of the answer to a callout.
func (c call) headersSize() Status {
	h, st := c.writableMap()
	if st != StatusOK {
		return st
	}
	return c.put32(1, uint32(h.size()))
}
