package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// trailerApp is an app that speaks HTTP/1.1 and HTTP/2, and notes what it was sent.
type trailerApp struct {
	addr string
	mu   sync.Mutex
	seen map[string]*http.Request // by the header x-test; its body is read, so it has trailers
	size map[string]int
}

func startTrailerApp(t *testing.T) *trailerApp {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	rec := &trailerApp{addr: l.Addr().String(), seen: map[string]*http.Request{}, size: map[string]int{}}
	srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.seen[r.Header.Get("x-test")], rec.size[r.Header.Get("x-test")] = r, int(n)
	})}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return rec
}

func (rec *trailerApp) got(test string) (*http.Request, int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.seen[test], rec.size[test]
}

// overHTTP2 is a client without TLS.
func overHTTP2(t *testing.T) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// eachEnvoy runs a scenario on the oldest and the newest Envoy.
func eachEnvoy(t *testing.T, test func(t *testing.T, version string)) {
	for _, version := range []string{OldestEnvoy, EnvoyVersion} {
		t.Run(version, func(t *testing.T) { test(t, version) })
	}
}

// What would make a server serve another path or host than the one that was judged, or
// believe that the filter spoke, does not reach the app, in headers and in trailers.
func TestEdge_MisleadingHeadersDoNotReachTheApp(t *testing.T) {
	gone := []string{
		"x-drydock-mode", "x.drydock.bypass", "x_drydock_mode", "x!drydock~mode",
		"script_name", "SCRIPT-NAME", "x-script-name", "x.script_name", "x-original-url", "x-rewrite-url", "x-original-uri", "x_original.url",
		"x-forwarded-prefix", "x-forwarded-path", "x-forwarded-host", "x_forwarded_host", "x-forwarded-server", "forwarded", "x-host", "x-original-host", "x-http-host-override",
	}
	kept := []string{"api_key", "x-http-method-override", "x-api.key", "x-scripts-name", "x-drydocks-mode", "x-forwarded-port", "host-name", "x-forwarded-client"}
	eachEnvoy(t, func(t *testing.T, version string) {
		rec := startTrailerApp(t)
		r := newRig(t, rigOptions{version: version, upstream: rec.addr, workers: 1})
		r.put(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{IPs: []string{"127.0.0.1"}}})
		client := overHTTP2(t)
		for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.ReadOnly} {
			if mode != maintenance.Off {
				r.on("default", mode, "closed")
			}
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+r.edge.Addr()+"/x", io.NopCloser(strings.NewReader("body")))
			must(t, err)
			req.Header.Set("x-test", string(mode))
			for _, name := range append(gone, kept...) {
				req.Header[http.CanonicalHeaderKey(name)] = []string{"claim"}
			}
			req.Trailer = http.Header{"X-Drydock-Bypass": {"claim"}, "X.drydock.mode": {"off"}, "X-Checksum": {"1"}}
			resp, err := client.Do(req)
			must(t, err)
			resp.Body.Close()
			saw, _ := rec.got(string(mode))
			if saw == nil {
				t.Fatalf("%s: the app saw nothing; %d", mode, resp.StatusCode)
			}
			for _, name := range gone {
				if v := saw.Header[http.CanonicalHeaderKey(name)]; len(v) > 0 && v[0] == "claim" {
					t.Errorf("%s: the app saw %s", mode, name)
				}
			}
			for _, name := range kept {
				if len(saw.Header[http.CanonicalHeaderKey(name)]) == 0 {
					t.Errorf("%s: the app did not see %s", mode, name)
				}
			}
			// Go lists names without a value that the header Trailer has announced.
			for _, values := range saw.Trailer {
				if len(values) > 0 {
					t.Errorf("%s: the app saw the trailers %v", mode, saw.Trailer)
				}
			}
		}
	})
}

// bootWait gives a new Envoy half a minute for its first state.
func bootWait(tree map[string]any) {
	for node := range Objects(tree) {
		if text, ok := node["value"].(string); ok && strings.Contains(text, `"boot_wait": 2`) {
			node["value"] = strings.Replace(text, `"boot_wait": 2`, `"boot_wait": 30`, 1)
		}
	}
}

