//go:build !wasm

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/proxytest"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this package are the filter's specification. A test that can runs in
// three worlds: natively on the SDK's emulator, and compiled in wasmhost as in Envoy
// 1.40 and in 1.36. The emulator has one VM with one plugin,
// cannot crash, always gives a held request's body and no response code details; what
// needs more runs compiled only and has Compiled in its name.

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // the emulator reports every call
	os.Exit(m.Run())
}

// begin is when every test begins: the time at which synctest's clock starts.
var begin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

const token = "a-sync-token-that-no-log-may-show"

// setup is how Envoy is configured.
type setup struct {
	config string // the plugin's configuration
	// onward: Envoy has no allow_on_headers_stop_iteration.
	onward bool
	policy wasmhost.FailurePolicy
	older  bool // Envoy before April 2026, such as 1.36.4
	trace  func(wasmhost.Call)
	fault  func(function string) wasmhost.Status
}

// holding is the plugin configuration of our own bootstraps.
const holding = `{"name": "edge", "allow_on_headers_stop_iteration": true}`

// rig is one plugin in one VM of a proxy.
type rig interface {
	tick()
	// pass lets time pass, without ticks.
	pass(d time.Duration)
	// calls are the callouts that wait for an answer, oldest first.
	calls() []call
	// answer answers one; status 0 is no answer.
	answer(c call, status int, body string)
	// open begins a request.
	open(headers [][2]string, source string, end bool) exchange
	metric(name string) int
	// logged are warnings and worse.
	logged() []string
}

// exchange is one request.
type exchange interface {
	send(body string, end bool)
	trailers()
	// end is the end of the stream: the client is gone, or has its answer.
	end()
	view() view
}

// view is what came of a request so far.
type view struct {
	held  bool // neither let go nor answered
	reply *reply
	// headers and body are what the upstream saw.
	headers map[string]string
	body    string
	ended   bool   // the upstream saw all of it; only in wasmhost
	note    string // the filter state drydock.decision, or unknowable
}

// unknowable is the note of a request that was open together with others on the
// emulator, which has one filter state for all.
const unknowable = "unknowable"

type reply struct {
	status  int
	headers map[string]string
	body    string
	grpc    int
	details string // only in wasmhost
}

type call struct {
	id      uint32
	headers map[string]string
	body    string
	timeout time.Duration // only in wasmhost
	out     *wasmhost.Callout
}

func (c call) path() string { return c.headers[":path"] }

func fields(pairs [][2]string) map[string]string {
	m := make(map[string]string, len(pairs))
	for _, p := range pairs {
		if old, ok := m[p[0]]; ok {
			p[1] = old + ", " + p[1]
		}
		m[p[0]] = p[1]
	}
	return m
}

// world is a rig with a controller that takes every ack at once, and holds polls and
// pages until the test answers them.
type world struct {
	rig
	t    *testing.T
	acks []maintenance.Ack
}

// everywhere runs a test in all three worlds.
func everywhere(t *testing.T, s setup, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("native", func(t *testing.T) {
		t.Setenv("DRYDOCK_SYNC_TOKEN", token)
		synctest.Test(t, func(t *testing.T) {
			r, err := emulate(t, s)
			if err != nil {
				t.Fatal(err)
			}
			test(t, &world{rig: r, t: t})
		})
	})
	compiled(t, s, test)
}

// compiled runs a test in both compiled worlds.
func compiled(t *testing.T, s setup, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, s.older = range []bool{false, true} {
		t.Run(map[bool]string{false: "compiled", true: "compiled, Envoy 1.36"}[s.older], func(t *testing.T) { test(t, newProcess(t, s).worker("worker_0")) })
	}
}

// settle takes the acks.
func (w *world) settle() {
	for _, c := range w.rig.calls() {
		if c.path() == maintenance.AckPath {
			var ack maintenance.Ack
			if err := json.Unmarshal([]byte(c.body), &ack); err != nil {
				w.t.Errorf("ack %s: %v", c.body, err)
			}
			w.acks = append(w.acks, ack)
			w.rig.answer(c, 204, "")
		}
	}
}

func (w *world) tick() {
	w.rig.tick()
	w.settle()
}

