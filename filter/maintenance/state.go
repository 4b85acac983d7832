package maintenance

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
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
	routed           []*app               // that are in these
	hosts            map[string]*prefixes // by name; "" for apps that name no host
	wildcards        map[string]*prefixes // by what follows the *, with its dot
	longestWildcard  int
	places           int // pairs of host and path

	view atomic.Pointer[view]
}

// prefixes are the apps on one host, by path prefix without its last slash: as
// written, and in lower case.
type prefixes struct {
	exact, folded map[string]*app
	lengths       []int // of the prefixes, each once, the longest first
}

// at returns the app with the longest prefix that path lies under, or nil.
func (p *prefixes) at(path string) *app {
	for _, n := range p.lengths {
		if n <= len(path) && (n == len(path) || path[n] == '/') {
			if a := p.exact[path[:n]]; a != nil {
				return a
			}
		}
	}
	return nil
}

// atFolded does so for a path in lower case. It calls also with each app whose prefix is
// longer, if what follows it may be a format suffix.
func (p *prefixes) atFolded(path string, also func(*app)) *app {
	for _, n := range p.lengths {
		if n > len(path) {
			continue
		}
		switch rest := path[n:]; {
		case rest == "" || rest[0] == '/':
			if a := p.folded[path[:n]]; a != nil {
				return a
			}
		case suffix(rest):
			if a := p.folded[path[:n]]; a != nil {
				also(a)
			}
		}
	}
	return nil
}

// app is a compiled App.
type app struct {
	index       int
	spec        Spec
	activations []Activation
	networks    networks
	claims      []claimRule
	graphql     []graphqlPath
	options     graphql.Options
	maxBody     int

	exempt, writeThrough []grantRule
	getWrites            []refusalRule

	languages []string // of its pages
}

