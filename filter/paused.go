package main

import (
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A request is paused for the first state or for its body. Its own callbacks (stream.go) pause it,
// and decide it if they can. What they cannot do is here: bounds, timeouts, and resuming requests
// from the plugin's callbacks: OnTick, and the answer to a poll that brings a state.
//
// A stream is a request, and its progress says for what it is paused. A plugin is the filter in one
// VM; all that is bounded here is bounded per VM.

// Bounds on what a VM pauses. A request that would be paused past them is refused.
const (
	maxPausedRequests = 4096
	// maxPausedBytes, 64 MiB, is for requests in the VM's memory and their bodies in Envoy's.
	maxPausedBytes = 64 << 20
	// streamBytes is what a paused request takes beside its headers and its body: contexts in
	// the SDK and here, and entries of maps.
	streamBytes = 1 << 10
)

// Bounds on how long a request is paused for its body, beside Config.BodyTimeout for the whole
// body.
const (
	// firstByteTimeout is for the first byte. A request that exceeds it may show that Envoy's
	// configuration disagrees with the plugin's (see Config.AllowOnHeadersStopIteration).
	firstByteTimeout = 5 * time.Second
	// crowdedTimeout replaces longer timeouts while more than half of maxPausedRequests or
	// maxPausedBytes is used. It makes room for clients that send their bodies at once, since
	// other clients seem to keep requests paused without sending theirs.
	crowdedTimeout = 2 * time.Second
)

// maxResumed is how many requests one callback of the plugin resumes or answers. Envoy does so
// when the callback has returned, each within the previous one's call (proxy-wasm-cpp-host,
// DeferAfterCallActions), and thousands overflow V8's stack. The remaining requests are left to
// the next tick, which then comes after shortTickPeriod.
const (
	maxResumed      = 64
	shortTickPeriod = time.Millisecond
)

// pause counts a request as paused for a reason, pausedForState or pausedForBody. If the request is
// paused already, pause changes the reason. It returns false if there is no room for the request.
// The host pauses the request by what the callback returns.
func (s *stream) pause(reason progress, now time.Time) bool {
	p := s.plugin
	if s.pausedBytes == 0 {
		if len(p.paused) >= maxPausedRequests {
			return false
		}
		size := s.request.Compact() + streamBytes
		if p.pausedBytes+size > maxPausedBytes {
			return false
		}

		s.pausedBytes = size
		p.pausedBytes += size
		p.paused[s] = struct{}{}
	}

	if s.progress != reason {
		s.progress, s.pausedSince = reason, now
	}
	return true
}

// countBody counts what Envoy buffers of a paused request's body, and ends the pause if the limit
// is exceeded.
func (s *stream) countBody() {
	if s.pausedBytes == 0 {
		return
	}

	more := s.buffered - s.pausedBody
	s.pausedBody = s.buffered
	s.pausedBytes += more
	s.plugin.pausedBytes += more
	if more > 0 && s.plugin.pausedBytes > maxPausedBytes {
		s.endPause(maintenance.RuleHeldLimit, time.Now())
	}
}

// unpause removes a request from the paused ones, if it is one of them. It does not resume it.
func (s *stream) unpause() {
	if s.pausedBytes == 0 {
		return
	}

	s.plugin.pausedBytes -= s.pausedBytes
	s.pausedBytes, s.pausedBody = 0, 0
	delete(s.plugin.paused, s)
}

// resumePaused decides the paused requests that can be decided now or have waited too long, and
// resumes or answers them. It is called from callbacks of the plugin.
func (p *plugin) resumePaused(now time.Time) {
	state := p.currentState(now)
	if state == nil {
		return
	}

	firstByte, whole := firstByteTimeout, p.config.BodyTimeout
	if len(p.paused) > maxPausedRequests/2 || p.pausedBytes > maxPausedBytes/2 {
		firstByte, whole = min(firstByte, crowdedTimeout), min(whole, crowdedTimeout)
	}

	resumed := 0
	for s := range p.paused {
		next := s.nextStep(state, now, firstByte, whole)
		if next == nil {
			continue
		}
		p.inContext(s, next)

		// A request that now waits for its body has not been resumed, unless its headers had to go
		// on for the body to arrive.
		if s.progress != pausedForBody || s.bodyStopped {
			resumed++
		}
		if resumed == maxResumed {
			break
		}
	}
	p.useShortTicks(resumed == maxResumed)
}

// nextStep returns the function that decides a paused request or ends its pause, nil if the request
// has to wait on. firstByte and whole are the timeouts for the first byte of its body and for all
// of it.
func (s *stream) nextStep(state *maintenance.State, now time.Time, firstByte, whole time.Duration) func() {
	waited := now.Sub(s.pausedSince)
	switch {
	case s.progress == pausedForState:
		return func() { s.decidePaused(state, now) }
	case s.complete:
		return s.decidePausedBody
	case s.buffered == 0 && waited > firstByte, waited > whole:
		return func() { s.timeOutBody(now) }
	}
	return nil
}

// decidePaused decides a request that was paused for the first state.
func (s *stream) decidePaused(state *maintenance.State, now time.Time) {
	s.decide(state, now)
	if s.progress == passing || s.progress == pausedForBody && s.bodyStopped {
		s.resume()
	}
}

// decidePausedBody decides a request whose body could not be read as a whole when its last part
// arrived.
func (s *stream) decidePausedBody() {
	s.decideBody()
	if s.progress == passing {
		s.resume()
	}
}

// timeOutBody ends the pause of a request whose body did not arrive in time. A request that passes
// is resumed only if nothing but its headers is paused. Otherwise it goes on with the next part of
// its body, together with what is buffered: older versions of Envoy lose the next part of a body
// that was resumed halfway (envoyproxy/envoy#46842).
func (s *stream) timeOutBody(now time.Time) {
	p := s.plugin
	onlyHeadersPaused := s.buffered == 0 && s.headersPaused()
	refused := s.endPause(maintenance.RuleBodyTimeout, now)
	if !onlyHeadersPaused {
		return
	}

	switch {
	case refused && !p.headersPauseSeen:
		// If Envoy does not pause headers alone, no paused request ever gets its body.
		p.metrics.misconfigured.Increment(1)
		p.errors.reportf("a paused request received no body within %v: allow_on_headers_stop_iteration must have the same value in the plugin configuration and in Envoy's", firstByteTimeout)
	case s.progress == passing:
		s.resume()
	}
}

// resume makes Envoy go on with a request that is paused. It needs the request's context.
func (s *stream) resume() {
	if err := proxywasm.ResumeHttpRequest(); err != nil {
		s.plugin.errors.reportf("resuming a paused request: %v", err)
	}
}

// inContext calls do with s as the effective context, to which host calls apply, and then makes it
// the plugin again.
func (p *plugin) inContext(s *stream, do func()) {
	if err := proxywasm.SetEffectiveContext(s.id); err != nil {
		p.errors.reportf("switching to the context of a paused request: %v", err)
		s.finish(answered) // The stream has ended.
		return
	}

	do()
	if err := proxywasm.SetEffectiveContext(p.id); err != nil {
		p.errors.reportf("switching back to the context of the plugin: %v", err)
	}
}

// useShortTicks sets the time between ticks to shortTickPeriod or, if short is false, to
// tickPeriod.
func (p *plugin) useShortTicks(short bool) {
	if p.shortTicks == short {
		return
	}

	period := tickPeriod
	if short {
		period = shortTickPeriod
	}
	if err := proxywasm.SetTickPeriodMilliSeconds(uint32(period.Milliseconds())); err != nil {
		p.errors.reportf("setting the tick period: %v", err)
		return
	}
	p.shortTicks = short
}
