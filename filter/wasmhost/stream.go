package wasmhost

import (
	"slices"
	"strconv"
	"strings"
)

// DefaultBufferLimit is Envoy's per_connection_buffer_limit_bytes: what a held body may have at most.
const DefaultBufferLimit = 1 << 20

// StreamConfig is what Envoy knows of a request besides what the client sends.
type StreamConfig struct {
	// Properties is the tree that get_property reads, e.g. {"source": {"address": "10.0.0.1:4711"}}, a map in a map for
	// each part of the path. It is read at each call, so that it may be changed while the stream lasts. Values are
	// string, []byte, bool, int, int64, uint64, float64, time.Time, time.Duration, nil (a null), and map[string]any,
	// map[string]string, []any and []string of them.
	//
	// What follows from the stream is not taken from here: request.{path, url_path, query, host, scheme, method, headers,
	// referer, useragent, id, size, total_size}, response.{code, code_details, headers, trailers, size}. What a protobuf
	// Struct would hold, all of filter_metadata, has numbers of one kind only: integers there are read as doubles. The
	// whole of "metadata" is answered as protobuf, with filter_metadata as all that is in it.
	Properties map[string]any

	// BufferLimit is how many bytes of a held body are kept at most: [DefaultBufferLimit] if 0.
	BufferLimit int

	// OnUpstream and OnDownstream take what goes to the upstream and to the client, as it goes, and not recorded then in
	// [Stream.Upstream] and [Stream.Downstream]. They must not call the stream.
	OnUpstream, OnDownstream func(Frame)
}

// Frame is a part of a message on its way: headers, data, trailers or a reset.
type Frame struct {
	Headers  Headers
	Data     []byte
	Trailers Headers
	End      bool // nothing follows
	Reset    bool // the stream was broken off
}

// Message is a request as the upstream saw it, or a response as the client did.
type Message struct {
	Frames   []Frame
	Headers  Headers // nil: nothing was seen
	Body     []byte
	Trailers Headers
	End      bool // it was complete
	Reset    bool // it was broken off: at any time for the client, before its answer was complete for the upstream
}

// Status is the value of ":status", 0 if there is none.
func (m Message) Status() int {
	status, _ := strconv.Atoi(m.Headers.Get(":status"))
	return status
}

func (m *Message) take(f Frame) {
	m.Frames = append(m.Frames, f)
	if f.Headers != nil {
		m.Headers = f.Headers
	}
	m.Body = append(m.Body, f.Data...)
	if f.Trailers != nil {
		m.Trailers = f.Trailers
	}
	m.End = m.End || f.End
	m.Reset = m.Reset || f.Reset
}

// LocalReply is an answer that a plugin or the host gave instead of the upstream.
type LocalReply struct {
	Status     int
	Headers    Headers
	Body       []byte
	Details    string // response code details
	GRPCStatus int    // -1: none was given
}

// Stream is a request and its response on their way through one or more plugins and back, and Envoy's HTTP filter
// manager around them. The zero Stream is of no use.
type Stream struct {
	cfg         StreamConfig
	chain       []*filter
	request     pipe
	response    pipe
	upstream    Message
	downstream  Message
	details     string // response code details
	detailed    bool   // they were set
	code        int    // of the response, once there is one
	filterState map[string][]byte
	reply       *LocalReply // by a plugin
	prepared    *LocalReply // waits for the filter callback to return
	head, grpc  bool        // what the request is
	local       bool        // the response is a local reply
	sent        bool        // something went to the upstream
	answering   bool        // response headers went to the client
	done        bool
}

// iteration is how far a filter lets frames of one direction pass.
type iteration uint8

const (
	iterating  iteration = iota
	stopped              // this filter has them, and gets the next
	stoppedAll           // this filter has them, and gets no more until it is resumed
)

// What a filter says to a frame. Body and headers share Envoy's numbers where they mean the same.
type verdict uint64

const (
	verdictContinue     verdict = 0
	verdictStop         verdict = 1 // and buffer, for a body
	verdictStopStream   verdict = 2 // body: stop, buffer, and press back at the limit
	verdictStopAll      verdict = 3 // headers: stop all and buffer. body: stop and drop
	verdictStopAllPress verdict = 4 // headers: stop all, buffer, and press back at the limit
)

// buffer is a body, or a part of it.
type buffer struct{ b []byte }

