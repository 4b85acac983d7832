package wasmhost_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The module makes host calls while the plugin starts and in ticks, where no stream is current.
func TestHostCallsOutsideOfStreams(t *testing.T) {
	clock := wasmhost.NewManualClock(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	p := newProcess(t, wasmhost.Config{Clock: clock.Clock(), ForeignFunctions: map[string]func([]byte) ([]byte, wasmhost.Status){
		"upper": func(b []byte) ([]byte, wasmhost.Status) { return []byte(strings.ToUpper(string(b))), wasmhost.StatusOK },
		"fail":  func([]byte) ([]byte, wasmhost.Status) { return nil, wasmhost.StatusParseFailure },
	}})

	vm := p.startVM(wasmhost.VMConfig{Thread: "worker_1", Configuration: []byte("v"), Env: map[string]string{"TOKEN": "secret", "A": ""}})
	p.startPlugin(vm, wasmhost.PluginConfig{Name: "p", RootID: "r", Configuration: []byte(
		"start: tick 250; env TOKEN; env A; env HOME; vmconfig; config; print hello; critical bad; " +
			"foreign upper abc; foreign fail; foreign nope; prop plugin_name; get request x; pairs request; " +
			"body request; setprop a b; effective 99; outside; status; time\n" +
			"tick: now; config; vmconfig; effective 1; reply 503 nobody; resume request; close 0")})

	const config = `"start: tick 250; env TOKEN` // the beginning of the script, which is the configuration
	logs := p.takeMessages()
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
	if got, want := p.takeMessages(), []string{"now = 2026-01-02T03:04:06.000000006Z", "config = error status returned by host: not found", `vmconfig = "v"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	clock.Set(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
	vm.Tick()
	if got := p.takeMessages(); got[0] != "now = 2025-01-01T00:00:00Z" || !clock.Now().Equal(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got %q", got)
	}

	if err := vm.Err(); err != nil {
		t.Error(err)
	}
}

func TestLogHasLevelThreadAndPlugin(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.startScript("start: log one; print two; critical three; tick 1\ntick: panic four")
	if got := pl.TickPeriod(); got != time.Millisecond {
		t.Errorf("the tick period is %v", got)
	}
	pl.Tick()

	want := map[string]slog.Level{
		"one":   slog.LevelInfo,
		"two":   slog.LevelInfo,
		"three": slog.LevelError + 4, // critical
		"four":  slog.LevelError,     // the panic, which Go's runtime writes to standard error
		"VM failed: proxy_on_tick: wasm error: unreachable": slog.LevelError,
	}
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

// Go's runtime sleeps with poll_oneoff, which an older Envoy does not have.
func TestSleepNeedsPollOneoff(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		p := newProcess(t, wasmhost.Config{LegacyWASI: legacy})
		pl, vm := p.startScript("start: tick 1\ntick: sleep 1; log slept")
		pl.Tick()

		if died := vm.Err() != nil; died != legacy {
			t.Errorf("legacy %t: the VM failed with %v", legacy, vm.Err())
		}
		if slept := slices.Contains(p.takeMessages(), "slept"); slept == legacy {
			t.Errorf("legacy %t: slept %t", legacy, slept)
		}
	}
}

// Each case runs the script in a stream with a tick before and after the response. want is the
// first violation, or "" for none. Without Strict, the VM lives on.
func TestStrictFailsTheVMOnMisuse(t *testing.T) {
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
				pl, vm := p.startScript(tt.script)
				s := pl.NewStream(wasmhost.StreamConfig{})
				s.RequestHeaders(getRequest, true)
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

// Of the three calls of proxy_log, one is the result of "get".
func TestCallsAreCountedByCallback(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.startScript("response_headers: log a; log b; get response :status")
	vm.ResetCalls()

	s := pl.NewStream(wasmhost.StreamConfig{})
	s.RequestHeaders(getRequest, true)
	if calls := vm.Calls(); len(calls) > 0 {
		t.Errorf("a request without a script made the calls %v", calls)
	}
	s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, true)
	want := []wasmhost.CallCount{{"proxy_on_response_headers", "proxy_log", 3}, {"proxy_on_response_headers", "proxy_get_header_map_value", 1}}

	// A garbage collection may read the clock.
	got := slices.DeleteFunc(vm.Calls(), func(c wasmhost.CallCount) bool { return c.Func == "clock_time_get" })
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMemorySizeSurvivesACrash(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	const size = 8 << 20
	pl, vm := p.startScript(fmt.Sprint("start: tick 1\ntick: allocate ", size))
	before := vm.MemorySize()

	pl.Tick()
	after := vm.MemorySize()
	if after < before+size {
		t.Errorf("memory went from %d to %d, want 8 MiB more", before, after)
	}

	vm.Crash(errors.New("gone"))
	if got := vm.MemorySize(); got != after {
		t.Errorf("memory after the crash is %d, want %d", got, after)
	}
}

// The clock is that of synctest. Ticks are at 100, 200 and 300 ms, and the answer to the call of
// the first tick arrives at 250 ms. After the crash, Run only waits.
func TestRunTicksAndDispatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(t, wasmhost.Config{Clusters: map[string]http.Handler{"slow": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(150 * time.Millisecond)
		})}})
		_, vm := p.startScript("start: tick 100\ntick: once call slow /; log tick")
		ctx, cancel := context.WithTimeout(t.Context(), 350*time.Millisecond)
		defer cancel()
		posted := false

		vm.Post(func() { posted = true })
		if err := vm.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || !posted {
			t.Errorf("got %v, posted %t", err, posted)
		}
		p.wantMessages("tick", "tick", "answer: 2 headers, 0 bytes, 0 trailers", "tick")

		vm.Crash(errors.New("crashed"))
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		vm.Run(ctx)

		p.wantMessages("VM failed: crashed")
		p.Close()
	})
}