// run ticks as Envoy does while time passes.
func (w *world) run(d time.Duration) {
	for ; d > 0; d -= tickPeriod {
		w.pass(min(d, tickPeriod))
		w.tick()
	}
}

func (w *world) answer(c call, status int, body string) {
	w.rig.answer(c, status, body)
	w.settle()
}

// asks are the callouts that wait, but for acks.
func (w *world) asks(prefix string) []call {
	return slices.DeleteFunc(w.calls(), func(c call) bool { return !strings.HasPrefix(c.path(), prefix) })
}

// polls tells whether a poll waits.
func (w *world) polls() bool { return len(w.asks(maintenance.SyncPath)) > 0 }

// poll is the one poll that waits.
func (w *world) poll() (call, maintenance.SyncRequest) {
	w.t.Helper()
	polls := w.asks(maintenance.SyncPath)
	if len(polls) != 1 {
		w.t.Fatalf("%d polls wait, want 1", len(polls))
	}
	var ask maintenance.SyncRequest
	if err := json.Unmarshal([]byte(polls[0].body), &ask); err != nil {
		w.t.Fatalf("poll %s: %v", polls[0].body, err)
	}
	return polls[0], ask
}

// say answers the poll that waits.
func (w *world) say(status int, body string) {
	w.t.Helper()
	c, _ := w.poll()
	w.answer(c, status, body)
}

// follow lets the plugin take its first state.
func (w *world) follow(doc string) {
	w.t.Helper()
	w.tick()
	w.say(200, doc)
}

func (w *world) lastAck() maintenance.Ack {
	w.t.Helper()
	if len(w.acks) == 0 {
		w.t.Fatal("no ack came")
	}
	return w.acks[len(w.acks)-1]
}

const visitor = "192.0.2.7:4711"

// request sends a whole request, and returns what came of it when it stood still. The
// stream ends.
func (w *world) request(method, path, body string, headers ...string) view {
	w.t.Helper()
	x := w.begin(method, path, body == "", headers...)
	if body != "" {
		x.send(body, true)
	}
	v := x.view()
	x.end()
	return v
}

// begin sends the headers of a request.
func (w *world) begin(method, path string, end bool, headers ...string) exchange {
	w.t.Helper()
	h := [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "shop.example.com"}, {":path", path}}
	source := visitor
	for i := 0; i < len(headers); i += 2 {
		switch headers[i] {
		case "from":
			source = headers[i+1]
		case ":authority":
			h[2][1] = headers[i+1]
		default:
			h = append(h, [2]string{headers[i], headers[i+1]})
		}
	}
	return w.open(h, source, end)
}

// graphQL is a GraphQL POST.
func (w *world) graphQL(body string) view {
	w.t.Helper()
	return w.request("POST", "/graphql", body, "content-type", "application/json")
}

// passed and refused tell how a request ended; refused names the rule.
func passed(t *testing.T, v view) {
	t.Helper()
	if v.held || v.reply != nil || v.headers == nil {
		t.Fatalf("want it to pass, got %s", v)
	}
}

func refused(t *testing.T, v view, rule maintenance.Rule) {
	t.Helper()
	if v.held || v.reply == nil || v.headers != nil || v.body != "" {
		t.Fatalf("want it refused by %s, got %s", rule, v)
	}
	if v.note != unknowable && !strings.HasSuffix(v.note, " rule="+string(rule)) {
		t.Fatalf("want it refused by %s, got %q", rule, v.note)
	}
}

func held(t *testing.T, v view) {
	t.Helper()
	if !v.held || v.reply != nil || v.headers != nil || v.body != "" {
		t.Fatalf("want it held, got %s", v)
	}
}

func (v view) String() string {
	if v.reply != nil {
		return fmt.Sprintf("%d %v %q (%s; upstream saw %v %q)", v.reply.status, v.reply.headers, v.reply.body, v.note, v.headers, v.body)
	}
	return fmt.Sprintf("held=%v upstream saw %v %q (%s)", v.held, v.headers, v.body, v.note)
}

// want checks a metric of the plugin named edge.
func (w *world) want(name string, n int) {
	w.t.Helper()
	if got := w.metric("drydock.edge." + name); got != n {
		w.t.Errorf("%s = %d, want %d", name, got, n)
	}
}

