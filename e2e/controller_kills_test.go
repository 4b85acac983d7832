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

// A controller that is killed in the middle of toggles keeps every toggle that it acknowledged.
// While it is away, no worker changes its answers, and no worker ever goes back to an earlier
// state.
func TestAcknowledgedTogglesSurviveControllerKills(t *testing.T) {
	t.Parallel()
	kills := 20
	if *long {
		kills = 500
	}
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default"})
	history := startHistory(d)
	toggles := &toggler{d: d, messages: []string{""}}

	for kill := range kills {
		killed := make(chan struct{})
		go func() {
			time.Sleep(time.Duration(20+rand.IntN(150)) * time.Millisecond)
			d.controller.Kill()
			close(killed)
		}()
		for toggles.next() {
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

// toggler switches the app default on and off, each time with another message.
type toggler struct {
	d            *deployment
	messages     []string // of all toggles in order; "" is off
	acknowledged int      // index of the last one that the controller answered with success
}

// next toggles once, and reports whether the controller answered.
func (g *toggler) next() bool {
	message := ""
	method, body := "DELETE", any(nil)
	if g.messages[len(g.messages)-1] == "" {
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

// checkKept checks the state of a controller that has been restarted. The toggle that was not
// answered may or may not have been carried out, but the acknowledged one before it must not be
// lost.
func (g *toggler) checkKept(kill int) {
	mode, message := g.d.status("default")
	if mode == maintenance.Off {
		message = ""
	}

	last := g.messages[len(g.messages)-1]
	if message != g.messages[g.acknowledged] && message != last {
		g.d.t.Errorf("kill %d: the controller came back with %q; acknowledged was %q, unanswered %q", kill, message, g.messages[g.acknowledged], last)
	}
	if message != last {
		g.messages = g.messages[:len(g.messages)-1] // it was not carried out; the next toggle replaces it
	}
	g.acknowledged = len(g.messages) - 1
}

// workerHistory records every answer on one connection to each worker.
type workerHistory struct {
	t    *testing.T
	stop func() // ends the requests and waits for them

	mu      sync.Mutex
	samples [][]sample // by worker
}

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

// checkFollows checks that the answers of each worker follow the toggles in order; they may skip
// some.
func (h *workerHistory) checkFollows(messages []string) {
	for worker, samples := range h.samples {
		next := 0
		for n, s := range samples {
			message := h.messageOf(worker, s)
			for next < len(messages) && messages[next] != message {
				next++
			}
			if next == len(messages) {
				h.t.Fatalf("worker %d went back: it answered request %d with %q, which a toggle that it had followed before replaced", worker, n, message)
			}
		}
	}
}

// messageOf returns the message of a refusal, or "" if the request passed.
func (h *workerHistory) messageOf(worker int, s sample) string {
	switch {
	case s.err != nil:
		h.t.Fatalf("worker %d: %v", worker, s.err)
	case s.status == http.StatusOK:
		return ""
	case s.status != http.StatusServiceUnavailable:
		h.t.Fatalf("worker %d: status %d: %s", worker, s.status, s.body)
	}

	var problem struct{ Detail string }
	if err := json.Unmarshal([]byte(s.body), &problem); err != nil {
		h.t.Fatalf("worker %d: a 503 that is not from the filter: %s", worker, s.body)
	}
	return problem.Detail
}
