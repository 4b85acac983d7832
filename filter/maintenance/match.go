package maintenance

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

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
