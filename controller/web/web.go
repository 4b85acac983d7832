// Package web answers the controller's two listeners: the API that people and scripts
// use, and the one that proxies follow. It holds no state of its own.
package web

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

// Options of both listeners' handlers.
type Options struct {
	Keeper *keeper.Keeper
	// SyncToken is what proxies prove themselves with.
	SyncToken string
	// Stopping ends waiting requests; it is done when the controller stops.
	Stopping context.Context
	Now      func() time.Time
	Log      *slog.Logger
	Version  string // of the binary
}

const (
	// maxHeaders bounds a request's headers, in bytes.
	maxHeaders = 64 << 10
	// answerTime is how long a client may take to take an answer.
	answerTime = 30 * time.Second
	// maxWait is the longest that a client may wait for a status.
	maxWait = 300 * time.Second
)

// NewServer is a server with the limits that both listeners have. What bounds the body
// and the answer is set by the handlers, because some of them wait.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// access is who may call an operation.
type access string

const (
	public   access = "public"
	viewer   access = access(keeper.Viewer)
	operator access = access(keeper.Operator)
)

type api struct {
	Options
	huma huma.API
}

// API is the handler of the listener that people and scripts use.
func API(o Options) http.Handler {
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Drydock", "v1")
	config.Info.Description = "Takes services behind Envoy or Istio out of service for their users, and keeps them open for those who work on them.\n\n" +
		"Every change of an app needs If-Match: the ETag that it was made from, or * for whatever is there. Without it the answer is 428, with another one 412. " +
		"Times are RFC 3339, durations whole seconds. Errors are RFC 9457 problems; errors[].location is the field that is wrong."
	config.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "An API token. Viewers may read, operators may change."},
	}
	// No page that loads scripts from elsewhere, no $schema in every answer.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	config.RejectUnknownQueryParameters = true

	a := &api{Options: o, huma: humago.New(mux, config)}
	a.registerApps()
	a.registerStatus()
	a.registerAdmin()
	a.registerSTING()

	openAPI, err := json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	if err != nil {
		panic(err) // made of our own types
	}
	mux.HandleFunc("GET /api/v1/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Write(openAPI)
	})
	m := newMetrics(o)
	mux.Handle("GET /metrics", m.handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", ready(o))
	mux.HandleFunc("GET /{$}", welcome)
	return m.measure(guard(mux))
}

// guard sets what every answer has, and makes the mux's own errors problems.
func guard(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		limit := answerTime
		if strings.Contains(r.URL.RawQuery, "wait=") {
			limit += maxWait
		}
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
		if h, pattern := mux.Handler(r); pattern == "" {
			probe := &headerOnly{header: http.Header{}}
			h.ServeHTTP(probe, r)
			switch probe.status {
			case http.StatusMethodNotAllowed:
				w.Header().Set("Allow", probe.header.Get("Allow"))
				writeProblem(w, http.StatusMethodNotAllowed, r.Method+" is not possible here, only "+probe.header.Get("Allow"))
			default:
				writeProblem(w, http.StatusNotFound, "there is nothing at "+r.URL.Path)
			}
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// headerOnly learns what a handler would answer.
type headerOnly struct {
	header http.Header
	status int
}

func (w *headerOnly) Header() http.Header         { return w.header }
func (w *headerOnly) WriteHeader(status int)      { w.status = status }
func (w *headerOnly) Write(b []byte) (int, error) { return len(b), nil }

type actorKey struct{}

// actor is who makes a request that an operation with credentials has let in.
func actor(ctx context.Context) keeper.Actor { return ctx.Value(actorKey{}).(keeper.Actor) }

// register adds an operation. Who may call it is the first thing it says, and what is
// checked before anything of the request is read.
func register[I, O any](a *api, who access, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	if op.Errors == nil {
		op.Errors = []int{http.StatusBadRequest}
	}
	if who != public {
		op.Security = []map[string][]string{{"token": {string(who)}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	}
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		if who == public {
			next(ctx)
			return
		}
		by, problem := a.authenticate(ctx, keeper.Role(who))
		if problem != nil {
			if problem.Status == http.StatusUnauthorized {
				ctx.SetHeader("WWW-Authenticate", `Bearer realm="drydock"`)
			}
			_, w := humago.Unwrap(ctx)
			writeProblem(w, problem.Status, problem.Detail)
			return
		}
		next(huma.WithValue(ctx, actorKey{}, by))
	})
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.problem(ctx, op.OperationID, err)
		}
		return out, nil
	})
}

func (a *api) authenticate(ctx huma.Context, role keeper.Role) (keeper.Actor, *huma.ErrorModel) {
	secret, ok := bearer(ctx.Header("Authorization"))
	if !ok {
		return keeper.Actor{}, newProblem(http.StatusUnauthorized, "this needs an API token, as Authorization: Bearer TOKEN")
	}
	token, ok := a.Keeper.Authenticate(secret)
	if !ok {
		return keeper.Actor{}, newProblem(http.StatusUnauthorized, "this API token is not known, or was revoked")
	}
	if !token.Role.Includes(role) {
		return keeper.Actor{}, newProblem(http.StatusForbidden, "token "+token.Name+" has the role "+string(token.Role)+", this needs "+string(role))
	}
	remote, _, err := net.SplitHostPort(ctx.RemoteAddr())
	if err != nil {
		remote = ctx.RemoteAddr()
	}
	return keeper.Actor{Name: token.Name, Role: token.Role, Remote: remote}, nil
}

// bearer is RFC 6750 section 2.1; the scheme's name has no letter case.
func bearer(authorization string) (secret string, ok bool) {
	scheme, secret, _ := strings.Cut(authorization, " ")
	secret = strings.TrimSpace(secret)
	return secret, strings.EqualFold(scheme, "Bearer") && secret != ""
}

// raw is a JSON body that the core reads itself, because it is stricter and names
// fields as the proxies do. Its schema is that of T.
type raw[T any] []byte

func (b *raw[T]) UnmarshalJSON(data []byte) error {
	*b = append((*b)[:0], data...)
	return nil
}

func (raw[T]) Schema(r huma.Registry) *huma.Schema { return schemaOf[T](r) }
