//go:build !wasm

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file are about several VMs or plugins in one process. The emulator has only one
// of each, so they run compiled only.

// testProcess runs a test as in Envoy 1.40 and as in Envoy 1.36.
func testProcess(t *testing.T, s setup, test func(t *testing.T, p *process)) {
	t.Helper()
	for _, s.envoy136 = range []bool{false, true} {
		t.Run(compiledName(s), func(t *testing.T) { test(t, newProcess(t, s)) })
	}
}

const (
	stateKey = "drydock/drydock/drydock/edge/state"
	headKey  = "drydock/drydock/drydock/edge/head"
	leaseKey = "drydock/drydock/drydock/edge/lease"
)

// sharedVersion returns the version of a value in shared data.
func (p *process) sharedVersion(key string) maintenance.Version {
	value, _, _ := p.host.SharedData("", key)
	head, _ := maintenance.ParseHead(value)
	return head.Version
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
			if i > 0 { // Envoy's main thread has no requests.
				wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
			}

			a := w.lastAck()
			if a.Revision != 1 {
				t.Errorf("%d acknowledged %+v", i, a)
			}
			proxies[a.Proxy], vms[a.VM] = true, true
		}
		if len(proxies) != 1 || len(vms) != 5 {
			t.Errorf("%d proxies with %d VMs, want 1 with 5", len(proxies), len(vms))
		}

		// The same VM leads for as long as it lives. It alone sets the gauges.
		first := wantOneLeader(t, all)
		for _, w := range all {
			rigOf(w).vm.ResetCalls()
		}

		for range 30 {
			p.runAllFor(all, time.Second)
			if wantOneLeader(t, all) != first {
				t.Fatal("another VM leads")
			}
		}

		for i, w := range all {
			sets := slices.ContainsFunc(rigOf(w).vm.Calls(), func(c wasmhost.CallCount) bool { return c.Func == "proxy_record_metric" })
			if sets != (w == first) {
				t.Errorf("VM %d sets gauges: %v", i, sets)
			}
		}

		if n := len(p.logs("")); n != 0 {
			t.Errorf("logged %q", p.logs(""))
		}
	})
}

// If the leader crashes, another VM polls as soon as the lease has expired, and not before.
func TestAnotherVMLeadsAfterACrashCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		p.expectCrashes = true
		all := p.mainAndWorkers(3)
		tickAll(all)

		for i := range 3 {
			l := wantOneLeader(t, all)
			l.answerPoll(200, doc(uint64(i+1), appIn(maintenance.Off)))
			p.runAllFor(all, time.Second)
			rigOf(l).vm.Crash(errCrash)
			all = slices.DeleteFunc(all, func(w *world) bool { return w == l })

			took := time.Duration(0)
			for ; took < 5*time.Second && !slices.ContainsFunc(all, (*world).hasPoll); took += tickPeriod {
				p.runAllFor(all, tickPeriod)
			}

			if took < 600*time.Millisecond || took > 1400*time.Millisecond {
				t.Errorf("another VM polled after %v", took)
			}
			if _, request := wantOneLeader(t, all).wantOnePoll(); request.Revision != uint64(i+1) {
				t.Errorf("its poll was %+v", request)
			}
		}

		wantOneLeader(t, all).answerPoll(200, doc(9, appIn(maintenance.NoAccess)))
		wantRefused(t, all[0].request("GET", "/", ""), maintenance.RuleNoAccess)
	})
}

