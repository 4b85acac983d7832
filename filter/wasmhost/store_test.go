package wasmhost_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The operations are shget key, which logs the value and its cas, and shset key value cas. A write
// with cas 0 overwrites; any other cas must be that of the existing value.
func TestSharedDataIsPerVMIDAndComparesCAS(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	run := func(vmID, script string) *wasmhost.VM {
		vm := p.startVM(wasmhost.VMConfig{ID: vmID})
		p.startPlugin(vm, wasmhost.PluginConfig{Configuration: []byte("start: " + script)})
		return vm
	}

	const casMismatch = "error status returned by host: cas mismatch"
	const notFound = "error status returned by host: not found"

	first := run("a", "shget k; shset k one 0xffffffff; shget k; "+
		"shset k two 0xffffffff; shset k two 99; shset k two 1; shget k; "+
		"shset k three 0; shget k; "+
		"shset empty - 0; shget empty")
	p.wantMessages("shget k = "+notFound+" 0", `shset k one 0xffffffff = "ok"`, `shget k = "one" 1`,
		"shset k two 0xffffffff = "+casMismatch, "shset k two 99 = "+casMismatch, `shset k two 1 = "ok"`, `shget k = "two" 2`,
		`shset k three 0 = "ok"`, `shget k = "three" 3`,
		`shset empty - 0 = "ok"`, `shget empty = "" 4`)
	second := run("a", "shget k")
	p.wantMessages(`shget k = "three" 3`)

	run("b", "shget k; shset k other 7")
	p.wantMessages("shget k = "+notFound+" 0", `shset k other 7 = "ok"`)

	if v, cas, ok := p.SharedData("a", "k"); string(v) != "three" || cas != 3 || !ok {
		t.Errorf("got %q, %d, %t", v, cas, ok)
	}
	if st := p.SetSharedData("a", "k", []byte("x"), 99); st != wasmhost.StatusCasMismatch {
		t.Errorf("got %v", st)
	}
	if st := p.SetSharedData("a", "l", nil, 99); st != wasmhost.StatusOK { // a new key accepts any cas
		t.Errorf("got %v", st)
	}
	if got, want := fmt.Sprint(p.SharedKeys("a"), p.SharedKeys("b")), "[empty k l] [k]"; got != want {
		t.Errorf("keys are %s, want %s", got, want)
	}

	first.Close()
	if p.SharedKeys("a") == nil {
		t.Error("data went with the first of two VMs")
	}

	second.Close()
	if keys := p.SharedKeys("a"); keys != nil {
		t.Errorf("the last VM has gone, %q stay", keys)
	}

	if v, _, ok := newProcess(t, wasmhost.Config{}).SharedData("b", "k"); ok {
		t.Errorf("another process has %q", v)
	}
}

// The operation count adds one to a key, and tries again if another VM has written it in between.
func TestVMsInParallelShareDataByCAS(t *testing.T) {
	const workers, streams = 3, 50
	p := newProcess(t, wasmhost.Config{})
	p.Host = wasmhost.New(wasmhost.Config{}) // without the recorder, whose lock would order the VMs
	defer p.Close()

	var wg sync.WaitGroup
	for i := range workers {
		vm := p.startVM(wasmhost.VMConfig{Thread: fmt.Sprint("worker_", i)})
		pl := p.startPlugin(vm, wasmhost.PluginConfig{Configuration: []byte("request_headers: count k; counter c 1; register q; enqueue q x")})
		wg.Go(func() {
			for range streams {
				s := pl.NewStream(wasmhost.StreamConfig{})
				s.RequestHeaders(getRequest, true)
				s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, true)
				vm.Dispatch()
			}
		})
	}
	wg.Wait()

	v, _, _ := p.SharedData("", "k")
	m, _ := p.Metric("c")
	if string(v) != fmt.Sprint(workers*streams) || m.Value != workers*streams {
		t.Errorf("counted %s by CAS, %d by the counter, want %d", v, m.Value, workers*streams)
	}
}

// The owner has registered the queue and empties it when it is told that there are items. The
// sender, in another vm_id, has resolved it.
func TestQueueWakesTheVMThatRegisteredIt(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	owner := p.startVM(wasmhost.VMConfig{Thread: "owner", ID: "a"})
	p.startPlugin(owner, wasmhost.PluginConfig{Configuration: []byte("start: register q\nqueue: dequeue q; dequeue q")})

	sender := p.startVM(wasmhost.VMConfig{Thread: "sender", ID: "b"})
	p.startPlugin(sender, wasmhost.PluginConfig{Configuration: []byte("start: tick 1; resolve - q; resolve a q; enqueue q one\ntick: enqueue q two; dequeue q; dequeue q")})
	p.wantMessages("resolve - q = error status returned by host: not found")

	if n := sender.Dispatch(); n != 0 {
		t.Errorf("%d events for the sender", n)
	}
	if n := owner.Dispatch(); n != 1 {
		t.Errorf("%d events for the owner, want 1", n)
	}
	p.wantMessages(`dequeue q = "one"`, "dequeue q = error status returned by host: empty")

	sender.Tick() // a VM that has resolved the queue can empty it, too
	p.wantMessages(`dequeue q = "two"`, "dequeue q = error status returned by host: empty")
	select {
	case <-owner.Wake():
		owner.Dispatch()
	default:
		t.Error("the owner was not told")
	}
	p.wantMessages("dequeue q = error status returned by host: empty", "dequeue q = error status returned by host: empty")

	owner.Close()
	sender.Tick()
	p.wantMessages("enqueue q two = error status returned by host: not found", "dequeue q = error status returned by host: not found", "dequeue q = error status returned by host: not found")
}

// Two VMs run the same script, so that the second adds to the values of the first.
func TestMetricsAreSharedByAllVMs(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	for range 2 {
		p.startScript("start: counter c 3; gauge g 5; gauge g -2; histogram h 4; histogram h 6")
	}
	p.wantMessages("counter c 3 = 3", "gauge g 5 = 5", "gauge g -2 = 3", "counter c 3 = 6", "gauge g 5 = 8", "gauge g -2 = 6")

	want := []wasmhost.Metric{{Name: "c", Type: wasmhost.Counter, Value: 6}, {Name: "g", Type: wasmhost.Gauge, Value: 6},
		{Name: "h", Type: wasmhost.Histogram, Value: 20, Count: 4, Max: 6}}
	if got := p.Metrics(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	if m, ok := p.Metric("h"); !ok || m != want[2] {
		t.Errorf("got %v, %t", m, ok)
	}
	if m, ok := p.Metric("nope"); ok {
		t.Errorf("got %v", m)
	}

	_, vm := p.startScript("tick: counter c 0\nstart: tick 1")
	vm.Tick() // Envoy refuses to add nothing to a counter, and the SDK panics
	if err := vm.Err(); err == nil {
		t.Error("the VM lives")
	}
}
