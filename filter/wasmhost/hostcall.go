package wasmhost

import (
	"context"
	"slices"
	"strconv"

	"github.com/tetratelabs/wazero/api"
)

// When a host function may be called besides in ordinary callbacks, by the rules before (legacy) and since (modern)
// proxy-wasm-cpp-host #533: WasmBase::startVm and WasmBase::allocMemory.
const (
	initLegacy = 1 << iota
	initModern
	mallocLegacy
	mallocModern
	modernOnly // did not exist before

	inInit   = initLegacy | initModern
	inMalloc = mallocLegacy | mallocModern
)

// hostFunc is a function that the module may import. args describes its parameters, for their types, to check memory
// before fn runs, and for the trace, one letter each:
//
//	i  a number (i32)                 l  a number (i64)
//	b  bytes (address and size)       p  a property path (address and size)
//	m  pairs (address and size)       H  B  S  L  M  an i32: header map, buffer, stream, log level, metric type
//	r  where to put allocated bytes (two addresses)      w  q  where to put an i32, an i64
//
// A call reads parameters by their position in the wasm signature.
type hostFunc struct {
	name    string
	args    string
	wasi    bool
	allowed uint8
	fn      func(c call) Status
	index   int // in hostFuncs
}

type call struct {
	in    *instance
	stack []uint64
}

var hostFuncs = slices.Concat(proxyFuncs, wasiFuncs)

func init() {
	for i := range hostFuncs {
		hostFuncs[i].index = i
	}
}

// signature is the wasm type of the function.
func (f *hostFunc) signature() (params, results []api.ValueType) {
	for _, a := range f.args {
		switch a {
		case 'l':
			params = append(params, api.ValueTypeI64)
		case 'b', 'm', 'p', 'r':
			params = append(params, api.ValueTypeI32, api.ValueTypeI32)
		default:
			params = append(params, api.ValueTypeI32)
		}
	}
	if f.name != "proc_exit" {
		results = []api.ValueType{api.ValueTypeI32}
	}
	return params, results
}

// Call runs the function for the module; it makes f a wazero api.GoModuleFunction.
func (f *hostFunc) Call(ctx context.Context, _ api.Module, stack []uint64) {
	in := ctx.Value(instanceKey{}).(*instance)
	in.vm.calls[in.frame.callback][f.index]++
	if in.frame.restrict&^f.allowed != 0 {
		v := in.violation(in.frame.callback, f.name, "Envoy allows no such call in this phase")
		in.trace(f, stack, "restricted")
		panic(v)
	}
	in.results = in.results[:0]
	st := StatusInvalidMemoryAccess
	switch fault := in.vm.host.cfg.Fault; {
	case !in.memoryIsValid(f.args, stack):
	case fault != nil && !f.wasi && fault(f.name) != StatusOK:
		st = fault(f.name)
	default:
		st = f.fn(call{in, stack})
	}
	result := st.String()
	if f.wasi {
		result = errnoName(st)
	}
	in.trace(f, stack, result)
	stack[0] = uint64(st) // proc_exit has no result, but room for its parameter
}

// memoryIsValid tells whether all bytes that the parameters point to lie in the module's memory.
func (in *instance) memoryIsValid(args string, stack []uint64) bool {
	i := 0
	for _, a := range args {
		switch a {
		case 'b', 'm', 'p':
			if _, ok := in.mem.Read(uint32(stack[i]), uint32(stack[i+1])); !ok {
				return false
			}
			i += 2
		case 'r':
			i += 2
		default:
			i++
		}
	}
	return true
}

func (c call) u32(i int) uint32 { return uint32(c.stack[i]) }

// bytes are the bytes at the address in parameter i with the size in i+1. They belong to the module: whoever keeps them
// beyond the next allocation copies them.
func (c call) bytes(i int) []byte {
	b, _ := c.in.mem.Read(c.u32(i), c.u32(i+1))
	return b
}

func (c call) str(i int) string { return string(c.bytes(i)) }

func (c call) put32(i int, v uint32) Status {
	c.in.noteResult(func() string { return strconv.FormatUint(uint64(v), 10) })
	if !c.in.mem.WriteUint32Le(c.u32(i), v) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}

func (c call) put64(i int, v uint64) Status {
	c.in.noteResult(func() string { return strconv.FormatUint(v, 10) })
	if !c.in.mem.WriteUint64Le(c.u32(i), v) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}

// putBytes gives b to the module in memory that the module allocates, and puts its address and size where parameters i and
// i+1 say. Nothing is allocated for no bytes.
func (c call) putBytes(i int, b []byte) Status {
	c.in.noteResult(func() string { return quote(b) })
	return c.put(i, b)
}

func (c call) put(i int, b []byte) Status {
	var addr uint32
	if len(b) > 0 {
		note := c.in.results
		addr = c.in.malloc(uint32(len(b)))
		c.in.results = note
		if addr == 0 || !c.in.mem.Write(addr, b) {
			return StatusInvalidMemoryAccess
		}
	}
	if !c.in.mem.WriteUint32Le(c.u32(i), addr) || !c.in.mem.WriteUint32Le(c.u32(i+1), uint32(len(b))) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}

func findHostFunc(module, name string) *hostFunc {
	for i := range hostFuncs {
		if f := &hostFuncs[i]; f.name == name && f.wasi == (module == "wasi_snapshot_preview1" || module == "wasi_unstable") && (f.wasi || module == "env") {
			return f
		}
	}
	return nil
}
