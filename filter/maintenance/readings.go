package maintenance

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// readings are all the ways in which servers behind the proxy may read the host and the path of a
// request. Two servers may look up different paths for one request: to one, "/a/..%2fb" is a name
// below /a, to another it is /b. The filter does not know its server, so it keeps both readings.
//
// A rule asks the readings in one of two ways. A rule that refuses asks whether some server may
// read the path so: [readings.mayBe], [readings.mayReach]. A rule that lets pass asks whether every
// server does: [readings.surelyIs], [readings.surelyUnder]. So further readings only make a
// decision stricter.
//
// docs/read-only.md, "The book of readings", names the servers. A new reading needs a row there, an
// entry in pathWays (pathways.go) or in the lists of headers below, and a test.
type readings struct {
	done bool // whether the readings have been computed

	// paths are all readings of the path, beginning with the path as sent. folded are the same
	// paths in lower case; it is empty if anyPath is set.
	paths, folded []string
	// prefixes are what some server removes from the beginning of the path because of headers. cuts
	// are what some server removes together with everything before it.
	prefixes, cuts []string
	// pathFromHeader means that a header makes some server read another path than the one that was
	// sent.
	pathFromHeader bool
	// anyPath means that there are more readings than were followed, so that the path may be any
	// path on its hosts.
	anyPath bool

	// hosts are the names under which the request may be served, beginning with :authority.
	hosts []string
	// anyHost means that the host may be read as any name.
	anyHost bool

	// query is everything that may be read as the query, joined by "&".
	query string
	// upgrade means that the connection may carry another protocol than HTTP.
	upgrade bool

	// overrideMethod is what [Request.overrideMethod] returns, once overrideRead is set.
	overrideMethod string
	overrideRead   bool
	// bodyNamesMethod is what [Request.bodyNamesMethod] returns, once bodyRead is set.
	bodyNamesMethod, bodyRead bool
	// graphQLRule is what [graphql.JSON] returned for the body, once graphQLRead is set. It is
	// valid for options with these limits and this policy for batches.
	graphQLRule                  graphql.Rule
	graphQLLimits                [4]int
	graphQLBatching, graphQLRead bool

	// Most requests have one reading. Its slices are in these arrays, so nothing is allocated.
	pathBuf, foldedBuf [2]string
	hostBuf            [1]string
}

// Bounds on how far the readings of a path are followed, so that one request cannot cost as much as
// many. Honest paths stay below them. For a path beyond them anyPath is set, and for a host
// anyHost.
const (
	maxReadings    = 32
	maxReadingWork = 4 << 10  // bytes of all readings together
	maxReadPath    = 4 << 10  // bytes of the path as sent, and of a header that names hosts
	maxDecodeWork  = 16 << 10 // bytes of a path that is not followed, decoded to its end
	maxHostBytes   = 255      // RFC 1035 section 2.3.4
)

// Headers in which gateways pass on the original request, and which some servers believe no matter
// who sent them.
var (
	// pathHeaders contain the path that the server must serve.
	pathHeaders = [...]string{"x-original-url", "x-rewrite-url"}
	// prefixHeaders contain a prefix that the server must remove from the path.
	prefixHeaders = [...]string{"script-name", "x-script-name", "x-forwarded-prefix"}
	// hostHeaders contain the host that the request is for. A host header beside another :authority
	// (RFC 9113 section 8.3.1) is discarded by Envoy, and forwarded by other gateways.
	hostHeaders = [...]string{"host", "x-forwarded-host", "x-original-host", "x-host", "x-http-host-override", "x-forwarded-server"}
)

// interpret returns the readings of a request. It computes them the first time that it is called.
func (r *Request) interpret() *readings {
	rs := &r.readings
	if rs.done {
		return rs
	}

	rs.done = true
	rs.paths, rs.folded, rs.hosts = rs.pathBuf[:0], rs.foldedBuf[:0], rs.hostBuf[:0]

	path, query, _ := strings.Cut(r.Path, "?")
	rs.query = query
	rs.upgrade = r.Method == "CONNECT" || r.hasInAnySpelling("upgrade") || r.hasInAnySpelling(":protocol")
	rs.readHost(r.Authority)

	switch {
	case path == "" || path == "*": // CONNECT, OPTIONS * (RFC 9112 section 3.2)
		path = "/"
	case path[0] != '/': // a whole URL, which Envoy resolves unless it is configured otherwise
		rs.anyPath, rs.anyHost = true, true
	}

	rs.paths = append(rs.paths, path)
	rs.readHeaders(r)
	if !rs.anyPath {
		rs.followPaths()
	}

	if rs.anyPath {
		// A reading that was not followed may begin with "//", and so name a host.
		rs.anyHost = rs.anyHost || slices.ContainsFunc(rs.paths, mayNameHost)
		return rs
	}

	for _, path := range rs.paths {
		rs.folded = append(rs.folded, fold(path))
	}

	return rs
}

