// Package main is Drydock's filter: a proxy-wasm module that decides every request inside the
// proxy, by the state that the controller publishes. It is only the adapter between the proxy,
// which is called the host, and package maintenance, called the core, which has the rules and does
// the parsing.
//
// Envoy runs the module in one VM per worker thread, and in one in its main thread, which has no
// requests. The VMs of a process share nothing but what the host stores for them (shared data) and
// metrics. The host calls the exported callbacks, here the methods whose names begin with On, each
// VM's one at a time. The module calls the host by host calls (package proxywasm of the SDK). In a
// callback they concern the context that it is for, a plugin or a stream, which is called the
// effective context.
//
// Its files are:
//
//   - main.go: the plugin: its start, its tick, and the state in force.
//   - stream.go: one request, from its headers to its answer.
//   - attributes.go: what the proxy knows about a request.
//   - paused.go: the requests that wait for the first state or for their bodies.
//   - follow.go: how the plugin follows the controller: lease, poll and acknowledgement.
//   - shared.go: the state in shared data, where all VMs of a process find it.
//   - pages.go: the operators' own maintenance pages.
//   - metrics.go and errorlog.go: what operators see of all this.
//   - host_wasm.go: host calls that the SDK lacks; host_native.go replaces them in tests.
package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// main never runs in a c-shared module.
func main() {}

func init() { proxywasm.SetVMContext(&vm{}) }

// vm makes a plugin for each configured filter that runs in this VM.
type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(id uint32) types.PluginContext { return &plugin{id: id} }

// tickPeriod bounds how late a VM notices a new state. A tick with nothing to do costs one or two
// reads of shared data.
const tickPeriod = 50 * time.Millisecond

// plugin is one configured filter in one VM. Envoy runs a VM per worker, and one in its main
// thread that ticks but never sees a request.
type plugin struct {
	types.DefaultPluginContext
	id         uint32
	config     *maintenance.Config
	attributes attributes

	// state is the state in force, nil until the first one arrives. If none arrives within
	// Config.BootWait, unknown decides in its place: it is what Config.Unknown says.
	state, unknown *maintenance.State
	// idle is set while nothing is on or announced: requests are then not even looked at. It is
	// valid until idleUntil or, if that is zero, until another state is adopted.
	idle      bool
	idleUntil time.Time

	firstTick     time.Time // when Config.BootWait began, zero before
	lastTick      time.Time // by the wall clock, which can be set back
	unknownLogged bool      // it was logged that no state arrived in time

	admitted int // requests that were let through and have not ended
	// paused are the requests that wait, and pausedBytes is what they take, in the memory of
	// this VM and in Envoy's buffers.
	paused      map[*stream]struct{}
	pausedBytes int
	// shortTicks is set while ticks are shortTickPeriod apart.
	shortTicks bool
	// headersPauseSeen is set once the body of a request with paused headers has arrived, which
	// proves that Envoy is configured to pause headers.
	headersPauseSeen bool

	follow  follower
	pages   pages
	metrics metrics
	errors  errorLog
}

// OnPluginStart must not have side effects outside of this process: Envoy also calls it in a VM
// that it throws away, to try the configuration.
func (p *plugin) OnPluginStart(size int) types.OnPluginStartStatus {
	if err := p.readConfig(size); err != nil {
		proxywasm.LogCriticalf("drydock: %v", err)
		return types.OnPluginStartStatusFailed
	}

	p.attributes = attributes{claimsPath: p.config.JWTMetadata}
	p.unknown = p.config.UnknownState()
	p.paused = make(map[*stream]struct{})
	p.follow = newFollower(p)
	p.pages = newPages(p)
	p.metrics = newMetrics(p.config.Name)
	p.errors = newErrorLog(p.metrics.errors)
	p.follow.contactErrors = newErrorLog(p.metrics.errors)

	// A VM that replaces a crashed one, or belongs to a new worker, has the state before its
	// first request.
	p.follow.adoptShared(time.Now())

	if err := proxywasm.SetTickPeriodMilliSeconds(uint32(tickPeriod.Milliseconds())); err != nil {
		proxywasm.LogCriticalf("drydock: setting the tick period: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

// readConfig parses the plugin configuration of size bytes. None is a valid one.
func (p *plugin) readConfig(size int) (err error) {
	var raw []byte
	if size > 0 {
		if raw, err = proxywasm.GetPluginConfiguration(); err != nil {
			return fmt.Errorf("getting the plugin configuration: %w", err)
		}
	}
	p.config, err = maintenance.ParseConfig(raw)
	return err
}

func (p *plugin) NewHttpContext(id uint32) types.HttpContext { return &stream{plugin: p, id: id} }

// OnTick is called every tickPeriod. It does all that is due by then, since the module has no
// timers. A new state comes first, so that all the rest uses it.
func (p *plugin) OnTick() {
	now := time.Now()
	if p.firstTick.IsZero() {
		p.firstTick = now
	}

	p.follow.adoptShared(now)
	p.follow.tick(now)
	p.refreshIdleIfDue(now)
	p.logUnknown(now)
	p.pages.forgetMissing()
	p.resumePaused(now)

	p.metrics.recordPaused(len(p.paused), p.pausedBytes)
	p.follow.ackIfDue(now)
	p.recordStateIfDue(now)
}

// logUnknown logs once that no state arrived in time.
func (p *plugin) logUnknown(now time.Time) {
	if p.state != nil || p.unknownLogged || p.awaitsState(now) {
		return
	}
	p.unknownLogged = true
	proxywasm.LogWarnf("drydock: no state arrived within %v; until one does, requests are decided by the policy for an unknown state: %s", p.config.BootWait, p.config.Unknown)
}

// adopt puts a state in force. The acknowledgement waits for the next tick, because
// OnPluginStart adopts too and must not call the controller.
func (p *plugin) adopt(s *maintenance.State, now time.Time) {
	p.state = s
	p.refreshIdle(now)
	p.follow.ackDue, p.metrics.stateDue = now, now
	p.pages.keepNamed(s.PageHashes)
}

// refreshIdleIfDue refreshes idle when it expires, and when the clock was set back, since that may
// have put the proxy into a window again.
func (p *plugin) refreshIdleIfDue(now time.Time) {
	expired := !p.idleUntil.IsZero() && !now.Before(p.idleUntil)
	setBack := wall(now).Before(p.lastTick)
	p.lastTick = wall(now)
	if p.state != nil && (expired || setBack) {
		p.refreshIdle(now)
	}
}

// refreshIdle computes idle for the state in force. Time alone can change it, because windows open
// and close by the proxy's own clock.
func (p *plugin) refreshIdle(now time.Time) {
	p.idle, p.idleUntil = p.state.Idle(wall(now))
}

// wall strips the monotonic reading from a time. Without it, times are compared by the wall clock,
// so that a clock that was set back is noticed.
func wall(now time.Time) time.Time { return now.Round(0) }

// currentState returns the state to decide by, nil while the first one is awaited.
func (p *plugin) currentState(now time.Time) *maintenance.State {
	switch {
	case p.state != nil:
		return p.state
	case p.awaitsState(now):
		return nil
	}
	return p.unknown
}

// awaitsState reports whether requests still wait for the first state.
func (p *plugin) awaitsState(now time.Time) bool {
	return p.state == nil && (p.firstTick.IsZero() || now.Sub(p.firstTick) < p.config.BootWait)
}

// version returns the version of the state in force, zero if there is none.
func (p *plugin) version() (v maintenance.Version) {
	if p.state != nil {
		v = p.state.Version()
	}
	return v
}

// randomID returns 128 random bits in hexadecimal.
func randomID() string { return fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()) }
