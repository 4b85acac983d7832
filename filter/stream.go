package main

import (
	"errors"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// actionStopAll holds headers and body, and presses back instead of buffering without
// bound: what proxy-wasm-cpp-host calls StopAllIterationAndWatermark
// (context_interface.h).
const actionStopAll types.Action = 4

// stage is where a stream stands with us.
type stage uint8

const (
	decided     stage = iota
	awaitsState       // held until the first state, or until it counts as unknown
	awaitsBody        // held until its body can be judged
	answered          // refused; nothing more is asked of it
)

// stream is one request.
type stream struct {
	types.DefaultHttpContext
	plugin *plugin
	id     uint32

	stage   stage
	counted bool // among the plugin's requests
	since   time.Time
	request *maintenance.Request
	asked   *maintenance.State // that wants to see the body
	maxBody int
	// buffered is how much of the body Envoy holds, complete when all of it.
	buffered int
	complete bool
	// stopped: no body comes until the headers go on.
	stopped bool
	// apart: what Envoy holds of the body cannot be read, because the last part of it was
	// held by actionHoldBack. The next callback shows its own part alone.
	apart bool
	// held is what the stream counts of the plugin's held bytes, zero while it is not held.
	held int
}

func (s *stream) OnHttpRequestHeaders(_ int, endOfStream bool) types.Action {
	p := s.plugin
	// Off costs nothing: no host call, not even for the time.
	if p.idle {
		s.admit()
		return types.ActionContinue
	}
	s.readHeaders(endOfStream)
	if p.config.Exempts(s.request) {
		s.request = nil
		s.admit()
		return types.ActionContinue
	}

	now := time.Now()
	state := p.current(now)
	if state == nil {
		return s.awaitState(now)
	}
	s.decide(state, now)
	if s.stage == awaitsBody && !s.headersHeld() {
		// The headers must go on for the body to come; the body is what is withheld.
		return types.ActionContinue
	}
	return s.action()
}

func (s *stream) readHeaders(endOfStream bool) {
	headers, err := proxywasm.GetHttpRequestHeaders()
	if err != nil {
		// Decided without them, so that no exemption holds.
		s.plugin.fail("reading a request's headers: %v", err)
	}
	s.request = maintenance.NewRequest(headers, endOfStream, &s.plugin.claims)
	for _, h := range headers {
		// Where the proxy's configuration does not remove them early.
		if maintenance.ReservedHeader(h[0]) {
			_ = proxywasm.RemoveHttpRequestHeader(h[0])
		}
	}
}

// awaitState holds a request until there is a state to decide it by.
func (s *stream) awaitState(now time.Time) types.Action {
	// Only a body that a state is likely to ask for may come before the state does: what came
	// of any other cannot be read later past what Envoy buffers. Where a state asks for one
	// all the same, the headers go on first.
	s.stopped = !s.plugin.config.AllowOnHeadersStopIteration || !s.request.LikelyNeedsBody()
	if !s.hold(awaitsState, now) {
		s.giveUp(maintenance.RuleHeldLimit, now)
		return types.ActionPause
	}
	if s.stopped {
		return actionStopAll
	}
	return types.ActionPause
}

// action is what a callback returns: hold what is not decided, stop what is answered.
func (s *stream) action() types.Action {
	if s.stage == decided {
		return types.ActionContinue
	}
	return types.ActionPause
}

func (s *stream) OnHttpRequestBody(size int, endOfStream bool) types.Action {
	switch s.stage {
	case decided:
		return types.ActionContinue
	case answered:
		return types.ActionPause
	}
	whole := !s.apart
	if whole {
		s.buffered = size
	} else {
		s.buffered += size
	}
	s.complete = endOfStream
	if s.stage == awaitsState {
		return s.setAside()
	}

	s.plugin.holds = s.plugin.holds || s.headersHeld()
	s.apart = false
	if whole {
		s.judgeBody()
	} // or the tick does, which is shown all of it
	s.count()
	return s.action()
}

// setAside holds the part of a body that came before the first state. An upload past
// what Envoy buffers must not be answered 413 for a state that may not want to look at
// it, so Envoy presses back instead; but what it held in that way cannot be read. A
// short body is therefore held to be read once it is complete.
func (s *stream) setAside() types.Action {
	s.count()
	if s.stage != awaitsState {
		return s.action() // it was given up: answered, or let go by a state that has come
	}
	if s.complete && s.buffered <= maintenance.DefaultMaxBody {
		s.apart = false
		return types.ActionPause
	}
	s.apart = s.buffered > 0 && actionHoldBack != types.ActionPause
	return actionHoldBack
}

func (s *stream) OnHttpRequestTrailers(int) types.Action {
	if !s.plugin.idle && s.stage != answered {
		s.cleanTrailers()
	}
	s.complete = true
	switch {
	case s.stage != awaitsBody:
	case s.apart:
		s.giveUp(maintenance.RuleBodyUnread, time.Now())
	default:
		s.judgeBody()
	}
	return s.action()
}

// cleanTrailers removes what the client says in our name, and what would change how a
// server reads the request that was judged without them: servers hand trailers on like
// headers (gRPC's metadata) or merge them into the headers (uvicorn).
func (s *stream) cleanTrailers() {
	trailers, err := proxywasm.GetHttpRequestTrailers()
	if err != nil && !errors.Is(err, types.ErrorStatusNotFound) { // none is left of them
		s.plugin.fail("reading a request's trailers: %v", err)
	}
	for _, t := range trailers {
		if maintenance.UnsafeTrailer(t[0]) {
			_ = proxywasm.RemoveHttpRequestTrailer(t[0])
		}
	}
}

func (s *stream) OnHttpStreamDone() {
	if s.counted {
		s.counted = false
		s.plugin.requests--
	}
	s.release()
}

// admit counts a request that goes on.
func (s *stream) admit() {
	s.counted = true
	s.plugin.requests++
}

// headersHeld reports whether a request that awaits its body should not have reached the
// upstream yet.
func (s *stream) headersHeld() bool { return s.plugin.config.AllowOnHeadersStopIteration && !s.stopped }

// settle ends the waiting. A decided request needs its headers no more.
func (s *stream) settle(to stage) {
	s.stage = to
	s.request, s.asked = nil, nil
	s.release()
}

// decide asks the core and does what it says.
func (s *stream) decide(state *maintenance.State, now time.Time) {
	p := s.plugin
	if p.state != nil && maintenance.IsStatusPath(s.request.Path) {
		s.status(state, now)
		return
	}
	d := state.Decide(s.request, wall(now))
	if p.state == nil {
		p.metrics.unknown.Increment(1)
	}
	switch d.Verdict {
	case maintenance.NeedBody:
		s.asked, s.maxBody = state, d.MaxBody
		s.needBody(&d, now)
	case maintenance.Refuse:
		s.refuse(&d, now)
	default:
		s.pass(&d)
	}
}

// needBody holds a request until its body can be judged, which may be now.
func (s *stream) needBody(d *maintenance.Decision, now time.Time) {
	there := s.complete || s.buffered > s.maxBody
	switch {
	case !s.hold(awaitsBody, now):
		s.deny(d, maintenance.RuleHeldLimit, now)
	case there && s.apart:
		s.deny(d, maintenance.RuleBodyUnread, now)
	case there:
		s.judgeBody()
	}
}

// judgeBody decides once the whole body is there, or more of it than is looked at.
func (s *stream) judgeBody() {
	if !s.complete && s.buffered <= s.maxBody {
		return
	}
	p, now := s.plugin, time.Now()
	state := p.current(now)
	if state != s.asked {
		// A newer state may want to see more of the body, or none.
		s.decide(state, now)
		return
	}

	body, err := s.body()
	if err != nil {
		p.fail("reading a request's body: %v", err)
		s.giveUp(maintenance.RuleBodyUnread, now)
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

// body is the whole body, or one byte more of it than is looked at, which tells the core
// that it is too long.
func (s *stream) body() ([]byte, error) {
	if s.buffered == 0 {
		return nil, nil
	}
	want := min(s.buffered, s.maxBody+1)
	body, err := proxywasm.GetHttpRequestBody(0, want)
	if err == nil && len(body) != want {
		err = errors.New("it is not there as a whole")
	}
	return body, err
}

func (s *stream) pass(d *maintenance.Decision) {
	p := s.plugin
	if d.Mode != maintenance.Off {
		// Best effort for the upstream's information; the decision does not depend on it.
		_ = proxywasm.ReplaceHttpRequestHeader("x-drydock-mode", string(d.Mode))
		if bypass := d.Rule.Bypass(); bypass != "" {
			_ = proxywasm.ReplaceHttpRequestHeader("x-drydock-bypass", bypass)
			p.metrics.bypassed.Increment(1)
		}
		s.note(d)
	}
	s.admit()
	s.settle(decided)
}

func (s *stream) refuse(d *maintenance.Decision, now time.Time) {
	p := s.plugin
	reply := d.Reply(s.request, p.page, now)
	p.metrics.blocked.Increment(1)
	if d.Rule == maintenance.RuleHeldLimit {
		p.metrics.heldLimit.Increment(1)
	}
	s.note(d)
	s.answer(&reply, "drydock:"+string(d.Rule))
}

// deny refuses a request by a rule of the filter's own.
func (s *stream) deny(d *maintenance.Decision, rule maintenance.Rule, now time.Time) {
	d.Verdict, d.Rule = maintenance.Refuse, rule
	s.refuse(d, now)
}

// note is for access logs: %FILTER_STATE(wasm.drydock.decision:PLAIN)%.
func (s *stream) note(d *maintenance.Decision) {
	_ = proxywasm.SetProperty([]string{"drydock.decision"}, []byte(d.String()))
}

func (s *stream) status(state *maintenance.State, now time.Time) {
	reply := state.EdgeStatus(s.request, wall(now))
	s.answer(&reply, "drydock:edge")
}

func (s *stream) answer(reply *maintenance.Reply, details string) {
	if err := sendLocalReply(reply, details); err != nil {
		s.plugin.fail("answering a request: %v", err)
	}
	s.settle(answered)
}

// claimPaths reads what the proxy knows of the request in the effective context. It
// is the one maintenance.Attributes of its plugin: the host keeps them by context.
type claimPaths struct {
	path []string // of the claims in the dynamic metadata
}

func property(path ...string) string {
	value, err := proxywasm.GetProperty(path)
	if err != nil {
		return ""
	}
	return string(value)
}

func (*claimPaths) SourceAddress() string { return property("source", "address") }
func (*claimPaths) Principal() string {
	return property("connection", "uri_san_peer_certificate")
}
func (*claimPaths) Route() string   { return property("xds", "route_name") }
func (*claimPaths) Cluster() string { return property("xds", "cluster_name") }

// Claims takes the metadata whole, which is one call however many claims are asked for:
// only then does Envoy hand it over as the protobuf that it is. Any part of it comes
// without types (see RATIONALE.md).
func (c *claimPaths) Claims() maintenance.Claims {
	metadata, err := proxywasm.GetProperty([]string{"metadata"})
	if err != nil {
		return ""
	}
	return maintenance.MetadataClaims(metadata, c.path)
}