// A VM whose lease expired while it was busy stops polling. While two VMs poll, no VM goes back to
// an older state in whichever order the answers arrive, and nothing is counted as an error.
func TestTwoLeadersNeverGoBackCompiled(t *testing.T) {
	for _, c := range []struct {
		name         string
		first, other uint64
		late         bool // the busy VM has adopted the first answer before its own arrives
	}{
		{"newer first", 3, 2, false},
		{"newer first, older late", 3, 2, true},
		{"older first", 2, 3, false},
		{"the same", 2, 2, false},
		{"the same late", 2, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
				all := p.mainAndWorkers(1)
				busy, other := all[0], all[1]
				busy.startWith(doc(1, appIn(maintenance.Off)))
				other.tick()

				// The busy VM does not tick for two seconds.
				other.runFor(2 * time.Second)
				busy.wantOnePoll()
				other.wantOnePoll()

				other.answerPoll(200, doc(c.first, appIn(maintenance.NoAccess)))
				if c.late {
					busy.tick()
				}
				busy.answerPoll(200, doc(c.other, appIn(maintenance.NoAccess)))

				newest := max(c.first, c.other)
				if v := p.sharedVersion(stateKey); v.Revision != newest {
					t.Errorf("shared data holds %+v", v)
				}

				tickAll(all)
				for _, w := range all {
					if a := w.lastAck(); a.Revision != newest {
						t.Errorf("acknowledged %+v, want %d", a, newest)
					}
					last := uint64(0)
					for _, a := range w.acks {
						if a.Revision < last {
							t.Errorf("went back from %d to %d", last, a.Revision)
						}
						last = a.Revision
					}
					w.wantMetric("errors", 0)
				}

				// A VM that knows that it no longer leads does not poll again.
				if !c.late {
					busy.answerPoll(200, doc(9, appIn(maintenance.NoAccess)))
				}
				if busy.hasPoll() {
					t.Error("the busy VM polls although it does not lead")
				}

				p.runAllFor(all, 2*time.Second)
				if wantOneLeader(t, all) != other {
					t.Error("the busy VM leads")
				}
			})
		})
	}
}

// If many VMs publish at the same time, each on its own thread, the newest version stays, in shared
// data and in every VM.
func TestConcurrentPublishersKeepTheNewestCompiled(t *testing.T) {
	p := newProcess(t, setup{config: bootstrapConfig})
	all := p.mainAndWorkers(3)

	// Each VM takes the lease in turn, and therefore has a poll.
	for _, w := range all {
		p.clock.Advance(2 * time.Second)
		w.tick()
		w.wantOnePoll()
	}

	for round := range 30 {
		newest := uint64((round + 1) * 100)
		var wg sync.WaitGroup
		for i, w := range all {
			if !w.hasPoll() {
				p.clock.Advance(2 * time.Second)
				w.tick()
			}
			c, _ := w.wantOnePoll()
			wg.Go(func() {
				w.answer(c, 200, doc(newest-uint64((i+round)%len(all)), appIn(maintenance.ReadOnly)))
				for range 3 {
					w.tick()
				}
			})
		}

		wg.Wait()
		tickAll(all)
		for _, key := range []string{stateKey, headKey} {
			if v := p.sharedVersion(key); v.Revision != newest {
				t.Fatalf("round %d: %s holds %+v, want %d", round, key, v, newest)
			}
		}

		for _, w := range all {
			p.clock.Advance(time.Second)
			w.tick()
			if a := w.lastAck(); a.Revision != newest {
				t.Fatalf("round %d: acknowledged %+v, want %d", round, a, newest)
			}
		}
	}

	all[0].wantMetric("errors", 0)
	p.runAllFor(all, 1500*time.Millisecond)
	all[0].wantMetric("revision", 3000) // Each leader set it, and did not add to it.
}

// A VM that starts later, for a new worker or in place of a crashed one, has the state before its
// first request. Its start makes no calls, since Envoy also tries a configuration in a VM that it
// throws away.
func TestNewVMStartsWithTheStateCompiled(t *testing.T) {
	var started []string
	s := setup{config: bootstrapConfig, policy: wasmhost.FailReload, trace: func(c wasmhost.Call) {
		if c.Func == "proxy_http_call" && c.Callback != "proxy_on_tick" && c.Callback != "proxy_on_http_call_response" {
			started = append(started, c.String())
		}
	}}
	testProcess(t, s, func(t *testing.T, p *process) {
		p.expectCrashes = true
		w := p.worker("worker_0")
		w.startWith(doc(1, appIn(maintenance.NoAccess)))

		later := p.worker("worker_1")
		wantRefused(t, later.request("GET", "/", ""), maintenance.RuleNoAccess)
		m, err := buildModule()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.host.Canary(m, wasmhost.VMConfig{}, p.pluginConfig(bootstrapConfig)); err != nil {
			t.Fatal(err)
		}

		before := w.lastAck()
		rigOf(w).vm.Crash(errCrash)
		p.clock.Advance(2 * time.Second)
		wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		w.tick()
		if a := w.lastAck(); a.Revision != 1 || a.VM == before.VM || a.Proxy != before.Proxy {
			t.Errorf("after the crash acknowledged %+v, before %+v", a, before)
		}

		if len(started) > 0 {
			t.Errorf("calls from the start of a plugin: %q", started)
		}
	})
}

