package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// actionStopAllIterationAndWatermark, returned for headers, pauses headers and body: no part of the
// body arrives before the headers are resumed. When Envoy's buffer is full, it applies backpressure
// to the client. proxy-wasm-cpp-host has this action under this name (context_interface.h), the SDK
// does not.
const actionStopAllIterationAndWatermark types.Action = 4

// progress is how far the filter is with a request.
type progress uint8

const (
	passing        progress = iota // it goes to the upstream
	pausedForState                 // it waits for the first state, at most Config.BootWait
	pausedForBody                  // it waits for as much of its body as the decision needs
	answered                       // the filter has answered it, and ignores the rest of it
)

// stream is one request. Envoy calls OnHttpRequestHeaders, OnHttpRequestBody for each part of a
// body, OnHttpRequestTrailers if there are trailers, and in the end OnHttpStreamDone. Each of these
// callbacks decides the request or pauses it, by the action that it returns. paused.go resumes a
// request when none of its own callbacks can. While nothing is on, only plugin, id and admitted are
// set.
type stream struct {
	types.DefaultHttpContext
	plugin *plugin
	id     uint32

	progress progress
	admitted bool // it is counted in plugin.admitted

	// request is what the core knows of the request, nil once the request is decided.
	request *maintenance.Request
	// bodyNeededBy is the state that could not decide without the body, of which it reads at
	// most maxBody bytes.
	bodyNeededBy *maintenance.State
	maxBody      int

	// buffered is how many bytes of the body Envoy holds. complete is set when they are all.
	buffered int
	complete bool
	// bodyStopped is set if the body is paused together with the headers, so that no part of it
	// arrives before the headers are resumed.
	bodyStopped bool
	// bodyUnreadable is set while the buffered part of the body cannot be read, since it was
	// paused by actionStopIterationAndWatermark (see there, in host_wasm.go).
	bodyUnreadable bool

	// pausedSince, pausedBytes and pausedBody belong to paused.go: since when the request is
	// paused for this reason, what it adds to plugin.pausedBytes (zero if it is not paused), and
	// how much of that is for its body.
	pausedSince             time.Time
	pausedBytes, pausedBody int
}

// OnHttpRequestHeaders decides most requests. endOfStream says that there is neither a body nor
// trailers.
func (s *stream) OnHttpRequestHeaders(_ int, endOfStream bool) types.Action {
	// While nothing is on, a request costs no host call, not even one for the time.
	if s.plugin.idle {
		s.admit()
		return types.ActionContinue
	}

	s.readHeaders(endOfStream)
	if s.plugin.config.Exempts(s.request) {
		s.request = nil
		s.admit()
		return types.ActionContinue
	}

	now := time.Now()
	state := s.plugin.currentState(now)
	if state == nil {
		return s.pauseForState(now)
	}

	s.decide(state, now)
	if s.progress == pausedForBody && !s.headersPaused() {
		// The body arrives only after the headers have gone on, so the body alone is paused.
		return types.ActionContinue
	}
	return s.action()
}

// admit counts a request that goes on.
func (s *stream) admit() {
	s.admitted = true
	s.plugin.admitted++
}

// readHeaders reads the request from its headers, and removes those that only the filter may set.
func (s *stream) readHeaders(endOfStream bool) {
	headers, err := proxywasm.GetHttpRequestHeaders()
	if err != nil {
		// Without headers no exemption applies.
		s.plugin.errors.reportf("reading a request's headers: %v", err)
	}

	s.request = maintenance.NewRequest(headers, endOfStream, &s.plugin.attributes)
	for _, h := range headers {
		// Our bootstraps remove these headers earlier; other configurations may not.
		if maintenance.ReservedHeader(h[0]) {
			_ = proxywasm.RemoveHttpRequestHeader(h[0])
		}
	}
}

// pauseForState pauses a request until there is a state to decide it by.
func (s *stream) pauseForState(now time.Time) types.Action {
	// A body that arrives before the state can be read later only as far as Envoy buffers it. So
	// only a body that the state is likely to need may arrive; if the state needs another one,
	// the headers have to go on first.
	s.bodyStopped = !s.plugin.config.AllowOnHeadersStopIteration || !s.request.LikelyNeedsBody()
	if !s.pause(pausedForState, now) {
		s.endPause(maintenance.RuleHeldLimit, now)
		return types.ActionPause
	}

	if s.bodyStopped {
		return actionStopAllIterationAndWatermark
	}
	return types.ActionPause
}

// headersPaused reports whether the headers of a request that is paused for its body have not
// reached the upstream, as far as the plugin configuration knows.
func (s *stream) headersPaused() bool {
	return s.plugin.config.AllowOnHeadersStopIteration && !s.bodyStopped
}

