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

// All tests of this file are about several VMs or plugins in one process, and so run
// compiled only.

// eachVersion runs a test as in today's Envoy and in an older one.
func eachVersion(t *testing.T, s setup, test func(t *testing.T, p *process)) {
	t.Helper()
	for _, s.envoy136 = range []bool{false, true} {
		t.Run(map[bool]string{false: "compiled", true: "compiled, Envoy 1.36"}[s.envoy136], func(t *testing.T) { test(t, newProcess(t, s)) })
	}
}

const (
	stateKey = "drydock/drydock/drydock/edge/state"
	headKey  = "drydock/drydock/drydock/edge/head"
	leaseKey = "drydock/drydock/drydock/edge/lease"
)

// sharedVersion is the version that the process's shared data names.
func (p *process) sharedVersion(key string) maintenance.Version {
	value, _, _ := p.host.SharedData("", key)
	head, _ := maintenance.ParseHead(value)
	return head.Version
}

// One VM of the process polls; all adopt what it gets within one tick, and each says so.
func TestOneVMPollsForAllCompiled(t *testing.T) {
	eachVersion(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		all := p.workers(4)
		p.runAll(all, time.Second)
		leader(t, all).answerPoll(200, doc(1, appIn(maintenance.NoAccess)))
		tickAll(all)
		proxies, vms := map[string]bool{}, map[string]bool{}
		for i, w := range all {
			if i > 0 { // the main thread sees no request
				refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
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
		// The same VM leads on for as long as it lives, and alone sets the gauges.
		first := leader(t, all)
		for _, w := range all {
			rigOf(w).vm.ResetCalls()
		}
		for range 30 {
			p.runAll(all, time.Second)
			if leader(t, all) != first {
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

// When the leader crashes, another VM polls when its lease is over; nobody does before.
func TestAnotherVMLeadsAfterACrashCompiled(t *testing.T) {
	eachVersion(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		p.crashes = true
		all := p.workers(3)
		tickAll(all)
		for i := range 3 {
			l := leader(t, all)
			l.answerPoll(200, doc(uint64(i+1), appIn(maintenance.Off)))
			p.runAll(all, time.Second)
			rigOf(l).vm.Crash(errCrash)
			all = slices.DeleteFunc(all, func(w *world) bool { return w == l })
			took := time.Duration(0)
			for ; took < 5*time.Second && !slices.ContainsFunc(all, (*world).hasPoll); took += tickPeriod {
				p.runAll(all, tickPeriod)
			}
			if took < 600*time.Millisecond || took > 1400*time.Millisecond {
				t.Errorf("another VM polled after %v", took)
			}
			if _, ask := leader(t, all).poll(); ask.Revision != uint64(i+1) {
				t.Errorf("it asked %+v", ask)
			}
		}
		leader(t, all).answerPoll(200, doc(9, appIn(maintenance.NoAccess)))
		refused(t, all[0].request("GET", "/", ""), maintenance.RuleNoAccess)
	})
}

// A VM whose lease has run out while it was busy stops polling; while two poll, whatever
// order their answers come in, nobody goes back, and nothing is counted as an error.
func TestTwoLeadersNeverGoBackCompiled(t *testing.T) {
	for _, c := range []struct {
		name         string
		first, other uint64
		late         bool // the busy VM has adopted what came first when its own answer comes
	}{{"newer first", 3, 2, false}, {"newer first, older late", 3, 2, true}, {"older first", 2, 3, false}, {"the same", 2, 2, false}, {"the same late", 2, 2, true}} {
		t.Run(c.name, func(t *testing.T) {
			eachVersion(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
				all := p.workers(1)
				busy, other := all[0], all[1]
				busy.follow(doc(1, appIn(maintenance.Off)))
				other.tick()
				// The busy one does not tick for two seconds.
				other.run(2 * time.Second)
				busy.poll()
				other.poll()
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
				// Once it knows that it leads no more, it does not poll again.
				if !c.late {
					busy.answerPoll(200, doc(9, appIn(maintenance.NoAccess)))
				}
				if busy.hasPoll() {
					t.Error("polls on although it does not lead")
				}
				p.runAll(all, 2*time.Second)
				if leader(t, all) != other {
					t.Error("the busy VM leads")
				}
			})
		})
	}
}

// Many VMs that publish at once, each on its own thread: the newest version stays, in
// shared data and in every VM.
func TestConcurrentPublishersKeepTheNewestCompiled(t *testing.T) {
	p := newProcess(t, setup{config: bootstrapConfig})
	all := p.workers(3)
	// Each takes the lease in turn, and so each has a poll.
	for _, w := range all {
		p.clock.Advance(2 * time.Second)
		w.tick()
		w.poll()
	}
	for round := range 30 {
		newest := uint64((round + 1) * 100)
		var wg sync.WaitGroup
		for i, w := range all {
			if !w.hasPoll() {
				p.clock.Advance(2 * time.Second)
				w.tick()
			}
			c, _ := w.poll()
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
	p.runAll(all, 1500*time.Millisecond)
	all[0].wantMetric("revision", 3000) // set, not added to, by whoever led
}

// A VM that comes later, with a new worker or in place of one that crashed, has the state
// before its first request. Its start calls nobody: Envoy also tries a configuration in a
// VM that it throws away.
func TestNewVMStartsWithTheStateCompiled(t *testing.T) {
	var started []string
	s := setup{config: bootstrapConfig, policy: wasmhost.FailReload, trace: func(c wasmhost.Call) {
		if c.Func == "proxy_http_call" && c.Callback != "proxy_on_tick" && c.Callback != "proxy_on_http_call_response" {
			started = append(started, c.String())
		}
	}}
	eachVersion(t, s, func(t *testing.T, p *process) {
		p.crashes = true
		w := p.worker("worker_0")
		w.follow(doc(1, appIn(maintenance.NoAccess)))

		later := p.worker("worker_1")
		refused(t, later.request("GET", "/", ""), maintenance.RuleNoAccess)
		m, err := module()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.host.Canary(m, wasmhost.VMConfig{}, p.pluginConfig(bootstrapConfig)); err != nil {
			t.Fatal(err)
		}

		before := w.lastAck()
		rigOf(w).vm.Crash(errCrash)
		p.clock.Advance(2 * time.Second)
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		w.tick()
		if a := w.lastAck(); a.Revision != 1 || a.VM == before.VM || a.Proxy != before.Proxy {
			t.Errorf("after the crash acknowledged %+v, before %+v", a, before)
		}
		if len(started) > 0 {
			t.Errorf("calls from the start of a plugin: %q", started)
		}
	})
}

// The id of the process is shared by its VMs and plugins, and another one after a hot
// restart.
func TestVMsShareTheProcessIDCompiled(t *testing.T) {
	ids := map[string]bool{}
	for range 2 {
		p := newProcess(t, setup{config: bootstrapConfig})
		for _, w := range append(p.workers(2), p.plugin(p.vm("worker_2"), `{"name": "other"}`)) {
			p.clock.Advance(2 * time.Second)
			w.tick()
			_, ask := w.poll()
			ids[ask.Proxy] = true
		}
		if len(ids) != 1 && len(ids) != 2 {
			t.Fatalf("ids: %v", slices.Collect(maps.Keys(ids)))
		}
	}
	if len(ids) != 2 {
		t.Errorf("two processes have the ids %v", slices.Collect(maps.Keys(ids)))
	}
}

// Plugins that follow different controllers do not mix, in one VM or in two, although
// without a vm_id (Istio) all share one namespace.
func TestPluginsOfDifferentControllersDoNotMixCompiled(t *testing.T) {
	configs := []string{
		`{"name": "edge"}`,
		`{"name": "inner"}`,
		`{"name": "edge", "controller": {"authority": "other.example.com"}}`,
		`{"name": "edge", "controller": {"cluster": "other"}}`,
	}
	for _, vms := range []int{1, len(configs)} {
		t.Run(fmt.Sprint(vms, " VMs"), func(t *testing.T) {
			eachVersion(t, setup{}, func(t *testing.T, p *process) {
				p.host.SetCluster("other", nil)
				var all []*world
				vm := p.vm("worker_0")
				for i, config := range configs {
					if i > 0 && vms > 1 {
						vm = p.vm(fmt.Sprint("worker_", i))
					}
					all = append(all, p.plugin(vm, config))
				}
				tickAll(all)
				var polls []call
				for _, w := range all {
					for _, c := range w.pending(maintenance.SyncPath) {
						if !slices.ContainsFunc(polls, func(o call) bool { return o.out == c.out }) {
							polls = append(polls, c)
						}
					}
				}
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
						passed(t, v)
					} else if refused(t, v, maintenance.RuleNoAccess); v.reply.body != fmt.Sprintf("Message %d\n", i) {
						t.Errorf("plugin %d answers %q", i, v.reply.body)
					}
				}
				// In a chain, the first that refuses does.
				if vms == 1 {
					s := wasmhost.NewStream(wasmhost.StreamConfig{}, rigOf(all[1]).plugin, rigOf(all[2]).plugin, rigOf(all[0]).plugin)
					s.RequestHeaders(wasmhost.Headers{{":method", "GET"}, {":path", "/"}, {":authority", "x"}}, true)
					if got := string(s.Downstream().Body); got != "Message 2\n" {
						t.Errorf("the chain answers %q", got)
					}
				}
			})
		})
	}
}

// A new configuration is a new plugin beside the old one, which lives until its last
// stream has ended: its held streams get their verdicts, and what it had asked for does
// no harm afterwards.
func TestReloadedPluginTakesOverCompiled(t *testing.T) {
	eachVersion(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		w := p.worker("worker_0")
		vm := rigOf(w).vm
		heldForState := w.begin("GET", "/", true)
		w.tick()
		fresh := p.plugin(vm, `{"name": "edge", "allow_on_headers_stop_iteration": true, "boot_wait": 9}`)
		rigOf(w).plugin.Remove()
		paused(t, heldForState.view())
		if fresh.tick(); len(w.pending(maintenance.SyncPath)) != 1 {
			t.Fatal("the new plugin polls beside the old one")
		}
		w.answerPoll(200, doc(1, appIn(maintenance.ReadOnly)))
		passed(t, heldForState.view())
		heldForBody := w.begin("POST", "/graphql", false, "content-type", "application/json")
		heldForState.end()
		fresh.tick()
		refused(t, fresh.request("POST", "/cart", "x"), maintenance.RuleMethod)

		// The old plugin goes with its last stream, its poll with it; the new one leads.
		heldForBody.send(aQuery, true)
		passed(t, heldForBody.view())
		heldForBody.end()
		if n := len(vm.Callouts()); n != 0 {
			t.Errorf("%d calls wait after the old plugin has gone", n)
		}
		fresh.run(1500 * time.Millisecond)
		fresh.answerPoll(200, doc(2, appIn(maintenance.NoAccess)))
		refused(t, fresh.request("GET", "/", ""), maintenance.RuleNoAccess)
		if a := fresh.lastAck(); a.Requests != 0 || a.Revision != 2 {
			t.Errorf("acknowledged %+v", a)
		}
	})
}

// When a VM crashes in the middle of a stream, that stream is answered 503 by Envoy, and
// the next one is decided by a new VM with the state.
func TestStreamsAfterACrashAreDecidedCompiled(t *testing.T) {
	eachVersion(t, setup{config: bootstrapConfig, policy: wasmhost.FailReload}, func(t *testing.T, p *process) {
		p.crashes = true
		all := []*world{p.worker("worker_0"), p.worker("worker_1")}
		all[0].follow(doc(1, appIn(maintenance.ReadOnly)))
		tickAll(all)
		w := all[0]
		waits := w.begin("POST", "/graphql", false, "content-type", "application/json")
		waits.send(aQuery[:9], false)
		p.clock.Advance(2 * time.Second)
		rigOf(w).vm.Crash(errCrash)
		waits.send(aQuery[9:], true)
		if s := waits.(*compiledExchange); s.Downstream().Status() != 503 || s.Upstream().Headers != nil {
			t.Errorf("the client saw %+v, the upstream %+v", s.Downstream(), s.Upstream())
		}
		waits.end()
		passed(t, w.graphQL(aQuery))
		refused(t, w.graphQL(aMutation), "graphql.mutation")
		// The other VM never noticed.
		refused(t, all[1].graphQL(aMutation), "graphql.mutation")
		p.runAll(all, 2*time.Second)
		if a := w.lastAck(); a.Requests != 0 || a.Revision != 1 {
			t.Errorf("acknowledged %+v", a)
		}
		leader(t, all)
	})
}

// Shared data in which something else has written does no lasting harm: every VM keeps
// its state, gets the next one, and nothing is read and parsed again at every tick.
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
		{"a document from the future", map[string]string{stateKey: head(9, 9) + garbage, headKey: head(9, 9)}},
		{"lease", map[string]string{leaseKey: garbage}},
		{"short lease", map[string]string{leaseKey: "x"}},
		{"all", map[string]string{headKey: garbage, stateKey: garbage, leaseKey: garbage}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachVersion(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
				all := p.workers(1)
				tickAll(all)
				leader(t, all).answerPoll(200, doc(1, appIn(maintenance.NoAccess)))
				tickAll(all)
				corrupt := func() {
					for key, value := range c.values {
						p.host.SetSharedData("", key, []byte(value), 0)
					}
				}
				// sync answers every poll, as the real controller does.
				revision := uint64(1)
				sync := func(document string) {
					for _, w := range all {
						for _, poll := range w.pending(maintenance.SyncPath) {
							var ask maintenance.SyncRequest
							if err := json.Unmarshal([]byte(poll.body), &ask); err != nil {
								t.Fatal(err)
							}
							if ask.Version.Compare(maintenance.Version{Epoch: 1, Revision: revision}) < 0 {
								w.answer(poll, 200, document)
							}
						}
					}
				}
				corrupt()
				p.runAll(all, 2*time.Second)
				for _, w := range all {
					refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
				}
				// A VM that comes now finds what there is, or asks for itself.
				corrupt()
				all = append(all, p.worker("worker_9"))
				for range 40 {
					p.runAll(all, tickPeriod)
					sync(doc(1, appIn(maintenance.NoAccess)))
				}
				refused(t, all[2].request("GET", "/", ""), maintenance.RuleNoAccess)
				// The next state reaches all.
				corrupt()
				revision = 2
				for range 40 {
					p.runAll(all, tickPeriod)
					sync(doc(2, appIn(maintenance.Off)))
				}
				for i, w := range all {
					if v := w.request("GET", "/", ""); v.reply != nil {
						t.Errorf("VM %d still refuses", i)
					}
				}
				// And now nothing big is read any more.
				p.runAll(all, 400*time.Millisecond)
				for _, w := range all {
					rigOf(w).vm.ResetCalls()
				}
				p.runAll(all, 10*time.Second)
				for _, w := range all {
					for _, calls := range rigOf(w).vm.Calls() {
						if calls.Func == "proxy_get_shared_data" && calls.Count > 200+2*34 {
							t.Errorf("%d reads of shared data in 200 ticks", calls.Count)
						}
					}
				}
				if n := len(p.logs("")); n > 12 {
					t.Errorf("%d lines were logged: %q", n, p.logs(""))
				}
			})
		})
	}
}

