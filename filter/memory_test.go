//go:build !wasm

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The tests of this file are about the memory of the module. It is the linear memory of one VM,
// which grows if it has to and never shrinks: a leak shows as growth, and what a peak took stays.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays.

func memoryOf(w *world) uint32 { return rigOf(w).vm.MemorySize() }

// wantNoGrowth checks that the memory grew by at most a tenth. The garbage collector may need that
// much, since it does not run at the same moment each time.
func wantNoGrowth(t *testing.T, before, after uint32) {
	t.Helper()
	t.Logf("memory: %d kB, and %d kB in the end", before>>10, after>>10)
	if after > before+before/10 {
		t.Errorf("memory grew from %d to %d", before, after)
	}
}

// A stream that was let through keeps nothing of its request, for as long as it is open.
func TestOpenStreamsKeepNoRequestCompiled(t *testing.T) {
	const (
		streams     = 1000
		headerBytes = 16 << 10
		// maxGrowth is less than the headers of the streams that are opened below would take.
		maxGrowth = streams * headerBytes / 2
	)
	w := newProcess(t, setup{config: `{"name": "edge", "exempt": [{"path": "/healthz"}]}`}).worker("worker_0")
	w.startWith(doc(1, appIn(maintenance.ReadOnly)))

	open := func(path string) {
		for range streams {
			x := w.begin("GET", path, endOfStream, "cookie", strings.Repeat("x", headerBytes))
			wantPassed(t, x.outcomeSoFar())
		}
	}

	open("/") // Afterwards the memory has what the decision of such a request takes.
	before := memoryOf(w)
	open("/")        // let through by the decision
	open("/healthz") // let through without a decision
	after := memoryOf(w)

	t.Logf("memory: %d kB, with %d more streams %d kB", before>>10, 2*streams, after>>10)
	if after > before+maxGrowth {
		t.Errorf("memory grew from %d to %d", before, after)
	}
}

// Ticks, acks, polls and states leave nothing in memory.
func TestMemoryStaysFlatCompiled(t *testing.T) {
	w := newProcess(t, setup{config: bootstrapConfig}).worker("worker_0")
	w.startWith(doc(1, appIn(maintenance.NoAccess)))

	revision := uint64(1)
	work := func(states int) {
		for range states {
			w.runFor(25 * tickPeriod)
			revision++
			w.answerPoll(200, doc(revision, appIn(maintenance.NoAccess)))
			w.request("GET", "/", "", "accept", "text/html")
			w.acks = nil
		}
	}

	work(800) // Until then the memory grows to what the garbage collector needs.
	before := memoryOf(w)
	work(1600)
	wantNoGrowth(t, before, memoryOf(w))
}

// The memory of the module has a bound, however many requests are left open: with 57 kB of headers
// and one byte of a body, or with most of a long body, before and after the first state.
func TestMemoryOfPausedRequestsIsBoundedCompiled(t *testing.T) {
	// The garbage collector lets the memory grow to about twice what is in use, which is at most
	// maxPausedBytes and what is needed beside paused requests.
	const maxMemory = 4 * maxPausedBytes
	padding := strings.Repeat("x", 19<<10) // three headers have it
	bulk := strings.Repeat(" ", 950<<10)   // just below maintenance.DefaultMaxBody
	w := newProcess(t, setup{config: bootstrapConfig}).worker("worker_0")

	// attack begins n requests. Those that are paused stay open.
	attack := func(n int, body string) {
		for range n {
			x := w.begin("POST", "/graphql?x="+padding[:100], moreFollows,
				"content-type", "application/json", "cookie", padding, "accept", padding, "x-padding", padding)
			x.send(body, moreFollows)
			if x.outcomeSoFar().reply != nil {
				x.disconnect()
			}
		}
	}

	attack(4500, "{")
	w.startWith(doc(1, appIn(maintenance.ReadOnly)))
	attack(5000, "{")
	w.runFor(10 * time.Second)
	attack(100, bulk)
	w.runFor(10 * time.Second)
	attack(2000, "{")

	size := memoryOf(w)
	t.Logf("%d MB of memory", size>>20)
	if size > maxMemory {
		t.Errorf("the module has %d MB of memory, want at most %d MB", size>>20, maxMemory>>20)
	}

	// When the attack is over, requests are decided as always.
	w.runFor(10 * time.Second)
	wantPassed(t, w.graphQL(aQuery))
}

// Ten thousand requests that are aborted in the middle of their bodies leave nothing in memory, and
// none of them is still counted as open.
func TestAbortedRequestsLeaveNoMemoryCompiled(t *testing.T) {
	w := newProcess(t, setup{config: bootstrapConfig}).worker("worker_0")
	part := strings.Repeat(" ", 1000)

	abort := func(n int) {
		for range n {
			x := w.beginGraphQL()
			x.send(part, moreFollows)
			x.send(part, moreFollows)
			x.disconnect()
		}
	}

	// The first ones, before and after the first state, let the memory grow to what it needs.
	abort(2000)
	w.startWith(doc(1, appIn(maintenance.ReadOnly)))
	abort(6000)
	before := memoryOf(w)
	abort(10_000)
	wantNoGrowth(t, before, memoryOf(w))

	w.runFor(1500 * time.Millisecond) // until the next ack
	if a := w.lastAck(); a.Requests != 0 {
		t.Errorf("%d requests are left", a.Requests)
	}
	wantPassed(t, w.graphQL(aQuery))
}
