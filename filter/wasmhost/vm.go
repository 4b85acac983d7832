package wasmhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// VMConfig is Envoy's vm_config on one thread.
type VMConfig struct {
	Thread        string            // names the VM in logs and traces: "main", "worker_0"
	ID            string            // vm_id, the namespace of shared data and queues. Istio leaves it empty
	Configuration []byte            // vm_config.configuration
	Env           map[string]string // what environment_variables (key_values, host_env_keys) gives the module
}

// VM is a module on one of the process's threads. When it crashes, it stays as a dead VM until it is reloaded.
type VM struct {
	host   *Host
	module *Module
	cfg    VMConfig

	in      *instance
	plugins []*Plugin
	closed  bool
	calls   [numCallbacks][]int // by hostFunc.index

	mu     sync.Mutex
	posted []func()
	wake   chan struct{} // holds one token while something is posted
}

// instance is one life of a VM, from its start to its crash.
type instance struct {
	vm  *VM
	mod api.Module
	mem api.Memory
	fns [numCallbacks]api.Function
	ctx context.Context // carries the instance to host functions

	vmContext wasmContext // id 0: for the start and for memory allocation
	contexts  map[uint32]*wasmContext
	nextID    uint32
	roots     []*root

	frame   frame
	stacks  [][5]uint64 // arguments and result of the calls into the module, by depth
	depth   int
	stopped bool // a local reply was sent: whatever the callback returns, the stream does not go on
	after   []func()
	note    []byte // what the running host call gives back, for the trace

	metrics    map[uint32]*Metric
	nextMetric [3]uint32
	nextCall   uint32

	memSize uint32 // after the crash
	err     error  // why it crashed
}

// frame is the callback that runs.
type frame struct {
	callback  callback
	context   *wasmContext
	effective uint32 // what proxy_set_effective_context chose, 0: none
	restrict  uint8  // the permission that host calls need, 0: none
	within    callback
}

// wasmContext is what the module knows by a context id: a root context, a stream's, or (0) the VM's own.
type wasmContext struct {
	id     uint32
	root   *root   // nil for the VM's own
	filter *filter // nil unless it is a stream's
}

type instanceKey struct{}

// NewVM makes a VM of the module and runs its initialization. The error says why that failed.
func (h *Host) NewVM(m *Module, cfg VMConfig) (*VM, error) {
	if h.cfg.LegacyWASI {
		if err := m.checkLegacy(); err != nil {
			return nil, err
		}
	}
	vm := &VM{host: h, module: m, cfg: cfg, wake: make(chan struct{}, 1)}
	vm.ResetCalls()
	h.store.retain(cfg.ID)
	h.mu.Lock()
	h.vms = append(h.vms, vm)
	h.mu.Unlock()
	if err := vm.start(); err != nil {
		vm.drop()
		return nil, err
	}
	return vm, nil
}

// start gives the VM a new life.
func (vm *VM) start() error {
	in := &instance{vm: vm, contexts: make(map[uint32]*wasmContext), metrics: make(map[uint32]*Metric), memSize: vm.MemorySize()}
	in.ctx = context.WithValue(context.Background(), instanceKey{}, in)
	vm.in = in
	var err error
	if in.mod, err = vm.module.runtime.InstantiateModule(in.ctx, vm.module.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions()); err != nil {
		return in.fail(fmt.Errorf("instantiate the module: %w", err))
	}
	in.mem = in.mod.Memory()
	for cb := cbInitialize; cb < numCallbacks; cb++ {
		if name, ok := vm.module.export(cb); ok {
			in.fns[cb] = in.mod.ExportedFunction(name)
		}
	}
	in.frame.restrict = initModern
	if vm.host.cfg.LegacyWASI {
		in.frame.restrict = initLegacy
	}
	switch {
	case in.fns[cbInitialize] == nil:
		in.call(cbStart, &in.vmContext)
	default:
		in.call(cbInitialize, &in.vmContext)
		if in.fns[cbMain] != nil {
			in.call(cbMain, &in.vmContext, 0, 0)
		} else {
			in.call(cbMainVoid, &in.vmContext)
		}
	}
	in.frame.restrict = 0
	return in.err
}

// Close ends the VM as Envoy does when its last plugin goes or on exit: open streams are aborted, root contexts are asked
// whether they are done (proxy_on_done) and deleted.
func (vm *VM) Close() {
	if vm.closed {
		return
	}
	for _, p := range slices.Clone(vm.plugins) {
		for _, s := range slices.Clone(p.streams) {
			s.Abort()
		}
		p.shutdown()
	}
	vm.drop()
}

