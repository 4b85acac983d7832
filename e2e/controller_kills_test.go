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

// kill -9 the controller in the middle of on and off under load: what it acknowledged
// holds afterwards, and no proxy goes back or changes its mind while it is away.
func TestAcknowledgedTogglesSurviveControllerKills(t *testing.T) {
	t.Parallel()
	kills := 20
	if *long {
		kills = 500
	}
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default"})

	// The load: one connection to each worker, which note every answer.
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer cancel()
	conns := d.workerConns(2)
	history := make([][]sample, len(conns))
	var mu sync.Mutex
	for i, l := range conns {
		load.Go(func() {
			for ctx.Err() == nil {
				s := l.get(ctx, "/api/stock", "Accept", "application/json")
				if ctx.Err() != nil {
					return
				}
				mu.Lock()
				history[i] = append(history[i], s)
				mu.Unlock()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}

	// commands are what the controller was told, in order: "" is off, else the message.
	commands := []string{""}
	acknowledged := 0 // index of the last command that was answered with success
	toggle := func() bool {
		next := ""
		var status int
		var err error
		if commands[len(commands)-1] == "" {
			next = fmt.Sprintf("toggle %d", len(commands))
			commands = append(commands, next)
			status, _, err = d.controller.Do(ctx, "POST", "/api/v1/apps/default/activations", map[string]any{"mode": maintenance.NoAccess, "message": next}, "If-Match", "*")
		} else {
			commands = append(commands, next)
			status, _, err = d.controller.Do(ctx, "DELETE", "/api/v1/apps/default/activations", nil, "If-Match", "*")
		}
		if err != nil {
			return false
		}
		if status >= 300 {
			t.Errorf("command %d (%q) was answered %d", len(commands)-1, next, status)
		}
		acknowledged = len(commands) - 1
		return true
	}

	for kill := range kills {
		killed := make(chan struct{})
		go func() {
			time.Sleep(time.Duration(20+rand.IntN(150)) * time.Millisecond)
			d.controller.Kill()
			close(killed)
		}()
		for toggle() {
		}
		<-killed
		// Whatever was on its way has arrived after this; from then on the proxies may
		// not move until the controller is back.
		time.Sleep(400 * time.Millisecond)
		quiet := time.Now()
		time.Sleep(200 * time.Millisecond)
		before := time.Now()
		must(t, d.controller.Restart(ctx))

		mu.Lock()
		for i := range history {
			var first *sample
			for j := range history[i] {
				s := &history[i][j]
				if s.start.Before(quiet) || s.end.After(before) {
					continue
				}
				if first == nil {
					first = s
				} else if first.status != s.status || first.body != s.body {
					t.Errorf("kill %d: worker %d changed its mind without a controller: %d %s, then %d %s", kill, i, first.status, first.body, s.status, s.body)
					break
				}
			}
		}
		mu.Unlock()

		// The command that got no answer may or may not have been carried out; the
		// acknowledged one before it must not be lost.
		mode, message := d.status("default")
		now := ""
		if mode != maintenance.Off {
			now = message
		}
		if now != commands[acknowledged] && now != commands[len(commands)-1] {
			t.Errorf("kill %d: the controller is back with %q, acknowledged was %q, unanswered %q", kill, now, commands[acknowledged], commands[len(commands)-1])
		}
		if now != commands[len(commands)-1] {
			commands = commands[:len(commands)-1] // it never happened, and the next one starts from here
		}
		acknowledged = len(commands) - 1
		d.awaitEnforced("default")
	}

	cancel()
	load.Wait()
	for i, samples := range history {
		at := 0
		for n, s := range samples {
			if s.err != nil {
				t.Fatalf("worker %d, request %d: %v", i, n, s.err)
			}
			seen := ""
			switch s.status {
			case http.StatusOK:
			case http.StatusServiceUnavailable:
				var problem struct{ Detail string }
				if err := json.Unmarshal([]byte(s.body), &problem); err != nil {
					t.Fatalf("worker %d: a 503 that is not ours: %s", i, s.body)
				}
				seen = problem.Detail
			default:
				t.Fatalf("worker %d: status %d: %s", i, s.status, s.body)
			}
			// The answers have to follow the commands' order; steps may be missed.
			for at < len(commands) && commands[at] != seen {
				at++
			}
			if at == len(commands) {
				t.Fatalf("worker %d went back: after request %d it answered %q, which the commands before it had already replaced", i, n, seen)
			}
		}
		t.Logf("worker %d: %d answers followed %d commands through %d kills", i, len(samples), len(commands)-1, kills)
	}
}
