package wasmhost

import (
	"slices"
	"strconv"
)

// A pipe is one direction of a stream: the request on its way from the client to the upstream, or
// the response on its way back. It passes the frames of the message (headers, parts of the body,
// trailers) through the filters of the plugins, one filter after the other, as Envoy's
// FilterManager does (source/common/http/filter_manager.cc). Each filter returns a verdict on each
// frame (filter.go), and what the last filter lets pass is delivered (stream.go).
type pipe struct {
	s           *Stream
	filters     []*activeFilter // in the order of travel
	headers     *Headers        // nil until they have arrived
	trailers    *Headers        // nil: none
	buffered    *bodyBuffer     // what a filter holds of the body; nil: nothing was ever held
	complete    bool            // the sender has ended the message
	size        int             // of the body that has arrived, in bytes
	pressesBack bool            // a held body over the limit stops the sender instead of failing the stream
	pressing    bool            // the sender is stopped
	aborted     bool            // a local reply was sent from a callback of this direction
	running     int             // callbacks of this direction that are running
}

// activeFilter is the progress of one filter in one direction.
type activeFilter struct {
	f                *filter
	pipe             *pipe
	index            int // in pipe.filters
	state            iteration
	headersContinued bool // the filter has let the headers pass
	endStream        bool // the last frame that the filter got ended the message
	fromCurrent      bool // while resuming: the filter itself gets the held frames, before the next one
	buffering        bool // the filter has stopped the last part of the body, to buffer it
}

// iteration is how far a filter lets the frames of one direction pass.
type iteration uint8

const (
	iterating  iteration = iota
	stopped              // the filter holds what it got, and still gets the frames that follow
	stoppedAll           // the filter holds what it got, and gets no frame until it is resumed
)

// verdict is what a filter returns for a frame. The numbers are those of Envoy's
// FilterHeadersStatus, FilterDataStatus and FilterTrailersStatus (envoy/http/filter.h). A verdict
// on headers and one on a body share a name where they mean the same. Trailers have the first two.
type verdict uint64

const (
	verdictContinue     verdict = 0
	verdictStop         verdict = 1 // hold the frame. Of a body: StopIterationAndBuffer
	verdictStopStream   verdict = 2 // of a body: StopIterationAndWatermark, which presses back at the limit
	verdictStopAll      verdict = 3 // of headers: StopAllIterationAndBuffer. Of a body: StopIterationNoBuffer, drop it
	verdictStopAllPress verdict = 4 // of headers: StopAllIterationAndWatermark, which presses back at the limit
)

// isRequest reports whether the pipe is that of the request.
func (p *pipe) isRequest() bool { return p == &p.s.request }

// receiveHeaders passes the headers on as they arrive. end means that no body follows.
func (p *pipe) receiveHeaders(h Headers, end bool) {
	if p.over() {
		return
	}

	p.headers, p.complete = &h, end
	if !p.isRequest() {
		p.s.code, _ = strconv.Atoi(h.Get(":status"))
	}
	p.sendHeaders(p.filters, end)
}

// receiveData passes a part of the body on as it arrives. end means that it is the last.
func (p *pipe) receiveData(data []byte, end bool) {
	if p.over() {
		return
	}

	p.mustExpect("body")
	p.complete = end
	p.size += len(data)
	p.sendData(p.filters, &bodyBuffer{slices.Clone(data)}, end)
}

// receiveTrailers passes the trailers on as they arrive. They end the message.
func (p *pipe) receiveTrailers(h Headers) {
	if p.over() {
		return
	}

	p.mustExpect("trailers")
	h = h.normalized()
	p.complete, p.trailers = true, &h
	p.sendTrailers(p.filters)
}

// mustExpect panics if a part of a message comes out of order, which is a mistake of the caller of
// [Stream].
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

// next returns the filters after a.
func (a *activeFilter) next() []*activeFilter { return a.pipe.filters[a.index+1:] }

// nextForHeld returns the filters that get the body or the trailers that a held: those after a, and
// first a itself if it was stopped entirely and has not seen them.
func (a *activeFilter) nextForHeld() []*activeFilter {
	if a.fromCurrent {
		return a.pipe.filters[a.index:]
	}
	return a.next()
}

// sendHeaders passes the headers through the filters.
func (p *pipe) sendHeaders(filters []*activeFilter, end bool) {
	for _, a := range filters {
		a.endStream = end
		p.running++
		v := a.onHeaders(end)
		p.running--
		if p.interrupted() {
			v = verdictStop // whatever the filter has returned
		}

		switch v {
		case verdictContinue:
			a.headersContinued = true
			continue
		case verdictStop:
			a.state = stopped
		case verdictStopAll:
			a.state, p.pressesBack = stoppedAll, false
		default: // verdictStopAllPress
			a.state, p.pressesBack = stoppedAll, true
		}
		return
	}

	p.deliver(Frame{Headers: slices.Clone(*p.headers), End: end})
}

