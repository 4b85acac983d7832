package wasmhost

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// Status is what a proxy-wasm host call returns (ABI 0.2.1, proxy_status_t).
type Status uint32

// The statuses of the ABI that this host uses.
const (
	StatusOK                   Status = 0
	StatusNotFound             Status = 1
	StatusBadArgument          Status = 2
	StatusSerializationFailure Status = 3
	StatusParseFailure         Status = 4
	StatusInvalidMemoryAccess  Status = 6
	StatusEmpty                Status = 7
	StatusCasMismatch          Status = 8
	StatusInternalFailure      Status = 10
	StatusBrokenConnection     Status = 11
	StatusUnimplemented        Status = 12
)

func (s Status) String() string {
	return enum(s, "OK", "NotFound", "BadArgument", "SerializationFailure", "ParseFailure", "BadExpression", "InvalidMemoryAccess",
		"Empty", "CasMismatch", "ResultMismatch", "InternalFailure", "BrokenConnection", "Unimplemented")
}

func enum[T ~uint32](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.FormatUint(uint64(v), 10)
}

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

func (h *Headers) remove(name string) {
	name = strings.ToLower(name)
	*h = slices.DeleteFunc(*h, func(f [2]string) bool { return f[0] == name })
}

// put changes a field where it stands, or appends it.
func (h *Headers) put(name, value string) {
	if i := h.index(name); i >= 0 {
		(*h)[i][1] = value
		return
	}
	*h = append(*h, [2]string{name, value})
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

func (h *Headers) set(name, value string) {
	h.remove(name)
	h.add(name, value)
}

// appendPairs writes proxy-wasm pairs: the count, all lengths, then names and values each with a terminating zero.
func appendPairs(b []byte, pairs [][2]string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(pairs)))
	for _, p := range pairs {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p[0])))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p[1])))
	}
	for _, p := range pairs {
		b = append(append(b, p[0]...), 0)
		b = append(append(b, p[1]...), 0)
	}
	return b
}

// parsePairs reads proxy-wasm pairs. What is malformed, has more than 1024 pairs or 1 MiB reads as none, as in
// proxy-wasm-cpp-host (limits.h, pairs_util.cc).
func parsePairs(b []byte) Headers {
	if len(b) < 4 || len(b) > 1<<20 {
		return nil
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n > 1024 || len(b) < 4+8*n {
		return nil
	}
	sizes, rest := b[4:4+8*n], b[4+8*n:]
	field := func() (string, bool) {
		size := uint64(binary.LittleEndian.Uint32(sizes))
		sizes = sizes[4:]
		if size+1 > uint64(len(rest)) || rest[size] != 0 {
			return "", false
		}
		s := string(rest[:size])
		rest = rest[size+1:]
		return s, true
	}
	pairs := make(Headers, n)
	for i := range pairs {
		for j := range pairs[i] {
			var ok bool
			if pairs[i][j], ok = field(); !ok {
				return nil
			}
		}
	}
	if len(rest) > 0 {
		return nil
	}
	return pairs
}