// The VMs and plugins of a process share its id. After a hot restart the id is another one.
func TestVMsShareTheProcessIDCompiled(t *testing.T) {
	ids := map[string]bool{}
	for processes := 1; processes <= 2; processes++ {
		p := newProcess(t, setup{config: bootstrapConfig})
		for _, w := range append(p.mainAndWorkers(2), p.plugin(p.vm("worker_2"), `{"name": "other"}`)) {
			p.clock.Advance(2 * time.Second)
			w.tick()
			_, request := w.wantOnePoll()
			ids[request.Proxy] = true
		}

		if len(ids) != processes {
			t.Fatalf("%d processes have the ids %v", processes, slices.Collect(maps.Keys(ids)))
		}
	}
}

// Plugins that follow different controllers do not share a state, in one VM or in several, although
// without a vm_id (Istio) all plugins share one namespace.
func TestPluginsOfDifferentControllersDoNotMixCompiled(t *testing.T) {
	configs := []string{
		`{"name": "edge"}`,
		`{"name": "inner"}`,
		`{"name": "edge", "controller": {"authority": "other.example.com"}}`,
		`{"name": "edge", "controller": {"cluster": "other"}}`,
	}
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

				for i, c := range polls { // in the order of the plugins
					app := appIn(maintenance.Off)
					if i%2 == 0 {
						app = appIn(maintenance.NoAccess)
						app.Activations[0].Message = fmt.Sprint("Message ", i)
					}
					all[i].answer(c, 200, docOf(uint64(1+i), 1, app))
				}
				for range 3 {
					tickAll(all)
				}

				for i, w := range all {
					v := w.request("GET", "/", "")
					if i%2 == 1 {
						wantPassed(t, v)
					} else if wantRefused(t, v, maintenance.RuleNoAccess); v.reply.body != fmt.Sprintf("Message %d\n", i) {
						t.Errorf("plugin %d answers %q", i, v.reply.body)
					}
				}

				// In a chain of plugins, the first one that refuses answers.
				if vms == 1 {
					s := wasmhost.NewStream(wasmhost.StreamConfig{}, rigOf(all[1]).plugin, rigOf(all[2]).plugin, rigOf(all[0]).plugin)
					s.RequestHeaders(wasmhost.Headers{{":method", "GET"}, {":path", "/"}, {":authority", "x"}}, endOfStream)
					if got := string(s.Downstream().Body); got != "Message 2\n" {
						t.Errorf("the chain answers %q", got)
					}
				}
			})
		})
	}
}

// startPlugins starts a plugin for each configuration, in one VM or each in its own.
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

// pollsOf returns the polls that wait. The plugins of a VM see the same callouts, which count once.
func pollsOf(all []*world) (polls []call) {
	for _, w := range all {
		for _, c := range w.pendingTo(maintenance.SyncPath) {
			if !slices.ContainsFunc(polls, func(o call) bool { return o.out == c.out }) {
				polls = append(polls, c)
			}
		}
	}
	return polls
}

// A new configuration starts a new plugin beside the old one, which lives until its last stream
// ends. Its paused requests are decided, and the calls that it began do no harm afterwards.
func TestReloadedPluginTakesOverCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		w := p.worker("worker_0")
		vm := rigOf(w).vm
		pausedForFirst := w.begin("GET", "/", endOfStream)
		w.tick()
		fresh := p.plugin(vm, `{"name": "edge", "allow_on_headers_stop_iteration": true, "boot_wait": 9}`)
		rigOf(w).plugin.Remove()

		wantPaused(t, pausedForFirst.outcomeSoFar())
		if fresh.tick(); len(w.pendingTo(maintenance.SyncPath)) != 1 {
			t.Fatal("the new plugin polls beside the old one")
		}

		w.answerPoll(200, doc(1, appIn(maintenance.ReadOnly)))
		wantPassed(t, pausedForFirst.outcomeSoFar())

		pausedBody := w.beginGraphQL()
		pausedForFirst.disconnect()
		fresh.tick()
		wantRefused(t, fresh.request("POST", "/cart", "x"), maintenance.RuleMethod)

		// The old plugin ends with its last stream, and so does its poll. The new one leads.
		pausedBody.send(aQuery, endOfStream)
		wantPassed(t, pausedBody.outcomeSoFar())
		pausedBody.disconnect()
		if n := len(vm.Callouts()); n != 0 {
			t.Errorf("%d calls wait after the old plugin has ended", n)
		}

		fresh.runFor(1500 * time.Millisecond)
		fresh.answerPoll(200, doc(2, appIn(maintenance.NoAccess)))
		wantRefused(t, fresh.request("GET", "/", ""), maintenance.RuleNoAccess)
		if a := fresh.lastAck(); a.Requests != 0 || a.Revision != 2 {
			t.Errorf("acknowledged %+v", a)
		}
	})
}

