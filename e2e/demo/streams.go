package demo

// This file has the streams of the shop over HTTP: server-sent events of new orders, and a
// WebSocket. The events, and the gRPC stream in grpc.go, come from a feed: a channel of new orders.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// feedBuffer is how many orders a client may be behind before it misses some.
const feedBuffer = 16

// keepAlive is the pause after which an idle event stream gets a comment, so that no proxy takes it
// for dead.
const keepAlive = 15 * time.Second

// subscribe returns a channel that receives each new order until leave is called.
func (a *App) subscribe() (feed chan Order, leave func()) {
	feed = make(chan Order, feedBuffer)
	a.mu.Lock()
	a.feeds[feed] = true
	a.mu.Unlock()

	return feed, func() {
		a.mu.Lock()
		delete(a.feeds, feed)
		a.mu.Unlock()
	}
}

// serveEvents sends each new order as a server-sent event. Lines that begin with a colon are
// comments of the format: the first one shows the client that the stream is open.
func (a *App) serveEvents(w http.ResponseWriter, r *http.Request) {
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
		case <-time.After(keepAlive):
			fmt.Fprint(w, ": still here\n\n")
		case <-r.Context().Done():
			return
		case <-a.closed:
			return
		}
	}
}

// serveChat echoes each WebSocket message. A message "order ITEM" also places an order.
func (a *App) serveChat(w http.ResponseWriter, r *http.Request) {
	// InsecureSkipVerify accepts every Origin: behind the proxy, the page has another port than the
	// app.
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
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
