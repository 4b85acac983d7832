package e2e

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// In read-only what reads passes and what writes does not, however it is dressed up. The
// demo app follows method overrides and counts what it was made to write.
func TestReadOnly_WhatWritesIsRefused(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.put(maintenance.Spec{Name: "default", ReadOnly: maintenance.ReadOnlyRules{
		WriteThrough: []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/echo/search"}},
		GetWrites:    []maintenance.PathRule{{Prefix: "/echo/unsubscribe"}},
	}})
	v := r.visitor("127.0.0.1")
	v.do("POST", "/api/orders", `{"item":"anchor"}`, "Content-Type", "application/json") // order 1
	r.on("default", maintenance.ReadOnly, "We move: look, but do not touch.")
	writes := r.app.Writes()

	const form = "application/x-www-form-urlencoded"
	mutation := url.QueryEscape(`mutation{placeOrder(item:"tar"){id}}`)
	for _, tt := range []struct {
		method, path, body string
		headers            []string
		pass               bool
	}{
		{"GET", "/", "", nil, true},
		{"HEAD", "/", "", nil, true},
		{"OPTIONS", "/echo", "", nil, true},
		{"GET", "/api/orders", "", nil, true},
		{"GET", "/api/orders?method=post&q=1", "", nil, true},
		{"POST", "/echo/search", `{"q":"rope"}`, []string{"Content-Type", "application/json"}, true},
		{"POST", "/echo/search", `{"q":"rope","_method":"DELETE"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/echo/search", `{"q":"` + strings.Repeat("x", 1<<20) + `"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/echo/search", "--x--", []string{"Content-Type", "multipart/mixed; boundary=x"}, false},

		{"POST", "/api/orders", `{"item":"tar"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/api/orders", "item=tar", []string{"Content-Type", form}, false},
		{"PUT", "/echo", "x", nil, false},
		{"PATCH", "/echo", "x", nil, false},
		{"DELETE", "/api/orders/1", "", nil, false},
		{"PROPFIND", "/echo", "", nil, false},
		{"LOCK", "/echo", "", nil, false},
		{"FROB", "/echo", "", nil, false},
		{"PUT", "/echo/search", "x", nil, false},
		{"GET", "/echo/unsubscribe/me", "", nil, false},
		{"HEAD", "/echo/unsubscribe/me", "", nil, false},

		{"GET", "/api/orders?item=tar", "", []string{"X-HTTP-Method-Override", "POST"}, false},
		{"GET", "/api/orders?item=tar", "", []string{"x-http-method", "POST"}, false},
		{"GET", "/api/orders?item=tar", "", []string{"X-Method-Override", "post"}, false},
		{"GET", "/api/orders?item=tar&_method=POST", "", nil, false},
		{"GET", "/api/orders?item=tar&%5fmethod=post", "", nil, false},
		{"POST", "/api/orders", "_method=GET&item=tar", []string{"Content-Type", form}, false},
		{"POST", "/api/orders?_method=GET", "item=tar", []string{"Content-Type", form}, false},
		{"POST", "/api/orders", "item=tar", []string{"Content-Type", form, "X-HTTP-Method-Override", "GET"}, false},
		{"GET", "/api/orders", "", []string{"X-HTTP-Method-Override", "GET"}, true},

		{"POST", "/graphql", `{"query":"mutation{placeOrder(item:\"tar\"){id}}"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/graphql", `{"query":"query A{orders{id}} mutation B{placeOrder(item:\"tar\"){id}}","operationName":"B"}`, []string{"Content-Type", "application/json"}, false},
		{"GET", "/graphql?query=" + mutation, "", nil, false},
		{"GET", "/graphql", "", nil, true},
	} {
		a := v.do(tt.method, tt.path, tt.body, tt.headers...)
		// Envoy itself answers 400 to methods that it has never heard of.
		if refused := a.Status == http.StatusServiceUnavailable || tt.method == "FROB" && a.Status == http.StatusBadRequest; refused == tt.pass {
			t.Errorf("%s %s %.80s %v: %d, want pass %v", tt.method, tt.path, tt.body, tt.headers, a.Status, tt.pass)
		}
	}
	if n := r.app.Writes() - writes; n != 0 {
		t.Errorf("%d writes got through", n)
	}
	if e := v.echo(); e.Headers.Get("X-Drydock-Mode") != "read-only" {
		t.Errorf("the app is told X-Drydock-Mode: %s", e.Headers.Get("X-Drydock-Mode"))
	}
}

// A refused POST is refused before its body has come, and nothing of it reaches the app.
func TestReadOnly_NothingOfARefusedBodyReachesTheApp(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.put(maintenance.Spec{Name: "default"})
	r.on("default", maintenance.ReadOnly, "closed")
	before := r.app.Requests()
	for _, path := range []string{"/api/orders", "/graphql"} {
		for _, size := range []int{0, 1, 100_000, 3 << 20} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+r.edge.Addr()+path, io.LimitReader(zeros{}, int64(size)))
			must(t, err)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Expect", "100-continue")
			resp, err := (&http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}}).Do(req)
			must(t, err)
			resp.Body.Close()
			// Envoy's own answer past its buffer limit is as good a refusal, and what is no JSON is
			// malformed to every GraphQL server.
			malformed := path == "/graphql" && resp.StatusCode == http.StatusBadRequest
			if resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusRequestEntityTooLarge && !malformed {
				t.Errorf("POST %s with %d bytes: %d, want 503, 413 or, for GraphQL, 400", path, size, resp.StatusCode)
			}
		}
	}
	if n := r.app.Requests() - before; n != 0 {
		t.Errorf("%d requests reached the app", n)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return copy(b, strings.Repeat("0", len(b))), nil }

// An upgrade hides what goes on afterwards, so read-only refuses it unless it is allowed.
func TestReadOnly_Upgrades(t *testing.T) {
	r := newRig(t, rigOptions{})
	dial := func() (int, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, resp, err := websocket.Dial(ctx, "ws://"+r.edge.Addr()+"/chat", nil)
		if err != nil {
			if resp == nil {
				return 0, err
			}
			return resp.StatusCode, nil
		}
		defer c.CloseNow()
		if err := c.Write(ctx, websocket.MessageText, []byte("ahoy")); err != nil {
			return 0, err
		}
		_, msg, err := c.Read(ctx)
		if err == nil && string(msg) != "ahoy" {
			t.Errorf("the echo is %q", msg)
		}
		return http.StatusSwitchingProtocols, err
	}
	expect := func(when string, want int) {
		t.Helper()
		if got, err := dial(); err != nil || got != want {
			t.Errorf("%s: %d (%v), want %d", when, got, err, want)
		}
	}
	r.put(maintenance.Spec{Name: "default"})
	expect("off", 101)
	r.on("default", maintenance.ReadOnly, "closed")
	expect("read-only", 503)
	r.put(maintenance.Spec{Name: "default", ReadOnly: maintenance.ReadOnlyRules{Upgrades: maintenance.PolicyAllow}})
	r.enforced("default")
	expect("read-only, upgrades allowed", 101)
	r.off("default")
	r.on("default", maintenance.NoAccess, "closed")
	expect("no-access", 503)
	r.off("default")
	expect("off again", 101)
}
