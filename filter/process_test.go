//go:build !wasm

package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file are about several VMs or plugins in one Envoy process: which VM polls the
// controller, and what happens when VMs start, crash, or get a new configuration.
//
// Envoy runs one VM per worker and one in its main thread, and each VM has its own copy of the
// module. The VMs share only the shared data of the process. One of them, the leader, holds a lease
// there. It polls the controller, and writes each new state to shared data for the others.
//
// A process (compiled_test.go) is an Envoy process in wasmhost, whose clock the test moves. A world
// (rig_test.go) is one plugin in one VM, together with a controller that accepts acks, and leaves
// polls to the test. The SDK's emulator has only one VM, so all these tests run compiled only.

// takeOverTime is long enough for another VM to take the lease of a leader that has stopped: the
// lease expires, and each VM tries to take it once per leaseRenew.
const takeOverTime = maintenance.LeaseTime + leaseRenew + 4*tickPeriod

// testProcess runs a test with a process of Envoy 1.40 and with one of Envoy 1.36.
func testProcess(t *testing.T, s setup, test func(t *testing.T, p *process)) {
	t.Helper()
	for _, envoy136 := range []bool{false, true} {
		s.envoy136 = envoy136
		t.Run(compiledName(s), func(t *testing.T) { test(t, newProcess(t, s)) })
	}
}

// One VM of the process polls. All VMs adopt its state within one tick, and each acknowledges it.
func TestOneVMPollsForAllCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		all := p.mainAndWorkers(4)
		p.runAllFor(all, time.Second)
		wantOneLeader(t, all).answerPoll(200, doc(1, appIn(maintenance.NoAccess)))
		tickAll(all)

		proxies, vms := map[string]bool{}, map[string]bool{}
		for i, w := range all {
			wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)

			a := w.lastAck()
			if a.Revision != 1 {
				t.Errorf("VM %d acknowledged %+v, want revision 1", i, a)
			}
			proxies[a.Proxy], vms[a.VM] = true, true
		}

		if len(proxies) != 1 || len(vms) != len(all) {
			t.Errorf("the acks name %d proxies and %d VMs, want 1 and %d", len(proxies), len(vms), len(all))
		}
		if lines := p.logs(""); len(lines) != 0 {
			t.Errorf("logged %q", lines)
		}
	})
}

// A VM leads for as long as it lives. Only the leader sets the gauges that the VMs share.
func TestLeaderStaysAndSetsTheGaugesCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		all := p.mainAndWorkers(4)
		tickAll(all)
		leader := wantOneLeader(t, all)
		leader.answerPoll(200, doc(1, appIn(maintenance.NoAccess)))
		tickAll(all)

		for _, w := range all {
			rigOf(w).vm.ResetCalls()
		}
		for range 30 {
			p.runAllFor(all, time.Second)
			if wantOneLeader(t, all) != leader {
				t.Fatal("another VM leads")
			}
		}

		setsGauge := func(c wasmhost.CallCount) bool { return c.Func == "proxy_record_metric" }
		for i, w := range all {
			sets := slices.ContainsFunc(rigOf(w).vm.Calls(), setsGauge)
			if leads := w == leader; sets != leads {
				t.Errorf("VM %d: leads: %v, sets gauges: %v", i, leads, sets)
			}
		}
	})
}

// If the leader crashes, another VM polls as soon as the lease has expired, and not before.
func TestAnotherVMLeadsAfterACrashCompiled(t *testing.T) {
	// When the leader crashes, it has renewed its lease at most leaseRenew ago. When the lease
	// has expired, another VM notices after at most leaseRenew. Ticks make both inexact.
	const (
		earliest = maintenance.LeaseTime - leaseRenew - 2*tickPeriod
		latest   = maintenance.LeaseTime + leaseRenew + 2*tickPeriod
	)

	testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		p.expectCrashes = true
		all := p.mainAndWorkers(3)
		tickAll(all)

		revision := uint64(0)
		for len(all) > 1 {
			leader := wantOneLeader(t, all)
			revision++
			leader.answerPoll(200, doc(revision, appIn(maintenance.Off)))
			p.runAllFor(all, time.Second)
			all = crash(leader, all)

			waited := time.Duration(0)
			for waited < 5*time.Second && !slices.ContainsFunc(all, (*world).hasPoll) {
				p.runAllFor(all, tickPeriod)
				waited += tickPeriod
			}
			if waited < earliest || waited > latest {
				t.Errorf("another VM polled after %v, want %v to %v", waited, earliest, latest)
			}

			if _, request := wantOneLeader(t, all).wantOnePoll(); request.Revision != revision {
				t.Errorf("the new leader's poll was %+v, want revision %d", request, revision)
			}
		}

		// The last VM leads and enforces what the controller publishes.
		all[0].answerPoll(200, doc(revision+1, appIn(maintenance.NoAccess)))
		wantRefused(t, all[0].request("GET", "/", ""), maintenance.RuleNoAccess)
	})
}

