package maintenance

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// pathTable are the apps on one host, by path prefix without its last slash: as written, and in
// lower case.
type pathTable struct {
	exact, folded map[string]*app
	lengths       []int // of all prefixes, each once, the longest first
}

func (p *pathTable) add(prefix string, a *app) {
	p.exact[prefix], p.folded[fold(prefix)] = a, a
	descending := func(n, m int) int { return cmp.Compare(m, n) }
	if at, found := slices.BinarySearchFunc(p.lengths, len(prefix), descending); !found {
		p.lengths = slices.Insert(p.lengths, at, len(prefix))
	}
}

// longest returns the app with the longest prefix that path equals or lies under, or nil.
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

// longestFolded does the same for a path in lower case. In addition it calls also for each app with
// a longer prefix after which the rest of the path may be a format suffix.
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

// place adds the match of an app to the tables. It is an error if another app has the same. Errors
// are about fields at the JSON path at.
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

func placeNames(table map[string]*app, names []string, a *app, at string) error {
	for i, name := range names {
		if other := table[name]; other != nil {
			return &FieldError{fmt.Sprintf("%s[%d]", at, i), fmt.Sprintf("%q is also in app %q", name, other.spec.Name)}
		}
		table[name] = a
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
		return &FieldError{at, fmt.Sprintf("with the %d hosts times %d paths here, the apps have more than %d; match by fewer paths or by routes", len(hosts), len(paths), MaxPlaces)}
	}

	for _, host := range hosts {
		on := s.tableOfHost(host)
		for _, path := range paths {
			prefix := strings.TrimSuffix(path, "/")
			if other := on.folded[fold(prefix)]; other != nil {
				return &FieldError{at, fmt.Sprintf("host %q with path %q is also in app %q (letter case and a last dot or slash make no difference)", cmp.Or(host, "(any)"), path, other.spec.Name)}
			}

			on.add(prefix, a)
		}
	}

	return nil
}

// tableOfHost returns the prefixes on a host as a match names it, to which an app is to be added.
func (s *State) tableOfHost(host string) *pathTable {
	table, key := s.hosts, canonicalHost(host)
	if suffix, ok := strings.CutPrefix(host, "*"); ok {
		table, key = s.wildcards, canonicalHost(suffix)
		s.longestWildcard = max(s.longestWildcard, len(key))
	}

	if table[key] == nil {
		table[key] = &pathTable{exact: map[string]*app{}, folded: map[string]*app{}}
	}

	return table[key]
}

// appsOf appends to found the apps to which a request may belong. It is one app, unless servers may
// read the host or the path in ways that belong to different apps.
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
		var buf [8]*pathTable
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
// the order of the document.
func (s *State) appsOnHosts(rs *readings, found []*app) []*app {
	if rs.anyHost {
		return append(found, s.apps...)
	}

	reached := make([]bool, len(s.apps)) // by app.index
	for _, host := range rs.hosts {
		hasRoot := false
		for _, t := range s.tablesFor(host, nil) {
			for _, a := range t.exact {
				reached[a.index] = true
			}

			if hasRoot = t.exact[""] != nil; hasRoot {
				break
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

// tablesFor appends to found the prefixes on a host, the most specific table first.
func (s *State) tablesFor(host string, found []*pathTable) []*pathTable {
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

func (s *State) lookup(tables []*pathTable, path string) *app {
	for _, t := range tables {
		if a := t.longest(path); a != nil {
			return a
		}
	}
	return s.fallback
}

func (s *State) lookupFolded(tables []*pathTable, path string, also func(*app)) *app {
	for _, t := range tables {
		if a := t.longestFolded(path, also); a != nil {
			return a
		}
	}
	return s.fallback
}
