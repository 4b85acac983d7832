package wasmhost_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// This file is what the tests of the package share: a module to run, and a host that records what
// the module does. The module (testdata/guest) runs scripts: the configuration of a plugin has a
// line for each callback, with the operations that the plugin executes in it, for example
//
//	request_headers: get request :path; pause
//
// An operation logs its result as "operation = result", so that a test sees it as a message.

// guest returns the module of testdata/guest. The first call compiles it.
var guest = sync.OnceValue(func() *wasmhost.Module {
	dir, err := os.MkdirTemp("", "wasmhost")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	file := filepath.Join(dir, "guest.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", file, "./testdata/guest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build the guest: %v\n%s", err, out))
	}

	wasm, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	m, err := wasmhost.Compile(context.Background(), wasm)
	if err != nil {
		panic(err)
	}
	return m
})

// A process is a [wasmhost.Host] that records the log messages and the calls of its modules.
type process struct {
	*wasmhost.Host
	t     *testing.T
	mu    sync.Mutex
	logs  []wasmhost.LogEntry // since takeMessages was called last
	calls []wasmhost.Call     // since a test has set it to nil
}

// newProcess starts a process, which ends with the test.
func newProcess(t *testing.T, cfg wasmhost.Config) *process {
	p := &process{t: t}
	cfg.Log = func(e wasmhost.LogEntry) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.logs = append(p.logs, e)
	}

	cfg.Trace = func(c wasmhost.Call) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calls = append(p.calls, c)
	}

	p.Host = wasmhost.New(cfg)
	t.Cleanup(p.Close)
	return p
}

// startVM starts a VM of the guest.
func (p *process) startVM(cfg wasmhost.VMConfig) *wasmhost.VM {
	p.t.Helper()
	vm, err := p.NewVM(guest(), cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return vm
}

// startScript starts a plugin with a script, in a VM of its own on the thread worker_0.
func (p *process) startScript(script string) (*wasmhost.Plugin, *wasmhost.VM) {
	p.t.Helper()
	vm := p.startVM(wasmhost.VMConfig{Thread: "worker_0"})
	return p.startPlugin(vm, wasmhost.PluginConfig{Name: "p", RootID: "r", Configuration: []byte(script)}), vm
}

// startPlugin starts a plugin in a VM.
func (p *process) startPlugin(vm *wasmhost.VM, cfg wasmhost.PluginConfig) *wasmhost.Plugin {
	p.t.Helper()
	pl, err := vm.Plugin(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return pl
}

// takeMessages returns the log messages since it was called last.
func (p *process) takeMessages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()

	var out []string
	for _, e := range p.logs {
		out = append(out, e.Message)
	}
	p.logs = nil
	return out
}

// wantMessages checks the log messages since takeMessages or wantMessages was called last.
func (p *process) wantMessages(want ...string) {
	p.t.Helper()
	if got := p.takeMessages(); !slices.Equal(got, want) {
		p.t.Errorf("the module logged\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// tracedCalls returns the recorded calls of one host function, each as the line of [wasmhost.Call].
func (p *process) tracedCalls(function string) (lines []string) {
	return p.traced(func(c wasmhost.Call) bool { return c.Func == function })
}

// tracedCallbacks returns the recorded callbacks and host calls, except those of WASI, which Go's
// runtime makes.
func (p *process) tracedCallbacks() (lines []string) {
	return p.traced(func(c wasmhost.Call) bool { return c.Func == "" || strings.HasPrefix(c.Func, "proxy_") })
}

// traced returns the lines of the recorded calls that are selected.
func (p *process) traced(selected func(wasmhost.Call) bool) (lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, c := range p.calls {
		if selected(c) {
			lines = append(lines, c.String())
		}
	}
	return lines
}

// littleEndian returns a number as modules and Envoy exchange it, in 8 bytes.
func littleEndian(v uint64) string { return string(binary.LittleEndian.AppendUint64(nil, v)) }

// getRequest are the headers of a request without a body.
var getRequest = wasmhost.Headers{{":method", "GET"}, {":path", "/"}, {":authority", "a.example"}}
