package e2e

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/tidwall/gjson"
)

// recorder is an upstream that remembers which requests came to it whole, by their
// x-case header.
type recorder struct {
	addr string
	mu   sync.Mutex
	seen map[string]bool
}

func newRecorder(t *testing.T) *recorder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	rec := &recorder{addr: l.Addr().String(), seen: map[string]bool{}}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		rec.mu.Lock()
		rec.seen[r.Header.Get("x-case")] = true
		rec.mu.Unlock()
		w.Header().Set("x-upstream", "1")
		io.WriteString(w, `{"data":{}}`)
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return rec
}

func (rec *recorder) saw(id string) bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.seen[id]
}

// graphQLCase is a row of the table that the core, the compiled module and this test share.
type graphQLCase struct {
	Name       string      `json:"name"`
	Method     string      `json:"method"`
	Path       string      `json:"path"`
	Headers    [][2]string `json:"headers"`
	Body       string      `json:"body"`
	BodyBase64 string      `json:"body_base64"`
	Verdict    string      `json:"verdict"`
	Rule       string      `json:"rule"`
}

func (c *graphQLCase) body(t *testing.T) string {
	if c.BodyBase64 == "" {
		return c.Body
	}
	data, err := base64.StdEncoding.DecodeString(c.BodyBase64)
	must(t, err)
	return string(data)
}

// TestReadOnlyMustShow1CasesInEnvoy sends the table's requests, byte for byte, through
// the real Envoy in read-only. What passes reaches the app; what is refused does not,
// and names its rule.
func TestReadOnlyMustShow1CasesInEnvoy(t *testing.T) {
	rec := newRecorder(t)
	r := newRig(t, rigOptions{upstream: rec.addr})
	r.on("default", maintenance.ReadOnly, "cases")
	root, err := Root()
	must(t, err)
	table, err := os.ReadFile(filepath.Join(root, "filter", "maintenance", "graphql", "testdata", "cases.json"))
	must(t, err)
	var cases []graphQLCase
	must(t, json.Unmarshal(table, &cases))
	if len(cases) < 150 {
		t.Fatalf("the table has %d cases, want at least 150", len(cases))
	}
	var envoys []string
	for i, c := range cases {
		id := fmt.Sprint(i)
		body := c.body(t)
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nhost: shop\r\nx-case: %s\r\n", c.Method, c.Path, id)
		for _, h := range c.Headers {
			fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
		}
		if body != "" || c.Method == "POST" {
			fmt.Fprintf(&b, "content-length: %d\r\n", len(body))
		}
		b.WriteString("\r\n" + body)
		status, upstream, reply := r.raw(t, c.Method, b.String())
		passed := rec.saw(id)
		switch {
		case passed != upstream:
			t.Errorf("%s: the app saw it: %v; its answer came: %v", c.Name, passed, upstream)
		case c.Verdict == "pass" && !passed && (status != 400 || ruleOf(reply) != ""):
			t.Errorf("%s: refused with %d %s, want pass", c.Name, status, reply)
		case c.Verdict == "refuse" && passed:
			t.Errorf("%s: passed, want it refused by %s", c.Name, c.Rule)
		case !passed && ruleOf(reply) == "" && c.Method != "HEAD":
			// Envoy's own codec or path normalization was first.
			envoys = append(envoys, fmt.Sprintf("%s (%d)", c.Name, status))
		case c.Verdict == "refuse" && c.Method != "HEAD" && ruleOf(reply) != c.Rule:
			t.Errorf("%s: refused with %d %s, want rule %s", c.Name, status, reply, c.Rule)
		}
	}
	t.Logf("%d cases; refused by Envoy itself before the filter: %s", len(cases), strings.Join(envoys, ", "))
	if len(envoys) > len(cases)/20 {
		t.Errorf("%d of %d cases did not reach the filter", len(envoys), len(cases))
	}
}

// ruleOf is the rule that a refusal names, in GraphQL's form or as a problem.
func ruleOf(reply string) string {
	return cmp.Or(gjson.Get(reply, "errors.0.extensions.rule").String(), gjson.Get(reply, "rule").String())
}

// raw sends bytes on a connection of their own and reads one answer.
func (r *rig) raw(t *testing.T, method, request string) (status int, upstream bool, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", r.edge.Addr())
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, request)
	must(t, err)
	return readAnswer(t, conn, method)
}

