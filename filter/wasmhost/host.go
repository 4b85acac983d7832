// Package wasmhost runs a proxy-wasm module as Envoy does, without Envoy.
//
// It implements the host side of the proxy-wasm ABI 0.2.0 and 0.2.1 for HTTP filters on wazero,
// after proxy-wasm-cpp-host and Envoy's source/extensions/common/wasm. It follows them in the order
// of callbacks, in the moment at which a local reply or a resumed stream takes effect, and in what
// a module must not do. A [Host] stands for one Envoy process, a [VM] for the module on one of its
// threads, a [Plugin] for one filter configuration on that thread (in the guest: a root context),
// and a [Stream] for one request that travels through one or more plugins.
//
// Nothing runs in the background: callbacks run on the goroutine that calls a method of a VM, a
// Plugin, a Stream or a Callout. A VM and everything that belongs to it must be used by one
// goroutine at a time, like a thread of Envoy. VMs of one Host may run in parallel, and all methods
// of Host are safe for concurrent use. [VM.Run] is the event loop of a VM that runs unattended.
//
// Not implemented: gRPC callouts, for which host calls return Unimplemented. Callbacks of TCP
// filters, on_foreign_function and callbacks for metadata are never called.
//
// The files, from the process to one host call:
//   - host.go, clock.go, module.go: the process, its clock, and the compiled module;
//   - vm.go, instance.go, plugin.go: a VM on its thread, one life of it from start to crash, and
//     the root contexts in it;
//   - stream.go, pipe.go, filter.go, reply.go: a request, its passage through the filters in each
//     direction, the callbacks of one filter, and local replies;
//   - hostcall.go, abi.go, trace.go: how a host call enters the host, the table of all of them, and
//     what the trace shows;
//   - headers.go, buffer.go, property.go, store.go, metric.go, callout.go, wasi.go: what host calls
//     work on, each with its host calls.
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

// Config is what an Envoy process provides to all its modules. The zero value is a process with the
// machine's clock and no cluster.
type Config struct {
	// Clusters are the upstream clusters that a module may call. With a nil handler, the cluster is
	// known and its calls wait in [Host.Callouts]. Any other handler runs on a goroutine of its
	// own, and its answer arrives through [VM.Dispatch].
	Clusters map[string]http.Handler

	// Clock is the clock that modules see.
	Clock Clock

	// Properties are returned by get_property in every context. In a stream, its own properties
	// come first.
	Properties map[string]any

	// ForeignFunctions answer proxy_call_foreign_function by name. Other names are NotFound.
	ForeignFunctions map[string]func(argument []byte) ([]byte, Status)

	// Log receives what modules log, what they write to standard output (level info) and standard
	// error (level error), and why a VM failed. Several VMs may call it at once. If it is nil, the
	// entries are dropped.
	Log func(LogEntry)

	// Trace receives every callback and every host call, in order for each VM, with all values that
	// were passed. It must not be set where these include secrets. Several VMs may call it at once.
	Trace func(Call)

	// Strict fails the VM on what Envoy tolerates although it is never right: resuming a stream
	// that is not paused, was already answered or has ended; a second local reply; a local reply
	// without a stream; and reading a part of a body after its callback, when Envoy no longer owns
	// the bytes that it returns. See [Host.Violations].
	Strict bool

	// Fault makes proxy-wasm host calls fail: a function for which it returns a status other than
	// StatusOK does nothing and returns that status. It serves to test how a module handles
	// failures that this host, like Envoy, seldom produces.
	Fault func(function string) Status

	// LegacyWASI selects the WASI of Envoy before proxy-wasm-cpp-host #533 (April 2026), such as
	// that of Envoy 1.36.4: poll_oneoff returns ENOSYS and is forbidden during memory allocation,
	// fewer functions exist, and fewer are allowed during _initialize.
	LegacyWASI bool

	// LegacyResume selects the behaviour of Envoy before envoy#46842 (August 2026; 1.36.4 is one):
	// if a plugin held a part of a body, was resumed before the end of the body, and returns
	// Continue for the next part, that part is lost.
	LegacyResume bool
}

// LogEntry is one message of a module.
type LogEntry struct {
	Thread  string     // VMConfig.Thread
	Plugin  string     // PluginConfig.Name, or "" if no plugin is running
	Level   slog.Level // Envoy's trace is slog.LevelDebug-4, its critical is slog.LevelError+4
	Message string
}

// Host is one Envoy process: what its VMs share. A restart, also a hot restart, is a new Host.
type Host struct {
	cfg Config

	mu         sync.Mutex
	vms        []*VM // open ones, in the order in which they were made
	clusters   map[string]http.Handler
	callouts   []*Callout // that wait for an answer, oldest first
	violations []*Violation
	store      store // has a mutex of its own
}

// New starts a process without VMs.
func New(cfg Config) *Host {
	if cfg.Clock.Mono == nil {
		start := time.Now().Add(-time.Hour) // any time in the past: Go's runtime does not accept a clock at zero
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

// Close closes every VM that is left, in the order in which they were made, as Envoy does on exit.
func (h *Host) Close() {
	h.mu.Lock()
	vms := slices.Clone(h.vms)
	h.mu.Unlock()

	for _, vm := range vms {
		vm.Close()
	}
}

// SetCluster adds or replaces a cluster, as CDS does. [Config.Clusters] describes the handler.
func (h *Host) SetCluster(name string, handler http.Handler) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.clusters[name] = handler
}

// RemoveCluster makes later calls to the cluster fail with BadArgument. Calls in progress go on.
func (h *Host) RemoveCluster(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()

	delete(h.clusters, name)
}

// Canary does what Envoy's main thread does with a filter configuration before any worker gets it:
// it starts and configures the plugin in a VM of its own and drops that VM without a further
// callback. What the module did to shared data, queues and metrics remains as long as the Host. An
// error means that Envoy would have rejected the configuration.
func (h *Host) Canary(m *Module, vc VMConfig, pc PluginConfig) error {
	vc.Thread = "canary"
	vm, err := h.NewVM(m, vc)
	if err != nil {
		return err
	}
	defer vm.drop()

	// Envoy keeps the VM in which it has loaded a configuration (the base VM), so the shared data
	// of this VM ID stay when the temporary VM is gone.
	h.store.retain(vc.ID)
	_, err = vm.Plugin(pc)
	return err
}

// Violation is a host call that Envoy forbids or, with [Config.Strict], one that is never right. If
// it failed the VM, [VM.Err] wraps it.
type Violation struct {
	Thread   string
	Callback string // during which the call was made: proxy_on_memory_allocate, _initialize, …
	Within   string // the callback that was interrupted, if Callback is proxy_on_memory_allocate
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

// Violations returns the violations of all modules in order, also those in VMs that are closed. A
// call in a phase that does not allow it always fails the VM, as in Envoy; the other violations do
// so only with [Config.Strict].
func (h *Host) Violations() []*Violation {
	h.mu.Lock()
	defer h.mu.Unlock()

	return slices.Clone(h.violations)
}

// log passes an entry to [Config.Log], if there is one.
func (h *Host) log(e LogEntry) {
	if h.cfg.Log != nil {
		h.cfg.Log(e)
	}
}
