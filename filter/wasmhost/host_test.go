package wasmhost_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

var get = wasmhost.Headers{{":method", "GET"}, {":path", "/"}, {":authority", "a.example"}}

// trace returns the recorded calls of a host function, or all calls if it is "", of WASI none.
func (p *process) trace(fn string) (lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if c.Func == fn || fn == "" && (c.Func == "" || strings.HasPrefix(c.Func, "proxy_")) {
			lines = append(lines, c.String())
		}
	}
	return lines
}

func le(v uint64) string { return string(binary.LittleEndian.AppendUint64(nil, v)) }

func TestSharedData(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	run := func(vmID, script string) *wasmhost.VM {
		vm := p.vm(wasmhost.VMConfig{ID: vmID})
		p.add(vm, wasmhost.PluginConfig{Configuration: []byte("start: " + script)})
		return vm
	}
	const casMismatch = "error status returned by host: cas mismatch"
	const notFound = "error status returned by host: not found"
	first := run("a", "shget k; shset k one 0xffffffff; shget k; shset k two 0xffffffff; shset k two 99; shset k two 1; shget k; shset k three 0; shget k; shset empty - 0; shget empty")
	p.expect("shget k = "+notFound+" 0", `shset k one 0xffffffff = "ok"`, `shget k = "one" 1`,
		"shset k two 0xffffffff = "+casMismatch, "shset k two 99 = "+casMismatch, `shset k two 1 = "ok"`, `shget k = "two" 2`,
		`shset k three 0 = "ok"`, `shget k = "three" 3`,
		`shset empty - 0 = "ok"`, `shget empty = "" 4`)
	second := run("a", "shget k")
	p.expect(`shget k = "three" 3`)
	run("b", "shget k; shset k other 7")
	p.expect("shget k = "+notFound+" 0", `shset k other 7 = "ok"`)

	if v, cas, ok := p.SharedData("a", "k"); string(v) != "three" || cas != 3 || !ok {
		t.Errorf("got %q, %d, %t", v, cas, ok)
	}
	if st := p.SetSharedData("a", "k", []byte("x"), 99); st != wasmhost.StatusCasMismatch {
		t.Errorf("got %v", st)
	}
	if st := p.SetSharedData("a", "l", nil, 99); st != wasmhost.StatusOK {
		t.Errorf("got %v", st)
	}
	if got, want := fmt.Sprint(p.SharedKeys("a"), p.SharedKeys("b")), "[empty k l] [k]"; got != want {
		t.Errorf("keys are %s, want %s", got, want)
	}
	first.Close()
	if p.SharedKeys("a") == nil {
		t.Error("data went with the first of two VMs")
	}
	second.Close()
	if keys := p.SharedKeys("a"); keys != nil {
		t.Errorf("the last VM has gone, %q stay", keys)
	}
	if v, _, ok := newProcess(t, wasmhost.Config{}).SharedData("b", "k"); ok {
		t.Errorf("another process has %q", v)
	}
}

// TestWorkers: VMs of one process run in parallel, and CAS keeps what they share right.
func TestWorkers(t *testing.T) {
	const workers, streams = 3, 50
	p := newProcess(t, wasmhost.Config{})
	p.Host = wasmhost.New(wasmhost.Config{}) // without the recorder's lock
	defer p.Close()
	var wg sync.WaitGroup
	for i := range workers {
		vm := p.vm(wasmhost.VMConfig{Thread: fmt.Sprint("worker_", i)})
		pl := p.add(vm, wasmhost.PluginConfig{Configuration: []byte("request_headers: count k; counter c 1; register q; enqueue q x")})
		wg.Go(func() {
			for range streams {
				s := pl.NewStream(wasmhost.StreamConfig{})
				s.RequestHeaders(get, true)
				s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, true)
				vm.Dispatch()
			}
		})
	}
	wg.Wait()
	v, _, _ := p.SharedData("", "k")
	m, _ := p.Metric("c")
	if string(v) != fmt.Sprint(workers*streams) || m.Value != workers*streams {
		t.Errorf("counted %s by CAS, %d by the counter, want %d", v, m.Value, workers*streams)
	}
}

