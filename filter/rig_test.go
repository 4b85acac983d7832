//go:build !wasm

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this package are the filter's specification. A test runs, if possible, in three
// worlds: natively on the SDK's emulator (emulator_test.go), and compiled in wasmhost, as in Envoy
// 1.40 and as in Envoy 1.36 (compiled_test.go). The emulator has one VM with one plugin, which
// cannot crash; it always delivers the body of a paused request, and has no response code details.
// A test that needs more has Compiled at the end of its name.

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // the emulator reports every call
	os.Exit(m.Run())
}

// startTime is when every test begins, since synctest's clock starts then.
var startTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

const token = "a-sync-token-that-no-log-may-show"

// endOfStream and moreFollows say whether the headers or a part of a body are the end of a request
// (the end_of_stream of the proxy-wasm ABI).
const (
	endOfStream = true
	moreFollows = false
)

// setup is how Envoy is configured.
type setup struct {
	config string // the plugin's configuration
	// headersGoOn is set if Envoy lacks allow_on_headers_stop_iteration.
	headersGoOn bool
	policy      wasmhost.FailurePolicy
	envoy136    bool // Envoy is older than April 2026, such as 1.36.4
	trace       func(wasmhost.Call)
	fault       func(function string) wasmhost.Status
}

// bootstrapConfig is the plugin configuration of our own bootstraps.
const bootstrapConfig = `{"name": "edge", "allow_on_headers_stop_iteration": true}`

// rig is one plugin in one VM of a proxy.
type rig interface {
	tick()
	// advance lets time pass without ticks.
	advance(d time.Duration)
	// pendingCalls returns the callouts that wait for an answer, oldest first.
	pendingCalls() []call
	// answer answers a callout. The status 0 means that no answer arrives.
	answer(c call, status int, body string)
	// open sends the headers of a request.
	open(headers [][2]string, source string, end bool) exchange
	metric(name string) int
	// logged returns the lines of the log at level warn and above.
	logged() []string
}

// exchange is a request and its response.
type exchange interface {
	send(body string, end bool)
	sendTrailers()
	// disconnect ends the stream: the client has disconnected, or has its answer.
	disconnect()
	outcomeSoFar() outcome
}

// outcome is what has become of a request so far.
type outcome struct {
	paused bool // it was neither let through nor answered
	reply  *sentReply
	// headers and body are what the upstream saw.
	headers map[string]string
	body    string
	ended   bool   // the upstream saw all of it; only in wasmhost
	note    string // the filter state drydock.decision, or noteUnknown
}

// noteUnknown is the note of a request that was open at the same time as others on the emulator,
// which has one filter state for all requests.
const noteUnknown = "unknown"

