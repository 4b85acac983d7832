package maintenance

import "fmt"

// This file reads the JSON of a document, type by type. Its methods of value (decode.go) read the
// next JSON value as the type that they are named after.

// Bounds on lists, beside those in document.go. They are far above any honest use. They keep a
// mistake from filling the memory of a proxy.
const (
	maxEntries    = 1000    // activations, windows, GraphQL paths, origins: per app
	maxNames      = 10_000  // hosts, paths, routes, clusters, RPCs, rules: per list
	maxPersisted  = 100_000 // hashes of persisted documents, per app
	maxMethods    = 100     // per rule
	maxAllowances = 8       // per rule; there are three
)

// Parse reads and compiles a document. Unknown and duplicate fields are rejected, because a rule
// that is not read must not look as if it protected something. An error is a [*FieldError] or wraps
// [ErrJSON].
func Parse(data []byte) (*State, error) {
	var doc Document
	err := decode(data, func(v value) {
		v.object(func(key string, v value) bool {
			switch key {
			case "format":
				doc.Format = v.int()
			case "epoch":
				doc.Epoch = v.uint()
			case "revision":
				doc.Revision = v.uint()
			case "apps":
				v.array(MaxApps, func(v value) { doc.Apps = append(doc.Apps, v.app()) })
			default:
				return false
			}

			return true
		})
	})

	if doc.Format > Format {
		// Any other error is a consequence: an older filter does not know the fields of a newer
		// format.
		err = &FieldError{"format", fmt.Sprintf("%d is newer than %d, the newest that this module reads; update drydock.wasm", doc.Format, Format)}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state: %w", err)
	}

	return Compile(doc)
}

// ParseSpec reads what an operator writes about one app and checks it on its own. Errors are those
// of [Parse], with fields relative to the app.
func ParseSpec(data []byte) (Spec, error) {
	var app App
	err := decode(data, func(v value) {
		v.object(func(key string, v value) bool { return v.specField(key, &app.Spec) })
	})
	if err != nil {
		return Spec{}, err
	}

	if _, err := compileApp(&app, ""); err != nil {
		return Spec{}, err
	}

	return app.Spec, nil
}

// app reads an App: the fields of its Spec, and its activations.
func (v value) app() (app App) {
	v.object(func(key string, v value) bool {
		if key == "activations" {
			v.array(maxEntries, func(v value) { app.Activations = append(app.Activations, v.activation()) })
			return true
		}

		return v.specField(key, &app.Spec)
	})
	return app
}

// specField reads one field of a spec, and reports whether a spec has a field of this name.
func (v value) specField(key string, s *Spec) bool {
	switch key {
	case "name":
		s.Name = v.str()
	case "match":
		s.Match = v.match()
	case "bypass":
		s.Bypass = v.bypass()
	case "exempt":
		s.Exempt = v.pathRules()
	case "graphql":
		s.GraphQL = v.graphQL()
	case "read_only":
		s.ReadOnly = v.readOnlyRules()
	case "windows":
		v.array(maxEntries, func(v value) { s.Windows = append(s.Windows, v.window()) })
	case "retry_after":
		s.RetryAfter = v.int()
	case "pages":
		s.Pages = v.pages()
	case "cors":
		s.CORS = v.cors()
	default:
		return false
	}

	return true
}

func (v value) match() (m Match) {
	v.object(func(key string, v value) bool {
		switch key {
		case "hosts":
			m.Hosts = v.strs(maxNames)
		case "paths":
			m.Paths = v.strs(maxNames)
		case "routes":
			m.Routes = v.strs(maxNames)
		case "clusters":
			m.Clusters = v.strs(maxNames)
		default:
			return false
		}

		return true
	})
	return m
}

