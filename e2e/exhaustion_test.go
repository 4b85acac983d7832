package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// In read-only, the filter pauses a GraphQL request until it has read the whole body. A client can
// abuse that: it begins requests and never sends the rest. Each VM of the filter therefore pauses
// at most 4,096 requests and 64 MiB of headers and bodies (maxPausedRequests and maxPausedBytes in
// filter/paused.go), and refuses a request beyond that by the rule read-only.held-limit.
//
// deploy starts a controller, an Envoy with the Drydock filter, and a demo app behind Envoy
// (deployment_test.go). enforce puts an app into a mode and returns once every worker of Envoy
// enforces the mode; enforceOff ends it. onlyStat reads a counter or gauge of Envoy. A visitor is a
// client of Envoy (clients_test.go). The app default applies to every request that no other app
// matches.

// However many requests are begun and left unfinished, the filter does not crash. It refuses at
// once the requests that it has no room to pause. Requests that it need not pause pass all the
// time, and every request passes again afterwards.
func TestUnfinishedRequestsDoNotExhaustTheModule(t *testing.T) {
	onOldestAndNewestEnvoy(t, testUnfinishedRequests)
}

func testUnfinishedRequests(t *testing.T, version string) {
	d := deploy(t, deployOptions{version: version, workers: 1}) // one VM has all requests
	d.putApp(maintenance.Spec{Name: "default"})
	d.enforce("default", maintenance.ReadOnly, "closed")
	logUsage := func(when string) {
		t.Logf("%s: %d requests and %d bytes paused, %d requests refused for lack of room; Envoy has %d MB", when,
			d.onlyStat(`held_requests$`), d.onlyStat(`held_bytes$`), d.onlyStat(`held_limit$`), d.rss()>>20)
	}

	// 15,000 requests with 28 kB of headers each are 420 MB. The bootstrap allows 100 streams on a
	// connection.
	const connections, streams = 150, 100
	for i := range connections {
		conn, err := openUnfinishedStreams(d.envoyPort.Addr(), streams)
		must(t, err)
		defer conn.Close()
		if opened := i + 1; opened%15 == 0 {
			checkStillServes(d, fmt.Sprintf("with %d connections", opened))
		}
	}

	logUsage("with unfinished requests")
	if n := d.onlyStat(`held_limit$`); n == 0 {
		t.Error("no request was refused for lack of room")
	}

	// 200 bodies of 950 KiB each are 186 MiB. Each is just below Envoy's own limit for a body,
	// which is 1 MiB.
	stop, answered := sendStalledBodies(t, d.envoyPort.Addr(), 200, 950<<10)
	for range 10 {
		checkStillServes(d, "with long bodies")
		time.Sleep(300 * time.Millisecond)
	}
	logUsage("with long bodies")
	t.Logf("%d of them were answered", answered.Load())
	stop()

	// By then the filter has refused what was still paused: body_timeout is 30 seconds by default.
	eventually(t, 40*time.Second, func() error {
		if a := d.visitorFrom("127.0.0.1").postJSON("/graphql", queryOfOrders); a.Status != http.StatusOK {
			return fmt.Errorf("a query is answered %d %s", a.Status, a.Body)
		}
		return nil
	})

	checkNoCrash(d)
}

// queryOfOrders is a GraphQL request that read-only lets pass, once it has seen the body.
const queryOfOrders = `{"query":"{orders{id}}"}`

// checkStillServes checks that a GET passes, which the filter need not pause, and that a query
// either passes or is refused for lack of room.
func checkStillServes(d *deployment, when string) {
	d.t.Helper()
	v := d.visitorFrom("127.0.0.1")
	if a := v.get("/"); a.Status != http.StatusOK {
		d.t.Errorf("%s: GET / is answered %d %s", when, a.Status, a.Body)
	}
	if a := v.postJSON("/graphql", queryOfOrders); a.Status != http.StatusOK && ruleOf(a.Body) != "read-only.held-limit" {
		d.t.Errorf("%s: a query is answered %d %s", when, a.Status, a.Body)
	}
}

// openUnfinishedStreams opens n streams (requests) on one HTTP/2 connection, which stays open. Each
// stream has some 28 kB of headers, just below the 32 kB that Envoy accepts, and one byte of a body
// that does not end. HPACK, the compression of headers in HTTP/2 (RFC 7541), keeps a header in a
// table after its first use, so that the client sends a few bytes in its place.
func openUnfinishedStreams(proxy string, n int) (net.Conn, error) {
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		return nil, err
	}

	var out, block bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	framer.WriteSettings()
	table := hpack.NewEncoder(&block)
	pseudo := [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "shop.example.com"}, {":path", "/graphql"}}
	padding := strings.Repeat("p", 3900)
	for i := range n {
		block.Reset()
		for _, h := range pseudo {
			table.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		table.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/json"})
		for range 7 {
			table.WriteField(hpack.HeaderField{Name: "accept", Value: padding})
		}
		id := uint32(2*i + 1) // a client's stream ids are odd (RFC 9113 section 5.1.1)
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
		framer.WriteData(id, false, []byte("{"))
	}

	if _, err := conn.Write(out.Bytes()); err != nil {
		conn.Close()
		return nil, err
	}

	go io.Copy(io.Discard, conn) // Envoy must be able to send its frames
	return conn, nil
}

