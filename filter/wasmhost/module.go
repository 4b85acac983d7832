package wasmhost

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// maxMemoryPages is the limit of proxy-wasm-cpp-host on the memory of a module: 1 GiB (limits.h).
const maxMemoryPages = 1 << 14 // of 64 KiB each

// ErrModule is wrapped by the errors of [Compile] for a module that Envoy could not load.
var ErrModule = errors.New("not a proxy-wasm module that Envoy can load")

// Module is a compiled module. VMs of any number of hosts can be made from it.
type Module struct {
	runtime  wazero.Runtime // has the host functions as modules for the imports
	compiled wazero.CompiledModule
}

// A callback is a function of the module that the host calls: one of the runtime (initialization,
// memory allocation) or one of proxy-wasm.
type callback uint8

const (
	cbNone callback = iota // no callback is running
	cbInitialize
	cbStart
	cbMain
	cbMainVoid
	cbMalloc
	cbContextCreate
	cbVMStart
	cbConfigure
	cbTick
	cbQueueReady
	cbHTTPCallResponse
	cbRequestHeaders
	cbRequestBody
	cbRequestTrailers
	cbResponseHeaders
	cbResponseBody
	cbResponseTrailers
	cbLog
	cbDone
	cbDelete
	numCallbacks
)

// callbacks lists the exports that the host calls if the module has them, with the number of i32
// parameters and results that Envoy requires.
var callbacks = [numCallbacks]struct {
	name            string
	params, results int
}{
	cbInitialize:       {"_initialize", 0, 0},
	cbStart:            {"_start", 0, 0},
	cbMain:             {"main", 2, 1},
	cbMainVoid:         {"__main_void", 0, 1},
	cbMalloc:           {"proxy_on_memory_allocate", 1, 1},
	cbContextCreate:    {"proxy_on_context_create", 2, 0},
	cbVMStart:          {"proxy_on_vm_start", 2, 1},
	cbConfigure:        {"proxy_on_configure", 2, 1},
	cbTick:             {"proxy_on_tick", 1, 0},
	cbQueueReady:       {"proxy_on_queue_ready", 2, 0},
	cbHTTPCallResponse: {"proxy_on_http_call_response", 5, 0},
	cbRequestHeaders:   {"proxy_on_request_headers", 3, 1},
	cbRequestBody:      {"proxy_on_request_body", 3, 1},
	cbRequestTrailers:  {"proxy_on_request_trailers", 2, 1},
	cbResponseHeaders:  {"proxy_on_response_headers", 3, 1},
	cbResponseBody:     {"proxy_on_response_body", 3, 1},
	cbResponseTrailers: {"proxy_on_response_trailers", 2, 1},
	cbLog:              {"proxy_on_log", 1, 0},
	cbDone:             {"proxy_on_done", 1, 1},
	cbDelete:           {"proxy_on_delete", 1, 0},
}

// String returns the name of the callback, which is also the name of the export.
func (cb callback) String() string { return callbacks[cb].name }

// export returns the name under which the module exports the callback; ok reports whether it does.
// The name is that of the callback, except that Envoy prefers "malloc" for memory allocation.
func (m *Module) export(cb callback) (name string, ok bool) {
	exports := m.compiled.ExportedFunctions()
	if cb == cbMalloc && exports["malloc"] != nil {
		return "malloc", true
	}

	name = cb.String()
	return name, exports[name] != nil
}

// Compile translates a module to machine code, which takes about a second for each 2 MB; the VMs
// made from it start in milliseconds. It checks what Envoy checks on loading: the ABI version, the
// memory allocator, the signatures of the callbacks, and that every import is a function of the
// host. If one of them is wrong, the error wraps [ErrModule].
func Compile(ctx context.Context, wasm []byte) (_ *Module, err error) {
	ctx = experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0))
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithMemoryLimitPages(maxMemoryPages))
	defer func() {
		if err != nil {
			rt.Close(ctx)
		}
	}()

	compiled, err := rt.CompileModule(ctx, wasm)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	m := &Module{runtime: rt, compiled: compiled}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}

	for _, name := range []string{"env", "wasi_snapshot_preview1", "wasi_unstable"} {
		b := rt.NewHostModuleBuilder(name)
		for i := range hostFuncs {
			if f := &hostFuncs[i]; f.wasi == (name != "env") {
				params, results := f.signature()
				b.NewFunctionBuilder().WithGoModuleFunction(f, params, results).Export(f.name)
			}
		}

		if _, err := b.Instantiate(ctx); err != nil {
			return nil, fmt.Errorf("define the host module %s: %w", name, err)
		}
	}
	return m, nil
}

// Close frees the machine code. All VMs of the module must have been closed.
func (m *Module) Close() error { return m.runtime.Close(context.Background()) }

// Exports returns the sorted names of the functions that the module exports. The host calls only
// those callbacks that are among them.
func (m *Module) Exports() []string {
	var names []string
	for name := range m.compiled.ExportedFunctions() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// check reports why Envoy could not load the module.
func (m *Module) check() error {
	exports := m.compiled.ExportedFunctions()
	if exports["proxy_abi_version_0_2_0"] == nil && exports["proxy_abi_version_0_2_1"] == nil {
		return errors.New("it exports neither proxy_abi_version_0_2_0 nor proxy_abi_version_0_2_1")
	}
	if _, ok := m.export(cbMalloc); !ok {
		return errors.New("it exports neither malloc nor proxy_on_memory_allocate")
	}
	if len(m.compiled.ExportedMemories()) != 1 {
		return errors.New("it exports no memory")
	}

	for cb := cbInitialize; cb < numCallbacks; cb++ {
		name, ok := m.export(cb)
		if !ok {
			continue
		}

		want := callbacks[cb]
		if f := exports[name]; !allI32(f.ParamTypes(), want.params) || !allI32(f.ResultTypes(), want.results) {
			return fmt.Errorf("%s must take %d i32 and return %d", name, want.params, want.results)
		}
	}

	for _, imp := range m.compiled.ImportedFunctions() {
		module, name, _ := imp.Import()
		f := findHostFunc(module, name)
		if f == nil {
			return fmt.Errorf("it imports %s.%s, which the host does not have", module, name)
		}

		if params, results := f.signature(); !slices.Equal(params, imp.ParamTypes()) || !slices.Equal(results, imp.ResultTypes()) {
			return fmt.Errorf("it imports %s.%s with another signature than the host's", module, name)
		}
	}
	return nil
}

// checkLegacy returns an error if the module imports a function that Envoy did not have before
// proxy-wasm-cpp-host #533.
func (m *Module) checkLegacy() error {
	for _, imp := range m.compiled.ImportedFunctions() {
		module, name, _ := imp.Import()
		if findHostFunc(module, name).allowed&modernOnly != 0 {
			return fmt.Errorf("%w: it imports %s.%s, which older Envoys do not have", ErrModule, module, name)
		}
	}
	return nil
}

// allI32 reports whether types are n times i32.
func allI32(types []api.ValueType, n int) bool {
	return len(types) == n && !slices.ContainsFunc(types, func(t api.ValueType) bool { return t != api.ValueTypeI32 })
}
