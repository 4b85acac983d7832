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

// raw is a WebAssembly module assembled by hand, for what the SDK and Go's runtime do not do. All
// parameters and results are i32.
type raw struct {
	imports []rawImport
	funcs   []rawFunc
}

type rawImport struct {
	module, name    string
	params, results int
}

// rawFunc is an exported function with one local per parameter.
type rawFunc struct {
	name            string
	params, results int
	body            []byte
}

// The instructions i32.const, call, drop and unreachable.
func constant(v int32) []byte { return append([]byte{0x41}, sleb(v)...) }
func constants(vs []int32) (b []byte) {
	for _, v := range vs {
		b = append(b, constant(v)...)
	}
	return b
}

func invoke(f int) []byte { return append([]byte{0x10}, uleb(f)...) }

var (
	drop        = []byte{0x1a}
	unreachable = []byte{0x00}
)

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

func name(s string) []byte { return append(uleb(len(s)), s...) }

func vector(items ...[]byte) []byte { return append(uleb(len(items)), slices.Concat(items...)...) }

// wasm returns the module in the binary format.
func (m raw) wasm() []byte {
	i32 := func(n int) []byte { return append(uleb(n), slices.Repeat([]byte{0x7f}, n)...) }
	typ := func(params, results int) []byte { return code([]byte{0x60}, i32(params), i32(results)) }

	var types, imports, funcs, exports, bodies [][]byte
	for _, f := range m.imports {
		imports = append(imports, code(name(f.module), name(f.name), []byte{0}, uleb(len(types))))
		types = append(types, typ(f.params, f.results))
	}

	exports = append(exports, code(name("memory"), []byte{2, 0}))
	for i, f := range m.funcs {
		exports = append(exports, code(name(f.name), []byte{0}, uleb(len(m.imports)+i)))
		funcs = append(funcs, uleb(len(types)))
		types = append(types, typ(f.params, f.results))
		body := code([]byte{0}, f.body, []byte{0x0b})
		bodies = append(bodies, code(uleb(len(body)), body))
	}

	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range []struct {
		id   byte
		body []byte
	}{{1, vector(types...)}, {2, vector(imports...)}, {3, vector(funcs...)}, {5, []byte{1, 0, 1}}, {7, vector(exports...)}, {10, vector(bodies...)}} {
		out = append(out, s.id)
		out = append(out, code(uleb(len(s.body)), s.body)...)
	}
	return out
}

