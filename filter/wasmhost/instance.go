package wasmhost

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/tetratelabs/wazero/api"
)

// An instance is one life of a VM: the module with its memory, from its start to its crash or to
// the end of the VM. It calls the callbacks of the module. When a callback calls the host,
// hostcall.go enters the host with this instance, and a host call that allocates memory enters the
// module again.
type instance struct {
	vm      *VM
	mod     api.Module                 // nil when the instance is closed
	mem     api.Memory                 // nil when the instance is closed
	exports [numCallbacks]api.Function // the callbacks; nil for one that the module does not export
	ctx     context.Context            // has the instance for host functions

	vmContext wasmContext // id 0, for initialization and memory allocation
	contexts  map[uint32]*wasmContext
	nextID    uint32  // the id of the last context that was made
	roots     []*root // the plugins, in the order in which they were started

	invocation     invocation
	stacks         [][maxArguments]uint64 // arguments and result of the calls into the module, by depth
	depth          int                    // of calls into the module that are running
	localReplySent bool                   // the stream does not go on, whatever the callback returns
	afterCall      []func()               // actions that wait for the callback to return
	results        []byte                 // of the running host call, for the trace

	metrics    map[uint32]*Metric // by the id that the module knows
	nextMetric [3]uint32          // the last id of each MetricType
	nextCall   uint32             // the token of the last callout

	memSize uint32 // of the memory in bytes, when the instance was closed
	err     error  // why the module crashed; nil while it lives
}

// maxArguments is the greatest number of arguments of a callback (proxy_on_http_call_response).
const maxArguments = 5

// An invocation is a callback that is running. The zero value means that none is.
type invocation struct {
	callback  callback
	context   *wasmContext
	effective uint32   // the id set by proxy_set_effective_context; 0: none
	restrict  uint8    // the phase (hostcall.go) that must allow each host call; 0: any call is allowed
	within    callback // the callback that this one interrupts, to allocate memory
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
	if in.exports[cbInitialize] == nil {
		in.call(cbStart, &in.vmContext)
		return
	}

	in.call(cbInitialize, &in.vmContext)
	if in.exports[cbMain] != nil {
		in.call(cbMain, &in.vmContext, 0, 0)
	} else {
		in.call(cbMainVoid, &in.vmContext)
	}
}

// current returns the context that host calls work on: the one that the module has selected with
// proxy_set_effective_context, if it exists, and otherwise that of the running callback.
func (in *instance) current() *wasmContext {
	if c := in.contexts[in.invocation.effective]; c != nil && in.invocation.effective != 0 {
		return c
	}
	return in.invocation.context
}

// newContext makes a context. Its filter is nil for a root context.
func (in *instance) newContext(root *root, filter *filter) *wasmContext {
	in.nextID++
	c := &wasmContext{id: in.nextID, root: root, filter: filter}
	in.contexts[c.id] = c
	return c
}

// call runs a callback for a context and returns its result. The result is 0 if the callback has
// none, is not exported or crashed.
func (in *instance) call(cb callback, c *wasmContext, args ...uint64) uint64 {
	fn := in.exports[cb]
	if fn == nil || in.err != nil {
		return 0
	}

	outer := in.invocation
	in.invocation = invocation{callback: cb, context: c, restrict: outer.restrict, within: outer.callback}

	in.depth++
	if in.depth > len(in.stacks) {
		in.stacks = append(in.stacks, [maxArguments]uint64{})
	}
	stack := in.stacks[in.depth-1][:]
	copy(stack, args)

	in.traceCallback(cb, c, stack[:len(args)], "")
	err := fn.CallWithStack(in.ctx, stack)
	in.depth--
	in.invocation = outer
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

// callThenAct runs a callback and then the actions that it deferred. It returns the result of the
// callback.
func (in *instance) callThenAct(cb callback, c *wasmContext, args ...uint64) uint64 {
	r := in.call(cb, c, args...)
	in.doAfterCallActions()
	return r
}

// addAfterCallAction defers fn until the module has returned.
func (in *instance) addAfterCallAction(fn func()) { in.afterCall = append(in.afterCall, fn) }

// maxAfterCallActions is the number of replies and resumed streams that one callback may defer.
// Envoy nests them: each action calls the module, and the end of that call runs the rest of the
// list (DeferAfterCallActions in proxy-wasm-cpp-host). Thousands of them fail with "Maximum call
// stack size exceeded" in both 1.36.4 and 1.40.0. The limit of this host is lower.
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

// malloc makes the module allocate size bytes and returns their address, or 0 if the module failed
// to. During the allocation, most host calls are forbidden.
func (in *instance) malloc(size uint32) uint32 {
	restrict := in.invocation.restrict
	in.invocation.restrict = mallocModern
	if in.vm.host.cfg.LegacyWASI {
		in.invocation.restrict = mallocLegacy
	}

	addr := in.call(cbMalloc, &in.vmContext, uint64(size))
	in.invocation.restrict = restrict
	return uint32(addr)
}

// fail marks the VM as crashed and returns the cause: err, unless the VM had crashed before. While
// the module is running, it is closed later, when it has been left.
func (in *instance) fail(err error) error {
	if in.err != nil {
		return in.err
	}

	if in.mem != nil {
		in.memSize = in.mem.Size()
	}
	in.err = err
	in.log(slog.LevelError, "VM failed: "+err.Error())
	if in.depth == 0 {
		in.close()
	}
	return err
}

// close frees the module and its memory, and cancels its callouts. The size of the memory stays
// known.
func (in *instance) close() {
	for _, r := range in.roots {
		r.cancelCallouts()
	}

	if in.mod != nil {
		if in.err == nil && in.mem != nil {
			in.memSize = in.mem.Size()
		}
		in.mod.Close(in.ctx) // fails only for modules with files
		in.mod, in.mem, in.exports = nil, nil, [numCallbacks]api.Function{}
	}
}

// violation records that the host call fn, made during a callback, broke a rule.
func (in *instance) violation(during callback, fn, reason string) *Violation {
	v := &Violation{Thread: in.vm.cfg.Thread, Callback: during.String(), Func: fn, Reason: reason}
	if during == cbMalloc {
		v.Within = in.invocation.within.String()
	}

	h := in.vm.host
	h.mu.Lock()
	h.violations = append(h.violations, v)
	h.mu.Unlock()

	return v
}

// misuse records a host call that Envoy tolerates although it is never right. With [Config.Strict],
// it fails the VM: by a panic while the module runs, which unwinds it.
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

// log logs a message under the name of the plugin whose context is current, if any.
func (in *instance) log(level slog.Level, message string) {
	e := LogEntry{Thread: in.vm.cfg.Thread, Level: level, Message: message}
	if in.invocation.context != nil {
		if c := in.current(); c.root != nil {
			e.Plugin = c.root.plugin.cfg.Name
		}
	}

	in.vm.host.log(e)
}