// drop ends the VM without a word to the module.
func (vm *VM) drop() {
	if vm.closed {
		return
	}
	vm.closed = true
	if vm.in != nil {
		vm.in.close()
	}
	h := vm.host
	h.mu.Lock()
	h.vms = slices.DeleteFunc(h.vms, func(v *VM) bool { return v == vm })
	h.mu.Unlock()
	h.store.release(vm.cfg.ID)
}

// Crash makes the VM fail as a trap in the module would. The cause becomes [VM.Err].
func (vm *VM) Crash(cause error) { vm.in.fail(cause) }

// Reload gives the VM a new life and starts and configures all its plugins in it, as FAIL_RELOAD does one by one when
// their next stream comes. What a VM that has not crashed held is lost, without proxy_on_done.
func (vm *VM) Reload() error {
	vm.in.fail(errors.New("reloaded"))
	if err := vm.start(); err != nil {
		return err
	}
	for _, p := range vm.plugins {
		if err := p.start(); err != nil {
			return err
		}
	}
	return nil
}

// Err is why the VM crashed, or nil. It unwraps to a [Violation] if that was it.
func (vm *VM) Err() error { return vm.in.err }

// MemorySize is the size of the module's linear memory in bytes; of a crashed VM, what it was then. Memory never shrinks.
func (vm *VM) MemorySize() uint32 {
	switch {
	case vm.in == nil:
		return 0
	case vm.in.err != nil || vm.closed || vm.in.mem == nil:
		return vm.in.memSize
	}
	return vm.in.mem.Size()
}

// CallCount is how often a host function was called during a callback.
type CallCount struct {
	Callback string // "proxy_on_request_headers"; "proxy_on_memory_allocate" for calls during allocation
	Func     string // "proxy_log", "clock_time_get"
	Count    int
}

// Calls counts host calls, WASI's included, since the VM's making or the last [VM.ResetCalls].
func (vm *VM) Calls() []CallCount {
	var counts []CallCount
	for cb, calls := range vm.calls {
		for i, n := range calls {
			if n > 0 {
				counts = append(counts, CallCount{callback(cb).String(), hostFuncs[i].name, n})
			}
		}
	}
	return counts
}

// ResetCalls makes [VM.Calls] start from zero.
func (vm *VM) ResetCalls() {
	for cb := range vm.calls {
		vm.calls[cb] = make([]int, len(hostFuncs))
	}
}

// Post lets the VM's own goroutine run fn, in [VM.Dispatch] or [VM.Run]. It may be called from any goroutine.
func (vm *VM) Post(fn func()) {
	vm.mu.Lock()
	vm.posted = append(vm.posted, fn)
	vm.mu.Unlock()
	select {
	case vm.wake <- struct{}{}:
	default:
	}
}

// Dispatch runs what other goroutines and VMs have for this one, until nothing is left: queues that became ready, and
// answers of cluster handlers. It returns how much it was.
func (vm *VM) Dispatch() int {
	for n := 0; ; n++ {
		vm.mu.Lock()
		if len(vm.posted) == 0 {
			vm.mu.Unlock()
			return n
		}
		fn := vm.posted[0]
		vm.posted = vm.posted[1:]
		vm.mu.Unlock()
		if !vm.closed {
			fn()
		}
	}
}

// Wake receives when there is something to [VM.Dispatch].
func (vm *VM) Wake() <-chan struct{} { return vm.wake }

// Run is the event loop of a thread: it ticks each root context by its period and dispatches, in real time whatever
// [Config.Clock] says, until ctx ends. It returns ctx's error.
func (vm *VM) Run(ctx context.Context) error {
	for {
		var timer <-chan time.Time
		if due, ok := vm.nextTick(); ok {
			timer = time.After(time.Until(due))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-vm.wake:
			vm.Dispatch()
		case <-timer:
			now := time.Now()
			for _, r := range slices.Clone(vm.in.roots) {
				if r.period > 0 && !r.due.After(now) {
					r.tick()
				}
			}
		}
	}
}

func (vm *VM) nextTick() (due time.Time, ok bool) {
	if vm.in.err != nil {
		return due, false
	}
	for _, r := range vm.in.roots {
		if r.period > 0 && (!ok || r.due.Before(due)) {
			due, ok = r.due, true
		}
	}
	return due, ok
}

// Tick calls proxy_on_tick once for each root context that has a tick period, whatever the period is.
func (vm *VM) Tick() {
	for _, r := range slices.Clone(vm.in.roots) {
		if r.period > 0 {
			r.tick()
		}
	}
}

func (vm *VM) queueReady(rootID, token uint32) {
	in := vm.in
	if c := in.contexts[rootID]; c != nil && c.filter == nil && in.err == nil {
		in.notify(cbQueueReady, c, uint64(rootID), uint64(token))
	}
}

