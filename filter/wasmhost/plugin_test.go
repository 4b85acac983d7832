package wasmhost_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// Three plugins are in one VM, which crashes in the tick of the first. The first two ask for a
// reload, with different backoffs, and the third does not. A reload brings back only the plugin
// that asked for it.
func TestFailReloadRestartsACrashedVMAfterTheBackoff(t *testing.T) {
	const config = "start: tick 1\nrequest_headers: shset k v 0; allocate 10\ntick: panic oops"
	clock := wasmhost.NewManualClock(time.Now())
	p := newProcess(t, wasmhost.Config{Clock: clock.Clock()})
	vm := p.startVM(wasmhost.VMConfig{Thread: "worker_0"})
	one := p.startPlugin(vm, wasmhost.PluginConfig{ // with the default backoff of a second
		Name: "one", Configuration: []byte(config), FailurePolicy: wasmhost.FailReload,
	})
	two := p.startPlugin(vm, wasmhost.PluginConfig{
		Name: "two", Configuration: []byte("request_headers: log two"), FailurePolicy: wasmhost.FailReload, ReloadBackoff: time.Minute,
	})
	three := p.startPlugin(vm, wasmhost.PluginConfig{Name: "three", FailurePolicy: wasmhost.FailClosed})

	// status returns the status that the client of a new stream gets.
	status := func(pl *wasmhost.Plugin) int {
		s := pl.NewStream(wasmhost.StreamConfig{})
		s.RequestHeaders(getRequest, true)
		s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, true)
		return s.Downstream().Status()
	}

	if got := status(one); got != 200 {
		t.Errorf("status %d before the crash", got)
	}

	old := one.NewStream(wasmhost.StreamConfig{})
	old.RequestHeaders(getRequest, true)

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

// Two plugins are in one VM: the first was started twice with the same configuration, and therefore
// must be removed twice.
func TestPluginsShareAVM(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	vm := p.startVM(wasmhost.VMConfig{Thread: "worker_0"})
	cfg := wasmhost.PluginConfig{Name: "p", RootID: "r", Configuration: []byte("done: log bye\nrequest_headers: prop plugin_root_id")}
	first, again := p.startPlugin(vm, cfg), p.startPlugin(vm, cfg)
	if first != again {
		t.Error("the same configuration gave two plugins")
	}

	next := cfg
	next.RootID = "s"
	second := p.startPlugin(vm, next)
	if a, b := first.ContextID(), second.ContextID(); a != 1 || b != 2 {
		t.Errorf("root contexts are %d and %d", a, b)
	}

	for _, pl := range []*wasmhost.Plugin{first, second} {
		s := pl.NewStream(wasmhost.StreamConfig{})
		s.RequestHeaders(getRequest, true)
		if s.ContextID(0) == 0 || s.ContextID(1) != 0 {
			t.Errorf("stream contexts are %d and %d", s.ContextID(0), s.ContextID(1))
		}
		s.Abort()
	}
	p.wantMessages(`prop plugin_root_id = "r"`, `prop plugin_root_id = "s"`)

	first.Remove()
	p.wantMessages()
	again.Remove()
	p.wantMessages("bye")
	second.NewStream(wasmhost.StreamConfig{}).RequestHeaders(getRequest, true)
	p.wantMessages(`prop plugin_root_id = "s"`)

	p.calls = nil
	vm.Close()
	want := []string{ // 5 is the open stream and 2 the second plugin
		"worker_0 > proxy_on_log(5)",
		"worker_0 > proxy_on_done(5)",
		"worker_0 < proxy_on_done[5] = 1",
		"worker_0 > proxy_on_delete(5)",
		"worker_0 > proxy_on_done(2)",
		`worker_0 proxy_on_done[2] proxy_log(info, "bye") = OK`,
		"worker_0 < proxy_on_done[2] = 1",
		"worker_0 > proxy_on_delete(2)",
	}
	if got := p.tracedCallbacks(); !slices.Equal(got, want) {
		t.Errorf("closing called\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	vm.Close() // has no effect on a VM that is closed
}

func TestPluginReportsWhyItDoesNotStart(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})

	refuses := p.startVM(wasmhost.VMConfig{Configuration: []byte("refuse")})
	if _, err := refuses.Plugin(wasmhost.PluginConfig{Name: "p"}); !errors.Is(err, wasmhost.ErrStart) {
		t.Errorf("got %v, want ErrStart", err)
	}

	vm := p.startVM(wasmhost.VMConfig{})
	_, err := vm.Plugin(wasmhost.PluginConfig{Name: "q", Configuration: []byte("start: refuse")})
	if !errors.Is(err, wasmhost.ErrConfigure) || !strings.Contains(err.Error(), `"q"`) {
		t.Errorf("got %v, want ErrConfigure of q", err)
	}

	_, err = vm.Plugin(wasmhost.PluginConfig{Configuration: []byte("start: panic oops")})
	if err == nil || !errors.Is(err, vm.Err()) {
		t.Errorf("got %v, want the crash", err)
	}
}

func TestPluginRestartsACrashedVM(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	vm := p.startVM(wasmhost.VMConfig{})
	cfg := wasmhost.PluginConfig{Name: "p", RootID: "r"}
	const firstID = 1 // of the contexts in a new life of the module

	vm.Crash(errors.New("crashed"))
	started := p.startPlugin(vm, cfg)
	if id := started.ContextID(); vm.Err() != nil || id != firstID {
		t.Errorf("a new plugin: %v, root context %d, want a new life", vm.Err(), id)
	}

	vm.Crash(errors.New("crashed"))
	if again := p.startPlugin(vm, cfg); again != started || vm.Err() != nil {
		t.Errorf("the same plugin: %v, want the same plugin in a new life", vm.Err())
	}
}

// A canary is the temporary VM in which Envoy tries a configuration. It ends without on_done.
func TestCanaryKeepsSharedData(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	refused := wasmhost.PluginConfig{Configuration: []byte("start: refuse")}
	if err := p.Canary(guest(), wasmhost.VMConfig{}, refused); !errors.Is(err, wasmhost.ErrConfigure) {
		t.Errorf("got %v, want ErrConfigure", err)
	}

	accepted := wasmhost.PluginConfig{Configuration: []byte("start: shset k v 0\ndone: log never")}
	if err := p.Canary(guest(), wasmhost.VMConfig{}, accepted); err != nil {
		t.Fatal(err)
	}

	p.startScript("start: shget k")
	p.wantMessages(`shset k v 0 = "ok"`, `shget k = "v" 1`)
}
