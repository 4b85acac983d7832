package maintenance

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// State is a document compiled for deciding. It never changes and may be used by
// several goroutines.
type State struct {
	doc      Document
	apps     []*app
	fallback *app // the default app

	routes, clusters map[string]*app
	// Hosts in the order in which they are tried: the exact name, then wildcards from
	// the longest, then "" for apps that name no host.
	hosts     map[string][]place
	wildcards map[string][]place // by what follows the *, with its dot

	view atomic.Pointer[view]
}

// place is a path prefix of an app on one host.
type place struct {
	prefix, folded string
	app            *app
}

// app is a compiled App.
type app struct {
	index     int
	spec      Spec
	causes    []Activation
	networks  networks
	claims    []claimRule
	graphql   []string // path prefixes in lower case
	options   graphql.Options
	maxBody   int
	getWrites []PathRule // paths in lower case
	languages []string   // of its pages
}

// Compile checks a document and makes it ready to decide by. Errors are [*FieldError].
func Compile(doc Document) (*State, error) {
	s := &State{
		doc:       doc,
		routes:    map[string]*app{},
		clusters:  map[string]*app{},
		hosts:     map[string][]place{},
		wildcards: map[string][]place{},
	}
	if len(doc.Apps) > MaxApps {
		return nil, &FieldError{"apps", fmt.Sprintf("%d apps are more than %d", len(doc.Apps), MaxApps)}
	}
	names := map[string]bool{}
	for i := range doc.Apps {
		at := "apps[" + strconv.Itoa(i) + "]"
		a, err := compileApp(&doc.Apps[i], at)
		if err != nil {
			return nil, err
		}
		a.index = i
		if names[a.spec.Name] {
			return nil, &FieldError{at + ".name", fmt.Sprintf("there are two apps named %q", a.spec.Name)}
		}
		names[a.spec.Name] = true
		s.apps = append(s.apps, a)
		if a.spec.Name == DefaultApp {
			s.fallback = a
		} else if err := s.place(a, at+".match"); err != nil {
			return nil, err
		}
	}
	if s.fallback == nil {
		s.fallback, _ = compileApp(&App{Spec: Spec{Name: DefaultApp}}, "")
		s.fallback.index = len(s.apps)
		s.apps = append(s.apps, s.fallback)
	}
	for _, places := range []map[string][]place{s.hosts, s.wildcards} {
		for _, list := range places {
			slices.SortStableFunc(list, func(a, b place) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
		}
	}
	return s, nil
}

// place enters an app's match into the tables, and refuses one that another app has.
func (s *State) place(a *app, at string) error {
	m := a.spec.Match
	paths, hosts := m.Paths, m.Hosts
	if len(hosts) == 0 && len(paths) == 0 && len(m.Routes)+len(m.Clusters) > 0 {
		return s.placeNames(a, at)
	}
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	if len(paths) == 0 {
		paths = []string{"/"}
	}
	for _, host := range hosts {
		table, key := s.hosts, canonicalHost(host)
		if rest, ok := strings.CutPrefix(host, "*"); ok {
			table, key = s.wildcards, canonicalHost(rest)
		}
		for _, path := range paths {
			prefix := strings.TrimSuffix(path, "/")
			folded := strings.ToLower(prefix)
			for _, other := range table[key] {
				if other.folded == folded {
					return &FieldError{at, fmt.Sprintf("overlaps with app %q: both have host %q and path %q", other.app.spec.Name, cmp.Or(host, "(any)"), path)}
				}
			}
			table[key] = append(table[key], place{prefix, folded, a})
		}
	}
	return s.placeNames(a, at)
}

func (s *State) placeNames(a *app, at string) error {
	for _, kind := range []struct {
		field string
		names []string
		table map[string]*app
	}{{"routes", a.spec.Match.Routes, s.routes}, {"clusters", a.spec.Match.Clusters, s.clusters}} {
		for i, name := range kind.names {
			if other := kind.table[name]; other != nil {
				return &FieldError{fmt.Sprintf("%s.%s[%d]", at, kind.field, i), fmt.Sprintf("overlaps with app %q: both have %q", other.spec.Name, name)}
			}
			kind.table[name] = a
		}
	}
	return nil
}

// Document is what the state was compiled from. It must not be changed.
func (s *State) Document() Document { return s.doc }

// Version of the document.
func (s *State) Version() Version { return s.doc.Version }

// match adds to found the apps that a request may belong to: one, unless its path
// can be read in ways that lie in different apps.
func (s *State) match(r *Request, p *reading) (found []*app) {
	if len(s.routes) > 0 {
		if a := s.routes[r.Attributes.Route()]; a != nil {
			return []*app{a}
		}
	}
	if len(s.clusters) > 0 {
		if a := s.clusters[r.Attributes.Cluster()]; a != nil {
			return []*app{a}
		}
	}
	host := canonicalHost(r.Authority)
	if p.anything() {
		return s.anywhere(host)
	}
	add := func(a *app) {
		if !slices.Contains(found, a) {
			found = append(found, a)
		}
	}
	for _, path := range p.paths {
		add(s.lookup(host, func(e *place) bool { return under(path, e.prefix) }))
		// A server that ignores letter case may see another app than one that does not.
		lower := strings.ToLower(path)
		add(s.lookup(host, func(e *place) bool { return under(lower, e.folded) }))
	}
	return found
}

// lookup is the most specific match: exact host, then longest wildcard host, then
// any host; on it the longest path prefix.
func (s *State) lookup(host string, on func(*place) bool) *app {
	for places := range s.candidates(host) {
		for i := range places {
			if on(&places[i]) {
				return places[i].app
			}
		}
	}
	return s.fallback
}

func (s *State) candidates(host string) func(yield func([]place) bool) {
	return func(yield func([]place) bool) {
		if host != "" && len(s.hosts[host]) > 0 && !yield(s.hosts[host]) {
			return
		}
		if len(s.wildcards) > 0 {
			for i := range len(host) {
				if host[i] == '.' && !yield(s.wildcards[host[i:]]) {
					return
				}
			}
		}
		yield(s.hosts[""])
	}
}

// anywhere is every app that some path on the host belongs to.
func (s *State) anywhere(host string) []*app {
	found := []*app{s.fallback}
	for places := range s.candidates(host) {
		for _, p := range places {
			if !slices.Contains(found, p.app) {
				found = append(found, p.app)
			}
		}
	}
	return found
}

// view is the state at a moment, valid until the next planned change.
type view struct {
	from, until time.Time // until is zero when nothing is planned
	idle        bool
	apps        []standing // by app.index
}

// standing is what holds an app in maintenance, and what will.
type standing struct {
	held  *Activation // nil: off
	until time.Time   // when the mode ends; zero: not known
	next  *Upcoming   // an announced window
}

// Upcoming is a window that is announced and has not begun.
type Upcoming struct {
	Mode    Mode      `json:"mode"`
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"`
	Message string    `json:"message,omitempty"`
}

// Idle tells that nothing is on or announced, and until when that holds without a
// new document (zero: for good). While idle every request passes, and asking
// [State.Decide] is not needed.
func (s *State) Idle(now time.Time) (idle bool, until time.Time) {
	v := s.at(now)
	return v.idle, v.until
}

func (s *State) at(now time.Time) *view {
	if v := s.view.Load(); v != nil && !now.Before(v.from) && (v.until.IsZero() || now.Before(v.until)) {
		return v
	}
	v := &view{from: now, idle: true, apps: make([]standing, len(s.apps))}
	// later keeps the nearest moment after now at which anything changes.
	later := func(t time.Time) {
		if t.After(now) && (v.until.IsZero() || t.Before(v.until)) {
			v.until = t
		}
	}
	for i, a := range s.apps {
		st := &v.apps[i]
		var openEnded bool
		consider := func(c *Activation) {
			later(c.Until)
			// Since is not asked: a cause that was published holds, whatever the proxy's
			// own clock says of when that was.
			if !c.Until.IsZero() && !now.Before(c.Until) {
				return
			}
			stricter := 1
			if st.held != nil {
				stricter = cmp.Compare(c.Mode.strictness(), st.held.Mode.strictness())
			}
			if stricter > 0 {
				st.until, openEnded = time.Time{}, false
			}
			if stricter >= 0 {
				if openEnded = openEnded || c.Until.IsZero(); openEnded {
					st.until = time.Time{}
				} else if c.Until.After(st.until) {
					st.until = c.Until
				}
			}
			if stricter > 0 || stricter == 0 && c.Since.After(st.held.Since) {
				st.held = c
			}
		}
		for j := range a.causes {
			consider(&a.causes[j])
		}
		for _, w := range a.spec.Windows {
			for _, o := range w.Occurrences {
				later(o.Start)
				later(o.End)
				announced := o.Start.Add(-time.Duration(w.Announce) * time.Second)
				later(announced)
				switch {
				case !now.Before(o.End) || now.Before(announced):
				case now.Before(o.Start):
					if st.next == nil || o.Start.Before(st.next.Start) {
						st.next = &Upcoming{w.Mode, o.Start, o.End, w.Message}
					}
				default:
					consider(&Activation{ID: w.ID, Source: SourceWindow, Mode: w.Mode, Message: w.Message, Since: o.Start, Until: o.End})
				}
			}
		}
		if st.held != nil || st.next != nil {
			v.idle = false
		}
	}
	s.view.Store(v)
	return v
}

// Names of apps, and what else looks like one: a DNS label, because it becomes part
// of file names and keys.
func validName(name string) bool {
	if name == "" || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

func compileApp(src *App, at string) (*app, error) {
	s := &src.Spec
	a := &app{spec: *s, causes: src.Activations}
	var err error
	// bad keeps the first error; the checks below go on, which is harmless.
	bad := func(field, format string, args ...any) {
		if err == nil {
			err = &FieldError{join(at, field), fmt.Sprintf(format, args...)}
		}
	}
	if !validName(s.Name) {
		bad("name", "%q must be 1 to 63 of a-z, 0-9 and -, not beginning or ending with -", s.Name)
	}
	checkMatch(s, bad)

	a.networks = make(networks)
	for i, ip := range s.Bypass.IPs {
		if e := a.networks.add(ip); e != nil {
			bad(fmt.Sprintf("bypass.ips[%d]", i), "%s", e)
		}
	}
	for i, r := range s.Bypass.Claims {
		field := fmt.Sprintf("bypass.claims[%d]", i)
		if r.Issuer == "" {
			bad(field+".issuer", "is required: without it a token of any issuer that the proxy trusts would pass")
		}
		if len(r.Values) > 0 && len(r.Claim) == 0 {
			bad(field+".claim", "is required where values are given")
		}
		for j, step := range r.Claim {
			if step == "" {
				bad(fmt.Sprintf("%s.claim[%d]", field, j), "must not be empty")
			}
		}
		compiled, e := compileClaim(r)
		if e != nil {
			bad(field+".values", "%s", e)
		}
		a.claims = append(a.claims, compiled)
	}
	for i, p := range s.Bypass.Principals {
		if strings.Trim(p, "*") == "" {
			bad(fmt.Sprintf("bypass.principals[%d]", i), "%q would let every peer pass; name an identity such as spiffe://cluster.local/ns/ops/sa/admin", p)
		}
	}
	checkRules("exempt", s.Exempt, bad)
	checkRules("read_only.write_through", s.ReadOnly.WriteThrough, bad)
	checkRules("read_only.get_writes", s.ReadOnly.GetWrites, bad)
	for _, r := range s.ReadOnly.GetWrites {
		r.Path, r.Prefix = strings.ToLower(r.Path), strings.ToLower(r.Prefix)
		a.getWrites = append(a.getWrites, r)
	}
	for i, rpc := range s.ReadOnly.SafeRPCs {
		if parts := strings.Split(rpc, "/"); len(parts) != 3 || parts[0] != "" || parts[1] == "" || parts[2] == "" || !plain(rpc) {
			bad(fmt.Sprintf("read_only.safe_rpcs[%d]", i), "%q must be /package.Service/Method", rpc)
		}
	}
	checkPolicy("read_only.upgrades", s.ReadOnly.Upgrades, bad)
	checkPolicy("read_only.event_streams", s.ReadOnly.EventStreams, bad)
	a.compileGraphQL(bad)

	for lang, sha := range s.Pages {
		field := join("pages", lang)
		if !validLanguage(lang) {
			bad(field, "%q is no language tag such as en or pt-BR", lang)
		}
		if len(sha) != 64 || strings.Trim(sha, "0123456789abcdef") != "" {
			bad(field, "must be the page's SHA-256 as 64 lower-case hex digits; upload the page first")
		}
		a.languages = append(a.languages, lang)
	}
	slices.Sort(a.languages)
	for i, o := range s.CORS.Origins {
		scheme, host, _ := strings.Cut(o, "://")
		if scheme != "https" && scheme != "http" || host == "" || strings.ContainsAny(host, "/?#@*\\ ") || !printable(o) || strings.ToLower(o) != o {
			bad(fmt.Sprintf("cors.origins[%d]", i), "%q must be an origin as browsers send it, such as https://app.example.com (lower case, no path, no *)", o)
		}
	}
	checkActivations(src.Activations, bad)
	checkWindows(s.Windows, bad)
	return a, err
}

func checkMatch(s *Spec, bad func(field, format string, args ...any)) {
	m := &s.Match
	total := len(m.Hosts) + len(m.Paths) + len(m.Routes) + len(m.Clusters)
	switch {
	case s.Name == DefaultApp && total > 0:
		bad("match", "the default app matches what no other app does and takes no match; name the app otherwise")
	case s.Name != DefaultApp && total == 0:
		bad("match", "is empty: give hosts, paths, routes or clusters, or use the app named default")
	}
	for i, h := range m.Hosts {
		name := strings.TrimPrefix(h, "*.")
		switch {
		case h == "" || name == "" || h == "*":
			bad(fmt.Sprintf("match.hosts[%d]", i), "%q must be a host name or *.name; leave hosts out to match every host", h)
		case strings.ContainsAny(name, "*/?#@ ") || !printable(name):
			bad(fmt.Sprintf("match.hosts[%d]", i), "%q must be a host name or *.name, without scheme and path", h)
		case canonicalHost(name) != strings.ToLower(strings.TrimSuffix(name, ".")):
			bad(fmt.Sprintf("match.hosts[%d]", i), "%q must be without a port: ports are not looked at", h)
		}
	}
	for i, p := range m.Paths {
		if !plain(p) || strings.ContainsRune(p, '?') {
			bad(fmt.Sprintf("match.paths[%d]", i), "%q must begin with / and be free of ?, %%, ;, \\, // and dot segments", p)
		}
	}
	for _, list := range []struct {
		field string
		names []string
	}{{"match.routes", m.Routes}, {"match.clusters", m.Clusters}} {
		for i, n := range list.names {
			if n == "" {
				bad(fmt.Sprintf("%s[%d]", list.field, i), "must not be empty")
			}
		}
	}
}

func checkRules(field string, rules []PathRule, bad func(field, format string, args ...any)) {
	for i, r := range rules {
		at := fmt.Sprintf("%s[%d]", field, i)
		if (r.Path == "") == (r.Prefix == "") {
			bad(at, "give either path or prefix")
			continue
		}
		if p := r.Path + r.Prefix; !plain(p) || strings.ContainsRune(p, '?') {
			bad(at, "%q must begin with / and be free of ?, %%, ;, \\, // and dot segments", p)
		}
		for j, m := range r.Methods {
			if m == "" || strings.ToUpper(m) != m || !token(m) {
				bad(fmt.Sprintf("%s.methods[%d]", at, j), "%q must be a method in upper case, such as POST", m)
			}
		}
	}
}

func checkPolicy(field string, p Policy, bad func(field, format string, args ...any)) {
	if p != "" && p != PolicyRefuse && p != PolicyAllow {
		bad(field, "%q must be refuse or allow", p)
	}
}

func (a *app) compileGraphQL(bad func(field, format string, args ...any)) {
	g := a.spec.GraphQL
	if g == nil {
		g = &GraphQL{Paths: []string{"/graphql"}}
	}
	for i, p := range g.Paths {
		if !plain(p) || strings.ContainsRune(p, '?') {
			bad(fmt.Sprintf("graphql.paths[%d]", i), "%q must begin with / and be free of ?, %%, ;, \\, // and dot segments", p)
		}
		a.graphql = append(a.graphql, strings.ToLower(p))
	}
	if g.MaxBody > MaxBodyBytes {
		bad("graphql.max_body", "must be at most %d", MaxBodyBytes)
	}
	checkPolicy("graphql.upgrades", g.Upgrades, bad)
	a.maxBody = cmp.Or(g.MaxBody, graphql.DefaultMaxBody)
	a.options = graphql.Options{
		Batching:  g.Batching == nil || *g.Batching,
		MaxBatch:  g.MaxBatch,
		MaxTokens: g.MaxTokens,
		MaxDepth:  g.MaxDepth,
		MaxBody:   a.maxBody,
		ExtraKeys: g.ExtraKeys,
	}
	if len(g.Persisted) > 0 {
		a.options.Persisted = make(map[[32]byte]struct{}, len(g.Persisted))
	}
	for i, h := range g.Persisted {
		var sum [32]byte
		ok := len(h) == 64
		for j := 0; ok && j < 32; j++ {
			hi, lo := unhex(h[2*j]), unhex(h[2*j+1])
			ok = hi >= 0 && lo >= 0
			sum[j] = byte(hi<<4 | lo)
		}
		if !ok {
			bad(fmt.Sprintf("graphql.persisted[%d]", i), "must be a SHA-256 as 64 hex digits")
		}
		a.options.Persisted[sum] = struct{}{}
	}
}

func checkActivations(list []Activation, bad func(field, format string, args ...any)) {
	ids := map[string]bool{}
	for i, c := range list {
		at := fmt.Sprintf("activations[%d]", i)
		switch c.Source {
		case SourceManual, SourceWindow, SourceFile, SourceResource:
		default:
			bad(at+".source", "%q must be manual, window, file or resource", c.Source)
		}
		if c.ID == "" || ids[c.ID] {
			bad(at+".id", "%q must be present and unique in its app", c.ID)
		}
		ids[c.ID] = true
		if c.Mode.strictness() == 0 {
			bad(at+".mode", "%q must be read-only or no-access", c.Mode)
		}
		checkMessage(at+".message", c.Message, bad)
		if c.Since.IsZero() {
			bad(at+".since", "is required")
		}
		if !c.Until.IsZero() && !c.Until.After(c.Since) {
			bad(at+".until", "%s must be after since, %s", c.Until.Format(time.RFC3339), c.Since.Format(time.RFC3339))
		}
	}
}

func checkWindows(list []Window, bad func(field, format string, args ...any)) {
	ids := map[string]bool{}
	for i, w := range list {
		at := fmt.Sprintf("windows[%d]", i)
		if !validName(w.ID) || ids[w.ID] {
			bad(at+".id", "%q must be a name of a-z, 0-9 and -, unique in its app", w.ID)
		}
		ids[w.ID] = true
		if w.Mode.strictness() == 0 {
			bad(at+".mode", "%q must be read-only or no-access", w.Mode)
		}
		checkMessage(at+".message", w.Message, bad)
		if w.Announce < 0 || w.Announce > 366*24*3600 {
			bad(at+".announce", "must be 0 to a year, in seconds")
		}
		if len(w.Occurrences) > MaxOccurrences {
			bad(at+".occurrences", "%d are more than %d", len(w.Occurrences), MaxOccurrences)
		}
		for j, o := range w.Occurrences {
			if o.Start.IsZero() {
				bad(fmt.Sprintf("%s.occurrences[%d].start", at, j), "is required")
			}
			if !o.End.After(o.Start) {
				bad(fmt.Sprintf("%s.occurrences[%d].end", at, j), "must be after start")
			}
		}
	}
}

func checkMessage(field, message string, bad func(field, format string, args ...any)) {
	switch {
	case len(message) > MaxMessageBytes:
		bad(field, "%d bytes are more than %d", len(message), MaxMessageBytes)
	case !printable(message):
		bad(field, "must be UTF-8 text without control characters")
	}
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) < 0
}

// token is RFC 9110 section 5.6.2.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func validLanguage(tag string) bool {
	for part := range strings.SplitSeq(tag, "-") {
		if tag != "" && (part == "" || len(part) > 8 || !token(part) || strings.ContainsAny(part, "!#$%&'*+.^_`|~")) {
			return false
		}
	}
	return true
}

