package wasmhost

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// A plugin is a filter configuration in a VM. This file starts plugins, removes them and reloads
// them after a crash. In the module, a plugin is a root context with an id; it lives in one
// instance of the module, which ends when the VM crashes (instance.go). A [Stream] passes through
// plugins.

// FailurePolicy selects what happens to streams when the VM has crashed.
type FailurePolicy int

// The failure policies of Envoy's PluginConfig.
const (
	FailClosed FailurePolicy = iota // all streams are answered 503. The default of Envoy
	FailReload                      // like FailClosed, but a new stream restarts the VM, at most once per ReloadBackoff
	FailOpen                        // new streams pass without the filter; open ones are answered 503, as in Envoy
)

// PluginConfig is Envoy's PluginConfig, the configuration of a filter.
type PluginConfig struct {
	Name          string
	RootID        string
	Configuration []byte
	FailurePolicy FailurePolicy

	// ReloadBackoff is the minimum time between two loads with FailReload. 0 is Envoy's default of
	// 1 s. Envoy adds up to half of it at random; this host does not.
	ReloadBackoff time.Duration

	// AllowOnHeadersStopIteration makes Pause from proxy_on_request_headers and
	// proxy_on_response_headers hold the headers while the body callbacks go on (Envoy 1.35 and
	// later). Otherwise Pause stops those too.
	AllowOnHeadersStopIteration bool
}

// key returns a string that is the same for two configurations if and only if they are equal.
func (c PluginConfig) key() string {
	return fmt.Sprintf("%q %q %q %d %d %t", c.Name, c.RootID, c.Configuration, c.FailurePolicy, c.ReloadBackoff, c.AllowOnHeadersStopIteration)
}

// The errors that [VM.Plugin] wraps.
var (
	ErrStart     = errors.New("the module refused to start")
	ErrConfigure = errors.New("the module refused the plugin's configuration")
)

// Plugin is a filter configuration in one VM. In the guest, it is a root context.
type Plugin struct {
	vm      *VM
	cfg     PluginConfig
	users   int           // calls of VM.Plugin that returned this plugin, minus those of Remove
	streams []*Stream     // open ones
	root    *root         // in the instance of the VM in which the plugin was last started
	loaded  time.Duration // when it was last started, in monotonic time
}

// root is a root context: a plugin in one instance of the module.
type root struct {
	wasmContext
	in          *instance
	plugin      *Plugin
	created     bool          // proxy_on_context_create was called
	configuring bool          // the plugin's configuration can be read
	pendingDone bool          // proxy_on_done returned false
	period      time.Duration // between ticks; 0: no ticks
	due         time.Time     // of the next tick, for VM.Run
	callouts    []*Callout
	response    *calloutResponse // to the callout whose callback is running

	status        Status // returned by proxy_get_status; set when a callout fails, and never reset
	statusMessage string // returned by proxy_get_status, during the callback of a failed callout alone
}

// Plugin starts and configures a plugin in the VM, as Envoy does on each thread when a filter
// configuration arrives. A second call with the same configuration returns the same plugin, which
// then must be removed twice. To change a configuration, make the new plugin, send it the new
// streams, and call [Plugin.Remove] on the old one. A VM that has crashed is restarted first, but
// its other plugins are not. The error wraps [ErrStart], [ErrConfigure] or the [VM.Err] of the VM.
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

// start makes the plugin's root context in the VM, which it restarts if the VM has crashed.
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

	if err := r.start(); err != nil {
		r.forget()
		return fmt.Errorf("start plugin %q: %w", p.cfg.Name, err)
	}

	p.root = r
	return nil
}

// start lets the module create, start and configure the root context. The start and the
// configuration fail if the callback returns 0, which is false.
func (r *root) start() error {
	const noParent = 0 // a root context has no parent context
	in, c := r.in, &r.wasmContext

	r.configuring = true
	in.call(cbContextCreate, c, uint64(r.id), noParent)
	r.configuring = false
	r.created = true

	vmConfigSize := uint64(len(in.vm.cfg.Configuration))
	if in.exports[cbVMStart] != nil && in.call(cbVMStart, c, uint64(r.id), vmConfigSize) == 0 && in.err == nil {
		return ErrStart
	}
	in.doAfterCallActions()

	configSize := uint64(len(r.plugin.cfg.Configuration))
	r.configuring = true
	refused := in.exports[cbConfigure] != nil && in.callThenAct(cbConfigure, c, uint64(r.id), configSize) == 0
	r.configuring = false

	if in.err != nil {
		return in.err
	}
	if refused {
		return ErrConfigure
	}
	return nil
}

// Remove removes the plugin from the VM once its streams have ended, with the callbacks
// proxy_on_done and proxy_on_delete.
func (p *Plugin) Remove() {
	p.users--
	p.release()
}

// release shuts the plugin down if nothing uses it any longer.
func (p *Plugin) release() {
	if p.users == 0 && len(p.streams) == 0 {
		p.shutdown()
	}
}

// shutdown ends the root context. If proxy_on_done returns false, the context remains until the
// module calls proxy_done.
func (p *Plugin) shutdown() {
	p.vm.plugins = slices.DeleteFunc(p.vm.plugins, func(q *Plugin) bool { return q == p })

	r := p.root
	if r.in.err != nil || r.in != p.vm.in {
		return
	}

	if r.in.exports[cbDone] != nil && r.in.callThenAct(cbDone, &r.wasmContext, uint64(r.id)) == 0 {
		r.pendingDone = true
		return
	}

	r.delete()
}

// delete ends the context in the module and in the instance.
func (r *root) delete() {
	r.in.callThenAct(cbDelete, &r.wasmContext, uint64(r.id))
	r.cancelCallouts()
	r.forget()
}

// forget removes the context without calling the module.
func (r *root) forget() {
	delete(r.in.contexts, r.id)
	r.in.roots = slices.DeleteFunc(r.in.roots, func(q *root) bool { return q == r })
}

// tick calls proxy_on_tick, and sets when the next tick is due.
func (r *root) tick() {
	if r.in.err == nil {
		r.in.callThenAct(cbTick, &r.wasmContext, uint64(r.id))
	}

	r.due = time.Now().Add(r.period)
}

// Tick calls proxy_on_tick once, if the module has set a tick period for the plugin.
func (p *Plugin) Tick() {
	if p.root.period > 0 {
		p.root.tick()
	}
}

// TickPeriod returns the tick period that the module has set, 0 if it has set none.
func (p *Plugin) TickPeriod() time.Duration { return p.root.period }

// ContextID returns the id of the plugin's root context in the module.
func (p *Plugin) ContextID() uint32 { return p.root.id }

// reload restarts a crashed VM if the plugin's failure policy asks for it and the backoff has
// passed since the plugin was last started.
func (p *Plugin) reload() {
	if p.root.in.err == nil || p.cfg.FailurePolicy != FailReload {
		return
	}

	backoff := p.cfg.ReloadBackoff
	if backoff == 0 {
		backoff = time.Second
	}
	if p.vm.host.cfg.Clock.Mono()-p.loaded < backoff {
		return
	}

	if err := p.start(); err != nil {
		p.vm.in.log(slog.LevelError, err.Error()) // the next try is after the backoff
	}
}