// filter is one plugin's part in a stream.
type filter struct {
	*wasmContext
	in     *instance // nil if the VM was dead when the stream began
	plugin *Plugin
	stream *Stream

	decode, encode half

	created bool // in the module
	logging bool // on_log runs
	failed  bool // the stream was answered because the VM has crashed

	// What the module may look at now.
	requestHeaders, requestTrailers, responseHeaders, responseTrailers *Headers
	requestBody, responseBody                                          *buffer
	endOfStream                                                        bool
}

// half is a filter's progress in one direction.
type half struct {
	f                *filter
	pipe             *pipe
	index            int // in pipe.halves
	state            iteration
	headersContinued bool
	endStream        bool
	fromCurrent      bool // resuming: the filter itself gets what was held
	buffering        bool // the body so far is in pipe.buffered
}

// pipe is one direction of a stream, with the semantics of Envoy's FilterManager.
type pipe struct {
	s        *Stream
	halves   []*half // in the order of travel
	headers  *Headers
	trailers *Headers
	buffered *buffer // nil: nothing was ever held
	complete bool    // the sender has ended
	bytes    int     // of the body so far
	streams  bool    // what is held presses back at the limit, instead of failing the stream
	pressing bool
	aborted  bool // a local reply was sent from one of its callbacks
	active   int  // callbacks of this direction that run
}

// NewStream begins a request that travels through the plugin.
func (p *Plugin) NewStream(cfg StreamConfig) *Stream { return NewStream(cfg, p) }

// NewStream begins a request that travels through the plugins in the given order, and its response in the opposite one.
// They belong to VMs of one thread. A crashed VM is reloaded now if its plugin's policy says so.
func NewStream(cfg StreamConfig, plugins ...*Plugin) *Stream {
	if cfg.BufferLimit == 0 {
		cfg.BufferLimit = DefaultBufferLimit
	}
	s := &Stream{cfg: cfg, filterState: make(map[string][]byte)}
	s.request.s, s.response.s = s, s
	for _, p := range plugins {
		p.reload()
		f := &filter{plugin: p, stream: s}
		if in := p.root.in; in.err == nil {
			f.in, f.wasmContext = in, in.newContext(p.root, nil)
			f.filter = f
		} else if p.cfg.FailurePolicy == FailOpen {
			continue // the filter is left out of the chain
		}
		f.decode.f, f.decode.pipe = f, &s.request
		f.encode.f, f.encode.pipe = f, &s.response
		s.chain = append(s.chain, f)
		p.streams = append(p.streams, s)
	}
	for _, f := range s.chain {
		s.request.halves = append(s.request.halves, &f.decode)
		s.response.halves = append(s.response.halves, &f.encode)
	}
	slices.Reverse(s.response.halves)
	for i := range s.chain {
		s.request.halves[i].index, s.response.halves[i].index = i, i
	}
	return s
}

// RequestHeaders takes the headers that the client sent; end says that no body follows. The field "host" is
// ":authority". Like all methods that bring a part of a message, it is for parts in their order; a part that comes when
// the stream has ended is lost, as in Envoy.
func (s *Stream) RequestHeaders(headers Headers, end bool) {
	if s.request.headers != nil {
		panic("wasmhost: request headers came twice")
	}
	h := headers.normal()
	h.hostIsAuthority()
	s.head = h.Get(":method") == "HEAD"
	contentType := h.Get("content-type")
	s.grpc = contentType == "application/grpc" || strings.HasPrefix(contentType, "application/grpc+")
	s.request.receiveHeaders(h, end)
}

// RequestBody takes a part of the body from the client.
func (s *Stream) RequestBody(data []byte, end bool) { s.request.receiveData(data, end) }

// RequestTrailers takes the trailers from the client. They end the request.
func (s *Stream) RequestTrailers(trailers Headers) { s.request.receiveTrailers(trailers) }

// ResponseHeaders takes the headers of the upstream's answer, with ":status"; end says that no body follows.
func (s *Stream) ResponseHeaders(headers Headers, end bool) {
	if s.done || s.local {
		return
	}
	if s.response.headers != nil {
		panic("wasmhost: response headers came twice")
	}
	s.setDetails("via_upstream")
	s.response.receiveHeaders(headers.normal(), end)
}

// ResponseBody takes a part of the body from the upstream.
func (s *Stream) ResponseBody(data []byte, end bool) {
	if !s.local {
		s.response.receiveData(data, end)
	}
}

