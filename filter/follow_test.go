//go:build !wasm

package main

import (
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The tests of this file are about one VM that follows the controller. The VM polls: it asks for
// what is newer than its version, and the controller answers when there is such a state (200 with
// the document) or after 25 s (204). The VM acknowledges the version that it enforces at once and
// then every second.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays:
// acks are accepted at once and kept in w.acks, and polls wait until answerPoll. startWith gives
// the plugin its first state. doc and docOf make documents, and appIn an app in a mode; the request
// GET / shows which state is in force.

// A poll names the version that the plugin has. The next one follows as soon as it is answered.
func TestPollNamesTheCurrentVersion(t *testing.T) {
	s := setup{config: `{"name": "edge", "controller": {"cluster": "drydock", "authority": "drydock.example"}}`}
	testEverywhere(t, s, func(t *testing.T, w *world) {
		if n := len(w.pendingCalls()); n != 0 {
			t.Fatalf("the start of the plugin made %d calls", n)
		}

		w.tick()
		c, request := w.wantOnePoll()
		want := map[string]string{
			":method": "POST", ":path": "/proxy/v1/sync", ":authority": "drydock.example", ":scheme": "http",
			"content-type": "application/json", "authorization": "Bearer " + token,
		}
		delete(c.headers, "content-length") // Some environments add it.
		if !maps.Equal(c.headers, want) {
			t.Errorf("got %v, want %v", c.headers, want)
		}

		if c.timeout != 0 && c.timeout != 30*time.Second { // The emulator does not show it.
			t.Errorf("the timeout of the poll is %v, want 5 s more than the wait", c.timeout)
		}
		if len(request.Proxy) != 32 || request.Wait != 25 || request.Version != (maintenance.Version{}) {
			t.Errorf("the poll was %s, want the proxy's id, wait 25 and no version", c.body)
		}
		proxy := request.Proxy

		w.answerPoll(200, doc(7, appIn(maintenance.Off)))
		if _, request = w.wantOnePoll(); request.Version != (maintenance.Version{Epoch: 1, Revision: 7}) || request.Proxy != proxy {
			t.Errorf("then the poll was %+v", request)
		}

		w.runFor(25 * time.Second)
		w.wantOnePoll()
		w.answerPoll(204, "")
		if _, request = w.wantOnePoll(); request.Revision != 7 {
			t.Errorf("after 204 the poll was %+v", request)
		}

		w.runFor(time.Second)
		w.answerPoll(200, doc(8, appIn(maintenance.NoAccess)))
		if _, request = w.wantOnePoll(); request.Revision != 8 {
			t.Errorf("then the poll was %+v", request)
		}

		wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		w.wantMetric("errors", 0)
		if lines := w.logged(); len(lines) != 0 {
			t.Error(lines)
		}
	})
}

// A controller that answers at once without a newer state is polled about once a second.
func TestPollIsPaced(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.Off)))

		polls := 0
		for range 5 * time.Second / tickPeriod {
			w.runFor(tickPeriod)
			if w.hasPoll() {
				polls++
				w.answerPoll(204, "")
			}
		}

		if polls < 4 || polls > 6 {
			t.Errorf("%d polls in 5 s, want about one a second", polls)
		}
	})
}

// If the controller's answer is not a state, the last good one stays in force. The poll is repeated
// after growing pauses, and the error is counted each time and logged once.
func TestFailedPollKeepsTheLastState(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int // zero for no answer
		body   string
		log    string // part of the line that is logged
	}{
		{"no answer", 0, "", "cannot be reached"},
		{"unauthorized", 401, "{}", "status 401"},
		{"broken", 500, "", "status 500"},
		{"proxy's timeout", 504, "upstream request timeout", "status 504"},
		{"elsewhere", 302, "", "status 302"},
		{"empty", 200, "", "reading the state"},
		{"not JSON", 200, "<html>", "is refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				const repetitions = 7
				w.startWith(doc(5, appIn(maintenance.NoAccess)))
				w.answerPoll(c.status, c.body)

				pauses := failPolls(t, w, repetitions, c.status, c.body)
				for i, pause := range pauses {
					least := min(minBackoff<<i, maxBackoff) // It doubles each time, and up to half is added at random.
					if pause < least || pause > least*3/2+2*tickPeriod {
						t.Errorf("pause %d is %v, want %v and at most half as much again", i, pause, least)
					}
				}

				wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
				if n := w.countLogged(c.log); n != 1 {
					t.Errorf("logged %d times, want once: %q", n, w.logged())
				}
				w.wantMetric("errors", 1+repetitions)

				// A state ends the error, so that the next one is logged again.
				w.runFor(maxBackoff * 2)
				w.answerPoll(200, doc(6, appIn(maintenance.Off)))
				wantPassed(t, w.request("GET", "/", ""))
				w.answerPoll(c.status, c.body)
				if n := w.countLogged(c.log); n != 2 {
					t.Errorf("logged %d times after the controller came back and went away again, want 2", n)
				}
			})
		})
	}
}