// Compile checks a document and makes it ready to decide by. Errors are [*FieldError].
// The bounds on a document's JSON are for [Parse] to check, so publish only what that
// takes.
func Compile(doc Document) (*State, error) {
	s := &State{
		doc:       doc,
		routes:    map[string]*app{},
		clusters:  map[string]*app{},
		hosts:     map[string]*prefixes{},
		wildcards: map[string]*prefixes{},
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
	return s, nil
}

// place enters an app's match into the tables, and refuses one that another app has.
func (s *State) place(a *app, at string) error {
	m := &a.spec.Match
	if len(m.Hosts)+len(m.Paths) > 0 {
		if err := s.placePaths(a, at); err != nil {
			return err
		}
	}
	if len(m.Routes)+len(m.Clusters) > 0 {
		s.routed = append(s.routed, a)
	}
	for _, kind := range []struct {
		field string
		names []string
		table map[string]*app
	}{{"routes", m.Routes, s.routes}, {"clusters", m.Clusters, s.clusters}} {
		for i, name := range kind.names {
			if other := kind.table[name]; other != nil {
				return &FieldError{fmt.Sprintf("%s.%s[%d]", at, kind.field, i), fmt.Sprintf("%q is also in app %q", name, other.spec.Name)}
			}
			kind.table[name] = a
		}
	}
	return nil
}

func (s *State) placePaths(a *app, at string) error {
	hosts, paths := a.spec.Match.Hosts, a.spec.Match.Paths
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	if len(paths) == 0 {
		paths = []string{"/"}
	}
	if s.places += len(hosts) * len(paths); s.places > MaxPlaces {
		return &FieldError{at, fmt.Sprintf("with %d hosts times %d paths here, the apps have more than %d; match by fewer paths or by routes", len(hosts), len(paths), MaxPlaces)}
	}
	for _, host := range hosts {
		table, key := s.hosts, canonicalHost(host)
		if suffix, ok := strings.CutPrefix(host, "*"); ok {
			table, key = s.wildcards, canonicalHost(suffix)
			s.longestWildcard = max(s.longestWildcard, len(key))
		}
		on := table[key]
		if on == nil {
			on = &prefixes{exact: map[string]*app{}, folded: map[string]*app{}}
			table[key] = on
		}
		for _, path := range paths {
			prefix := strings.TrimSuffix(path, "/")
			if other := on.folded[fold(prefix)]; other != nil {
				return &FieldError{at, fmt.Sprintf("host %q with path %q is also in app %q (letter case and a last dot or slash make no difference)", cmp.Or(host, "(any)"), path, other.spec.Name)}
			}
			on.exact[prefix], on.folded[fold(prefix)] = a, a
			if at, found := slices.BinarySearchFunc(on.lengths, len(prefix), func(n, m int) int { return cmp.Compare(m, n) }); !found {
				on.lengths = slices.Insert(on.lengths, at, len(prefix))
			}
		}
	}
	return nil
}

// Document is what the state was compiled from. It must not be changed.
func (s *State) Document() Document { return s.doc }

// Version of the document.
func (s *State) Version() Version { return s.doc.Version }

// match appends to found the apps that a request may belong to: one, unless its host or
// path can be read in ways that lie in different apps.
func (s *State) match(r *Request, found []*app) []*app {
	if len(s.routes) > 0 {
		if a := s.routes[r.Attributes.Route()]; a != nil {
			return append(found, a)
		}
	}
	if len(s.clusters) > 0 {
		if a := s.clusters[r.Attributes.Cluster()]; a != nil {
			return append(found, a)
		}
	}

	ways := r.read()
	if ways.anyHost || ways.anyPath {
		return s.onHosts(ways, found)
	}
	add := func(a *app) {
		if !slices.Contains(found, a) {
			found = append(found, a)
		}
	}
	for _, host := range ways.hosts {
		var buf [8]*prefixes
		tables := s.tables(host, buf[:0])
		for i := range ways.paths {
			add(s.lookup(tables, ways.paths[i]))
			// A server that ignores letter case may see another app than one that does not.
			add(s.lookupFolded(tables, ways.folded[i], add))
		}
	}
	return found
}

// onHosts appends to found every app to which some path of a request's hosts belongs,
// in the order of the document.
func (s *State) onHosts(ways *readings, found []*app) []*app {
	if ways.anyHost {
		return append(found, s.apps...)
	}

	for _, host := range ways.hosts {
		rooted := false
		for _, t := range s.tables(host, nil) {
			for _, a := range t.exact {
				found = append(found, a)
			}
			if rooted = t.exact[""] != nil; rooted {
				break
			}
		}
		if !rooted {
			found = append(found, s.fallback)
		}
	}
	slices.SortFunc(found, func(a, b *app) int { return cmp.Compare(a.index, b.index) })
	return slices.Compact(found)
}

// tables returns where a host's apps are looked for, the most specific first.
func (s *State) tables(host string, found []*prefixes) []*prefixes {
	if t := s.hosts[host]; t != nil && host != "" {
		found = append(found, t)
	}
	for i := max(0, len(host)-s.longestWildcard); i < len(host); i++ {
		if host[i] == '.' {
			if t := s.wildcards[host[i:]]; t != nil {
				found = append(found, t)
			}
		}
	}
	if t := s.hosts[""]; t != nil {
		found = append(found, t)
	}
	return found
}

func (s *State) lookup(tables []*prefixes, path string) *app {
	for _, t := range tables {
		if a := t.at(path); a != nil {
			return a
		}
	}
	return s.fallback
}

func (s *State) lookupFolded(tables []*prefixes, path string, also func(*app)) *app {
	for _, t := range tables {
		if a := t.atFolded(path, also); a != nil {
			return a
		}
	}
	return s.fallback
}

// view is the state at a moment, valid until the next planned change.
type view struct {
	from, until time.Time // until is zero when nothing is planned
	idle        bool
	apps        []appView // by app.index
}

// appView is an app at a moment.
type appView struct {
	activation *Activation // the one that decides the mode; nil: off
	until      time.Time   // when the mode ends; zero: not known
	next       *Upcoming   // an announced window
}

// Upcoming is a window that is announced and has not begun.
type Upcoming struct {
	Mode    Mode      `json:"mode"`
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"`
	Message string    `json:"message,omitempty"`
}

// Idle reports whether no app is in maintenance and no window is announced. Without a new
// document the answer holds until the returned time, or for good if that is zero. While
// the state is idle, every request passes and [State.Decide] need not be called.
func (s *State) Idle(now time.Time) (idle bool, until time.Time) {
	v := s.at(now)
	return v.idle, v.until
}

func (s *State) at(now time.Time) *view {
	if v := s.view.Load(); v != nil && !now.Before(v.from) && (v.until.IsZero() || now.Before(v.until)) {
		return v
	}
	v := &view{from: now, idle: true, apps: make([]appView, len(s.apps))}
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
			if st.activation != nil {
				stricter = c.Mode.Compare(st.activation.Mode)
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
			if stricter > 0 || stricter == 0 && c.Since.After(st.activation.Since) {
				st.activation = c
			}
		}
		for j := range a.activations {
			consider(&a.activations[j])
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
		if st.activation != nil || st.next != nil {
			v.idle = false
		}
	}
	s.view.Store(v)
	return v
}

// checker keeps the first error of an app's checks. The checks go on behind it, which
// is harmless.
type checker struct {
	at    string // the app's field
	first error
}

func (c *checker) bad(field, format string, args ...any) {
	if c.first == nil {
		if c.at != "" {
			field = c.at + "." + field
		}
		c.first = &FieldError{field, fmt.Sprintf(format, args...)}
	}
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
	a := &app{spec: *s, activations: src.Activations}
	c := &checker{at: at}
	if !validName(s.Name) {
		c.bad("name", "%q must be 1 to 63 of a-z, 0-9 and -, not beginning or ending with -", s.Name)
	}
	c.match(s)
	a.compileBypass(c)
	c.grants("exempt", s.Exempt)
	a.exempt = compileGrants(s.Exempt)
	a.compileReadOnly(c)
	a.compileGraphQL(c)
	a.compileReplies(c)
	c.activations(src.Activations)
	c.windows(s.Windows)
	return a, c.first
}

func (c *checker) match(s *Spec) {
	m := &s.Match
	total := len(m.Hosts) + len(m.Paths) + len(m.Routes) + len(m.Clusters)
	switch {
	case s.Name == DefaultApp && total > 0:
		c.bad("match", "the default app matches what no other app does and takes no match; name the app otherwise")
	case s.Name != DefaultApp && total == 0:
		c.bad("match", "is empty: give hosts, paths, routes or clusters, or use the app named default")
	}
	for i, h := range m.Hosts {
		if problem := hostProblem(h); problem != "" {
			c.bad(fmt.Sprintf("match.hosts[%d]", i), "%q %s", h, problem)
		}
	}
	c.paths("match.paths", m.Paths)
	c.present("match.routes", m.Routes)
	c.present("match.clusters", m.Clusters)
}

func hostProblem(host string) string {
	name := strings.TrimPrefix(host, "*.")
	switch {
	case name == "" || name == "*":
		return "must be a host name or *.name; leave hosts out to match every host"
	case strings.IndexFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0:
		return "must be written as browsers send it, which is xn--… for letters beyond ASCII"
	case strings.ContainsAny(name, `*/\?#@, `) || !printable(name) || canonicalHost(name) == "":
		return "must be a host name or *.name, without scheme and path"
	case canonicalHost(name) != strings.ToLower(strings.TrimSuffix(name, ".")):
		return "must be without a port: ports are not looked at"
	}
	return ""
}

func (c *checker) present(field string, names []string) {
	for i, n := range names {
		if n == "" {
			c.bad(fmt.Sprintf("%s[%d]", field, i), "must not be empty")
		}
	}
}

func (c *checker) paths(field string, paths []string) {
	for i, p := range paths {
		c.path(fmt.Sprintf("%s[%d]", field, i), p)
	}
}

func (c *checker) path(field, path string) {
	if !plain(path) || strings.IndexByte(path, '?') >= 0 {
		c.bad(field, "%q must begin with / and hold only visible ASCII without ? %% ; \\ # or // or dot segments", path)
	}
}

func (c *checker) rules(field string, rules []PathRule) {
	for i, r := range rules {
		at := fmt.Sprintf("%s[%d]", field, i)
		if (r.Path == "") == (r.Prefix == "") {
			c.bad(at, "give either path or prefix")
		} else {
			c.path(at, r.Path+r.Prefix)
		}
		for j, m := range r.Methods {
			if strings.ToUpper(m) != m || !token(m) {
				c.bad(fmt.Sprintf("%s.methods[%d]", at, j), "%q must be a method in upper case, such as POST", m)
			}
		}
	}
}

// grants checks rules that let requests pass.
func (c *checker) grants(field string, rules []PathRule) {
	c.rules(field, rules)
	for i, rule := range rules {
		for j, allowed := range rule.Allow {
			switch allowed {
			case AllowUpgrades, AllowOverrides, AllowBodies:
			default:
				c.bad(fmt.Sprintf("%s[%d].allow[%d]", field, i, j), "%q must be upgrades, overrides or bodies", allowed)
			}
		}
	}
}

// readsNoBody refuses rules by which a request would pass only once its body was read.
func (c *checker) readsNoBody(field string, rules []PathRule) {
	for i, rule := range rules {
		if named := slices.IndexFunc(rule.Methods, overridable); named >= 0 && !slices.Contains(rule.Allow, AllowOverrides) {
			c.bad(fmt.Sprintf("%s[%d].allow", field, i), `must have "overrides" where the methods have %s: bodies are not read for these rules, and one could name another method`, rule.Methods[named])
		}
	}
}

func (c *checker) policy(field string, p Policy) {
	if p != "" && p != PolicyRefuse && p != PolicyAllow {
		c.bad(field, "%q must be refuse or allow", p)
	}
}

func (a *app) compileBypass(c *checker) {
	a.networks = make(networks)
	for i, ip := range a.spec.Bypass.IPs {
		if problem := a.networks.add(ip); problem != "" {
			c.bad(fmt.Sprintf("bypass.ips[%d]", i), "%q %s", ip, problem)
		}
	}
	a.compileClaims(c)
	for i, p := range a.spec.Bypass.Principals {
		if field := fmt.Sprintf("bypass.principals[%d]", i); strings.Trim(p, "*") == "" {
			c.bad(field, "%q would let every peer pass; name an identity such as spiffe://cluster.local/ns/ops/sa/admin", p)
		} else if strings.Contains(p[:len(p)-1], "*") {
			c.bad(field, "%q may have a * at its end only", p)
		}
	}
}

func (a *app) compileReadOnly(c *checker) {
	r := &a.spec.ReadOnly
	c.grants("read_only.write_through", r.WriteThrough)
	a.writeThrough = compileGrants(r.WriteThrough)
	for i := range a.writeThrough {
		rule := &a.writeThrough[i]
		rule.upgrades = rule.upgrades || r.Upgrades == PolicyAllow
		rule.bodies = rule.bodies || r.GetBodies == PolicyAllow
	}

	c.rules("read_only.get_writes", r.GetWrites)
	for i, rule := range r.GetWrites {
		if len(rule.Allow) > 0 {
			c.bad(fmt.Sprintf("read_only.get_writes[%d].allow", i), "is for rules that let requests pass; this one refuses them")
		}
	}
	a.getWrites = compileRefusals(r.GetWrites)

	for i, rpc := range r.SafeRPCs {
		if parts := strings.Split(rpc, "/"); len(parts) != 3 || parts[0] != "" || parts[1] == "" || parts[2] == "" || !plain(rpc) {
			c.bad(fmt.Sprintf("read_only.safe_rpcs[%d]", i), "%q must be /package.Service/Method", rpc)
		}
	}
	c.policy("read_only.upgrades", r.Upgrades)
	c.policy("read_only.get_bodies", r.GetBodies)
	c.policy("read_only.event_streams", r.EventStreams)
}

func (a *app) compileGraphQL(c *checker) {
	g := a.spec.GraphQL
	if g == nil {
		g = &GraphQL{Paths: []string{"/graphql"}}
	} else if g.Paths == nil {
		c.bad("graphql.paths", "is required; [] where nothing speaks GraphQL")
	}
	c.paths("graphql.paths", g.Paths)
	for _, p := range g.Paths {
		a.graphql = append(a.graphql, graphqlPath{p, fold(p)})
	}
	for _, bound := range []struct {
		field  string
		n, max int
	}{
		{"max_body", g.MaxBody, MaxBodyBytes},
		{"max_tokens", g.MaxTokens, math.MaxInt32},
		{"max_depth", g.MaxDepth, graphql.MaxNesting},
		{"max_batch", g.MaxBatch, math.MaxInt32},
	} {
		if bound.n < 0 || bound.n > bound.max {
			c.bad("graphql."+bound.field, "must be 0 (the default) to %d", bound.max)
		}
	}
	if len(g.ExtraKeys) > maxExtraKeys {
		c.bad("graphql.extra_keys", "%d are more than %d", len(g.ExtraKeys), maxExtraKeys)
	}
	c.policy("graphql.below", g.Below)
	c.policy("graphql.upgrades", g.Upgrades)
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
		a.options.Persisted = make(map[[sha256.Size]byte]struct{}, len(g.Persisted))
	}
	for i, h := range g.Persisted {
		sum, err := hex.DecodeString(h)
		if err != nil || len(sum) != sha256.Size {
			c.bad(fmt.Sprintf("graphql.persisted[%d]", i), "must be a SHA-256 as 64 hex digits")
			continue
		}
		a.options.Persisted[[sha256.Size]byte(sum)] = struct{}{}
	}
}