// crash makes a VM crash, and returns the other worlds. The process must expect crashes.
func crash(crashed *world, all []*world) (others []*world) {
	rigOf(crashed).vm.Crash(errCrash)
	return slices.DeleteFunc(slices.Clone(all), func(w *world) bool { return w == crashed })
}

// A VM whose lease expired while it was busy does not know yet that it no longer leads, so that its
// poll and the new leader's are open at the same time. In whichever order these are answered, no VM
// goes back to an older state, nothing is counted as an error, and in the end the new leader leads.
func TestTwoLeadersNeverGoBackCompiled(t *testing.T) {
	for _, c := range []struct {
		name string
		// toNew and toOld are the revisions with which the controller answers the polls of the
		// new leader, which is answered first, and of the old one.
		toNew, toOld uint64
		// oldTicks is set if the old leader ticks between the two answers. It then notices that it
		// no longer leads, and adopts the new leader's state before its own answer arrives.
		oldTicks bool
	}{
		{"the new leader's answer is newer", 3, 2, false},
		{"the new leader's answer is newer and already adopted", 3, 2, true},
		{"the old leader's answer is newer", 2, 3, false},
		{"both answers are the same", 2, 2, false},
		{"both answers are the same, and one is already adopted", 2, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
				all := p.mainAndWorkers(1)
				oldLeader, newLeader := all[0], all[1]
				oldLeader.startWith(doc(1, appIn(maintenance.Off)))
				newLeader.tick()

				// Only newLeader ticks, as if the thread of oldLeader were busy.
				newLeader.runFor(takeOverTime)
				oldLeader.wantOnePoll()
				newLeader.wantOnePoll()

				newLeader.answerPoll(200, doc(c.toNew, appIn(maintenance.NoAccess)))
				if c.oldTicks {
					oldLeader.tick()
				}
				oldLeader.answerPoll(200, doc(c.toOld, appIn(maintenance.NoAccess)))

				newest := max(c.toNew, c.toOld)
				if v := p.sharedVersion(stateKey); v.Revision != newest {
					t.Errorf("shared data has %+v, want revision %d", v, newest)
				}
				tickAll(all)
				for _, w := range all {
					w.wantNewestAck(newest)
					w.wantMetric("errors", 0)
				}

				// Without a tick in between, the old leader has polled once more. After that answer
				// it knows that it no longer leads.
				if !c.oldTicks {
					oldLeader.answerPoll(200, doc(9, appIn(maintenance.NoAccess)))
				}
				if oldLeader.hasPoll() {
					t.Error("the old leader polls although it no longer leads")
				}

				p.runAllFor(all, takeOverTime)
				if wantOneLeader(t, all) != newLeader {
					t.Error("the old leader leads again")
				}
			})
		})
	}
}

// wantNewestAck checks that the last ack has a revision, and that no ack has a lower revision than
// the one before it.
func (w *world) wantNewestAck(revision uint64) {
	w.t.Helper()
	if a := w.lastAck(); a.Revision != revision {
		w.t.Errorf("acknowledged %+v, want revision %d", a, revision)
	}

	if !slices.IsSortedFunc(w.acks, func(a, b maintenance.Ack) int { return a.Version.Compare(b.Version) }) {
		w.t.Errorf("went back to an older state: %+v", w.acks)
	}
}

