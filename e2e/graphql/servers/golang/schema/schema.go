// Package schema has the schema of the rig for the two Go servers. Every field of a mutation or a
// subscription raises the counter.
package schema

import (
	"context"
	"sync/atomic"

	gophers "github.com/graph-gophers/graphql-go"
	"github.com/graphql-go/graphql"
)

type query struct{ counter *atomic.Int64 }

func text(s string) *string { return &s }

func (query) A() *string                            { return text("a") }
func (query) B() *string                            { return text("b") }
func (query) Query() *string                        { return text("query") }
func (query) Mutation() *string                     { return text("mutation") }
func (query) Subscription() *string                 { return text("subscription") }
func (q query) Node() *query                        { return &q }
func (query) Echo(args struct{ X *string }) *string { return args.X }
func (q query) Counter() *int32                     { n := int32(q.counter.Load()); return &n }

type mutation struct{ counter *atomic.Int64 }

func raise(c *atomic.Int64) *int32 { n := int32(c.Add(1)); return &n }

func (m mutation) A() *int32                       { return raise(m.counter) }
func (m mutation) B() *int32                       { return raise(m.counter) }
func (m mutation) Bump() *int32                    { return raise(m.counter) }
func (m mutation) Mutation() *int32                { return raise(m.counter) }
func (m mutation) Echo(struct{ X *string }) *int32 { return raise(m.counter) }

type subscription struct{ counter *atomic.Int64 }

func raises(counter *atomic.Int64) <-chan *int32 {
	c := make(chan *int32, 1)
	c <- raise(counter)
	close(c)
	return c
}

func (s subscription) A(context.Context) <-chan *int32    { return raises(s.counter) }
func (s subscription) B(context.Context) <-chan *int32    { return raises(s.counter) }
func (s subscription) Bump(context.Context) <-chan *int32 { return raises(s.counter) }

type root struct{ counter *atomic.Int64 }

func (r root) Query() *query               { return &query{r.counter} }
func (r root) Mutation() *mutation         { return &mutation{r.counter} }
func (r root) Subscription() *subscription { return &subscription{r.counter} }

// Gophers returns the schema of graph-gophers/graphql-go.
func Gophers(sdl string, counter *atomic.Int64) (*gophers.Schema, error) {
	return gophers.ParseSchema(sdl, &root{counter})
}

// GraphQLGo returns the schema of graphql-go/graphql.
func GraphQLGo(counter *atomic.Int64) (graphql.Schema, error) {
	one := func(f func() any) graphql.FieldResolveFn {
		return func(graphql.ResolveParams) (any, error) { return f(), nil }
	}
	x := graphql.FieldConfigArgument{"x": {Type: graphql.String}}

	q := graphql.Fields{
		"counter": {Type: graphql.Int, Resolve: one(func() any { return counter.Load() })},
		"echo":    {Type: graphql.String, Args: x, Resolve: func(p graphql.ResolveParams) (any, error) { return p.Args["x"], nil }},
	}
	for _, name := range []string{"a", "b", "query", "mutation", "subscription"} {
		q[name] = &graphql.Field{Type: graphql.String, Resolve: one(func() any { return name })}
	}

	object := graphql.NewObject(graphql.ObjectConfig{Name: "Query", Fields: q})
	object.AddFieldConfig("node", &graphql.Field{Type: object, Resolve: one(func() any { return struct{}{} })})

	raising := func(names ...string) graphql.Fields {
		fields := graphql.Fields{}
		for _, name := range names {
			fields[name] = &graphql.Field{Type: graphql.Int, Resolve: one(func() any { return counter.Add(1) })}
		}
		return fields
	}

	m := raising("a", "b", "bump", "echo", "mutation")
	m["echo"].Args = x

	return graphql.NewSchema(graphql.SchemaConfig{
		Query:        object,
		Mutation:     graphql.NewObject(graphql.ObjectConfig{Name: "Mutation", Fields: m}),
		Subscription: graphql.NewObject(graphql.ObjectConfig{Name: "Subscription", Fields: raising("a", "b", "bump")}),
	})
}
