package wasmhost

import (
	"context"
	"slices"
	"strconv"

	"github.com/tetratelabs/wazero/api"
)

// This file is the way of a host call from the module into the host: which functions a module may
// import, in which phase it may call them, and how a function reads its parameters from the wasm
// stack and returns values. The functions themselves are in abi.go (the table of proxy-wasm) and in
// wasi.go, and trace.go shows the calls. An instance is one life of a module in a VM (instance.go).

// The phases outside of ordinary callbacks in which a host function may be called: initialization
// (WasmBase::startVm) and memory allocation (WasmBase::allocMemory), by the rules before (legacy)
// and since (modern) proxy-wasm-cpp-host #533.
const (
	initLegacy = 1 << iota
	initModern
	mallocLegacy
	mallocModern
	modernOnly // the function did not exist before

	inInit   = initLegacy | initModern
	inMalloc = mallocLegacy | mallocModern
)

// hostFunc is a function that the module may import. args has a letter for each parameter, from
// which its wasm type, the check of its memory and its text in the trace are derived:
//
//	i  a number (i32)
//	l  a number (i64)
//	b  bytes (address and size)
//	p  a property path (address and size)
//	m  pairs (address and size)
//	H  a header map (i32)
//	B  a buffer (i32)
//	S  a stream (i32)
//	L  a log level (i32)
//	M  a metric type (i32)
//	r  where to return the address and the size of bytes for which the module allocates memory (two
//	   addresses)
//	w  where to return an i32 (address)
//	q  where to return an i64 (address)
//
// The comment on each function gives the same parameters by their indexes in the wasm signature.
type hostFunc struct {
	name    string
	args    string
	wasi    bool                // a function of WASI; otherwise of proxy-wasm
	allowed uint8               // the phases besides ordinary callbacks in which it may be called
	fn      func(c call) Status // a function of WASI returns an errno as the Status
	index   int                 // in hostFuncs
}

// call is one call of a host function. Its methods read and return values by the index of the
// parameter in the wasm signature, where bytes, paths, pairs and returned bytes take two. Methods
// that write a result return InvalidMemoryAccess if the address is outside of the memory.
type call struct {
	in    *instance
	stack []uint64 // the parameters, and afterwards the result in stack[0]
}

// hostFuncs are all functions that a module may import.
var hostFuncs = slices.Concat(proxyFuncs, wasiFuncs)

func init() {
	for i := range hostFuncs {
		hostFuncs[i].index = i
	}
}

// signature returns the wasm type of the function.
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

	if f.name != "proc_exit" { // the only function without a result
		results = []api.ValueType{api.ValueTypeI32}
	}

	return params, results
}

// Call runs the function for the module. It implements wazero's api.GoModuleFunction: the
// parameters are on the stack, and the result replaces the first one. A panic unwinds the module
// and fails the VM, here if the running phase does not allow the call.
func (f *hostFunc) Call(ctx context.Context, _ api.Module, stack []uint64) {
	in := ctx.Value(instanceKey{}).(*instance)
	in.vm.calls[in.invocation.callback][f.index]++

	phase := in.invocation.restrict // 0 in an ordinary callback, which allows every call
	if phase&^f.allowed != 0 {
		v := in.violation(in.invocation.callback, f.name, "Envoy does not allow this call in this phase")
		in.trace(f, stack, "restricted")
		panic(v)
	}

	in.results = in.results[:0]
	st := in.runHostFunc(f, stack)

	result := st.String()
	if f.wasi {
		result = errnoName(st)
	}

	in.trace(f, stack, result)
	stack[0] = uint64(st) // proc_exit has no result, but there is room: it has a parameter
}

// runHostFunc checks the parameters and runs the function, unless [Config.Fault] makes it fail.
func (in *instance) runHostFunc(f *hostFunc, stack []uint64) Status {
	if !in.memoryIsValid(f.args, stack) {
		return StatusInvalidMemoryAccess
	}

	if fault := in.vm.host.cfg.Fault; fault != nil && !f.wasi {
		if st := fault(f.name); st != StatusOK {
			return st
		}
	}
	return f.fn(call{in, stack})
}

// memoryIsValid reports whether all bytes that the module passes in are in its memory. Addresses
// for results are checked when a result is written.
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

// u32 returns parameter i.
func (c call) u32(i int) uint32 { return uint32(c.stack[i]) }

// bytes returns the bytes at the address in parameter i with the size in i+1. They belong to the
// module and must be copied to be kept beyond the next allocation.
func (c call) bytes(i int) []byte {
	b, _ := c.in.mem.Read(c.u32(i), c.u32(i+1))
	return b
}

// str returns a copy of the bytes at the address in parameter i with the size in i+1.
func (c call) str(i int) string { return string(c.bytes(i)) }

// put32 returns v at the address in parameter i.
func (c call) put32(i int, v uint32) Status {
	c.in.noteResult(func() string { return strconv.FormatUint(uint64(v), 10) })
	if !c.in.mem.WriteUint32Le(c.u32(i), v) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}

// put64 returns v at the address in parameter i.
func (c call) put64(i int, v uint64) Status {
	c.in.noteResult(func() string { return strconv.FormatUint(v, 10) })
	if !c.in.mem.WriteUint64Le(c.u32(i), v) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}

// putBytes returns b in memory that the module allocates, and its address and size at the addresses
// in parameters i and i+1. For an empty b, nothing is allocated.
func (c call) putBytes(i int, b []byte) Status {
	c.in.noteResult(func() string { return quote(b) })
	return c.put(i, b)
}

// put is putBytes without a note for the trace.
func (c call) put(i int, b []byte) Status {
	var addr uint32
	if len(b) > 0 {
		// The allocation calls the module, which may call the host, which notes other results.
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

// findHostFunc returns the host function that an import names, or nil. Functions of proxy-wasm are
// imported from the module "env", those of WASI from one of two names.
func findHostFunc(module, name string) *hostFunc {
	isWASI := module == "wasi_snapshot_preview1" || module == "wasi_unstable"
	if !isWASI && module != "env" {
		return nil
	}

	for i := range hostFuncs {
		if f := &hostFuncs[i]; f.name == name && f.wasi == isWASI {
			return f
		}
	}
	return nil
}
