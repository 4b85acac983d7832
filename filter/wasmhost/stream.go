package wasmhost

import (
	"slices"
	"strconv"
	"strings"
)

// This file is the public side of a stream: a test, as the client and the upstream, delivers the
// parts of the request and of the response, and reads what came out at the other end. In between,
// pipe.go passes each part through the filters, filter.go calls the module of each filter, and
// reply.go sends local replies, which replace the response of the upstream.

// DefaultBufferLimit is the default of Envoy's per_connection_buffer_limit_bytes, the maximum size
// of a held body.
const DefaultBufferLimit = 1 << 20

// StreamConfig is what Envoy knows about a request besides what the client sends.
type StreamConfig struct {
	// Properties is the tree that get_property reads, for example {"source": {"address":
	// "10.0.0.1:4711"}}, with a nested map for each part of the path. It is read on each call and
	// may be changed while the stream lasts. Values are string, []byte, bool, int, int64, uint64,
	// float64, time.Time, time.Duration, nil (a null), and map[string]any, map[string]string, []any
	// and []string of them.
	//
	// Properties that follow from the stream itself are not read from here: request.{path,
	// url_path, query, host, scheme, method, headers, referer, useragent, id, size, total_size} and
	// response.{code, code_details, headers, trailers, size}. All of filter_metadata is a protobuf
	// Struct in Envoy, which has one kind of number, so its integers are returned as doubles. The
	// property "metadata" as a whole is returned as protobuf and contains filter_metadata alone.
	Properties map[string]any

	// BufferLimit is the maximum size of a held body in bytes; 0 means [DefaultBufferLimit].
	BufferLimit int

	// OnUpstream and OnDownstream receive each frame that goes to the upstream and to the client.
	// The frames are then not recorded in [Stream.Upstream] and [Stream.Downstream]. The functions
	// must not call the stream.
	OnUpstream, OnDownstream func(Frame)
}

// Frame is a part of a message: headers, data, trailers or a reset.
type Frame struct {
	Headers  Headers
	Data     []byte
	Trailers Headers
	End      bool // nothing follows
	Reset    bool // the stream was broken off
}

// Message is a request as the upstream received it, or a response as the client did.
type Message struct {
	Frames   []Frame
	Headers  Headers // nil: nothing was received
	Body     []byte
	Trailers Headers
	End      bool // the message was complete
	Reset    bool // it was broken off; for a request, before its response was complete
}

// Status returns the value of ":status", or 0 without one.
func (m Message) Status() int {
	status, _ := strconv.Atoi(m.Headers.Get(":status"))
	return status
}