// mayNameHost reports whether some reading of a path may begin with two slashes, and so name a
// host. It does not follow the readings, but looks whether the fully decoded path has anything that
// some server turns into an empty segment.
func mayNameHost(path string) bool {
	// What may make an empty segment, or have one removed before it.
	const leads = hasEscape | hasBackslash | hasSemicolon | hasEmpty | hasEdges | hasLineEnds
	for work := len(path); work <= maxDecodeWork; work += len(path) {
		next := percentDecode(path)
		if next == path {
			return traitsOf(path)&leads != 0 || !utf8.ValidString(path)
		}

		path = next
	}

	return true
}

// readHeaders adds the hosts and paths in headers. A header counts in every spelling that some
// server accepts for its name.
func (rs *readings) readHeaders(r *Request) {
	for i := range r.Headers {
		name, value := r.Headers[i][0], r.Headers[i][1]
		is := func(known string) bool { return mayMean(name, known) }

		switch {
		case len(value) > maxReadPath && (is("forwarded") || slices.ContainsFunc(hostHeaders[:], is)):
			rs.anyHost = true
		case slices.ContainsFunc(hostHeaders[:], is):
			for host := range strings.SplitSeq(value, ",") {
				rs.readHost(strings.TrimSpace(host))
			}
		case is("forwarded"):
			rs.readForwarded(value)
		case slices.ContainsFunc(pathHeaders[:], is):
			rs.readPath(value)
		case slices.ContainsFunc(prefixHeaders[:], is):
			rs.readPrefix(value, is("script-name"))
		}
	}
}

// readForwarded adds the hosts of a Forwarded header (RFC 7239 section 5.3).
func (rs *readings) readForwarded(value string) {
	for part := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || r == ';' }) {
		name, host, _ := strings.Cut(part, "=")
		if strings.EqualFold(strings.TrimSpace(name), "host") {
			rs.readHost(strings.Trim(host, `" `+"\t"))
		}
	}
}

// readHost adds a name under which the request may be served. A host may have characters that
// neither names nor addresses have. Then servers can read it in several ways: as user information
// before another host, as a list, or as percent-encoded (WHATWG URL, section 3.5). So it may be any
// host.
func (rs *readings) readHost(host string) {
	if len(host) > maxHostBytes || !plainHost(host) || len(rs.hosts) >= maxReadings {
		rs.anyHost = true
		return
	}

	if name := canonicalHost(host); !slices.Contains(rs.hosts, name) {
		rs.hosts = append(rs.hosts, name)
	}
}

// plainHost reports whether every server reads a host alike. It is then a name or an address,
// possibly with a port.
func plainHost(host string) bool {
	if address, found := strings.CutPrefix(host, "["); found {
		address, port, closed := strings.Cut(address, "]")
		isPort := port == "" || port[0] == ':' && strings.Trim(port[1:], "0123456789") == ""
		return closed && isPort && strings.Trim(address, "0123456789abcdefABCDEF:.") == ""
	}

	for i := range len(host) {
		if c := host[i]; !isAlphanumeric(c) && c != '.' && c != ':' && c != '_' && c != '-' {
			return false
		}
	}

	return true
}

// canonicalHost returns a host as servers compare it: in lower case, without port and trailing
// dots.
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

// readPath adds the path and the query in the value of a header, which is a path or a URL.
func (rs *readings) readPath(value string) {
	path, query, _ := strings.Cut(value, "?")
	if scheme, rest, found := strings.Cut(path, "://"); found && !strings.Contains(scheme, "/") {
		path = removeAuthority("//" + rest)
	}

	if path != rs.paths[0] {
		rs.pathFromHeader = true
		rs.addPath(path)
	}

	rs.addQuery(query)
}

// readPrefix notes a prefix that some server removes from the path, because a header has it as its
// value. anywhere means that some server removes it wherever it is in the path, together with what
// is before it (gunicorn up to 21.2, http/wsgi.py). Gateways join repeated headers (RFC 3875
// section 4.1.18), so with two such headers the prefix is not known, and the path may be any path.
func (rs *readings) readPrefix(value string, anywhere bool) {
	if len(rs.prefixes) > 0 {
		rs.anyPath = true
	}

	if prefix := strings.TrimRight(percentDecode(value), "/"); prefix != "" {
		rs.prefixes = append(rs.prefixes, prefix)
		if anywhere {
			rs.cuts = append(rs.cuts, prefix)
		}
	}
}

