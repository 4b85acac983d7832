package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// deploy starts a controller, an Envoy with the Drydock filter, and a demo app behind Envoy
// (deployment_test.go). A workerConn is a client with one connection, so that one worker serves all
// of its requests (clients_test.go); a sample is one request and its answer. The app default
// applies to every request that no other app matches.

// A toggle puts the app default into no-access, with a message of its own, or out of it. A
// controller that is killed in the middle of toggles has, when it comes back, every toggle that it
// acknowledged. While the controller is away, no worker of Envoy changes its answers, and no worker
// ever goes back to an earlier state.
func TestAcknowledgedTogglesSurviveControllerKills(t *testing.T) {
	t.Parallel()
	kills := 20
	if *long {
		kills = 500
	}
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default"})
	history := startHistory(d)
	toggles := &toggler{d: d, messages: []string{noMessage}}

	for kill := range kills {
		// The kill comes at a random moment of a few toggles.
		killed := make(chan struct{})
		go func() {
			time.Sleep(time.Duration(20+rand.IntN(150)) * time.Millisecond)
			d.controller.Kill()
			close(killed)
		}()
		for toggles.next() { // until the controller does not answer
		}
		<-killed

		// After this pause, every state that was on its way has arrived. From then on the proxies
		// must not change until the controller is back.
		time.Sleep(400 * time.Millisecond)
		quiet := time.Now()
		time.Sleep(200 * time.Millisecond)
		history.checkConstant(kill, quiet, time.Now())

		must(t, d.controller.Restart(t.Context()))
		toggles.checkKept(kill)
		d.awaitEnforced("default")
	}

	history.stop()
	history.checkFollows(toggles.messages)
	t.Logf("%d workers followed %d toggles through %d kills", len(history.samples), len(toggles.messages)-1, kills)
}

// noMessage stands, among the messages of toggles and of answers, for an app that is not in
// maintenance.
const noMessage = ""

// toggler puts the app default into no-access and out of it in turn, each time with another
// message.
type toggler struct {
	d            *deployment
	messages     []string // of all toggles in order, or noMessage
	acknowledged int      // index of the last toggle that the controller answered with success
}

// next makes the next toggle, and reports whether the controller answered.
func (g *toggler) next() bool {
	message := noMessage
	method, body := "DELETE", any(nil)
	if last := g.messages[len(g.messages)-1]; last == noMessage {
		message = fmt.Sprintf("toggle %d", len(g.messages))
		method, body = "POST", map[string]any{"mode": maintenance.NoAccess, "message": message}
	}
	g.messages = append(g.messages, message)

	status, _, err := g.d.controller.Do(g.d.t.Context(), method, "/api/v1/apps/default/activations", body, "If-Match", "*")
	if err != nil {
		return false
	}
	if status >= 300 {
		g.d.t.Errorf("toggle %d (%q) was answered %d", len(g.messages)-1, message, status)
	}
	g.acknowledged = len(g.messages) - 1
	return true
}

// checkKept checks the state of a controller that has been restarted. The last toggle was not
// answered, so the controller may or may not have carried it out, but it must not have lost the
// acknowledged toggle before it.
func (g *toggler) checkKept(kill int) {
	mode, message := g.d.status("default")
	if mode == maintenance.Off {
		message = noMessage
	}

	acknowledged, unanswered := g.messages[g.acknowledged], g.messages[len(g.messages)-1]
	if message != acknowledged && message != unanswered {
		g.d.t.Errorf("kill %d: the controller came back with %q; acknowledged was %q, unanswered %q", kill, message, acknowledged, unanswered)
	}
	if message != unanswered { // the toggle was not carried out, and never will be
		g.messages = g.messages[:len(g.messages)-1]
	}
	g.acknowledged = len(g.messages) - 1
}

// workerHistory records the answers of each worker, from one connection to it (workerConn).
type workerHistory struct {
	t    *testing.T
	stop func() // ends the requests and waits for them

	mu      sync.Mutex
	samples [][]sample // by worker, in order
}

// startHistory starts to request a page from each of the two workers, again and again.
func startHistory(d *deployment) *workerHistory {
	ctx, cancel := context.WithCancel(d.t.Context())
	conns := d.workerConns(2)
	h := &workerHistory{t: d.t, samples: make([][]sample, len(conns))}
	var running sync.WaitGroup
	for i, c := range conns {
		running.Go(func() {
			for ctx.Err() == nil {
				s := c.get(ctx, "/api/stock", "Accept", "application/json")
				if ctx.Err() != nil {
					return
				}
				h.mu.Lock()
				h.samples[i] = append(h.samples[i], s)
				h.mu.Unlock()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}

	h.stop = func() {
		cancel()
		running.Wait()
	}
	d.t.Cleanup(h.stop)
	return h
}

// checkConstant checks that each worker gave the same answer to all requests between two moments.
func (h *workerHistory) checkConstant(kill int, from, to time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()

	for i, samples := range h.samples {
		var first *sample
		for _, s := range samples {
			if s.start.Before(from) || s.end.After(to) {
				continue
			}
			if first == nil {
				first = &s
			} else if first.status != s.status || first.body != s.body {
				h.t.Errorf("kill %d: worker %d changed without a controller: %d %s, then %d %s", kill, i, first.status, first.body, s.status, s.body)
				break
			}
		}
	}
}

// checkFollows checks that the answers of each worker follow the toggles, given by their messages,
// in order. A worker may skip toggles, since a state replaces the one before it, but must not go
// back.
func (h *workerHistory) checkFollows(messages []string) {
	for worker, samples := range h.samples {
		current := 0 // index of the toggle that the worker enforces
		for n, s := range samples {
			message := h.messageOf(worker, s)
			for current < len(messages) && messages[current] != message {
				current++
			}
			if current == len(messages) {
				h.t.Fatalf("worker %d went back: it answered request %d with %q, which a toggle that it had followed before replaced", worker, n, message)
			}
		}
	}
}

// messageOf returns the message in an answer of the filter, or noMessage if the request passed. Any
// other answer fails the test.
func (h *workerHistory) messageOf(worker int, s sample) string {
	switch {
	case s.err != nil:
		h.t.Fatalf("worker %d: %v", worker, s.err)
	case s.status == http.StatusOK:
		return noMessage
	case s.status != http.StatusServiceUnavailable:
		h.t.Fatalf("worker %d: status %d: %s", worker, s.status, s.body)
	}

	var problem struct{ Detail string } // of problem+json (RFC 9457): the operator's message
	if err := json.Unmarshal([]byte(s.body), &problem); err != nil {
		h.t.Fatalf("worker %d: a 503 that is not from the filter: %s", worker, s.body)
	}
	return problem.Detail
}
