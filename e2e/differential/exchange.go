package differential

import (
	"cmp"
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

// exchange is a connection on which a request and those beside it are sent and answered.
type exchange struct {
	net.Conn
	in      *http2.Framer
	frames  []frame        // not sent yet
	window  int            // of the connection
	initial int            // the window with which a stream begins
	windows map[uint32]int // by stream: what was added to the initial window, or used of it
	answers map[uint32]*answer
	open    int  // how many streams have not ended
	closed  bool // by the peer, before all requests were answered
}

// answer is what came back on one stream.
type answer struct {
	Response
	tunnel bool // asked for by an extended CONNECT
	ended  bool
	flows  bool // the answer has begun and may never end
}

// sendHTTP2 sends a request and those beside it on a connection of their own, and returns the
// answer to the request.
func sendHTTP2(addr string, r *Request) (Response, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return Response{}, err
	}
	defer c.Close()
	c.(*net.TCPConn).SetLinger(0)
	c.SetDeadline(time.Now().Add(r.patience()))

	x := &exchange{
		Conn: c, frames: r.frames(), window: initialWindow, initial: initialWindow,
		windows: map[uint32]int{}, answers: map[uint32]*answer{},
	}
	x.in = http2.NewFramer(c, c)
	x.in.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	own := cmp.Or(r.http2().FirstStream, 1)
	for i := range 1 + len(r.http2().Beside) {
		x.answers[own+uint32(2*i)] = &answer{}
		x.open++
	}
	x.answers[own].tunnel = r.tunnel()
	x.run()

	res := x.answers[own].Response
	res.Malformed = x.closed && res.Status == 0 && len(r.http2().Beside) == 0 && len(r.Trailers) == 0
	return res, nil
}

// run sends and reads until every stream has ended, the peer closes the connection, or the deadline
// has passed. Each of these is an answer.
func (x *exchange) run() {
	x.send()
	for x.open > 0 {
		f, err := x.in.ReadFrame()
		if _, ok := err.(http2.StreamError); ok {
			continue
		}
		if err != nil {
			x.closed = !errors.Is(err, os.ErrDeadlineExceeded)
			return
		}
		x.read(f)
		x.send()
	}
}

// send writes as many frames as the windows allow, in order. It drops the frames of streams that
// have ended.
func (x *exchange) send() {
	var out []byte
	for len(x.frames) > 0 {
		f := x.frames[0]
		if a := x.answers[f.stream]; f.flow > 0 && a != nil && !a.ended {
			if x.window < f.flow || x.initial+x.windows[f.stream] < f.flow {
				break
			}
			x.window -= f.flow
			x.windows[f.stream] -= f.flow
		} else if f.flow > 0 {
			x.frames = x.frames[1:]
			continue
		}
		out, x.frames = append(out, f.bytes...), x.frames[1:]
	}

	if len(out) > 0 {
		x.Write(out) // may fail: a peer that refuses a request need not read all of it
	}
}

// read notes what a frame of the peer says.
func (x *exchange) read(f http2.Frame) {
	a := x.answers[f.Header().StreamID]

	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return
		}
		if size, ok := f.Value(http2.SettingInitialWindowSize); ok {
			x.initial = int(size)
		}
		x.in.WriteSettingsAck()

	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			x.window += int(f.Increment)
		} else {
			x.windows[f.StreamID] += int(f.Increment)
		}

	case *http2.PingFrame:
		if !f.IsAck() {
			x.in.WritePing(true, f.Data)
		}

	case *http2.MetaHeadersFrame:
		if a != nil {
			a.headers(f)
			x.ended(a, f.StreamEnded())
		}
	case *http2.DataFrame:
		if a != nil {
			if len(a.Body) < 1<<20 {
				a.Body = append(a.Body, f.Data()...)
			}
			x.ended(a, f.StreamEnded())
		}

	case *http2.RSTStreamFrame:
		if a != nil {
			x.ended(a, true)
		}
	}
}

// headers takes the header fields of a response. Those of a final response overwrite those of an
// informational one.
func (a *answer) headers(f *http2.MetaHeadersFrame) {
	if f.PseudoValue("status") == "" {
		return // trailers
	}
	a.Status, _ = strconv.Atoi(f.PseudoValue("status"))
	a.Header = http.Header{}
	for _, h := range f.RegularFields() {
		a.Header.Add(h.Name, h.Value)
	}
}

// ended notes that a stream has ended. When every stream that is open has begun to answer with a
// stream that may never end, it sets a short deadline.
func (x *exchange) ended(a *answer, end bool) {
	if a.ended {
		return
	}
	if end {
		a.ended = true
		x.open--
	} else if a.isStream() {
		a.flows = true
	}

	if x.open == 0 {
		return
	}

	for _, a := range x.answers {
		if !a.ended && !a.flows {
			return
		}
	}
	x.SetDeadline(time.Now().Add(300 * time.Millisecond))
}

// isStream reports whether an answer may never end.
func (a *answer) isStream() bool {
	t := a.Header.Get("Content-Type")
	return strings.HasPrefix(t, "text/event-stream") || strings.HasPrefix(t, "multipart/mixed") || a.tunnel && a.Status == http.StatusOK
}