// action returns what a callback has to return: a request that is not decided is paused, and one
// that is answered is stopped.
func (s *stream) action() types.Action {
	if s.progress == passing {
		return types.ActionContinue
	}
	return types.ActionPause
}

// decide decides a request by a state: at its headers, when its pause for the first state ends, or
// when its body is there and another state is in force by then.
func (s *stream) decide(state *maintenance.State, now time.Time) {
	p := s.plugin
	if p.state != nil && maintenance.IsStatusPath(s.request.Path) {
		s.answerStatus(state, now)
		return
	}

	d := state.Decide(s.request, wall(now))
	if p.state == nil {
		p.metrics.unknown.Increment(1)
	}
	switch d.Verdict {
	case maintenance.NeedBody:
		s.bodyNeededBy, s.maxBody = state, d.MaxBody
		s.pauseForBody(&d, now)
	case maintenance.Refuse:
		s.refuse(&d, now)
	default:
		s.pass(&d)
	}
}

// pauseForBody pauses a request until enough of its body is there. That may be the case already if
// the request was paused for the first state before: it is then decided at once. d is the decision
// that needs the body; a refusal takes the app and the mode from it.
func (s *stream) pauseForBody(d *maintenance.Decision, now time.Time) {
	enough := s.complete || s.buffered > s.maxBody
	switch {
	case !s.pause(pausedForBody, now):
		s.refuseBy(maintenance.RuleHeldLimit, d, now)
	case enough && s.bodyUnreadable:
		s.refuseBy(maintenance.RuleBodyUnread, d, now)
	case enough:
		s.decideBody()
	}
}

// OnHttpRequestBody is called with the size of all that Envoy has buffered of the body or, if
// bodyUnreadable is set, with the size of the next part alone.
func (s *stream) OnHttpRequestBody(size int, endOfStream bool) types.Action {
	switch s.progress {
	case passing:
		return types.ActionContinue
	case answered:
		return types.ActionPause
	}

	if s.bodyUnreadable {
		s.buffered += size
	} else {
		s.buffered = size
	}
	s.complete = endOfStream
	if s.progress == pausedForState {
		return s.pauseEarlyBody()
	}

	if s.headersPaused() {
		s.plugin.headersPauseSeen = true
	}
	if s.bodyUnreadable {
		// This part is paused by ActionPause, after which the whole body can be read, but not
		// before the next callback. So the next tick decides (decidePausedBody).
		s.bodyUnreadable = false
	} else {
		s.decideBody()
	}
	s.countBody()
	return s.action()
}

// pauseEarlyBody pauses a part of a body that arrived before the first state. Envoy must not
// answer a long upload with 413 for a state that may not need the body, so it is told to apply
// backpressure instead; but what is paused in this way cannot be read. A short body is therefore
// paused in the readable way once it is complete.
func (s *stream) pauseEarlyBody() types.Action {
	s.countBody()
	if s.progress != pausedForState {
		// The bound was exceeded: the request was refused, or a state that does not need its
		// body has let it through.
		return s.action()
	}

	if s.complete && s.buffered <= maintenance.DefaultMaxBody {
		s.bodyUnreadable = false
		return types.ActionPause
	}

	s.bodyUnreadable = s.buffered > 0 && actionStopIterationAndWatermark != types.ActionPause
	return actionStopIterationAndWatermark
}

// OnHttpRequestTrailers is called only if there are trailers. They are the end of the request, in
// place of the body's last part.
func (s *stream) OnHttpRequestTrailers(int) types.Action {
	if !s.plugin.idle && s.progress != answered {
		s.cleanTrailers()
	}

	s.complete = true
	switch {
	case s.progress != pausedForBody: // The end of the body decides nothing, or not yet.
	case s.bodyUnreadable:
		s.endPause(maintenance.RuleBodyUnread, time.Now())
	default:
		s.decideBody()
	}
	return s.action()
}

// cleanTrailers removes the trailers that only the filter may set, and those that could change how
// a server reads a request that was decided without them: servers treat trailers like headers
// (gRPC's metadata) or merge them into the headers (uvicorn).
func (s *stream) cleanTrailers() {
	trailers, err := proxywasm.GetHttpRequestTrailers()
	if err != nil && !errors.Is(err, types.ErrorStatusNotFound) { // There may be no trailers left.
		s.plugin.errors.reportf("reading a request's trailers: %v", err)
	}
	for _, t := range trailers {
		if maintenance.UnsafeTrailer(t[0]) {
			_ = proxywasm.RemoveHttpRequestTrailer(t[0])
		}
	}
}

