package differential

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// This file makes the HTTP/2 frames of a request, and prints them. exchange.go sends them and reads
// the answer.

// HTTP2 describes how a [Request] is sent over HTTP/2 (RFC 9113) in cleartext with prior knowledge.
// Method, target, headers, body and framing are those of the Request. What HTTP/2 forbids, such as
// a Connection header, is sent all the same.
type HTTP2 struct {
	// Pseudo are names and values of pseudo-header fields, such as ":authority". Each replaces the
	// field of that name, or adds a field. The value [Absent] leaves the field out.
	Pseudo [][2]string
	// PseudoLast sends the pseudo-header fields after the others, which RFC 9113 section 8.3
	// forbids.
	PseudoLast bool
	// RawNames sends the names of headers and trailers as they are. Otherwise they are sent in
	// lower case, as RFC 9113 section 8.2 requires.
	RawNames bool
	// DataSize is the largest length of the data in a DATA frame, in bytes; 0 is as much as every
	// peer must accept.
	DataSize int
	// FieldSize is the largest length of the field block in a HEADERS or CONTINUATION frame, in
	// bytes; 0 is as much as every peer must accept.
	FieldSize int
	// Padding is how many bytes of padding HEADERS and DATA frames have.
	Padding uint8
	// EndApart sends END_STREAM in an empty DATA frame of its own.
	EndApart bool
	// Priority adds a priority to HEADERS frames.
	Priority bool
	// FirstStream is the identifier of the stream of the request; 0 is 1. Further streams have the
	// odd numbers after it.
	FirstStream uint32
	// Beside are requests on further streams of the same connection. All HEADERS frames are sent
	// first, then DATA frames of the streams in turn.
	Beside []*Request
}

// Absent is the value of a pseudo-header field that is not sent.
const Absent = "\x00absent"

// maxFrame is the length of a frame that every peer must accept (RFC 9113 section 4.2), in bytes.
const maxFrame = 1 << 14

// defaultWindow is the flow-control window of a connection before any WINDOW_UPDATE frame, and of a
// stream before any SETTINGS frame (RFC 9113 section 6.9.2), in bytes.
const defaultWindow = 1<<16 - 1

// wideWindow is the window that this client gives the peer for answers, in bytes. It is wider than
// any answer, so the client never has to widen it.
const wideWindow = 1 << 24

// hpackTableSize is the size of the table of a header decoder (RFC 7541) before any SETTINGS frame
// (RFC 9113 section 6.5.2), in bytes.
const hpackTableSize = 4096

// clone returns a copy whose fields may be changed, or nil for nil. The requests beside it are
// shared with the original.
func (h *HTTP2) clone() *HTTP2 {
	if h == nil {
		return nil
	}
	c := *h
	c.Pseudo, c.Beside = slices.Clone(h.Pseudo), slices.Clone(h.Beside)
	return &c
}

// frame holds the bytes of one frame, or of several that nothing may separate: a HEADERS frame with
// its CONTINUATION frames, or what a client sends first on a connection.
type frame struct {
	stream uint32 // 0 for the connection
	flow   int    // how much of the flow-control windows it uses, in bytes; 0 unless it is DATA
	bytes  []byte
}

// frames returns all that the client sends for the request and the requests beside it: first its
// preface and settings; then the headers of every request; then their DATA frames, one of each
// request in turn; and their trailers last.
func (r *Request) frames() []frame {
	w := newFrameWriter()
	streams := []*Request{r}
	if r.HTTP2 != nil {
		streams = append(streams, r.HTTP2.Beside...)
	}

	all := []frame{w.opening()}
	bodies := make([][]frame, len(streams))
	for i, s := range streams {
		head, body := w.requestFrames(s, r.streamID(i))
		all, bodies[i] = append(all, head), body
	}

	for dataLeft := true; dataLeft; {
		dataLeft = false
		for i, body := range bodies {
			if len(body) > 0 {
				all, bodies[i] = append(all, body[0]), body[1:]
				dataLeft = true
			}
		}
	}

	// The peer decodes field blocks by a table to which each block adds (HPACK, RFC 7541). So the
	// blocks have to be encoded in the order in which they are sent: trailers last.
	const endStream = true
	for i, s := range streams {
		if len(s.Trailers) > 0 {
			h := s.http2Options()
			all = append(all, w.fieldBlock(h, r.streamID(i), h.names(s.Trailers), endStream))
		}
	}
	return all
}