// If many VMs publish at the same time, each on its own thread, the newest version stays, in shared
// data and in every VM.
func TestConcurrentPublishersKeepTheNewestCompiled(t *testing.T) {
	const rounds = 30
	p := newProcess(t, setup{config: bootstrapConfig})
	all := p.mainAndWorkers(3)

	// VMs publish at the same time only if several polls are open. A VM that does not tick keeps
	// its poll when another one takes the lease, so the VMs tick one after the other, with enough
	// time between them for the lease to expire.
	lead := func(w *world) {
		p.clock.Advance(takeOverTime)
		w.tick()
	}
	for _, w := range all {
		lead(w)
		w.wantOnePoll()
	}

	for round := range rounds {
		newest := uint64((round + 1) * 100)
		var wg sync.WaitGroup
		for i, w := range all {
			if !w.hasPoll() {
				lead(w)
			}
			poll, _ := w.wantOnePoll()

			// Every VM gets another revision. Which VM gets the newest one changes by round.
			revision := newest - uint64((i+round)%len(all))
			wg.Go(func() {
				w.answer(poll, 200, doc(revision, appIn(maintenance.ReadOnly)))
				for range 3 {
					w.tick()
				}
			})
		}

		wg.Wait()
		tickAll(all)
		for _, key := range []string{stateKey, headKey} {
			if v := p.sharedVersion(key); v.Revision != newest {
				t.Fatalf("round %d: %s has %+v, want revision %d", round, key, v, newest)
			}
		}

		for _, w := range all {
			p.clock.Advance(time.Second) // The next ack is due.
			w.tick()
			if a := w.lastAck(); a.Revision != newest {
				t.Fatalf("round %d: acknowledged %+v, want revision %d", round, a, newest)
			}
		}
	}

	all[0].wantMetric("errors", 0)
	p.runAllFor(all, takeOverTime)
	// Had the leaders added to the gauge instead of setting it, it would be higher.
	all[0].wantMetric("revision", rounds*100)
}

// A VM that starts later, for a new worker, has the state before its first request.
func TestVMOfANewWorkerStartsWithTheStateCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		p.worker("worker_0").startWith(doc(1, appIn(maintenance.NoAccess)))

		added := p.worker("worker_1") // which has not ticked yet
		wantRefused(t, added.request("GET", "/", ""), maintenance.RuleNoAccess)
	})
}

// A VM that replaces a crashed one has the state before its first request. It acknowledges as
// another VM of the same proxy.
func TestVMInPlaceOfACrashedOneStartsWithTheStateCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig, policy: wasmhost.FailReload}, func(t *testing.T, p *process) {
		p.expectCrashes = true
		w := p.worker("worker_0")
		w.startWith(doc(1, appIn(maintenance.NoAccess)))
		before := w.lastAck()

		rigOf(w).vm.Crash(errCrash)
		p.clock.Advance(2 * reloadBackoff)
		// The request starts the new VM.
		wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)

		w.tick()
		if a := w.lastAck(); a.Revision != 1 || a.VM == before.VM || a.Proxy != before.Proxy {
			t.Errorf("after the crash acknowledged %+v, before %+v", a, before)
		}
	})
}

// reloadBackoff is the minimum time between two loads of a VM with Envoy's failure policy
// FAIL_RELOAD, by default (wasmhost.PluginConfig). After it, the next request to a crashed VM
// replaces the VM.
const reloadBackoff = time.Second

// The start of a plugin calls no other server. Envoy also starts each new configuration in a VM of
// its own, only to see whether it is valid, and then throws that VM away.
func TestStartOfAPluginMakesNoCallsCompiled(t *testing.T) {
	var calls []string
	trace := func(c wasmhost.Call) {
		started := c.Callback != "proxy_on_tick" && c.Callback != "proxy_on_http_call_response"
		if c.Func == "proxy_http_call" && started {
			calls = append(calls, c.String())
		}
	}

	s := setup{config: bootstrapConfig, policy: wasmhost.FailReload, trace: trace}
	testProcess(t, s, func(t *testing.T, p *process) {
		p.expectCrashes = true
		w := p.worker("worker_0")
		w.startWith(doc(1, appIn(maintenance.NoAccess)))

		// The state is in shared data from here on, so the next plugins adopt it at their start.
		p.worker("worker_1")
		if err := p.host.Canary(wantModule(t), wasmhost.VMConfig{}, p.pluginConfig(bootstrapConfig)); err != nil {
			t.Fatal(err)
		}
		rigOf(w).vm.Crash(errCrash)
		p.clock.Advance(2 * reloadBackoff)
		w.request("GET", "/", "")

		if len(calls) > 0 {
			t.Errorf("calls from the start of a plugin: %q", calls)
		}
	})
}

