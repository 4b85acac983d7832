package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A refused POST is refused before its body has come, and nothing of it reaches the app.
func TestRefusedBodiesDoNotReachTheApp(t *testing.T) {
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default"})
	d.on("default", maintenance.ReadOnly, "closed")
	before := d.app.Requests()
	for _, path := range []string{"/api/orders", "/graphql"} {
		for _, size := range []int{0, 1, 100_000, 3 << 20} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+d.edge.Addr()+path, io.LimitReader(zeros{}, int64(size)))
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
	if n := d.app.Requests() - before; n != 0 {
		t.Errorf("%d requests reached the app", n)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return copy(b, strings.Repeat("0", len(b))), nil }

// TestBodiesAreJudgedHoweverTheyArrive sends bodies in all the ways that they come, with and
// without Envoy's holding the headers. The right verdict, or 413, and no stuck stream.
func TestBodiesAreJudgedHoweverTheyArrive(t *testing.T) {
	pad := func(n int) string { return `{"query":"{ a }","variables":{"x":"` + strings.Repeat("y", n) + `"}}` }
	head := func(extra string) string {
		return "POST /graphql HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\nx-case: CASE\r\n" + extra + "\r\n"
	}
	plain := func(body string, extra ...string) []string {
		return []string{head(fmt.Sprintf("content-length: %d\r\n", len(body)) + strings.Join(extra, "")), body}
	}
	chunked := func(body string, size int, trailers string) []string {
		parts := []string{head("transfer-encoding: chunked\r\n")}
		for len(body) > 0 {
			n := min(size, len(body))
			parts = append(parts, fmt.Sprintf("%x\r\n%s\r\n", n, body[:n]))
			body = body[n:]
		}
		return append(parts, "0\r\n"+trailers+"\r\n")
	}
	bytewise := func(parts []string) []string { return append(parts[:1:1], strings.Split(parts[1], "")...) }
	cases := []struct {
		name  string
		parts []string
		pause time.Duration
		want  int // 200: passes
	}{
		{"whole query", plain(aQuery), 0, 200},
		{"whole mutation", plain(aMutation), 0, 503},
		{"late query", plain(aQuery), 2 * time.Second, 200},
		{"late mutation", plain(aMutation), 2 * time.Second, 503},
		{"query byte by byte", bytewise(plain(aQuery)), 5 * time.Millisecond, 200},
		{"mutation byte by byte", bytewise(plain(aMutation)), 5 * time.Millisecond, 503},
		{"chunked query", chunked(aQuery, 3, ""), 5 * time.Millisecond, 200},
		{"chunked mutation", chunked(aMutation, 3, ""), 5 * time.Millisecond, 503},
		{"query with trailers", chunked(aQuery, 7, "x-t: 1\r\n"), 5 * time.Millisecond, 200},
		{"mutation with trailers", chunked(aMutation, 7, "x-t: 1\r\n"), 5 * time.Millisecond, 503},
		{"empty", plain(""), 0, 400},
		{"empty, chunked", chunked("", 1, ""), 0, 400},
		{"900 kB query", plain(pad(900_000)), 0, 200},
		{"oversized", plain(pad(1_500_000)), 0, 413},
		{"oversized, chunked", chunked(pad(1_500_000), 60_000, ""), 0, 413},
		{"compressed", plain("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "content-encoding: gzip\r\n"), 0, 503},
		{"expects 100-continue", plain(aMutation, "expect: 100-continue\r\n"), 0, 503},
		{"never comes", plain(aQuery)[:1], 0, 503},
		{"stops in the middle of a mutation", []string{plain(aMutation)[0], aMutation[:10]}, 0, 0},
	}
	for _, holds := range []bool{true, false} {
		t.Run(fmt.Sprintf("allow_on_headers_stop_iteration=%v", holds), func(t *testing.T) {
			rec := newRecorder(t)
			d := deploy(t, deployOptions{upstream: rec.addr, edit: func(bootstrap map[string]any) { setHoldsHeaders(bootstrap, holds, holds) }})
			d.on("default", maintenance.ReadOnly, "bodies")
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					conn, err := net.Dial("tcp", d.edge.Addr())
					must(t, err)
					defer conn.Close()
					must(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
					for _, part := range c.parts {
						if _, err := io.WriteString(conn, strings.ReplaceAll(part, "CASE", t.Name())); err != nil && c.want == 200 {
							t.Fatal(err)
						}
						time.Sleep(c.pause)
					}
					if c.want == 0 {
						// Half a body: the stream stays open for as long as the client does, and
						// the app has seen nothing of it.
						must(t, conn.SetReadDeadline(time.Now().Add(2*time.Second)))
						if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("an answer to half a body: %d bytes, %v", n, err)
						}
					} else if status, _, body := readAnswer(t, conn, "POST"); status != c.want {
						t.Errorf("%d %s, want %d", status, body, c.want)
					}
					if saw := rec.saw(t.Name()); saw != (c.want == 200) {
						t.Errorf("the app saw all of it: %v", saw)
					}
				})
			}
		})
	}
}

const (
	aQuery    = `{"query":"query A { a }"}`
	aMutation = `{"query":"mutation M { b }"}`
)

// TestMisconfiguredHeaderHoldingIsAnswered: the plugin believes that Envoy holds headers, and Envoy
// does not. Then no body ever comes, and the request is answered instead of stuck.
func TestMisconfiguredHeaderHoldingIsAnswered(t *testing.T) {
	rec := newRecorder(t)
	d := deploy(t, deployOptions{upstream: rec.addr, edit: func(bootstrap map[string]any) { setHoldsHeaders(bootstrap, false, true) }})
	d.on("default", maintenance.ReadOnly, "misconfigured")
	a := d.visitor("127.0.0.1").do("POST", "/graphql", aQuery, "Content-Type", "application/json", "X-Case", "misconfigured")
	if a.Status != 503 || ruleOf(a.Body) != "read-only.body-timeout" || rec.saw("misconfigured") {
		t.Errorf("%d %s, want 503 by read-only.body-timeout and nothing upstream", a.Status, a.Body)
	}
	stats, err := d.envoy.Stats(`wasmcustom.*misconfigured$`)
	must(t, err)
	if n := stats["wasmcustom.drydock.edge.misconfigured"]; n != 1 {
		t.Errorf("misconfigured = %d, want 1 (%v)", n, stats)
	}
}

// setHoldsHeaders sets allow_on_headers_stop_iteration in Envoy's configuration and in
// the plugin's, which the bootstraps keep the same.
func setHoldsHeaders(bootstrap map[string]any, envoys, plugins bool) {
	for node := range Objects(bootstrap) {
		if _, ok := node["allow_on_headers_stop_iteration"]; ok {
			node["allow_on_headers_stop_iteration"] = envoys
		}
		if text, ok := node["value"].(string); ok && strings.Contains(text, "allow_on_headers_stop_iteration") {
			node["value"] = strings.ReplaceAll(text, `"allow_on_headers_stop_iteration": true`, fmt.Sprintf(`"allow_on_headers_stop_iteration": %v`, plugins))
		}
	}
}