// streamID returns the identifier of the stream of the request itself (i is 0), or of the i-th
// request beside it. The identifiers of a client are odd (RFC 9113 section 5.1.1).
func (r *Request) streamID(i int) uint32 {
	return cmp.Or(r.http2Options().FirstStream, 1) + uint32(2*i)
}

// http2Options returns how the request is sent over HTTP/2. It is never nil.
func (r *Request) http2Options() *HTTP2 { return cmp.Or(r.HTTP2, &HTTP2{}) }

// frameWriter makes the frames of one connection, in the order in which they are sent. Its methods
// ignore errors, because writing to a buffer does not fail.
type frameWriter struct {
	*http2.Framer              // writes to out
	out           bytes.Buffer // what takeFrame returns next

	hpack *hpack.Encoder // writes to block
	block bytes.Buffer
}

func newFrameWriter() *frameWriter {
	w := &frameWriter{}
	w.hpack = hpack.NewEncoder(&w.block)
	w.Framer = http2.NewFramer(&w.out, nil)
	w.AllowIllegalWrites = true
	return w
}

// takeFrame returns what has been written since its last call.
func (w *frameWriter) takeFrame(stream uint32, flow int) frame {
	f := frame{stream, flow, bytes.Clone(w.out.Bytes())}
	w.out.Reset()
	return f
}

// opening returns what a client sends first: the preface, its settings and a wider window.
func (w *frameWriter) opening() frame {
	w.out.WriteString(http2.ClientPreface)
	w.WriteSettings(
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: wideWindow}, // of each stream
		http2.Setting{ID: http2.SettingEnablePush, Val: 0})

	const connection = 0 // the stream identifier of the connection
	w.WriteWindowUpdate(connection, wideWindow)
	return w.takeFrame(connection, 0)
}

// requestFrames returns the frame with the headers of a request, and the frames of its body, both
// without trailers. At most one of these frames has END_STREAM: the last frame, unless trailers
// follow, the framing is Unfinished, or the stream becomes a tunnel.
func (w *frameWriter) requestFrames(r *Request, stream uint32) (head frame, body []frame) {
	h := r.http2Options()
	content := r.Body
	if r.isExtendedConnect() {
		content = slices.Concat(content, r.After) // the frames of the tunnelled protocol
	}

	endsHere := r.Framing != Unfinished && !r.isExtendedConnect() && len(r.Trailers) == 0
	// A body in chunks may be empty. Over HTTP/2, an empty DATA frame stands for it.
	endApart := h.EndApart || len(content) == 0 && (r.Framing == Chunked || r.Framing == ManyChunks)
	headersOnly := len(content) == 0 && !endApart
	head = w.fieldBlock(h, stream, r.headerFields(), endsHere && headersOnly)

	size := cmp.Or(h.DataSize, maxFrame)
	if r.Framing == ManyChunks {
		size = manyChunksSize
	}
	size = min(size, maxFrame-paddingLength-int(h.Padding))

	for len(content) > 0 {
		n := min(size, len(content))
		isLast := n == len(content) && !endApart
		body = append(body, w.data(h, stream, content[:n], endsHere && isLast))
		content = content[n:]
	}
	if endApart && endsHere {
		const endStream = true
		body = append(body, w.data(h, stream, nil, endStream))
	}
	return head, body
}

// Sizes of optional fields at the start of a frame (RFC 9113 sections 6.1 and 6.2), in bytes.
const (
	paddingLength = 1 // how much padding the frame has
	priorityField = 5 // the stream on which this one depends, and a weight
)

// data returns a DATA frame. Its padding, too, counts against the flow-control windows.
func (w *frameWriter) data(h *HTTP2, stream uint32, b []byte, endStream bool) frame {
	w.WriteDataPadded(stream, endStream, b, padding(h.Padding))

	flow := len(b)
	if h.Padding > 0 {
		flow += paddingLength + int(h.Padding)
	}
	return w.takeFrame(stream, flow)
}

// padding returns n bytes of padding. For 0 it returns nil, because the framer writes a frame with
// padding of length 0 for an empty slice, and a frame without padding for nil.
func padding(n uint8) []byte {
	if n == 0 {
		return nil
	}
	return make([]byte, n)
}