// A lease that somebody took before the clock was set back does not leave the process
// without a leader.
func TestLeaseFromBeforeTheClockWasSetBackExpiresCompiled(t *testing.T) {
	eachVersion(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
		p.crashes = true
		all := p.workers(1)
		tickAll(all)
		l := leader(t, all)
		rigOf(l).vm.Crash(errCrash)
		p.clock.Set(startTime.Add(-time.Hour))
		all = slices.DeleteFunc(all, func(w *world) bool { return w == l })
		p.runAll(all, time.Second)
		leader(t, all)
	})
}

// A stream that was let through keeps nothing of its request, however long it lasts.
func TestOpenStreamsKeepNoRequestCompiled(t *testing.T) {
	p := newProcess(t, setup{config: `{"name": "edge", "exempt": [{"path": "/healthz"}]}`})
	w := p.worker("worker_0")
	app := appIn(maintenance.ReadOnly)
	w.follow(doc(1, app))
	open := func(path string) {
		for range 1000 {
			passed(t, w.begin("GET", path, true, "cookie", strings.Repeat("x", 16<<10)).view())
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

// Ticks, acks, polls and states leave nothing behind.
func TestMemoryStaysFlatCompiled(t *testing.T) {
	p := newProcess(t, setup{config: bootstrapConfig})
	w := p.worker("worker_0")
	w.follow(doc(1, appIn(maintenance.NoAccess)))
	revision := uint64(1)
	work := func() {
		for range 40 {
			w.run(25 * tickPeriod)
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