// sendData passes a part of the body through the filters. If a filter adds trailers to the last
// part, they are sent after it, to the filters that follow.
func (p *pipe) sendData(filters []*activeFilter, data *bodyBuffer, end bool) {
	var adder *activeFilter // the filter that has added trailers
	hadTrailers := p.trailers != nil
	defer func() {
		if adder != nil && !p.over() {
			p.sendTrailers(adder.nextForHeld())
		}
	}()

	for _, a := range filters {
		if a.state == stoppedAll {
			p.hold(data)
			return
		}
		if a.endStream {
			return // the filter has already got the end of the message
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
			// The filter held earlier parts and now lets them pass. Resuming sends the trailers
			// too.
			adder = nil
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

// stopData handles a part of the body for which a filter has returned a verdict other than
// Continue: it is held for the two verdicts that buffer it, and otherwise dropped.
func (p *pipe) stopData(a *activeFilter, data *bodyBuffer, v verdict) {
	a.state = stopped
	switch {
	case v == verdictStop || v == verdictStopStream:
		p.pressesBack = v == verdictStopStream
		p.hold(data)
	case p.complete && p.trailers == nil && p.buffered == nil && !p.s.done:
		p.buffered = &bodyBuffer{} // empty, so that resuming still delivers the end of the message
	}
}

// prependHeld puts what is held before a part that a filter lets pass. Something is held if the
// filter had stopped an earlier part and was resumed in between: onData has then added this part to
// the held ones too, so that data itself is empty. With [Config.LegacyResume], what is held is not
// sent.
func (p *pipe) prependHeld(a *activeFilter, data *bodyBuffer) {
	nothingHeld := p.buffered == nil || len(p.buffered.bytes) == 0
	if nothingHeld || data == p.buffered || a.f.plugin.vm.host.cfg.LegacyResume {
		return
	}

	data.bytes = append(p.buffered.bytes, data.bytes...)
	p.buffered.bytes = nil
}

// sendTrailers passes the trailers through the filters.
func (p *pipe) sendTrailers(filters []*activeFilter) {
	for _, a := range filters {
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
			a.resume() // sends the body that the filter held, and the trailers after it
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

// interrupted reports whether the frame must not go on after a callback, because the stream ended
// or was answered during the callback. If a local reply has waited for the callback to return
// (Stream.pendingReply), it is sent now.
func (p *pipe) interrupted() bool {
	if !p.aborted && !p.s.done {
		return false
	}

	if r := p.s.pendingReply; r != nil {
		p.s.pendingReply = nil
		p.s.replyThroughFilters(*r)
	}
	return true
}

// deliver hands a frame that has passed all filters to the receiver of the message.
func (p *pipe) deliver(f Frame) {
	if p.isRequest() {
		p.s.toUpstream(f)
	} else {
		p.s.toDownstream(f)
	}
}

// hold keeps a part of the body that a filter has stopped. If the held body exceeds the buffer
// limit, the pipe presses back or, for a filter that asked to buffer the body, answers the stream
// with an error, as Envoy does.
func (p *pipe) hold(data *bodyBuffer) {
	if p.buffered == nil {
		p.buffered = &bodyBuffer{}
	}
	if p.buffered != data { // data is the held body itself when a filter after a resumed one stops it
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
			Status: 413, Body: []byte("Payload Too Large"), Details: "request_payload_too_large", GRPCStatus: noGRPCStatus,
		})
	default:
		p.s.localReply(LocalReply{
			Status: 500, Body: []byte("Internal Server Error"), Details: "response_payload_too_large", GRPCStatus: noGRPCStatus,
		})
	}
}

// resume lets pass what the filter held, as Envoy's ActiveStreamFilterBase::commonContinue does:
// the headers if it had stopped them, then the held body, then the trailers. Frames that have not
// arrived yet follow when they do. After a stop of everything, the filter itself gets the body and
// the trailers first, since it has not seen them.
func (a *activeFilter) resume() {
	p := a.pipe
	if p.over() {
		return
	}

	a.fromCurrent = a.state == stoppedAll
	a.state = iterating
	if !a.headersContinued {
		a.headersContinued = true
		p.sendHeaders(a.next(), p.complete && p.buffered == nil && p.trailers == nil)
	}

	// If sendData makes a filter add trailers, it has sent them itself.
	hadTrailers := p.trailers != nil
	if p.buffered != nil && !p.over() {
		p.sendData(a.nextForHeld(), p.buffered, p.complete && !hadTrailers)
	}
	if hadTrailers && !p.over() {
		p.sendTrailers(a.nextForHeld())
	}
	a.fromCurrent = false
}
