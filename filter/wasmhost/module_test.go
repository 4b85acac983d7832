package wasmhost_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file need modules that do what the proxy-wasm SDK and Go's runtime never do.
// They assemble them by hand, in the binary format of the WebAssembly core specification (section
// 5).

// raw is a module. All parameters and results of its functions are i32.
type raw struct {
	imports []rawImport
	funcs   []rawFunc
}

// rawImport is a host function that the module imports. An import comes before the functions of the
// module, so invoke(0) calls the first import.
type rawImport struct {
	module, name    string
	params, results int // their numbers
}

// rawFunc is a function that the module exports.
type rawFunc struct {
	name            string
	params, results int // their numbers
	body            []byte
}

// constant is the instruction i32.const, which pushes v onto the stack.
func constant(v int32) []byte { return append([]byte{0x41}, sleb(v)...) }

// constants pushes several numbers, which are then the arguments of a call.
func constants(vs []int32) (b []byte) {
	for _, v := range vs {
		b = append(b, constant(v)...)
	}
	return b
}

// invoke is the instruction call, of the function with that index.
func invoke(f int) []byte { return append([]byte{0x10}, uleb(f)...) }

var (
	drop        = []byte{0x1a} // drops the number on the stack
	unreachable = []byte{0x00} // crashes
)

// code joins instructions.
func code(parts ...[]byte) []byte { return slices.Concat(parts...) }

