// Drydock's filter: a proxy-wasm module that decides every request inside the proxy
// by the state that it follows. This package is the adapter between the host and
// the core in the maintenance package; no rule and no parsing lives here.
package main

import (
	"fmt"
	"maps"
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
	pages          pages
	// idle: nothing is on or announced, so a request is not even looked at. It holds
	// until idleUntil (zero: until another state comes).
	idle      bool
	idleUntil time.Time
	looked    time.Time // at the clock on the wall, by the last tick

	booted time.Time // the first tick: only from then on can a state come
	heard  time.Time // when the controller last answered any VM of this process
	ackDue time.Time
	// gaugesDue is when the leader records the gauges again.
	gaugesDue time.Time

	requests int // let through and not done
	// waiting are the held requests, with how much of their bodies heldBytes counts.
	waiting   map[*stream]int
	heldBytes int
	hurries   bool                          // ticks come soon, for requests that were left over
	gauged    struct{ requests, bytes int } // what the gauges say of them
	holds     bool                          // a held request's body came, so Envoy does hold headers

	follow  follower
	metrics metrics
	// complaints are the errors that were logged, by their text, with when each last
	// happened. Those of contact are about the controller and end when it answers.
	complaints, contact map[string]time.Time
	lost                bool // it was logged that no state came
}

type metrics struct {
	blocked, bypassed, errors, unknown, misconfigured, heldLimit proxywasm.MetricCounter
	revision, stateAge, heldRequests, heldBytes                  proxywasm.MetricGauge
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
	p.claims = claimPaths{path: p.config.JWTMetadata}
	p.token = os.Getenv("DRYDOCK_SYNC_TOKEN")
	if node, err := proxywasm.GetProperty([]string{"node", "id"}); err == nil {
		p.node = string(node)
	}
	p.vm = randomID()
	p.unknown = p.config.UnknownState()
	p.pages.read = make(map[string][]byte)
	p.waiting = make(map[*stream]int)
	p.complaints, p.contact = make(map[string]time.Time), make(map[string]time.Time)
	p.follow = newFollower(p.config)
	p.proxy = p.follow.processID()

	name := "drydock." + p.config.Name + "."
	p.metrics = metrics{
		blocked:       proxywasm.DefineCounterMetric(name + "blocked"),
		bypassed:      proxywasm.DefineCounterMetric(name + "bypassed"),
		errors:        proxywasm.DefineCounterMetric(name + "errors"),
		unknown:       proxywasm.DefineCounterMetric(name + "unknown"),
		misconfigured: proxywasm.DefineCounterMetric(name + "misconfigured"),
		heldLimit:     proxywasm.DefineCounterMetric(name + "held_limit"),
		heldRequests:  proxywasm.DefineGaugeMetric(name + "held_requests"),
		heldBytes:     proxywasm.DefineGaugeMetric(name + "held_bytes"),
		revision:      proxywasm.DefineGaugeMetric(name + "revision"),
		stateAge:      proxywasm.DefineGaugeMetric(name + "state_age"),
	}
	// A VM that replaces a crashed one, or comes with a new worker, has the state
	// before its first request.
	p.adoptShared(time.Now())
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
	p.adoptShared(now)
	p.follow.tick(p, now)
	if p.state != nil && (!p.idleUntil.IsZero() && !now.Before(p.idleUntil) || wall(now).Before(p.looked)) {
		p.refresh(now)
	}
	p.looked = wall(now)
	if p.state == nil && !p.lost && !p.waits(now) {
		p.lost = true
		proxywasm.LogWarnf("drydock: no state came within %v; until one does, the policy for unknown decides: %s", p.config.BootWait, p.config.Unknown)
	}
	p.pages.notice(p.follow.pagesKey)
	p.attendWaiting(now)
	p.gaugeHeld()
	if p.state != nil && !now.Before(p.ackDue) {
		p.ack(now)
	}
	if p.follow.leads && !now.Before(p.gaugesDue) {
		p.gaugesDue = now.Add(time.Second)
		p.gauge(now)
	}
}

// gauge records what the leader knows.
func (p *plugin) gauge(now time.Time) {
	since := p.heard
	if since.IsZero() {
		since = p.booted
	}
	record(p.metrics.stateAge, uint64(max(0, now.Sub(since)/time.Second)))
	record(p.metrics.revision, p.version().Revision)
}

// adopt swaps the state that requests are decided by. The next tick says so to the
// controller: OnPluginStart, which adopts too, must not.
func (p *plugin) adopt(s *maintenance.State, now time.Time) {
	p.state = s
	p.refresh(now)
	p.ackDue, p.gaugesDue = now, now
	p.pages.keep(s.PageHashes)
}

// page returns an own page, nil where it is not there.
func (p *plugin) page(sha string) []byte { return p.pages.get(p.follow.pageKey, sha) }

// version is that of the state, zero without one.
func (p *plugin) version() (v maintenance.Version) {
	if p.state != nil {
		v = p.state.Version()
	}
	return v
}

// refresh recomputes what only time changes: windows open and close on the proxy's
// own clock.
func (p *plugin) refresh(now time.Time) {
	p.idle, p.idleUntil = p.state.Idle(wall(now))
}

// wall is the time on the clock that windows follow, also where it is set back: without
// its monotonic reading, by which it would still be later.
func wall(now time.Time) time.Time { return now.Round(0) }

// waits tells whether the first state is still awaited.
func (p *plugin) waits(now time.Time) bool {
	return p.state == nil && (p.booted.IsZero() || now.Sub(p.booted) < p.config.BootWait)
}

// current is the state to decide by, nil while the first one is still awaited.
func (p *plugin) current(now time.Time) *maintenance.State {
	switch {
	case p.state != nil:
		return p.state
	case p.waits(now):
		return nil
	}
	return p.unknown
}

// Bounds on the log: a text is logged again when the error has not happened for
// complaintQuiet, and no more than maxComplaints texts are told apart.
const (
	complaintQuiet = time.Hour
	maxComplaints  = 64
)

// fail counts an error, and logs each text once for as long as it goes on.
func (p *plugin) fail(format string, args ...any) { p.complain(p.complaints, format, args) }

// failContact is fail for an error that is over when the controller answers.
func (p *plugin) failContact(format string, args ...any) { p.complain(p.contact, format, args) }

func (p *plugin) complain(known map[string]time.Time, format string, args []any) {
	p.metrics.errors.Increment(1)
	text, now := fmt.Sprintf(format, args...), time.Now()
	last, again := known[text]
	if len(known) >= maxComplaints && !again {
		maps.DeleteFunc(known, func(_ string, last time.Time) bool { return now.Sub(last) >= complaintQuiet })
		if len(known) >= maxComplaints {
			text = "there are more errors than are told apart; further ones are only counted"
			last, again = known[text]
		}
	}

	known[text] = now
	if !again || now.Sub(last) >= complaintQuiet {
		proxywasm.LogErrorf("drydock: %s", text)
	}
}
