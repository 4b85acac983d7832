// Command golang has the Go servers of the rig: `golang gophers` and `golang graphql-go`.
package main

import (
	"compress/gzip"
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

	"github.com/drydock-proxy/drydock/e2e/graphql/servers/golang/schema"
	"github.com/graph-gophers/graphql-go/relay"
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

// gophersHandler is graph-gophers/graphql-go with its own relay.Handler, which takes the first JSON
// value of any body and does not look at its type. In front of it is what services put there:
// compressed bodies are inflated, and the query of a form or a URL is run as it is.
func gophersHandler() http.Handler {
	sdl, err := os.ReadFile(os.Getenv("SCHEMA"))
	if err != nil {
		log.Fatal(err)
	}
	s, err := schema.Gophers(string(sdl), &counter)
	if err != nil {
		log.Fatal(err)
	}
	js := &relay.Handler{Schema: s}

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
			json.NewEncoder(w).Encode(s.Exec(r.Context(), r.FormValue("query"), r.FormValue("operationName"), nil))
		case t == "application/graphql":
			b, _ := io.ReadAll(r.Body)
			json.NewEncoder(w).Encode(s.Exec(r.Context(), string(b), "", nil))
		default:
			js.ServeHTTP(w, r)
		}
	})
}

// graphqlGoHandler is graphql-go/graphql with its own handler. The query of the URL wins whatever
// the method is, a mutation by GET runs, and the handler reads forms, application/graphql and, as
// JSON, anything else.
func graphqlGoHandler() http.Handler {
	s, err := schema.GraphQLGo(&counter)
	if err != nil {
		log.Fatal(err)
	}
	return handler.New(&handler.Config{Schema: &s})
}
