//go:build !wasm

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A window opens and closes on the proxy's own clock, also with the controller away.
func TestWindowOpensAndClosesByItself(t *testing.T) {
	app := maintenance.App{Spec: maintenance.Spec{Windows: []maintenance.Window{{
		ID: "upgrade", Mode: maintenance.NoAccess, Message: "Upgrade.", Announce: 60,
		Occurrences: []maintenance.Occurrence{
			{Start: startTime.Add(2 * time.Minute), End: startTime.Add(3 * time.Minute)},
			{Start: startTime.Add(10 * time.Minute), End: startTime.Add(10*time.Minute + 500*time.Millisecond)},
		},
	}}}}
	everywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.follow(doc(1, app))
		w.answerPoll(0, "") // and away it stays
		get := func() view { return w.request("GET", "/", "") }
		status := func() string {
			if v := w.request("GET", "/.drydock/status", ""); v.reply != nil {
				return v.reply.body
			}
			return ""
		}
		w.run(59900 * time.Millisecond)
		passed(t, get())
		if s := status(); s != "" {
			t.Errorf("said %q before the announcement", s)
		}
		w.run(150 * time.Millisecond)
		passed(t, get())
		if s := status(); !strings.Contains(s, `"mode":"off"`) || !strings.Contains(s, `"start":"2000-01-01T00:02:00Z"`) {
			t.Errorf("announced by %q", s)
		}
		w.run(59900 * time.Millisecond)
		passed(t, get())
		w.run(100 * time.Millisecond)
		v := get()
		refused(t, v, maintenance.RuleNoAccess)
		if v.reply.headers["retry-after"] != "60" || v.reply.body != "Upgrade.\n" {
			t.Errorf("got %s", v)
		}
		w.run(59850 * time.Millisecond)
		refused(t, get(), maintenance.RuleNoAccess)
		w.run(150 * time.Millisecond)
		passed(t, get())
		if s := status(); s != "" {
			t.Errorf("said %q after the window", s)
		}
		w.run(7 * time.Minute)
		refused(t, get(), maintenance.RuleNoAccess)
		w.run(500 * time.Millisecond)
		passed(t, get())
		w.run(time.Hour)
		passed(t, get())
		w.wantMetric("revision", 1)
	})
}

// A proxy whose clock was ahead, so that a window seemed over, opens it when the clock is
// put right.
func TestWindowFollowsAClockThatIsSetBackCompiled(t *testing.T) {
	compiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		rigOf(w).clock.Set(startTime.Add(5 * time.Hour))
		w.follow(doc(1, maintenance.App{Spec: maintenance.Spec{Windows: []maintenance.Window{{ID: "w", Mode: maintenance.NoAccess,
			Occurrences: []maintenance.Occurrence{{Start: startTime.Add(time.Hour), End: startTime.Add(2 * time.Hour)}}}}}}))
		w.run(time.Second)
		passed(t, w.request("GET", "/", ""))
		rigOf(w).clock.Set(startTime.Add(90 * time.Minute))
		w.tick()
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		rigOf(w).clock.Set(startTime.Add(30 * time.Minute))
		w.tick()
		passed(t, w.request("GET", "/", ""))
		w.run(time.Second)
		rigOf(w).clock.Set(startTime.Add(61 * time.Minute))
		w.tick()
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
	})
}

// What was switched on holds, whatever the proxy's clock says of when that was.
func TestManualActivationIgnoresWhenItBegan(t *testing.T) {
	app := appIn(maintenance.NoAccess)
	app.Activations[0].Since = startTime.Add(time.Hour) // the controller's clock is ahead
	app.Activations[0].Until = startTime.Add(2 * time.Hour)
	everywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.follow(doc(1, app))
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
	})
	// Also when it jumps back and forth.
	compiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.follow(doc(1, app))
		for _, to := range []time.Time{startTime.AddDate(-10, 0, 0), startTime, startTime.Add(119 * time.Minute), startTime.Add(-time.Second)} {
			rigOf(w).clock.Set(to)
			w.run(10 * tickPeriod)
			refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		}
		rigOf(w).clock.Set(startTime.Add(2 * time.Hour))
		w.run(tickPeriod)
		passed(t, w.request("GET", "/", ""))
		if !w.hasPoll() {
			t.Error("nobody polls after the clock was set")
		}
	})
}
