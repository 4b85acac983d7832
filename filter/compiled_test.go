//go:build !wasm

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this package that end in Compiled run the filter as it is shipped: compiled to
// WebAssembly, and run by wasmhost, which stands in for Envoy. This file builds the module, starts
// Envoy processes and their VMs (process), and lets tests use a plugin in such a VM through the
// interfaces rig and exchange (compiledRig and compiledExchange).

// buildModule builds and compiles the module when it is first called. Further calls return the same
// module. The commands are those of the Makefile.
var buildModule = sync.OnceValues(func() (*wasmhost.Module, error) {
	dir, err := os.MkdirTemp("", "drydock")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	file := filepath.Join(dir, "drydock.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", file, ".")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	for _, cmd := range []*exec.Cmd{build, exec.Command("go", "run", "./trim", file)} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}

	wasm, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return wasmhost.Compile(context.Background(), wasm)
})

// wantModule returns the module, and fails the test if it cannot be built.
func wantModule(t *testing.T) *wasmhost.Module {
	t.Helper()
	m, err := buildModule()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// process is an Envoy process: a wasmhost.Host, in which a test starts VMs and plugins. Its VMs
// share the shared data, the metrics and the clock. The clock stands still until the test moves it.
type process struct {
	t     *testing.T
	setup setup
	host  *wasmhost.Host
	clock *wasmhost.ManualClock
	// expectCrashes is set by a test that makes VMs crash. Otherwise a crash fails the test.
	expectCrashes bool

	mu    sync.Mutex
	lines []wasmhost.LogEntry // what all VMs have logged, at every level
}

// newProcess starts an Envoy process without a VM. When the test ends, it fails if a VM crashed
// unexpectedly, or if the filter did what wasmhost reports as a violation of the ABI.
func newProcess(t *testing.T, s setup) *process {
	p := &process{t: t, setup: s, clock: wasmhost.NewManualClock(startTime)}
	p.host = wasmhost.New(wasmhost.Config{
		Clusters:     map[string]http.Handler{"drydock": nil}, // nil: the test answers the calls
		Clock:        p.clock.Clock(),
		Strict:       true,
		LegacyWASI:   s.envoy136,
		LegacyResume: s.envoy136,
		Trace:        s.trace,
		Fault:        s.fault,
		Properties:   map[string]any{"node": map[string]any{"id": "gateway-7"}},
		Log: func(e wasmhost.LogEntry) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.lines = append(p.lines, e)
		},
	})

	t.Cleanup(func() {
		p.host.Close()
		for _, v := range p.host.Violations() {
			t.Error(v)
		}
		if n := p.logs("VM failed"); len(n) > 0 && !p.expectCrashes {
			t.Error(n)
		}
	})

	return p
}

// logs returns the lines of all VMs, at level warn and above, that contain a text.
func (p *process) logs(text string) (lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, e := range p.lines {
		if e.Level >= slog.LevelWarn && strings.Contains(e.Message, text) {
			lines = append(lines, e.Message)
		}
	}
	return lines
}

