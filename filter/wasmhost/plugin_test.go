package wasmhost_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

func TestFailReloadRestartsACrashedVMAfterTheBackoff(t *testing.T) {
	const config = "start: tick 1\nrequest_headers: shset k v 0; allocate 10\ntick: panic oops"
	clock := wasmhost.NewManualClock(time.Now())
	p := newProcess(t, wasmhost.Config{Clock: clock.Clock()})
	vm := p.vm(wasmhost.VMConfig{Thread: "worker_0"})
	one := p.add(vm, wasmhost.PluginConfig{Name: "one", Configuration: []byte(config), FailurePolicy: wasmhost.FailReload})
	two := p.add(vm, wasmhost.PluginConfig{Name: "two", Configuration: []byte("request_headers: log two"), FailurePolicy: wasmhost.FailReload, ReloadBackoff: time.Minute})
	three := p.add(vm, wasmhost.PluginConfig{Name: "three", FailurePolicy: wasmhost.FailClosed})
	status := func(pl *wasmhost.Plugin) int {
		s := pl.NewStream(wasmhost.StreamConfig{})
		s.RequestHeaders(get, true)
		s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, true)
		return s.Downstream().Status()
	}

	if got := status(one); got != 200 {
		t.Errorf("status %d before the crash", got)
	}

	old := one.NewStream(wasmhost.StreamConfig{})
	old.RequestHeaders(get, true)

	vm.Tick()
	if vm.Err() == nil {
		t.Fatal("the VM lives")
	}

	if got := status(one); got != 503 {
		t.Errorf("status %d within the backoff, want 503", got)
	}
	clock.Advance(time.Second)
	if got := status(one); got != 200 || vm.Err() != nil {
		t.Errorf("status %d after the backoff, %v", got, vm.Err())
	}
	if got := []int{status(two), status(three)}; !slices.Equal(got, []int{503, 503}) {
		t.Errorf("status %d of plugins that were not reloaded, want 503", got)
	}

	clock.Advance(time.Minute)
	if got := []int{status(two), status(three)}; !slices.Equal(got, []int{200, 503}) {
		t.Errorf("status %d after the longer backoff, want 200 and 503", got)
	}

	old.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, true)
	if got := old.Downstream().Status(); got != 503 {
		t.Errorf("a stream of the VM's old life was answered %d, want 503", got)
	}
	if v, _, _ := p.SharedData("", "k"); string(v) != "v" {
		t.Errorf("shared data went with the crash")
	}

	if err := vm.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := []int{status(one), status(two), status(three)}; !slices.Equal(got, []int{200, 200, 200}) {
		t.Errorf("status %d after Reload, want 200", got)
	}
}

func TestPluginsShareAVM(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	vm := p.vm(wasmhost.VMConfig{Thread: "worker_0"})
	cfg := wasmhost.PluginConfig{Name: "p", RootID: "r", Configuration: []byte("done: log bye\nrequest_headers: prop plugin_root_id")}
	first, again := p.add(vm, cfg), p.add(vm, cfg)
	if first != again {
		t.Error("the same configuration gave two plugins")
	}

	next := cfg
	next.RootID = "s"
	second := p.add(vm, next)
	if a, b := first.ContextID(), second.ContextID(); a != 1 || b != 2 {
		t.Errorf("root contexts are %d and %d", a, b)
	}

	for _, pl := range []*wasmhost.Plugin{first, second} {
		s := pl.NewStream(wasmhost.StreamConfig{})
		s.RequestHeaders(get, true)
		if s.ContextID(0) == 0 || s.ContextID(1) != 0 {
			t.Errorf("stream contexts are %d and %d", s.ContextID(0), s.ContextID(1))
		}
		s.Abort()
	}
	p.expect(`prop plugin_root_id = "r"`, `prop plugin_root_id = "s"`)

	first.Remove()
	p.expect()
	again.Remove()
	p.expect("bye")
	second.NewStream(wasmhost.StreamConfig{}).RequestHeaders(get, true)
	p.expect(`prop plugin_root_id = "s"`)

	p.calls = nil
	vm.Close()
	want := []string{"worker_0 > proxy_on_log(5)", "worker_0 > proxy_on_done(5)", "worker_0 < proxy_on_done[5] = 1", "worker_0 > proxy_on_delete(5)",
		"worker_0 > proxy_on_done(2)", `worker_0 proxy_on_done[2] proxy_log(info, "bye") = OK`, "worker_0 < proxy_on_done[2] = 1", "worker_0 > proxy_on_delete(2)"}
	if got := p.trace(""); !slices.Equal(got, want) {
		t.Errorf("closing called\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	vm.Close()
}

func TestPluginReportsWhyItDoesNotStart(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	cfg := wasmhost.PluginConfig{Name: "p", RootID: "r"}

	refused := p.vm(wasmhost.VMConfig{Configuration: []byte("refuse")})
	if _, err := refused.Plugin(cfg); !errors.Is(err, wasmhost.ErrStart) {
		t.Errorf("got %v, want ErrStart", err)
	}

	other := p.vm(wasmhost.VMConfig{})
	if _, err := other.Plugin(wasmhost.PluginConfig{Name: "q", Configuration: []byte("start: refuse")}); !errors.Is(err, wasmhost.ErrConfigure) || !strings.Contains(err.Error(), `"q"`) {
		t.Errorf("got %v, want ErrConfigure of q", err)
	}
	if _, err := other.Plugin(wasmhost.PluginConfig{Configuration: []byte("start: panic oops")}); err == nil || !errors.Is(err, other.Err()) {
		t.Errorf("got %v, want the crash", err)
	}
	if got := p.add(other, cfg); other.Err() != nil || got.ContextID() != 1 {
		t.Errorf("a plugin for a dead VM: %v, root context %d, want a new life", other.Err(), got.ContextID())
	}

	dead := p.add(other, cfg)
	other.Crash(errors.New("crashed"))
	if p.add(other, cfg) != dead || other.Err() != nil {
		t.Errorf("the same plugin for a dead VM: %v, want a new life", other.Err())
	}
}

func TestCanaryKeepsSharedData(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	if err := p.Canary(guest(), wasmhost.VMConfig{}, wasmhost.PluginConfig{Configuration: []byte("start: refuse")}); !errors.Is(err, wasmhost.ErrConfigure) {
		t.Errorf("got %v, want ErrConfigure", err)
	}
	if err := p.Canary(guest(), wasmhost.VMConfig{}, wasmhost.PluginConfig{Configuration: []byte("start: shset k v 0\ndone: log never")}); err != nil {
		t.Fatal(err)
	}

	p.plugin("start: shget k")
	p.expect(`shset k v 0 = "ok"`, `shget k = "v" 1`)
}
