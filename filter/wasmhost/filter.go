package wasmhost

// A filter is the part of one plugin in a stream: the callbacks for the request on its way to the
// upstream (decode, in Envoy's terms) and for the response on its way back (encode). pipe.go calls
// onHeaders, onData and onTrailers for each frame and acts on the verdict. The module itself runs
// in an instance (instance.go), in which the filter is a context with an id.
type filter struct {
	*wasmContext           // nil if the VM had crashed when the stream began
	in           *instance // nil likewise
	plugin       *Plugin
	stream       *Stream

	decode, encode activeFilter

	created bool // the context exists in the module
	logging bool // on_log is running
	failed  bool // the stream was answered because the VM has crashed

	// The parts of the stream that the module can read and change now; nil for all others.
	requestHeaders, requestTrailers, responseHeaders, responseTrailers *Headers
	requestBody, responseBody                                          *bodyBuffer

	endOfStream bool // the last callback was told that the message ends
}

// grpcUnavailable is the status code of gRPC for a service that cannot answer now.
const grpcUnavailable = 14

// failIfCrashed reports whether the VM has crashed, and if so answers the stream. It does so with
// every failure policy: FAIL_OPEN only keeps the filter out of new streams.
func (f *filter) failIfCrashed() bool {
	if f.in != nil && f.in.err == nil {
		return false
	}

	if !f.failed {
		f.failed = true
		f.stream.localReply(LocalReply{Status: 503, GRPCStatus: grpcUnavailable, Details: "wasm_fail_stream"})
	}
	return true
}

// run runs a stream callback with the arguments after the context id, and returns the module's
// verdict. It returns highest instead if the module returns a greater one, which the ABI does not
// define, and if the stream must stop because the VM has crashed or a local reply was sent. A
// callback that the module does not export means Continue.
func (f *filter) run(cb callback, highest verdict, args ...uint64) verdict {
	if f.failIfCrashed() {
		return highest
	}
	if f.in.exports[cb] == nil {
		return verdictContinue
	}

	v := verdict(f.in.call(cb, f.wasmContext, append([]uint64{uint64(f.id)}, args...)...))
	if f.failIfCrashed() || f.in.localReplySent || v > highest {
		v = highest
	}
	f.in.doAfterCallActions()
	return v
}

// create creates the filter's context in the module, once.
func (f *filter) create() {
	if !f.created && f.in != nil && f.in.err == nil {
		f.in.callThenAct(cbContextCreate, f.wasmContext, uint64(f.id), uint64(f.root.id))
	}
	f.created = true
}

// skips reports whether the filter gets no callbacks in this direction: the request has not reached
// it, so that the module does not know the stream, or its VM has crashed and this is the response,
// which is then the reply about the crash.
func (a *activeFilter) skips() bool {
	return !a.f.created || a == &a.f.encode && a.f.failed
}

// onHeaders runs the callback for the headers. end means that no body follows.
func (a *activeFilter) onHeaders(end bool) verdict {
	f := a.f
	visible, cb := &f.requestHeaders, cbRequestHeaders
	if a == &f.encode {
		visible, cb = &f.responseHeaders, cbResponseHeaders
	} else {
		f.create()
	}
	if a.skips() {
		return verdictContinue
	}

	*visible, f.endOfStream = a.pipe.headers, end
	v := f.run(cb, verdictStopAllPress, uint64(len(*a.pipe.headers)), boolArg(end))
	switch {
	case v == verdictStop && !f.plugin.cfg.AllowOnHeadersStopIteration:
		v = verdictStopAllPress
	case v == verdictStopStream: // for headers, 2 was ContinueAndEndStream, which Envoy no longer supports
		v = verdictContinue
	}

	if v == verdictContinue {
		*visible = nil
	}
	return v
}

