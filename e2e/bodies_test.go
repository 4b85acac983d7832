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

// The app does not receive any part of a refused POST, whatever the size of its body.
func TestRefusedBodiesDoNotReachTheApp(t *testing.T) {
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default"})
	d.enforce("default", maintenance.ReadOnly, "closed")
	before := d.app.Requests()

	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}}
	for _, path := range []string{"/api/orders", "/graphql"} {
		for _, size := range []int{0, 1, 100_000, 3 << 20} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+d.envoyPort.Addr()+path, io.LimitReader(zeros{}, int64(size)))
			must(t, err)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Expect", "100-continue")
			resp, err := client.Do(req)
			must(t, err)
			resp.Body.Close()

			// Beyond its buffer limit Envoy itself refuses with 413. On a GraphQL path, a body that
			// is not valid JSON is answered 400, as GraphQL servers do.
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

// zeros is an endless reader of the digit 0.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return copy(b, strings.Repeat("0", len(b))), nil }

const (
	queryBody    = `{"query":"query A { a }"}`
	mutationBody = `{"query":"mutation M { b }"}`
)

// bodyCase is a POST to the GraphQL path that is sent in parts. CASE stands for its header x-case.
type bodyCase struct {
	name  string
	parts []string
	pause time.Duration // after each part
	want  int           // status; 200 means that it passes, 0 means no answer
}

// head returns the head of a POST to the GraphQL path. extra are further header lines.
func head(extra string) string {
	return "POST /graphql HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\nx-case: CASE\r\n" + extra + "\r\n"
}

// plain returns the parts of a request with a content-length: its head and its body.
func plain(body string, extra ...string) []string {
	return []string{head(fmt.Sprintf("content-length: %d\r\n", len(body)) + strings.Join(extra, "")), body}
}

// bytewise splits the body of a plain request into bytes.
func bytewise(parts []string) []string { return append(parts[:1:1], strings.Split(parts[1], "")...) }

// chunked returns the parts of a request with chunked transfer coding: its head, its chunks and the
// end.
func chunked(body string, size int, trailers string) []string {
	parts := []string{head("transfer-encoding: chunked\r\n")}
	for len(body) > 0 {
		n := min(size, len(body))
		parts = append(parts, fmt.Sprintf("%x\r\n%s\r\n", n, body[:n]))
		body = body[n:]
	}
	return append(parts, "0\r\n"+trailers+"\r\n")
}

func bodyCases() []bodyCase {
	padded := func(n int) string {
		return `{"query":"{ a }","variables":{"x":"` + strings.Repeat("y", n) + `"}}`
	}
	return []bodyCase{
		{"whole query", plain(queryBody), 0, 200},
		{"whole mutation", plain(mutationBody), 0, 503},
		{"late query", plain(queryBody), 2 * time.Second, 200},
		{"late mutation", plain(mutationBody), 2 * time.Second, 503},
		{"query byte by byte", bytewise(plain(queryBody)), 5 * time.Millisecond, 200},
		{"mutation byte by byte", bytewise(plain(mutationBody)), 5 * time.Millisecond, 503},
		{"chunked query", chunked(queryBody, 3, ""), 5 * time.Millisecond, 200},
		{"chunked mutation", chunked(mutationBody, 3, ""), 5 * time.Millisecond, 503},
		{"query with trailers", chunked(queryBody, 7, "x-t: 1\r\n"), 5 * time.Millisecond, 200},
		{"mutation with trailers", chunked(mutationBody, 7, "x-t: 1\r\n"), 5 * time.Millisecond, 503},
		{"empty", plain(""), 0, 400},
		{"empty, chunked", chunked("", 1, ""), 0, 400},
		{"900 kB query", plain(padded(900_000)), 0, 200},
		{"too large", plain(padded(1_500_000)), 0, 413},
		{"too large, chunked", chunked(padded(1_500_000), 60_000, ""), 0, 413},
		{"compressed", plain("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "content-encoding: gzip\r\n"), 0, 503},
		{"expects 100-continue", plain(mutationBody, "expect: 100-continue\r\n"), 0, 503},
		{"body that never comes", plain(queryBody)[:1], 0, 503},
		{"half a mutation", []string{plain(mutationBody)[0], mutationBody[:10]}, 0, 0},
	}
}

// Bodies get the right verdict, or 413, however they are split into pieces, and no stream is stuck.
// That holds whether or not Envoy holds the headers back until the body has been judged.
func TestBodiesAreJudgedHoweverTheyArrive(t *testing.T) {
	for _, holds := range []bool{true, false} {
		t.Run(fmt.Sprintf("allow_on_headers_stop_iteration=%v", holds), func(t *testing.T) {
			app := startRecordingUpstream(t)
			d := deploy(t, deployOptions{upstream: app.addr, edit: setHoldsHeaders(holds, holds)})
			d.enforce("default", maintenance.ReadOnly, "bodies")
			for _, c := range bodyCases() {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.checkJudged(t, d.envoyPort.Addr())
					if _, passed := app.find(t.Name()); passed != (c.want == 200) {
						t.Errorf("the app received it whole: %v", passed)
					}
				})
			}
		})
	}
}

