package maintenance

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

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

// Document is what the state was compiled from. It must not be changed.
func (s *State) Document() Document { return s.doc }

// Version of the document.
func (s *State) Version() Version { return s.doc.Version }

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
