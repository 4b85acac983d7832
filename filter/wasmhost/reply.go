package wasmhost

import (
	"slices"
	"strconv"
	"strings"
)

// This file holds local replies: how a plugin or the host sends one, what Envoy makes of it, and
// how it reaches the client. The request and the response of a [Stream] are a pipe each, which
// passes the parts of a message through the filters of the plugins (pipe.go).

// LocalReply is a response that a plugin or the host sends instead of the upstream.
type LocalReply struct {
	Status     int
	Headers    Headers
	Body       []byte
	Details    string // the response code details, which say for access logs why the reply was sent
	GRPCStatus int    // for a gRPC request; -1: the one that follows from Status
}

// noGRPCStatus is the [LocalReply.GRPCStatus] of a reply that follows from its HTTP status.
const noGRPCStatus = -1

// maxGRPCStatus is the greatest status code of gRPC, Unauthenticated.
const maxGRPCStatus = 16

// detailsReplacer replaces white space in response code details as Envoy does, which writes them to
// access logs.
var detailsReplacer = strings.NewReplacer(" ", "_", "\t", "_", "\n", "_", "\v", "_", "\f", "_", "\r", "_")

// sendLocalResponse is proxy_send_local_response. Its parameters are 0 the HTTP status, 1 and 2 the
// response code details, 3 and 4 the body, 5 and 6 the headers, and 7 the gRPC status. As in Envoy,
// the reply is sent when the module has returned from the callback, since sending it calls the
// module again. A second reply is ignored.
func (c call) sendLocalResponse() Status {
	c.in.localReplySent = true
	f := c.in.current().filter
	if f == nil {
		c.in.misuse(c.in.invocation.callback, "proxy_send_local_response", "no stream is current")
		return StatusOK
	}

	r := LocalReply{
		Status: int(c.u32(0)), Details: detailsReplacer.Replace(c.str(1)), Body: slices.Clone(c.bytes(3)),
		Headers: parsePairs(c.bytes(5)), GRPCStatus: int(int32(c.u32(7))),
	}
	if r.GRPCStatus < 0 || r.GRPCStatus > maxGRPCStatus {
		r.GRPCStatus = noGRPCStatus
	}

	in, during := c.in, c.in.invocation.callback
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

// localReply answers the stream instead of the upstream, as Envoy's
// DownstreamFilterManager::sendLocalReply does:
//
//   - Before the filters have got response headers, the reply passes through them like a response.
//     A reply from a callback of the request waits until that callback has returned.
//   - If the filters have response headers but the client does not, the reply goes directly to the
//     client.
//   - If the client already has response headers, the stream can only be broken off.
func (s *Stream) localReply(r LocalReply) {
	if s.done {
		return
	}

	fromRequestCallback := s.request.running > 0
	switch {
	case fromRequestCallback:
		s.request.aborted = true
	case s.response.running > 0:
		s.response.aborted = true
	}

	s.setDetails(r.Details)
	switch {
	case s.response.headers == nil && fromRequestCallback:
		s.pendingReply = &r // pipe.interrupted sends it
	case s.response.headers == nil:
		s.replyThroughFilters(r)
	case !s.downstreamStarted:
		s.replyDirectly(r)
	default:
		s.reset()
	}
}

// replyThroughFilters sends a local reply through the filters of the response.
func (s *Stream) replyThroughFilters(r LocalReply) {
	s.isLocalReply = true
	h, body := s.prepareReply(r)
	end := len(body) == 0 || s.isHead

	s.response.receiveHeaders(h, end)
	if !end {
		s.response.receiveData(body, true)
	}
}

// replyDirectly sends a local reply to the client without calling the filters.
func (s *Stream) replyDirectly(r LocalReply) {
	s.isLocalReply = true
	h, body := s.prepareReply(r)
	end := len(body) == 0 || s.isHead

	s.response.headers = &h
	s.toDownstream(Frame{Headers: h, End: end})
	if !end && !s.done {
		s.toDownstream(Frame{Data: body, End: true})
	}
}

// prepareReply returns the headers and the body of a local reply, as Envoy's
// Http::Utility::prepareLocalReply completes them. A gRPC request gets its status in the headers
// and no body ("trailers only", in HTTP with the status 200).
func (s *Stream) prepareReply(r LocalReply) (h Headers, body []byte) {
	h = Headers{{":status", strconv.Itoa(r.Status)}}
	for _, f := range r.Headers {
		h.add(f[0], f[1])
	}

	body = r.Body
	switch {
	case s.isGRPC:
		h.setInPlace(":status", "200")
		h.setInPlace("content-type", "application/grpc")
		if !h.Has("grpc-status") {
			status := r.GRPCStatus
			if status < 0 {
				status = grpcStatus(r.Status)
			}
			h.setInPlace("grpc-status", strconv.Itoa(status))
		}

		if len(body) > 0 && !s.isHead {
			h.setInPlace("grpc-message", percentEncode(body))
		}
		h.remove("content-length")
		body = nil
	case len(body) > 0:
		h.setInPlace("content-length", strconv.Itoa(len(body)))
		if !h.Has("content-type") {
			h.setInPlace("content-type", "text/plain")
		}
	default:
		h.remove("content-length")
		h.remove("content-type")
	}

	return h.normalized(), body
}

// grpcStatus returns the gRPC status for an HTTP status, as Envoy's Grpc::Utility::httpToGrpcStatus
// does.
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

// percentEncode encodes a grpc-message as gRPC's mapping to HTTP/2 requires.
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
