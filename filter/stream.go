package main

import (
	"strings"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// bodyGrace is how long a held request may go without a body callback. Past it the
// proxy's configuration is taken to disagree with ours (see Config.HoldsHeaders).
const bodyGrace = 5 * time.Second

// actionStopAll holds headers and body, and presses back instead of buffering: what
// proxy-wasm-cpp-host calls StopAllIterationAndWatermark (context_interface.h).
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
	counted bool
	since   time.Time // of the stage
	request *maintenance.Request
	asked   *maintenance.State // that wants to see the body
	maxBody int
	// buffered is how much of the body Envoy holds, complete when all of it.
	buffered int
	complete bool
	// stopped: no body comes until the headers go on.
	stopped bool
}

func (s *stream) OnHttpRequestHeaders(_ int, endOfStream bool) types.Action {
	p := s.plugin
	p.requests++
	s.counted = true
	// Off costs nothing: no host call, not even for the time.
	if p.idle {
		return types.ActionContinue
	}
	headers, err := proxywasm.GetHttpRequestHeaders()
	if err != nil {
		// Decided without them, so that no exemption holds.
		p.fail("reading a request's headers: %v", err)
	}
	s.request = &maintenance.Request{Headers: headers, EndStream: endOfStream, Attributes: &p.claims}
	for _, h := range headers {
		switch h[0] {
		case ":method":
			s.request.Method = h[1]
		case ":authority":
			s.request.Authority = h[1]
		case ":path":
			s.request.Path = h[1]
		default:
			// Where the proxy's configuration does not remove them early.
			if ours(h[0]) {
				_ = proxywasm.RemoveHttpRequestHeader(h[0])
			}
		}
	}
	if p.config.Exempts(s.request) {
		s.request = nil
		return types.ActionContinue
	}
	now := time.Now()
	state := p.current(now)
	if state == nil {
		s.wait(awaitsState, now)
		if s.stopped = !p.config.HoldsHeaders || !s.readable(); s.stopped {
			return actionStopAll
		}
		return types.ActionPause
	}
	s.decide(state, now)
	if s.stage == awaitsBody && !s.headersHeld() {
		// The headers must go on for the body to come; the body is what is withheld.
		return types.ActionContinue
	}
	return s.action()
}

// readable tells whether a state is likely to want to read the body, which may then come
// before the state does. No other body may: it might be an upload past what Envoy
// buffers, which Envoy would answer 413. Where a state wants to read one all the same,
// the headers have to go on first.
func (s *stream) readable() bool {
	kind := strings.ToLower(s.request.Header("content-type"))
	return s.request.Method == "POST" && (strings.Contains(kind, "json") || strings.Contains(kind, "urlencoded"))
}