// uleb encodes an unsigned number in LEB128.
func uleb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// sleb encodes a signed number in LEB128.
func sleb(v int32) (b []byte) {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// name encodes a name: its length and its bytes.
func name(s string) []byte { return append(uleb(len(s)), s...) }

// vector encodes a list: the number of items and the items.
func vector(items ...[]byte) []byte { return append(uleb(len(items)), slices.Concat(items...)...) }

// wasm returns the module in the binary format.
func (m raw) wasm() []byte {
	const functionType, i32, function, memory, end = 0x60, 0x7f, 0x00, 0x02, 0x0b
	i32s := func(n int) []byte { return append(uleb(n), slices.Repeat([]byte{i32}, n)...) }
	typ := func(params, results int) []byte { return code([]byte{functionType}, i32s(params), i32s(results)) }

	var types, imports, funcs, exports, bodies [][]byte
	for _, f := range m.imports {
		imports = append(imports, code(name(f.module), name(f.name), []byte{function}, uleb(len(types))))
		types = append(types, typ(f.params, f.results))
	}

	exports = append(exports, code(name("memory"), []byte{memory, 0}))
	for i, f := range m.funcs {
		exports = append(exports, code(name(f.name), []byte{function}, uleb(len(m.imports)+i)))
		funcs = append(funcs, uleb(len(types)))
		types = append(types, typ(f.params, f.results))
		body := code(uleb(0), f.body, []byte{end}) // without local variables
		bodies = append(bodies, code(uleb(len(body)), body))
	}

	out := []byte("\x00asm\x01\x00\x00\x00")
	onePage := []byte{0, 1} // a memory of at least one page, 64 KiB, without a maximum
	for _, section := range []struct {
		id      byte
		content []byte
	}{
		{1, vector(types...)},
		{2, vector(imports...)},
		{3, vector(funcs...)}, // the type of each function
		{5, vector(onePage)},  // the memories
		{7, vector(exports...)},
		{10, vector(bodies...)},
	} {
		out = append(out, section.id)
		out = append(out, code(uleb(len(section.content)), section.content)...)
	}
	return out
}

// compile compiles the module, which Envoy must be able to load.
func (m raw) compile(t *testing.T) *wasmhost.Module {
	t.Helper()
	c, err := wasmhost.Compile(context.Background(), m.wasm())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// The functions that Envoy requires of every module. The allocator returns an address that no test
// uses for anything else.
var (
	abi      = rawFunc{name: "proxy_abi_version_0_2_1"}
	allocate = rawFunc{name: "proxy_on_memory_allocate", params: 1, results: 1, body: constant(1024)}
)

// Host functions to import.
var (
	tickPeriod = rawImport{"env", "proxy_set_tick_period_milliseconds", 1, 1}
	property   = rawImport{"env", "proxy_get_property", 4, 1}
	bufferOf   = rawImport{"env", "proxy_get_buffer_bytes", 5, 1}
	logLine    = rawImport{"env", "proxy_log", 3, 1}
	poll       = rawImport{"wasi_snapshot_preview1", "poll_oneoff", 4, 1}
	yield      = rawImport{"wasi_snapshot_preview1", "sched_yield", 0, 1}
	resolution = rawImport{"wasi_snapshot_preview1", "clock_res_get", 2, 1}
)

// Arguments of host functions.
var (
	logNothing   = []int32{2, 0, 0}          // of logLine: level info, no message
	pollNothing  = []int32{0, 0, 0, 64}      // of poll: no events, their number to address 64
	readNothing  = []int32{0, 0, 0, 4}       // of property: an empty path, the value to addresses 0 and 4
	readVMConfig = []int32{6, 0, 100, 8, 16} // of bufferOf: the VM's configuration, to addresses 8 and 16
	tick100ms    = []int32{100}              // of tickPeriod: milliseconds
)

// Envoy forbids most host calls during initialization and during memory allocation. Which it
// forbids has changed with proxy-wasm-cpp-host #533; "legacy" are the versions before.
func TestRestrictedCallsFailTheVM(t *testing.T) {
	const allowed = ""
	const within = " in proxy_on_memory_allocate within proxy_on_vm_start"

	tests := map[string]struct {
		module         raw
		modern, legacy string // the violation, or allowed
	}{
		"tick period at start":   {inStart(tickPeriod, tick100ms), "proxy_set_tick_period_milliseconds in _initialize", "proxy_set_tick_period_milliseconds in _initialize"},
		"log at start":           {inStart(logLine, logNothing), allowed, allowed},
		"poll at start":          {inStart(poll, pollNothing), allowed, "poll_oneoff in _initialize"},
		"yield at start":         {inStart(yield, nil), "sched_yield in _initialize", "sched_yield in _initialize"},
		"property in allocation": {inMalloc(property, readNothing), "proxy_get_property" + within, "proxy_get_property" + within},
		"log in allocation":      {inMalloc(logLine, logNothing), allowed, allowed},
		"poll in allocation":     {inMalloc(poll, pollNothing), allowed, "poll_oneoff" + within},
		"yield in allocation":    {inMalloc(yield, nil), "sched_yield" + within, "sched_yield" + within},
	}

	for name, tt := range tests {
		m := tt.module.compile(t)
		for _, legacy := range []bool{false, true} {
			want := tt.modern
			if legacy {
				name, want = name+", legacy", tt.legacy
			}
			t.Run(name, func(t *testing.T) { wantViolation(t, m, legacy, want) })
		}
	}
}

// inStart returns a module that makes a host call during initialization.
func inStart(imp rawImport, args []int32) raw {
	initialize := rawFunc{name: "_initialize", body: code(constants(args), invoke(0), drop)}
	return raw{[]rawImport{imp}, []rawFunc{abi, allocate, initialize}}
}

// inMalloc returns a module that makes a host call during memory allocation. The host allocates
// when the module reads the configuration of the VM.
func inMalloc(imp rawImport, args []int32) raw {
	vmStart := rawFunc{name: "proxy_on_vm_start", params: 2, results: 1,
		body: code(constants(readVMConfig), invoke(0), drop, constant(1))}
	malloc := rawFunc{name: "proxy_on_memory_allocate", params: 1, results: 1,
		body: code(constants(args), invoke(1), drop, constant(1024))}
	return raw{[]rawImport{bufferOf, imp}, []rawFunc{abi, vmStart, malloc}}
}

// wantViolation starts the module and checks that it fails with a violation whose text begins with
// want, or starts without one if want is "".
func wantViolation(t *testing.T, m *wasmhost.Module, legacy bool, want string) {
	p := newProcess(t, wasmhost.Config{LegacyWASI: legacy})
	vm, err := p.NewVM(m, wasmhost.VMConfig{Thread: "worker_0", Configuration: []byte("abc")})
	if err == nil {
		_, err = vm.Plugin(wasmhost.PluginConfig{Name: "p"})
	}
	if want == "" {
		if err != nil || len(p.Violations()) > 0 {
			t.Errorf("got %v and %v, want no error", err, p.Violations())
		}
		return
	}

	v, ok := errors.AsType[*wasmhost.Violation](err)
	if !ok || !strings.HasPrefix(v.Error(), want+": ") || v.Thread != "worker_0" {
		t.Errorf("got %v, want the violation %s on worker_0", err, want)
	}
	if !slices.Equal(p.Violations(), []*wasmhost.Violation{v}) {
		t.Errorf("the host recorded %v, want the same violation", p.Violations())
	}
}

// The host calls only the callbacks that the module exports: here, the one for request headers,
// which continues.
func TestMissingCallbacksMeanContinue(t *testing.T) {
	requestHeaders := rawFunc{name: "proxy_on_request_headers", params: 3, results: 1, body: constant(0)}
	m := raw{nil, []rawFunc{abi, allocate, requestHeaders}}.compile(t)
	if got, want := m.Exports(), []string{"proxy_abi_version_0_2_1", "proxy_on_memory_allocate", "proxy_on_request_headers"}; !slices.Equal(got, want) {
		t.Errorf("exports are %q, want %q", got, want)
	}

	p := newProcess(t, wasmhost.Config{})
	vm, err := p.NewVM(m, wasmhost.VMConfig{Thread: "worker_0"})
	if err != nil {
		t.Fatal(err)
	}

	pl := p.startPlugin(vm, wasmhost.PluginConfig{})
	s := pl.NewStream(wasmhost.StreamConfig{})
	s.RequestHeaders(wasmhost.Headers{{":method", "POST"}, {":path", "/"}}, false)
	s.RequestBody([]byte("abc"), true)
	s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, false)
	s.ResponseBody([]byte("def"), true)
	vm.Close()

	if up, down := s.Upstream(), s.Downstream(); string(up.Body) != "abc" || string(down.Body) != "def" || !s.Done() {
		t.Errorf("upstream saw %v, the client %v", up, down)
	}

	want := []string{"worker_0 > proxy_on_request_headers(2, 2, 0)", "worker_0 < proxy_on_request_headers[2] = 0"}
	if got := p.tracedCallbacks(); !slices.Equal(got, want) {
		t.Errorf("calls were\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A reactor has _initialize and may have main, a command has _start (the two kinds of modules of
// WASI). Each function logs, and the trace shows in which function the log was written.
func TestStartRunsAReactorOrACommand(t *testing.T) {
	logs := code(constants(logNothing), invoke(0), drop)
	initialize := rawFunc{name: "_initialize", body: logs}
	start := rawFunc{name: "_start", body: logs}
	mainWithArgs := rawFunc{name: "main", params: 2, results: 1, body: code(logs, constant(0))}
	mainWithout := rawFunc{name: "__main_void", results: 1, body: code(logs, constant(0))}
	p := newProcess(t, wasmhost.Config{})

	for name, tt := range map[string]struct {
		funcs []rawFunc
		want  string
	}{
		"reactor":           {[]rawFunc{initialize}, "_initialize"},
		"reactor with main": {[]rawFunc{initialize, mainWithArgs, start}, "_initialize main"},
		"main without args": {[]rawFunc{initialize, mainWithout}, "_initialize __main_void"},
		"command":           {[]rawFunc{start}, "_start"},
		"neither":           {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := raw{[]rawImport{logLine}, append([]rawFunc{abi, allocate}, tt.funcs...)}.compile(t)
			p.calls = nil
			if _, err := p.NewVM(m, wasmhost.VMConfig{}); err != nil {
				t.Fatal(err)
			}

			var got []string
			for _, c := range p.calls {
				if c.Func == "proxy_log" {
					got = append(got, c.Callback)
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("ran %q, want %q", got, tt.want)
			}
		})
	}

	t.Run("crash", func(t *testing.T) {
		m := raw{nil, []rawFunc{abi, allocate, {name: "_initialize", body: unreachable}}}.compile(t)
		vm, err := p.NewVM(m, wasmhost.VMConfig{})
		if vm != nil || err == nil || !strings.HasPrefix(err.Error(), "_initialize: wasm error: unreachable") {
			t.Errorf("got %v, %v", vm, err)
		}
	})
}

// The allocator of the module returns no address, or one from which three bytes reach beyond the
// memory of 65536 bytes. The host has read the value (it is in the trace) but cannot return it.
func TestFailedAllocationIsInvalidMemoryAccess(t *testing.T) {
	for name, addr := range map[string]int32{"null": 0, "outside": 65536 - 2} {
		t.Run(name, func(t *testing.T) {
			malloc := rawFunc{name: "malloc", params: 1, results: 1, body: constant(addr)}
			vmStart := rawFunc{name: "proxy_on_vm_start", params: 2, results: 1, body: code(constants(readVMConfig), invoke(0))}
			m := raw{[]rawImport{bufferOf}, []rawFunc{abi, malloc, vmStart}}.compile(t)

			p := newProcess(t, wasmhost.Config{})
			vm, err := p.NewVM(m, wasmhost.VMConfig{Configuration: []byte("abc")})
			if err != nil {
				t.Fatal(err)
			}

			p.startPlugin(vm, wasmhost.PluginConfig{})
			if got := p.tracedCalls("proxy_get_buffer_bytes"); len(got) != 1 || !strings.HasSuffix(got[0], `= InvalidMemoryAccess "abc"`) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestCompileChecksABIAndImports(t *testing.T) {
	ok := []rawFunc{abi, allocate}
	for name, tt := range map[string]struct {
		wasm []byte
		want string
	}{
		"not wasm":         {[]byte("hello"), "invalid magic number"},
		"no abi":           {raw{nil, []rawFunc{allocate}}.wasm(), "proxy_abi_version_0_2_1"},
		"old abi":          {raw{nil, []rawFunc{allocate, {name: "proxy_abi_version_0_1_0"}}}.wasm(), "proxy_abi_version_0_2_1"},
		"no allocator":     {raw{nil, []rawFunc{abi}}.wasm(), "neither malloc nor proxy_on_memory_allocate"},
		"signature":        {raw{nil, append(ok, rawFunc{name: "proxy_on_tick", params: 2})}.wasm(), "proxy_on_tick must take 1 i32 and return 0"},
		"unknown import":   {raw{[]rawImport{{"env", "proxy_dance", 0, 1}}, ok}.wasm(), "imports env.proxy_dance"},
		"unknown module":   {raw{[]rawImport{{"elsewhere", "proxy_log", 3, 1}}, ok}.wasm(), "imports elsewhere.proxy_log"},
		"wrong module":     {raw{[]rawImport{{"env", "poll_oneoff", 4, 1}}, ok}.wasm(), "imports env.poll_oneoff"},
		"import signature": {raw{[]rawImport{{"env", "proxy_log", 2, 1}}, ok}.wasm(), "imports env.proxy_log with another signature"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := wasmhost.Compile(context.Background(), tt.wasm)
			if m != nil || !errors.Is(err, wasmhost.ErrModule) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}

	t.Run("legacy", func(t *testing.T) { // older versions of Envoy do not have clock_res_get
		m := raw{[]rawImport{resolution}, ok}.compile(t)
		p := newProcess(t, wasmhost.Config{LegacyWASI: true})
		if _, err := p.NewVM(m, wasmhost.VMConfig{}); !errors.Is(err, wasmhost.ErrModule) || !strings.Contains(err.Error(), "clock_res_get") {
			t.Errorf("got %v, want that clock_res_get is missing", err)
		}
	})
}
