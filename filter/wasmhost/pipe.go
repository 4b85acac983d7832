package wasmhost

import (
	"slices"
	"strconv"
)

// pipe is one direction of a stream. It passes the frames of a message through the filters as
// Envoy's FilterManager does.
type pipe struct {
	s           *Stream
	filters     []*activeFilter // in the order of travel
	headers     *Headers
	trailers    *Headers
	buffered    *bodyBuffer // nil: nothing was ever held
	complete    bool        // the sender has ended
	size        int         // of the body so far
	pressesBack bool        // at the limit, what is held presses back instead of failing the stream
	pressing    bool
	aborted     bool // a local reply was sent from one of its callbacks
	running     int  // callbacks of this direction that are running
}

// activeFilter is the progress of a filter in one direction.
type activeFilter struct {
	f                *filter
	pipe             *pipe
	index            int // in pipe.filters
	state            iteration
	headersContinued bool
	endStream        bool
	fromCurrent      bool // resuming: the filter itself gets what was held
	buffering        bool // the body so far is in pipe.buffered
}

// iteration is how far a filter lets the frames of one direction pass.
type iteration uint8

const (
	iterating  iteration = iota
	stopped              // this filter holds them and gets the next
	stoppedAll           // this filter holds them and gets no further ones until it is resumed
)

// verdict is what a filter returns for a frame. The numbers are Envoy's. Those of headers and of a
// body share a name where they mean the same.
type verdict uint64

const (
	verdictContinue     verdict = 0
	verdictStop         verdict = 1 // for a body: and buffer
	verdictStopStream   verdict = 2 // body: stop, buffer, and press back at the limit
	verdictStopAll      verdict = 3 // headers: stop all and buffer. Body: stop and drop
	verdictStopAllPress verdict = 4 // headers: stop all, buffer, and press back at the limit
)

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
	p.size += len(data)
	p.sendData(nil, &bodyBuffer{slices.Clone(data)}, end)
}