// ResponseTrailers takes the trailers from the upstream. They end the response.
func (s *Stream) ResponseTrailers(trailers Headers) {
	if !s.local {
		s.response.receiveTrailers(trailers)
	}
}

// Reply answers as another part of Envoy does: the router for instance when no upstream can be reached, which the plugins
// see in their response callbacks; or, before RequestHeaders, the connection manager that refuses a malformed request,
// which they see in on_log only.
func (s *Stream) Reply(r LocalReply) { s.localReply(r) }

// Abort ends the stream because the client went away.
func (s *Stream) Abort() {
	if !s.detailed {
		s.setDetails("downstream_remote_disconnect")
	}
	s.finish()
}

func (s *Stream) setDetails(details string) { s.details, s.detailed = details, true }

// Upstream is what the upstream has seen of the request so far.
func (s *Stream) Upstream() Message { return s.upstream }

// Downstream is what the client has seen of the response so far.
func (s *Stream) Downstream() Message { return s.downstream }

// LocalReply is the answer that a plugin gave, as it gave it, or nil. What Envoy made of it is in [Stream.Downstream].
func (s *Stream) LocalReply() *LocalReply { return s.reply }

// Details are the response code details: of a local reply its own, else why the stream was broken off.
func (s *Stream) Details() string { return s.details }

// FilterState is what plugins set by set_property, which is "wasm." and the property's path.
func (s *Stream) FilterState(name string) (value []byte, ok bool) {
	value, ok = s.filterState[name]
	return value, ok
}

// Paused tells whether a plugin holds the request or the response.
func (s *Stream) Paused() (request, response bool) {
	holds := func(h *half) bool { return h.state != iterating }
	return !s.done && slices.ContainsFunc(s.request.halves, holds), !s.done && slices.ContainsFunc(s.response.halves, holds)
}

// Pressing tells whether Envoy has stopped to read from the client, because a plugin that has stopped everything holds
// more than the buffer limit. What comes nevertheless is held, too.
func (s *Stream) Pressing() bool { return s.request.pressing }

// Done tells whether the stream has ended, and the plugins were told.
func (s *Stream) Done() bool { return s.done }

// ContextID is the id of the stream in the module of the i-th plugin, 0 if its VM was dead.
func (s *Stream) ContextID(i int) uint32 {
	if i >= len(s.chain) || s.chain[i].wasmContext == nil {
		return 0
	}
	return s.chain[i].id
}

func (s *Stream) toUpstream(f Frame) {
	s.sent = true
	if s.cfg.OnUpstream != nil {
		s.cfg.OnUpstream(f)
		return
	}
	s.upstream.take(f)
}

func (s *Stream) toDownstream(f Frame) {
	if f.Headers != nil {
		s.code, _ = strconv.Atoi(f.Headers.Get(":status"))
		s.answering = true
	}
	if s.cfg.OnDownstream != nil {
		s.cfg.OnDownstream(f)
	} else {
		s.downstream.take(f)
	}
	if f.End {
		s.finish()
	}
}

// Receiving.

func (p *pipe) isRequest() bool { return p == &p.s.request }

func (p *pipe) receiveHeaders(h Headers, end bool) {
	if p.over() {
		return
	}
	p.headers, p.complete = &h, end
	if !p.isRequest() {
		p.s.code, _ = strconv.Atoi(h.Get(":status"))
	}
	p.sendHeaders(nil, end)
}

func (p *pipe) receiveData(data []byte, end bool) {
	if p.over() {
		return
	}
	p.mustExpect("body")
	p.complete = end
	p.bytes += len(data)
	p.sendData(nil, &buffer{slices.Clone(data)}, end)
}

func (p *pipe) receiveTrailers(h Headers) {
	if p.over() {
		return
	}
	p.mustExpect("trailers")
	h = h.normal()
	p.complete, p.trailers = true, &h
	p.sendTrailers(nil)
}

func (p *pipe) mustExpect(part string) {
	if p.headers == nil {
		panic("wasmhost: " + part + " came before the headers")
	}
	if p.complete {
		panic("wasmhost: " + part + " came after the end of the message")
	}
}

// over tells that frames of this direction are of no use any more: the stream has ended or was answered.
func (p *pipe) over() bool {
	return p.s.done || p.aborted || p.isRequest() && p.s.response.complete
}

// Passing through the filters. Each takes up after a filter, or at the start for nil.