// The VMs and plugins of a process share its id. After a hot restart the id is another one.
func TestVMsShareTheProcessIDCompiled(t *testing.T) {
	idsOfNewProcess := func() []string {
		p := newProcess(t, setup{config: bootstrapConfig})
		ids := map[string]bool{}
		for _, w := range append(p.mainAndWorkers(2), p.plugin(p.vm("worker_2"), `{"name": "other"}`)) {
			p.clock.Advance(takeOverTime) // so that this VM leads and polls
			w.tick()
			_, request := w.wantOnePoll()
			ids[request.Proxy] = true
		}
		return slices.Collect(maps.Keys(ids))
	}

	first, second := idsOfNewProcess(), idsOfNewProcess()
	if len(first) != 1 || len(second) != 1 || first[0] == second[0] {
		t.Errorf("the ids of two processes are %q and %q, want one each", first, second)
	}
}

// Plugins that follow different controllers do not share a state, in one VM or in several. All of
// them use the same shared data, since its namespace is the vm_id, which Istio leaves empty.
func TestPluginsOfDifferentControllersDoNotMixCompiled(t *testing.T) {
	configs := []string{
		`{"name": "edge"}`,
		`{"name": "inner"}`,
		`{"name": "edge", "controller": {"authority": "other.example.com"}}`,
		`{"name": "edge", "controller": {"cluster": "other"}}`,
	}
	// The plugins with an even index get a state that refuses requests with a message of its own.
	// The others get a state in which nothing is on.
	refuses := func(i int) bool { return i%2 == 0 }
	message := func(i int) string { return fmt.Sprint("Message ", i) }

	for _, vms := range []int{1, len(configs)} {
		t.Run(fmt.Sprint(vms, " VMs"), func(t *testing.T) {
			testProcess(t, setup{}, func(t *testing.T, p *process) {
				p.host.SetCluster("other", nil)
				all := p.startPlugins(configs, vms)
				tickAll(all)
				polls := pollsOf(all)
				if len(polls) != len(configs) {
					t.Fatalf("%d polls, want one of each plugin", len(polls))
				}

				for i, poll := range polls {
					app := appIn(maintenance.Off)
					if refuses(i) {
						app = appIn(maintenance.NoAccess)
						app.Activations[0].Message = message(i)
					}
					epoch := uint64(1 + i) // A state that leaked would be newer than some others.
					all[i].answer(poll, 200, docOf(epoch, 1, app))
				}
				for range 3 {
					tickAll(all)
				}

				for i, w := range all {
					o := w.request("GET", "/", "")
					if !refuses(i) {
						wantPassed(t, o)
						continue
					}
					wantRefused(t, o, maintenance.RuleNoAccess)
					if o.reply.body != message(i)+"\n" {
						t.Errorf("plugin %d answers %q, want %q", i, o.reply.body, message(i))
					}
				}

				if vms == 1 {
					wantFirstRefusalInChain(t, all, message(2)+"\n")
				}
			})
		})
	}
}

// wantFirstRefusalInChain sends a request through a chain of filters, as in one HTTP connection
// manager. The first plugin lets it pass, and the other two refuse it: the second one answers.
func wantFirstRefusalInChain(t *testing.T, all []*world, body string) {
	t.Helper()
	chain := []*wasmhost.Plugin{rigOf(all[1]).plugin, rigOf(all[2]).plugin, rigOf(all[0]).plugin}
	s := wasmhost.NewStream(wasmhost.StreamConfig{}, chain...)
	s.RequestHeaders(wasmhost.Headers{{":method", "GET"}, {":path", "/"}, {":authority", "x"}}, endOfStream)

	if got := string(s.Downstream().Body); got != body {
		t.Errorf("the chain answers %q, want %q", got, body)
	}
}

// startPlugins starts a plugin for each configuration: all in one VM if vms is 1, otherwise each in
// a VM of its own.
func (p *process) startPlugins(configs []string, vms int) (all []*world) {
	p.t.Helper()
	vm := p.vm("worker_0")
	for i, config := range configs {
		if i > 0 && vms > 1 {
			vm = p.vm(fmt.Sprint("worker_", i))
		}
		all = append(all, p.plugin(vm, config))
	}
	return all
}

// pollsOf returns the polls that wait for an answer, in the order of the worlds that made them. A
// world sees the callouts of its whole VM, so a callout that two worlds see is returned once.
func pollsOf(all []*world) (polls []call) {
	for _, w := range all {
		for _, c := range w.pendingTo(maintenance.SyncPath) {
			if !slices.ContainsFunc(polls, func(o call) bool { return o.callout == c.callout }) {
				polls = append(polls, c)
			}
		}
	}
	return polls
}

