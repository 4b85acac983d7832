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

// Stream is a request and its response on their way through one or more plugins and back, and Envoy's HTTP filter
// manager around them. The zero Stream is of no use.
type Stream struct {
	cfg               StreamConfig
	chain             []*filter
	request           pipe
	response          pipe
	upstream          Message
	downstream        Message
	details           string // response code details
	hasDetails        bool   // they were set
	code              int    // of the response, once there is one
	filterState       map[string][]byte
	reply             *LocalReply // by a plugin
	pendingReply      *LocalReply // waits for the filter callback to return
	isHead, isGRPC    bool        // what the request is
	isLocalReply      bool        // the response is a local reply
	upstreamStarted   bool        // something went to the upstream
	downstreamStarted bool        // response headers went to the client
	done              bool
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
	s.isHead = h.Get(":method") == "HEAD"
	contentType := h.Get("content-type")
	s.isGRPC = contentType == "application/grpc" || strings.HasPrefix(contentType, "application/grpc+")
	s.request.receiveHeaders(h, end)
}

// RequestBody takes a part of the body from the client.
func (s *Stream) RequestBody(data []byte, end bool) { s.request.receiveData(data, end) }

// RequestTrailers takes the trailers from the client. They end the request.
func (s *Stream) RequestTrailers(trailers Headers) { s.request.receiveTrailers(trailers) }

// ResponseHeaders takes the headers of the upstream's answer, with ":status"; end says that no body follows.
func (s *Stream) ResponseHeaders(headers Headers, end bool) {
	if s.done || s.isLocalReply {
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
	if !s.isLocalReply {
		s.response.receiveData(data, end)
	}
}

// ResponseTrailers takes the trailers from the upstream. They end the response.
func (s *Stream) ResponseTrailers(trailers Headers) {
	if !s.isLocalReply {
		s.response.receiveTrailers(trailers)
	}
}

// Reply answers as another part of Envoy does: the router for instance when no upstream can be reached, which the plugins
// see in their response callbacks; or, before RequestHeaders, the connection manager that refuses a malformed request,
// which they see in on_log only.
func (s *Stream) Reply(r LocalReply) { s.localReply(r) }

// Abort ends the stream because the client went away.
func (s *Stream) Abort() {
	if !s.hasDetails {
		s.setDetails("downstream_remote_disconnect")
	}
	s.finish()
}

func (s *Stream) setDetails(details string) { s.details, s.hasDetails = details, true }

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
	holds := func(h *activeFilter) bool { return h.state != iterating }
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
	s.upstreamStarted = true
	if s.cfg.OnUpstream != nil {
		s.cfg.OnUpstream(f)
		return
	}
	s.upstream.take(f)
}

func (s *Stream) toDownstream(f Frame) {
	if f.Headers != nil {
		s.code, _ = strconv.Atoi(f.Headers.Get(":status"))
		s.downstreamStarted = true
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
	if s.upstreamStarted && (s.isLocalReply || !s.response.complete) {
		s.toUpstream(Frame{Reset: true})
	}
	if s.request.headers != nil || s.isLocalReply { // else Envoy has no filter chain yet
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