// sendStalledBodies sends n GraphQL requests whose bodies stop after size bytes without an end.
// stop breaks them off. answered counts the requests that were answered before.
func sendStalledBodies(t *testing.T, proxy string, n, size int) (stop func(), answered *atomic.Int32) {
	ctx, cancel := context.WithCancel(t.Context())
	client := http2Client(t)
	answered = new(atomic.Int32)
	for range n {
		// A JSON document may begin with any number of blanks, so the filter must read on.
		body := io.MultiReader(bytes.NewReader(bytes.Repeat([]byte(" "), size)), stalledReader{ctx})
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+proxy+"/graphql", body)
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		go func() {
			if resp, err := client.Do(req); err == nil {
				resp.Body.Close()
				answered.Add(1)
			}
		}()
	}

	return cancel, answered
}

// stalledReader is a reader that blocks until its context is done.
type stalledReader struct{ context.Context }

func (s stalledReader) Read([]byte) (int, error) {
	<-s.Done()
	return 0, s.Err()
}

// checkNoCrash checks that neither Envoy's metrics nor its logs show a crash of the filter: Envoy
// writes the stack of a WebAssembly module that crashes ("Function: proxy_on_…") to its log, and
// the detail wasm_fail_stream to the access log for each request that ends by it.
func checkNoCrash(d *deployment) {
	d.t.Helper()
	if n := d.onlyStat(`wasmcustom.*\.errors$`); n != 0 {
		d.t.Errorf("the errors counter is %d", n)
	}
	log, err := os.ReadFile(d.envoy.Log)
	must(d.t, err)
	access, err := os.ReadFile(d.envoy.AccessLog)
	must(d.t, err)
	if bytes.Contains(access, []byte("wasm_fail_stream")) || bytes.Contains(log, []byte("Function: proxy_")) {
		d.t.Error("the module crashed")
	}
}

// Requests that are broken off in the middle of their bodies leave no memory behind: after 10,000
// of them, Envoy's resident memory is at most 5 % larger.
func TestAbortedBodiesLeaveNothingBehind(t *testing.T) {
	app := startRecordingUpstream(t)
	d := deploy(t, deployOptions{upstream: app.addr})
	d.enforce("default", maintenance.ReadOnly, "aborted")

	// In the first thousands of requests, Envoy's heap and the filter's still grow to their size.
	const warmUp, total = 4000, 14000
	abortBodies(d, warmUp)
	before := d.rss()
	abortBodies(d, total-warmUp)
	after := d.rss()
	growth := 100 * float64(after-before) / float64(before)
	t.Logf("resident: %d kB after %d aborted bodies, %d kB after %d (%+.1f %%)", before>>10, warmUp, after>>10, total, growth)
	if after > before+before/20 { // 5 %
		t.Errorf("resident memory grew from %d kB to %d kB, by more than 5 %%", before>>10, after>>10)
	}
	if _, passed := app.find("aborted"); passed {
		t.Error("the app received an aborted request")
	}

	a := d.visitorFrom("127.0.0.1").postJSON("/graphql", queryBody, "X-Case", "after")
	if _, passed := app.find("after"); a.Status != 200 || !passed {
		t.Errorf("a query afterwards: %d %s", a.Status, a.Body)
	}
}

// abortBodies sends n requests, a multiple of 200, and breaks each off in the middle of its body.
// After each batch of 200 it waits until Envoy has closed the connections, because open ones take
// memory too.
func abortBodies(d *deployment, n int) {
	d.t.Helper()
	const batch = 200
	for range n / batch {
		var running sync.WaitGroup
		for i := range batch {
			size := 1000 + 40*i // up to 8,960 of the 20,000 bytes that each request announces
			reset := i%2 == 0
			running.Go(func() { abortBody(d, size, reset) })
		}
		running.Wait()

		eventually(d.t, 30*time.Second, func() error {
			stats, err := d.envoy.Stats(`^http\.edge\.downstream_cx_active$`)
			if err != nil {
				return err
			}
			if open := stats["http.edge.downstream_cx_active"]; open != 0 {
				return fmt.Errorf("%d connections are still open", open)
			}
			return nil
		})
	}
}

// abortBody sends the given number of bytes of a longer body and closes the connection, either with
// a TCP reset or in the normal way.
func abortBody(d *deployment, size int, reset bool) {
	conn, err := net.Dial("tcp", d.envoyPort.Addr())
	if err != nil {
		d.t.Error(err)
		return
	}

	fmt.Fprintf(conn, "POST /graphql HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\nx-case: aborted\r\n"+
		"content-length: 20000\r\n\r\n%s", strings.Repeat("{", size))
	if reset {
		conn.(*net.TCPConn).SetLinger(0) // Close then sends a reset
	}
	conn.Close()
}