// onData runs the callback for a part of the body. end means that it is the last.
//
// A filter that buffers the body is told the size of the whole body so far, and finds all of it in
// the pipe's buffer (bodyBuffer in buffer.go), to which the new part is added first. As in Envoy,
// it is called even if the body now exceeds the limit and the host answers the stream, unless that
// has ended the stream.
func (a *activeFilter) onData(data *bodyBuffer, end bool) verdict {
	f, p := a.f, a.pipe
	visible, cb := &f.requestBody, cbRequestBody
	if a == &f.encode {
		visible, cb = &f.responseBody, cbResponseBody
	}
	if a.skips() {
		return verdictContinue
	}

	size := len(data.bytes)
	if a.buffering {
		p.pressesBack = false
		p.hold(data)
		if p.s.done {
			return verdictStop
		}
		size = len(p.buffered.bytes)
	}

	*visible, f.endOfStream = data, end
	v := f.run(cb, verdictStopAll, uint64(size), boolArg(end))
	a.buffering = v == verdictStop
	if v == verdictContinue {
		*visible = nil
	}
	return v
}

// onTrailers runs the callback for the trailers.
func (a *activeFilter) onTrailers() verdict {
	f := a.f
	visible, cb := &f.requestTrailers, cbRequestTrailers
	if a == &f.encode {
		visible, cb = &f.responseTrailers, cbResponseTrailers
	}
	if a.skips() {
		return verdictContinue
	}

	*visible = a.pipe.trailers
	v := f.run(cb, verdictStop, uint64(len(*a.pipe.trailers)))
	if v == verdictContinue {
		*visible = nil
	}
	return v
}

// runAtEnd runs one of the callbacks at the end of the stream: on_log, on_done or on_delete.
func (f *filter) runAtEnd(cb callback) {
	if f.in != nil {
		f.in.callThenAct(cb, f.wasmContext, uint64(f.id))
	}
}

// boolArg returns a bool as the argument of a callback.
func boolArg(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// The streams that proxy_continue_stream and proxy_close_stream name in parameter 0
// (proxy_stream_type_t). The last two are those of a TCP filter.
const (
	streamRequest    = 0
	streamResponse   = 1
	streamDownstream = 2
	streamUpstream   = 3
)

// continueStream is proxy_continue_stream, which resumes the request or the response that a filter
// has stopped. Its parameter 0 is the stream. Like all calls that act on a stream, it takes effect
// when the module has returned, since the module must not be entered while it runs. For the streams
// of a TCP filter, which this host does not have, it returns what Envoy returns for an HTTP filter.
func (c call) continueStream() Status {
	switch c.u32(0) {
	case streamRequest, streamResponse:
	case streamDownstream:
		return StatusOK
	case streamUpstream:
		return StatusUnimplemented
	default:
		return StatusBadArgument
	}

	f := c.in.current().filter
	if f == nil {
		c.in.misuse(c.in.invocation.callback, "proxy_continue_stream", "no stream is current")
		return StatusOK
	}
	f.requestHeaders, f.requestTrailers, f.requestBody = nil, nil, nil

	a := &f.decode
	if c.u32(0) == streamResponse {
		a = &f.encode
	}
	in, during := c.in, c.in.invocation.callback
	in.addAfterCallAction(func() {
		switch {
		case f.stream.done:
			in.misuse(during, "proxy_continue_stream", "the stream has ended")
		case f.stream.reply != nil && a == &f.decode:
			in.misuse(during, "proxy_continue_stream", "the stream was already answered by a local reply")
		case a.state == iterating:
			in.misuse(during, "proxy_continue_stream", "the stream is not paused")
		default:
			a.resume()
		}
	})
	return StatusOK
}

// closeStream is proxy_close_stream, which breaks the current stream off when the module has
// returned. Its parameter 0 is the stream; the request and the response are broken off together.
func (c call) closeStream() Status {
	if c.u32(0) > streamUpstream {
		return StatusBadArgument
	}

	if f := c.in.current().filter; f != nil && c.u32(0) <= streamResponse {
		if !f.stream.hasDetails {
			f.stream.setDetails("wasm_close_stream")
		}
		c.in.addAfterCallAction(f.stream.reset)
	}
	return StatusOK
}