// current is the context that host calls work on.
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

// call runs a callback for a context and returns its result, 0 if it has none, is not exported, or crashed.
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
			// The module called the host, which called the module, which crashed. Envoy lets the first call go on in a
			// module that is broken; nothing good comes of that.
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

// notify runs a callback and then what it left to be done.
func (in *instance) notify(cb callback, c *wasmContext, args ...uint64) uint64 {
	r := in.call(cb, c, args...)
	in.settle()
	return r
}

// defers lets fn run when the module has returned.
func (in *instance) defers(fn func()) { in.after = append(in.after, fn) }

// maxNested is how many replies and resumed streams one callback may leave to be done. Envoy does each within the last
// one, since what it does calls the module and so takes up the rest of the list (DeferAfterCallActions in
// proxy-wasm-cpp-host). Thousands end as "Maximum call stack size exceeded", in 1.36.4 and 1.40.0 alike.
const maxNested = 512

// settle does what the callback left to be done. That may call the module again.
func (in *instance) settle() {
	in.stopped = false
	if n := len(in.after); n > maxNested {
		in.after = nil
		in.fail(fmt.Errorf("maximum call stack size exceeded: %d streams were answered or resumed by one callback", n))
		return
	}
	for len(in.after) > 0 {
		fn := in.after[0]
		in.after = in.after[1:]
		fn()
	}
}

// malloc lets the module allocate memory; 0 is no memory.
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

// fail marks the VM as crashed, for the first cause given.
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

// misuse reports a call that Envoy lets pass.
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

// traceCallback reports the start of a callback, or its result. Allocations are not worth a line.
func (in *instance) traceCallback(cb callback, ctx *wasmContext, args []uint64, result string) {
	trace := in.vm.host.cfg.Trace
	if trace == nil || cb == cbMalloc {
		return
	}
	var text []string
	for _, a := range args {
		text = append(text, strconv.FormatUint(uint64(uint32(a)), 10))
	}
	trace(Call{Thread: in.vm.cfg.Thread, Callback: cb.String(), Context: ctx.id, Args: strings.Join(text, ", "), Result: result})
}

// FailurePolicy says what happens to streams when the VM has crashed.
type FailurePolicy int

// The failure policies of Envoy's PluginConfig.
const (
	FailClosed FailurePolicy = iota // streams are answered 503 for good. Envoy's default
	FailReload                      // as FailClosed, but a new stream restarts the VM, at most once in ReloadBackoff
	FailOpen                        // new streams pass without the filter. Those that had it are answered 503, as in Envoy
)

// PluginConfig is a filter configuration: Envoy's PluginConfig.
type PluginConfig struct {
	Name          string
	RootID        string
	Configuration []byte
	FailurePolicy FailurePolicy
	ReloadBackoff time.Duration // for FailReload, since the last load. 0: Envoy's default of 1 s; Envoy adds up to half of it at random

	// AllowOnHeadersStopIteration makes Pause from proxy_on_request_headers and proxy_on_response_headers hold the
	// headers while the body callbacks go on (Envoy 1.35 and later). Otherwise Pause stops those too.
	AllowOnHeadersStopIteration bool
}

func (c PluginConfig) key() string {
	return fmt.Sprintf("%q %q %q %d %d %t", c.Name, c.RootID, c.Configuration, c.FailurePolicy, c.ReloadBackoff, c.AllowOnHeadersStopIteration)
}

// The errors of [VM.Plugin].
var (
	ErrStart     = errors.New("the module refused to start")
	ErrConfigure = errors.New("the module refused the plugin's configuration")
)

// Plugin is a filter configuration in one VM. The guest calls it a root context.
type Plugin struct {
	vm      *VM
	cfg     PluginConfig
	users   int // calls of VM.Plugin that gave this plugin, less those of Remove
	streams []*Stream
	root    *root // in the VM's current life, or in the one in which the plugin was last started
	loaded  time.Duration
}

// root is a root context.
type root struct {
	wasmContext
	in          *instance
	plugin      *Plugin
	created     bool // proxy_on_context_create was called
	configuring bool // the plugin's configuration can be read
	pendingDone bool // proxy_on_done returned false
	period      time.Duration
	due         time.Time
	callouts    []*Callout
	response    *calloutResponse // to the callout whose callback runs

	status        Status // what proxy_get_status tells in the callback of a failed callout
	statusMessage string
}

