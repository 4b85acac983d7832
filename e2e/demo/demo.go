// Package demo is a small shop that stands behind the proxy in `make run` and in the
// scenarios: a page, a JSON API, GraphQL, server-sent events, a WebSocket and gRPC, on
// one port. It is as trusting as apps are (it follows method overrides, and its GraphQL
// runs mutations sent by GET), and it counts what it was made to write: a gate that
// lets a write slip shows in [App.Writes].
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

	"github.com/coder/websocket"
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

// Order is what visitors write.
type Order struct {
	ID   int    `json:"id"`
	Item string `json:"item"`
	Via  string `json:"via"` // rest, graphql, websocket, grpc
}

// Echo is what the app saw of a request, the answer of /echo.
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

// Requests counts what reached the app, in any protocol.
func (a *App) Requests() int64 { return a.requests.Load() }

// Writes counts the changes made, in any protocol.
func (a *App) Writes() int64 { return a.writes.Load() }

// Orders are the orders not deleted, oldest first.
func (a *App) Orders() []Order {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.orders)
}

func (a *App) place(item, via string) Order {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writes.Add(1)
	a.lastID++
	o := Order{ID: a.lastID, Item: item, Via: via}
	// A demo that runs for weeks keeps the last orders only.
	if a.orders = append(a.orders, o); len(a.orders) > 100 {
		a.orders = slices.Delete(a.orders, 0, 1)
	}
	a.announce(o)
	return o
}

// Announce sends the latest order to all feeds once more, so that a reader can tell that
// its stream is open. It writes nothing.
func (a *App) Announce() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.orders); n > 0 {
		a.announce(a.orders[n-1])
	}
}

func (a *App) announce(o Order) {
	for feed := range a.feeds {
		select {
		case feed <- o:
		default: // a reader that does not keep up misses orders
		}
	}
}

func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.requests.Add(1)
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		a.rpc.ServeHTTP(w, r)
		return
	}
	// As Rails, Laravel and Express do, and the reason why a gate must look at it too.
	if m := r.Header.Get("X-HTTP-Method-Override"); m != "" {
		r.Method = strings.ToUpper(m)
	} else if m := r.URL.Query().Get("_method"); m != "" {
		r.Method = strings.ToUpper(m)
	}
	a.mux.ServeHTTP(w, r)
}

// Serve answers HTTP/1.1 and cleartext HTTP/2 on l until the returned function is
// called, which ends open streams too.
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
	// Both headers are the proxy's: a client's own never get here.
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

// slow answers after ?ms= milliseconds: a request that a drain has to wait for.
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

// subscribe gives a feed of the orders to come, until leave is called.
func (a *App) subscribe() (feed chan Order, leave func()) {
	feed = make(chan Order, 16)
	a.mu.Lock()
	a.feeds[feed] = true
	a.mu.Unlock()
	return feed, func() {
		a.mu.Lock()
		delete(a.feeds, feed)
		a.mu.Unlock()
	}
}

// events sends each new order as a server-sent event.
func (a *App) events(w http.ResponseWriter, r *http.Request) {
	feed, leave := a.subscribe()
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	fmt.Fprint(w, ": open\n\n")
	for out.Flush() == nil {
		select {
		case o := <-feed:
			data, _ := json.Marshal(o)
			fmt.Fprintf(w, "event: order\ndata: %s\n\n", data)
		case <-time.After(15 * time.Second):
			fmt.Fprint(w, ": still here\n\n")
		case <-r.Context().Done():
			return
		case <-a.closed:
			return
		}
	}
}

// chat echoes each WebSocket message; "order ITEM" places an order.
func (a *App) chat(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true}) // the proxy's port is another origin
	if err != nil {
		return // answered
	}
	defer c.CloseNow()
	for {
		kind, msg, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if item, ok := strings.CutPrefix(string(msg), "order "); ok {
			a.place(item, "websocket")
		}
		if c.Write(r.Context(), kind, msg) != nil {
			return
		}
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
