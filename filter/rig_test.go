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

// The tests of this package are the filter's specification, and this file is what they share.
//
// A test runs, if possible, in three environments: natively on the SDK's emulator
// (emulator_test.go), and compiled in wasmhost, as in Envoy 1.40 and as in Envoy 1.36
// (compiled_test.go). The emulator has one VM with one plugin, which cannot crash; it always
// delivers the body of a paused request, and has no response code details. A test that needs more
// runs compiled only, and its name ends in Compiled.
//
// A test gets a world: one plugin in one VM, reached through the interface rig, which each
// environment implements, together with a controller that the test plays. With a world, the test
// lets time pass (tick, runFor), answers the plugin's calls to the controller (startWith,
// answerPoll), sends requests (request, begin, graphQL), and checks what became of them
// (wantPassed, wantRefused, wantPaused).

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // The emulator logs every call.
	os.Exit(m.Run())
}

// startTime is the time at which every test begins: synctest's clock starts at midnight UTC
// 2000-01-01, and process starts its clock at the same time.
var startTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// token is the secret that the filter sends to the controller. It is in the environment of each VM.
const token = "a-sync-token-that-no-log-may-show"

// endOfStream and moreFollows say whether the headers or a part of a body are the end of a request
// (the end_of_stream of the proxy-wasm ABI).
const (
	endOfStream = true
	moreFollows = false
)

// setup is how a test wants Envoy to be configured. Only config has a meaning on the emulator.
type setup struct {
	config string // the plugin configuration, JSON
	// withoutStopIteration is set if Envoy's filter configuration lacks
	// allow_on_headers_stop_iteration. A filter that pauses headers then gets no body until it
	// lets them go on. The field of that name in config must tell the plugin the same.
	withoutStopIteration bool
	// policy is what Envoy does when a VM has crashed, by default FailClosed.
	policy wasmhost.FailurePolicy
	// envoy136 selects the behaviour of Envoy before April 2026, such as 1.36.4.
	envoy136 bool
	// trace, if not nil, receives each callback and host call of all VMs.
	trace func(wasmhost.Call)
	// fault, if not nil, makes the host calls fail for which it returns another status than OK.
	fault func(function string) wasmhost.Status
}

// bootstrapConfig is the plugin configuration of our own bootstraps.
const bootstrapConfig = `{"name": "edge", "allow_on_headers_stop_iteration": true}`

// rig is one plugin in one VM of a proxy, in one of the environments.
type rig interface {
	// tick calls the plugin's OnTick. Time does not pass.
	tick()
	// advance lets time pass without ticks.
	advance(d time.Duration)
	// pendingCalls returns the plugin's HTTP callouts that wait for an answer, oldest first. In
	// wasmhost these are the callouts of the whole VM.
	pendingCalls() []call
	// answer answers a callout. The status 0 means that no answer arrives.
	answer(c call, status int, body string)
	// open sends the headers of a request from a source address, with its port. end says whether
	// the request ends with them.
	open(headers [][2]string, source string, end bool) exchange
	// metric returns the value of a counter or gauge by its full name, and fails the test if the
	// metric does not exist.
	metric(name string) int
	// logged returns the lines of the log at level warn and above.
	logged() []string
}

// exchange is a request and its response.
type exchange interface {
	// send sends a part of the request's body. end says whether the request ends with it.
	send(body string, end bool)
	// sendTrailers sends a trailer, x-trailer, with which the request ends.
	sendTrailers()
	// disconnect ends the stream, as if the client had gone away or had its answer.
	disconnect()
	// outcomeSoFar returns what has become of the request until now.
	outcomeSoFar() outcome
}

// outcome is what has become of a request: it is paused, answered by the filter, or let through to
// the upstream.
type outcome struct {
	// paused is set while the request was neither let through nor answered.
	paused bool
	// reply is the filter's answer, nil if there is none.
	reply *sentReply
	// headers and body are what the upstream saw; headers is nil if it saw nothing. The emulator
	// returns only the last part of a body.
	headers map[string]string
	body    string
	// ended is set if the upstream saw the end of the request. The emulator never sets it.
	ended bool
	// note is the decision that the filter offers to access logs, in the form
	// "app=default mode=read-only rule=method", empty if it made none, or noteUnknown.
	note string
}

// noteUnknown is the note of a request that was open at the same time as others on the emulator,
// which has one filter state for all requests.
const noteUnknown = "unknown"

// sentReply is an answer that the filter gave to a client, as the filter passed it to Envoy.
type sentReply struct {
	status  int
	headers map[string]string
	body    string
	grpc    int    // the gRPC status, -1 for none
	details string // Envoy's response code details; empty on the emulator
}