func (p *pipe) after(h *half, orAt bool) int {
	switch {
	case h == nil:
		return 0
	case orAt && h.fromCurrent:
		return h.index
	}
	return h.index + 1
}

func (p *pipe) sendHeaders(from *half, end bool) {
	for _, h := range p.halves[p.after(from, false):] {
		h.endStream = end
		p.active++
		v := h.onHeaders(end)
		p.active--
		if p.interrupted() {
			v = verdictStop
		}
		switch v {
		case verdictContinue:
			h.headersContinued = true
			continue
		case verdictStop:
			h.state = stopped
		case verdictStopAll:
			h.state, p.streams = stoppedAll, false
		default:
			h.state, p.streams = stoppedAll, true
		}
		return
	}
	p.deliver(Frame{Headers: slices.Clone(*p.headers), End: end})
}

func (p *pipe) sendData(from *half, data *buffer, end bool) {
	var adder *half // of trailers
	hadTrailers := p.trailers != nil
	defer func() {
		if adder != nil && !p.over() {
			p.sendTrailers(adder)
		}
	}()
	for _, h := range p.halves[p.after(from, true):] {
		if h.state == stoppedAll {
			p.hold(data)
			return
		}
		if h.endStream {
			return
		}
		h.endStream = end && p.trailers == nil
		p.active++
		v := h.onData(data, h.endStream)
		p.active--
		if p.interrupted() {
			adder = nil
			return
		}
		if !hadTrailers && adder == nil && p.trailers != nil {
			adder = h
		}
		if v == verdictContinue {
			if h.state == stopped {
				adder = nil // resuming sends them
				p.hold(data)
				h.resume()
				return
			}
			if p.buffered != nil && data != p.buffered && len(p.buffered.b) > 0 && !h.f.plugin.vm.host.cfg.LegacyResume {
				// It had held an earlier part, so this one went to what is held.
				data.b = append(p.buffered.b, data.b...)
				p.buffered.b = nil
			}
			continue
		}
		h.state = stopped
		switch {
		case v == verdictStop || v == verdictStopStream:
			p.streams = v == verdictStopStream
			p.hold(data)
		case p.complete && p.trailers == nil && p.buffered == nil && !p.s.done:
			p.buffered = &buffer{} // so that resuming ends the stream
		}
		return
	}
	frame := Frame{Data: data.b, End: end && p.trailers == nil}
	data.b = nil
	p.pressing = false
	if len(frame.Data) > 0 || frame.End {
		p.deliver(frame)
	}
}

func (p *pipe) sendTrailers(from *half) {
	for _, h := range p.halves[p.after(from, true):] {
		if h.state == stoppedAll {
			return
		}
		p.active++
		v := h.onTrailers()
		p.active--
		if p.interrupted() {
			v = verdictStop
		}
		switch {
		case v == verdictContinue && h.state == stopped:
			h.resume()
			return
		case v != verdictContinue:
			if h.state == iterating {
				h.state = stopped
			}
			return
		}
	}
	p.deliver(Frame{Trailers: slices.Clone(*p.trailers), End: true})
}

// interrupted sends a local reply that was prepared during a callback, and tells whether the frame ends there.
func (p *pipe) interrupted() bool {
	if !p.aborted && !p.s.done {
		return false
	}
	if r := p.s.prepared; r != nil {
		p.s.prepared = nil
		p.s.encodeReply(*r, true)
	}
	return true
}

func (p *pipe) deliver(f Frame) {
	if p.isRequest() {
		p.s.toUpstream(f)
	} else {
		p.s.toDownstream(f)
	}
}

// hold keeps data that a filter stopped. What passes the limit presses back or, when the filter wants the whole body,
// fails the stream.
func (p *pipe) hold(data *buffer) {
	if p.buffered == nil {
		p.buffered = &buffer{}
	}
	if p.buffered != data {
		p.buffered.b = append(p.buffered.b, data.b...)
		data.b = nil
	}
	if len(p.buffered.b) <= p.s.cfg.BufferLimit || p.pressing || p.over() {
		return
	}
	switch {
	case p.streams:
		p.pressing = true
	case p.isRequest():
		p.s.localReply(LocalReply{Status: 413, Body: []byte("Payload Too Large"), Details: "request_payload_too_large", GRPCStatus: -1})
	default:
		p.s.localReply(LocalReply{Status: 500, Body: []byte("Internal Server Error"), Details: "response_payload_too_large", GRPCStatus: -1})
	}
}

