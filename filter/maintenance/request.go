package maintenance

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Request is what a decision looks at. A request must not be changed between two
// decisions on it, except that its body may be set and that [Request.Compact] may be
// called.
type Request struct {
	Method    string // :method
	Authority string // :authority
	Path      string // :path, with the query, as received

	// Headers are all headers as received, names in lower case; pseudo-headers may be
	// among them. They are pairs because a header may be repeated.
	Headers [][2]string

	// EndStream reports that the request ended with its headers.
	EndStream bool
	// Body is the whole body once BodyRead is set, or one byte more than the
	// [Decision.MaxBody] that was asked for. Only a decision of [NeedBody] asks for it.
	Body     []byte
	BodyRead bool

	// Attributes must not be nil.
	Attributes Attributes

	readings readings

	claims     string // what verifiedClaims returns, once claimsRead is set
	claimsRead bool
}

// Attributes are what the proxy knows about a request beyond its headers. In the filter
// each method is a host call, so a decision calls it only when a rule needs the value.
type Attributes interface {
	// SourceAddress is the client's address with its port, after the proxy's own
	// trusted-hop logic.
	SourceAddress() string
	// Principal is the URI name of the peer's verified certificate, or "".
	Principal() string
	// Route and Cluster are Envoy's names of them, or "".
	Route() string
	Cluster() string
	// Claims are those of the request's verified JWT, empty without one. They are asked
	// for at most once per request, and only where a claim rule must be judged.
	Claims() Claims
}

// NewRequest returns a request as a proxy received it, with pseudo-headers among its
// headers.
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

// A header is read in two ways, and which one is right depends on what the reader
// does with it. Whatever lets a request pass, or makes the reply, asks for the exact
// name. Whatever refuses a request asks for every spelling that some server takes for
// the name; adding a header can then only make a decision stricter.

// Header returns the first value of the header with exactly this name, or "".
func (r *Request) Header(name string) string {
	for i := range r.Headers {
		if r.Headers[i][0] == name {
			return r.Headers[i][1]
		}
	}
	return ""
}

// headers returns the values of every header with exactly this name.
func (r *Request) headers(name string) (values []string) {
	for i := range r.Headers {
		if r.Headers[i][0] == name {
			values = append(values, r.Headers[i][1])
		}
	}
	return values
}

// only returns the value of a header that is there once, in this spelling and in no
// other that some server takes for it.
func (r *Request) only(name string) (value string, ok bool) {
	for i := range r.Headers {
		switch got := r.Headers[i][0]; {
		case !mayMean(got, name):
		case ok || got != name:
			return "", false
		default:
			value, ok = r.Headers[i][1], true
		}
	}
	return value, ok
}

// anySpelling returns the values of every header that some server takes for name.
func (r *Request) anySpelling(name string) (values []string) {
	for i := range r.Headers {
		if mayMean(r.Headers[i][0], name) {
			values = append(values, r.Headers[i][1])
		}
	}
	return values
}

// has reports whether there is a header that some server takes for name.
func (r *Request) has(name string) bool {
	return slices.ContainsFunc(r.Headers, func(h [2]string) bool { return mayMean(h[0], name) })
}

// mayMean reports whether some server takes the header got for the one called name,
// which is in lower case with hyphens. Gateways that make variables of headers replace
// every character that is not a letter or a digit by "_" (lighttpd's CGI and FastCGI;
// RFC 3875 section 4.1.18 asks for that only of "-"), so any of them may stand for a
// hyphen.
func mayMean(got, name string) bool {
	if len(got) != len(name) {
		return false
	}
	for i := range len(got) {
		if got[i] != name[i] && (name[i] != '-' || alphanumeric(got[i])) {
			return false
		}
	}
	return true
}

// ReservedHeader reports whether only the filter may set a header: x-drydock-mode and its
// like, with whatever servers take for a hyphen.
func ReservedHeader(name string) bool {
	const longest = len("x-drydock-")
	return len(name) > longest && mayMean(name[:longest], "x-drydock-")
}

// UnsafeTrailer reports whether a header, which some server may take from a request's
// trailers (RFC 9110 section 6.5.1 forbids most of them there; uvicorn merges all), would
// change how the request is read. A decision does not see trailers, so they must not
// reach the server.
func UnsafeTrailer(name string) bool {
	is := func(known string) bool { return mayMean(name, known) }
	return ReservedHeader(name) || namesOverride(name, false) || strings.HasPrefix(name, "content") ||
		slices.ContainsFunc([]string{"x-method", "cookie", "host", "forwarded", "upgrade", "transfer-encoding", "accept"}, is) ||
		slices.ContainsFunc(slices.Concat(pathHeaders[:], prefixHeaders[:], hostHeaders[:]), is)
}

// LikelyNeedsBody reports whether a state is likely to ask for the body of a request
// ([NeedBody]). It answers by the headers alone, before there is a state.
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
		return !r.EndStream // a body that should not be there, or an empty one
	}
	return false
}

// unexpectedBody answers whether a request has a body though its method gives a body no
// meaning (RFC 9110 section 9.3.1). Some servers act on one all the same, and others
// take it for the next request on the connection (Python's http.server, NanoHTTPD).
func (r *Request) unexpectedBody() answer {
	switch {
	case !safe(r.Method) || r.EndStream:
		return answerNo
	case r.read().upgrade:
		// What follows an upgrade is the other protocol's, and nobody can wait for its end.
		if r.announcedBytes() > 0 || r.has("transfer-encoding") {
			return answerYes
		}
		return answerNo
	case r.BodyRead && len(r.Body) == 0:
		return answerNo
	case r.BodyRead || r.announcedBytes() > 0:
		return answerYes
	}
	return answerNeedsBody // HTTP/2 and chunked bodies may turn out to be empty
}

// announcedBytes returns the length of the body by the Content-Length, or 0 where there
// is none or it is no number. It only refuses: what is longer than is looked at need not
// be held first.
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

// keptHeaders are what a later decision or a reply looks at after [Request.Compact].
var keptHeaders = [...]string{
	"accept", "accept-language", "content-encoding", "content-length", "content-type", "origin", "transfer-encoding",
	"access-control-request-headers", "access-control-request-method",
}

// Compact makes a request fit to be held while its body is awaited. It reads what the
// headers say beyond those that a later decision or the reply needs, drops the others,
// and copies what stays, since the strings that a proxy hands out share one large
// buffer. It returns the number of bytes that the request then keeps.
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

	ways := r.read()
	r.override()

	kept := make([][2]string, 0, len(keptHeaders))
	for _, h := range r.Headers {
		if slices.ContainsFunc(keptHeaders[:], func(name string) bool { return mayMean(h[0], name) }) {
			kept = append(kept, [2]string{keep(h[0]), keep(h[1])})
		}
	}
	r.Headers = kept

	r.Method, r.Authority, r.Path = keep(r.Method), keep(r.Authority), keep(r.Path)
	r.claims = keep(r.claims)
	ways.paths, ways.folded, ways.hosts = keepAll(ways.paths), keepAll(ways.folded), keepAll(ways.hosts)
	ways.pathBuf, ways.foldedBuf, ways.hostBuf = [2]string{}, [2]string{}, [1]string{}
	ways.prefixes, ways.cuts = nil, nil // they have been read, and would keep the buffer
	ways.query, ways.overrideMethod = keep(ways.query), keep(ways.overrideMethod)
	return bytes
}
