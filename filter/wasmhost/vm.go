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