func (a *app) compileReplies(c *checker) {
	s := &a.spec
	if s.RetryAfter < 0 || s.RetryAfter > math.MaxInt32 {
		c.bad("retry_after", "must be seconds, 0 (the default) to %d", math.MaxInt32)
	}
	if len(s.Pages) > maxPages {
		c.bad("pages", "%d are more than %d", len(s.Pages), maxPages)
	}
	for lang := range s.Pages {
		a.languages = append(a.languages, lang)
	}
	slices.Sort(a.languages)
	for _, lang := range a.languages {
		field, sha := join("pages", lang), s.Pages[lang]
		if !validLanguage(lang) {
			c.bad(field, "%q is no language tag such as en or pt-BR", lang)
		}
		if len(sha) != 2*sha256.Size || strings.Trim(sha, "0123456789abcdef") != "" {
			c.bad(field, "must be the page's SHA-256 as 64 lower-case hex digits; upload the page first")
		}
	}
	for i, o := range s.CORS.Origins {
		if !validOrigin(o) {
			c.bad(fmt.Sprintf("cors.origins[%d]", i), "%q must be an origin as browsers send it, such as https://app.example.com (lower case, no path, no *, no default port)", o)
		}
	}
}

// validOrigin takes what browsers send (RFC 6454 section 6.2): anything else would
// never match.
func validOrigin(origin string) bool {
	scheme, host, _ := strings.Cut(origin, "://")
	defaultPort := map[string]string{"http": ":80", "https": ":443"}[scheme]
	return defaultPort != "" && host != "" && !strings.HasSuffix(host, defaultPort) &&
		!strings.ContainsAny(host, `/\?#@*, `) && printable(origin) && strings.ToLower(origin) == origin
}

