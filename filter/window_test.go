//go:build !wasm

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The tests of this file are about time. A window is a planned activation in the state document,
// with the times at which it opens and closes; announce is for how many seconds before that the
// public status shows it. The filter compares them with its own clock, which is that of the proxy.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays.
// Every test begins at startTime, and time passes by runFor, tick by tick.

// A window opens and closes by the proxy's own clock, also while the controller is away.
func TestWindowOpensAndClosesByItself(t *testing.T) {
	app := maintenance.App{Spec: maintenance.Spec{Windows: []maintenance.Window{{
		ID: "upgrade", Mode: maintenance.NoAccess, Message: "Upgrade.", Announce: 60,
		Occurrences: []maintenance.Occurrence{
			{Start: startTime.Add(2 * time.Minute), End: startTime.Add(3 * time.Minute)},
			{Start: startTime.Add(10 * time.Minute), End: startTime.Add(10*time.Minute + 500*time.Millisecond)},
		},
	}}}}
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, app))
		w.answerPoll(0, "") // The controller is away from now on.

		get := func() outcome { return w.request("GET", "/", "") }
		// status returns the public status, empty if the filter leaves the request to the upstream.
		status := func() string {
			if o := w.request("GET", "/.drydock/status", ""); o.reply != nil {
				return o.reply.body
			}
			return ""
		}

		// The announcement begins after 1 min.
		w.runFor(59900 * time.Millisecond)
		wantPassed(t, get())
		if s := status(); s != "" {
			t.Errorf("said %q before the announcement", s)
		}
		w.runFor(150 * time.Millisecond)
		wantPassed(t, get())
		if s := status(); !strings.Contains(s, `"mode":"off"`) || !strings.Contains(s, `"start":"2000-01-01T00:02:00Z"`) {
			t.Errorf("announced by %q", s)
		}

		// The window opens after 2 min.
		w.runFor(59900 * time.Millisecond)
		wantPassed(t, get())
		w.runFor(100 * time.Millisecond)
		o := get()
		wantRefused(t, o, maintenance.RuleNoAccess)
		if o.reply.headers["retry-after"] != "60" || o.reply.body != "Upgrade.\n" {
			t.Errorf("got %s", o)
		}

		// It closes after 3 min.
		w.runFor(59850 * time.Millisecond)
		wantRefused(t, get(), maintenance.RuleNoAccess)
		w.runFor(150 * time.Millisecond)
		wantPassed(t, get())
		if s := status(); s != "" {
			t.Errorf("said %q after the window", s)
		}

		// It opens again after 10 min, for half a second.
		w.runFor(7 * time.Minute)
		wantRefused(t, get(), maintenance.RuleNoAccess)
		w.runFor(500 * time.Millisecond)
		wantPassed(t, get())

		w.runFor(time.Hour)
		wantPassed(t, get())
		w.wantMetric("revision", 1)
	})
}

// If the proxy's clock was ahead, so that a window seemed to be over, the window opens when the
// clock is set right.
func TestWindowFollowsAClockThatIsSetBackCompiled(t *testing.T) {
	app := maintenance.App{Spec: maintenance.Spec{Windows: []maintenance.Window{{
		ID: "w", Mode: maintenance.NoAccess,
		Occurrences: []maintenance.Occurrence{{Start: startTime.Add(time.Hour), End: startTime.Add(2 * time.Hour)}},
	}}}}

	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		setClock := func(sinceStart time.Duration) { rigOf(w).clock.Set(startTime.Add(sinceStart)) }

		setClock(5 * time.Hour) // after the window
		w.startWith(doc(1, app))
		w.runFor(time.Second)
		wantPassed(t, w.request("GET", "/", ""))

		setClock(90 * time.Minute) // in the window
		w.tick()
		wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)

		setClock(30 * time.Minute) // before the window
		w.tick()
		wantPassed(t, w.request("GET", "/", ""))

		w.runFor(time.Second)
		setClock(61 * time.Minute) // in the window
		w.tick()
		wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
	})
}

// A manual activation, which an operator has switched on, is in force even if it begins later by
// the proxy's clock. It ends by the proxy's clock.
func TestManualActivationIgnoresWhenItBegan(t *testing.T) {
	app := appIn(maintenance.NoAccess)
	app.Activations[0].Since = startTime.Add(time.Hour) // The controller's clock is ahead.
	app.Activations[0].Until = startTime.Add(2 * time.Hour)

	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, app))
		wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
	})

	// The same holds while the proxy's clock jumps back and forth.
	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, app))
		jumps := []time.Time{
			startTime.AddDate(-10, 0, 0), startTime, startTime.Add(119 * time.Minute), startTime.Add(-time.Second),
		}
		for _, jump := range jumps {
			rigOf(w).clock.Set(jump)
			w.runFor(10 * tickPeriod)
			wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		}

		rigOf(w).clock.Set(startTime.Add(2 * time.Hour))
		w.runFor(tickPeriod)
		wantPassed(t, w.request("GET", "/", ""))
		if !w.hasPoll() {
			t.Error("no VM polls after the clock was set")
		}
	})
}