type sentReply struct {
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

// fields returns headers by name. Values of the same name are joined.
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

// world is a rig with a controller that accepts every ack at once, and does not answer polls and
// page requests until the test does.
type world struct {
	rig
	t    *testing.T
	acks []maintenance.Ack
}

// testEverywhere runs a test in all three worlds.
func testEverywhere(t *testing.T, s setup, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("native", func(t *testing.T) {
		t.Setenv("DRYDOCK_SYNC_TOKEN", token)
		synctest.Test(t, func(t *testing.T) {
			r, err := newEmulatorRig(t, s)
			if err != nil {
				t.Fatal(err)
			}
			test(t, &world{rig: r, t: t})
		})
	})

	testCompiled(t, s, test)
}

// testCompiled runs a test in the two testCompiled worlds.
func testCompiled(t *testing.T, s setup, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, s.envoy136 = range []bool{false, true} {
		t.Run(compiledName(s), func(t *testing.T) { test(t, newProcess(t, s).worker("worker_0")) })
	}
}

func compiledName(s setup) string {
	if s.envoy136 {
		return "compiled, Envoy 1.36"
	}
	return "compiled"
}

// takeAcks accepts the acks that wait for an answer.
func (w *world) takeAcks() {
	for _, c := range w.rig.pendingCalls() {
		if c.path() != maintenance.AckPath {
			continue
		}
		var ack maintenance.Ack
		if err := json.Unmarshal([]byte(c.body), &ack); err != nil {
			w.t.Errorf("ack %s: %v", c.body, err)
		}

		w.acks = append(w.acks, ack)
		w.rig.answer(c, 204, "")
	}
}

func (w *world) tick() {
	w.rig.tick()
	w.takeAcks()
}

// runFor ticks at tickPeriod, as Envoy does, until d has passed.
func (w *world) runFor(d time.Duration) {
	for ; d > 0; d -= tickPeriod {
		w.advance(min(d, tickPeriod))
		w.tick()
	}
}

func (w *world) answer(c call, status int, body string) {
	w.rig.answer(c, status, body)
	w.takeAcks()
}

// pendingTo returns the callouts to a path that wait for an answer.
func (w *world) pendingTo(prefix string) []call {
	return slices.DeleteFunc(w.pendingCalls(), func(c call) bool { return !strings.HasPrefix(c.path(), prefix) })
}

// hasPoll reports whether a poll waits for an answer.
func (w *world) hasPoll() bool { return len(w.pendingTo(maintenance.SyncPath)) > 0 }

// wantOnePoll returns the one wantOnePoll that waits for an answer.
func (w *world) wantOnePoll() (call, maintenance.SyncRequest) {
	w.t.Helper()
	polls := w.pendingTo(maintenance.SyncPath)
	if len(polls) != 1 {
		w.t.Fatalf("%d polls wait, want 1", len(polls))
	}

	var request maintenance.SyncRequest
	if err := json.Unmarshal([]byte(polls[0].body), &request); err != nil {
		w.t.Fatalf("poll %s: %v", polls[0].body, err)
	}
	return polls[0], request
}

// answerPoll answers the one poll that waits.
func (w *world) answerPoll(status int, body string) {
	w.t.Helper()
	c, _ := w.wantOnePoll()
	w.answer(c, status, body)
}

// startWith starts the plugin with its first state.
func (w *world) startWith(doc string) {
	w.t.Helper()
	w.tick()
	w.answerPoll(200, doc)
}

func (w *world) lastAck() maintenance.Ack {
	w.t.Helper()
	if len(w.acks) == 0 {
		w.t.Fatal("no ack was sent")
	}
	return w.acks[len(w.acks)-1]
}

const clientAddress = "192.0.2.7:4711"

const (
	aQuery    = `{"query":"{cart{id}}"}`
	aMutation = `{"query":"mutation{buy}"}`
)

// request sends a whole request and ends its stream. It returns what had become of the request
// before.
func (w *world) request(method, path, body string, headers ...string) outcome {
	w.t.Helper()
	x := w.begin(method, path, body == "", headers...)
	if body != "" {
		x.send(body, endOfStream)
	}

	v := x.outcomeSoFar()
	x.disconnect()
	return v
}

// begin sends the headers of a request. Among them, "from" is the client's address.
func (w *world) begin(method, path string, end bool, headers ...string) exchange {
	w.t.Helper()
	h := [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "shop.example.com"}, {":path", path}}
	source := clientAddress

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

// beginGraphQL sends the headers of a GraphQL POST.
func (w *world) beginGraphQL() exchange {
	w.t.Helper()
	return w.begin("POST", "/graphql", moreFollows, "content-type", "application/json")
}

// graphQL sends a whole GraphQL POST.
func (w *world) graphQL(body string) outcome {
	w.t.Helper()
	return w.request("POST", "/graphql", body, "content-type", "application/json")
}

// wantPassed, refused and paused check what has become of a request. refused checks its rule, too.
func wantPassed(t *testing.T, v outcome) {
	t.Helper()
	if v.paused || v.reply != nil || v.headers == nil {
		t.Fatalf("want it to pass, got %s", v)
	}
}

func wantRefused(t *testing.T, v outcome, rule maintenance.Rule) {
	t.Helper()
	if v.paused || v.reply == nil || v.headers != nil || v.body != "" {
		t.Fatalf("want it refused by %s, got %s", rule, v)
	}

	if v.note != noteUnknown && !strings.HasSuffix(v.note, " rule="+string(rule)) {
		t.Fatalf("want it refused by %s, got %q", rule, v.note)
	}
}

func wantPaused(t *testing.T, v outcome) {
	t.Helper()
	if !v.paused || v.reply != nil || v.headers != nil || v.body != "" {
		t.Fatalf("want it paused, got %s", v)
	}
}

func (v outcome) String() string {
	if v.reply != nil {
		return fmt.Sprintf("%d %v %q (%s; upstream saw %v %q)", v.reply.status, v.reply.headers, v.reply.body, v.note, v.headers, v.body)
	}
	return fmt.Sprintf("paused=%v; upstream saw %v %q (%s)", v.paused, v.headers, v.body, v.note)
}

// wantMetric checks a metric of the plugin named edge.
func (w *world) wantMetric(name string, n int) {
	w.t.Helper()
	if got := w.metric("drydock.edge." + name); got != n {
		w.t.Errorf("%s = %d, want %d", name, got, n)
	}
}

// countLogged returns how many lines of the log contain a text.
func (w *world) countLogged(text string) (n int) {
	for _, line := range w.logged() {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// doc returns a document of epoch 1 with one app, which is the default one unless it has a name.
func doc(revision uint64, app maintenance.App) string { return docOf(1, revision, app) }

// docOf returns a document with apps. An app without a name is the default one.
func docOf(epoch, revision uint64, apps ...maintenance.App) string {
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

// appIn returns an app that an operator has put into a mode.
func appIn(mode maintenance.Mode) maintenance.App {
	if mode == maintenance.Off {
		return maintenance.App{}
	}

	return maintenance.App{Activations: []maintenance.Activation{{ID: "m", Source: maintenance.SourceManual, Mode: mode, Message: "Back soon.", Since: startTime}}}
}
