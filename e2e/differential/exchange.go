package differential

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// This file sends a request over HTTP/2 and reads the answer. http2.go makes the frames that it
// sends. A client of Go's library would not send most of these frames, because they are wrong on
// purpose.

// exchange is a connection on which one request, and the requests in its HTTP2.Beside, are sent and
// answered.
type exchange struct {
	net.Conn
	in *http2.Framer // reads the peer's frames and writes acknowledgements

	unsent []frame

	// connWindow is how many bytes of DATA frames the peer still accepts on the connection. For a
	// stream, it is initialWindow plus streamWindows[id], which is negative once more was sent than
	// the peer added. A SETTINGS frame changes initialWindow for all streams at once (RFC 9113
	// section 6.9.2), so the two parts are kept apart.
	connWindow    int
	initialWindow int
	streamWindows map[uint32]int

	answers map[uint32]*answer // by stream
	open    int                // how many streams have not ended

	// closedByPeer is set if the peer closed the connection before all streams had ended.
	closedByPeer bool
}

// answer is what came back on one stream.
type answer struct {
	Response
	toTunnel bool // the request was an extended CONNECT
	ended    bool
	endless  bool // the answer has begun, and may never end
}

// endlessPatience is how much longer an exchange goes on once all its open streams are endless.
const endlessPatience = 300 * time.Millisecond

// sendHTTP2 sends a request, and those beside it, on a connection of their own, and returns the
// answer to the request.
func sendHTTP2(addr string, r *Request) (Response, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return Response{}, err
	}
	defer c.Close()
	c.(*net.TCPConn).SetLinger(0) // resets the connection when it is closed, as in sendHTTP1
	c.SetDeadline(time.Now().Add(r.patience()))

	x := &exchange{
		Conn: c, in: http2.NewFramer(c, c), unsent: r.frames(),
		connWindow: defaultWindow, initialWindow: defaultWindow, streamWindows: map[uint32]int{},
		answers: map[uint32]*answer{},
	}
	x.in.ReadMetaHeaders = hpack.NewDecoder(hpackTableSize, nil)

	for i := range 1 + len(r.http2Options().Beside) {
		x.answers[r.streamID(i)] = &answer{}
		x.open++
	}
	own := x.answers[r.streamID(0)]
	own.toTunnel = r.isExtendedConnect()
	x.run()

	res := own.Response
	alone := len(r.http2Options().Beside) == 0 && len(r.Trailers) == 0
	res.Malformed = x.closedByPeer && res.Status == 0 && alone
	return res, nil
}

// run sends and reads frames until every stream has ended, the peer closes the connection, or the
// deadline of the connection has passed. None of these is an error: what has come by then is the
// answer.
func (x *exchange) run() {
	x.sendAllowed()
	for x.open > 0 {
		f, err := x.in.ReadFrame()
		if _, ok := err.(http2.StreamError); ok {
			continue // one stream is broken, and the others go on
		}
		if err != nil {
			x.closedByPeer = !errors.Is(err, os.ErrDeadlineExceeded)
			return
		}

		x.handle(f)
		x.sendAllowed()
	}
}

// sendAllowed sends frames in order, up to the first for which a flow-control window is too small.
// It drops the DATA frames of streams that have ended.
func (x *exchange) sendAllowed() {
	var out []byte
	for len(x.unsent) > 0 {
		f := x.unsent[0]

		if f.flow > 0 {
			if a := x.answers[f.stream]; a == nil || a.ended {
				x.unsent = x.unsent[1:]
				continue
			}
			if x.connWindow < f.flow || x.initialWindow+x.streamWindows[f.stream] < f.flow {
				break
			}
			x.connWindow -= f.flow
			x.streamWindows[f.stream] -= f.flow
		}

		out, x.unsent = append(out, f.bytes...), x.unsent[1:]
	}

	if len(out) > 0 {
		x.Write(out) // may fail: a peer that refuses a request need not read all of it
	}
}

// handle updates the exchange by a frame of the peer.
func (x *exchange) handle(f http2.Frame) {
	a := x.answers[f.Header().StreamID] // nil for a frame about the connection

	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return
		}
		if size, ok := f.Value(http2.SettingInitialWindowSize); ok {
			x.initialWindow = int(size)
		}
		x.in.WriteSettingsAck()

	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 { // the connection
			x.connWindow += int(f.Increment)
		} else {
			x.streamWindows[f.StreamID] += int(f.Increment)
		}

	case *http2.PingFrame:
		if !f.IsAck() {
			x.in.WritePing(true, f.Data)
		}

	case *http2.MetaHeadersFrame: // a HEADERS frame together with its CONTINUATION frames
		if a != nil {
			a.setHeaders(f)
			x.update(a, f.StreamEnded())
		}
	case *http2.DataFrame:
		if a != nil {
			if len(a.Body) < maxBody {
				a.Body = append(a.Body, f.Data()...)
			}
			x.update(a, f.StreamEnded())
		}

	case *http2.RSTStreamFrame:
		if a != nil {
			x.update(a, true)
		}
	}
}

// setHeaders sets status and headers of a response. Those of a final response overwrite those of an
// informational one (1xx). Trailers, which have no status, are ignored.
func (a *answer) setHeaders(f *http2.MetaHeadersFrame) {
	if f.PseudoValue("status") == "" {
		return
	}

	a.Status, _ = strconv.Atoi(f.PseudoValue("status"))
	a.Header = http.Header{}
	for _, h := range f.RegularFields() {
		a.Header.Add(h.Name, h.Value)
	}
}

// update notes whether the stream of an answer has ended or may never end. If no open stream is
// sure to end, it shortens the deadline of the connection.
func (x *exchange) update(a *answer, streamEnded bool) {
	if a.ended {
		return
	}
	if streamEnded {
		a.ended = true
		x.open--
	} else if a.mayBeEndless() {
		a.endless = true
	}

	if x.open == 0 {
		return
	}
	for _, a := range x.answers {
		if !a.ended && !a.endless {
			return
		}
	}
	x.SetDeadline(time.Now().Add(endlessPatience))
}

// mayBeEndless reports whether an answer is a stream of events, parts or WebSocket frames.
func (a *answer) mayBeEndless() bool {
	return isEventStream(a.Header) || a.toTunnel && a.Status == http.StatusOK
}

// isEventStream reports whether headers announce a body that a server may write to forever.
func isEventStream(header http.Header) bool {
	t := header.Get("Content-Type")
	return strings.HasPrefix(t, "text/event-stream") || strings.HasPrefix(t, "multipart/mixed")
}