// vm starts a VM without a plugin. The name of its thread is for logs and traces.
func (p *process) vm(thread string) *wasmhost.VM {
	p.t.Helper()
	vm, err := p.host.NewVM(wantModule(p.t), wasmhost.VMConfig{
		Thread: thread,
		Env:    map[string]string{"DRYDOCK_SYNC_TOKEN": token},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return vm
}

// worker starts a VM with one plugin, which has the configuration of the test's setup.
func (p *process) worker(thread string) *world {
	p.t.Helper()
	return p.plugin(p.vm(thread), p.setup.config)
}

// mainAndWorkers starts Envoy's main thread and n mainAndWorkers.
func (p *process) mainAndWorkers(n int) (all []*world) {
	p.t.Helper()

	all = append(all, p.worker("main"))
	for i := range n {
		all = append(all, p.worker(fmt.Sprint("worker_", i)))
	}
	return all
}

// pluginConfig returns Envoy's configuration of a plugin. config is the plugin's own configuration.
func (p *process) pluginConfig(config string) wasmhost.PluginConfig {
	return wasmhost.PluginConfig{
		Name:                        "drydock",
		Configuration:               []byte(config),
		FailurePolicy:               p.setup.policy,
		AllowOnHeadersStopIteration: !p.setup.withoutStopIteration,
	}
}

// plugin starts a plugin in a VM, which may have others.
func (p *process) plugin(vm *wasmhost.VM, config string) *world {
	p.t.Helper()
	plugin, err := vm.Plugin(p.pluginConfig(config))
	if err != nil {
		p.t.Fatal(err)
	}
	return &world{rig: &compiledRig{p, vm, plugin}, t: p.t}
}

// tickAll ticks every plugin once, in order.
func tickAll(all []*world) {
	for _, w := range all {
		w.tick()
	}
}

// runAllFor ticks every plugin at tickPeriod, as Envoy does, until d has passed.
func (p *process) runAllFor(all []*world, d time.Duration) {
	for ; d > 0; d -= tickPeriod {
		p.clock.Advance(min(d, tickPeriod))
		tickAll(all)
	}
}

// wantOneLeader returns the plugin that leads, which is the one with a poll that waits for an
// answer. It fails the test if that is not exactly one of them.
func wantOneLeader(t *testing.T, all []*world) *world {
	t.Helper()
	leaders := slices.DeleteFunc(slices.Clone(all), func(w *world) bool { return !w.hasPoll() })
	if len(leaders) != 1 {
		t.Fatalf("%d plugins poll, want 1", len(leaders))
	}
	return leaders[0]
}

// compiledRig is the rig in wasmhost: one plugin in one VM of the process.
type compiledRig struct {
	*process
	vm     *wasmhost.VM
	plugin *wasmhost.Plugin
}

// rigOf returns the rig of a world that runs compiled, for what only wasmhost can do. It panics if
// the world runs on the emulator.
func rigOf(w *world) *compiledRig { return w.rig.(*compiledRig) }

func (r *compiledRig) tick()                   { r.plugin.Tick() }
func (r *compiledRig) advance(d time.Duration) { r.clock.Advance(d) }

func (r *compiledRig) pendingCalls() (calls []call) {
	for _, c := range r.vm.Callouts() {
		calls = append(calls, call{headers: fields(c.Headers), body: string(c.Body), timeout: c.Timeout, callout: c})
	}
	return calls
}

func (r *compiledRig) answer(c call, status int, body string) {
	if status == 0 {
		c.callout.Fail()
		return
	}
	c.callout.Respond(wasmhost.Headers{{":status", fmt.Sprint(status)}}, []byte(body), nil)
}

func (r *compiledRig) open(headers [][2]string, source string, end bool) exchange {
	s := r.plugin.NewStream(wasmhost.StreamConfig{Properties: map[string]any{"source": map[string]any{"address": source}}})
	s.RequestHeaders(headers, end)
	return &compiledExchange{s}
}

func (r *compiledRig) metric(name string) int {
	m, ok := r.host.Metric(name)
	if !ok {
		r.t.Fatalf("the metric %s does not exist", name)
	}
	return int(int64(m.Value)) // A gauge that went below zero has wrapped around.
}

func (r *compiledRig) logged() []string { return r.logs("") }

// compiledExchange is a request in wasmhost.
type compiledExchange struct{ *wasmhost.Stream }

func (x *compiledExchange) send(body string, end bool) { x.RequestBody([]byte(body), end) }
func (x *compiledExchange) sendTrailers()              { x.RequestTrailers(wasmhost.Headers{{"x-trailer", "1"}}) }
func (x *compiledExchange) disconnect()                { x.Abort() }

func (x *compiledExchange) outcomeSoFar() (o outcome) {
	// Envoy keeps what a module sets as a property under a name that begins with "wasm.".
	note, _ := x.FilterState("wasm.drydock.decision")
	o.note = string(note)

	up := x.Upstream()
	if up.Headers != nil {
		o.headers = fields(up.Headers)
	}
	o.body, o.ended = string(up.Body), up.End
	o.paused, _ = x.Paused()

	if r := x.LocalReply(); r != nil {
		o.paused = false
		o.reply = &sentReply{
			status:  r.Status,
			headers: fields(r.Headers),
			body:    string(r.Body),
			grpc:    r.GRPCStatus,
			details: r.Details,
		}
	}
	return o
}

// errCrash is why a VM crashed if the test made it crash.
var errCrash = errors.New("crashed by the test")
