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

// However much is begun and left open, the module does not end: what cannot be held is
// refused at once, what needs no holding passes all the time, and afterwards all does.
func TestUnfinishedRequestsDoNotExhaustTheModule(t *testing.T) {
	onEachEnvoy(t, func(t *testing.T, version string) {
		d := deploy(t, deployOptions{version: version, workers: 1})
		d.putApp(maintenance.Spec{Name: "default"})
		d.on("default", maintenance.ReadOnly, "closed")
		v := d.visitor("127.0.0.1")
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
			conn, err := openUnfinishedStreams(d.edge.Addr(), 100)
			must(t, err)
			defer conn.Close()
			if i%15 == 14 {
				calm(fmt.Sprintf("with %d connections", i+1))
			}
		}
		t.Logf("held: %d requests, %d bytes; refused for it: %d; resident: %s", d.stat(`held_requests$`), d.stat(`held_bytes$`), d.stat(`held_limit$`), resident(t, d.envoy.PID))
		if n := d.stat(`held_limit$`); n == 0 {
			t.Error("nothing was refused for being too much")
		}

		// 200 bodies of which 950 kB come.
		client := overHTTP2(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var answered atomic.Int32
		for range 200 {
			req, err := http.NewRequestWithContext(ctx, "POST", "http://"+d.edge.Addr()+"/graphql", io.MultiReader(bytes.NewReader(bytes.Repeat([]byte(" "), 950<<10)), stalled{ctx}))
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
		t.Logf("with long bodies, held: %d requests, %d bytes; answered: %d; resident: %s", d.stat(`held_requests$`), d.stat(`held_bytes$`), answered.Load(), resident(t, d.envoy.PID))
		cancel()
		eventually(t, 40*time.Second, func() error {
			if a := query(); a.Status != http.StatusOK {
				return fmt.Errorf("a query is answered %d %s", a.Status, a.Body)
			}
			return nil
		})
		if n := d.stat(`wasmcustom.*\.errors$`); n != 0 {
			t.Errorf("the errors counter is %d", n)
		}
		log, err := os.ReadFile(d.envoy.Log)
		must(t, err)
		access, err := os.ReadFile(d.envoy.AccessLog)
		must(t, err)
		if bytes.Contains(access, []byte("wasm_fail_stream")) || bytes.Contains(log, []byte("Function: proxy_")) {
			t.Error("the module crashed")
		}
	})
}

// openUnfinishedStreams opens n streams on one HTTP/2 connection, each with some 28 kB of headers (a
// few bytes each, by HPACK's table) and one byte of a body that never ends.
func openUnfinishedStreams(proxy string, n int) (net.Conn, error) {
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

type stalled struct{ context.Context }

func (s stalled) Read([]byte) (int, error) {
	<-s.Done()
	return 0, s.Err()
}

// TestAbortedBodiesLeaveNothingBehind breaks off 10,000 requests in the middle of their
// bodies. Nothing of them stays.
func TestAbortedBodiesLeaveNothingBehind(t *testing.T) {
	rec := newRecorder(t)
	d := deploy(t, deployOptions{upstream: rec.addr})
	d.on("default", maintenance.ReadOnly, "aborted")
	// In batches, each ended when Envoy has seen all of it: a crowd of connections that
	// Envoy has not come to yet would be measured instead of what requests leave behind.
	const warmUp, total, batch = 4000, 14000, 200
	seen := func() error {
		stats, err := d.envoy.Stats(`^http\.edge\.downstream_cx_active$`)
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
					conn, err := net.Dial("tcp", d.edge.Addr())
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
		rss, err := d.envoy.RSS()
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
	a := d.visitor("127.0.0.1").do("POST", "/graphql", aQuery, "Content-Type", "application/json", "X-Case", "after")
	if a.Status != 200 || !rec.saw("after") {
		t.Errorf("after it: %d %s", a.Status, a.Body)
	}
}

var vmRSS = regexp.MustCompile(`VmRSS:\s*(.*)`)

func resident(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	return string(vmRSS.FindSubmatch(status)[1])
}
