//go:build !wasm

package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The tests of this file are about values in shared data that the filter did not write. Shared data
// has one namespace per vm_id, which Istio leaves empty, so another module can overwrite our keys.
//
// A process (compiled_test.go) is an Envoy process, and a world (rig_test.go) one plugin in one of
// its VMs, together with a controller that the test plays.

// These are the keys in shared data. A key consists of "drydock", the controller's cluster and
// authority, the plugin's name, and what the value is. Cluster and authority are "drydock" unless
// the plugin configuration sets them.
const (
	keyPrefix = "drydock/" + "drydock/" + "drydock/" + "edge/"

	stateKey = keyPrefix + "state" // a head, and the state's document after it
	headKey  = keyPrefix + "head"  // a head: the version of the state, and the controller's last answer
	leaseKey = keyPrefix + "lease" // which VM leads, and until when
)

// sharedVersion returns the version in the head that a value begins with, zero if it has none.
func (p *process) sharedVersion(key string) maintenance.Version {
	value, _, _ := p.host.SharedData("", key)
	head, _ := maintenance.ParseHead(value)
	return head.Version
}

// corruption is a set of values that something else has written to shared data, by key.
type corruption struct {
	name   string
	values map[string]string
}

func corruptions() []corruption {
	garbage := strings.Repeat("garbage ", 10)
	head := func(epoch, revision uint64) string {
		version := maintenance.Version{Epoch: epoch, Revision: revision}
		return string(maintenance.Head{Version: version}.Append(nil))
	}

	return []corruption{
		{"the head is garbage", map[string]string{headKey: garbage}},
		{"the head is empty", map[string]string{headKey: ""}},
		{"the head is garbage of the right size", map[string]string{headKey: garbage[:maintenance.HeadSize]}},
		{"the head names a version whose document is not there", map[string]string{headKey: head(7, 7)}},
		{"the document is garbage", map[string]string{stateKey: garbage}},
		{"the document is empty", map[string]string{stateKey: ""}},
		{"the document is missing after its head", map[string]string{stateKey: head(1, 1)}},
		{"the document has another version than its own head", map[string]string{stateKey: head(1, 1) + doc(3, appIn(maintenance.Off))}},
		// The head promises a newer document, which then cannot be parsed.
		{"head and document claim a later version", map[string]string{stateKey: head(9, 9) + garbage, headKey: head(9, 9)}},
		{"the lease is garbage", map[string]string{leaseKey: garbage}},
		{"the lease is too short", map[string]string{leaseKey: "x"}},
		{"all are garbage", map[string]string{headKey: garbage, stateKey: garbage, leaseKey: garbage}},
	}
}

// testCorruption runs a test for each corruption. In the test's process, two VMs enforce the
// revision 1, which is in no-access, and corrupt overwrites shared data.
func testCorruption(t *testing.T, test func(t *testing.T, p *process, all []*world, corrupt func())) {
	t.Helper()
	for _, c := range corruptions() {
		t.Run(c.name, func(t *testing.T) {
			testProcess(t, setup{config: bootstrapConfig}, func(t *testing.T, p *process) {
				all := p.mainAndWorkers(1)
				tickAll(all)
				wantOneLeader(t, all).answerPoll(200, doc(1, appIn(maintenance.NoAccess)))
				tickAll(all)

				const overwrite = 0 // a cas that matches any value
				test(t, p, all, func() {
					for key, value := range c.values {
						p.host.SetSharedData("", key, []byte(value), overwrite)
					}
				})
			})
		})
	}
}

// Every VM keeps the state that it has.
func TestStateSurvivesCorruptSharedDataCompiled(t *testing.T) {
	testCorruption(t, func(t *testing.T, p *process, all []*world, corrupt func()) {
		corrupt()
		p.runAllFor(all, 2*time.Second)
		for _, w := range all {
			wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		}
	})
}

// A VM that starts with corrupt shared data gets the state: from the leader, which writes it again,
// or by polling for itself.
func TestNewVMGetsTheStateDespiteCorruptSharedDataCompiled(t *testing.T) {
	testCorruption(t, func(t *testing.T, p *process, all []*world, corrupt func()) {
		corrupt()
		added := p.worker("worker_9")
		p.serve(t, append(all, added), 1, doc(1, appIn(maintenance.NoAccess)))
		wantRefused(t, added.request("GET", "/", ""), maintenance.RuleNoAccess)
	})
}

// The next state reaches every VM, also one that has started meanwhile and polls for itself. Then
// no VM reads more of shared data than usual, and the log has not grown with every tick.
func TestNextStateReachesAllDespiteCorruptSharedDataCompiled(t *testing.T) {
	const maxLogLines = 12 // A line per tick would be 40 for each VM.

	testCorruption(t, func(t *testing.T, p *process, all []*world, corrupt func()) {
		corrupt()
		p.runAllFor(all, 2*time.Second)
		corrupt()
		all = append(all, p.worker("worker_9"))
		p.serve(t, all, 1, doc(1, appIn(maintenance.NoAccess)))

		corrupt()
		p.serve(t, all, 2, doc(2, appIn(maintenance.Off)))
		for i, w := range all {
			if o := w.request("GET", "/", ""); o.reply != nil {
				t.Errorf("VM %d still refuses", i)
			}
		}

		p.wantFewReads(t, all)
		if lines := p.logs(""); len(lines) > maxLogLines {
			t.Errorf("%d lines were logged: %q", len(lines), lines)
		}
	})
}

// serve runs all plugins for 2 s with a controller that has the document of a revision, epoch 1. It
// answers the polls that name an older version, and leaves the others open.
func (p *process) serve(t *testing.T, all []*world, revision uint64, document string) {
	t.Helper()
	current := maintenance.Version{Epoch: 1, Revision: revision}
	for range 2 * time.Second / tickPeriod {
		p.runAllFor(all, tickPeriod)
		for _, w := range all {
			for _, poll := range w.pendingTo(maintenance.SyncPath) {
				var request maintenance.SyncRequest
				if err := json.Unmarshal([]byte(poll.body), &request); err != nil {
					t.Fatal(err)
				}

				if request.Version.Compare(current) < 0 {
					w.answer(poll, 200, document)
				}
			}
		}
	}
}

// wantFewReads checks that no VM reads the document, which is long, at every tick: a tick reads the
// head, and the lease when that has to be renewed.
func (p *process) wantFewReads(t *testing.T, all []*world) {
	t.Helper()
	const (
		watched  = 10 * time.Second
		ticks    = watched / tickPeriod
		renewals = watched/leaseRenew + 1
		maxReads = int(ticks + 2*renewals) // reading the document as well would take 2*ticks
	)

	p.runAllFor(all, 400*time.Millisecond) // Let every VM adopt the state and try to take the lease.
	for _, w := range all {
		rigOf(w).vm.ResetCalls()
	}

	p.runAllFor(all, watched)
	for i, w := range all {
		for _, calls := range rigOf(w).vm.Calls() {
			if calls.Func == "proxy_get_shared_data" && int(calls.Count) > maxReads {
				t.Errorf("VM %d: %d reads of shared data in %d ticks, want at most %d", i, calls.Count, ticks, maxReads)
			}
		}
	}
}