// Bodies that begin before a new Envoy has its first state lose nothing: an upload goes on
// whatever its length, and what the state wants to read is read to its end.
func TestBoot_BodiesThatBeginBeforeTheFirstState(t *testing.T) {
	const query, mutation = `{"query":"{orders{id}}"}`, `{"query":"mutation{placeOrder(item:\"tar\"){id}}"}`
	for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.ReadOnly} {
		eachEnvoy(t, func(t *testing.T, version string) {
			rec := startTrailerApp(t)
			r := newRig(t, rigOptions{version: version, upstream: rec.addr, workers: 1, withoutEnvoy: true, edit: bootWait})
			r.put(maintenance.Spec{Name: "default", ReadOnly: maintenance.ReadOnlyRules{WriteThrough: []maintenance.PathRule{{Methods: []string{"PUT"}, Path: "/upload", Allow: []maintenance.Allowance{maintenance.AllowOverrides}}}}})
			if mode != maintenance.Off {
				r.api("POST", "/api/v1/apps/default/activations", map[string]any{"mode": mode, "message": "closed"}, "If-Match", "*")
			}
			r.controller.Kill()
			r.startEnvoy()

			// In HTTP/1.1, since Envoy 1.36 takes the window updates of a Go server for a flood when
			// it has sent much at once.
			client, state := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}, make(chan struct{})
			type result struct {
				status int
				err    error
			}
			send := func(test, method, path, kind, before, after string) chan result {
				done := make(chan result, 1)
				body, w := io.Pipe()
				req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.edge.Addr()+path, body)
				must(t, err)
				req.Header.Set("x-test", test)
				req.Header.Set("content-type", kind)
				go func() {
					io.WriteString(w, before)
					<-state
					time.Sleep(300 * time.Millisecond)
					io.WriteString(w, after)
					w.Close()
				}()
				go func() {
					resp, err := client.Do(req)
					if err != nil {
						done <- result{0, err}
						return
					}
					resp.Body.Close()
					done <- result{resp.StatusCode, nil}
				}()
				return done
			}
			long := strings.Repeat("x", 3<<20)
			results := map[string]chan result{
				"a long JSON upload": send("upload", map[maintenance.Mode]string{maintenance.Off: "POST", maintenance.ReadOnly: "PUT"}[mode], "/upload", "application/json", long[:700<<10], long[700<<10:]),
				"a query":            send("query", "POST", "/graphql", "application/json", query[:9], query[9:]),
				"a whole query":      send("whole", "POST", "/graphql", "application/json", query, ""),
				"a mutation":         send("mutation", "POST", "/graphql", "application/json", mutation[:9], mutation[9:]),
				"a GET":              send("get", "GET", "/", "text/plain", "", ""),
			}
			time.Sleep(500 * time.Millisecond)
			r.startController()
			r.settled()
			close(state)
			for name, done := range results {
				got, want := <-done, 200
				if name == "a mutation" && mode == maintenance.ReadOnly {
					want = 503
				}
				if got.err != nil || got.status != want {
					t.Errorf("%s, %s: %d (%v), want %d", mode, name, got.status, got.err, want)
				}
			}
			for test, size := range map[string]int{"upload": len(long), "query": len(query), "whole": len(query)} {
				if _, got := rec.got(test); got != size {
					t.Errorf("%s, %s: the app saw %d bytes of %d", mode, test, got, size)
				}
			}
			if saw, _ := rec.got("mutation"); saw != nil && mode == maintenance.ReadOnly {
				t.Error("the app saw the mutation")
			}
		})
	}
}