// fieldBlock encodes header fields or trailers, and returns them in a HEADERS frame and as many
// CONTINUATION frames as their size requires.
func (w *frameWriter) fieldBlock(h *HTTP2, stream uint32, fields [][2]string, endStream bool) frame {
	w.block.Reset()
	for _, f := range fields {
		w.hpack.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}

	block := w.block.Bytes()
	size := min(cmp.Or(h.FieldSize, maxFrame), maxFrame-priorityField-paddingLength-int(h.Padding))
	first := block[:min(size, len(block))]
	param := http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: first, PadLength: h.Padding,
		EndStream: endStream, EndHeaders: len(first) == len(block),
	}
	if h.Priority {
		param.Priority = http2.PriorityParam{StreamDep: 0, Exclusive: true, Weight: 200} // any values
	}

	w.WriteHeaders(param)
	for block = block[len(first):]; len(block) > 0; {
		n := min(size, len(block))
		w.WriteContinuation(stream, n == len(block), block[:n])
		block = block[n:]
	}
	return w.takeFrame(stream, 0)
}

// isExtendedConnect reports whether the request asks for a tunnel for another protocol, such as
// WebSocket, by an extended CONNECT (RFC 8441).
func (r *Request) isExtendedConnect() bool {
	return slices.ContainsFunc(r.http2Options().Pseudo, func(f [2]string) bool { return f[0] == ":protocol" && f[1] != Absent })
}

// headerFields returns the pseudo-header fields and headers in the order in which they are sent.
func (r *Request) headerFields() [][2]string {
	h := r.http2Options()
	pseudo := [][2]string{
		{":method", r.Method}, {":scheme", "http"}, {":authority", cmp.Or(r.Host, AnyHost)}, {":path", r.Target},
	}
	for _, p := range h.Pseudo {
		if i := slices.IndexFunc(pseudo, func(f [2]string) bool { return f[0] == p[0] }); i >= 0 {
			pseudo[i][1] = p[1]
		} else {
			pseudo = append(pseudo, p)
		}
	}
	pseudo = slices.DeleteFunc(pseudo, func(f [2]string) bool { return f[1] == Absent })

	// An extended CONNECT does not have the headers by which HTTP/1 asks for a WebSocket (RFC 8441
	// section 5).
	onlyHTTP1 := []string{"connection", "upgrade", "sec-websocket-key"}
	var regular [][2]string
	for _, f := range r.Headers {
		if r.isExtendedConnect() && slices.Contains(onlyHTTP1, strings.ToLower(f[0])) {
			continue
		}
		regular = append(regular, f)
	}
	regular = h.names(regular)

	add := func(name, value string) { regular = append(regular, [2]string{name, value}) }
	switch r.Framing {
	case Length:
		if len(r.Body) > 0 || r.Method == "POST" {
			add("content-length", strconv.Itoa(len(r.Body)))
		}
	case Both:
		add("content-length", strconv.Itoa(len(r.Body)))
		add("transfer-encoding", "chunked")
	case Unfinished:
		add("content-length", strconv.Itoa(len(r.Body)+1))
	}

	if h.PseudoLast {
		return append(regular, pseudo...)
	}
	return append(pseudo, regular...)
}

// names returns a copy of fields with their names as they are sent: in lower case, unless RawNames
// is set.
func (h *HTTP2) names(fields [][2]string) [][2]string {
	fields = slices.Clone(fields)
	if h.RawNames {
		return fields
	}
	for i := range fields {
		fields[i][0] = strings.ToLower(fields[i][0])
	}
	return fields
}

// Connection returns the bytes of all that a client sends for the request over HTTP/2.
func (r *Request) Connection() (raw []byte) {
	for _, f := range r.frames() {
		raw = append(raw, f.bytes...)
	}
	return raw
}

// describeHTTP2 describes the request as [Request.String] does: the steps that led to it, its
// frames, and a command that sends the whole connection again.
func (r *Request) describeHTTP2() string {
	raw := r.Connection()

	var b strings.Builder
	fields := hpack.NewDecoder(hpackTableSize, func(f hpack.HeaderField) { fmt.Fprintf(&b, "\t%+q: %+q\n", f.Name, f.Value) })
	in := http2.NewFramer(nil, bytes.NewReader(raw[len(http2.ClientPreface):]))
	in.AllowIllegalReads = true // the request may be malformed on purpose

	for {
		f, err := in.ReadFrame()
		if err != nil {
			break
		}
		fmt.Fprintln(&b, f.Header())
		switch f := f.(type) {
		case *http2.HeadersFrame:
			fields.Write(f.HeaderBlockFragment())
		case *http2.ContinuationFrame:
			fields.Write(f.HeaderBlockFragment())
		case *http2.DataFrame:
			fmt.Fprintf(&b, "\t%+q\n", f.Data())
		}
	}

	return fmt.Sprintf("%s\n%ssend it again: echo %s | base64 -d | nc -q1 HOST PORT",
		strings.Join(r.Trail, " > "), &b, base64.StdEncoding.EncodeToString(raw))
}