// If a VM crashes while a stream is open, Envoy answers that stream with 503. A new VM has the
// state and decides the next one.
func TestStreamsAfterACrashAreDecidedCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig, policy: wasmhost.FailReload}, func(t *testing.T, p *process) {
		p.expectCrashes = true
		all := []*world{p.worker("worker_0"), p.worker("worker_1")}
		all[0].startWith(doc(1, appIn(maintenance.ReadOnly)))
		tickAll(all)

		w := all[0]
		waits := w.beginGraphQL()
		waits.send(aQuery[:9], moreFollows)

		p.clock.Advance(2 * time.Second)
		rigOf(w).vm.Crash(errCrash)
		waits.send(aQuery[9:], endOfStream)
		if s := waits.(*compiledExchange); s.Downstream().Status() != 503 || s.Upstream().Headers != nil {
			t.Errorf("the client saw %+v, the upstream %+v", s.Downstream(), s.Upstream())
		}

		waits.disconnect()
		wantPassed(t, w.graphQL(aQuery))
		wantRefused(t, w.graphQL(aMutation), "graphql.mutation")
		// The other VM goes on undisturbed.
		wantRefused(t, all[1].graphQL(aMutation), "graphql.mutation")

		p.runAllFor(all, 2*time.Second)
		if a := w.lastAck(); a.Requests != 0 || a.Revision != 1 {
			t.Errorf("acknowledged %+v", a)
		}
		wantOneLeader(t, all)
	})
}

// If something else has overwritten shared data, that does no lasting harm. Every VM keeps its
// state and gets the next one, and does not read and parse the document at every tick.
func TestCorruptSharedDataDoesNoLastingHarmCompiled(t *testing.T) {
	garbage := strings.Repeat("garbage ", 10)
	head := func(epoch, revision uint64) string {
		return string(maintenance.Head{Version: maintenance.Version{Epoch: epoch, Revision: revision}}.Append(nil))
	}
	for _, c := range []struct {
		name   string
		values map[string]string
	}{
		{"head", map[string]string{headKey: garbage}},
		{"empty head", map[string]string{headKey: ""}},
		{"head of the size of one", map[string]string{headKey: garbage[:maintenance.HeadSize]}},
		{"head of another document", map[string]string{headKey: head(7, 7)}},
		{"document", map[string]string{stateKey: garbage}},
		{"empty document", map[string]string{stateKey: ""}},
		{"head without its document", map[string]string{stateKey: head(1, 1)}},
		{"document of another version", map[string]string{stateKey: head(1, 1) + doc(3, appIn(maintenance.Off))}},
		{"a document of a later version", map[string]string{stateKey: head(9, 9) + garbage, headKey: head(9, 9)}},
		{"lease", map[string]string{leaseKey: garbage}},
		{"short lease", map[string]string{leaseKey: "x"}},
		{"all", map[string]string{headKey: garbage, stateKey: garbage, leaseKey: garbage}},
	} {
		t.Run(c.name, func(t *testing.T) {
			testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
				all := p.mainAndWorkers(1)
				tickAll(all)
				wantOneLeader(t, all).answerPoll(200, doc(1, appIn(maintenance.NoAccess)))
				tickAll(all)
				corrupt := func() {
					for key, value := range c.values {
						p.host.SetSharedData("", key, []byte(value), 0)
					}
				}

				corrupt()
				p.runAllFor(all, 2*time.Second)
				for _, w := range all {
					wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
				}

				// A VM that starts now finds a state or polls for itself.
				corrupt()
				all = append(all, p.worker("worker_9"))
				p.serve(t, all, 1, doc(1, appIn(maintenance.NoAccess)))
				wantRefused(t, all[2].request("GET", "/", ""), maintenance.RuleNoAccess)

				// The next state reaches all VMs.
				corrupt()
				p.serve(t, all, 2, doc(2, appIn(maintenance.Off)))
				for i, w := range all {
					if v := w.request("GET", "/", ""); v.reply != nil {
						t.Errorf("VM %d still refuses", i)
					}
				}

				p.wantFewReads(t, all)
				if n := len(p.logs("")); n > 12 {
					t.Errorf("%d lines were logged: %q", n, p.logs(""))
				}
			})
		})
	}
}