// readOnlyRules reads a ReadOnlyRules.
func (v value) readOnlyRules() (r ReadOnlyRules) {
	v.object(func(key string, v value) bool {
		switch key {
		case "safe_rpcs":
			r.SafeRPCs = v.strs(maxNames)
		case "write_through":
			r.WriteThrough = v.pathRules()
		case "get_writes":
			r.GetWrites = v.pathRules()
		case "upgrades":
			r.Upgrades = Policy(v.str())
		case "get_bodies":
			r.GetBodies = Policy(v.str())
		case "event_streams":
			r.EventStreams = Policy(v.str())
		default:
			return false
		}

		return true
	})
	return r
}

// pathRules reads a list of PathRules.
func (v value) pathRules() (rules []PathRule) {
	v.array(maxNames, func(v value) {
		var r PathRule
		v.object(func(key string, v value) bool {
			switch key {
			case "methods":
				r.Methods = v.strs(maxMethods)
			case "path":
				r.Path = v.str()
			case "prefix":
				r.Prefix = v.str()
			case "allow":
				v.array(maxAllowances, func(v value) { r.Allow = append(r.Allow, Allowance(v.str())) })
			default:
				return false
			}

			return true
		})

		rules = append(rules, r)
	})
	return rules
}

// graphQL reads a GraphQL. An empty list of paths stays a list that is not nil: no path is a
// GraphQL path then, and the default does not apply.
func (v value) graphQL() *GraphQL {
	g := new(GraphQL)
	v.object(func(key string, v value) bool {
		switch key {
		case "paths":
			isList := v.array(maxEntries, func(v value) { g.Paths = append(g.Paths, v.str()) })
			if isList && g.Paths == nil {
				g.Paths = []string{} // no path, as opposed to the default
			}
		case "batching":
			b := v.bool()
			g.Batching = &b
		case "extra_keys":
			g.ExtraKeys = v.strs(100) // checker.graphQL allows fewer: maxExtraKeys
		case "persisted":
			g.Persisted = v.strs(maxPersisted)
		case "max_body":
			g.MaxBody = v.int()
		case "max_tokens":
			g.MaxTokens = v.int()
		case "max_depth":
			g.MaxDepth = v.int()
		case "max_batch":
			g.MaxBatch = v.int()
		case "below":
			g.Below = Policy(v.str())
		case "upgrades":
			g.Upgrades = Policy(v.str())
		default:
			return false
		}

		return true
	})

	return g
}

// pages reads the hashes of pages by language. checker.pages checks them.
func (v value) pages() map[string]string {
	pages := make(map[string]string)
	v.object(func(key string, v value) bool {
		pages[key] = v.str()
		return true
	})
	return pages
}

func (v value) cors() (c CORS) {
	v.object(func(key string, v value) bool {
		if key == "origins" {
			c.Origins = v.strs(maxEntries)
			return true
		}

		return false
	})
	return c
}

func (v value) activation() (a Activation) {
	v.object(func(key string, v value) bool {
		switch key {
		case "id":
			a.ID = v.str()
		case "source":
			a.Source = Source(v.str())
		case "mode":
			a.Mode = Mode(v.str())
		case "message":
			a.Message = v.str()
		case "since":
			a.Since = v.time()
		case "until":
			a.Until = v.time()
		default:
			return false
		}

		return true
	})
	return a
}

func (v value) window() (w Window) {
	w.Occurrences = []Occurrence{} // in the schema of the API a list cannot be null
	v.object(func(key string, v value) bool {
		switch key {
		case "id":
			w.ID = v.str()
		case "mode":
			w.Mode = Mode(v.str())
		case "message":
			w.Message = v.str()
		case "announce":
			w.Announce = v.int()
		case "occurrences":
			v.array(MaxOccurrences, func(v value) { w.Occurrences = append(w.Occurrences, v.occurrence()) })
		default:
			return false
		}

		return true
	})

	return w
}

func (v value) occurrence() (o Occurrence) {
	v.object(func(key string, v value) bool {
		switch key {
		case "start":
			o.Start = v.time()
		case "end":
			o.End = v.time()
		default:
			return false
		}

		return true
	})
	return o
}
