package web

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// api has the operations of the API as its methods, each in the file of its resource.
type api struct {
	Options
	humaAPI huma.API // knows the operations that are registered
}

// API returns the handler of the listener for people and scripts. A few paths are not operations of
// the API, but plain handlers: the OpenAPI document, monitoring, and a page for browsers.
func API(o Options) http.Handler {
	mux := http.NewServeMux()
	a := &api{Options: o, humaAPI: humago.New(mux, apiConfig())}
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
	mux.HandleFunc("GET /api/v1/openapi.json", openAPIHandler(a.humaAPI))
	mux.Handle("GET /metrics", m.handler())
	mux.HandleFunc("GET /healthz", serveHealthz)
	mux.HandleFunc("GET /readyz", readyzHandler(o))
	mux.HandleFunc("GET /{$}", serveWelcome)
	return m.measure(withDefaults(withProblems(mux)))
}

// apiConfig returns the configuration of huma: the general parts of the OpenAPI document, and the
// features of huma that are used.
func apiConfig() huma.Config {
	config := huma.DefaultConfig("Drydock", "v1")
	config.Info.Description = "Drydock puts services behind Envoy into maintenance, and lets through the people who work on them.\n\n" +
		"A change of an app requires If-Match: the ETag of what was read, or * for any state. Without the header the answer is 428; with an outdated ETag it is 412. " +
		"Times are RFC 3339, and durations are whole seconds. Errors are RFC 9457 problems, and errors[].location names the invalid field."
	config.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	config.Components.Schemas = newRegistry()
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "An API token. Viewers may read; operators may also make changes."},
	}

	// Huma would serve the OpenAPI document, a page that shows it and each schema at paths of its
	// own. An empty path turns that off: openAPIHandler serves the document, and the page would
	// load scripts from another origin. Huma's only create hook adds a field $schema to every
	// answer.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	config.RejectUnknownQueryParameters = true
	return config
}

// openAPIHandler returns a handler that serves the description of all operations registered so far.
func openAPIHandler(api huma.API) http.HandlerFunc {
	document, err := json.MarshalIndent(api.OpenAPI(), "", "  ")
	if err != nil {
		panic(err) // impossible: the document does not depend on any input
	}

	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Write(document)
	}
}

// serveWelcome serves a page for people who open the API in a browser.
func serveWelcome(w http.ResponseWriter, r *http.Request) {
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

// withDefaults sets the headers that every answer has, and the deadline for writing the answer.
func withDefaults(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")

		limit := answerTimeout
		if asksToWait(r) {
			limit += maxWait
		}
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
		next.ServeHTTP(w, r)
	})
}

// asksToWait reports whether a request may ask to wait for a status, by the query parameter wait.
// It is also true for a few requests that do not, such as one with a parameter named await: these
// only get a later deadline, and are left out of the metrics.
func asksToWait(r *http.Request) bool { return strings.Contains(r.URL.RawQuery, "wait=") }

// withProblems returns a handler that answers as a mux does, but answers requests without a route
// with a problem (problem.go), where the mux would answer with plain text: 404 for an unknown path,
// and 405 for a path with another method.
func withProblems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}

		// Without a pattern, the handler is the mux's own one for such requests. Run it to learn
		// what it would answer.
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

// response is the output of an operation whose result has no ETag.
type response[T any] struct {
	Body T
}

// resource is the output of an operation whose result has an ETag. A client that read it can name
// the ETag in the If-Match of a change.
type resource[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

// register adds an operation, with an input of type I and an output of type O. op.Errors are the
// statuses of its errors for the OpenAPI document, apart from those that follow from allowed. The
// middleware that checks access runs before the request is parsed, so that only clients that may
// call the operation learn what is wrong with a request.
func register[I, O any](a *api, allowed access, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	if op.Errors == nil {
		op.Errors = []int{http.StatusBadRequest}
	}

	if allowed != public {
		op.Security = []map[string][]string{{"token": {string(allowed)}}}
		op.Errors = slices.Concat(op.Errors, []int{http.StatusUnauthorized, http.StatusForbidden})
		op.Middlewares = append(op.Middlewares, a.authorize(allowed))
	}

	huma.Register(a.humaAPI, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.problem(ctx, op.OperationID, err)
		}
		return out, nil
	})
}
