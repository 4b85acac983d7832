package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// subscribe returns a channel that receives each new order until leave is called.
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
