package wasmhost

import (
	"slices"
	"strconv"
	"strings"
)

// LocalReply is an answer that a plugin or the host gave instead of the upstream.
type LocalReply struct {
	Status     int
	Headers    Headers
	Body       []byte
	Details    string // response code details
	GRPCStatus int    // -1: none was given
}

// spaces is what Envoy does to response code details, which stand in access logs.
var spaces = strings.NewReplacer(" ", "_", "\t", "_", "\n", "_", "\v", "_", "\f", "_", "\r", "_")

func (c call) sendLocalResponse() Status {
	c.in.localReplySent = true
	f := c.in.current().filter
	if f == nil {
		c.in.misuse(c.in.frame.callback, "proxy_send_local_response", "no stream is current")
		return StatusOK
	}
	r := LocalReply{
		Status: int(c.u32(0)), Details: spaces.Replace(c.str(1)), Body: slices.Clone(c.bytes(3)),
		Headers: parsePairs(c.bytes(5)), GRPCStatus: int(int32(c.u32(7))),
	}
	if r.GRPCStatus < 0 || r.GRPCStatus > 16 {
		r.GRPCStatus = -1
	}
	// It takes effect when the module has returned, as do the other calls on streams: the module must not be entered
	// while it runs.
	in, during := c.in, c.in.frame.callback
	in.addAfterCallAction(func() {
		if f.stream.reply != nil || f.stream.done {
			in.misuse(during, "proxy_send_local_response", "the stream was already answered or has ended")
			return
		}
		f.stream.reply = &r
		f.stream.localReply(r)
	})
	return StatusOK
}

// Ending.

// localReply answers instead of the upstream (DownstreamFilterManager::sendLocalReply). Before the response has begun
// the answer takes the way of a response through the filters; when the filters have its headers but the client has none
// yet, it goes to the client straight; later the stream can only be broken off.
func (s *Stream) localReply(r LocalReply) {
	if s.done {
		return
	}
	deciding := s.request.running > 0
	switch {
	case deciding:
		s.request.aborted = true
	case s.response.running > 0:
		s.response.aborted = true
	}
	s.setDetails(r.Details)
	switch {
	case s.response.headers == nil && deciding:
		s.pendingReply = &r
	case s.response.headers == nil:
		s.encodeReply(r, true)
	case !s.downstreamStarted:
		s.encodeReply(r, false)
	default:
		s.reset()
	}
}

// encodeReply makes the response of a local reply (Http::Utility::prepareLocalReply).
func (s *Stream) encodeReply(r LocalReply, filters bool) {
	s.isLocalReply = true
	h := Headers{{":status", strconv.Itoa(r.Status)}}
	for _, f := range r.Headers {
		h.add(f[0], f[1])
	}
	body := r.Body
	switch {
	case s.isGRPC: // trailers only
		h.put(":status", "200")
		h.put("content-type", "application/grpc")
		if !h.Has("grpc-status") {
			status := r.GRPCStatus
			if status < 0 {
				status = grpcStatus(r.Status)
			}
			h.put("grpc-status", strconv.Itoa(status))
		}
		if len(body) > 0 && !s.isHead {
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
	end := len(body) == 0 || s.isHead
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