// failPolls gives the next n polls the same answer, and returns how long the plugin paused before
// each of them. It fails the test if a poll does not come within a minute.
func failPolls(t *testing.T, w *world, n, status int, body string) (pauses []time.Duration) {
	t.Helper()
	for range n {
		pause := time.Duration(0)
		for !w.hasPoll() {
			if pause >= time.Minute {
				t.Fatalf("polled only after %v", pauses)
			}
			w.runFor(tickPeriod)
			pause += tickPeriod
		}

		pauses = append(pauses, pause)
		w.answerPoll(status, body)
	}
	return pauses
}

// A document that cannot be used is refused as a whole. This is counted and logged once. The
// document is not requested again until there is a newer one or a poll brings nothing.
func TestBadDocumentIsRefusedAsAWhole(t *testing.T) {
	const unknownField = `{"epoch":1,"revision":9,"apps":[{"name":"default","activations":[],"moon_phase":3}]}`
	badCIDR := maintenance.App{Spec: maintenance.Spec{Bypass: maintenance.Bypass{IPs: []string{"10.0.0.0/99"}}}}
	current := maintenance.Version{Epoch: 1, Revision: 5}

	for _, c := range []struct {
		name, bad string
		// next is the version that the next poll names: that of the bad document, if it can be
		// found in the text and is newer than the current one, otherwise the current one.
		next maintenance.Version
		// errors is how many errors are counted and logged after the document has come twice: one
		// if the filter knows it again by its version, otherwise two.
		errors int
	}{
		{"of a newer controller", unknownField, maintenance.Version{Epoch: 1, Revision: 9}, 1},
		{"of a new epoch", strings.Replace(unknownField, `"epoch":1`, `"epoch":3`, 1), maintenance.Version{Epoch: 3, Revision: 9}, 1},
		{"with a bad CIDR", doc(6, badCIDR), maintenance.Version{Epoch: 1, Revision: 6}, 1},
		{"cut off", unknownField[:40], maintenance.Version{Epoch: 1, Revision: 9}, 1},
		{"without a version", `{"apps":[`, current, 2},
		{"with an old version", `{"epoch":1,"revision":2,"apps":[3]}`, current, 2},
		{"with an epoch beyond 64 bits", `{"epoch":99999999999999999999999,"revision":2,"apps":[3]}`, maintenance.Version{Epoch: math.MaxUint64, Revision: 2}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				w.startWith(doc(5, appIn(maintenance.NoAccess)))
				w.answerPoll(200, c.bad)
				wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
				w.wantMetric("errors", 1)
				if n := w.countLogged("is refused"); n != 1 {
					t.Fatalf("logged %d times: %q", n, w.logged())
				}

				w.runFor(firstRetry)
				if _, request := w.wantOnePoll(); request.Version != c.next {
					t.Errorf("the poll names %+v, want %+v", request.Version, c.next)
				}

				// The document's version may be as wrong as the rest of it. After one poll that
				// brings nothing, the document is requested again.
				w.runFor(25 * time.Second)
				w.answerPoll(204, "")
				w.runFor(minPause)
				if _, request := w.wantOnePoll(); request.Version != current {
					t.Errorf("after the wait the poll names %+v, want %+v", request.Version, current)
				}

				w.answerPoll(200, c.bad)
				w.wantMetric("errors", c.errors)
				if n := w.countLogged("is refused"); n != c.errors {
					t.Errorf("logged %d times, want %d: %q", n, c.errors, w.logged())
				}

				// A newer document is adopted. There is none that is newer than the largest epoch.
				w.runFor(firstRetry)
				if c.next.Epoch < math.MaxUint64 {
					w.answerPoll(200, docOf(9, 9, appIn(maintenance.Off)))
					wantPassed(t, w.request("GET", "/", ""))
				}
			})
		})
	}
}

