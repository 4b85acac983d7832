package maintenance

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// readings are all the ways in which servers behind the proxy may read the host and the path of a
// request. docs/read-only.md, "The book of readings", names the servers. A new way needs a row
// there, an entry in pathWays or in the lists of headers below, and a test.
//
// Readings are lenient, so they may only make a decision stricter: what refuses uses
// [readings.mayBe] or [readings.mayReach], what grants uses [readings.surelyIs] or
// [readings.surelyUnder].
type readings struct {
	done bool

	// paths are all readings of the path, beginning with the path as sent; folded are the same in
	// lower case.
	paths, folded []string
	// prefixes are removed from the beginning of the path because of headers. cuts are removed
	// together with all that is before them.
	prefixes, cuts []string
	// elsewhere means that a header makes some server read another path than the one that was sent.
	elsewhere bool
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

	// overrideMethod is what [Request.override] returns, once overrideRead is set.
	overrideMethod string
	overrideRead   bool
	// bodyNames is what [Request.bodyNamesMethod] returns, once bodyRead is set.
	bodyNames, bodyRead bool
	// graphQLRule is what [graphql.JSON] returned for the body with these options, once graphQLRead
	// is set.
	graphQLRule                  graphql.Rule
	graphQLLimits                [4]int
	graphQLBatching, graphQLRead bool

	// Most requests have one reading. Its slices are in these arrays, so nothing is allocated.
	pathBuf, foldedBuf [2]string
	hostBuf            [1]string
}

// Bounds on how far the readings of a path are followed. Honest paths stay below them; for a path
// beyond them anyPath is set.
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

// read returns the readings of a request. They are computed once.
func (r *Request) read() *readings {
	ways := &r.readings
	if ways.done {
		return ways
	}

	ways.done = true
	ways.paths, ways.folded, ways.hosts = ways.pathBuf[:0], ways.foldedBuf[:0], ways.hostBuf[:0]

	path, query, _ := strings.Cut(r.Path, "?")
	ways.query = query
	ways.upgrade = r.Method == "CONNECT" || r.has("upgrade") || r.has(":protocol")
	ways.readHost(r.Authority)

	switch {
	case path == "" || path == "*": // CONNECT, OPTIONS * (RFC 9112 section 3.2)
		path = "/"
	case path[0] != '/': // absolute-form, which Envoy resolves unless configured otherwise
		ways.anyPath, ways.anyHost = true, true
	}

	ways.paths = append(ways.paths, path)
	ways.readHeaders(r)
	if !ways.anyPath {
		ways.follow()
	}

	if ways.anyPath {
		// A reading that was not followed may be a network-path reference.
		ways.anyHost = ways.anyHost || slices.ContainsFunc(ways.paths, mayNameHost)
		return ways
	}

	for _, path := range ways.paths {
		ways.folded = append(ways.folded, fold(path))
	}

	return ways
}

// mayNameHost reports whether some reading of a path may begin with two slashes, and so name a
// host. It does not follow the readings, but looks whether the fully decoded path has anything that
// some server turns into an empty segment.
func mayNameHost(path string) bool {
	const leads = hasEscape | hasBackslash | hasSemicolon | hasEmpty | hasEdges | hasLineEnds
	for work := len(path); work <= maxDecodeWork; work += len(path) {
		next := decoded(path)
		if next == path {
			return traitsOf(path)&leads != 0 || !utf8.ValidString(path)
		}

		path = next
	}

	return true
}

// readHeaders adds the hosts and paths in headers.
func (ways *readings) readHeaders(r *Request) {
	for i := range r.Headers {
		name, value := r.Headers[i][0], r.Headers[i][1]
		is := func(known string) bool { return mayMean(name, known) }

		switch {
		case len(value) > maxReadPath && (is("forwarded") || slices.ContainsFunc(hostHeaders[:], is)):
			ways.anyHost = true
		case slices.ContainsFunc(hostHeaders[:], is):
			for host := range strings.SplitSeq(value, ",") {
				ways.readHost(strings.TrimSpace(host))
			}
		case is("forwarded"):
			ways.readForwarded(value)
		case slices.ContainsFunc(pathHeaders[:], is):
			ways.readPath(value)
		case slices.ContainsFunc(prefixHeaders[:], is):
			ways.readPrefix(value, is("script-name"))
		}
	}
}

// readForwarded adds the hosts of a Forwarded header (RFC 7239 section 5.3).
func (ways *readings) readForwarded(value string) {
	for part := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || r == ';' }) {
		name, host, _ := strings.Cut(part, "=")
		if strings.EqualFold(strings.TrimSpace(name), "host") {
			ways.readHost(strings.Trim(host, `" `+"\t"))
		}
	}
}