func TestQueues(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	owner := p.vm(wasmhost.VMConfig{Thread: "owner", ID: "a"})
	p.add(owner, wasmhost.PluginConfig{Configuration: []byte("start: register q\nqueue: dequeue q; dequeue q")})
	sender := p.vm(wasmhost.VMConfig{Thread: "sender", ID: "b"})
	p.add(sender, wasmhost.PluginConfig{Configuration: []byte("start: tick 1; resolve - q; resolve a q; enqueue q one\ntick: enqueue q two; dequeue q; dequeue q")})
	p.expect("resolve - q = error status returned by host: not found")
	if n := sender.Dispatch(); n != 0 {
		t.Errorf("%d events for the sender", n)
	}
	if n := owner.Dispatch(); n != 1 {
		t.Errorf("%d events for the owner, want 1", n)
	}
	p.expect(`dequeue q = "one"`, "dequeue q = error status returned by host: empty")
	sender.Tick() // who resolves a queue may empty it, too
	p.expect(`dequeue q = "two"`, "dequeue q = error status returned by host: empty")
	select {
	case <-owner.Wake():
		owner.Dispatch()
	default:
		t.Error("the owner was not told")
	}
	p.expect("dequeue q = error status returned by host: empty", "dequeue q = error status returned by host: empty")
	owner.Close()
	sender.Tick()
	p.expect("enqueue q two = error status returned by host: not found", "dequeue q = error status returned by host: not found", "dequeue q = error status returned by host: not found")
}

