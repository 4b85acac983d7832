package maintenance

import (
	"cmp"
	"slices"
	"strings"
)

// Request is what the decision looks at.
type Request struct {
	Method    string // :method
	Authority string // :authority
	Path      string // :path, with the query, as received

	// Headers are all of them as received, names in lower case; pseudo headers may be
	// among them. Pairs, because a repeated header is an attack on whoever reads one.
	Headers [][2]string

	// EndStream: the headers were the whole request.
	EndStream bool
	// Body is the whole body once BodyRead is set. Only a decision of [NeedBody] asks for it.
	Body     []byte
	BodyRead bool

	// Attributes must not be nil.
	Attributes Attributes
}

// Attributes are what the proxy knows about a request beyond its headers. Each is a
// host call in the filter, so each is asked for only when a rule needs it.
type Attributes interface {
	// SourceAddress is the client's address with its port, after the proxy's own
	// trusted-hop logic.
	SourceAddress() string
	// Principal is the URI name of the peer's verified certificate, or "".
	Principal() string
	// Route and Cluster are Envoy's names of them, or "".
	Route() string
	Cluster() string
	// Claim is the leaf at path of the verified JWT, as proxy-wasm serialises
	// properties: strings raw, numbers as 8 bytes little-endian, booleans as one byte,
	// lists as pairs whose keys are the items.
	Claim(path []string) (property []byte, ok bool)
}

// Header is the first value of a header, "" without one.
func (r *Request) Header(name string) string {
	for i := range r.Headers {
		if r.Headers[i][0] == name {
			return r.Headers[i][1]
		}
	}
	return ""
}

func (r *Request) headers(name string) (values []string) {
	for i := range r.Headers {
		if r.Headers[i][0] == name {
			values = append(values, r.Headers[i][1])
		}
	}
	return values
}

// canonicalHost is a Host header as servers compare it: lower case, without user
// information, port and trailing dots.
func canonicalHost(authority string) string {
	host := authority[strings.LastIndexByte(authority, '@')+1:]
	if strings.HasPrefix(host, "[") {
		if end := strings.IndexByte(host, ']'); end >= 0 {
			return strings.ToLower(host[:end+1])
		}
	}
	if i := strings.IndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimRight(host, "."))
}

// reading is a path in all the ways that a server behind the proxy may read it.
type reading struct {
	paths []string // the first is the path as sent, without the query
	// certain: all servers agree on the path, apart from letter case.
	certain bool
	query   string // what follows the first "?"
}

// maxReadings bounds how far a path's disguises are followed. A path with more is
// nobody's honest path, and counts as one that may be read as any.
const maxReadings = 64

func read(target string) (r reading) {
	path, query, _ := strings.Cut(target, "?")
	r.query = query
	if plain(path) {
		r.certain = true
		r.paths = []string{path}
		return r
	}
	r.paths = append(make([]string, 0, 8), path)
	for i := 0; i < len(r.paths) && len(r.paths) < maxReadings; i++ {
		for _, as := range [...]func(string) string{decoded, backslashed, withoutParams, cut, merged, resolved} {
			if p := as(r.paths[i]); !slices.Contains(r.paths, p) {
				r.paths = append(r.paths, p)
			}
		}
	}
	return r
}

func (r *reading) anything() bool { return len(r.paths) >= maxReadings }

// plain tells whether there is only one way to read a path.
func plain(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			if rest := path[i+1:]; strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "./") || strings.HasPrefix(rest, "../") || rest == "." || rest == ".." {
				return false
			}
		case c <= ' ' || c >= 0x7f || c == '%' || c == ';' || c == '\\' || c == '#':
			return false
		}
	}
	return true
}

// decoded undoes one level of percent encoding, IIS's %uXXXX and the overlong UTF-8
// forms of "/", "." and "\" that lenient decoders accept.
func decoded(p string) string {
	if strings.IndexByte(p, '%') < 0 {
		return p
	}
	b := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		if p[i] != '%' {
			b = append(b, p[i])
			continue
		}
		if i+5 < len(p) && p[i+1]|0x20 == 'u' && p[i+2] == '0' && p[i+3] == '0' {
			if hi, lo := unhex(p[i+4]), unhex(p[i+5]); hi >= 0 && lo >= 0 {
				b = append(b, byte(hi<<4|lo))
				i += 5
				continue
			}
		}
		if i+2 < len(p) {
			if hi, lo := unhex(p[i+1]), unhex(p[i+2]); hi >= 0 && lo >= 0 {
				c := byte(hi<<4 | lo)
				i += 2
				if n := len(b); n > 0 && (b[n-1] == 0xc0 || b[n-1] == 0xc1) && c&0xc0 == 0x80 {
					b[n-1] = b[n-1]&1<<6 | c&0x3f
					continue
				}
				b = append(b, c)
				continue
			}
		}
		b = append(b, '%')
	}
	return string(b)
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

func backslashed(p string) string { return strings.ReplaceAll(p, `\`, "/") }

// withoutParams drops ";…" from every segment (RFC 3986 section 3.3).
func withoutParams(p string) string {
	if strings.IndexByte(p, ';') < 0 {
		return p
	}
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
}

// cut ends a path where a server that decoded it may end it: at a fragment, a query
// or a NUL.
func cut(p string) string {
	if i := strings.IndexAny(p, "#?\x00"); i >= 0 {
		return p[:i]
	}
	return p
}

func merged(p string) string {
	if p == "" || p[0] != '/' {
		return "/" + p
	}
	if !strings.Contains(p, "//") {
		return p
	}
	b := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		if p[i] != '/' || i == 0 || p[i-1] != '/' {
			b = append(b, p[i])
		}
	}
	return string(b)
}

// resolved removes dot segments (RFC 3986 section 5.2.4).
func resolved(p string) string {
	if !strings.Contains(p, "/.") {
		return p
	}
	out := make([]string, 0, 16)
	segments := strings.Split(p, "/")[1:]
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}

// under tells whether path is prefix or lies below it, at a segment boundary.
func under(path, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// reaches tells whether any reading, in any letter case, lies under the prefix.
// folded is the prefix in lower case.
func (r *reading) reaches(folded string) bool {
	if r.anything() {
		return true
	}
	for _, p := range r.paths {
		if under(strings.ToLower(p), folded) {
			return true
		}
	}
	return false
}

// grants tells whether a rule that lets requests pass holds: only where all readings
// agree, only in the letter case that was written, and only for the method that any
// override names too.
func (rule *PathRule) grants(r *Request, p *reading) bool {
	return p.certain && rule.allows(r.Method) && rule.allows(cmp.Or(overrideOf(r, p), r.Method)) && rule.matches(p.paths[0])
}

func (rule *PathRule) matches(path string) bool {
	if rule.Path != "" {
		return path == rule.Path
	}
	return under(path, rule.Prefix)
}

func (rule *PathRule) allows(method string) bool {
	if len(rule.Methods) == 0 || slices.Contains(rule.Methods, method) {
		return true
	}
	return method == "HEAD" && slices.Contains(rule.Methods, "GET")
}
