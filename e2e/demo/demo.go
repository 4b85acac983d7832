// Package demo is a small shop that runs behind the proxy in `make run` and in the scenarios, which
// are the tests with a real Envoy in e2e/. It has a page, a JSON API, GraphQL, server-sent events,
// a WebSocket and gRPC on one port. It trusts its clients as many apps do: it obeys method
// overrides (a request that asks to be handled as one of another method), and its GraphQL runs
// mutations sent by GET. It counts its writes, so that [App.Writes] shows every write that the
// proxy did not refuse.
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

// App is the shop. [New] makes one; its zero value cannot be used. It keeps everything in memory.
type App struct {
	mux    *http.ServeMux
	rpc    *grpc.Server
	schema graphql.Schema
	closed chan struct{} // closed when the app stops, which ends open streams

	requests, writes atomic.Int64 // how many there were

	mu     sync.Mutex          // guards the fields below
	lastID int                 // of an order; the first order has 1
	orders []Order             // the oldest first
	feeds  map[chan Order]bool // one for each open stream of orders
}

// maxOrders is how many orders the shop keeps, since the demo may run for weeks.
const maxOrders = 100

// Order is an item that a visitor ordered.
type Order struct {
	ID   int    `json:"id"`
	Item string `json:"item"`
	Via  string `json:"via"` // rest, graphql, websocket, grpc
}

// Echo is the answer of /echo: the request as the app received it, after the proxy.
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

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// New returns an empty shop.
func New() *App {
	a := &App{mux: http.NewServeMux(), closed: make(chan struct{}), feeds: map[chan Order]bool{}}
	a.schema = a.newSchema()
	a.rpc = a.newRPC()

	a.mux.HandleFunc("GET /{$}", a.servePage)
	a.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	a.mux.HandleFunc("/echo", a.serveEcho)
	a.mux.HandleFunc("/echo/", a.serveEcho)
	a.mux.HandleFunc("GET /slow", a.serveSlow)
	a.mux.HandleFunc("GET /api/stock", func(w http.ResponseWriter, _ *http.Request) { replyJSON(w, http.StatusOK, items) })
	a.mux.HandleFunc("GET /api/orders", func(w http.ResponseWriter, _ *http.Request) { replyJSON(w, http.StatusOK, a.Orders()) })
	a.mux.HandleFunc("POST /api/orders", a.postOrder)
	a.mux.HandleFunc("DELETE /api/orders/{id}", a.deleteOrder)
	a.mux.HandleFunc("/graphql", a.serveGraphQL)
	a.mux.HandleFunc("GET /events", a.serveEvents)
	a.mux.HandleFunc("GET /chat", a.serveChat)
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

// place adds an order and announces it. via is the protocol of the request.
func (a *App) place(item, via string) Order {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.writes.Add(1)
	a.lastID++
	o := Order{ID: a.lastID, Item: item, Via: via}
	a.orders = append(a.orders, o)
	if len(a.orders) > maxOrders {
		a.orders = slices.Delete(a.orders, 0, 1)
	}

	a.sendToFeeds(o)
	return o
}

// Announce sends the last order to all streams of orders again, which shows a client that its
// stream is open. It does not count as a write.
func (a *App) Announce() {
	a.mu.Lock()
	defer a.mu.Unlock()

	if n := len(a.orders); n > 0 {
		a.sendToFeeds(a.orders[n-1])
	}
}

// sendToFeeds sends an order to all streams of orders. The caller must hold a.mu.
func (a *App) sendToFeeds(o Order) {
	for feed := range a.feeds {
		select {
		case feed <- o:
		default: // a client that does not keep up misses orders
		}
	}
}

// ServeHTTP answers every request, of any protocol.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.requests.Add(1)
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		a.rpc.ServeHTTP(w, r)
		return
	}

	// The routes below see only the overriding method. Rails, Laravel and Express obey such
	// overrides too, so the filter has to consider them.
	if m := r.Header.Get("X-HTTP-Method-Override"); m != "" {
		r.Method = strings.ToUpper(m)
	} else if m := r.URL.Query().Get("_method"); m != "" {
		r.Method = strings.ToUpper(m)
	}

	a.mux.ServeHTTP(w, r)
}

// Serve answers HTTP/1.1 and HTTP/2 without TLS on l until stop is called, which also ends open
// streams. stop returns an error of serving or closing. Serve must be called only once.
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
		closeErr := srv.Close()
		if serveErr := <-ended; !errors.Is(serveErr, http.ErrServerClosed) {
			return serveErr
		}
		return closeErr
	})
}

// servePage answers with the page of the shop, which says in what mode the shop is.
func (a *App) servePage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// The filter sets both headers, and removes those that a client sends.
	pageTemplate.Execute(w, struct {
		Items        []string
		Orders       []Order
		Mode, Bypass string
	}{items, a.Orders(), r.Header.Get("X-Drydock-Mode"), r.Header.Get("X-Drydock-Bypass")})
}

// serveEcho answers with an [Echo] of the request.
func (a *App) serveEcho(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}

	replyJSON(w, http.StatusOK, Echo{r.Method, r.URL.RequestURI(), r.Host, r.Header, string(body)})
}

// serveSlow answers after the number of milliseconds in the parameter ms.
func (a *App) serveSlow(w http.ResponseWriter, r *http.Request) {
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

// postOrder places the order in the body, which is JSON or the form of the page, or in the query.
// It answers a browser by sending it back to the page.
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
	replyJSON(w, http.StatusCreated, o)
}

// deleteOrder deletes the order of the ID in the path.
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

// replyJSON answers with a status and the JSON of v.
func replyJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
