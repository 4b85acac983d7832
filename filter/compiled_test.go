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

// buildModule is the filter as it is shipped. It is built and compiled once.
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

// process is an Envoy process.
type process struct {
	t     *testing.T
	setup setup
	host  *wasmhost.Host
	clock *wasmhost.ManualClock
	// expectCrashes is set if the test expectCrashes VMs on purpose.
	expectCrashes bool

	mu    sync.Mutex
	lines []wasmhost.LogEntry
}

func newProcess(t *testing.T, s setup) *process {
	p := &process{t: t, setup: s, clock: wasmhost.NewManualClock(startTime)}
	p.host = wasmhost.New(wasmhost.Config{
		Clusters:     map[string]http.Handler{"drydock": nil},
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

// vm starts a VM without a plugin.
func (p *process) vm(thread string) *wasmhost.VM {
	p.t.Helper()
	m, err := buildModule()
	if err != nil {
		p.t.Fatal(err)
	}

	vm, err := p.host.NewVM(m, wasmhost.VMConfig{Thread: thread, Env: map[string]string{"DRYDOCK_SYNC_TOKEN": token}})
	if err != nil {
		p.t.Fatal(err)
	}
	return vm
}

// worker starts a VM with the plugin.
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

func (p *process) pluginConfig(config string) wasmhost.PluginConfig {
	return wasmhost.PluginConfig{Name: "drydock", Configuration: []byte(config), FailurePolicy: p.setup.policy, AllowOnHeadersStopIteration: !p.setup.headersGoOn}
}

// plugin starts a plugin in a VM.
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

// wantOneLeader returns the one plugin that polls.
func wantOneLeader(t *testing.T, all []*world) *world {
	t.Helper()
	leaders := slices.DeleteFunc(slices.Clone(all), func(w *world) bool { return !w.hasPoll() })
	if len(leaders) != 1 {
		t.Fatalf("%d plugins poll, want 1", len(leaders))
	}
	return leaders[0]
}

// compiledRig is the rig in wasmhost.
type compiledRig struct {
	*process
	vm     *wasmhost.VM
	plugin *wasmhost.Plugin
}

// rigOf returns the compiled rig of a world.
func rigOf(w *world) *compiledRig { return w.rig.(*compiledRig) }

func (r *compiledRig) tick()                   { r.plugin.Tick() }
func (r *compiledRig) advance(d time.Duration) { r.clock.Advance(d) }

func (r *compiledRig) pendingCalls() (calls []call) {
	for _, c := range r.vm.Callouts() {
		calls = append(calls, call{headers: fields(c.Headers), body: string(c.Body), timeout: c.Timeout, out: c})
	}
	return calls
}

func (r *compiledRig) answer(c call, status int, body string) {
	if status == 0 {
		c.out.Fail()
		return
	}
	c.out.Respond(wasmhost.Headers{{":status", fmt.Sprint(status)}}, []byte(body), nil)
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
	return int(int64(m.Value))
}

func (r *compiledRig) logged() []string { return r.logs("") }

type compiledExchange struct{ *wasmhost.Stream }

func (x *compiledExchange) send(body string, end bool) { x.RequestBody([]byte(body), end) }
func (x *compiledExchange) sendTrailers()              { x.RequestTrailers(wasmhost.Headers{{"x-trailer", "1"}}) }
func (x *compiledExchange) disconnect()                { x.Abort() }

func (x *compiledExchange) outcomeSoFar() (v outcome) {
	note, _ := x.FilterState("wasm.drydock.decision")
	v.note = string(note)

	up := x.Upstream()
	if up.Headers != nil {
		v.headers = fields(up.Headers)
	}
	v.body, v.ended = string(up.Body), up.End
	v.paused, _ = x.Paused()

	if r := x.LocalReply(); r != nil {
		v.paused = false
		v.reply = &sentReply{r.Status, fields(r.Headers), string(r.Body), r.GRPCStatus, r.Details}
	}
	return v
}

var errCrash = errors.New("crashed by the test")