// checkJudged sends the request and checks the status of the answer.
func (c bodyCase) checkJudged(t *testing.T, proxy string) {
	conn, err := net.Dial("tcp", proxy)
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
		// Half a body has no answer: the stream stays open for as long as the client keeps it open.
		must(t, conn.SetReadDeadline(time.Now().Add(2*time.Second)))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("an answer to half a body: %d bytes, %v", n, err)
		}
		return
	}

	a, err := readAnswer(conn, "POST")
	must(t, err)
	if a.Status != c.want {
		t.Errorf("%d %s, want %d", a.Status, a.Body, c.want)
	}
}

// If the plugin's configuration says that Envoy holds headers back and Envoy does not, the body of
// a paused request never comes. The filter answers the request after a while instead of leaving it
// stuck.
func TestMisconfiguredHeaderHoldingIsAnswered(t *testing.T) {
	app := startRecordingUpstream(t)
	d := deploy(t, deployOptions{upstream: app.addr, edit: setHoldsHeaders(false, true)})
	d.enforce("default", maintenance.ReadOnly, "misconfigured")

	a := d.visitorFrom("127.0.0.1").postJSON("/graphql", queryBody, "X-Case", "misconfigured")
	if _, passed := app.find("misconfigured"); a.Status != 503 || ruleOf(a.Body) != "read-only.body-timeout" || passed {
		t.Errorf("%d %s, want 503 by read-only.body-timeout and nothing at the app", a.Status, a.Body)
	}
	stats, err := d.envoy.Stats(`wasmcustom.*misconfigured$`)
	must(t, err)
	if n := stats["wasmcustom.drydock.edge.misconfigured"]; n != 1 {
		t.Errorf("misconfigured = %d, want 1 (%v)", n, stats)
	}
}

// setHoldsHeaders returns an edit of the bootstrap that sets allow_on_headers_stop_iteration in
// Envoy's configuration and in the plugin's. The bootstraps keep the two equal.
func setHoldsHeaders(inEnvoy, inPlugin bool) func(bootstrap map[string]any) {
	return func(bootstrap map[string]any) {
		for node := range Objects(bootstrap) {
			if _, ok := node["allow_on_headers_stop_iteration"]; ok {
				node["allow_on_headers_stop_iteration"] = inEnvoy
			}
			if text, ok := node["value"].(string); ok && strings.Contains(text, "allow_on_headers_stop_iteration") {
				node["value"] = strings.ReplaceAll(text, `"allow_on_headers_stop_iteration": true`, fmt.Sprintf(`"allow_on_headers_stop_iteration": %v`, inPlugin))
			}
		}
	}
}