func (c *checker) activations(list []Activation) {
	ids := map[string]bool{}
	for i, a := range list {
		at := fmt.Sprintf("activations[%d]", i)
		switch a.Source {
		case SourceManual, SourceWindow, SourceFile, SourceResource:
		default:
			c.bad(at+".source", "%q must be manual, window, file or resource", a.Source)
		}
		if a.ID == "" || ids[a.ID] {
			c.bad(at+".id", "%q must be present and unique in its app", a.ID)
		}
		ids[a.ID] = true
		c.mode(at+".mode", a.Mode)
		c.message(at+".message", a.Message)
		if a.Since.IsZero() {
			c.bad(at+".since", "is required")
		}
		if !a.Until.IsZero() && !a.Until.After(a.Since) {
			c.bad(at+".until", "%s must be after since, %s", a.Until.Format(time.RFC3339), a.Since.Format(time.RFC3339))
		}
	}
}

func (c *checker) windows(list []Window) {
	ids := map[string]bool{}
	for i, w := range list {
		at := fmt.Sprintf("windows[%d]", i)
		if !validName(w.ID) || ids[w.ID] {
			c.bad(at+".id", "%q must be a name of a-z, 0-9 and -, unique in its app", w.ID)
		}
		ids[w.ID] = true
		c.mode(at+".mode", w.Mode)
		c.message(at+".message", w.Message)
		if w.Announce < 0 || w.Announce > 366*24*3600 {
			c.bad(at+".announce", "must be 0 to a year, in seconds")
		}
		if len(w.Occurrences) > MaxOccurrences {
			c.bad(at+".occurrences", "%d are more than %d", len(w.Occurrences), MaxOccurrences)
		}
		for j, o := range w.Occurrences {
			if o.Start.IsZero() {
				c.bad(fmt.Sprintf("%s.occurrences[%d].start", at, j), "is required")
			}
			if !o.End.After(o.Start) {
				c.bad(fmt.Sprintf("%s.occurrences[%d].end", at, j), "must be after start")
			}
		}
	}
}