func (p *pipe) receiveTrailers(h Headers) {
	if p.over() {
		return
	}

	p.mustExpect("trailers")
	h = h.normalized()
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

// over reports whether frames of this direction no longer matter, because the stream has ended or
// was answered.
func (p *pipe) over() bool {
	return p.s.done || p.aborted || p.isRequest() && p.s.response.complete
}

// paused reports whether a filter holds frames of this direction.
func (p *pipe) paused() bool {
	return slices.ContainsFunc(p.filters, func(a *activeFilter) bool { return a.state != iterating })
}

// from returns the index of the filter at which a frame starts or continues: the first filter if a
// is nil, otherwise the one after a. With orAt, it continues at a itself if a must get again what
// it held.
func (p *pipe) from(a *activeFilter, orAt bool) int {
	switch {
	case a == nil:
		return 0
	case orAt && a.fromCurrent:
		return a.index
	}
	return a.index + 1
}

// sendHeaders passes the headers through the filters after a given one.
func (p *pipe) sendHeaders(after *activeFilter, end bool) {
	for _, a := range p.filters[p.from(after, false):] {
		a.endStream = end
		p.running++
		v := a.onHeaders(end)
		p.running--
		if p.interrupted() {
			v = verdictStop
		}

		switch v {
		case verdictContinue:
			a.headersContinued = true
			continue
		case verdictStop:
			a.state = stopped
		case verdictStopAll:
			a.state, p.pressesBack = stoppedAll, false
		default:
			a.state, p.pressesBack = stoppedAll, true
		}
		return
	}

	p.deliver(Frame{Headers: slices.Clone(*p.headers), End: end})
}

// sendData passes a part of the body through the filters after a given one, or from it on if it is
// being resumed. If a filter adds trailers to the last part, they follow, from that filter on.
func (p *pipe) sendData(after *activeFilter, data *bodyBuffer, end bool) {
	var adder *activeFilter // of trailers
	hadTrailers := p.trailers != nil
	defer func() {
		if adder != nil && !p.over() {
			p.sendTrailers(adder)
		}
	}()

	for _, a := range p.filters[p.from(after, true):] {
		if a.state == stoppedAll {
			p.hold(data)
			return
		}
		if a.endStream {
			return
		}

		a.endStream = end && p.trailers == nil
		p.running++
		v := a.onData(data, a.endStream)
		p.running--
		if p.interrupted() {
			adder = nil
			return
		}
		if !hadTrailers && adder == nil && p.trailers != nil {
			adder = a
		}

		switch {
		case v != verdictContinue:
			p.stopData(a, data, v)
			return
		case a.state == stopped:
			adder = nil // resume sends the trailers
			p.hold(data)
			a.resume()
			return
		}
		p.prependHeld(a, data)
	}

	frame := Frame{Data: data.bytes, End: end && p.trailers == nil}
	data.bytes = nil
	p.pressing = false
	if len(frame.Data) > 0 || frame.End {
		p.deliver(frame)
	}
}

// stopData stops a part of the body at a filter that does not let it pass.
func (p *pipe) stopData(a *activeFilter, data *bodyBuffer, v verdict) {
	a.state = stopped
	switch {
	case v == verdictStop || v == verdictStopStream:
		p.pressesBack = v == verdictStopStream
		p.hold(data)
	case p.complete && p.trailers == nil && p.buffered == nil && !p.s.done:
		p.buffered = &bodyBuffer{} // so that resuming ends the stream
	}
}

// prependHeld puts what is held before a part that a filter lets pass: the filter held an earlier
// part, and this one was added to it.
func (p *pipe) prependHeld(a *activeFilter, data *bodyBuffer) {
	if p.buffered == nil || data == p.buffered || len(p.buffered.bytes) == 0 || a.f.plugin.vm.host.cfg.LegacyResume {
		return
	}
	data.bytes = append(p.buffered.bytes, data.bytes...)
	p.buffered.bytes = nil
}

// sendTrailers passes the trailers through the filters after a given one, or from it on if it is
// being resumed.
func (p *pipe) sendTrailers(after *activeFilter) {
	for _, a := range p.filters[p.from(after, true):] {
		if a.state == stoppedAll {
			return
		}

		p.running++
		v := a.onTrailers()
		p.running--
		if p.interrupted() {
			v = verdictStop
		}

		switch {
		case v == verdictContinue && a.state == stopped:
			a.resume()
			return
		case v != verdictContinue:
			if a.state == iterating {
				a.state = stopped
			}
			return
		}
	}

	p.deliver(Frame{Trailers: slices.Clone(*p.trailers), End: true})
}

// interrupted reports whether the frame must not go on, because the stream has ended or was
// answered during the callback. It sends a local reply that was waiting for the callback to return.
func (p *pipe) interrupted() bool {
	if !p.aborted && !p.s.done {
		return false
	}

	if r := p.s.pendingReply; r != nil {
		p.s.pendingReply = nil
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

// hold keeps data that a filter stopped. Beyond the limit, it presses back or, if the filter wants
// the whole body, fails the stream.
func (p *pipe) hold(data *bodyBuffer) {
	if p.buffered == nil {
		p.buffered = &bodyBuffer{}
	}
	if p.buffered != data {
		p.buffered.bytes = append(p.buffered.bytes, data.bytes...)
		data.bytes = nil
	}
	if len(p.buffered.bytes) <= p.s.cfg.BufferLimit || p.pressing || p.over() {
		return
	}

	switch {
	case p.pressesBack:
		p.pressing = true
	case p.isRequest():
		p.s.localReply(LocalReply{
			Status: 413, Body: []byte("Payload Too Large"), Details: "request_payload_too_large", GRPCStatus: -1,
		})
	default:
		p.s.localReply(LocalReply{
			Status: 500, Body: []byte("Internal Server Error"), Details: "response_payload_too_large", GRPCStatus: -1,
		})
	}
}

// resume lets pass what the filter held (ActiveStreamFilterBase::commonContinue).
func (a *activeFilter) resume() {
	p := a.pipe
	if p.over() {
		return
	}

	a.fromCurrent = a.state == stoppedAll
	a.state = iterating
	if !a.headersContinued {
		a.headersContinued = true
		p.sendHeaders(a, p.complete && p.buffered == nil && p.trailers == nil)
	}

	hadTrailers := p.trailers != nil
	if p.buffered != nil && !p.over() {
		p.sendData(a, p.buffered, p.complete && !hadTrailers)
	}
	if hadTrailers && !p.over() {
		p.sendTrailers(a)
	}
	a.fromCurrent = false
}
