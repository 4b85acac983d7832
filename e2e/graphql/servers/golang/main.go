// Command golang is the rig's Go servers: `golang gophers` and `golang graphql-go`.
package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	gophers "github.com/graph-gophers/graphql-go"
	"github.com/graph-gophers/graphql-go/relay"
	"github.com/graphql-go/graphql"
	"github.com/graphql-go/handler"
)

var counter atomic.Int64

func main() {
	servers := map[string]func() http.Handler{"gophers": gophersHandler, "graphql-go": graphqlGoHandler}
	if len(os.Args) < 2 || servers[os.Args[1]] == nil {
		log.Fatal("usage: golang gophers|graphql-go")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/__counter", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, counter.Load()) })
	h := servers[os.Args[1]]()
	mux.Handle("/graphql", h)
	mux.Handle("/graphql/", h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening", l.Addr())
	log.Fatal((&http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}).Serve(l))
}

type query struct{}

func text(s string) *string { return &s }

func (query) A() *string                            { return text("a") }
func (query) B() *string                            { return text("b") }
func (query) Query() *string                        { return text("query") }
func (query) Mutation() *string                     { return text("mutation") }
func (query) Subscription() *string                 { return text("subscription") }
func (query) Node() *query                          { return &query{} }
func (query) Echo(args struct{ X *string }) *string { return args.X }
func (query) Counter() *int32                       { n := int32(counter.Load()); return &n }

type mutation struct{}

func raise() *int32 { n := int32(counter.Add(1)); return &n }

func (mutation) A() *int32                       { return raise() }
func (mutation) B() *int32                       { return raise() }
func (mutation) Bump() *int32                    { return raise() }
func (mutation) Mutation() *int32                { return raise() }
func (mutation) Echo(struct{ X *string }) *int32 { return raise() }

type subscription struct{}

func raises() <-chan *int32 {
	c := make(chan *int32, 1)
	c <- raise()
	close(c)
	return c
}

func (subscription) A(context.Context) <-chan *int32    { return raises() }
func (subscription) B(context.Context) <-chan *int32    { return raises() }
func (subscription) Bump(context.Context) <-chan *int32 { return raises() }

type root struct{}

func (root) Query() *query               { return &query{} }
func (root) Mutation() *mutation         { return &mutation{} }
func (root) Subscription() *subscription { return &subscription{} }

// gophersHandler is graph-gophers/graphql-go: its own relay.Handler for every body, which takes the first JSON value
// of it by encoding/json and asks for no type, behind what services put there: compressed bodies are inflated, and
// what carries no JSON is looked up as a form value, of the body or of the URL.
func gophersHandler() http.Handler {
	sdl, err := os.ReadFile(os.Getenv("SCHEMA"))
	if err != nil {
		log.Fatal(err)
	}
	schema := gophers.MustParseSchema(string(sdl), &root{})
	js := &relay.Handler{Schema: schema}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			r.Body = z
		}
		t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		switch {
		case t == "application/x-www-form-urlencoded", strings.HasPrefix(t, "multipart/"), r.URL.Query().Get("query") != "":
			json.NewEncoder(w).Encode(schema.Exec(r.Context(), r.FormValue("query"), r.FormValue("operationName"), nil))
		case t == "application/graphql":
			b, _ := io.ReadAll(r.Body)
			json.NewEncoder(w).Encode(schema.Exec(r.Context(), string(b), "", nil))
		default:
			js.ServeHTTP(w, r)
		}
	})
}

// graphqlGoHandler is graphql-go/graphql behind its own handler: the URL's query wins whatever the method is, a
// mutation by GET runs, and forms, application/graphql and anything else as JSON are read.
func graphqlGoHandler() http.Handler {
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
	schema, err := graphql.NewSchema(graphql.SchemaConfig{
		Query:        object,
		Mutation:     graphql.NewObject(graphql.ObjectConfig{Name: "Mutation", Fields: m}),
		Subscription: graphql.NewObject(graphql.ObjectConfig{Name: "Subscription", Fields: raising("a", "b", "bump")}),
	})
	if err != nil {
		log.Fatal(err)
	}
	return handler.New(&handler.Config{Schema: &schema})
}