// readHost adds a name under which the request may be served. A host with characters that neither
// names nor addresses have can be parsed in several ways: as user information, as a list, or
// percent-encoded (WHATWG URL, section 3.5).
func (ways *readings) readHost(host string) {
	if len(host) > maxHostBytes || !plainHost(host) || len(ways.hosts) >= maxReadings {
		ways.anyHost = true
		return
	}

	if name := canonicalHost(host); !slices.Contains(ways.hosts, name) {
		ways.hosts = append(ways.hosts, name)
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
		if c := host[i]; !alphanumeric(c) && c != '.' && c != ':' && c != '_' && c != '-' {
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

// readPath adds the path and the query of a header that contains a path or a URL.
func (ways *readings) readPath(value string) {
	path, query, _ := strings.Cut(value, "?")
	if scheme, rest, found := strings.Cut(path, "://"); found && !strings.Contains(scheme, "/") {
		path = withoutAuthority("//" + rest)
	}

	if path != ways.paths[0] {
		ways.elsewhere = true
		ways.add(path)
	}

	ways.addQuery(query)
}

// readPrefix notes a prefix that is removed from the path because of a header. anywhere says that
// some server removes it at any place in the path (gunicorn up to 21.2, http/wsgi.py). Gateways
// join repeated headers (RFC 3875 section 4.1.18), so with two of them the prefix is not known.
func (ways *readings) readPrefix(value string, anywhere bool) {
	if len(ways.prefixes) > 0 {
		ways.anyPath = true
	}

	if prefix := strings.TrimRight(decoded(value), "/"); prefix != "" {
		ways.prefixes = append(ways.prefixes, prefix)
		if anywhere {
			ways.cuts = append(ways.cuts, prefix)
		}
	}
}

// cutPrefixes adds a path without the prefixes that are removed because of headers.
func (ways *readings) cutPrefixes(path string) {
	for _, prefix := range ways.prefixes {
		if len(path) >= len(prefix) && strings.EqualFold(path[:len(prefix)], prefix) {
			ways.elsewhere = true
			ways.add(path[len(prefix):])
		}
	}

	for _, cut := range ways.cuts {
		if _, rest, found := strings.Cut(path, cut); found {
			ways.elsewhere = true
			ways.add(rest)
		}
	}
}

// add adds a reading of the path.
func (ways *readings) add(path string) {
	switch {
	case slices.Contains(ways.paths, path):
	case len(ways.paths) >= maxReadings:
		ways.anyPath = true
	default:
		ways.paths = append(ways.paths, path)
		if _, query, found := strings.Cut(path, "?"); found {
			ways.addQuery(query)
		}
	}
}

func (ways *readings) addQuery(query string) {
	switch {
	case query == "" || query == ways.query:
	case ways.query == "":
		ways.query = query
	default:
		ways.query += "&" + query
	}
}

// mayBe reports whether some server may read the path as folded, which is in lower case: whatever
// the letter case, with or without a last slash, and with or without a format suffix.
func (ways *readings) mayBe(folded string) bool {
	if ways.anyPath {
		return true
	}

	folded = strings.TrimSuffix(folded, "/")
	return slices.ContainsFunc(ways.folded, func(path string) bool {
		rest, found := strings.CutPrefix(path, folded)
		rest = strings.TrimLeft(rest, "/")
		return found && (rest == "" || suffix(rest))
	})
}

// mayReach reports whether some server may read the path as folded or as a path below it.
func (ways *readings) mayReach(folded string) bool {
	if ways.anyPath {
		return true
	}

	folded = strings.TrimSuffix(folded, "/")
	return slices.ContainsFunc(ways.folded, func(path string) bool {
		rest, found := strings.CutPrefix(path, folded)
		return found && (rest == "" || rest[0] == '/' || suffix(rest))
	})
}

// mayBeginWith reports whether some reading of the path begins with folded, at a segment boundary
// or not.
func (ways *readings) mayBeginWith(folded string) bool {
	folded = strings.TrimSuffix(folded, "/")
	return ways.anyPath || slices.ContainsFunc(ways.folded, func(path string) bool { return strings.HasPrefix(path, folded) })
}

// mayLieBelow reports whether some server may read the path as one below folded.
func (ways *readings) mayLieBelow(folded string) bool {
	if ways.anyPath {
		return true
	}

	folded = strings.TrimSuffix(folded, "/") + "/"
	return slices.ContainsFunc(ways.folded, func(path string) bool {
		rest, found := strings.CutPrefix(path, folded)
		return found && strings.Trim(rest, "/") != ""
	})
}

// suffix reports whether the rest of a path may be a format suffix such as ".json", which some
// frameworks ignore when they look up a route.
func suffix(rest string) bool {
	rest = strings.TrimLeftFunc(rest, isBlank)
	return rest != "" && rest[0] == '.' && strings.IndexByte(strings.TrimRight(rest, "/"), '/') < 0
}

// surelyIs reports whether every server reads the path as exactly this one, which must be plain.
// The path was then sent so, and no header names another.
func (ways *readings) surelyIs(path string) bool {
	return ways.paths[0] == path && !ways.elsewhere && !ways.anyPath
}

// surelyUnder reports whether every server reads the path as prefix or as a path below it, in this
// letter case.
func (ways *readings) surelyUnder(prefix string) bool {
	return !ways.anyPath && !slices.ContainsFunc(ways.paths, func(path string) bool { return !under(path, prefix) })
}

// under reports whether path is prefix or lies below it, at a segment boundary.
func under(path, prefix string) bool {
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