// decideBody decides a request once its whole body is there, or more of it than the decision
// reads.
func (s *stream) decideBody() {
	if !s.complete && s.buffered <= s.maxBody {
		return
	}

	p, now := s.plugin, time.Now()
	state := p.currentState(now)
	if state != s.bodyNeededBy {
		// A newer state may need more of the body, or nothing of it.
		s.decide(state, now)
		return
	}

	body, err := s.readBody()
	if err != nil {
		p.errors.reportf("reading a request's body: %v", err)
		s.endPause(maintenance.RuleBodyUnread, now)
		return
	}

	s.request.Body, s.request.BodyRead = body, true
	d := state.Decide(s.request, wall(now))
	if d.Verdict == maintenance.Pass {
		s.pass(&d)
	} else {
		s.refuse(&d, now)
	}
}

// readBody returns the whole body or, if that is longer than maxBody, its first maxBody+1 bytes:
// the additional one shows the core that the body is too long.
func (s *stream) readBody() ([]byte, error) {
	if s.buffered == 0 {
		return nil, nil
	}

	size := min(s.buffered, s.maxBody+1)
	body, err := proxywasm.GetHttpRequestBody(0, size)
	if err == nil && len(body) != size {
		err = fmt.Errorf("the host returned %d of %d bytes", len(body), size)
	}
	return body, err
}

// endPause ends the pause of a request that cannot be decided as intended, because of a bound, a
// timeout or a body that cannot be read. If the current state decides the request without its body,
// that decision holds, and endPause returns false. Otherwise it refuses the request by the rule and
// returns true.
func (s *stream) endPause(rule maintenance.Rule, now time.Time) (refused bool) {
	state := s.plugin.currentState(now)
	if state == nil {
		d := s.plugin.unknown.Decide(s.request, wall(now)) // for the reply alone
		s.refuseBy(rule, &d, now)
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
	s.refuseBy(rule, &d, now)
	return true
}

// pass lets a request through. If it was paused, the caller resumes it.
func (s *stream) pass(d *maintenance.Decision) {
	if d.Mode != maintenance.Off {
		// These headers only inform the upstream, so that errors are ignored.
		_ = proxywasm.ReplaceHttpRequestHeader("x-drydock-mode", string(d.Mode))
		if bypass := d.Rule.Bypass(); bypass != "" {
			_ = proxywasm.ReplaceHttpRequestHeader("x-drydock-bypass", bypass)
			s.plugin.metrics.bypassed.Increment(1)
		}
		s.noteDecision(d)
	}

	s.admit()
	s.finish(passing)
}

// refuseBy refuses a request by a rule of the filter itself, in place of the decision's own
// verdict.
func (s *stream) refuseBy(rule maintenance.Rule, d *maintenance.Decision, now time.Time) {
	d.Verdict, d.Rule = maintenance.Refuse, rule
	s.refuse(d, now)
}

// refuse answers a request as a decision says.
func (s *stream) refuse(d *maintenance.Decision, now time.Time) {
	p := s.plugin
	reply := d.Reply(s.request, p.pages.get, now)
	p.metrics.blocked.Increment(1)
	if d.Rule == maintenance.RuleHeldLimit {
		p.metrics.heldLimit.Increment(1)
	}

	s.noteDecision(d)
	s.answer(&reply, "drydock:"+string(d.Rule))
}

// noteDecision offers a decision to access logs: %FILTER_STATE(wasm.drydock.decision:PLAIN)%.
func (s *stream) noteDecision(d *maintenance.Decision) {
	_ = proxywasm.SetProperty([]string{"drydock.decision"}, []byte(d.String()))
}

// answerStatus answers a request for the public status, which is not refused in any mode.
func (s *stream) answerStatus(state *maintenance.State, now time.Time) {
	reply := state.EdgeStatus(s.request, wall(now))
	s.answer(&reply, "drydock:edge")
}

// answer sends a reply to the client. details are Envoy's response code details, for access logs.
func (s *stream) answer(reply *maintenance.Reply, details string) {
	if err := sendLocalReply(reply, details); err != nil {
		s.plugin.errors.reportf("answering a request: %v", err)
	}
	s.finish(answered)
}

// finish ends the filter's work on a request, which is passing or answered from now on. It frees
// what only the decision needed, since the stream may stay open for hours.
func (s *stream) finish(final progress) {
	s.progress = final
	s.request, s.bodyNeededBy = nil, nil
	s.unpause()
}

// OnHttpStreamDone is called when the request and its response have ended or were aborted.
func (s *stream) OnHttpStreamDone() {
	if s.admitted {
		s.admitted = false
		s.plugin.admitted--
	}
	s.unpause()
}
