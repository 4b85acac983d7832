package maintenance

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// This file finds the apps to which a request may belong. An app matches by Envoy's names of routes
// and clusters, or by hosts and path prefixes. The tables are filled when a document is compiled. A
// request is looked up under each of its readings: the ways in which some server may read its host
// and its path (readings.go).

// pathTable has the apps on one host, by path prefix. A prefix has no slash at its end, so that of
// all paths is "".
type pathTable struct {
	exact   map[string]*app // by the prefix as written
	folded  map[string]*app // by the prefix in lower case
	lengths []int           // of all prefixes, each once, the longest first
}

// add adds the app with this prefix, which must not be in the table yet.
func (p *pathTable) add(prefix string, a *app) {
	p.exact[prefix] = a
	p.folded[fold(prefix)] = a

	descending := func(n, m int) int { return cmp.Compare(m, n) }
	if at, found := slices.BinarySearchFunc(p.lengths, len(prefix), descending); !found {
		p.lengths = slices.Insert(p.lengths, at, len(prefix))
	}
}

// longest returns the app with the longest prefix that is the path or a parent of the path, or nil.
func (p *pathTable) longest(path string) *app {
	for _, n := range p.lengths {
		if n <= len(path) && (n == len(path) || path[n] == '/') {
			if a := p.exact[path[:n]]; a != nil {
				return a
			}
		}
	}

	return nil
}

// longestFolded does the same for a path in lower case. Some servers ignore a format suffix, and
// read "/orders.json" as "/orders". So longestFolded also calls also for each app with a longer
// prefix after which the rest of the path may be such a suffix.
func (p *pathTable) longestFolded(path string, also func(*app)) *app {
	for _, n := range p.lengths {
		if n > len(path) {
			continue
		}

		switch rest := path[n:]; {
		case rest == "" || rest[0] == '/':
			if a := p.folded[path[:n]]; a != nil {
				return a
			}
		case mayBeFormatSuffix(rest):
			if a := p.folded[path[:n]]; a != nil {
				also(a)
			}
		}
	}

	return nil
}

// place adds an app to the tables, under everything that it matches by. It is an error if another
// app matches by the same name, or by the same pair of host and path. at is the JSON path of the
// match, for errors.
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
	if err := placeNames(s.routes, m.Routes, a, at+".routes"); err != nil {
		return err
	}

	return placeNames(s.clusters, m.Clusters, a, at+".clusters")
}

// placeNames adds an app to the table of routes or of clusters, under each of the names. at is the
// JSON path of the names.
func placeNames(table map[string]*app, names []string, a *app, at string) error {
	for i, name := range names {
		if other := table[name]; other != nil {
			return &FieldError{fmt.Sprintf("%s[%d]", at, i), fmt.Sprintf("%q is also in app %q", name, other.spec.Name)}
		}
		table[name] = a
	}
	return nil
}

// placePaths adds an app to the tables of its hosts, under each of its paths. An app without hosts
// matches any host, which has the name "", and an app without paths matches any path.
func (s *State) placePaths(a *app, at string) error {
	hosts, paths := a.spec.Match.Hosts, a.spec.Match.Paths
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	if len(paths) == 0 {
		paths = []string{"/"}
	}

	s.places += len(hosts) * len(paths)
	if s.places > MaxPlaces {
		return &FieldError{at, fmt.Sprintf("with the %d hosts times %d paths here, the apps have more than %d; match by fewer paths or by routes", len(hosts), len(paths), MaxPlaces)}
	}

	for _, host := range hosts {
		table := s.tableOfHost(host)
		for _, path := range paths {
			prefix := strings.TrimSuffix(path, "/")
			if other := table.folded[fold(prefix)]; other != nil {
				return &FieldError{at, fmt.Sprintf("host %q with path %q is also in app %q (letter case and a last dot or slash make no difference)", cmp.Or(host, "(any)"), path, other.spec.Name)}
			}

			table.add(prefix, a)
		}
	}

	return nil
}

// tableOfHost returns the table of a host as a match names it, such as "shop.example.com" or
// "*.example.com", and makes it if there is none.
func (s *State) tableOfHost(host string) *pathTable {
	tables, key := s.hosts, canonicalHost(host)
	if suffix, isWildcard := strings.CutPrefix(host, "*"); isWildcard {
		tables, key = s.wildcards, canonicalHost(suffix)
		s.longestWildcard = max(s.longestWildcard, len(key))
	}

	if tables[key] == nil {
		tables[key] = &pathTable{exact: map[string]*app{}, folded: map[string]*app{}}
	}

	return tables[key]
}

// appsOf appends to found the apps to which a request may belong, and returns found. It is one app,
// unless servers may read the host or the path in ways that belong to different apps.
func (s *State) appsOf(r *Request, found []*app) []*app {
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

	rs := r.interpret()
	if rs.anyHost || rs.anyPath {
		return s.appsOnHosts(rs, found)
	}

	add := func(a *app) {
		if !slices.Contains(found, a) {
			found = append(found, a)
		}
	}
	for _, host := range rs.hosts {
		var buf [8]*pathTable // enough for most hosts, so that nothing is allocated
		tables := s.tablesFor(host, buf[:0])
		for i := range rs.paths {
			add(s.lookup(tables, rs.paths[i]))
			// A server that ignores letter case may find another app than one that does not.
			add(s.lookupFolded(tables, rs.folded[i], add))
		}
	}

	return found
}

// appsOnHosts appends to found every app to which some path on the hosts of a request belongs, in
// the order of the document, and returns found. If the request may be for any host, these are all
// apps.
func (s *State) appsOnHosts(rs *readings, found []*app) []*app {
	if rs.anyHost {
		return append(found, s.apps...)
	}

	reached := make([]bool, len(s.apps)) // by app.index
	for _, host := range rs.hosts {
		hasRoot := false // whether an app has every path that no other app on the host has
		for _, t := range s.tablesFor(host, nil) {
			for _, a := range t.exact {
				reached[a.index] = true
			}

			hasRoot = t.exact[""] != nil
			if hasRoot {
				break // no path is looked up in the less specific tables
			}
		}

		if !hasRoot {
			reached[s.fallback.index] = true
		}
	}

	for i, a := range s.apps {
		if reached[i] {
			found = append(found, a)
		}
	}
	return found
}

// tablesFor appends to found the tables in which the paths on a host are looked up, the most
// specific first: that of the host's name, those of the wildcards that cover the name, the longest
// first, and that of apps that match any host. It returns found. A host is as canonicalHost returns
// it.
func (s *State) tablesFor(host string, found []*pathTable) []*pathTable {
	if t := s.hosts[host]; t != nil && host != "" {
		found = append(found, t)
	}

	// The loop begins where what is left of the name is as long as the longest wildcard.
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

// lookup returns the app that a path belongs to for servers that distinguish letter case.
func (s *State) lookup(tables []*pathTable, path string) *app {
	for _, t := range tables {
		if a := t.longest(path); a != nil {
			return a
		}
	}
	return s.fallback
}

// lookupFolded returns the app that a path, in lower case, belongs to for servers that ignore
// letter case. It calls also for each app to which the path belongs if a server ignores a format
// suffix.
func (s *State) lookupFolded(tables []*pathTable, path string, also func(*app)) *app {
	for _, t := range tables {
		if a := t.longestFolded(path, also); a != nil {
			return a
		}
	}
	return s.fallback
}