// ours reports whether only the filter may set a header. Servers that make variables of
// headers cannot tell the separators apart: CGI has "_" for "-" (RFC 3875 section
// 4.1.18), and lighttpd for all that is no letter or digit (http_cgi_encode_varname).
func ours(name string) bool {
	const drydock = "drydock"
	if len(name) <= len("x-drydock-") || name[0] != 'x' || alphanumeric(name[1]) {
		return false
	}
	rest, found := strings.CutPrefix(name[2:], drydock)

	return found && !alphanumeric(rest[0])
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// action is what a callback returns: hold what is not decided, stop what is answered.
func (s *stream) action() types.Action {
	if s.stage == decided {
		return types.ActionContinue
	}
	return types.ActionPause
}

func (s *stream) OnHttpRequestBody(size int, endOfStream bool) types.Action {
	if s.stage == decided {
		return types.ActionContinue
	}
	s.buffered, s.complete = size, endOfStream
	if s.stage == awaitsBody {
		s.plugin.holds = s.plugin.holds || s.headersHeld()
		s.judgeBody()
	}
	return s.action()
}

func (s *stream) OnHttpRequestTrailers(int) types.Action {
	if !s.plugin.idle && s.stage != answered {
		s.cleanTrailers()
	}
	s.complete = true
	if s.stage == awaitsBody {
		s.judgeBody()
	}
	return s.action()
}

// cleanTrailers removes what the client says in our name. Servers hand trailers on like
// headers (gRPC's metadata) or merge them into the headers (RFC 9110 section 6.5.1).
func (s *stream) cleanTrailers() {
	trailers, err := proxywasm.GetHttpRequestTrailers()
	if err != nil {
		s.plugin.fail("reading a request's trailers: %v", err)
	}
	for _, t := range trailers {
		if ours(t[0]) {
			_ = proxywasm.RemoveHttpRequestTrailer(t[0])
		}
	}
}

func (s *stream) OnHttpStreamDone() {
	if s.counted {
		s.counted = false
		s.plugin.requests--
	}
	delete(s.plugin.waiting, s)
}

// headersHeld tells whether a request that awaits its body should not have reached the
// upstream yet.
func (s *stream) headersHeld() bool { return s.plugin.config.HoldsHeaders && !s.stopped }

func (s *stream) wait(for_ stage, now time.Time) {
	s.stage, s.since = for_, now
	s.plugin.waiting[s] = struct{}{}
}

// settle ends the waiting. A decided request needs its headers no more.
func (s *stream) settle(to stage) {
	s.stage = to
	s.request, s.asked = nil, nil
	delete(s.plugin.waiting, s)
}

// decide asks the core and does what it says.
func (s *stream) decide(state *maintenance.State, now time.Time) {
	p := s.plugin
	if name := maintenance.EdgePath(s.request.Path); name == "status" && p.state != nil {
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
		s.wait(awaitsBody, now)
		if s.complete || s.buffered > s.maxBody {
			s.judgeBody()
		}
	case maintenance.Refuse:
		s.refuse(&d, now)
	default:
		s.pass(&d)
	}
}

// judgeBody decides once the whole body is there, or more of it than is looked at.
func (s *stream) judgeBody() {
	tooLong := s.buffered > s.maxBody
	if !s.complete && !tooLong {
		return
	}
	p, now := s.plugin, time.Now()
	state := p.current(now)
	if state != s.asked {
		// A newer state may want to see more of the body, or none.
		s.decide(state, now)
		return
	}
	if s.buffered > 0 {
		// One byte more than is looked at tells the core that it is too long.
		body, err := proxywasm.GetHttpRequestBody(0, min(s.buffered, s.maxBody+1))
		if err != nil {
			p.fail("reading a request's body: %v", err)
		}
		s.request.Body = body
	}
	s.request.BodyRead = true
	d := state.Decide(s.request, wall(now))
	if d.Verdict == maintenance.Refuse {
		s.refuse(&d, now)
	} else {
		s.pass(&d)
	}
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
	s.settle(decided)
}

func (s *stream) refuse(d *maintenance.Decision, now time.Time) {
	p := s.plugin
	reply := d.Reply(s.request, p.page, now)
	p.metrics.blocked.Increment(1)
	s.note(d)
	s.answer(&reply, "drydock:"+string(d.Rule))
}

// note is for access logs: %FILTER_STATE(wasm.drydock.decision:PLAIN)%.
func (s *stream) note(d *maintenance.Decision) {
	_ = proxywasm.SetProperty([]string{"drydock.decision"}, []byte("app="+d.App+" mode="+string(d.Mode)+" rule="+string(d.Rule)))
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

// attendWaiting looks after held requests, from a callback of the plugin.
func (p *plugin) attendWaiting(now time.Time) {
	state := p.current(now)
	for s := range p.waiting {
		switch {
		case s.stage == awaitsState && state != nil:
			p.within(s, func() {
				s.decide(state, now)
				switch {
				case s.stage == decided && s.buffered > 0 && !s.complete:
					// The next body callback lets it go: older Envoys lose the part that comes
					// after a body was resumed halfway (envoyproxy/envoy#46842).
				case s.stage == decided, s.stage == awaitsBody && s.stopped:
					s.resume()
				}
			})
		case s.stage == awaitsBody && s.buffered == 0 && now.Sub(s.since) > bodyGrace:
			p.within(s, func() { s.giveUp(state, now) })
		}
	}
}

// giveUp answers a request whose body does not come.
func (s *stream) giveUp(state *maintenance.State, now time.Time) {
	p := s.plugin
	d := state.Decide(s.request, wall(now))
	switch d.Verdict {
	case maintenance.Pass: // the state has changed
		s.pass(&d)
		if s.headersHeld() {
			s.resume()
		}
		return
	case maintenance.NeedBody:
		d.Verdict, d.Rule = maintenance.Refuse, maintenance.RuleBodyTimeout
		if s.headersHeld() && !p.holds {
			p.metrics.misconfigured.Increment(1)
			p.fail("a held request got no body for %v: is allow_on_headers_stop_iteration the same in the plugin configuration and in Envoy's?", bodyGrace)
		}
	}
	s.refuse(&d, now)
}

// within runs do with the host's eyes on a stream instead of on the plugin.
func (p *plugin) within(s *stream, do func()) {
	if err := proxywasm.SetEffectiveContext(s.id); err != nil {
		p.fail("turning to a held request: %v", err)
		s.settle(answered) // there is none any more
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