// add appends a frame to the message.
func (m *Message) add(f Frame) {
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

// Stream is a request and its response on their way through one or more plugins and back, with
// Envoy's HTTP filter manager around them. [NewStream] makes one.
type Stream struct {
	cfg         StreamConfig
	chain       []*filter         // in the order of the request
	filterState map[string][]byte // what plugins have stored with set_property, by "wasm." and the path

	request, response    pipe
	upstream, downstream Message // what the upstream and the client have received
	upstreamStarted      bool    // something went to the upstream
	downstreamStarted    bool    // response headers went to the client

	isHead, isGRPC bool // the method of the request is HEAD; its content type is that of gRPC

	code         int         // of the response, 0 before there is one
	details      string      // response code details
	hasDetails   bool        // details was set, perhaps to ""
	isLocalReply bool        // the response is a local reply
	reply        *LocalReply // the local reply that a plugin has sent
	pendingReply *LocalReply // a local reply to be sent when the running filter callback has returned
	done         bool        // the stream has ended
}

// NewStream begins a request that travels through the plugin alone.
func (p *Plugin) NewStream(cfg StreamConfig) *Stream { return NewStream(cfg, p) }

// NewStream begins a request that travels through the plugins in the given order. The response
// travels through them in the opposite order. The plugins must belong to VMs of one thread. A VM
// that has crashed is reloaded now if the failure policy of its plugin asks for it.
func NewStream(cfg StreamConfig, plugins ...*Plugin) *Stream {
	if cfg.BufferLimit == 0 {
		cfg.BufferLimit = DefaultBufferLimit
	}

	s := &Stream{cfg: cfg, filterState: make(map[string][]byte)}
	s.request.s, s.response.s = s, s

	for _, p := range plugins {
		p.reload()
		f := &filter{plugin: p, stream: s}
		instance := p.root.in // of the module, in the VM of the plugin
		switch {
		case instance.err == nil:
			f.in, f.wasmContext = instance, instance.newContext(p.root, f)
		case p.cfg.FailurePolicy == FailOpen:
			continue // the filter is left out of the chain
		}

		// With another policy, the filter of a crashed VM is in the chain too, without a context.
		// It answers the stream with 503 when a frame reaches it.

		f.decode.f, f.decode.pipe = f, &s.request
		f.encode.f, f.encode.pipe = f, &s.response
		s.chain = append(s.chain, f)
		p.streams = append(p.streams, s)
	}

	for _, f := range s.chain {
		s.request.filters = append(s.request.filters, &f.decode)
		s.response.filters = append(s.response.filters, &f.encode)
	}
	slices.Reverse(s.response.filters)

	for i := range s.chain {
		s.request.filters[i].index, s.response.filters[i].index = i, i
	}

	return s
}

// RequestHeaders delivers the headers that the client sent; end reports that no body follows. A
// field "host" becomes ":authority".
//
// The parts of a message must be delivered in their order, by this method and the ones below. A
// part that arrives after the end of the stream is dropped, as in Envoy.
func (s *Stream) RequestHeaders(headers Headers, end bool) {
	if s.request.headers != nil {
		panic("wasmhost: request headers came twice")
	}

	h := headers.normalized()
	h.moveHostToAuthority()
	s.isHead = h.Get(":method") == "HEAD"
	contentType := h.Get("content-type")
	s.isGRPC = contentType == "application/grpc" || strings.HasPrefix(contentType, "application/grpc+")

	s.request.receiveHeaders(h, end)
}

// RequestBody delivers a part of the body from the client.
func (s *Stream) RequestBody(data []byte, end bool) { s.request.receiveData(data, end) }

// RequestTrailers delivers the trailers from the client. They end the request.
func (s *Stream) RequestTrailers(trailers Headers) { s.request.receiveTrailers(trailers) }

// ResponseHeaders delivers the headers of the upstream's response, which must include ":status";
// end reports that no body follows.
func (s *Stream) ResponseHeaders(headers Headers, end bool) {
	if s.done || s.isLocalReply {
		return
	}
	if s.response.headers != nil {
		panic("wasmhost: response headers came twice")
	}

	s.setDetails("via_upstream")
	s.response.receiveHeaders(headers.normalized(), end)
}

// ResponseBody delivers a part of the body from the upstream.
func (s *Stream) ResponseBody(data []byte, end bool) {
	if !s.isLocalReply {
		s.response.receiveData(data, end)
	}
}

// ResponseTrailers delivers the trailers from the upstream. They end the response.
func (s *Stream) ResponseTrailers(trailers Headers) {
	if !s.isLocalReply {
		s.response.receiveTrailers(trailers)
	}
}

// Reply sends a local reply as parts of Envoy other than plugins do. The router does if it can
// reach no upstream, and the plugins get that reply in their response callbacks. Before
// RequestHeaders, it is the reply of the connection manager to a malformed request, which plugins
// see only in on_log.
func (s *Stream) Reply(r LocalReply) { s.localReply(r) }

// Abort ends the stream as when the client disconnects.
func (s *Stream) Abort() {
	if !s.hasDetails {
		s.setDetails("downstream_remote_disconnect")
	}

	s.finish()
}

// setDetails sets the response code details.
func (s *Stream) setDetails(details string) { s.details, s.hasDetails = details, true }

// Upstream returns what the upstream has received of the request so far.
func (s *Stream) Upstream() Message { return s.upstream }

// Downstream returns what the client has received of the response so far.
func (s *Stream) Downstream() Message { return s.downstream }

// LocalReply returns the local reply of a plugin as the plugin sent it, or nil. [Stream.Downstream]
// has what Envoy makes of it.
func (s *Stream) LocalReply() *LocalReply { return s.reply }

// Details returns the response code details: those of a local reply, or why the stream was broken
// off.
func (s *Stream) Details() string { return s.details }

// FilterState returns what plugins have stored with set_property. The name is "wasm." followed by
// the path of the property.
func (s *Stream) FilterState(name string) (value []byte, ok bool) {
	value, ok = s.filterState[name]
	return value, ok
}

// Paused reports whether a plugin has paused the request, and whether one has paused the response.
func (s *Stream) Paused() (request, response bool) {
	if s.done {
		return false, false
	}
	return s.request.paused(), s.response.paused()
}

// Pressing reports whether Envoy has stopped reading from the client, because a plugin that has
// stopped the whole stream holds more than the buffer limit. What arrives nevertheless is held too.
func (s *Stream) Pressing() bool { return s.request.pressing }

// Done reports whether the stream has ended, after which plugins got on_log, on_done and on_delete.
func (s *Stream) Done() bool { return s.done }

// ContextID returns the id of the stream in the module of the i-th filter in the chain, or 0 if the
// VM of its plugin had crashed.
func (s *Stream) ContextID(i int) uint32 {
	if i >= len(s.chain) || s.chain[i].wasmContext == nil {
		return 0
	}
	return s.chain[i].id
}

// toUpstream delivers a frame of the request that has passed all filters.
func (s *Stream) toUpstream(f Frame) {
	s.upstreamStarted = true
	if s.cfg.OnUpstream != nil {
		s.cfg.OnUpstream(f)
		return
	}

	s.upstream.add(f)
}

// toDownstream delivers a frame of the response to the client. The last one ends the stream.
func (s *Stream) toDownstream(f Frame) {
	if f.Headers != nil {
		s.code, _ = strconv.Atoi(f.Headers.Get(":status"))
		s.downstreamStarted = true
	}

	if s.cfg.OnDownstream != nil {
		s.cfg.OnDownstream(f)
	} else {
		s.downstream.add(f)
	}

	if f.End {
		s.finish()
	}
}

// reset breaks the stream off, for the client and for the upstream.
func (s *Stream) reset() {
	if s.done {
		return
	}

	s.toDownstream(Frame{Reset: true})
	s.finish()
}

// finish ends the stream: every module is called for its log, and after that every module is told
// that the stream is done and its context deleted. A plugin that was removed while the stream was
// open may then shut down.
func (s *Stream) finish() {
	if s.done {
		return
	}

	// After a local reply, nobody reads the response of the upstream any longer.
	s.done = true
	if s.upstreamStarted && (s.isLocalReply || !s.response.complete) {
		s.toUpstream(Frame{Reset: true})
	}

	// Without request headers, Envoy has no filter chain, unless it makes one to log a local reply
	// to a malformed request.
	if s.request.headers != nil || s.isLocalReply {
		for _, f := range s.chain {
			f.create() // in the module, where the request has not reached the filter before
			f.logging = true
			f.runAtEnd(cbLog)
			f.logging = false
		}

		for _, f := range s.chain {
			f.runAtEnd(cbDone)
			f.runAtEnd(cbDelete)
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
