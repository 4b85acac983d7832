package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// client sends requests to an App in each of its protocols.
type client struct {
	ctx  context.Context
	addr string // host:port
	rpc  *grpc.ClientConn
}

// serve starts an App until the end of the test.
func serve(t *testing.T) (*App, *client) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	app := New()
	stop := app.Serve(l)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)

	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return app, &client{ctx, l.Addr().String(), conn}
}

// request returns a function that sends an HTTP request and ignores the answer. headers are pairs
// of name and value.
func (c *client) request(method, path, contentType, body string, headers ...string) func() error {
	return func() error {
		req, err := http.NewRequestWithContext(c.ctx, method, "http://"+c.addr+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", contentType)
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}

		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
}

// listRPC calls the gRPC method that reads.
func (c *client) listRPC() error {
	return c.rpc.Invoke(c.ctx, RPCList, &emptypb.Empty{}, new(wrapperspb.StringValue))
}

// placeRPC calls the gRPC method that writes.
func (c *client) placeRPC() error {
	return c.rpc.Invoke(c.ctx, RPCPlace, wrapperspb.String("anchor"), new(wrapperspb.StringValue))
}

// orderByWebSocket sends an order and returns once the app has echoed it. The app places the order
// before it echoes.
func (c *client) orderByWebSocket() error {
	ws, _, err := websocket.Dial(c.ctx, "ws://"+c.addr+"/chat", nil)
	if err != nil {
		return err
	}
	defer ws.CloseNow()

	if err := ws.Write(c.ctx, websocket.MessageText, []byte("order anchor")); err != nil {
		return err
	}

	_, _, err = ws.Read(c.ctx)
	return err
}

// The scenarios rely on the counter: it rises by one for each write, in every protocol, and a read
// does not change it.
func TestWritesAreCountedInEveryProtocol(t *testing.T) {
	app, c := serve(t)

	for _, tt := range []struct {
		name       string
		call       func() error
		wantWrites int64
	}{
		{"page", c.request("GET", "/", "", ""), 0},
		{"orders", c.request("GET", "/api/orders", "", ""), 0},
		{"order, JSON", c.request("POST", "/api/orders", "application/json", `{"item":"rope"}`), 1},
		{"order, form", c.request("POST", "/api/orders", "application/x-www-form-urlencoded", `item=tar`), 1},
		{"order without item", c.request("POST", "/api/orders", "application/json", `{}`), 0},
		{"override by header", c.request("GET", "/api/orders?item=lantern", "", "", "X-HTTP-Method-Override", "POST"), 1},
		{"override by query", c.request("GET", "/api/orders?item=lantern&_method=post", "", ""), 1},
		{"delete", c.request("DELETE", "/api/orders/1", "", ""), 1},
		{"query", c.request("POST", "/graphql", "application/json", `{"query":"{orders{item}}"}`), 0},
		{"mutation", c.request("POST", "/graphql", "application/json", `{"query":"mutation{placeOrder(item:\"sextant\"){id}}"}`), 1},
		{"mutation by GET", c.request("GET", `/graphql?query=mutation{placeOrder(item:"sextant"){id}}`, "", ""), 1},
		{"RPC that reads", c.listRPC, 0},
		{"RPC that writes", c.placeRPC, 1},
		{"WebSocket", c.orderByWebSocket, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := app.Writes()
			if err := tt.call(); err != nil {
				t.Fatal(err)
			}

			if got := app.Writes() - before; got != tt.wantWrites {
				t.Errorf("%d writes counted, want %d", got, tt.wantWrites)
			}
		})
	}
}

func TestEventsAnnounceOrders(t *testing.T) {
	_, c := serve(t)
	req, err := http.NewRequestWithContext(c.ctx, "GET", "http://"+c.addr+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	lines := bufio.NewScanner(resp.Body)
	lines.Scan() // the comment at the beginning shows that the stream is open

	if err := c.request("POST", "/api/orders", "application/json", `{"item":"rope"}`)(); err != nil {
		t.Fatal(err)
	}

	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var o Order
			if err := json.Unmarshal([]byte(data), &o); err != nil || o.Item != "rope" {
				t.Errorf("event %s (%v), want the order", data, err)
			}
			return
		}
	}
	t.Error("the stream ended without an event:", lines.Err())
}