// firstRetry is long enough for the poll that follows the first failure: minBackoff, half of it at
// random, and a tick.
const firstRetry = 3 * minBackoff

// A plugin whose first document cannot be used has no state, so that after boot_wait the policy for
// an unknown state decides.
func TestBadFirstDocumentLeavesTheStateUnknown(t *testing.T) {
	testEverywhere(t, setup{config: `{"name": "edge", "unknown": "deny"}`}, func(t *testing.T, w *world) {
		w.startWith(`{"epoch":3,"revision":1200,"apps":[],"later":1}`) // "later" is an unknown field.
		w.runFor(3 * time.Second)                                      // boot_wait is 2 s by default.

		wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		if _, request := w.wantOnePoll(); request.Version != (maintenance.Version{Epoch: 3, Revision: 1200}) {
			t.Errorf("the poll names %+v", request.Version)
		}

		w.wantMetric("errors", 1)
		w.wantMetric("unknown", 1)

		w.answerPoll(200, docOf(3, 1201, appIn(maintenance.Off)))
		wantPassed(t, w.request("GET", "/", ""))
	})
}

// A plugin never goes back to an older version. The epoch counts before the revision: it is raised
// when a controller is restored from a backup, after which revisions start again.
func TestOlderStateIsRefused(t *testing.T) {
	for _, c := range []struct {
		name            string
		epoch, revision uint64
		adopted         bool
	}{
		{"older revision", 2, 4, false},
		{"the same", 2, 5, false},
		{"lower epoch", 1, 900, false},
		{"newer revision", 2, 6, true},
		{"new epoch, lower revision", 3, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				w.startWith(docOf(2, 5, appIn(maintenance.NoAccess)))
				w.answerPoll(200, docOf(c.epoch, c.revision, appIn(maintenance.Off)))

				o := w.request("GET", "/", "")
				if c.adopted {
					wantPassed(t, o)
					w.wantMetric("errors", 0)
				} else {
					wantRefused(t, o, maintenance.RuleNoAccess)
					w.wantMetric("errors", 1)
					if n := w.countLogged("not newer than the current one"); n != 1 {
						t.Errorf("logged %q", w.logged())
					}
					if w.hasPoll() {
						t.Error("polled at once")
					}
				}

				w.runFor(time.Second)
				want := maintenance.Version{Epoch: 2, Revision: 5} // the first one
				if c.adopted {
					want = maintenance.Version{Epoch: c.epoch, Revision: c.revision}
				}
				if a := w.lastAck(); a.Version != want {
					t.Errorf("enforces %+v, want %+v", a.Version, want)
				}
			})
		})
	}
}

// While the cluster is unknown (discovery is not done) or has no healthy host, the poll is
// repeated. At boot it is repeated often enough for requests that are paused for the first state.
func TestPollIsRetriedWithoutClusterCompiled(t *testing.T) {
	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		host := rigOf(w).host
		host.RemoveCluster("drydock")
		x := w.begin("GET", "/", endOfStream)
		w.runFor(1600 * time.Millisecond) // less than boot_wait, 2 s
		if n := len(w.logged()); n != 0 {
			t.Errorf("logged while booting: %q", w.logged())
		}

		host.SetCluster("drydock", nil)
		w.runFor(bootBackoff*3/2 + tickPeriod) // the longest pause at boot
		w.answerPoll(200, doc(1, appIn(maintenance.NoAccess)))
		wantRefused(t, x.outcomeSoFar(), maintenance.RuleNoAccess)

		// Later, both acks and polls fail. Each error is logged once.
		w.answerPoll(500, "")
		host.RemoveCluster("drydock")
		w.runFor(20 * time.Second)
		if poll, ack := w.countLogged("polling cluster"), w.countLogged("acknowledging"); poll != 1 || ack != 1 {
			t.Errorf("logged %d and %d times, want once each: %q", poll, ack, w.logged())
		}

		host.SetCluster("drydock", nil)
		w.runFor(maxBackoff * 2)
		w.answerPoll(200, doc(2, appIn(maintenance.Off)))
		wantPassed(t, w.request("GET", "/", ""))
	})
}

