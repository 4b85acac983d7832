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

// However many requests are begun and left unfinished, the module does not crash. It refuses at
// once what it has no room to pause, requests that need no pause pass all the time, and every
// request passes again afterwards.
func TestUnfinishedRequestsDoNotExhaustTheModule(t *testing.T) {
	onOldestAndNewestEnvoy(t, testUnfinishedRequests)
}

func testUnfinishedRequests(t *testing.T, version string) {
	d := deploy(t, deployOptions{version: version, workers: 1})
	d.putApp(maintenance.Spec{Name: "default"})
	d.enforce("default", maintenance.ReadOnly, "closed")
	logUsage := func(when string) {
		t.Logf("%s: %d requests and %d bytes paused, %d requests refused for lack of room; Envoy has %d MB", when,
			d.onlyStat(`held_requests$`), d.onlyStat(`held_bytes$`), d.onlyStat(`held_limit$`), d.rss()>>20)
	}

	// 15,000 requests with 28 kB of headers each.
	for i := range 150 {
		conn, err := openUnfinishedStreams(d.envoyPort.Addr(), 100)
		must(t, err)
		defer conn.Close()
		if i%15 == 14 {
			checkStillServes(d, fmt.Sprintf("with %d connections", i+1))
		}
	}

	logUsage("with unfinished headers")
	if n := d.onlyStat(`held_limit$`); n == 0 {
		t.Error("no request was refused for lack of room")
	}

	stop, answered := sendStalledBodies(t, d.envoyPort.Addr(), 200, 950<<10)
	for range 10 {
		checkStillServes(d, "with long bodies")
		time.Sleep(300 * time.Millisecond)
	}
	logUsage("with long bodies")
	t.Logf("%d of them were answered", answered.Load())
	stop()

	eventually(t, 40*time.Second, func() error {
		if a := d.visitorFrom("127.0.0.1").postJSON("/graphql", queryOfOrders); a.Status != http.StatusOK {
			return fmt.Errorf("a query is answered %d %s", a.Status, a.Body)
		}
		return nil
	})

	checkNoCrash(d)
}

const queryOfOrders = `{"query":"{orders{id}}"}`

// checkStillServes checks that a GET passes, and that a query passes or is refused for lack of
// room.
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

// openUnfinishedStreams opens n streams on one HTTP/2 connection. Each has some 28 kB of headers,
// which HPACK's table reduces to a few bytes, and one byte of a body that does not end.
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

// sendStalledBodies sends n GraphQL requests whose bodies stop after the given number of bytes,
// until stop is called. It counts the requests that are answered.
func sendStalledBodies(t *testing.T, proxy string, n, size int) (stop func(), answered *atomic.Int32) {
	ctx, cancel := context.WithCancel(t.Context())
	client := http2Client(t)
	answered = new(atomic.Int32)
	for range n {
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

// checkNoCrash checks that Envoy's metrics and logs do not show a crash of the module.
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

// Requests that are broken off in the middle of their bodies, 10,000 of them, leave no memory
// behind.
func TestAbortedBodiesLeaveNothingBehind(t *testing.T) {
	app := startRecordingUpstream(t)
	d := deploy(t, deployOptions{upstream: app.addr})
	d.enforce("default", maintenance.ReadOnly, "aborted")

	const warmUp, total = 4000, 14000
	abortBodies(d, warmUp)
	before := d.rss()
	abortBodies(d, total-warmUp)
	after := d.rss()
	t.Logf("resident: %d kB after %d aborted bodies, %d kB after %d (%+.1f %%)", before>>10, warmUp, after>>10, total, 100*float64(after-before)/float64(before))
	if after > before+before/20 {
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

// abortBodies sends n requests and breaks each off in the middle of its body. It waits for Envoy
// after each batch, because connections that Envoy has not handled yet would take memory too.
func abortBodies(d *deployment, n int) {
	d.t.Helper()
	const batch = 200
	for range n / batch {
		var running sync.WaitGroup
		for i := range batch {
			running.Go(func() { abortBody(d, 1000+40*i, i%2 == 0) })
		}
		running.Wait()

		eventually(d.t, 30*time.Second, func() error {
			stats, err := d.envoy.Stats(`^http\.edge\.downstream_cx_active$`)
			if n := stats["http.edge.downstream_cx_active"]; err == nil && n != 0 {
				err = fmt.Errorf("%d connections are still open", n)
			}
			return err
		})
	}
}

// abortBody sends the given number of bytes of a longer body and closes the connection, either with
// a reset or in the normal way.
func abortBody(d *deployment, size int, reset bool) {
	conn, err := net.Dial("tcp", d.envoyPort.Addr())
	if err != nil {
		d.t.Error(err)
		return
	}

	fmt.Fprintf(conn, "POST /graphql HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\nx-case: aborted\r\n"+
		"content-length: 20000\r\n\r\n%s", strings.Repeat("{", size))
	if reset {
		conn.(*net.TCPConn).SetLinger(0)
	}
	conn.Close()
}