// serve runs all plugins for 2 s, and answers the polls for what is older than a revision, as the
// controller does.
func (p *process) serve(t *testing.T, all []*world, revision uint64, document string) {
	t.Helper()
	for range 40 {
		p.runAllFor(all, tickPeriod)
		for _, w := range all {
			for _, poll := range w.pendingTo(maintenance.SyncPath) {
				var request maintenance.SyncRequest
				if err := json.Unmarshal([]byte(poll.body), &request); err != nil {
					t.Fatal(err)
				}

				if request.Version.Compare(maintenance.Version{Epoch: 1, Revision: revision}) < 0 {
					w.answer(poll, 200, document)
				}
			}
		}
	}
}

// wantFewReads checks that ticks read only short values of shared data.
func (p *process) wantFewReads(t *testing.T, all []*world) {
	t.Helper()
	p.runAllFor(all, 400*time.Millisecond)
	for _, w := range all {
		rigOf(w).vm.ResetCalls()
	}

	p.runAllFor(all, 10*time.Second)
	for _, w := range all {
		for _, calls := range rigOf(w).vm.Calls() {
			if calls.Func == "proxy_get_shared_data" && calls.Count > 200+2*34 {
				t.Errorf("%d reads of shared data in 200 ticks", calls.Count)
			}
		}
	}
}

// A lease that a VM took before the clock was set back does not leave the process without a leader.
func TestLeaseFromBeforeTheClockWasSetBackExpiresCompiled(t *testing.T) {
	testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		p.expectCrashes = true
		all := p.mainAndWorkers(1)
		tickAll(all)
		l := wantOneLeader(t, all)
		rigOf(l).vm.Crash(errCrash)

		p.clock.Set(startTime.Add(-time.Hour))
		all = slices.DeleteFunc(all, func(w *world) bool { return w == l })
		p.runAllFor(all, time.Second)
		wantOneLeader(t, all)
	})
}

// A stream that was let through keeps nothing of its request, for as long as it is open.
func TestOpenStreamsKeepNoRequestCompiled(t *testing.T) {
	p := newProcess(t, setup{config: `{"name": "edge", "exempt": [{"path": "/healthz"}]}`})
	w := p.worker("worker_0")
	app := appIn(maintenance.ReadOnly)
	w.startWith(doc(1, app))

	open := func(path string) {
		for range 1000 {
			wantPassed(t, w.begin("GET", path, endOfStream, "cookie", strings.Repeat("x", 16<<10)).outcomeSoFar())
		}
	}

	open("/")
	before := rigOf(w).vm.MemorySize()
	open("/")
	open("/healthz")
	after := rigOf(w).vm.MemorySize()

	t.Logf("memory: %d kB, with 2,000 more streams of 16 kB headers %d kB", before>>10, after>>10)
	if after > before+(8<<20) {
		t.Errorf("memory grew from %d to %d", before, after)
	}
}

// Ticks, acks, polls and states leave nothing in memory.
func TestMemoryStaysFlatCompiled(t *testing.T) {
	p := newProcess(t, setup{config: bootstrapConfig})
	w := p.worker("worker_0")
	w.startWith(doc(1, appIn(maintenance.NoAccess)))

	revision := uint64(1)
	work := func() {
		for range 40 {
			w.runFor(25 * tickPeriod)
			revision++
			w.answerPoll(200, doc(revision, appIn(maintenance.NoAccess)))
			w.request("GET", "/", "", "accept", "text/html")
		}
		w.acks = nil
	}

	for range 20 {
		work()
	}

	before := rigOf(w).vm.MemorySize()

	for range 40 {
		work()
	}
	after := rigOf(w).vm.MemorySize()

	t.Logf("memory: %d kB, after 40,000 ticks and 1,600 states %d kB", before>>10, after>>10)
	if after > before+before/10 {
		t.Errorf("memory grew from %d to %d", before, after)
	}
}
