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

// process is a Host with a recorder of log messages and calls.
type process struct {
	*wasmhost.Host
	t     *testing.T
	mu    sync.Mutex
	logs  []wasmhost.LogEntry
	calls []wasmhost.Call
}

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

func (p *process) vm(cfg wasmhost.VMConfig) *wasmhost.VM {
	p.t.Helper()
	vm, err := p.NewVM(guest(), cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return vm
}

// plugin starts a plugin with a script in a VM of its own.
func (p *process) plugin(script string) (*wasmhost.Plugin, *wasmhost.VM) {
	p.t.Helper()
	vm := p.vm(wasmhost.VMConfig{Thread: "worker_0"})
	return p.add(vm, wasmhost.PluginConfig{Name: "p", RootID: "r", Configuration: []byte(script)}), vm
}

func (p *process) add(vm *wasmhost.VM, cfg wasmhost.PluginConfig) *wasmhost.Plugin {
	p.t.Helper()
	pl, err := vm.Plugin(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return pl
}

// messages returns the log messages since the last call.
func (p *process) messages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()

	var out []string
	for _, e := range p.logs {
		out = append(out, e.Message)
	}
	p.logs = nil
	return out
}

// expect compares the log messages since the last call of messages or expect.
func (p *process) expect(want ...string) {
	p.t.Helper()
	if got := p.messages(); !slices.Equal(got, want) {
		p.t.Errorf("the module logged\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// trace returns the recorded calls of a host function, or of all but those of WASI if fn is "".
func (p *process) trace(fn string) (lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, c := range p.calls {
		if c.Func == fn || fn == "" && (c.Func == "" || strings.HasPrefix(c.Func, "proxy_")) {
			lines = append(lines, c.String())
		}
	}
	return lines
}

func le(v uint64) string { return string(binary.LittleEndian.AppendUint64(nil, v)) }

var get = wasmhost.Headers{{":method", "GET"}, {":path", "/"}, {":authority", "a.example"}}