func (m raw) compile(t *testing.T) *wasmhost.Module {
	t.Helper()
	c, err := wasmhost.Compile(context.Background(), m.wasm())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var (
	abi        = rawFunc{name: "proxy_abi_version_0_2_1"}
	allocate   = rawFunc{name: "proxy_on_memory_allocate", params: 1, results: 1, body: constant(1024)}
	tickPeriod = rawImport{"env", "proxy_set_tick_period_milliseconds", 1, 1}
	property   = rawImport{"env", "proxy_get_property", 4, 1}
	bufferOf   = rawImport{"env", "proxy_get_buffer_bytes", 5, 1}
	logLine    = rawImport{"env", "proxy_log", 3, 1}
	poll       = rawImport{"wasi_snapshot_preview1", "poll_oneoff", 4, 1}
	yield      = rawImport{"wasi_snapshot_preview1", "sched_yield", 0, 1}
	resolution = rawImport{"wasi_snapshot_preview1", "clock_res_get", 2, 1}
)

// Envoy forbids most host calls during initialization and during memory allocation.
func TestRestrictedCallsFailTheVM(t *testing.T) {
	tests := map[string]struct {
		module         raw
		modern, legacy string // the violation, "" if it is allowed
	}{
		"tick period at start":   {inStart(tickPeriod, 100), "proxy_set_tick_period_milliseconds in _initialize", "proxy_set_tick_period_milliseconds in _initialize"},
		"log at start":           {inStart(logLine, 2, 0, 0), "", ""},
		"poll at start":          {inStart(poll, 0, 0, 0, 64), "", "poll_oneoff in _initialize"},
		"yield at start":         {inStart(yield), "sched_yield in _initialize", "sched_yield in _initialize"},
		"property in allocation": {inMalloc(property, 0, 0, 0, 4), "proxy_get_property in proxy_on_memory_allocate within proxy_on_vm_start", "proxy_get_property in proxy_on_memory_allocate within proxy_on_vm_start"},
		"log in allocation":      {inMalloc(logLine, 2, 0, 0), "", ""},
		"poll in allocation":     {inMalloc(poll, 0, 0, 0, 64), "", "poll_oneoff in proxy_on_memory_allocate within proxy_on_vm_start"},
		"yield in allocation":    {inMalloc(yield), "sched_yield in proxy_on_memory_allocate within proxy_on_vm_start", "sched_yield in proxy_on_memory_allocate within proxy_on_vm_start"},
	}

	for name, tt := range tests {
		m := tt.module.compile(t)
		for _, legacy := range []bool{false, true} {
			want := tt.modern
			if legacy {
				name, want = name+", legacy", tt.legacy
			}
			t.Run(name, func(t *testing.T) { expectViolation(t, m, legacy, want) })
		}
	}
}

// inStart returns a module that makes a host call during initialization.
func inStart(imp rawImport, args ...int32) raw {
	initialize := rawFunc{name: "_initialize", body: code(constants(args), invoke(0), drop)}
	return raw{[]rawImport{imp}, []rawFunc{abi, allocate, initialize}}
}

// inMalloc returns a module that makes a host call during memory allocation. The host allocates
// when the module reads the configuration of the VM.
func inMalloc(imp rawImport, args ...int32) raw {
	vmStart := rawFunc{name: "proxy_on_vm_start", params: 2, results: 1,
		body: code(constants([]int32{6, 0, 100, 8, 16}), invoke(0), drop, constant(1))}
	malloc := rawFunc{name: "proxy_on_memory_allocate", params: 1, results: 1,
		body: code(constants(args), invoke(1), drop, constant(1024))}
	return raw{[]rawImport{bufferOf, imp}, []rawFunc{abi, vmStart, malloc}}
}

// expectViolation starts the module and expects a violation, or none if want is "".
func expectViolation(t *testing.T, m *wasmhost.Module, legacy bool, want string) {
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
	if !ok || !strings.HasPrefix(v.Error(), want+": ") || v.Thread != "worker_0" || !slices.Equal(p.Violations(), []*wasmhost.Violation{v}) {
		t.Errorf("got %v and %v, want the violation %s", err, p.Violations(), want)
	}
}

// The host calls only the callbacks that are exported.
func TestMissingCallbacksMeanContinue(t *testing.T) {
	m := raw{[]rawImport{}, []rawFunc{abi, allocate, {name: "proxy_on_request_headers", params: 3, results: 1, body: constant(0)}}}.compile(t)
	if got, want := m.Exports(), []string{"proxy_abi_version_0_2_1", "proxy_on_memory_allocate", "proxy_on_request_headers"}; !slices.Equal(got, want) {
		t.Errorf("exports are %q, want %q", got, want)
	}

	p := newProcess(t, wasmhost.Config{})
	vm, err := p.NewVM(m, wasmhost.VMConfig{Thread: "worker_0"})
	if err != nil {
		t.Fatal(err)
	}

	pl := p.add(vm, wasmhost.PluginConfig{})
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
	if got := p.trace(""); !slices.Equal(got, want) {
		t.Errorf("calls were\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A reactor has _initialize and may have main, a command has _start.
func TestStartRunsAReactorOrACommand(t *testing.T) {
	say := func(n int32) []byte { return code(constant(2), constant(0), constant(n), invoke(0), drop) }
	p := newProcess(t, wasmhost.Config{})

	for name, tt := range map[string]struct {
		funcs []rawFunc
		want  string
	}{
		"reactor":           {[]rawFunc{{name: "_initialize", body: say(0)}}, "_initialize"},
		"reactor with main": {[]rawFunc{{name: "_initialize", body: say(0)}, {name: "main", params: 2, results: 1, body: code(say(1), constant(0))}, {name: "_start", body: say(0)}}, "_initialize main"},
		"main without args": {[]rawFunc{{name: "_initialize", body: say(0)}, {name: "__main_void", results: 1, body: code(say(1), constant(0))}}, "_initialize __main_void"},
		"command":           {[]rawFunc{{name: "_start", body: say(0)}}, "_start"},
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

// The module returns no address, or one outside of its memory.
func TestFailedAllocationIsInvalidMemoryAccess(t *testing.T) {
	for name, addr := range map[string]int32{"null": 0, "outside": 65534} {
		t.Run(name, func(t *testing.T) {
			m := raw{[]rawImport{bufferOf}, []rawFunc{abi, {name: "malloc", params: 1, results: 1, body: constant(addr)},
				{name: "proxy_on_vm_start", params: 2, results: 1, body: code(constant(6), constant(0), constant(100), constant(8), constant(16), invoke(0))}}}.compile(t)

			p := newProcess(t, wasmhost.Config{})
			vm, err := p.NewVM(m, wasmhost.VMConfig{Configuration: []byte("abc")})
			if err != nil {
				t.Fatal(err)
			}

			p.add(vm, wasmhost.PluginConfig{})
			if got := p.trace("proxy_get_buffer_bytes"); len(got) != 1 || !strings.HasSuffix(got[0], `= InvalidMemoryAccess "abc"`) {
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

	t.Run("legacy", func(t *testing.T) {
		m := raw{[]rawImport{resolution}, ok}.compile(t)
		p := newProcess(t, wasmhost.Config{LegacyWASI: true})
		if _, err := p.NewVM(m, wasmhost.VMConfig{}); !errors.Is(err, wasmhost.ErrModule) || !strings.Contains(err.Error(), "clock_res_get") {
			t.Errorf("got %v, want that clock_res_get is missing", err)
		}
	})
}