// cutPrefixes adds a path without the prefixes that are removed because of headers.
func (rs *readings) cutPrefixes(path string) {
	for _, prefix := range rs.prefixes {
		if len(path) >= len(prefix) && strings.EqualFold(path[:len(prefix)], prefix) {
			rs.pathFromHeader = true
			rs.addPath(path[len(prefix):])
		}
	}

	for _, cut := range rs.cuts {
		if _, rest, found := strings.Cut(path, cut); found {
			rs.pathFromHeader = true
			rs.addPath(rest)
		}
	}
}

// addPath adds a reading of the path, unless it is there already. A question mark in it, which was
// decoded, begins a query for some servers.
func (rs *readings) addPath(path string) {
	switch {
	case slices.Contains(rs.paths, path):
	case len(rs.paths) >= maxReadings:
		rs.anyPath = true
	default:
		rs.paths = append(rs.paths, path)
		if _, query, found := strings.Cut(path, "?"); found {
			rs.addQuery(query)
		}
	}
}

// addQuery adds a further query. Parameters are looked up in all of them.
func (rs *readings) addQuery(query string) {
	switch {
	case query == "" || query == rs.query:
	case rs.query == "":
		rs.query = query
	default:
		rs.query += "&" + query
	}
}

// mayBe reports whether some server may read the path as folded, which is in lower case: whatever
// the letter case, with or without a last slash, and with or without a format suffix.
func (rs *readings) mayBe(folded string) bool {
	if rs.anyPath {
		return true
	}

	folded = strings.TrimSuffix(folded, "/")
	return slices.ContainsFunc(rs.folded, func(path string) bool {
		rest, found := strings.CutPrefix(path, folded)
		rest = strings.TrimLeft(rest, "/")
		return found && (rest == "" || mayBeFormatSuffix(rest))
	})
}

// mayReach reports whether some server may read the path as folded or as a path below it.
func (rs *readings) mayReach(folded string) bool {
	if rs.anyPath {
		return true
	}

	folded = strings.TrimSuffix(folded, "/")
	return slices.ContainsFunc(rs.folded, func(path string) bool {
		rest, found := strings.CutPrefix(path, folded)
		return found && (rest == "" || rest[0] == '/' || mayBeFormatSuffix(rest))
	})
}

// mayBeginWith reports whether some reading of the path begins with folded, at a segment boundary
// or not.
func (rs *readings) mayBeginWith(folded string) bool {
	folded = strings.TrimSuffix(folded, "/")
	return rs.anyPath || slices.ContainsFunc(rs.folded, func(path string) bool { return strings.HasPrefix(path, folded) })
}

// mayLieBelow reports whether some server may read the path as one below folded, which is in lower
// case.
func (rs *readings) mayLieBelow(folded string) bool {
	if rs.anyPath {
		return true
	}

	folded = strings.TrimSuffix(folded, "/") + "/"
	return slices.ContainsFunc(rs.folded, func(path string) bool {
		rest, found := strings.CutPrefix(path, folded)
		return found && strings.Trim(rest, "/") != ""
	})
}

// mayBeFormatSuffix reports whether the rest of a path may be a format suffix such as ".json",
// which some frameworks ignore when they look up a route.
func mayBeFormatSuffix(rest string) bool {
	rest = strings.TrimLeftFunc(rest, isBlank)
	return rest != "" && rest[0] == '.' && strings.IndexByte(strings.TrimRight(rest, "/"), '/') < 0
}

// surelyIs reports whether every server reads the path as exactly this one, which must be plain
// (isPlainPath). For a plain path it is enough that it was sent so, and that no header names
// another.
func (rs *readings) surelyIs(path string) bool {
	return rs.paths[0] == path && !rs.pathFromHeader && !rs.anyPath
}

// surelyUnder reports whether every server reads the path as prefix or as a path below it, in this
// letter case.
func (rs *readings) surelyUnder(prefix string) bool {
	return !rs.anyPath && !slices.ContainsFunc(rs.paths, func(path string) bool { return !isUnder(path, prefix) })
}

// isUnder reports whether path is prefix or lies below it, at a segment boundary.
func isUnder(path, prefix string) bool {
	rest, found := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/"))
	return found && (rest == "" || rest[0] == '/')
}

// fold returns s in lower case. Characters outside ASCII that have an ASCII letter as their lower
// case, such as the Kelvin sign, become that letter, because some servers do the same.
func fold(s string) string {
	upper := false
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return strings.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, s)
		}
		upper = upper || 'A' <= s[i] && s[i] <= 'Z'
	}

	if !upper {
		return s
	}

	return strings.ToLower(s)
}
