// Drydock's filter: a proxy-wasm module that decides every request inside the proxy
// by the state that it follows. This package is the adapter between the host and
// the core in the maintenance package; no rule and no parsing lives here.
package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// main never runs in a c-shared module.
func main() {}

func init() { proxywasm.SetVMContext(&vm{}) }

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(id uint32) types.PluginContext { return &plugin{id: id} }

// tickPeriod bounds how late a VM notices a new state. A tick with nothing to do
// costs one or two reads of shared data.
const tickPeriod = 50 * time.Millisecond

// plugin is one configured filter in one VM. Envoy runs a VM per worker, and one in
// its main thread that ticks but never sees a request.
type plugin struct {
	types.DefaultPluginContext
	id     uint32
	config *maintenance.Config
	claims claimPaths

	token, node string
	// proxy is random per Envoy process, vm per plugin and VM.
	proxy, vm string

	// state is nil until the first one came; unknown stands in when none comes.
	state, unknown *maintenance.State
	pages          maintenance.Pages
	// idle: nothing is on or announced, so a request is not even looked at. It holds
	// until idleUntil (zero: until another state comes).
	idle      bool
	idleUntil time.Time

	booted  time.Time // the first tick: only from then on can a state come
	contact time.Time // when the controller last answered any VM of this process
	ackDue  time.Time
	ageDue  time.Time

	requests int // let through and not done
	waiting  map[*stream]struct{}

	follow  follower
	metrics metrics
}

type metrics struct {
	blocked, bypassed, errors, unknown, misconfigured proxywasm.MetricCounter
	revision, stateAge                                proxywasm.MetricGauge
}

// OnPluginStart must be free of side effects on the world outside: Envoy also runs
// it in a VM that it throws away, to try the configuration.
func (p *plugin) OnPluginStart(size int) types.OnPluginStartStatus {
	var raw []byte
	var err error
	if size > 0 {
		if raw, err = proxywasm.GetPluginConfiguration(); err != nil {
			proxywasm.LogCriticalf("drydock: getting the plugin configuration: %v", err)
			return types.OnPluginStartStatusFailed
		}
	}
	if p.config, err = maintenance.ParseConfig(raw); err != nil {
		proxywasm.LogCriticalf("drydock: %v", err)
		return types.OnPluginStartStatusFailed
	}
	p.claims = claimPaths{prefix: append([]string{"metadata", "filter_metadata"}, p.config.JWTMetadata...)}
	p.token = os.Getenv("DRYDOCK_SYNC_TOKEN")
	if node, err := proxywasm.GetProperty([]string{"node", "id"}); err == nil {
		p.node = string(node)
	}
	p.vm = randomID()
	p.unknown = p.config.UnknownState()
	p.pages = make(maintenance.Pages)
	p.waiting = make(map[*stream]struct{})
	p.follow = newFollower(p.config)
	p.proxy = p.follow.processID()

	name := "drydock." + p.config.Name + "."
	p.metrics = metrics{
		blocked:       proxywasm.DefineCounterMetric(name + "blocked"),
		bypassed:      proxywasm.DefineCounterMetric(name + "bypassed"),
		errors:        proxywasm.DefineCounterMetric(name + "errors"),
		unknown:       proxywasm.DefineCounterMetric(name + "unknown"),
		misconfigured: proxywasm.DefineCounterMetric(name + "misconfigured"),
		revision:      proxywasm.DefineGaugeMetric(name + "revision"),
		stateAge:      proxywasm.DefineGaugeMetric(name + "state_age"),
	}
	// A VM that replaces a crashed one, or comes with a new worker, has the state
	// before its first request.
	p.adoptShared()
	if err := proxywasm.SetTickPeriodMilliSeconds(uint32(tickPeriod.Milliseconds())); err != nil {
		proxywasm.LogCriticalf("drydock: setting the tick period: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func randomID() string { return fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()) }

func (p *plugin) NewHttpContext(id uint32) types.HttpContext { return &stream{plugin: p, id: id} }

// OnTick is the filter's only clock: the module has no timers.
func (p *plugin) OnTick() {
	now := time.Now()
	if p.booted.IsZero() {
		p.booted = now
	}
	p.adoptShared()
	p.follow.tick(p, now)
	if !p.idleUntil.IsZero() && !now.Before(p.idleUntil) {
		p.refresh(now)
	}
	if len(p.waiting) > 0 {
		p.attendWaiting(now)
	}
	if p.state != nil && !now.Before(p.ackDue) {
		p.ack(now)
	}
	if p.follow.leads && !now.Before(p.ageDue) && !p.contact.IsZero() {
		p.ageDue = now.Add(time.Second)
		record(p.metrics.stateAge, int64(now.Sub(p.contact)/time.Second))
	}
}

// adopt swaps the state that requests are decided by.
func (p *plugin) adopt(s *maintenance.State, now time.Time) {
	p.state = s
	p.refresh(now)
	p.ack(now)
	if p.follow.leads {
		record(p.metrics.revision, int64(s.Version().Revision))
	}
}

// refresh recomputes what only time changes: windows open and close on the proxy's
// own clock.
func (p *plugin) refresh(now time.Time) {
	p.idle, p.idleUntil = p.state.Idle(now)
}

// current is the state to decide by, nil while the first one is still awaited.
func (p *plugin) current(now time.Time) *maintenance.State {
	if p.state != nil {
		return p.state
	}
	if p.booted.IsZero() || now.Sub(p.booted) < p.config.BootWait {
		return nil
	}
	return p.unknown
}

// record sets a gauge; the SDK can only add to one.
func record(g proxywasm.MetricGauge, value int64) { g.Add(value - g.Value()) }

// fail counts an error and logs it, once for as long as the same one goes on.
func (p *plugin) fail(format string, args ...any) {
	p.metrics.errors.Increment(1)
	if text := fmt.Sprintf(format, args...); text != p.follow.complaint {
		p.follow.complaint = text
		proxywasm.LogErrorf("drydock: %s", text)
	}
}
