package maintenance

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Request is a request to decide on. It keeps what a decision finds out about it, for the next
// decision. So between two decisions nothing may be changed but its body, and [Request.Compact] may
// be called.
type Request struct {
	Method    string // :method
	Authority string // :authority
	Path      string // :path, with the query, as received

	// Headers are all headers as received, with names in lower case. They may include the
	// pseudo-headers, and repeated headers.
	Headers [][2]string

	// EndStream means that the request has no body and no trailers.
	EndStream bool
	// Body is the body, once BodyRead is set: all of it, or of a body of more than
	// [Decision.MaxBody] bytes at least one byte more than those. It is only needed after a
	// decision of [NeedBody].
	Body     []byte
	BodyRead bool

	// Attributes must not be nil.
	Attributes Attributes

	readings readings // what interpret returns

	claims     string // what verifiedClaims returns, once claimsRead is set
	claimsRead bool
}

// Attributes are what the proxy knows about a request beyond its headers. In the filter each method
// is a host call, so a decision calls it only when a rule needs the value.
type Attributes interface {
	// SourceAddress returns the address of the client, with its port, that the proxy determined:
	// the peer's, or the one in X-Forwarded-For before the hops that the proxy trusts.
	SourceAddress() string
	// Principal returns the URI in the peer's verified certificate, such as a SPIFFE id, or "".
	Principal() string
	// Route and Cluster return Envoy's names of the route and the cluster of the request, or "".
	Route() string
	Cluster() string
	// Claims returns the claims of the request's verified JWT, empty without one. It is called at
	// most once per request.
	Claims() Claims
}

// NoAttributes are the attributes of a request about which nothing is known beyond its headers.
// Types that know some attributes embed it for the others.
type NoAttributes struct{}

func (NoAttributes) SourceAddress() string { return "" }
func (NoAttributes) Principal() string     { return "" }
func (NoAttributes) Route() string         { return "" }
func (NoAttributes) Cluster() string       { return "" }
func (NoAttributes) Claims() Claims        { return "" }

// NewRequest returns the request with these headers, which include the pseudo-headers. endStream
// means that it has no body and no trailers.
func NewRequest(headers [][2]string, endStream bool, attributes Attributes) *Request {
	r := &Request{Headers: headers, EndStream: endStream, Attributes: attributes}
	for i := range headers {
		switch value := headers[i][1]; headers[i][0] {
		case ":method":
			r.Method = value
		case ":authority":
			r.Authority = value
		case ":path":
			r.Path = value
		}
	}

	return r
}

// A header can be looked up in two ways. What lets a request pass, or makes the reply, looks for
// the exact name. What refuses a request looks for every spelling that some server accepts for the
// name, so that a further header can only make a decision stricter.

// Header returns the first value of the header with exactly this name, or "".
func (r *Request) Header(name string) string {
	for i := range r.Headers {
		if r.Headers[i][0] == name {
			return r.Headers[i][1]
		}
	}
	return ""
}

// headerValues returns the values of all headers with exactly this name.
func (r *Request) headerValues(name string) (values []string) {
	for i := range r.Headers {
		if r.Headers[i][0] == name {
			values = append(values, r.Headers[i][1])
		}
	}
	return values
}

// soleValue returns the value of a header that is there once, with exactly this name, and in no
// other spelling that some server accepts for it.
func (r *Request) soleValue(name string) (value string, ok bool) {
	for i := range r.Headers {
		switch got := r.Headers[i][0]; {
		case !mayMean(got, name):
		case ok || got != name: // a second header, or another spelling
			return "", false
		default:
			value, ok = r.Headers[i][1], true
		}
	}

	return value, ok
}

// valuesInAnySpelling returns the values of all headers that some server accepts for name.
func (r *Request) valuesInAnySpelling(name string) (values []string) {
	for i := range r.Headers {
		if mayMean(r.Headers[i][0], name) {
			values = append(values, r.Headers[i][1])
		}
	}
	return values
}

// hasInAnySpelling reports whether the request has a header that some server accepts for name.
func (r *Request) hasInAnySpelling(name string) bool {
	return slices.ContainsFunc(r.Headers, func(h [2]string) bool { return mayMean(h[0], name) })
}

// mayMean reports whether some server accepts the header got for name, which is in lower case with
// hyphens. Gateways that make variables of headers replace characters other than letters and digits
// by "_" (lighttpd's CGI and FastCGI; RFC 3875 section 4.1.18 requires it only for "-"), so each of
// them may stand for a hyphen.
func mayMean(got, name string) bool {
	if len(got) != len(name) {
		return false
	}

	for i := range len(got) {
		if got[i] != name[i] && (name[i] != '-' || isAlphanumeric(got[i])) { // no stand-in for a hyphen
			return false
		}
	}

	return true
}