// Acks follow at once and then every second. They name the number of open requests.
func TestAcksNameVersionAndRequests(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.runFor(time.Second)
		if len(w.acks) != 0 {
			t.Fatalf("acknowledged %+v before there was a state", w.acks)
		}

		w.answerPoll(200, doc(1, appIn(maintenance.Off)))
		first := w.lastAck()
		_, request := w.wantOnePoll()
		want := maintenance.Ack{
			Version: maintenance.Version{Epoch: 1, Revision: 1}, Proxy: request.Proxy, VM: first.VM,
			Node: "gateway-7", Time: startTime.Add(time.Second).UnixMilli(), Requests: 0,
		}
		if len(w.acks) != 1 || first != want || len(first.VM) != 32 || first.VM == first.Proxy {
			t.Fatalf("got %+v, want one like %+v, with a random id of the VM", w.acks, want)
		}

		w.runFor(10 * time.Second)
		if n := len(w.acks) - 1; n < 9 || n > 10 {
			t.Errorf("%d heartbeats in 10 s", n)
		}

		// Requests that were let through count until they end. A paused request does not count.
		streams := []exchange{
			w.begin("GET", "/", endOfStream), w.begin("POST", "/upload", moreFollows), w.begin("GET", "/", endOfStream),
		}
		w.answerPoll(200, doc(2, appIn(maintenance.ReadOnly)))
		paused := w.beginGraphQL()
		streams = append(streams, paused)
		w.runFor(2 * time.Second)
		if a := w.lastAck(); a.Requests != 3 || a.Revision != 2 || a.VM != first.VM {
			t.Errorf("got %+v, want 3 requests", a)
		}

		paused.send(aQuery, endOfStream)
		w.runFor(2 * time.Second)
		if a := w.lastAck(); a.Requests != 4 {
			t.Errorf("got %+v, want 4 requests when the paused one was let through", a)
		}

		wantRefused(t, w.request("POST", "/cart", "x"), maintenance.RuleMethod)
		streams = append(streams, w.begin("POST", "/cart", moreFollows))
		w.runFor(2 * time.Second)
		if a := w.lastAck(); a.Requests != 4 {
			t.Errorf("got %+v, want 4 requests beside one that was refused", a)
		}

		for _, x := range streams {
			x.disconnect()
		}
		w.request("GET", "/", "")
		w.runFor(1500 * time.Millisecond) // until the next ack
		if a := w.lastAck(); a.Requests != 0 {
			t.Errorf("got %+v, want no requests", a)
		}
	})
}

// A failed ack is not repeated before the next one is due.
func TestFailedAckIsNotRepeatedCompiled(t *testing.T) {
	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.NoAccess)))

		for _, status := range []int{0, 401, 422, 500} { // 0: no answer arrives
			w.advance(time.Second)
			w.rig.tick() // Unlike w.tick, it does not accept acks.
			acks := w.pendingTo(maintenance.AckPath)
			if len(acks) != 1 {
				t.Fatalf("%d acks wait for an answer, want 1", len(acks))
			}

			w.rig.answer(acks[0], status, "")
			w.rig.tick()
			if n := len(w.pendingTo(maintenance.AckPath)); n != 0 {
				t.Errorf("after the status %d there were %d acks at once", status, n)
			}
		}

		wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
	})
}

// state_age is the number of seconds since the controller's last answer, or since the start if
// there was none. The leader sets it once a second, so that it may lag by as much.
func TestStateAgeIsTimeSinceContact(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.runFor(7 * time.Second)
		if age := w.metric("drydock.edge.state_age"); age < 5 || age > 7 {
			t.Errorf("state_age = %d after 7 s without a controller", age)
		}
		w.wantMetric("revision", 0)

		w.answerPoll(200, doc(1234, appIn(maintenance.Off)))
		w.runFor(time.Second)
		w.wantMetric("revision", 1234)
		if age := w.metric("drydock.edge.state_age"); age > 1 {
			t.Errorf("state_age = %d a second after the controller's answer", age)
		}

		w.answerPoll(0, "")
		w.runFor(100 * time.Second)
		if age := w.metric("drydock.edge.state_age"); age < 98 || age > 101 {
			t.Errorf("state_age = %d after 101 s", age)
		}
		w.wantMetric("revision", 1234)
	})
}
