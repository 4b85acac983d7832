package wasmhost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
)

// This file is a VM and its thread. A [Host] is the process; an instance (instance.go) is one life
// of the module in the VM, from its start to a crash; the plugins in the VM are root contexts of
// the module (plugin.go). Other goroutines reach the thread with [VM.Post] alone.

// VMConfig is Envoy's vm_config on one thread.
type VMConfig struct {
	Thread        string            // the name of the VM in logs and traces: "main", "worker_0"
	ID            string            // vm_id, the namespace of shared data and queues; empty in Istio
	Configuration []byte            // vm_config.configuration
	Env           map[string]string // from environment_variables (key_values, host_env_keys)
}

// VM is a module on one of the threads of the process. A VM that has crashed does nothing until it
// is reloaded.
type VM struct {
	host   *Host
	module *Module
	cfg    VMConfig

	in      *instance // the current life; a dead one after a crash
	plugins []*Plugin
	closed  bool
	calls   [numCallbacks][]int // counts of host calls, by callback and hostFunc.index

	mu     sync.Mutex
	posted []func()      // by Post, oldest first
	wake   chan struct{} // of capacity 1; holds a value while posted may have functions
}

// NewVM makes a VM of the module and runs the module's initialization.
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

// start gives the VM a new instance of the module and initializes it.
func (vm *VM) start() error {
	in := &instance{
		vm: vm, contexts: make(map[uint32]*wasmContext), metrics: make(map[uint32]*Metric), memSize: vm.MemorySize(),
	}
	in.ctx = context.WithValue(context.Background(), instanceKey{}, in)
	vm.in = in

	var err error
	cfg := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	if in.mod, err = vm.module.runtime.InstantiateModule(in.ctx, vm.module.compiled, cfg); err != nil {
		return in.fail(fmt.Errorf("instantiate the module: %w", err))
	}
	in.mem = in.mod.Memory()

	for cb := cbInitialize; cb < numCallbacks; cb++ {
		if name, ok := vm.module.export(cb); ok {
			in.exports[cb] = in.mod.ExportedFunction(name)
		}
	}

	in.invocation.restrict = initModern
	if vm.host.cfg.LegacyWASI {
		in.invocation.restrict = initLegacy
	}
	in.initialize()
	in.invocation.restrict = 0
	return in.err
}

// Close ends the VM as Envoy does on exit and when its last plugin is removed: open streams are
// aborted, and root contexts are asked whether they are done (proxy_on_done) and deleted.
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

// drop ends the VM without calling the module.
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

// Reload replaces the instance of the module and starts and configures all plugins of the VM in the
// new one. FAIL_RELOAD does so one plugin at a time, at its next stream. A VM that has not crashed
// loses its state too, without a call of proxy_on_done.
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

// Err returns why the VM crashed, or nil. It wraps a [Violation] if one was the cause.
func (vm *VM) Err() error { return vm.in.err }

// MemorySize returns the size of the module's linear memory in bytes, which never shrinks. For a VM
// that has crashed, it returns the size at the crash.
func (vm *VM) MemorySize() uint32 {
	switch {
	case vm.in == nil: // the VM is being made
		return 0
	case vm.in.err != nil || vm.closed || vm.in.mem == nil:
		return vm.in.memSize
	}
	return vm.in.mem.Size()
}

// CallCount is the number of calls of a host function during a callback.
type CallCount struct {
	Callback string // "proxy_on_request_headers"; "proxy_on_memory_allocate" for calls during allocation
	Func     string // "proxy_log", "clock_time_get"
	Count    int
}

// Calls returns the counts of host calls, including those of WASI, since the VM was made or since
// the last [VM.ResetCalls].
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

// ResetCalls sets the counts of [VM.Calls] to zero.
func (vm *VM) ResetCalls() {
	for cb := range vm.calls {
		vm.calls[cb] = make([]int, len(hostFuncs))
	}
}

// Post queues fn for [VM.Dispatch] or [VM.Run], which call it on the goroutine of the VM. Post is
// safe for concurrent use.
func (vm *VM) Post(fn func()) {
	vm.mu.Lock()
	vm.posted = append(vm.posted, fn)
	vm.mu.Unlock()

	select {
	case vm.wake <- struct{}{}:
	default:
	}
}

// Dispatch handles the events that other goroutines and VMs have queued for this VM until none is
// left: shared queues that became ready, and answers of cluster handlers. It returns their number.
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

// Wake returns a channel that receives when there is an event for [VM.Dispatch].
func (vm *VM) Wake() <-chan struct{} { return vm.wake }

// Run is the event loop of a thread. Until ctx ends, it ticks each root context at its period and
// dispatches events, in real time and not by [Config.Clock]. It returns the error of ctx.
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

// nextTick returns the earliest time at which a root context is due; ok reports whether one has a
// tick period.
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

// Tick calls proxy_on_tick once for each root context that has a tick period, whether or not the
// period has passed.
func (vm *VM) Tick() {
	for _, r := range slices.Clone(vm.in.roots) {
		if r.period > 0 {
			r.tick()
		}
	}
}

// queueReady calls proxy_on_queue_ready for the root context that has registered a queue, if it
// still exists.
func (vm *VM) queueReady(rootID, token uint32) {
	in := vm.in
	if c := in.contexts[rootID]; c != nil && c.filter == nil && in.err == nil {
		in.callThenAct(cbQueueReady, c, uint64(rootID), uint64(token))
	}
}
