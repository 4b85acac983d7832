package wasmhost

// filter is the part of one plugin in a stream.
type filter struct {
	*wasmContext
	in     *instance // nil if the VM had crashed when the stream began
	plugin *Plugin
	stream *Stream

	decode, encode activeFilter

	created bool // in the module
	logging bool // on_log is running
	failed  bool // the stream was answered because the VM has crashed

	// The parts of the stream that the module can read now.
	requestHeaders, requestTrailers, responseHeaders, responseTrailers *Headers
	requestBody, responseBody                                          *bodyBuffer
	endOfStream                                                        bool
}

// failIfCrashed reports whether the VM has crashed, and if so answers the stream. It does so with
// every failure policy: FAIL_OPEN only keeps the filter out of new streams.
func (f *filter) failIfCrashed() bool {
	if f.in != nil && f.in.err == nil {
		return false
	}
	if !f.failed {
		f.failed = true
		f.stream.localReply(LocalReply{Status: 503, GRPCStatus: 14, Details: "wasm_fail_stream"})
	}
	return true
}

// run calls a stream callback. It returns highest if the VM has crashed or a local reply was sent.
// A greater verdict of the module also counts as highest.
func (f *filter) run(cb callback, highest verdict, args ...uint64) verdict {
	if f.failIfCrashed() {
		return highest
	}
	if f.in.fns[cb] == nil {
		return verdictContinue
	}

	v := verdict(f.in.call(cb, f.wasmContext, args...))
	if f.failIfCrashed() || f.in.localReplySent || v > highest {
		v = highest
	}
	f.in.doAfterCallActions()
	return v
}

// create creates the filter's context in the module, once.
func (f *filter) create() {
	if !f.created && f.in != nil && f.in.err == nil {
		f.in.notify(cbContextCreate, f.wasmContext, uint64(f.id), uint64(f.root.id))
	}
	f.created = true
}

func (a *activeFilter) onHeaders(end bool) (v verdict) {
	f := a.f
	visible, cb := &f.requestHeaders, cbRequestHeaders
	if a == &f.encode {
		if !f.created || f.failed {
			return verdictContinue
		}
		visible, cb = &f.responseHeaders, cbResponseHeaders
	} else {
		f.create()
	}

	*visible, f.endOfStream = a.pipe.headers, end
	v = f.run(cb, verdictStopAllPress, f.arg(), uint64(len(*a.pipe.headers)), boolArg(end))
	switch {
	case v == verdictStop && !f.plugin.cfg.AllowOnHeadersStopIteration:
		v = verdictStopAllPress
	case v == verdictStopStream: // formerly ContinueAndEndStream
		v = verdictContinue
	}

	if v == verdictContinue {
		*visible = nil
	}
	return v
}

func (a *activeFilter) onData(data *bodyBuffer, end bool) (v verdict) {
	f, p := a.f, a.pipe
	visible, cb := &f.requestBody, cbRequestBody
	if a == &f.encode {
		visible, cb = &f.responseBody, cbResponseBody
	}
	if !f.created || a == &f.encode && f.failed {
		return verdictContinue
	}

	size := len(data.bytes)
	if a.buffering {
		p.pressesBack = false
		if p.hold(data); p.s.done {
			return verdictStop
		}
		size = len(p.buffered.bytes)
	}

	*visible, f.endOfStream = data, end
	v = f.run(cb, verdictStopAll, f.arg(), uint64(size), boolArg(end))
	a.buffering = v == verdictStop
	if v == verdictContinue {
		*visible = nil
	}
	return v
}

func (a *activeFilter) onTrailers() (v verdict) {
	f := a.f
	visible, cb := &f.requestTrailers, cbRequestTrailers
	if a == &f.encode {
		visible, cb = &f.responseTrailers, cbResponseTrailers
	}
	if !f.created || a == &f.encode && f.failed {
		return verdictContinue
	}

	*visible = a.pipe.trailers
	v = f.run(cb, verdictStop, f.arg(), uint64(len(*a.pipe.trailers)))
	if v == verdictContinue {
		*visible = nil
	}
	return v
}

// end runs one of the callbacks at the end of the stream.
func (f *filter) end(cb callback) {
	if f.in != nil {
		f.in.notify(cb, f.wasmContext, uint64(f.id))
	}
}

// arg returns the context id as the argument of a callback.
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

// continueStream is proxy_continue_stream. Like all calls that act on a stream, it takes effect
// when the module has returned, since the module must not be entered while it runs.
func (c call) continueStream() Status {
	switch c.u32(0) {
	case 0, 1: // request, response
	case 2: // downstream, of TCP
		return StatusOK
	case 3: // upstream, of TCP
		return StatusUnimplemented
	default:
		return StatusBadArgument
	}

	f := c.in.current().filter
	if f == nil {
		c.in.misuse(c.in.frame.callback, "proxy_continue_stream", "no stream is current")
		return StatusOK
	}
	f.requestHeaders, f.requestTrailers, f.requestBody = nil, nil, nil
	a := &f.decode
	if c.u32(0) == 1 {
		a = &f.encode
	}

	in, during := c.in, c.in.frame.callback
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
// returned.
func (c call) closeStream() Status {
	if c.u32(0) > 3 {
		return StatusBadArgument
	}

	if f := c.in.current().filter; f != nil && c.u32(0) < 2 {
		if !f.stream.hasDetails {
			f.stream.setDetails("wasm_close_stream")
		}
		c.in.addAfterCallAction(f.stream.reset)
	}
	return StatusOK
}