// networks is a set of prefixes, by prefix length: a lookup probes the few lengths
// that occur, however many prefixes there are.
type networks map[int]map[netip.Prefix]struct{}

// add takes an address or a CIDR. IPv4-mapped IPv6 counts as the IPv4 that it means.
func (n networks) add(s string) error {
	addr, bitsText, cidr := strings.Cut(s, "/")
	ip, err := netip.ParseAddr(addr)
	if err != nil || ip.Zone() != "" {
		return fmt.Errorf("%q is no address or CIDR; write like 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32", s)
	}
	bits := ip.BitLen()
	if cidr {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("%q has no valid prefix length after the /, which is 0 to %d, not %q", s, ip.BitLen(), bitsText)
		}
		bits = p.Bits()
	}
	if ip.Is4In6() {
		if bits -= 96; bits < 0 {
			return fmt.Errorf("%q spans more than the IPv4-mapped addresses; write IPv4 CIDRs as IPv4", s)
		}
		ip = ip.Unmap()
	}
	prefix, _ := ip.Prefix(bits)
	if prefix.Addr() != ip {
		return fmt.Errorf("%q has address bits beyond its prefix; write %s, or %s for the one address", s, prefix, ip)
	}
	// 128 apart keeps the families apart at equal lengths.
	key := bits
	if ip.Is4() {
		key += 256
	}
	if n[key] == nil {
		n[key] = make(map[netip.Prefix]struct{})
	}
	n[key][prefix] = struct{}{}
	return nil
}

// contain takes an address as Envoy writes it: with a port, brackets or a zone.
func (n networks) contain(address string) bool {
	if len(n) == 0 {
		return false
	}
	ip, ok := parseSource(address)
	if !ok {
		return false
	}
	for key, set := range n {
		bits := key
		if key >= 256 {
			bits -= 256
		}
		if (key >= 256) != ip.Is4() {
			continue
		}
		if prefix, err := ip.Prefix(bits); err == nil {
			if _, ok := set[prefix]; ok {
				return true
			}
		}
	}
	return false
}

func parseSource(address string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
	return ip.Unmap().WithZone(""), err == nil
}