// ReservedHeader reports whether only the filter may set a header: one that begins with x-drydock-,
// in any spelling that some server accepts for it.
func ReservedHeader(name string) bool {
	const prefix = "x-drydock-"
	return len(name) > len(prefix) && mayMean(name[:len(prefix)], prefix)
}

// UnsafeTrailer reports whether a trailer of this name must not reach the server. Some servers
// treat trailers like headers (uvicorn merges them, although RFC 9110 section 6.5.1 forbids it for
// most names), and a decision does not see trailers.
func UnsafeTrailer(name string) bool {
	is := func(known string) bool { return mayMean(name, known) }
	return ReservedHeader(name) || namesOverride(name, false) || strings.HasPrefix(name, "content") ||
		slices.ContainsFunc([]string{"x-method", "cookie", "forwarded", "upgrade", "transfer-encoding", "accept"}, is) ||
		slices.ContainsFunc(slices.Concat(pathHeaders[:], prefixHeaders[:], hostHeaders[:]), is)
}

// LikelyNeedsBody reports whether the decision on a request is likely to need the body
// ([NeedBody]). It is for the time before there is a state, when a request waits and its body may
// be read meanwhile. It looks only at the headers.
func (r *Request) LikelyNeedsBody() bool {
	length, err := strconv.Atoi(r.Header("content-length"))
	if err == nil && length > DefaultMaxBody {
		return false
	}

	switch r.Method {
	case "POST":
		mediaType := strings.ToLower(r.Header("content-type"))
		return strings.Contains(mediaType, "json") || strings.Contains(mediaType, "urlencoded")
	case "GET", "HEAD", "OPTIONS":
		return !r.EndStream // only a body that turns out to be empty will pass
	}

	return false
}

// hasUnexpectedBody returns whether a request has a body that has no meaning with its method (RFC
// 9110 section 9.3.1). Some servers act on it all the same, and others take it for the next request
// on the connection (Python's http.server, NanoHTTPD).
func (r *Request) hasUnexpectedBody() answer {
	switch {
	case !isSafeMethod(r.Method) || r.EndStream:
		return answerNo
	case r.interpret().upgrade:
		// What follows an upgrade belongs to the other protocol and may have no end, so it is not
		// awaited.
		if r.announcedBytes() > 0 || r.hasInAnySpelling("transfer-encoding") {
			return answerYes
		}

		return answerNo
	case r.BodyRead && len(r.Body) == 0:
		return answerNo
	case r.BodyRead || r.announcedBytes() > 0:
		return answerYes
	}

	return answerNeedsBody // in HTTP/2, or chunked, it may turn out to be empty
}

// announcedBytes returns the Content-Length, or 0 if there is none or it is not a number. It is
// only used to refuse: a body that is too long to be judged need not be awaited.
func (r *Request) announcedBytes() int {
	length := r.Header("content-length")
	if strings.Trim(length, "0123456789") != "" {
		return 0
	}

	n, err := strconv.Atoi(length)
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxInt
	}

	return n
}

// keptHeaders are the headers that a later decision or the reply needs after [Request.Compact].
var keptHeaders = [...]string{
	"accept", "accept-language", "content-encoding", "content-length", "content-type", "origin", "transfer-encoding",
	"access-control-request-headers", "access-control-request-method",
}

// Compact reduces the memory of a request that is to be paused, and returns the number of bytes
// that its strings then take. It first finds out all that a decision needs of the headers. It then
// drops those that neither a later decision nor the reply needs, and copies the rest: the strings
// that a proxy hands out share one large buffer, which any of them would keep in memory.
func (r *Request) Compact() (bytes int) {
	keep := func(s string) string {
		bytes += len(s)
		return strings.Clone(s)
	}
	keepAll := func(list []string) []string {
		kept := make([]string, len(list))
		for i := range list {
			kept[i] = keep(list[i])
		}

		return kept
	}

	rs := r.interpret()
	r.overrideMethod() // kept in the readings

	kept := make([][2]string, 0, len(keptHeaders))
	for _, h := range r.Headers {
		if slices.ContainsFunc(keptHeaders[:], func(name string) bool { return mayMean(h[0], name) }) {
			kept = append(kept, [2]string{keep(h[0]), keep(h[1])})
		}
	}

	r.Headers = kept
	r.Method, r.Authority, r.Path = keep(r.Method), keep(r.Authority), keep(r.Path)
	r.claims = keep(r.claims)

	rs.paths, rs.folded, rs.hosts = keepAll(rs.paths), keepAll(rs.folded), keepAll(rs.hosts)
	rs.pathBuf, rs.foldedBuf, rs.hostBuf = [2]string{}, [2]string{}, [1]string{}
	rs.prefixes, rs.cuts = nil, nil // not needed any more, and they refer to the buffer
	rs.query, rs.overrideMethod = keep(rs.query), keep(rs.overrideMethod)

	return bytes
}
