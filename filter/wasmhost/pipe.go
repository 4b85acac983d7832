package wasmhost

import (
	"slices"
	"strconv"
)

// pipe is one direction of a stream, with the semantics of Envoy's FilterManager.
type pipe struct {
	s           *Stream
	halves      []*activeFilter // in the order of travel
	headers     *Headers
	trailers    *Headers
	buffered    *buffer // nil: nothing was ever held
	complete    bool    // the sender has ended
	size        int     // of the body so far
	pressesBack bool    // what is held presses back at the limit, instead of failing the stream
	pressing    bool
	aborted     bool // a local reply was sent from one of its callbacks
	running     int  // callbacks of this direction that run
}

// activeFilter is a filter's progress in one direction.
type activeFilter struct {
	f                *filter
	pipe             *pipe
	index            int // in pipe.halves
	state            iteration
	headersContinued bool
	endStream        bool
	fromCurrent      bool // resuming: the filter itself gets what was held
	buffering        bool // the body so far is in pipe.buffered
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
	p.size += len(data)
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

func (p *pipe) after(h *activeFilter, orAt bool) int {
	switch {
	case h == nil:
		return 0
	case orAt && h.fromCurrent:
		return h.index
	}
	return h.index + 1
}

func (p *pipe) sendHeaders(from *activeFilter, end bool) {
	for _, h := range p.halves[p.after(from, false):] {
		h.endStream = end
		p.running++
		v := h.onHeaders(end)
		p.running--
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
			h.state, p.pressesBack = stoppedAll, false
		default:
			h.state, p.pressesBack = stoppedAll, true
		}
		return
	}
	p.deliver(Frame{Headers: slices.Clone(*p.headers), End: end})
}

func (p *pipe) sendData(from *activeFilter, data *buffer, end bool) {
	var adder *activeFilter // of trailers
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
		p.running++
		v := h.onData(data, h.endStream)
		p.running--
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
			p.pressesBack = v == verdictStopStream
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

func (p *pipe) sendTrailers(from *activeFilter) {
	for _, h := range p.halves[p.after(from, true):] {
		if h.state == stoppedAll {
			return
		}
		p.running++
		v := h.onTrailers()
		p.running--
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
	case p.pressesBack:
		p.pressing = true
	case p.isRequest():
		p.s.localReply(LocalReply{Status: 413, Body: []byte("Payload Too Large"), Details: "request_payload_too_large", GRPCStatus: -1})
	default:
		p.s.localReply(LocalReply{Status: 500, Body: []byte("Internal Server Error"), Details: "response_payload_too_large", GRPCStatus: -1})
	}
}

// resume lets pass what the filter held (ActiveStreamFilterBase::commonContinue).
func (h *activeFilter) resume() {
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