// A new configuration starts a new plugin beside the old one in the same VM. The old plugin lives
// until its last stream ends, and leads until then. Its paused requests are decided, and the calls
// that it began do no harm afterwards.
func TestReloadedPluginTakesOverCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		oldPlugin := p.worker("worker_0")
		vm := rigOf(oldPlugin).vm
		pausedForState := oldPlugin.begin("GET", "/", endOfStream)
		oldPlugin.tick()

		newPlugin := p.plugin(vm, `{"name": "edge", "allow_on_headers_stop_iteration": true, "boot_wait": 9}`)
		rigOf(oldPlugin).plugin.Remove()
		wantPaused(t, pausedForState.outcomeSoFar())
		newPlugin.tick()
		if n := len(newPlugin.pendingTo(maintenance.SyncPath)); n != 1 {
			t.Fatalf("%d polls of this VM wait, want only the old plugin's", n)
		}

		// The old plugin still gets the state, for its own requests and for the new plugin's.
		oldPlugin.answerPoll(200, doc(1, appIn(maintenance.ReadOnly)))
		wantPassed(t, pausedForState.outcomeSoFar())
		pausedForBody := oldPlugin.beginGraphQL()
		pausedForState.disconnect()
		newPlugin.tick()
		wantRefused(t, newPlugin.request("POST", "/cart", "x"), maintenance.RuleMethod)

		// The old plugin ends with its last stream, and so does its poll.
		pausedForBody.send(aQuery, endOfStream)
		wantPassed(t, pausedForBody.outcomeSoFar())
		pausedForBody.disconnect()
		if n := len(vm.Callouts()); n != 0 {
			t.Errorf("%d calls wait after the old plugin has ended", n)
		}

		newPlugin.runFor(takeOverTime)
		newPlugin.answerPoll(200, doc(2, appIn(maintenance.NoAccess)))
		wantRefused(t, newPlugin.request("GET", "/", ""), maintenance.RuleNoAccess)
		if a := newPlugin.lastAck(); a.Requests != 0 || a.Revision != 2 {
			t.Errorf("acknowledged %+v, want revision 2 and no requests", a)
		}
	})
}

// If a VM crashes while a stream is open, Envoy answers that stream with 503. A new VM has the
// state and decides the next stream. The other VMs go on undisturbed.
func TestStreamsAfterACrashAreDecidedCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig, policy: wasmhost.FailReload}, func(t *testing.T, p *process) {
		p.expectCrashes = true
		crashing, other := p.worker("worker_0"), p.worker("worker_1")
		all := []*world{crashing, other}
		crashing.startWith(doc(1, appIn(maintenance.ReadOnly)))
		tickAll(all)

		open := crashing.beginGraphQL()
		open.send(aQuery[:9], moreFollows)
		p.clock.Advance(2 * reloadBackoff)
		rigOf(crashing).vm.Crash(errCrash)
		open.send(aQuery[9:], endOfStream)
		if s := open.(*compiledExchange); s.Downstream().Status() != 503 || s.Upstream().Headers != nil {
			t.Errorf("the client saw %+v, the upstream %+v", s.Downstream(), s.Upstream())
		}
		open.disconnect()

		wantPassed(t, crashing.graphQL(aQuery)) // This request starts the new VM.
		wantRefused(t, crashing.graphQL(aMutation), "graphql.mutation")
		wantRefused(t, other.graphQL(aMutation), "graphql.mutation")

		p.runAllFor(all, takeOverTime)
		if a := crashing.lastAck(); a.Requests != 0 || a.Revision != 1 {
			t.Errorf("acknowledged %+v, want revision 1 and no requests", a)
		}
		wantOneLeader(t, all)
	})
}

// A lease that a VM took before the clock was set back seems to run for an hour. It does not leave
// the process without a leader.
func TestLeaseFromBeforeTheClockWasSetBackExpiresCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		p.expectCrashes = true
		all := p.mainAndWorkers(1)
		tickAll(all)
		all = crash(wantOneLeader(t, all), all)

		p.clock.Set(startTime.Add(-time.Hour))
		p.runAllFor(all, time.Second)
		wantOneLeader(t, all)
	})
}