func TestMetrics(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	for range 2 {
		p.plugin("start: counter c 3; gauge g 5; gauge g -2; histogram h 4; histogram h 6")
	}
	p.expect("counter c 3 = 3", "gauge g 5 = 5", "gauge g -2 = 3", "counter c 3 = 6", "gauge g 5 = 8", "gauge g -2 = 6")
	want := []wasmhost.Metric{{Name: "c", Type: wasmhost.Counter, Value: 6}, {Name: "g", Type: wasmhost.Gauge, Value: 6},
		{Name: "h", Type: wasmhost.Histogram, Value: 20, Count: 4, Max: 6}}
	if got := p.Metrics(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if m, ok := p.Metric("h"); !ok || m != want[2] {
		t.Errorf("got %v, %t", m, ok)
	}
	if m, ok := p.Metric("nope"); ok {
		t.Errorf("got %v", m)
	}

	_, vm := p.plugin("tick: counter c 0\nstart: tick 1")
	vm.Tick() // Envoy refuses to add nothing to a counter, and the SDK panics
	if err := vm.Err(); err == nil {
		t.Error("the VM lives")
	}
}

func TestProperties(t *testing.T) {
	tree := map[string]any{
		"source":     map[string]any{"address": "10.0.0.1:4711", "port": 4711},
		"connection": map[string]any{"mtls": true, "id": uint64(1) << 63},
		"request":    map[string]any{"time": time.Unix(1, 5), "duration": 3 * time.Second, "protocol": "HTTP/2", "path": "/ignored"},
		"metadata": map[string]any{"filter_metadata": map[string]any{"envoy.filters.http.jwt_authn": map[string]any{"payload": map[string]any{
			"sub": "joe", "exp": 12, "admin": true, "none": nil, "groups": []any{"a", "b"}, "one": []string{"x"}, "mixed": []any{"a", nil},
			"inner": map[string]any{"y": 1.5, "x": "z"},
		}}}},
		"bytes": []byte{1, 2}, "list": []any{int64(-1), 2.5}, "null": nil, "words": map[string]string{"k": "v"},
	}
	// Asked for whole, metadata is protobuf, in which every value has its type. Each of these forms was seen in Envoy 1.40.0
	// and 1.36.4, whose maps are in no order.
	const metadata = "\n\xd1\x01\n\x1cenvoy.filters.http.jwt_authn\x12\xb0\x01\n\xad\x01\n\apayload\x12\xa1\x01*\x9e\x01" +
		"\n\v\n\x05admin\x12\x02 \x01" + "\n\x10\n\x03exp\x12\t\x11\x00\x00\x00\x00\x00\x00(@" + "\n\x16\n\x06groups\x12\f2\n\n\x03\x1a\x01a\n\x03\x1a\x01b" +
		"\n%\n\x05inner\x12\x1c*\x1a\n\b\n\x01x\x12\x03\x1a\x01z\n\x0e\n\x01y\x12\t\x11\x00\x00\x00\x00\x00\x00\xf8?" +
		"\n\x14\n\x05mixed\x12\v2\t\n\x03\x1a\x01a\n\x02\b\x00" + "\n\n\n\x04none\x12\x02\b\x00" + "\n\x0e\n\x03one\x12\a2\x05\n\x03\x1a\x01x" + "\n\f\n\x03sub\x12\x05\x1a\x03joe"
	const claim = "metadata/filter_metadata/envoy.filters.http.jwt_authn/payload/"
	const notFound, failure = "NotFound", "SerializationFailure"
	double := func(f float64) string { return "OK " + fmt.Sprintf("%q", le(math.Float64bits(f))) }
	ok := func(s string) string { return fmt.Sprintf("OK %q", s) }
	pairs := func(h ...string) string { return ok(pairs(h...)) }
	p := newProcess(t, wasmhost.Config{Properties: map[string]any{"listener": "shared"}})
	vm := p.vm(wasmhost.VMConfig{Thread: "worker_0"})
	for path, want := range map[string]string{
		"source.address":   ok("10.0.0.1:4711"),
		"source.port":      ok(le(4711)),
		"source.nope":      notFound,
		"source":           failure,
		"connection.mtls":  ok("\x01"),
		"connection.id":    ok(le(1 << 63)),
		"request.time":     ok(le(1_000_000_005)),
		"request.duration": ok(le(3_000_000_000)),
		"request.protocol": ok("HTTP/2"),
		"request":          failure,
		"bytes":            ok("\x01\x02"),
		"list":             pairs(le(math.MaxUint64), "", le(math.Float64bits(2.5)), ""),
		"list.1":           double(2.5),
		"list.2":           notFound,
		"list.x":           notFound,
		"null":             failure,
		"null.x":           notFound,
		"words":            pairs("k", "v"),
		"words.k":          ok("v"),
		"words.nope":       notFound,
		"node":             notFound,
		"listener":         ok("shared"),

		// What follows from the stream.
		"request.path":                ok("/a?b=c#d"),
		"request.url_path":            ok("/a"),
		"request.query":               ok("b=c"),
		"request.method":              ok("POST"),
		"request.host":                ok("a.example"),
		"request.scheme":              notFound,
		"request.useragent":           ok("curl"),
		"request.size":                ok(le(3)),
		"request.total_size":          ok(le(76)),
		"request.path.x":              notFound,
		"request.host.x":              notFound,
		"request.headers.X":           ok("1,2"),
		"request.headers.nope":        notFound,
		"request.headers.x.y":         notFound,
		"request.headers":             pairs(":authority", "a.example", ":method", "POST", ":path", "/a?b=c#d", "content-length", "3", "user-agent", "curl", "x", "1,2"),
		"response.code":               notFound,
		"response.code_details":       notFound,
		"response.headers.x":          notFound,
		"response.headers":            pairs(),
		"response.size":               ok(le(0)),
		"plugin_name":                 ok("p"),
		"plugin_root_id":              ok("r"),
		"plugin_vm_id":                ok(""),
		"metadata":                    ok(metadata),
		"metadata.filter_metadata":    failure, // there is a null in it
		"metadata.filter_metadata.no": notFound,

		// Claims: a protobuf Struct, with one kind of number.
		claim + "sub":        ok("joe"),
		claim + "exp":        double(12),
		claim + "admin":      ok("\x01"),
		claim + "none":       failure,
		claim + "groups":     pairs("a", "", "b", ""),
		claim + "groups/1":   ok("b"),
		claim + "one":        pairs("x", ""),
		claim + "one/0":      ok("x"),
		claim + "one/1":      notFound,
		claim + "mixed":      failure,
		claim + "mixed/0":    ok("a"),
		claim + "inner":      pairs("x", "z", "y", le(math.Float64bits(1.5))),
		claim + "inner/y":    double(1.5),
		claim + "inner/nope": notFound,
		claim + "sub/x":      notFound,
	} {
		t.Run(strings.ReplaceAll(path, "/", "."), func(t *testing.T) {
			pl := p.add(vm, wasmhost.PluginConfig{Name: "p", RootID: "r", Configuration: []byte("request_headers: prop " + path)})
			p.calls = nil
			s := pl.NewStream(wasmhost.StreamConfig{Properties: tree})
			s.RequestHeaders(wasmhost.Headers{{":method", "POST"}, {":path", "/a?b=c#d"}, {"Host", "a.example"}, {"user-agent", "curl"}, {"X", "1"}, {"x", "2"}, {"content-length", "3"}}, false)
			if got := p.trace("proxy_get_property"); len(got) != 1 || !strings.HasSuffix(got[0], ") = "+want) {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// Metadata is there, and empty, where no filter has written any; outside of a stream it is not.
func TestMetadataOfAStreamWithoutAny(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.plugin("start: tick 1\nrequest_headers: prop metadata; prop metadata.filter_metadata.x\ntick: prop metadata; each prop metadata")
	s := pl.NewStream(wasmhost.StreamConfig{})
	s.RequestHeaders(get, true)
	p.expect(`prop metadata = ""`, "prop metadata.filter_metadata.x = error status returned by host: not found")
	vm.Tick()
	p.expect("prop metadata = error status returned by host: not found", `prop metadata = ""`)
}

// pairs is the proxy-wasm form of names and values.
func pairs(h ...string) string {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(h)/2))
	for _, s := range h {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	}
	return string(b) + strings.Join(append(h, ""), "\x00")
}

func TestFilterState(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.plugin("start: tick 1\nrequest_headers: setprop x y; setprop x z; prop x; prop x.y\ntick: setprop x y; prop x; each prop x\nlog: setprop last 1")
	s := pl.NewStream(wasmhost.StreamConfig{})
	s.RequestHeaders(get, true)
	p.expect(`prop x = "z"`, "prop x.y = error status returned by host: not found")
	vm.Tick()
	p.expect("setprop x y = error status returned by host: not found", "prop x = error status returned by host: not found", `prop x = "z"`)
	s.Abort()
	for name, want := range map[string]string{"wasm.x": "z", "wasm.last": "1"} {
		if v, ok := s.FilterState(name); string(v) != want || !ok {
			t.Errorf("%s is %q, %t", name, v, ok)
		}
	}
	if v, ok := s.FilterState("x"); ok {
		t.Errorf("x is %q", v)
	}
	if v, ok := pl.NewStream(wasmhost.StreamConfig{}).FilterState("wasm.x"); ok {
		t.Errorf("another stream has %q", v)
	}
}

// TestSurroundings: what a module learns outside of streams.
func TestSurroundings(t *testing.T) {
	clock := wasmhost.NewManualClock(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	p := newProcess(t, wasmhost.Config{Clock: clock.Clock(), ForeignFunctions: map[string]func([]byte) ([]byte, wasmhost.Status){
		"upper": func(b []byte) ([]byte, wasmhost.Status) { return []byte(strings.ToUpper(string(b))), wasmhost.StatusOK },
		"fail":  func([]byte) ([]byte, wasmhost.Status) { return nil, wasmhost.StatusParseFailure },
	}})
	vm := p.vm(wasmhost.VMConfig{Thread: "worker_1", Configuration: []byte("v"), Env: map[string]string{"TOKEN": "secret", "A": ""}})
	p.add(vm, wasmhost.PluginConfig{Name: "p", RootID: "r", Configuration: []byte(
		"start: tick 250; env TOKEN; env A; env HOME; vmconfig; config; print hello; critical bad; foreign upper abc; foreign fail; foreign nope; prop plugin_name; get request x; pairs request; body request; setprop a b; effective 99; outside; status; time\n" +
			"tick: now; config; vmconfig; effective 1; reply 503 nobody; resume request; close 0")})
	config := `"start: tick 250; env TOKEN`
	logs := p.messages()
	for i, want := range []string{
		`env TOKEN = "secret"`, `env A = ""`, `env HOME = ""`, `vmconfig = "v"`, `config = ` + config, "hello", "bad", `foreign upper abc = "ABC"`,
		"foreign fail = unknown status code: 4", "foreign nope = error status returned by host: not found",
		`prop plugin_name = "p"`, "get request x = error status returned by host: bad argument", "pairs request = error status returned by host: not found",
		"body request = error status returned by host: not found", "setprop a b = error status returned by host: not found",
		"effective 99 = error status returned by host: bad argument", "outside = 6", "status = 0 0 0", "time = 1767323045000000006",
	} {
		if i >= len(logs) || !strings.HasPrefix(logs[i], want) {
			t.Fatalf("line %d of %q, want %s", i, logs, want)
		}
	}
	clock.Advance(time.Second)
	vm.Tick()
	if got, want := p.messages(), []string{"now = 2026-01-02T03:04:06.000000006Z", "config = error status returned by host: not found", `vmconfig = "v"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	clock.Set(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
	vm.Tick()
	if got := p.messages(); got[0] != "now = 2025-01-01T00:00:00Z" || !clock.Now().Equal(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got %q", got)
	}
	if err := vm.Err(); err != nil {
		t.Error(err)
	}
}

func TestLog(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.plugin("start: log one; print two; critical three; tick 1\ntick: panic four")
	if got := pl.TickPeriod(); got != time.Millisecond {
		t.Errorf("the tick period is %v", got)
	}
	pl.Tick()
	want := map[string]slog.Level{"one": slog.LevelInfo, "two": slog.LevelInfo, "three": slog.LevelError + 4, "four": slog.LevelError, "VM failed: proxy_on_tick: wasm error: unreachable": slog.LevelError}
	for _, e := range p.logs {
		message, _, _ := strings.Cut(e.Message, "\n")
		if level, ok := want[message]; ok {
			delete(want, message)
			if e.Level != level || e.Thread != "worker_0" || e.Plugin != "p" && !strings.HasPrefix(message, "VM") {
				t.Errorf("got %+v, want %v of plugin p on worker_0", e, level)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("%v is missing in %+v", want, p.logs)
	}
	if err := vm.Err(); err == nil || !strings.Contains(err.Error(), "wasm stack trace") {
		t.Errorf("the VM failed with %v, want a stack trace", err)
	}
}

// TestSleep: Go's runtime asks poll_oneoff for sleep; an older Envoy has none.
func TestSleep(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		p := newProcess(t, wasmhost.Config{LegacyWASI: legacy})
		pl, vm := p.plugin("start: tick 1\ntick: sleep 1; log slept")
		pl.Tick()
		if died := vm.Err() != nil; died != legacy {
			t.Errorf("legacy %t: the VM failed with %v", legacy, vm.Err())
		}
		if slept := slices.Contains(p.messages(), "slept"); slept == legacy {
			t.Errorf("legacy %t: slept %t", legacy, slept)
		}
	}
}

func TestStrict(t *testing.T) {
	for name, tt := range map[string]struct{ script, want string }{
		"resume what is not paused":  {"start: tick 1\ntick: each resume request", "proxy_continue_stream in proxy_on_tick: the stream is not paused"},
		"resume without a stream":    {"start: tick 1\ntick: resume request", "proxy_continue_stream in proxy_on_tick: no stream is current"},
		"reply without a stream":     {"start: tick 1\ntick: reply 503 x", "proxy_send_local_response in proxy_on_tick: no stream is current"},
		"resume after a reply":       {"request_headers: reply 503 x; resume request", "proxy_continue_stream in proxy_on_request_headers: the stream was already answered by a local reply"},
		"two replies":                {"request_headers: reply 503 x; reply 503 y", "proxy_send_local_response in proxy_on_request_headers: the stream was already answered or has ended"},
		"resume twice":               {"start: tick 1\nrequest_headers: pause\ntick: each resume request; each resume request", "proxy_continue_stream in proxy_on_tick: the stream is not paused"},
		"reply after the stream":     {"log: reply 503 x", "proxy_send_local_response in proxy_on_log: the stream was already answered or has ended"},
		"a stream that has gone":     {"start: tick 1\ntick: effective 2", ""},
		"resume what a reply paused": {"start: tick 1\nrequest_headers: reply 503 x\nresponse_headers: pause\ntick: each resume response", ""},
	} {
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", strict ", strict), func(t *testing.T) {
				p := newProcess(t, wasmhost.Config{Strict: strict})
				pl, vm := p.plugin(tt.script)
				s := pl.NewStream(wasmhost.StreamConfig{})
				s.RequestHeaders(get, true)
				vm.Tick()
				s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, true)
				vm.Tick()
				vs := p.Violations()
				if tt.want == "" {
					if len(vs) > 0 || vm.Err() != nil {
						t.Errorf("got %v and %v", vs, vm.Err())
					}
					return
				}
				if len(vs) == 0 || vs[0].Error() != tt.want {
					t.Fatalf("got %v, want %s", vs, tt.want)
				}
				if strict != errors.Is(vm.Err(), vs[0]) || !strict && vm.Err() != nil {
					t.Errorf("the VM failed with %v", vm.Err())
				}
			})
		}
	}
}

func TestCalls(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.plugin("response_headers: log a; log b; get response :status")
	vm.ResetCalls()
	s := pl.NewStream(wasmhost.StreamConfig{})
	s.RequestHeaders(get, true)
	if calls := vm.Calls(); len(calls) > 0 {
		t.Errorf("a request without a script made the calls %v", calls)
	}
	s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, true)
	want := []wasmhost.CallCount{{"proxy_on_response_headers", "proxy_log", 3}, {"proxy_on_response_headers", "proxy_get_header_map_value", 1}}
	got := slices.DeleteFunc(vm.Calls(), func(c wasmhost.CallCount) bool { return c.Func == "clock_time_get" }) // a garbage collection may fall in
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMemory(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.plugin("start: tick 1\ntick: allocate 8388608")
	before := vm.MemorySize()
	pl.Tick()
	after := vm.MemorySize()
	if after < before+8<<20 {
		t.Errorf("memory went from %d to %d, want 8 MiB more", before, after)
	}
	vm.Crash(errors.New("gone"))
	if size := vm.MemorySize(); size != after {
		t.Errorf("memory after the crash is %d, want %d", size, after)
	}
}

func TestReload(t *testing.T) {
	const config = "start: tick 1\nrequest_headers: shset k v 0; allocate 10\ntick: panic oops"
	clock := wasmhost.NewManualClock(time.Now())
	p := newProcess(t, wasmhost.Config{Clock: clock.Clock()})
	vm := p.vm(wasmhost.VMConfig{Thread: "worker_0"})
	one := p.add(vm, wasmhost.PluginConfig{Name: "one", Configuration: []byte(config), FailurePolicy: wasmhost.FailReload})
	two := p.add(vm, wasmhost.PluginConfig{Name: "two", Configuration: []byte("request_headers: log two"), FailurePolicy: wasmhost.FailReload, ReloadBackoff: time.Minute})
	three := p.add(vm, wasmhost.PluginConfig{Name: "three", FailurePolicy: wasmhost.FailClosed})
	status := func(pl *wasmhost.Plugin) int {
		s := pl.NewStream(wasmhost.StreamConfig{})
		s.RequestHeaders(get, true)
		s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, true)
		return s.Downstream().Status()
	}
	if got := status(one); got != 200 {
		t.Errorf("status %d before the crash", got)
	}
	old := one.NewStream(wasmhost.StreamConfig{})
	old.RequestHeaders(get, true)
	vm.Tick()
	if vm.Err() == nil {
		t.Fatal("the VM lives")
	}
	if got := status(one); got != 503 {
		t.Errorf("status %d within the backoff, want 503", got)
	}
	clock.Advance(time.Second)
	if got := status(one); got != 200 || vm.Err() != nil {
		t.Errorf("status %d after the backoff, %v", got, vm.Err())
	}
	if got := []int{status(two), status(three)}; !slices.Equal(got, []int{503, 503}) {
		t.Errorf("status %d of plugins that were not reloaded, want 503", got)
	}
	clock.Advance(time.Minute)
	if got := []int{status(two), status(three)}; !slices.Equal(got, []int{200, 503}) {
		t.Errorf("status %d after the longer backoff, want 200 and 503", got)
	}
	old.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, true)
	if got := old.Downstream().Status(); got != 503 {
		t.Errorf("a stream of the VM's old life was answered %d, want 503", got)
	}
	if v, _, _ := p.SharedData("", "k"); string(v) != "v" {
		t.Errorf("shared data went with the crash")
	}
	if err := vm.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := []int{status(one), status(two), status(three)}; !slices.Equal(got, []int{200, 200, 200}) {
		t.Errorf("status %d after Reload, want 200", got)
	}
}

func TestPlugins(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	vm := p.vm(wasmhost.VMConfig{Thread: "worker_0"})
	cfg := wasmhost.PluginConfig{Name: "p", RootID: "r", Configuration: []byte("done: log bye\nrequest_headers: prop plugin_root_id")}
	first, again := p.add(vm, cfg), p.add(vm, cfg)
	if first != again {
		t.Error("the same configuration gave two plugins")
	}
	next := cfg
	next.RootID = "s"
	second := p.add(vm, next)
	if a, b := first.ContextID(), second.ContextID(); a != 1 || b != 2 {
		t.Errorf("root contexts are %d and %d", a, b)
	}
	for _, pl := range []*wasmhost.Plugin{first, second} {
		s := pl.NewStream(wasmhost.StreamConfig{})
		s.RequestHeaders(get, true)
		if s.ContextID(0) == 0 || s.ContextID(1) != 0 {
			t.Errorf("stream contexts are %d and %d", s.ContextID(0), s.ContextID(1))
		}
		s.Abort()
	}
	p.expect(`prop plugin_root_id = "r"`, `prop plugin_root_id = "s"`)
	first.Remove()
	p.expect()
	again.Remove()
	p.expect("bye")
	second.NewStream(wasmhost.StreamConfig{}).RequestHeaders(get, true)
	p.expect(`prop plugin_root_id = "s"`)
	p.calls = nil
	vm.Close()
	want := []string{"worker_0 > proxy_on_log(5)", "worker_0 > proxy_on_done(5)", "worker_0 < proxy_on_done[5] = 1", "worker_0 > proxy_on_delete(5)",
		"worker_0 > proxy_on_done(2)", `worker_0 proxy_on_done[2] proxy_log(info, "bye") = OK`, "worker_0 < proxy_on_done[2] = 1", "worker_0 > proxy_on_delete(2)"}
	if got := p.trace(""); !slices.Equal(got, want) {
		t.Errorf("closing called\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	vm.Close()

	refused := p.vm(wasmhost.VMConfig{Configuration: []byte("refuse")})
	if _, err := refused.Plugin(cfg); !errors.Is(err, wasmhost.ErrStart) {
		t.Errorf("got %v, want ErrStart", err)
	}
	other := p.vm(wasmhost.VMConfig{})
	if _, err := other.Plugin(wasmhost.PluginConfig{Name: "q", Configuration: []byte("start: refuse")}); !errors.Is(err, wasmhost.ErrConfigure) || !strings.Contains(err.Error(), `"q"`) {
		t.Errorf("got %v, want ErrConfigure of q", err)
	}
	if _, err := other.Plugin(wasmhost.PluginConfig{Configuration: []byte("start: panic oops")}); err == nil || !errors.Is(err, other.Err()) {
		t.Errorf("got %v, want the crash", err)
	}
	if got := p.add(other, cfg); other.Err() != nil || got.ContextID() != 1 {
		t.Errorf("a plugin for a dead VM: %v, root context %d, want a new life", other.Err(), got.ContextID())
	}
	dead := p.add(other, cfg)
	other.Crash(errors.New("crashed"))
	if p.add(other, cfg) != dead || other.Err() != nil {
		t.Errorf("the same plugin for a dead VM: %v, want a new life", other.Err())
	}
}

func TestCanary(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	if err := p.Canary(guest(), wasmhost.VMConfig{}, wasmhost.PluginConfig{Configuration: []byte("start: refuse")}); !errors.Is(err, wasmhost.ErrConfigure) {
		t.Errorf("got %v, want ErrConfigure", err)
	}
	if err := p.Canary(guest(), wasmhost.VMConfig{}, wasmhost.PluginConfig{Configuration: []byte("start: shset k v 0\ndone: log never")}); err != nil {
		t.Fatal(err)
	}
	p.plugin("start: shget k")
	p.expect(`shset k v 0 = "ok"`, `shget k = "v" 1`)
}

// TestHandlers: clusters that answer by themselves.
func TestHandlers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/half" {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, r.URL, body)
	}))
	defer server.Close()
	dead := httptest.NewServer(nil)
	dead.Close()
	forward := func(s string) http.Handler {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return wasmhost.Forward(u)
	}
	for name, tt := range map[string]struct {
		handler http.Handler
		call    string
		want    []string
	}{
		"handler": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("X-Two", "1")
			w.Header().Add("X-Two", "2")
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprint(w, r.Method, " ", r.Host, " ", r.RequestURI, " ", r.Header.Get("Accept"), " ", r.ContentLength)
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Sum", "9")
		}), "/a?b hi", []string{"answer: 4 headers, 33 bytes, 1 trailers", `body call = "POST controller /a?b text/plain 2"`,
			"pairs call = [[:status 418] [content-length 33] [x-two 1] [x-two 2]]", "pairs call_trailers = [[x-sum 9]]", "status = 0 0 0"}},
		"nothing": {http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "/", []string{"answer: 2 headers, 0 bytes, 0 trailers",
			"body call = error status returned by host: not found", "pairs call = [[:status 200] [content-length 0]]", "pairs call_trailers = error status returned by host: not found", "status = 0 0 0"}},
		"broken off": {http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), "/", []string{"answer: 0 headers, 0 bytes, 0 trailers",
			"body call = error status returned by host: not found", "pairs call = error status returned by host: not found", "pairs call_trailers = error status returned by host: not found", "status = 0 11 5"}},
		"too slow": {http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "/ - 20", []string{"answer: 3 headers, 24 bytes, 0 trailers",
			`body call = "upstream request timeout"`, "pairs call = [[:status 504] [content-length 24] [content-type text/plain]]", "pairs call_trailers = error status returned by host: not found", "status = 0 0 0"}},
		"server":                        {forward(server.URL), "/a?b hi", []string{"answer: 4 headers, 23 bytes, 0 trailers", `body call = "POST controller /a?b hi"`}},
		"server that breaks off":        {forward(server.URL), "/broken", []string{"answer: 3 headers, 98 bytes, 0 trailers"}},
		"server that breaks off midway": {forward(server.URL), "/half", []string{"answer: 0 headers, 0 bytes, 0 trailers"}},
		"no server": {forward(dead.URL), "/", []string{"answer: 3 headers, 98 bytes, 0 trailers",
			`body call = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"`,
			"pairs call = [[:status 503] [content-length 98] [content-type text/plain]]"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProcess(t, wasmhost.Config{})
			p.SetCluster("c", tt.handler)
			_, vm := p.plugin("start: tick 1\ntick: call c " + tt.call + "\ncall: body call; pairs call; pairs call_trailers; status")
			vm.Tick()
			select {
			case <-vm.Wake():
			case <-time.After(20 * time.Second):
				t.Fatal("no answer")
			}
			if n := vm.Dispatch(); n != 1 || len(p.Callouts()) > 0 {
				t.Errorf("%d events, %v wait", n, p.Callouts())
			}
			got := p.messages()
			if len(got) < len(tt.want) || !slices.Equal(got[:len(tt.want)], tt.want) {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(tt.want, "\n\t"))
			}
			p.RemoveCluster("c")
			vm.Tick()
			if got := p.messages(); len(got) != 1 || !strings.HasSuffix(got[0], "bad argument") {
				t.Errorf("a call to a removed cluster: %q", got)
			}
		})
	}
}

func TestCallouts(t *testing.T) {
	p := newProcess(t, wasmhost.Config{Clusters: map[string]http.Handler{"c": nil}})
	pl, vm := p.plugin("start: tick 1\ntick: call c /x hi 500")
	vm.Tick()
	other, _ := p.plugin("start: call c /y")
	all := p.Callouts()
	if len(all) != 2 || len(vm.Callouts()) != 1 {
		t.Fatalf("%d and %d callouts, want 2 and 1", len(all), len(vm.Callouts()))
	}
	c := all[0]
	if c != vm.Callouts()[0] || c.Cluster != "c" || c.Headers.Get(":path") != "/x" || c.Headers.Get("content-length") != "2" || string(c.Body) != "hi" || c.Timeout != 500*time.Millisecond || c.Token != 4 {
		t.Errorf("got %+v", c)
	}
	c.Respond(wasmhost.Headers{{":status", "200"}}, []byte("a"), wasmhost.Headers{{"x", "y"}})
	c.Respond(wasmhost.Headers{{":status", "200"}}, nil, nil)
	c.Fail()
	p.expect("answer: 1 headers, 1 bytes, 1 trailers")
	other.Remove() // cancels
	all[1].Fail()
	vm.Tick()
	vm.Crash(errors.New("crashed"))
	if left := p.Callouts(); len(left) > 0 {
		t.Errorf("%d callouts wait for nobody", len(left))
	}
	p.expect("VM failed: crashed")
	pl.Tick()
	p.expect()
}

// TestRun: a VM left to itself ticks by its period and takes the answers of clusters.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t, wasmhost.Config{Clusters: map[string]http.Handler{"slow": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(150 * time.Millisecond)
		})}})
		_, vm := p.plugin("start: tick 100\ntick: once call slow /; log tick")
		ctx, cancel := context.WithTimeout(t.Context(), 350*time.Millisecond)
		defer cancel()
		posted := false
		vm.Post(func() { posted = true })
		if err := vm.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || !posted {
			t.Errorf("got %v, posted %t", err, posted)
		}
		p.expect("tick", "tick", "answer: 2 headers, 0 bytes, 0 trailers", "tick")
		vm.Crash(errors.New("crashed"))
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		vm.Run(ctx)
		p.expect("VM failed: crashed")
		p.Close()
	})
}

