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

// Read-only lets a GraphQL query pass and refuses a mutation. Both are POST requests to /graphql,
// so the filter pauses such a request in Envoy until it has read the whole body. It refuses the
// other POST requests of this file without their bodies. Envoy buffers at most 1 MiB of a body, by
// the listener's per_connection_buffer_limit_bytes, and answers 413 to a longer one.
//
// deploy starts a controller and an Envoy with the Drydock filter, in front of a demo app or of one
// that records the requests that it receives (deployment_test.go, upstream_test.go). enforce puts
// an app into a mode and returns once every worker of Envoy enforces the mode; enforceOff ends it.
// The app default applies to every request that no other app matches.

// The app does not receive any part of a refused POST, whatever the size of its body.
func TestRefusedBodiesDoNotReachTheApp(t *testing.T) {
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default"})
	d.enforce("default", maintenance.ReadOnly, "closed")
	before := d.app.Requests()

	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}}
	for _, path := range []string{"/api/orders", "/graphql"} {
		for _, size := range []int{0, 1, 100_000, 3 << 20} {
			body := io.LimitReader(endlessZeros{}, int64(size))
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+d.envoyPort.Addr()+path, body)
			must(t, err)
			req.Header.Set("Content-Type", "application/json")
			// The client sends the body once it gets 100 Continue, or after a second.
			req.Header.Set("Expect", "100-continue")
			resp, err := client.Do(req)
			must(t, err)
			resp.Body.Close()

			// Beyond its buffer limit Envoy itself refuses with 413. On a GraphQL path, the filter
			// answers 400 to a body that is not a GraphQL request, as GraphQL servers do.
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

// endlessZeros is a reader of the digit 0 without an end.
type endlessZeros struct{}

func (endlessZeros) Read(b []byte) (int, error) {
	return copy(b, strings.Repeat("0", len(b))), nil
}

const (
	queryBody    = `{"query":"query A { a }"}`
	mutationBody = `{"query":"mutation M { b }"}`
)

// bodyCase is a POST to the GraphQL path that is sent in parts: its head, and then its body.
type bodyCase struct {
	name  string
	parts []string      // caseID in them is replaced by an id of the case
	pause time.Duration // after each part
	want  int           // status of the answer (200: the app's), or noReply
}

const (
	// caseID stands for the value of the header x-case. A test finds the app's record of a request
	// with that value.
	caseID = "CASE"

	// noReply is bodyCase.want if the filter still waits for the rest of the body.
	noReply = 0

	// The pauses of the cases: none, one that makes most parts arrive by themselves, and one that
	// makes the filter wait.
	noPause, shortPause, longPause = 0, 5 * time.Millisecond, 2 * time.Second
)

// graphQLHead returns the head of a POST to the GraphQL path: the request line and the headers.
// extra are further header lines, each with its \r\n.
func graphQLHead(extra string) string {
	return "POST /graphql HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\nx-case: " + caseID + "\r\n" + extra + "\r\n"
}

// withLength returns the two parts of a request with a content-length: the head and the body. extra
// are further header lines.
func withLength(body string, extra ...string) []string {
	length := fmt.Sprintf("content-length: %d\r\n", len(body))
	return []string{graphQLHead(length + strings.Join(extra, "")), body}
}

// bytewise splits the body of a request from withLength into parts of one byte.
func bytewise(parts []string) []string {
	head, body := parts[0], parts[1]
	return append([]string{head}, strings.Split(body, "")...)
}

// chunked returns the parts of a request with chunked transfer coding (RFC 9112 section 7.1): the
// head, a part for each chunk of the given size, and the last chunk with the trailer lines.
func chunked(body string, size int, trailers string) []string {
	parts := []string{graphQLHead("transfer-encoding: chunked\r\n")}
	for len(body) > 0 {
		n := min(size, len(body))
		parts = append(parts, fmt.Sprintf("%x\r\n%s\r\n", n, body[:n]))
		body = body[n:]
	}
	return append(parts, "0\r\n"+trailers+"\r\n")
}

func bodyCases() []bodyCase {
	const noTrailers = ""
	padded := func(n int) string { // a query with n bytes of padding
		return `{"query":"{ a }","variables":{"x":"` + strings.Repeat("y", n) + `"}}`
	}

	return []bodyCase{
		{"whole query", withLength(queryBody), noPause, 200},
		{"whole mutation", withLength(mutationBody), noPause, 503},
		{"late query", withLength(queryBody), longPause, 200},
		{"late mutation", withLength(mutationBody), longPause, 503},
		{"query byte by byte", bytewise(withLength(queryBody)), shortPause, 200},
		{"mutation byte by byte", bytewise(withLength(mutationBody)), shortPause, 503},
		{"chunked query", chunked(queryBody, 3, noTrailers), shortPause, 200},
		{"chunked mutation", chunked(mutationBody, 3, noTrailers), shortPause, 503},
		{"query with trailers", chunked(queryBody, 7, "x-t: 1\r\n"), shortPause, 200},
		{"mutation with trailers", chunked(mutationBody, 7, "x-t: 1\r\n"), shortPause, 503},

		// An empty body is not a GraphQL request.
		{"empty", withLength(""), noPause, 400},
		{"empty, chunked", chunked("", 1, noTrailers), noPause, 400},

		// Envoy's limit is 1 MiB.
		{"900 kB query", withLength(padded(900_000)), noPause, 200},
		{"too large", withLength(padded(1_500_000)), noPause, 413},
		{"too large, chunked", chunked(padded(1_500_000), 60_000, noTrailers), noPause, 413},

		// The filter does not decompress, so it cannot see whether this is a query.
		{"compressed", withLength("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "content-encoding: gzip\r\n"), noPause, 503},
		{"expects 100-continue", withLength(mutationBody, "expect: 100-continue\r\n"), noPause, 503},

		// The filter waits five seconds for the first byte of a body (firstByteTimeout), and then
		// up to body_timeout, which is 30 seconds by default, for the rest.
		{"body that never comes", withLength(queryBody)[:1], noPause, 503},
		{"half a mutation", []string{withLength(mutationBody)[0], mutationBody[:10]}, noPause, noReply},
	}
}

// Bodies get the right verdict, or 413, however they are split into pieces, and no request is
// stuck. That is so whether or not Envoy keeps the headers back until the body has been judged
// (allow_on_headers_stop_iteration). If it does not, the app receives the headers of a refused
// request, but never the whole request.
func TestBodiesAreJudgedHoweverTheyArrive(t *testing.T) {
	for _, holds := range []bool{true, false} {
		t.Run(fmt.Sprintf("allow_on_headers_stop_iteration=%v", holds), func(t *testing.T) {
			app := startRecordingUpstream(t)
			d := deploy(t, deployOptions{upstream: app.addr, edit: setHoldsHeaders(holds, holds)})
			d.enforce("default", maintenance.ReadOnly, "bodies")
			for _, c := range bodyCases() {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					id := t.Name()
					c.checkAnswer(t, d.envoyPort.Addr(), id)
					if _, passed := app.find(id); passed != (c.want == 200) {
						t.Errorf("the app received the request whole: %v", passed)
					}
				})
			}
		})
	}
}

// checkAnswer sends the request with the header x-case: id and checks the status of the answer.
func (c bodyCase) checkAnswer(t *testing.T, proxy, id string) {
	conn, err := net.Dial("tcp", proxy)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	for _, part := range c.parts {
		// Envoy may answer and close before it has read the body of a request that is refused.
		_, err := io.WriteString(conn, strings.ReplaceAll(part, caseID, id))
		if err != nil && c.want == 200 {
			t.Fatal(err)
		}
		time.Sleep(c.pause)
	}

	if c.want == noReply {
		// Two seconds are long enough for a wrong answer, and shorter than the filter's timeouts.
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

// Envoy and the filter (Envoy calls it a plugin) both have a setting
// allow_on_headers_stop_iteration. If the plugin's is true and Envoy's is false, the body of a
// paused request never comes, because Envoy sends the filter no body while the headers wait. The
// filter answers such a request after five seconds instead of leaving it stuck, and counts it.
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
// Envoy's configuration and in the plugin's, which is JSON in a string. In the bootstraps both are
// true.
func setHoldsHeaders(inEnvoy, inPlugin bool) func(bootstrap map[string]any) {
	return func(bootstrap map[string]any) {
		for node := range Objects(bootstrap) {
			if _, ok := node["allow_on_headers_stop_iteration"]; ok {
				node["allow_on_headers_stop_iteration"] = inEnvoy
			}
			if text, ok := node["value"].(string); ok {
				const before = `"allow_on_headers_stop_iteration": true`
				after := fmt.Sprintf(`"allow_on_headers_stop_iteration": %v`, inPlugin)
				node["value"] = strings.ReplaceAll(text, before, after)
			}
		}
	}
}