// complaints counts the log's lines that hold a text.
func (w *world) complaints(text string) (n int) {
	for _, line := range w.logged() {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// doc is a document with one app, the default one unless it has a name.
func doc(revision uint64, app maintenance.App) string { return docs(1, revision, app) }

func docs(epoch, revision uint64, apps ...maintenance.App) string {
	for i := range apps {
		if apps[i].Name == "" {
			apps[i].Name = maintenance.DefaultApp
		}
	}
	b, err := json.Marshal(maintenance.Document{Version: maintenance.Version{Epoch: epoch, Revision: revision}, Apps: apps})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// in is an app that somebody put into a mode.
func in(mode maintenance.Mode) maintenance.App {
	if mode == maintenance.Off {
		return maintenance.App{}
	}
	return maintenance.App{Activations: []maintenance.Activation{{ID: "m", Source: maintenance.SourceManual, Mode: mode, Message: "Back soon.", Since: begin}}}
}

// emulated is the native rig.
type emulated struct {
	t       *testing.T
	host    proxytest.HostEmulator
	seen    int // callouts that were already taken note of
	wait    []call
	streams []*emulatedExchange
	// numbers are those of the callouts that the emulator takes for waiting.
	numbers map[uint32]bool
}

func emulate(t *testing.T, s setup) (*emulated, error) {
	opt := proxytest.NewEmulatorOption().WithVMContext(&vm{}).WithPluginConfiguration([]byte(s.config)).
		WithProperty([]string{"node", "id"}, []byte("gateway-7"))
	host, reset := proxytest.NewHostEmulator(opt)
	t.Cleanup(reset)
	e := &emulated{t: t, host: host, numbers: make(map[uint32]bool)}
	if host.StartVM() != types.OnVMStartStatusOK || host.StartPlugin() != types.OnPluginStartStatusOK {
		return e, errors.New(strings.Join(host.GetCriticalLogs(), "\n"))
	}
	return e, nil
}

func (e *emulated) pass(d time.Duration) { time.Sleep(d) }

func (e *emulated) tick() {
	if slices.ContainsFunc(e.wait, func(c call) bool { return c.path() == maintenance.SyncPath }) {
		e.host.Tick() // which makes no call that waits for long
	} else {
		e.apart(e.host.Tick)
	}
	e.calls()
}

// apart runs what may make callouts. The emulator numbers a callout by how many wait,
// so that two that wait can get the same number. With others that wait meanwhile,
// numbers come out so high that they are not met again.
func (e *emulated) apart(do func()) {
	high := uint32(100)
	for _, c := range e.wait {
		if c.id >= uint32(len(e.numbers)) {
			high = min(high, c.id)
		}
	}
	var fillers []uint32
	for uint32(len(e.numbers))+4 < high {
		proxywasm.SetEffectiveContext(proxytest.PluginContextID)
		id, err := proxywasm.DispatchHttpCall(filler, nil, nil, nil, 0, func(int, int, int) {})
		if err != nil {
			e.t.Fatal(err)
		}
		e.numbers[id] = true
		fillers = append(fillers, id)
	}
	do()
	e.calls()
	for _, id := range fillers {
		e.host.CallOnHttpCallResponse(id, nil, nil, nil)
		delete(e.numbers, id)
	}
}

const filler = "filler"

func (e *emulated) calls() []call {
	all := e.host.GetCalloutAttributesFromContext(proxytest.PluginContextID)
	for _, c := range all[e.seen:] {
		if c.Upstream == filler {
			continue
		}
		if slices.ContainsFunc(e.wait, func(o call) bool { return o.id == c.CalloutID }) {
			e.t.Fatalf("the emulator gave two callouts the number %d", c.CalloutID)
		}
		e.numbers[c.CalloutID] = true
		e.wait = append(e.wait, call{id: c.CalloutID, headers: fields(c.Headers), body: string(c.Body)})
	}
	e.seen = len(all)
	return slices.Clone(e.wait)
}

func (e *emulated) answer(c call, status int, body string) {
	var headers [][2]string
	if status != 0 {
		headers = [][2]string{{":status", fmt.Sprint(status)}}
	}
	do := func() {
		e.wait = slices.DeleteFunc(e.wait, func(o call) bool { return o.id == c.id })
		e.host.CallOnHttpCallResponse(c.id, headers, nil, []byte(body))
		e.calls()
		delete(e.numbers, c.id)
	}
	if c.path() == maintenance.AckPath {
		do()
	} else {
		e.apart(do)
	}
}

func (e *emulated) open(headers [][2]string, source string, end bool) exchange {
	if err := e.host.SetProperty([]string{"source", "address"}, []byte(source)); err != nil {
		e.t.Fatal(err)
	}
	e.host.SetProperty([]string{"drydock.decision"}, []byte("none"))
	x := &emulatedExchange{rig: e, host: e.host, id: e.host.InitializeHttpContext()}
	e.streams = append(e.streams, x)
	for _, other := range e.streams {
		other.among = len(e.streams) > 1 || other.among
	}
	e.host.CallOnRequestHeaders(x.id, headers, end)
	return x
}

func (e *emulated) metric(name string) int {
	if n, err := e.host.GetCounterMetric(name); err == nil {
		return int(n)
	}
	n, err := e.host.GetGaugeMetric(name)
	if err != nil {
		e.t.Fatal(err)
	}
	return int(n)
}

func (e *emulated) logged() []string {
	return slices.Concat(e.host.GetWarnLogs(), e.host.GetErrorLogs(), e.host.GetCriticalLogs())
}

type emulatedExchange struct {
	rig   *emulated
	among bool // others were open meanwhile
	host  proxytest.HostEmulator
	id    uint32
	stops []func() // what came while all was stopped, which the emulator does not know
}

func (x *emulatedExchange) do(part func()) {
	x.stops = append(x.stops, part)
	x.flow()
}

func (x *emulatedExchange) flow() {
	for len(x.stops) > 0 && x.host.GetCurrentHttpStreamAction(x.id) != actionStopAllIterationAndWatermark {
		part := x.stops[0]
		x.stops = x.stops[1:]
		if x.host.GetSentLocalResponse(x.id) == nil {
			part()
		}
	}
}

func (x *emulatedExchange) send(body string, end bool) {
	x.do(func() { x.host.CallOnRequestBody(x.id, []byte(body), end) })
}

func (x *emulatedExchange) trailers() {
	x.do(func() { x.host.CallOnRequestTrailers(x.id, [][2]string{{"x-trailer", "1"}}) })
}

func (x *emulatedExchange) end() {
	x.host.CompleteHttpContext(x.id)
	x.rig.streams = slices.DeleteFunc(x.rig.streams, func(o *emulatedExchange) bool { return o == x })
}

func (x *emulatedExchange) view() (v view) {
	x.flow()
	note, err := x.host.GetProperty([]string{"drydock.decision"})
	switch {
	case x.among:
		v.note = unknowable
	case err == nil && string(note) != "none":
		v.note = string(note)
	}
	switch r := x.host.GetSentLocalResponse(x.id); {
	case r != nil:
		v.reply = &reply{int(r.StatusCode), fields(r.Headers), string(r.Data), int(r.GRPCStatus), ""}
	case x.host.GetCurrentHttpStreamAction(x.id) != types.ActionContinue:
		v.held = true
	default:
		v.headers, v.body = fields(x.host.GetCurrentRequestHeaders(x.id)), string(x.host.GetCurrentRequestBody(x.id))
	}
	return v
}

// module is the filter as it is shipped, built and compiled once.
var module = sync.OnceValues(func() (*wasmhost.Module, error) {
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
	// dies: the test crashes VMs.
	dies bool

	mu    sync.Mutex
	lines []wasmhost.LogEntry
}

func newProcess(t *testing.T, s setup) *process {
	p := &process{t: t, setup: s, clock: wasmhost.NewManualClock(begin)}
	p.host = wasmhost.New(wasmhost.Config{
		Clusters:     map[string]http.Handler{"drydock": nil},
		Clock:        p.clock.Clock(),
		Strict:       true,
		LegacyWASI:   s.older,
		LegacyResume: s.older,
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
		if n := p.logs("VM failed"); len(n) > 0 && !p.dies {
			t.Error(n)
		}
	})
	return p
}

// logs are the lines of all VMs that hold a text.
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
	m, err := module()
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

// workers starts Envoy's main thread and n workers.
func (p *process) workers(n int) (all []*world) {
	p.t.Helper()
	all = append(all, p.worker("main"))
	for i := range n {
		all = append(all, p.worker(fmt.Sprint("worker_", i)))
	}
	return all
}

func (p *process) pluginConfig(config string) wasmhost.PluginConfig {
	return wasmhost.PluginConfig{Name: "drydock", Configuration: []byte(config), FailurePolicy: p.setup.policy, AllowOnHeadersStopIteration: !p.setup.onward}
}

// plugin starts a plugin in a VM.
func (p *process) plugin(vm *wasmhost.VM, config string) *world {
	p.t.Helper()
	plugin, err := vm.Plugin(p.pluginConfig(config))
	if err != nil {
		p.t.Fatal(err)
	}
	return &world{rig: &shipped{p, vm, plugin}, t: p.t}
}

// each ticks every plugin once, in their order.
func each(all []*world) {
	for _, w := range all {
		w.tick()
	}
}

// runAll ticks every plugin while time passes.
func (p *process) runAll(all []*world, d time.Duration) {
	for ; d > 0; d -= tickPeriod {
		p.clock.Advance(min(d, tickPeriod))
		each(all)
	}
}

// leader is the one plugin that polls.
func leader(t *testing.T, all []*world) *world {
	t.Helper()
	leaders := slices.DeleteFunc(slices.Clone(all), func(w *world) bool { return !w.polls() })
	if len(leaders) != 1 {
		t.Fatalf("%d plugins poll, want 1", len(leaders))
	}
	return leaders[0]
}

// shipped is the compiled rig.
type shipped struct {
	*process
	vm     *wasmhost.VM
	plugin *wasmhost.Plugin
}

// on is the compiled rig of a world.
func on(w *world) *shipped { return w.rig.(*shipped) }

func (r *shipped) tick()                { r.plugin.Tick() }
func (r *shipped) pass(d time.Duration) { r.clock.Advance(d) }

func (r *shipped) calls() (calls []call) {
	for _, c := range r.vm.Callouts() {
		calls = append(calls, call{headers: fields(c.Headers), body: string(c.Body), timeout: c.Timeout, out: c})
	}
	return calls
}

func (r *shipped) answer(c call, status int, body string) {
	if status == 0 {
		c.out.Fail()
		return
	}
	c.out.Respond(wasmhost.Headers{{":status", fmt.Sprint(status)}}, []byte(body), nil)
}

func (r *shipped) open(headers [][2]string, source string, end bool) exchange {
	s := r.plugin.NewStream(wasmhost.StreamConfig{Properties: map[string]any{"source": map[string]any{"address": source}}})
	s.RequestHeaders(headers, end)
	return &shippedExchange{s}
}

func (r *shipped) metric(name string) int {
	m, ok := r.host.Metric(name)
	if !ok {
		r.t.Fatalf("there is no metric %s", name)
	}
	return int(int64(m.Value))
}

func (r *shipped) logged() []string { return r.logs("") }

type shippedExchange struct{ *wasmhost.Stream }

func (x *shippedExchange) send(body string, end bool) { x.RequestBody([]byte(body), end) }
func (x *shippedExchange) trailers()                  { x.RequestTrailers(wasmhost.Headers{{"x-trailer", "1"}}) }
func (x *shippedExchange) end()                       { x.Abort() }

func (x *shippedExchange) view() (v view) {
	note, _ := x.FilterState("wasm.drydock.decision")
	v.note = string(note)
	up := x.Upstream()
	if up.Headers != nil {
		v.headers = fields(up.Headers)
	}
	v.body, v.ended = string(up.Body), up.End
	v.held, _ = x.Paused()
	if r := x.LocalReply(); r != nil {
		v.held = false
		v.reply = &reply{r.Status, fields(r.Headers), string(r.Body), r.GRPCStatus, r.Details}
	}
	return v
}

var errCrash = errors.New("crashed by the test")