func readAnswer(t *testing.T, conn net.Conn, method string) (status int, upstream bool, body string) {
	t.Helper()
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(r, &http.Request{Method: method})
	}
	must(t, err)
	data, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("x-upstream") != "", string(data)
}

const (
	aQuery    = `{"query":"query A { a }"}`
	aMutation = `{"query":"mutation M { b }"}`
)

// TestReadOnlyMustShow3Bodies sends bodies in all the ways that they come, with and
// without Envoy's holding the headers. The right verdict, or 413, and no stuck stream.
func TestReadOnlyMustShow3Bodies(t *testing.T) {
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
			r := newRig(t, rigOptions{upstream: rec.addr, edit: func(bootstrap map[string]any) { setHoldsHeaders(bootstrap, holds, holds) }})
			r.on("default", maintenance.ReadOnly, "bodies")
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					conn, err := net.Dial("tcp", r.edge.Addr())
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

// TestReadOnlyMisconfigured: the plugin believes that Envoy holds headers, and Envoy
// does not. Then no body ever comes, and the request is answered instead of stuck.
func TestReadOnlyMisconfigured(t *testing.T) {
	rec := newRecorder(t)
	r := newRig(t, rigOptions{upstream: rec.addr, edit: func(bootstrap map[string]any) { setHoldsHeaders(bootstrap, false, true) }})
	r.on("default", maintenance.ReadOnly, "misconfigured")
	a := r.visitor("127.0.0.1").do("POST", "/graphql", aQuery, "Content-Type", "application/json", "X-Case", "misconfigured")
	if a.Status != 503 || ruleOf(a.Body) != "read-only.body-timeout" || rec.saw("misconfigured") {
		t.Errorf("%d %s, want 503 by read-only.body-timeout and nothing upstream", a.Status, a.Body)
	}
	stats, err := r.envoy.Stats(`wasmcustom.*misconfigured$`)
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

// TestReadOnlyMustShow3Aborted breaks off 10,000 requests in the middle of their
// bodies. Nothing of them stays.
func TestReadOnlyMustShow3Aborted(t *testing.T) {
	rec := newRecorder(t)
	r := newRig(t, rigOptions{upstream: rec.addr})
	r.on("default", maintenance.ReadOnly, "aborted")
	// In batches, each ended when Envoy has seen all of it: a crowd of connections that
	// Envoy has not come to yet would be measured instead of what requests leave behind.
	const warmUp, total, batch = 4000, 14000, 200
	seen := func() error {
		stats, err := r.envoy.Stats(`^http\.edge\.downstream_cx_active$`)
		if n := stats["http.edge.downstream_cx_active"]; err == nil && n != 0 {
			err = fmt.Errorf("%d connections are still open", n)
		}
		return err
	}
	abort := func(n int) {
		for range n / batch {
			var wg sync.WaitGroup
			for i := range batch {
				wg.Go(func() {
					conn, err := net.Dial("tcp", r.edge.Addr())
					if err != nil {
						t.Error(err)
						return
					}
					fmt.Fprintf(conn, "POST /graphql HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\nx-case: aborted\r\ncontent-length: 20000\r\n\r\n%s", strings.Repeat("{", 1000+40*i))
					if i%2 == 0 {
						// A reset, not a farewell.
						conn.(*net.TCPConn).SetLinger(0)
					}
					conn.Close()
				})
			}
			wg.Wait()
			eventually(t, 30*time.Second, seen)
		}
	}
	resident := func() int64 {
		rss, err := r.envoy.RSS()
		must(t, err)
		return rss
	}
	abort(warmUp)
	before := resident()
	abort(total - warmUp)
	after := resident()
	t.Logf("resident: %d kB after %d aborted bodies, %d kB after %d (%+.1f %%)", before>>10, warmUp, after>>10, total, 100*float64(after-before)/float64(before))
	if after > before+before/20 {
		t.Errorf("resident memory grew from %d kB to %d kB, by more than 5 %%", before>>10, after>>10)
	}
	if rec.saw("aborted") {
		t.Error("the app saw an aborted request")
	}
	// And it still serves.
	a := r.visitor("127.0.0.1").do("POST", "/graphql", aQuery, "Content-Type", "application/json", "X-Case", "after")
	if a.Status != 200 || !rec.saw("after") {
		t.Errorf("after it: %d %s", a.Status, a.Body)
	}
}
