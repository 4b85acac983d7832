package main

import (
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Requests that are held: for the first state, or for a body that has to be judged.

// Bounds on what a VM holds. Past them a request that would be held is refused.
const (
	maxHeldRequests = 4096
	// maxHeldBytes is of requests in the VM's memory and of their bodies in Envoy's.
	maxHeldBytes = 64 << 20
	// streamBytes is what a held stream takes beside its headers and its body: contexts in
	// the SDK and here, and places in maps.
	streamBytes = 1 << 10
)

// Bounds on how long a request is held for its body; Config.BodyTimeout is the one for
// all of it.
const (
	// bodyGrace is for the first byte. Past it the proxy's configuration may disagree with
	// ours (see Config.AllowOnHeadersStopIteration).
	bodyGrace = 5 * time.Second
	// crowdedPatience is for all of it while more than half of what may be held is held. It
	// makes room for clients that send their bodies at once, since somebody seems to hold
	// places without doing so.
	crowdedPatience = 2 * time.Second
)

// maxAnswers is how many requests one callback of the plugin lets go or answers. Envoy does
// so when the callback has returned, each within the last one's (proxy-wasm-cpp-host,
// DeferAfterCallActions), and thousands overflow V8's stack. What is left over is for
// the next tick, which then comes soon.
const (
	maxAnswers = 64
	soon       = time.Millisecond
)

// hold keeps a request, and reports whether there is room for it.
func (s *stream) hold(as stage, now time.Time) bool {
	p := s.plugin
	if s.held == 0 {
		if len(p.waiting) >= maxHeldRequests {
			return false
		}
		held := s.request.Compact() + streamBytes
		if p.heldBytes+held > maxHeldBytes {
			return false
		}
		s.held = held
		p.heldBytes += held
		p.waiting[s] = 0
	}
	if s.stage != as {
		s.stage, s.since = as, now
	}
	return true
}

// count adds what Envoy holds of a body by now, and gives the request up where that is
// too much.
func (s *stream) count() {
	p := s.plugin
	if s.held == 0 {
		return
	}
	more := s.buffered - p.waiting[s]
	p.waiting[s] = s.buffered
	s.held += more
	p.heldBytes += more
	if more > 0 && p.heldBytes > maxHeldBytes {
		s.giveUp(maintenance.RuleHeldLimit, time.Now())
	}
}

func (s *stream) release() {
	if s.held > 0 {
		s.plugin.heldBytes -= s.held
		s.held = 0
		delete(s.plugin.waiting, s)
	}
}

// giveUp ends the waiting of a request that can be held no longer, and reports whether
// the rule was the reason: where the state has changed meanwhile, it may not want to see
// the body any more.
func (s *stream) giveUp(rule maintenance.Rule, now time.Time) bool {
	p := s.plugin
	state := p.current(now)
	if state == nil {
		d := p.unknown.Decide(s.request, wall(now)) // for the reply alone
		s.deny(&d, rule, now)
		return true
	}
	d := state.Decide(s.request, wall(now))
	switch d.Verdict {
	case maintenance.Pass:
		s.pass(&d)
		return false
	case maintenance.Refuse:
		s.refuse(&d, now)
		return false
	}
	s.deny(&d, rule, now)
	return true
}

// attendWaiting looks after held requests, from a callback of the plugin.
func (p *plugin) attendWaiting(now time.Time) {
	state := p.current(now)
	if state == nil {
		return
	}
	grace, patience := bodyGrace, p.config.BodyTimeout
	if len(p.waiting) > maxHeldRequests/2 || p.heldBytes > maxHeldBytes/2 {
		grace, patience = min(grace, crowdedPatience), min(patience, crowdedPatience)
	}
	answers := 0
	for s := range p.waiting {
		act := s.due(state, now, grace, patience)
		if act == nil {
			continue
		}
		p.within(s, act)
		if s.stage != awaitsBody || s.stopped {
			answers++
		}
		if answers == maxAnswers {
			break
		}
	}
	p.tickEvery(answers == maxAnswers)
}

// due is what there is to be done for a held request, nil for nothing.
func (s *stream) due(state *maintenance.State, now time.Time, grace, patience time.Duration) func() {
	waited := now.Sub(s.since)
	switch {
	case s.stage == awaitsState:
		return func() { s.leaveBoot(state, now) }
	case s.complete:
		return s.judgeLate
	case s.buffered == 0 && waited > grace, waited > patience:
		return func() { s.timeOut(now) }
	}
	return nil
}

// tickEvery sets how often the plugin is called: soon while requests are left over.
func (p *plugin) tickEvery(leftOver bool) {
	if p.hurries == leftOver {
		return
	}
	period := tickPeriod
	if leftOver {
		period = soon
	}
	if err := proxywasm.SetTickPeriodMilliSeconds(uint32(period.Milliseconds())); err != nil {
		p.fail("setting the tick period: %v", err)
		return
	}
	p.hurries = leftOver
}

// leaveBoot decides a request that was held for the first state.
func (s *stream) leaveBoot(state *maintenance.State, now time.Time) {
	s.decide(state, now)
	if s.stage == decided || s.stage == awaitsBody && s.stopped {
		s.resume()
	}
}

// judgeLate judges a body whose last part came when not all of it could be read.
func (s *stream) judgeLate() {
	s.judgeBody()
	if s.stage == decided {
		s.resume()
	}
}

// timeOut gives up a request whose body does not come, or not in time.
func (s *stream) timeOut(now time.Time) {
	p := s.plugin
	nothing := s.buffered == 0 && s.headersHeld()
	gaveUp := s.giveUp(maintenance.RuleBodyTimeout, now)
	switch {
	case !nothing:
		// What came of a body goes on with its next part: older Envoys lose that part when
		// the body was resumed halfway (envoyproxy/envoy#46842).
	case gaveUp && !p.holds:
		p.metrics.misconfigured.Increment(1)
		p.fail("a held request got no body for %v: is allow_on_headers_stop_iteration the same in the plugin configuration and in Envoy's?", bodyGrace)
	case s.stage == decided:
		s.resume()
	}
}

// gaugeHeld says what is held. Each VM adds its part to gauges that it shares with the
// others.
func (p *plugin) gaugeHeld() {
	if n := len(p.waiting); n != p.gauged.requests {
		p.metrics.heldRequests.Add(int64(n - p.gauged.requests))
		p.gauged.requests = n
	}
	if p.heldBytes != p.gauged.bytes {
		p.metrics.heldBytes.Add(int64(p.heldBytes - p.gauged.bytes))
		p.gauged.bytes = p.heldBytes
	}
}

// within runs do with the host's eyes on a stream instead of on the plugin.
func (p *plugin) within(s *stream, do func()) {
	if err := proxywasm.SetEffectiveContext(s.id); err != nil {
		p.fail("turning to a held request: %v", err)
		s.settle(answered) // it has ended
		return
	}
	do()
	if err := proxywasm.SetEffectiveContext(p.id); err != nil {
		p.fail("turning back to the plugin: %v", err)
	}
}

func (s *stream) resume() {
	if err := proxywasm.ResumeHttpRequest(); err != nil {
		s.plugin.fail("resuming a held request: %v", err)
	}
}