// call is an HTTP callout of the plugin: a poll, an ack, or the fetch of a page.
type call struct {
	headers map[string]string
	body    string
	timeout time.Duration     // zero on the emulator, which does not show it
	id      uint32            // on the emulator
	callout *wasmhost.Callout // in wasmhost
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

// world is a plugin with a controller that accepts every ack at once, and leaves polls and page
// requests without an answer until the test answers them.
type world struct {
	rig
	t    *testing.T
	acks []maintenance.Ack // all that the plugin has sent, oldest first
}

// testEverywhere runs a test in all three environments, each time with a new world.
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

// testCompiled runs a test in the two compiled environments, each time with a new world, which has
// a process of its own.
func testCompiled(t *testing.T, s setup, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, envoy136 := range []bool{false, true} {
		s.envoy136 = envoy136
		t.Run(compiledName(s), func(t *testing.T) { test(t, newProcess(t, s).worker("worker_0")) })
	}
}

// compiledName returns the name of a compiled environment.
func compiledName(s setup) string {
	if s.envoy136 {
		return "compiled, Envoy 1.36"
	}
	return "compiled"
}

// takeAcks adds the acks that wait for an answer to w.acks, and accepts them.
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

// tick ticks the plugin once, and accepts its acks.
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

// answer answers a callout, and accepts the acks that follow.
func (w *world) answer(c call, status int, body string) {
	w.rig.answer(c, status, body)
	w.takeAcks()
}

// pendingTo returns the callouts that wait for an answer and whose path begins with a prefix.
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

// answerPoll answers the poll that waits for an answer. It fails the test if that is not exactly
// one.
func (w *world) answerPoll(status int, body string) {
	w.t.Helper()
	c, _ := w.wantOnePoll()
	w.answer(c, status, body)
}

// startWith gives the plugin its first state: at a tick the plugin polls, and the answer is doc.
func (w *world) startWith(doc string) {
	w.t.Helper()
	w.tick()
	w.answerPoll(200, doc)
}

// lastAck returns the last ack, and fails the test if there is none.
func (w *world) lastAck() maintenance.Ack {
	w.t.Helper()
	if len(w.acks) == 0 {
		w.t.Fatal("no ack was sent")
	}
	return w.acks[len(w.acks)-1]
}

// clientAddress is the source of a request that does not say otherwise. No bypass names it.
const clientAddress = "192.0.2.7:4711"

const (
	aQuery    = `{"query":"{cart{id}}"}`
	aMutation = `{"query":"mutation{buy}"}`
)

// request sends a whole request and then ends its stream. It returns the outcome just before that
// end. The headers are names and values in turn, as for begin.
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

// begin sends the headers of a request to shop.example.com. end says whether the request ends with
// them. The additional headers are names and values in turn. Among them, ":authority" replaces the
// host, and "from" is not a header but the client's address.
func (w *world) begin(method, path string, end bool, headers ...string) exchange {
	w.t.Helper()
	source, authority := clientAddress, "shop.example.com"
	var more [][2]string
	for i := 0; i < len(headers); i += 2 {
		switch headers[i] {
		case "from":
			source = headers[i+1]
		case ":authority":
			authority = headers[i+1]
		default:
			more = append(more, [2]string{headers[i], headers[i+1]})
		}
	}

	h := [][2]string{{":method", method}, {":scheme", "http"}, {":authority", authority}, {":path", path}}
	return w.open(append(h, more...), source, end)
}

// beginGraphQL sends the headers of a GraphQL POST, whose body follows.
func (w *world) beginGraphQL() exchange {
	w.t.Helper()
	return w.begin("POST", "/graphql", moreFollows, "content-type", "application/json")
}

// graphQL sends a whole GraphQL POST.
func (w *world) graphQL(body string) outcome {
	w.t.Helper()
	return w.request("POST", "/graphql", body, "content-type", "application/json")
}

// wantPassed checks that a request was let through.
func wantPassed(t *testing.T, o outcome) {
	t.Helper()
	if o.paused || o.reply != nil || o.headers == nil {
		t.Fatalf("want it to pass, got %s", o)
	}
}

// wantRefused checks that the filter answered a request by a rule, and that the upstream saw
// nothing of it. The rule is that of the note, and is not checked if the note is unknown.
func wantRefused(t *testing.T, o outcome, rule maintenance.Rule) {
	t.Helper()
	if o.paused || o.reply == nil || o.headers != nil || o.body != "" {
		t.Fatalf("want it refused by %s, got %s", rule, o)
	}

	if o.note != noteUnknown && !strings.HasSuffix(o.note, " rule="+string(rule)) {
		t.Fatalf("want it refused by %s, got %q", rule, o.note)
	}
}

// wantPaused checks that a request waits, and that the upstream has seen nothing of it.
func wantPaused(t *testing.T, o outcome) {
	t.Helper()
	if !o.paused || o.reply != nil || o.headers != nil || o.body != "" {
		t.Fatalf("want it paused, got %s", o)
	}
}

func (o outcome) String() string {
	if o.reply != nil {
		return fmt.Sprintf("%d %v %q (%s; upstream saw %v %q)", o.reply.status, o.reply.headers, o.reply.body, o.note, o.headers, o.body)
	}
	return fmt.Sprintf("paused=%v; upstream saw %v %q (%s)", o.paused, o.headers, o.body, o.note)
}

// wantMetric checks a metric of the plugin, whose name must be edge. name is the part after the
// prefix, such as "errors".
func (w *world) wantMetric(name string, n int) {
	w.t.Helper()
	if got := w.metric("drydock.edge." + name); got != n {
		w.t.Errorf("%s = %d, want %d", name, got, n)
	}
}

// countLogged returns how many lines of the log, at level warn and above, contain a text.
func (w *world) countLogged(text string) (n int) {
	for _, line := range w.logged() {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// doc returns a state document of epoch 1 with one app, which is the default one unless it has a
// name.
func doc(revision uint64, app maintenance.App) string { return docOf(1, revision, app) }

// docOf returns a state document with apps, as the controller publishes it. An app without a name
// gets that of the default app.
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

// appIn returns an app that an operator has put into a mode, with the message "Back soon." In the
// mode off, it is an app with nothing set.
func appIn(mode maintenance.Mode) maintenance.App {
	if mode == maintenance.Off {
		return maintenance.App{}
	}

	return maintenance.App{Activations: []maintenance.Activation{{
		ID: "m", Source: maintenance.SourceManual, Mode: mode, Message: "Back soon.", Since: startTime,
	}}}
}