// TestHooks: a gateway passes frames on as they come.
func TestHooks(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, _ := p.plugin("request_headers: add request x y")
	var got []string
	hook := func(who string) func(wasmhost.Frame) {
		return func(f wasmhost.Frame) { got = append(got, fmt.Sprint(who, f)) }
	}
	s := pl.NewStream(wasmhost.StreamConfig{OnUpstream: hook("up"), OnDownstream: hook("down")})
	s.RequestHeaders(wasmhost.Headers{{":method", "POST"}}, false)
	s.RequestBody([]byte("a"), false)
	if request, response := s.Paused(); request || response {
		t.Errorf("paused %t, %t", request, response)
	}
	s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, false)
	s.Abort()
	want := []string{"up{[[:method POST] [x y]] [] [] false false}", "up{[] [97] [] false false}", "down{[[:status 200]] [] [] false false}", "up{[] [] [] false true}"}
	if !slices.Equal(got, want) || len(s.Upstream().Frames)+len(s.Downstream().Frames) > 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStream(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.plugin("start: tick 1\nrequest_headers: reply 503 sorry a=b\nresponse_headers: pause\ntick: each resume response")
	s := pl.NewStream(wasmhost.StreamConfig{})
	s.RequestHeaders(get, true)
	if request, response := s.Paused(); !request || !response || s.Done() {
		t.Errorf("paused %t, %t, done %t", request, response, s.Done())
	}
	vm.Tick()
	if r := s.LocalReply(); r == nil || r.Status != 503 || string(r.Body) != "sorry" || r.Headers.Get("a") != "b" || r.GRPCStatus != -1 {
		t.Errorf("got %+v", r)
	}
	if d := s.Downstream(); d.Status() != 503 || !d.End || !s.Done() {
		t.Errorf("got %+v", d)
	}
	h := wasmhost.Headers{{"a", "1"}, {"b", "2"}, {"a", "3"}}
	if h.Get("a") != "1" || h.Get("c") != "" || !h.Has("b") || h.Has("c") || !slices.Equal(h.Values("a"), []string{"1", "3"}) {
		t.Errorf("%v is not read right", h)
	}
	for name, fn := range map[string]func(*wasmhost.Stream){
		"headers twice":              func(s *wasmhost.Stream) { s.RequestHeaders(get, false); s.RequestHeaders(get, false) },
		"body before the headers":    func(s *wasmhost.Stream) { s.RequestBody(nil, true) },
		"trailers after the end":     func(s *wasmhost.Stream) { s.RequestHeaders(get, true); s.RequestTrailers(nil) },
		"response headers twice":     func(s *wasmhost.Stream) { s.ResponseHeaders(nil, false); s.ResponseHeaders(nil, false) },
		"a property of another kind": func(s *wasmhost.Stream) { s.RequestHeaders(get, true) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProcess(t, wasmhost.Config{Properties: map[string]any{"odd": struct{}{}}})
			script := ""
			if strings.Contains(name, "property") {
				script = "request_headers: prop odd"
			}
			pl, vm := p.plugin(script)
			panicked := func() (r any) {
				defer func() { r = recover() }()
				fn(pl.NewStream(wasmhost.StreamConfig{}))
				return nil
			}()
			if panicked == nil && vm.Err() == nil {
				t.Error("no panic")
			}
		})
	}
}