// addTrailers lets a filter add trailers to a body that has just ended without.
func (h *half) addTrailers() *Headers {
	if h.pipe.trailers == nil {
		h.pipe.trailers = &Headers{}
	}
	return h.pipe.trailers
}

// resume lets pass what the filter held (ActiveStreamFilterBase::commonContinue).
func (h *half) resume() {
	p := h.pipe
	if p.s.done || p.aborted || p.isRequest() && p.s.response.complete {
		return
	}
	h.fromCurrent = h.state == stoppedAll
	h.state = iterating
	if !h.headersContinued {
		h.headersContinued = true
		p.sendHeaders(h, p.complete && p.buffered == nil && p.trailers == nil)
	}
	hadTrailers := p.trailers != nil
	if p.buffered != nil && !p.over() {
		p.sendData(h, p.buffered, p.complete && !hadTrailers)
	}
	if hadTrailers && !p.over() {
		p.sendTrailers(h)
	}
	h.fromCurrent = false
}

// Callbacks.

// crashed tells whether the VM is dead. It answers the stream then, whatever the failure policy: FAIL_OPEN only keeps
// the filter out of new streams.
func (f *filter) crashed() bool {
	if f.in != nil && f.in.err == nil {
		return false
	}
	if !f.failed {
		f.failed = true
		f.stream.localReply(LocalReply{Status: 503, GRPCStatus: 14, Details: "wasm_fail_stream"})
	}
	return true
}

// run calls a stream callback. closed is the verdict when the VM has crashed or a local reply was sent, and the highest
// that the module may give.
func (f *filter) run(cb callback, closed verdict, args ...uint64) verdict {
	if f.crashed() {
		return closed
	}
	if f.in.fns[cb] == nil {
		return verdictContinue
	}
	v := verdict(f.in.call(cb, f.wasmContext, args...))
	if f.crashed() || f.in.stopped || v > closed {
		v = closed
	}
	f.in.settle()
	return v
}

func (f *filter) create() {
	if !f.created && f.in != nil && f.in.err == nil {
		f.in.notify(cbContextCreate, f.wasmContext, uint64(f.id), uint64(f.root.id))
	}
	f.created = true
}

func (h *half) onHeaders(end bool) (v verdict) {
	f := h.f
	visible, cb := &f.requestHeaders, cbRequestHeaders
	if h == &f.encode {
		if !f.created || f.failed {
			return verdictContinue
		}
		visible, cb = &f.responseHeaders, cbResponseHeaders
	} else {
		f.create()
	}
	*visible, f.endOfStream = h.pipe.headers, end
	v = f.run(cb, verdictStopAllPress, f.arg(), uint64(len(*h.pipe.headers)), boolArg(end))
	switch {
	case v == verdictStop && !f.plugin.cfg.AllowOnHeadersStopIteration:
		v = verdictStopAllPress
	case v == verdictStopStream: // ContinueAndEndStream once
		v = verdictContinue
	}
	if v == verdictContinue {
		*visible = nil
	}
	return v
}

func (h *half) onData(data *buffer, end bool) (v verdict) {
	f, p := h.f, h.pipe
	visible, cb := &f.requestBody, cbRequestBody
	if h == &f.encode {
		visible, cb = &f.responseBody, cbResponseBody
	}
	if !f.created || h == &f.encode && f.failed {
		return verdictContinue
	}
	size := len(data.b)
	if h.buffering {
		p.streams = false
		if p.hold(data); p.s.done {
			return verdictStop
		}
		size = len(p.buffered.b)
	}
	*visible, f.endOfStream = data, end
	v = f.run(cb, verdictStopAll, f.arg(), uint64(size), boolArg(end))
	h.buffering = v == verdictStop
	if v == verdictContinue {
		*visible = nil
	}
	return v
}

func (h *half) onTrailers() (v verdict) {
	f := h.f
	visible, cb := &f.requestTrailers, cbRequestTrailers
	if h == &f.encode {
		visible, cb = &f.responseTrailers, cbResponseTrailers
	}
	if !f.created || h == &f.encode && f.failed {
		return verdictContinue
	}
	*visible = h.pipe.trailers
	v = f.run(cb, verdictStop, f.arg(), uint64(len(*h.pipe.trailers)))
	if v == verdictContinue {
		*visible = nil
	}
	return v
}