// leaveOpen opens n streams on one HTTP/2 connection, each with some 28 kB of headers (a
// few bytes each, by HPACK's table) and one byte of a body that never ends.
func leaveOpen(proxy string, n int) (net.Conn, error) {
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	framer.WriteSettings()
	var block bytes.Buffer
	table := hpack.NewEncoder(&block)
	padding := strings.Repeat("p", 3900)
	for i := range n {
		block.Reset()
		for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "shop.example.com"}, {":path", "/graphql"}, {"content-type", "application/json"}} {
			table.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		for range 7 {
			table.WriteField(hpack.HeaderField{Name: "accept", Value: padding})
		}
		id := uint32(2*i + 1)
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
		framer.WriteData(id, false, []byte("{"))
	}
	if _, err := conn.Write(out.Bytes()); err != nil {
		conn.Close()
		return nil, err
	}
	go io.Copy(io.Discard, conn)
	return conn, nil
}

// However much is begun and left open, the module does not end: what cannot be held is
// refused at once, what needs no holding passes all the time, and afterwards all does.
func TestHeld_NoCrowdEndsTheModule(t *testing.T) {
	eachEnvoy(t, func(t *testing.T, version string) {
		r := newRig(t, rigOptions{version: version, workers: 1})
		r.put(maintenance.Spec{Name: "default"})
		r.on("default", maintenance.ReadOnly, "closed")
		v := r.visitor("127.0.0.1")
		query := func() answer {
			return v.do("POST", "/graphql", `{"query":"{orders{id}}"}`, "Content-Type", "application/json")
		}
		calm := func(when string) {
			t.Helper()
			if a := v.get("/"); a.Status != http.StatusOK {
				t.Errorf("%s: GET / is answered %d %s", when, a.Status, a.Body)
			}
			if a := query(); a.Status != http.StatusOK && ruleOf(a.Body) != "read-only.held-limit" {
				t.Errorf("%s: a query is answered %d %s", when, a.Status, a.Body)
			}
		}

		// 15,000 requests with 28 kB of headers each.
		for i := range 150 {
			conn, err := leaveOpen(r.edge.Addr(), 100)
			must(t, err)
			defer conn.Close()
			if i%15 == 14 {
				calm(fmt.Sprintf("with %d connections", i+1))
			}
		}
		t.Logf("held: %d requests, %d bytes; refused for it: %d; resident: %s", r.stat(`held_requests$`), r.stat(`held_bytes$`), r.stat(`held_limit$`), resident(t, r.envoy.PID))
		if n := r.stat(`held_limit$`); n == 0 {
			t.Error("nothing was refused for being too much")
		}

		// 200 bodies of which 950 kB come.
		client := overHTTP2(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var answered atomic.Int32
		for range 200 {
			req, err := http.NewRequestWithContext(ctx, "POST", "http://"+r.edge.Addr()+"/graphql", io.MultiReader(bytes.NewReader(bytes.Repeat([]byte(" "), 950<<10)), stalled{ctx}))
			must(t, err)
			req.Header.Set("Content-Type", "application/json")
			go func() {
				if resp, err := client.Do(req); err == nil {
					resp.Body.Close()
					answered.Add(1)
				}
			}()
		}
		for range 10 {
			calm("with long bodies")
			time.Sleep(300 * time.Millisecond)
		}
		t.Logf("with long bodies, held: %d requests, %d bytes; answered: %d; resident: %s", r.stat(`held_requests$`), r.stat(`held_bytes$`), answered.Load(), resident(t, r.envoy.PID))
		cancel()
		eventually(t, 40*time.Second, func() error {
			if a := query(); a.Status != http.StatusOK {
				return fmt.Errorf("a query is answered %d %s", a.Status, a.Body)
			}
			return nil
		})
		if n := r.stat(`wasmcustom.*\.errors$`); n != 0 {
			t.Errorf("the errors counter is %d", n)
		}
		log, err := os.ReadFile(r.envoy.Log)
		must(t, err)
		access, err := os.ReadFile(r.envoy.AccessLog)
		must(t, err)
		if bytes.Contains(access, []byte("wasm_fail_stream")) || bytes.Contains(log, []byte("Function: proxy_")) {
			t.Error("the module crashed")
		}
	})
}

type stalled struct{ context.Context }

func (s stalled) Read([]byte) (int, error) {
	<-s.Done()
	return 0, s.Err()
}

var vmRSS = regexp.MustCompile(`VmRSS:\s*(.*)`)

func resident(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	return string(vmRSS.FindSubmatch(status)[1])
}
