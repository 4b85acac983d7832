package maintenance

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
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
		if sameHeader(r.Headers[i][0], name) {
			return r.Headers[i][1]
		}
	}
	return ""
}

func (r *Request) headers(name string) (values []string) {
	for i := range r.Headers {
		if sameHeader(r.Headers[i][0], name) {
			values = append(values, r.Headers[i][1])
		}
	}
	return values
}

func (r *Request) has(name string) bool {
	return slices.ContainsFunc(r.Headers, func(h [2]string) bool { return sameHeader(h[0], name) })
}

// sameHeader takes - and _ for one, as servers do that make CGI variables of headers
// (RFC 3875 section 4.1.18): WSGI, Rack, PHP.
func sameHeader(got, name string) bool {
	if len(got) != len(name) {
		return false
	}
	for i := range len(got) {
		if got[i] != name[i] && !(got[i] == '_' && name[i] == '-') {
			return false
		}
	}
	return true
}

// canonicalHost is a Host header as servers compare it: lower case, without port and
// trailing dots.
func canonicalHost(host string) string {
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

// reading is a path in all the ways in which a server behind the proxy may read it.
type reading struct {
	sent   string   // as sent, without the query
	others []string // further ways
	// certain: all servers agree on the path, apart from letter case.
	certain bool
	// anything: there are too many ways to follow, so it may be any path of its host;
	// anywhere: of any host.
	anything, anywhere bool
	query              string // what may be read as the query, joined by "&"
}

func (p *reading) len() int { return 1 + len(p.others) }

func (p *reading) at(i int) string {
	if i == 0 {
		return p.sent
	}
	return p.others[i-1]
}

// Bounds on how far a path's disguises are followed. A path past them is nobody's
// honest path.
const (
	maxReadings  = 64
	maxDisguised = 4 << 10 // bytes
)

// disguises are what servers undo before they look a path up; some of them undo some,
// in any order, more than once.
var disguises = [...]func(string) string{
	decoded, decodedInSegments, overlong, backslashed, withoutParams, merged, withoutAuthority, resolved,
	func(p string) string { return upTo(p, '#') },
	func(p string) string { return upTo(p, '?') },
	func(p string) string { return upTo(p, ';') },
	func(p string) string { return upTo(p, 0) },
}

func read(r *Request) (p reading) {
	p.sent, p.query, _ = strings.Cut(r.Path, "?")
	switch p.certain = plain(p.sent); {
	case p.sent == "" || p.sent == "*": // CONNECT, OPTIONS * (RFC 9112 section 3.2)
		p.sent = "/"
	case p.sent[0] != '/': // absolute-form, which Envoy resolves unless told otherwise
		p.anything, p.anywhere = true, true
		return p
	}
	p.readRewritten(r)
	if !p.certain {
		p.follow()
	}
	return p
}

// readRewritten adds the path of headers by which IIS's rewriting modules hand on a
// path, and which some frameworks believe from anybody.
func (p *reading) readRewritten(r *Request) {
	for i := range r.Headers {
		if name := r.Headers[i][0]; sameHeader(name, "x-original-url") || sameHeader(name, "x-rewrite-url") {
			path, query, _ := strings.Cut(r.Headers[i][1], "?")
			if scheme, rest, ok := strings.Cut(path, "://"); ok && !strings.Contains(scheme, "/") {
				path = withoutAuthority("//" + rest)
			}
			if path != p.sent {
				p.certain = false
				p.others = append(p.others, path)
			}
			if query != "" && query != p.query {
				p.query += "&" + query
			}
		}
	}
}

func (p *reading) follow() {
	for i := 0; i < p.len(); i++ {
		if len(p.at(i)) > maxDisguised {
			p.anything = true
			return
		}
		for _, undone := range disguises {
			path := undone(p.at(i))
			if path == p.sent || slices.Contains(p.others, path) {
				continue
			}
			if p.len() >= maxReadings {
				p.anything = true
				return
			}
			p.others = append(p.others, path)
			if _, query, ok := strings.Cut(path, "?"); ok {
				p.query += "&" + query
			}
		}
	}
}

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

// decoded undoes one level of percent encoding, and IIS's %uXXXX where it hides ASCII.
func decoded(p string) string { return unescape(p, "") }

// decodedInSegments leaves encoded slashes, as servers do that split a path before
// they decode it (RFC 3986 section 2.2), so that "a%2fb/%2e%2e" is one segment up.
func decodedInSegments(p string) string { return unescape(p, `/\`) }

func unescape(p, except string) string {
	if strings.IndexByte(p, '%') < 0 {
		return p
	}
	b := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		c, size := p[i], 1
		if c == '%' {
			if d, n := escape(p[i:]); n > 0 && strings.IndexByte(except, d) < 0 {
				c, size = d, n
			}
		}
		b = append(b, c)
		i += size - 1
	}
	return string(b)
}

// escape decodes the %XX or %u00XX that s begins with; size is 0 where it does not.
func escape(s string) (c byte, size int) {
	digits := 1
	if len(s) > 4 && s[1]|0x20 == 'u' && s[2:4] == "00" {
		digits = 4
	}
	if len(s) < digits+2 {
		return 0, 0
	}
	hi, lo := unhex(s[digits]), unhex(s[digits+1])
	if hi < 0 || lo < 0 {
		return 0, 0
	}
	return byte(hi<<4 | lo), digits + 2
}

// overlong undoes forms of ASCII characters that UTF-8 forbids (RFC 3629 section 3)
// and lenient decoders accept: C0 AF, E0 80 AF and F0 80 80 AF for "/".
func overlong(p string) string {
	if strings.IndexFunc(p, func(r rune) bool { return r == utf8.RuneError }) < 0 {
		return p
	}
	b := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		lead, last := p[i], i // last is where the form's last byte is
		switch {
		case lead|1 == 0xc1:
			last = i + 1
		case strings.HasPrefix(p[i:], "\xe0\x80"), strings.HasPrefix(p[i:], "\xe0\x81"):
			lead, last = p[i+1], i+2
		case strings.HasPrefix(p[i:], "\xf0\x80\x80"), strings.HasPrefix(p[i:], "\xf0\x80\x81"):
			lead, last = p[i+2], i+3
		}
		if last > i && last < len(p) && p[last]&0xc0 == 0x80 {
			b = append(b, lead&1<<6|p[last]&0x3f)
			i = last
		} else {
			b = append(b, p[i])
		}
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

// upTo ends a path where a server that decoded it may end it.
func upTo(p string, end byte) string {
	if i := strings.IndexByte(p, end); i >= 0 {
		return p[:i]
	}
	return p
}

// withoutAuthority is what a server sees that takes the beginning for a network-path
// reference (RFC 3986 section 4.2).
func withoutAuthority(p string) string {
	if !strings.HasPrefix(p, "//") {
		return p
	}
	if i := strings.IndexByte(p[2:], '/'); i >= 0 {
		return p[2+i:]
	}
	return "/"
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

// fold is a text without its letter case. ASCII letters have relatives outside ASCII,
// such as the Kelvin sign, that some servers take for them.
func fold(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return strings.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, s)
		}
	}
	return strings.ToLower(s)
}

// reaches tells whether any reading, in any letter case, lies under the folded prefix.
func (p *reading) reaches(prefix string) bool {
	if p.anything {
		return true
	}
	for i := range p.len() {
		if under(fold(p.at(i)), prefix) {
			return true
		}
	}
	return false
}

// grants tells whether a rule that lets requests pass holds: only where all readings
// agree, only in the letter case that was written, and only for the method that any
// override names too.
func (rule *PathRule) grants(r *Request, p *reading) bool {
	return p.certain && rule.matches(p.sent) && rule.allows(r.Method) && rule.allows(cmp.Or(overrideOf(r, p), r.Method))
}

func (rule *PathRule) matches(path string) bool {
	if rule.Path != "" {
		return path == rule.Path
	}
	return under(path, rule.Prefix)
}

// catches is the opposite of grants: any reading of the path, in any letter case. The
// rule's paths are folded.
func (rule *PathRule) catches(r *Request, p *reading) bool {
	if !rule.allows(r.Method) {
		return false
	}
	if rule.Prefix != "" || p.anything {
		return p.reaches(rule.Prefix)
	}
	for i := range p.len() {
		if strings.TrimSuffix(fold(p.at(i)), "/") == strings.TrimSuffix(rule.Path, "/") {
			return true
		}
	}
	return false
}

func (rule *PathRule) allows(method string) bool {
	return len(rule.Methods) == 0 || slices.Contains(rule.Methods, method) ||
		method == "HEAD" && slices.Contains(rule.Methods, "GET")
}

// Headers by which frameworks let a request name another method than its own: Rails,
// Laravel, Symfony, Express, ASP.NET, Google's APIs.
var overrideHeaders = [...]string{"x-http-method-override", "x-http-method", "x-method-override", "x-method", "http-method-override"}

// overrideOf is the method that a request's headers or query name beside its own, ""
// without one, and "?" where there are several or it cannot be told.
func overrideOf(r *Request, p *reading) (method string) {
	for i := range r.Headers {
		if slices.ContainsFunc(overrideHeaders[:], func(name string) bool { return sameHeader(r.Headers[i][0], name) }) {
			method = oneMore(method, r.Headers[i][1])
		}
	}
	return overrideIn(p.query, method)
}

func overrideIn(query, method string) string {
	for query != "" && method != "?" {
		part := query
		if i := strings.IndexAny(query, "&;"); i >= 0 {
			part, query = query[:i], query[i+1:]
		} else {
			query = ""
		}
		if name, value, _ := strings.Cut(part, "="); namesMethod(decoded(decoded(name))) {
			method = oneMore(method, decoded(value))
		}
	}
	return method
}

func oneMore(method, named string) string {
	named = strings.ToUpper(strings.TrimSpace(named))
	if method != "" || named == "" {
		return "?"
	}
	return named
}

// namesMethod tells whether a parameter is one by which frameworks override a method.
// PHP drops blanks before a name, ends it at a NUL, and takes dots, blanks and a
// bracket in it for underscores.
func namesMethod(name string) bool {
	name = strings.TrimLeft(upTo(name, 0), " +")
	if len(name) < len("_method") {
		return false
	}
	name = fold(name)
	// A bracket behind the name makes it a list, which some frameworks flatten.
	name = name[:1] + upTo(name[1:], '[')
	switch strings.Map(func(r rune) rune {
		if strings.ContainsRune(".[-+ ", r) {
			return '_'
		}
		return r
	}, name) {
	case "_method", "$method", "x_http_method_override", "x_http_method", "x_method_override":
		return true
	}
	return false
}
