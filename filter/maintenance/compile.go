package maintenance

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// State is a document that was compiled so that requests can be decided by it. It never changes,
// apart from the view that it keeps, and is safe for concurrent use.
type State struct {
	doc      Document
	apps     []*app
	fallback *app // the default app, which gets the requests that no other app matches

	// The tables in which match.go looks up the app of a request.
	routes, clusters map[string]*app       // by Envoy's name of the route or cluster
	routed           []*app                // the apps in routes and clusters
	hosts            map[string]*pathTable // by name; "" for apps that match any host
	wildcards        map[string]*pathTable // by what follows the *, such as ".example.com"
	longestWildcard  int                   // the length of the longest key of wildcards, in bytes
	places           int                   // the pairs of host and path in the tables

	view atomic.Pointer[view] // the latest result of viewAt; nil before the first
}

// app is a compiled App: its rules in the form in which a request is compared with them.
type app struct {
	index          int // of the app in State.apps
	spec           Spec
	activations    []Activation
	networks       networks
	claims         []claimRule
	graphqlPaths   []graphqlPath
	graphqlOptions graphql.Options
	maxBody        int // in bytes

	exempt, writeThrough []grantRule
	getWrites            []refusalRule

	languages []string // of the app's own pages, sorted
}

// Compile checks a document and compiles it to a state. Its errors are [*FieldError]. The bounds on
// the JSON of a document are checked by [Parse] and not by Compile, so only a document that Parse
// accepts may be published.
func Compile(doc Document) (*State, error) {
	s := &State{
		doc:       doc,
		routes:    map[string]*app{},
		clusters:  map[string]*app{},
		hosts:     map[string]*pathTable{},
		wildcards: map[string]*pathTable{},
	}
	if len(doc.Apps) > MaxApps {
		return nil, &FieldError{"apps", fmt.Sprintf("must have at most %d entries, not %d", MaxApps, len(doc.Apps))}
	}

	names := map[string]bool{}
	for i := range doc.Apps {
		at := "apps[" + strconv.Itoa(i) + "]"
		a, err := compileApp(&doc.Apps[i], at)
		if err != nil {
			return nil, err
		}
		if names[a.spec.Name] {
			return nil, &FieldError{at + ".name", fmt.Sprintf("there are two apps named %q", a.spec.Name)}
		}

		names[a.spec.Name] = true

		s.addApp(a)
		if a.spec.Name == DefaultApp {
			s.fallback = a
		} else if err := s.place(a, at+".match"); err != nil {
			return nil, err
		}
	}

	if s.fallback == nil {
		// An app without rules always compiles.
		s.fallback, _ = compileApp(&App{Spec: Spec{Name: DefaultApp}}, "")
		s.addApp(s.fallback)
	}

	return s, nil
}

// addApp adds an app to the list, but not to the tables.
func (s *State) addApp(a *app) {
	a.index = len(s.apps)
	s.apps = append(s.apps, a)
}

// Document returns the document that the state was compiled from. It must not be changed.
func (s *State) Document() Document { return s.doc }

// Version returns the version of the document.
func (s *State) Version() Version { return s.doc.Version }

// compileApp checks and compiles one app. at is the JSON path of the app, for errors: "apps[2]", or
// "" for an app on its own.
func compileApp(src *App, at string) (*app, error) {
	s := &src.Spec
	a := &app{spec: *s, activations: src.Activations}
	c := &checker{at: at}

	c.name(s.Name)
	c.match(s)
	a.compileBypass(c)
	c.grants("exempt", s.Exempt)
	a.exempt = compileGrants(s.Exempt)
	a.compileReadOnly(c)
	a.compileGraphQL(c)
	a.compileReplies(c)
	c.activations(src.Activations)
	c.windows(s.Windows)

	return a, c.err
}

// compileReadOnly compiles the rules for read-only. The policies of the app for upgrades and for
// bodies of GET also apply to write-through rules, as if each rule listed those allowances.
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
			c.reject(fmt.Sprintf("read_only.get_writes[%d].allow", i), "is only for rules that let requests pass; this one refuses them")
		}
	}

	a.getWrites = compileRefusals(r.GetWrites)

	c.rpcs("read_only.safe_rpcs", r.SafeRPCs)
	c.policy("read_only.upgrades", r.Upgrades)
	c.policy("read_only.get_bodies", r.GetBodies)
	c.policy("read_only.event_streams", r.EventStreams)
}

// compileGraphQL compiles the settings for GraphQL. Without settings, /graphql is a GraphQL path.
func (a *app) compileGraphQL(c *checker) {
	g := a.spec.GraphQL
	if g == nil {
		g = &GraphQL{Paths: []string{"/graphql"}}
	} else if g.Paths == nil {
		c.reject("graphql.paths", "is required; write [] if no path serves GraphQL")
	}

	c.graphQL(g)

	for _, p := range g.Paths {
		a.graphqlPaths = append(a.graphqlPaths, graphqlPath{p, fold(p)})
	}

	a.maxBody = cmp.Or(g.MaxBody, graphql.DefaultMaxBody)
	a.graphqlOptions = graphql.Options{
		Batching:  g.Batching == nil || *g.Batching,
		MaxBatch:  g.MaxBatch,
		MaxTokens: g.MaxTokens,
		MaxDepth:  g.MaxDepth,
		MaxBody:   a.maxBody,
		ExtraKeys: g.ExtraKeys,
	}

	if len(g.Persisted) > 0 {
		a.graphqlOptions.Persisted = make(map[[sha256.Size]byte]struct{}, len(g.Persisted))
	}

	for i, h := range g.Persisted {
		sum, err := hex.DecodeString(h)
		if err != nil || len(sum) != sha256.Size {
			c.reject(fmt.Sprintf("graphql.persisted[%d]", i), "must be a SHA-256 as 64 hex digits")
			continue
		}

		a.graphqlOptions.Persisted[[sha256.Size]byte(sum)] = struct{}{}
	}
}

// compileReplies checks what determines the reply to a refused request.
func (a *app) compileReplies(c *checker) {
	for lang := range a.spec.Pages {
		a.languages = append(a.languages, lang)
	}

	slices.Sort(a.languages)

	c.retryAfter(a.spec.RetryAfter)
	c.pages(a.spec.Pages, a.languages)
	c.origins(a.spec.CORS.Origins)
}
