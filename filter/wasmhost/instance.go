package wasmhost

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/tetratelabs/wazero/api"
)

// instance is one life of a VM, from its start to its crash or to the end of the VM.
type instance struct {
	vm  *VM
	mod api.Module
	mem api.Memory
	fns [numCallbacks]api.Function
	ctx context.Context // has the instance for host functions

	vmContext wasmContext // id 0, for initialization and memory allocation
	contexts  map[uint32]*wasmContext
	nextID    uint32
	roots     []*root

	frame          frame
	stacks         [][5]uint64 // arguments and result of the calls into the module, by depth
	depth          int
	localReplySent bool // the stream does not go on, whatever the callback returns
	afterCall      []func()
	results        []byte // of the running host call, for the trace

	metrics    map[uint32]*Metric
	nextMetric [3]uint32
	nextCall   uint32

	memSize uint32 // after the crash
	err     error  // why it crashed
}

// frame is the state of the callback that is running.
type frame struct {
	callback  callback
	context   *wasmContext
	effective uint32   // the context set by proxy_set_effective_context, 0: none
	restrict  uint8    // the permission that host calls need, 0: none
	within    callback // the callback that this one interrupts
}

// wasmContext is a context that the module knows by its id: a root context, the context of a
// stream, or the VM's own (id 0).
type wasmContext struct {
	id     uint32
	root   *root   // nil for the VM's own context
	filter *filter // nil unless the context is that of a stream
}

// instanceKey is the key of the instance in [instance.ctx].
type instanceKey struct{}

// initialize runs a command's _start, or a reactor's _initialize and then its main.
func (in *instance) initialize() {
	if in.fns[cbInitialize] == nil {
		in.call(cbStart, &in.vmContext)
		return
	}

	in.call(cbInitialize, &in.vmContext)
	if in.fns[cbMain] != nil {
		in.call(cbMain, &in.vmContext, 0, 0)
	} else {
		in.call(cbMainVoid, &in.vmContext)
	}
}

// current returns the context that host calls work on.
func (in *instance) current() *wasmContext {
	if c := in.contexts[in.frame.effective]; c != nil && in.frame.effective != 0 {
		return c
	}
	return in.frame.context
}

func (in *instance) newContext(root *root, filter *filter) *wasmContext {
	in.nextID++
	c := &wasmContext{id: in.nextID, root: root, filter: filter}
	in.contexts[c.id] = c
	return c
}

// call runs a callback for a context and returns its result. The result is 0 if the callback has
// none, is not exported or crashed.
func (in *instance) call(cb callback, c *wasmContext, args ...uint64) uint64 {
	fn := in.fns[cb]
	if fn == nil || in.err != nil {
		return 0
	}

	outer := in.frame
	in.frame = frame{callback: cb, context: c, restrict: outer.restrict, within: outer.callback}

	if in.depth++; in.depth > len(in.stacks) {
		in.stacks = append(in.stacks, [5]uint64{})
	}
	stack := in.stacks[in.depth-1][:]
	copy(stack, args)

	in.traceCallback(cb, c, stack[:len(args)], "")
	err := fn.CallWithStack(in.ctx, stack)
	in.depth--
	in.frame = outer

	if err != nil {
		in.traceCallback(cb, c, nil, "crashed")
		in.fail(fmt.Errorf("%s: %w", cb, err))
		if in.depth > 0 {
			// The module called the host, which called the module, which crashed. Envoy continues
			// the first call in the broken module; here it is unwound.
			panic(in.err)
		}
		in.close()
		return 0
	}

	if callbacks[cb].results == 0 {
		return 0
	}
	in.traceCallback(cb, c, nil, strconv.FormatUint(uint64(uint32(stack[0])), 10))
	return uint64(uint32(stack[0]))
}

// notify runs a callback and then the actions that it deferred.
func (in *instance) notify(cb callback, c *wasmContext, args ...uint64) uint64 {
	r := in.call(cb, c, args...)
	in.doAfterCallActions()
	return r
}

// addAfterCallAction defers fn until the module has returned.
func (in *instance) addAfterCallAction(fn func()) { in.afterCall = append(in.afterCall, fn) }

// maxAfterCallActions is the number of replies and resumed streams that one callback may defer.
// Envoy nests them: each action calls the module, and the end of that call runs the rest of the
// list (DeferAfterCallActions in proxy-wasm-cpp-host). Thousands of them fail with "Maximum call
// stack size exceeded" in both 1.36.4 and 1.40.0.
const maxAfterCallActions = 512

// doAfterCallActions runs the actions that the callback deferred. They may call the module again.
func (in *instance) doAfterCallActions() {
	in.localReplySent = false

	if n := len(in.afterCall); n > maxAfterCallActions {
		in.afterCall = nil
		in.fail(fmt.Errorf("maximum call stack size exceeded: %d streams were answered or resumed by one callback", n))
		return
	}

	for len(in.afterCall) > 0 {
		fn := in.afterCall[0]
		in.afterCall = in.afterCall[1:]
		fn()
	}
}

// malloc makes the module allocate memory and returns its address, or 0 if the module failed to.
func (in *instance) malloc(size uint32) uint32 {
	restrict := in.frame.restrict
	in.frame.restrict = mallocModern
	if in.vm.host.cfg.LegacyWASI {
		in.frame.restrict = mallocLegacy
	}

	addr := in.call(cbMalloc, &in.vmContext, uint64(size))
	in.frame.restrict = restrict
	return uint32(addr)
}

// fail marks the VM as crashed and returns the cause: err, unless the VM had crashed before.
func (in *instance) fail(err error) error {
	if in.err == nil {
		if in.mem != nil {
			in.memSize = in.mem.Size()
		}
		in.err = err
		in.log(slog.LevelError, "VM failed: "+err.Error())
		if in.depth == 0 {
			in.close()
		}
	}
	return in.err
}

// close frees the memory and cancels callouts.
func (in *instance) close() {
	for _, r := range in.roots {
		r.cancelCallouts()
	}

	if in.mod != nil {
		if in.err == nil && in.mem != nil {
			in.memSize = in.mem.Size()
		}
		in.mod.Close(in.ctx) // fails only for modules with files
		in.mod, in.mem, in.fns = nil, nil, [numCallbacks]api.Function{}
	}
}

// violation records a violation by the host call fn.
func (in *instance) violation(during callback, fn, reason string) *Violation {
	v := &Violation{Thread: in.vm.cfg.Thread, Callback: during.String(), Func: fn, Reason: reason}
	if during == cbMalloc {
		v.Within = in.frame.within.String()
	}

	h := in.vm.host
	h.mu.Lock()
	h.violations = append(h.violations, v)
	h.mu.Unlock()

	return v
}

// misuse records a call that Envoy tolerates although it is never right.
func (in *instance) misuse(during callback, fn, reason string) {
	v := in.violation(during, fn, reason)
	switch {
	case !in.vm.host.cfg.Strict:
	case in.depth > 0:
		panic(v)
	default:
		in.fail(v)
	}
}

func (in *instance) log(level slog.Level, message string) {
	e := LogEntry{Thread: in.vm.cfg.Thread, Level: level, Message: message}
	if in.frame.context != nil {
		if c := in.current(); c.root != nil {
			e.Plugin = c.root.plugin.cfg.Name
		}
	}

	in.vm.host.log(e)
}
