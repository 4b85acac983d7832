// Package wasmhost runs a proxy-wasm module as Envoy does, without Envoy.
//
// It implements the host side of the proxy-wasm ABI 0.2.0 and 0.2.1 for HTTP filters on wazero, after
// proxy-wasm-cpp-host and Envoy's source/extensions/common/wasm, down to the order of callbacks, the moment at which
// a local reply or a resumed stream takes effect, and what a module must not do. A [Host] stands for one Envoy process,
// a [VM] for the module on one of its threads, a [Plugin] for one filter configuration on that thread (in the guest: a
// root context), and a [Stream] for one request that travels through one or more plugins.
//
// Nothing happens behind the caller's back: callbacks run on the goroutine that calls a method of a VM, a Plugin, a
// Stream or a Callout, and a VM and what belongs to it must be used by one goroutine at a time, as Envoy's threads do.
// VMs of one Host may run in parallel; all methods of Host are safe for that. For an unattended VM see [VM.Run].
//
// Not implemented, and answered with Unimplemented: gRPC callouts. TCP filters, on_foreign_function and metadata
// callbacks are never called.
package wasmhost

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Config is what an Envoy process gives to all its modules. The zero value is a process with the machine's clock and no
// cluster.
type Config struct {
	// Clusters are the upstream clusters that a module may call. A nil handler makes the cluster known and leaves its
	// calls to [Host.Callouts]; any other is run on a goroutine of its own and answered through [VM.Dispatch].
	Clusters map[string]http.Handler

	// Clock gives the time that modules see.
	Clock Clock

	// Properties are found by get_property from every context, in a stream after its own.
	Properties map[string]any

	// ForeignFunctions answer proxy_call_foreign_function by name. Others are NotFound.
	ForeignFunctions map[string]func(argument []byte) ([]byte, Status)

	// Log takes what modules log, what they write to standard output (info) and standard error (error), and why a VM
	// failed. It is called by several VMs at once. Nil drops it.
	Log func(LogEntry)

	// Trace takes every callback and every host call, in order for each VM, with the values that passed: never set it
	// where secrets do. It is called by several VMs at once.
	Trace func(Call)

	// Strict fails the VM on what Envoy lets pass though it is never right: resuming a stream that is not paused, was
	// already answered or has ended, a second local reply, a local reply without a stream, and reading a part of a body
	// after its callback, where Envoy no longer owns the bytes that it gives. See [Host.Violations].
	Strict bool

	// Fault makes proxy-wasm calls fail: a function for which it returns another status than StatusOK does nothing and
	// returns that one. It is for tests of what a module makes of a failure that this host, as Envoy, rarely has for it.
	Fault func(function string) Status

	// LegacyWASI is the WASI of Envoy before proxy-wasm-cpp-host #533 (April 2026; 1.36.4 has it): poll_oneoff returns
	// ENOSYS and is forbidden during memory allocation, fewer functions exist, and fewer are allowed during _initialize.
	LegacyWASI bool

	// LegacyResume is how Envoy was before envoy#46842 (August 2026; 1.36.4 is): when a plugin has held a part of a body,
	// was resumed before the body's end, and gives Continue to the next part, that part is lost.
	LegacyResume bool
}

// LogEntry is one message of a module. Trace is 4 below slog.LevelDebug, critical 4 above slog.LevelError.
type LogEntry struct {
	Thread  string // VMConfig.Thread
	Plugin  string // PluginConfig.Name, empty when no plugin is running
	Level   slog.Level
	Message string
}

// Host is one Envoy process: what its VMs share. A hot restart or a restart is a new Host.
type Host struct {
	cfg Config

	mu         sync.Mutex
	vms        []*VM
	clusters   map[string]http.Handler
	callouts   []*Callout
	violations []*Violation
	store      store
}

// New starts a process. It has no VM yet.
func New(cfg Config) *Host {
	if cfg.Clock.Mono == nil {
		start := time.Now().Add(-time.Hour) // Go's runtime refuses a clock that stands at zero
		cfg.Clock.Mono = func() time.Duration { return time.Since(start) }
	}
	if cfg.Clock.Wall == nil {
		cfg.Clock.Wall = time.Now
	}
	h := &Host{cfg: cfg, clusters: maps.Clone(cfg.Clusters), store: newStore()}
	if h.clusters == nil {
		h.clusters = make(map[string]http.Handler)
	}
	return h
}

// Close closes every VM that is left, in the order of their making, as Envoy does when it exits.
func (h *Host) Close() {
	h.mu.Lock()
	vms := slices.Clone(h.vms)
	h.mu.Unlock()
	for _, vm := range vms {
		vm.Close()
	}
}

// SetCluster adds or replaces a cluster, as CDS does; see [Config.Clusters] for what the handler means.
func (h *Host) SetCluster(name string, handler http.Handler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clusters[name] = handler
}

// RemoveCluster makes calls to the cluster fail with BadArgument. Calls under way go on.
func (h *Host) RemoveCluster(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clusters, name)
}

// Canary does what Envoy's main thread does with a filter configuration before any thread gets it: it starts and
// configures the plugin in a VM of its own and drops that VM without a further callback. What the module did to shared
// data, queues and metrics meanwhile stays, as long as the Host. An error means that Envoy would have refused the
// configuration.
func (h *Host) Canary(m *Module, vc VMConfig, pc PluginConfig) error {
	vc.Thread = "canary"
	vm, err := h.NewVM(m, vc)
	if err != nil {
		return err
	}
	h.store.retain(vc.ID) // as the configuration does by its base VM
	defer vm.drop()
	_, err = vm.Plugin(pc)
	return err
}

// Violation is a host call that Envoy forbids, or with [Config.Strict] one that is never right. It is the cause of the
// VM's [VM.Err] when it failed the VM.
type Violation struct {
	Thread   string
	Callback string // the callback during which the call was made: proxy_on_memory_allocate, _initialize, …
	Within   string // the callback that was interrupted, when Callback is proxy_on_memory_allocate
	Func     string // the host call
	Reason   string
}

func (v *Violation) Error() string {
	in := v.Callback
	if v.Within != "" {
		in += " within " + v.Within
	}
	return fmt.Sprintf("%s in %s: %s", v.Func, in, v.Reason)
}

// Violations lists what modules did against the rules, in order, also in VMs that are closed. Calls that are restricted
// to certain phases always fail the VM, as in Envoy; the others only with [Config.Strict].
func (h *Host) Violations() []*Violation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.violations)
}

func (h *Host) log(e LogEntry) {
	if h.cfg.Log != nil {
		h.cfg.Log(e)
	}
}
