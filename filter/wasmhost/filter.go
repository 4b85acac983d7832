package wasmhost

// filter is one plugin's part in a stream.
type filter struct {
	*wasmContext
	in     *instance // nil if the VM was dead when the stream began
	plugin *Plugin
	stream *Stream

	decode, encode activeFilter

	created bool // in the module
	logging bool // on_log runs
	failed  bool // the stream was answered because the VM has crashed

	// What the module may look at now.
	requestHeaders, requestTrailers, responseHeaders, responseTrailers *Headers
	requestBody, responseBody                                          *buffer
	endOfStream                                                        bool
}

// Callbacks.

// failIfCrashed tells whether the VM is dead. It answers the stream then, whatever the failure policy: FAIL_OPEN only keeps
// the filter out of new streams.
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

// run calls a stream callback. closed is the verdict when the VM has crashed or a local reply was sent, and the highest
// that the module may give.
func (f *filter) run(cb callback, closed verdict, args ...uint64) verdict {
	if f.failIfCrashed() {
		return closed
	}
	if f.in.fns[cb] == nil {
		return verdictContinue
	}
	v := verdict(f.in.call(cb, f.wasmContext, args...))
	if f.failIfCrashed() || f.in.localReplySent || v > closed {
		v = closed
	}
	f.in.doAfterCallActions()
	return v
}

func (f *filter) create() {
	if !f.created && f.in != nil && f.in.err == nil {
		f.in.notify(cbContextCreate, f.wasmContext, uint64(f.id), uint64(f.root.id))
	}
	f.created = true
}

func (h *activeFilter) onHeaders(end bool) (v verdict) {
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

func (h *activeFilter) onData(data *buffer, end bool) (v verdict) {
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
		p.pressesBack = false
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

func (h *activeFilter) onTrailers() (v verdict) {
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

func (f *filter) end(cb callback) {
	if f.in != nil {
		f.in.notify(cb, f.wasmContext, uint64(f.id))
	}
}

func (c call) continueStream() Status {
	f := c.in.current().filter
	if typ := c.u32(0); typ > 1 {
		if typ == 3 {
			return StatusUnimplemented
		}
		if typ == 2 {
			return StatusOK // TCP
		}
		return StatusBadArgument
	}
	if f == nil {
		c.in.misuse(c.in.frame.callback, "proxy_continue_stream", "no stream is current")
		return StatusOK
	}
	f.requestHeaders, f.requestTrailers, f.requestBody = nil, nil, nil
	h := &f.decode
	if c.u32(0) == 1 {
		h = &f.encode
	}
	in, during := c.in, c.in.frame.callback
	in.addAfterCallAction(func() {
		switch {
		case f.stream.done:
			in.misuse(during, "proxy_continue_stream", "the stream has ended")
		case f.stream.reply != nil && h == &f.decode:
			in.misuse(during, "proxy_continue_stream", "the stream was already answered by a local reply")
		case h.state == iterating:
			in.misuse(during, "proxy_continue_stream", "the stream is not paused")
		default:
			h.resume()
		}
	})
	return StatusOK
}

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
