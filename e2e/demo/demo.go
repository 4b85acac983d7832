// Package demo is a small shop that runs behind the proxy in `make run` and in the scenarios. It
// has a page, a JSON API, GraphQL, server-sent events, a WebSocket and gRPC on one port. It trusts
// its clients as many apps do: it obeys method overrides, and its GraphQL runs mutations sent by
// GET. It counts its writes, so that [App.Writes] shows every write that the proxy did not refuse.
//
// demo.go holds the shop, its page and its JSON API, streams.go the event stream and the WebSocket,
// and graphql.go and grpc.go the two other APIs.
package demo

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graphql-go/graphql"
	"google.golang.org/grpc"
)

// App is the shop. Its zero value is not ready: see [New].
type App struct {
	mux    *http.ServeMux
	rpc    *grpc.Server
	schema graphql.Schema
	closed chan struct{}

	requests, writes atomic.Int64

	mu     sync.Mutex
	lastID int
	orders []Order
	feeds  map[chan Order]bool
}

// Order is an item that a visitor ordered.
type Order struct {
	ID   int    `json:"id"`
	Item string `json:"item"`
	Via  string `json:"via"` // rest, graphql, websocket, grpc
}

// Echo is the answer of /echo: the request as the app received it.
type Echo struct {
	Method  string      `json:"method"`
	Path    string      `json:"path"`
	Host    string      `json:"host"`
	Headers http.Header `json:"headers"`
	Body    string      `json:"body,omitempty"`
}

var items = []string{"Anchor, 10 kg", "Brass sextant", "Hemp rope, 50 m", "Storm lantern", "Tar, one barrel"}

//go:embed page.html
var pageHTML string

var page = template.Must(template.New("page").Parse(pageHTML))

// New returns an empty shop.
func New() *App {
	a := &App{mux: http.NewServeMux(), closed: make(chan struct{}), feeds: map[chan Order]bool{}}
	a.schema = a.newSchema()
	a.rpc = a.newRPC()

	a.mux.HandleFunc("GET /{$}", a.page)
	a.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	a.mux.HandleFunc("/echo", a.echo)
	a.mux.HandleFunc("/echo/", a.echo)
	a.mux.HandleFunc("GET /slow", a.slow)
	a.mux.HandleFunc("GET /api/stock", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, items) })
	a.mux.HandleFunc("GET /api/orders", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, a.Orders()) })
	a.mux.HandleFunc("POST /api/orders", a.postOrder)
	a.mux.HandleFunc("DELETE /api/orders/{id}", a.deleteOrder)
	a.mux.HandleFunc("/graphql", a.graphql)
	a.mux.HandleFunc("GET /events", a.events)
	a.mux.HandleFunc("GET /chat", a.chat)
	return a
}

// Requests returns how many requests reached the app, in all protocols.
func (a *App) Requests() int64 { return a.requests.Load() }

// Writes returns how many changes were made, in all protocols.
func (a *App) Writes() int64 { return a.writes.Load() }

// Orders returns the orders that were not deleted, the oldest first.
func (a *App) Orders() []Order {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.orders)
}

// place adds an order and announces it.
func (a *App) place(item, via string) Order {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.writes.Add(1)
	a.lastID++
	o := Order{ID: a.lastID, Item: item, Via: via}
	// The demo may run for weeks, so it keeps only the last orders.
	if a.orders = append(a.orders, o); len(a.orders) > 100 {
		a.orders = slices.Delete(a.orders, 0, 1)
	}

	a.announce(o)
	return o
}

// Announce sends the last order to all streams of orders again, which shows a client that its
// stream is open. It does not count as a write.
func (a *App) Announce() {
	a.mu.Lock()
	defer a.mu.Unlock()

	if n := len(a.orders); n > 0 {
		a.announce(a.orders[n-1])
	}
}

// announce sends an order to all streams of orders. The caller must hold a.mu.
func (a *App) announce(o Order) {
	for feed := range a.feeds {
		select {
		case feed <- o:
		default: // a client that does not keep up misses orders
		}
	}
}

// ServeHTTP answers gRPC and everything over HTTP.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.requests.Add(1)
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		a.rpc.ServeHTTP(w, r)
		return
	}

	// Rails, Laravel and Express obey method overrides too, so the filter has to consider them.
	if m := r.Header.Get("X-HTTP-Method-Override"); m != "" {
		r.Method = strings.ToUpper(m)
	} else if m := r.URL.Query().Get("_method"); m != "" {
		r.Method = strings.ToUpper(m)
	}

	a.mux.ServeHTTP(w, r)
}

// Serve answers HTTP/1.1 and HTTP/2 without TLS on l until stop is called, which also ends open
// streams.
func (a *App) Serve(l net.Listener) (stop func() error) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: a, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second}

	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	return sync.OnceValue(func() error {
		close(a.closed)
		a.rpc.Stop()
		err := srv.Close()
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			return e
		}
		return err
	})
}

func (a *App) page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// The filter sets both headers; those of a client never get here.
	page.Execute(w, struct {
		Items        []string
		Orders       []Order
		Mode, Bypass string
	}{items, a.Orders(), r.Header.Get("X-Drydock-Mode"), r.Header.Get("X-Drydock-Bypass")})
}

func (a *App) echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}

	reply(w, http.StatusOK, Echo{r.Method, r.URL.RequestURI(), r.Host, r.Header, string(body)})
}

// slow answers after the number of milliseconds in the parameter ms.
func (a *App) slow(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.URL.Query().Get("ms"))
	if err != nil || ms < 0 || ms > 60_000 {
		http.Error(w, "ms must be a number from 0 to 60000", http.StatusBadRequest)
		return
	}

	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		fmt.Fprintf(w, "slept %d ms\n", ms)
	case <-r.Context().Done():
	case <-a.closed:
	}
}

func (a *App) postOrder(w http.ResponseWriter, r *http.Request) {
	var in struct{ Item string }
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, "the body is not a JSON order: "+err.Error(), http.StatusBadRequest)
			return
		}
	} else {
		in.Item = r.FormValue("item")
	}

	if in.Item == "" {
		http.Error(w, "item is missing", http.StatusUnprocessableEntity)
		return
	}

	o := a.place(in.Item, "rest")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	reply(w, http.StatusCreated, o)
}

func (a *App) deleteOrder(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()

	i := slices.IndexFunc(a.orders, func(o Order) bool { return strconv.Itoa(o.ID) == r.PathValue("id") })
	if i < 0 {
		http.NotFound(w, r)
		return
	}

	a.writes.Add(1)
	a.orders = slices.Delete(a.orders, i, i+1)
	w.WriteHeader(http.StatusNoContent)
}

// reply answers with JSON.
func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
