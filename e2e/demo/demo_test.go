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

// The scenarios trust the counter: it has to rise by one for each write, whatever the
// protocol, and by none for a read.
func TestWritesAreCountedInEveryProtocol(t *testing.T) {
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
	defer cancel()
	addr := l.Addr().String()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	request := func(method, path, contentType, body string, headers ...string) func() error {
		return func() error {
			req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, strings.NewReader(body))
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
	for _, tt := range []struct {
		name   string
		do     func() error
		writes int64
	}{
		{"page", request("GET", "/", "", ""), 0},
		{"orders", request("GET", "/api/orders", "", ""), 0},
		{"order, JSON", request("POST", "/api/orders", "application/json", `{"item":"rope"}`), 1},
		{"order, form", request("POST", "/api/orders", "application/x-www-form-urlencoded", `item=tar`), 1},
		{"order without item", request("POST", "/api/orders", "application/json", `{}`), 0},
		{"override by header", request("GET", "/api/orders?item=lantern", "", "", "X-HTTP-Method-Override", "POST"), 1},
		{"override by query", request("GET", "/api/orders?item=lantern&_method=post", "", ""), 1},
		{"delete", request("DELETE", "/api/orders/1", "", ""), 1},
		{"query", request("POST", "/graphql", "application/json", `{"query":"{orders{item}}"}`), 0},
		{"mutation", request("POST", "/graphql", "application/json", `{"query":"mutation{placeOrder(item:\"sextant\"){id}}"}`), 1},
		{"mutation by GET", request("GET", `/graphql?query=mutation{placeOrder(item:"sextant"){id}}`, "", ""), 1},
		{"RPC that reads", func() error { return conn.Invoke(ctx, RPCList, &emptypb.Empty{}, new(wrapperspb.StringValue)) }, 0},
		{"RPC that writes", func() error {
			return conn.Invoke(ctx, RPCPlace, wrapperspb.String("anchor"), new(wrapperspb.StringValue))
		}, 1},
		{"WebSocket", func() error {
			c, _, err := websocket.Dial(ctx, "ws://"+addr+"/chat", nil)
			if err != nil {
				return err
			}
			defer c.CloseNow()
			if err := c.Write(ctx, websocket.MessageText, []byte("order anchor")); err != nil {
				return err
			}
			_, _, err = c.Read(ctx)
			return err
		}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := app.Writes()
			if err := tt.do(); err != nil {
				t.Fatal(err)
			}
			if got := app.Writes() - before; got != tt.writes {
				t.Errorf("%d writes counted, want %d", got, tt.writes)
			}
		})
	}

	t.Run("events", func(t *testing.T) {
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/events", nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		in := bufio.NewScanner(resp.Body)
		in.Scan() // the opening comment: the feed is registered
		if err := request("POST", "/api/orders", "application/json", `{"item":"rope"}`)(); err != nil {
			t.Fatal(err)
		}
		for in.Scan() {
			if data, ok := strings.CutPrefix(in.Text(), "data: "); ok {
				var o Order
				if err := json.Unmarshal([]byte(data), &o); err != nil || o.Item != "rope" {
					t.Errorf("event %s (%v), want the order", data, err)
				}
				return
			}
		}
		t.Error("no event came:", in.Err())
	})
}