// Plugin starts and configures a plugin in the VM, as Envoy does on each thread when a filter configuration arrives. The
// same configuration a second time gives the same plugin, once more to be removed. To reload a configuration, make the
// new plugin, send it the new streams, and [Plugin.Remove] the old one. A VM that has crashed gets a new life first, in
// which its other plugins are still dead. The error wraps [ErrStart], [ErrConfigure] or the VM's [VM.Err].
func (vm *VM) Plugin(cfg PluginConfig) (*Plugin, error) {
	for _, p := range vm.plugins {
		if p.cfg.key() != cfg.key() {
			continue
		}
		if p.root.in.err != nil {
			if err := p.start(); err != nil {
				return nil, err
			}
		}
		p.users++
		return p, nil
	}
	p := &Plugin{vm: vm, cfg: cfg, users: 1}
	if err := p.start(); err != nil {
		return nil, err
	}
	vm.plugins = append(vm.plugins, p)
	return p, nil
}

// start makes the plugin's root context in the VM, in a new life of it if it has crashed.
func (p *Plugin) start() error {
	p.loaded = p.vm.host.cfg.Clock.Mono()
	if p.vm.in.err != nil {
		if err := p.vm.start(); err != nil {
			return fmt.Errorf("start plugin %q: restart the VM: %w", p.cfg.Name, err)
		}
	}
	in := p.vm.in
	r := &root{in: in, plugin: p}
	in.nextID++
	r.id, r.root = in.nextID, r
	in.contexts[r.id] = &r.wasmContext
	in.roots = append(in.roots, r)
	err := r.start()
	if err != nil {
		r.forget()
		return fmt.Errorf("start plugin %q: %w", p.cfg.Name, err)
	}
	p.root = r
	return nil
}

func (r *root) start() error {
	in, c := r.in, &r.wasmContext
	r.configuring = true
	in.call(cbContextCreate, c, uint64(r.id), 0)
	r.configuring = false
	r.created = true
	if in.fns[cbVMStart] != nil && in.call(cbVMStart, c, uint64(r.id), uint64(len(in.vm.cfg.Configuration))) == 0 && in.err == nil {
		return ErrStart
	}
	in.settle()
	r.configuring = true
	refused := in.fns[cbConfigure] != nil && in.notify(cbConfigure, c, uint64(r.id), uint64(len(r.plugin.cfg.Configuration))) == 0
	r.configuring = false
	if in.err != nil {
		return in.err
	}
	if refused {
		return ErrConfigure
	}
	return nil
}

// Remove takes the plugin out of the VM, once its streams have ended: proxy_on_done and proxy_on_delete.
func (p *Plugin) Remove() {
	p.users--
	p.release()
}

func (p *Plugin) release() {
	if p.users == 0 && len(p.streams) == 0 {
		p.shutdown()
	}
}

// shutdown ends the root context. One that is not done yet lives on until it calls proxy_done.
func (p *Plugin) shutdown() {
	p.vm.plugins = slices.DeleteFunc(p.vm.plugins, func(q *Plugin) bool { return q == p })
	r := p.root
	if r.in.err != nil || r.in != p.vm.in {
		return
	}
	if r.in.fns[cbDone] != nil && r.in.notify(cbDone, &r.wasmContext, uint64(r.id)) == 0 {
		r.pendingDone = true
		return
	}
	r.delete()
}

func (r *root) delete() {
	r.in.notify(cbDelete, &r.wasmContext, uint64(r.id))
	r.cancelCallouts()
	r.forget()
}

func (r *root) forget() {
	delete(r.in.contexts, r.id)
	r.in.roots = slices.DeleteFunc(r.in.roots, func(q *root) bool { return q == r })
}

func (r *root) tick() {
	if r.in.err == nil {
		r.in.notify(cbTick, &r.wasmContext, uint64(r.id))
	}
	r.due = time.Now().Add(r.period)
}

// Tick calls proxy_on_tick once, if the module has set a tick period for the plugin.
func (p *Plugin) Tick() {
	if p.root.period > 0 {
		p.root.tick()
	}
}

// TickPeriod is what the module asked for, 0 if it wants no ticks.
func (p *Plugin) TickPeriod() time.Duration { return p.root.period }

// ContextID is the id of the plugin's root context in the module.
func (p *Plugin) ContextID() uint32 { return p.root.id }

// reload restarts a crashed VM if the plugin's policy says so.
func (p *Plugin) reload() {
	backoff := p.cfg.ReloadBackoff
	if backoff == 0 {
		backoff = time.Second
	}
	if p.root.in.err == nil || p.cfg.FailurePolicy != FailReload || p.vm.host.cfg.Clock.Mono()-p.loaded < backoff {
		return
	}
	if err := p.start(); err != nil {
		p.vm.in.log(slog.LevelError, err.Error()) // the next try is after the backoff
	}
}