func (c *checker) mode(field string, m Mode) {
	if !m.Valid() {
		c.bad(field, "%q must be %s", m, ModeList())
	}
}

func (c *checker) message(field, message string) {
	switch {
	case len(message) > MaxMessageBytes:
		c.bad(field, "%d bytes are more than %d", len(message), MaxMessageBytes)
	case !printable(message):
		c.bad(field, "must be UTF-8 text without control characters")
	}
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) < 0
}

// token is RFC 9110 section 5.6.2.
func token(s string) bool {
	for i := range len(s) {
		if c := s[i]; !alphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

func alphanumeric(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}

// validLanguage takes "" and what has the shape of a language tag (RFC 5646 section 2.1).
func validLanguage(tag string) bool {
	if tag == "" {
		return true
	}
	for part := range strings.SplitSeq(tag, "-") {
		if part == "" || len(part) > 8 {
			return false
		}
		for i := range len(part) {
			if !alphanumeric(part[i]) {
				return false
			}
		}
	}
	return true
}

// networks is a set of prefixes by family and length: a lookup probes the few lengths
// that occur, however many prefixes there are.
type networks map[family]map[netip.Prefix]struct{}

type family struct {
	v4   bool
	bits int
}

// add takes an address or a CIDR, and tells what is wrong with another text.
// IPv4-mapped IPv6 counts as the IPv4 that it means.
func (n networks) add(s string) (problem string) {
	addr, _, cidr := strings.Cut(s, "/")
	ip, err := netip.ParseAddr(addr)
	if err != nil || ip.Zone() != "" {
		return "is no address or CIDR; write like 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"
	}
	bits := ip.BitLen()
	if cidr {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Sprintf("must have a prefix length of 0 to %d behind the /", ip.BitLen())
		}
		bits = p.Bits()
	}
	if ip.Is4In6() {
		if bits -= 96; bits < 0 {
			return "spans more than the IPv4-mapped addresses; write IPv4 CIDRs as IPv4"
		}
		ip = ip.Unmap()
	}
	prefix, _ := ip.Prefix(bits)
	if prefix.Addr() != ip {
		return fmt.Sprintf("has address bits beyond its prefix; write %s, or %s for the one address", prefix, ip)
	}
	at := family{ip.Is4(), bits}
	if n[at] == nil {
		n[at] = make(map[netip.Prefix]struct{})
	}
	n[at][prefix] = struct{}{}
	return ""
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
	for at, set := range n {
		if at.v4 != ip.Is4() {
			continue
		}
		if prefix, err := ip.Prefix(at.bits); err == nil {
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
	if n := len(address); n > 1 && address[0] == '[' && address[n-1] == ']' {
		address = address[1 : n-1]
	}
	ip, err := netip.ParseAddr(address)
	return ip.Unmap().WithZone(""), err == nil
}