func (f *filter) arg() uint64 {
	if f.wasmContext == nil {
		return 0
	}
	return uint64(f.id)
}

func boolArg(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Ending.

// localReply answers instead of the upstream (DownstreamFilterManager::sendLocalReply). Before the response has begun
// the answer takes the way of a response through the filters; when the filters have its headers but the client has none
// yet, it goes to the client straight; later the stream can only be broken off.
func (s *Stream) localReply(r LocalReply) {
	if s.done {
		return
	}
	deciding := s.request.active > 0
	switch {
	case deciding:
		s.request.aborted = true
	case s.response.active > 0:
		s.response.aborted = true
	}
	s.setDetails(r.Details)
	switch {
	case s.response.headers == nil && deciding:
		s.prepared = &r
	case s.response.headers == nil:
		s.encodeReply(r, true)
	case !s.answering:
		s.encodeReply(r, false)
	default:
		s.reset()
	}
}

// encodeReply makes the response of a local reply (Http::Utility::prepareLocalReply).
func (s *Stream) encodeReply(r LocalReply, filters bool) {
	s.local = true
	h := Headers{{":status", strconv.Itoa(r.Status)}}
	for _, f := range r.Headers {
		h.add(f[0], f[1])
	}
	body := r.Body
	switch {
	case s.grpc: // trailers only
		h.put(":status", "200")
		h.put("content-type", "application/grpc")
		if !h.Has("grpc-status") {
			status := r.GRPCStatus
			if status < 0 {
				status = grpcStatus(r.Status)
			}
			h.put("grpc-status", strconv.Itoa(status))
		}
		if len(body) > 0 && !s.head {
			h.put("grpc-message", percentEncode(body))
		}
		h.remove("content-length")
		body = nil
	case len(body) > 0:
		h.put("content-length", strconv.Itoa(len(body)))
		if !h.Has("content-type") {
			h.put("content-type", "text/plain")
		}
	default:
		h.remove("content-length")
		h.remove("content-type")
	}
	h = h.normal()
	end := len(body) == 0 || s.head
	if !filters {
		s.response.headers = &h
		s.toDownstream(Frame{Headers: h, End: end})
		if !end && !s.done {
			s.toDownstream(Frame{Data: body, End: true})
		}
		return
	}
	s.response.receiveHeaders(h, end)
	if !end {
		s.response.receiveData(body, true)
	}
}

// grpcStatus is Envoy's Grpc::Utility::httpToGrpcStatus.
func grpcStatus(http int) int {
	switch http {
	case 400:
		return 13 // Internal
	case 401:
		return 16 // Unauthenticated
	case 403:
		return 7 // PermissionDenied
	case 404:
		return 12 // Unimplemented
	case 429, 502, 503, 504:
		return 14 // Unavailable
	}
	return 2 // Unknown
}

// percentEncode is the encoding of grpc-message in gRPC's HTTP/2 mapping.
func percentEncode(b []byte) string {
	const hex = "0123456789ABCDEF"
	var s strings.Builder
	for _, c := range b {
		if c < ' ' || c > '~' || c == '%' {
			s.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			s.WriteByte(c)
		}
	}
	return s.String()
}

// reset breaks the stream off.
func (s *Stream) reset() {
	if s.done {
		return
	}
	s.toDownstream(Frame{Reset: true})
	s.finish()
}

// finish ends the stream: first all plugins log, then each is done.
func (s *Stream) finish() {
	if s.done {
		return
	}
	s.done = true
	if s.sent && (s.local || !s.response.complete) {
		s.toUpstream(Frame{Reset: true})
	}
	if s.request.headers != nil || s.local { // else Envoy has no filter chain yet
		for _, f := range s.chain {
			f.create() // in a filter that the request did not reach
			f.logging = true
			f.end(cbLog)
			f.logging = false
		}
		for _, f := range s.chain {
			f.end(cbDone)
			f.end(cbDelete)
		}
	}
	for _, f := range s.chain {
		if f.in != nil {
			delete(f.in.contexts, f.id)
		}
	}
	for _, f := range s.chain {
		f.plugin.streams = slices.DeleteFunc(f.plugin.streams, func(t *Stream) bool { return t == s })
		f.plugin.release()
	}
}

func (f *filter) end(cb callback) {
	if f.in != nil {
		f.in.notify(cb, f.wasmContext, uint64(f.id))
	}
}
