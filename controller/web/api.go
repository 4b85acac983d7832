package web

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

type api struct {
	Options
	huma huma.API
}

// API returns the handler of the listener for people and scripts.
func API(o Options) http.Handler {
	mux := http.NewServeMux()
	a := &api{Options: o, huma: humago.New(mux, apiConfig())}
	a.registerApps()
	a.registerActivations()
	a.registerBypass()
	a.registerStatus()
	a.registerExplain()
	a.registerProxies()
	a.registerAudit()
	a.registerPages()
	a.registerTokens()
	a.registerCompat()

	m := newMetrics(o)
	mux.HandleFunc("GET /api/v1/openapi.json", openAPI(a.huma))
	mux.Handle("GET /metrics", m.handler())
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", ready(o))
	mux.HandleFunc("GET /{$}", welcome)
	return m.measure(withDefaults(withProblems(mux)))
}

func apiConfig() huma.Config {
	config := huma.DefaultConfig("Drydock", "v1")
	config.Info.Description = "Drydock takes services behind Envoy or Istio out of service for their users, and keeps them open for the people who work on them.\n\n" +
		"A change of an app requires If-Match: the ETag of what was read, or * for any state. Without the header the answer is 428; with an outdated ETag it is 412. " +
		"Times are RFC 3339, and durations are whole seconds. Errors are RFC 9457 problems, and errors[].location names the invalid field."
	config.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	config.Components.Schemas = newRegistry()
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "An API token. Viewers may read; operators may also make changes."},
	}

	// No page that loads scripts from another origin, and no $schema in every answer.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	config.RejectUnknownQueryParameters = true
	return config
}

// openAPI returns a handler that serves the description of all operations registered so far.
func openAPI(api huma.API) http.HandlerFunc {
	document, err := json.MarshalIndent(api.OpenAPI(), "", "  ")
	if err != nil {
		panic(err) // it is made of our own types only
	}

	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Write(document)
	}
}

// welcome serves a page for people who open the API in a browser.
func welcome(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.Write([]byte(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Drydock</title>
<h1>Drydock</h1>
<p>The controller is running. Use its command line or its API:</p>
<ul>
<li><code>drydock status</code>, <code>drydock on "reason"</code>, <code>drydock off</code></li>
<li><a href="/api/v1/openapi.json">the API, as OpenAPI 3.1</a></li>
<li><a href="/api/system/maintenance/status">the public status</a>, <a href="/metrics">metrics</a></li>
</ul>
</html>
`))
}

// withDefaults sets the headers and the write deadline of every answer.
func withDefaults(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")

		limit := answerTime
		if mayWait(r) {
			limit += maxWait
		}
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
		next.ServeHTTP(w, r)
	})
}

// mayWait reports whether a request asks to wait for a status.
func mayWait(r *http.Request) bool { return strings.Contains(r.URL.RawQuery, "wait=") }

// withProblems replaces the plain-text errors of a mux, for a path or a method without a route, by
// problems.
func withProblems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}

		answer := &headerRecorder{header: http.Header{}}
		handler.ServeHTTP(answer, r)
		if answer.status == http.StatusMethodNotAllowed {
			writeMethodNotAllowed(w, r, answer.header.Get("Allow"))
			return
		}
		writeProblem(w, http.StatusNotFound, "there is nothing at "+r.URL.Path)
	})
}

// A headerRecorder keeps the status and the headers of an answer and discards its body.
type headerRecorder struct {
	header http.Header
	status int
}

func (w *headerRecorder) Header() http.Header         { return w.header }
func (w *headerRecorder) WriteHeader(status int)      { w.status = status }
func (w *headerRecorder) Write(b []byte) (int, error) { return len(b), nil }

// response is what an operation answers with when its result has no ETag.
type response[T any] struct {
	Body T
}

// resource is what an operation answers with when a change can be made from its result.
type resource[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

// register adds an operation. The middleware for access runs before anything of the request is
// parsed, so that only callers with the right role learn what is wrong with a request.
func register[I, O any](a *api, allowed access, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	if op.Errors == nil {
		op.Errors = []int{http.StatusBadRequest}
	}

	if allowed != public {
		op.Security = []map[string][]string{{"token": {string(allowed)}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
		op.Middlewares = append(op.Middlewares, a.authorize(allowed))
	}

	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.problem(ctx, op.OperationID, err)
		}
		return out, nil
	})
}
