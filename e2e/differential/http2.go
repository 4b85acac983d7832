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

// HTTP2 describes how a request is sent over HTTP/2 (RFC 9113) in cleartext with prior knowledge.
// Method, target, headers, body and framing are those of the request. Header names are sent in
// lower case unless RawNames is set, and what HTTP/2 forbids is sent as it is.
type HTTP2 struct {
	// Pseudo replaces pseudo-header fields or adds others. The value [Absent] leaves a field out.
	Pseudo [][2]string
	// PseudoLast sends the pseudo-header fields after the others, which RFC 9113 section 8.3
	// forbids.
	PseudoLast bool
	RawNames   bool
	// DataSize is the length of a DATA frame in bytes; 0 is the largest that every peer must
	// accept.
	DataSize int
	// FieldSize is the length of a HEADERS or CONTINUATION frame in bytes; 0 is the largest that
	// every peer must accept.
	FieldSize int
	Padding   uint8
	// EndApart sends END_STREAM in an empty DATA frame of its own.
	EndApart bool
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

// initialWindow is the flow-control window of a connection before any WINDOW_UPDATE frame, and of a
// stream before any SETTINGS frame (RFC 9113 section 6.9.2), in bytes.
const initialWindow = 1<<16 - 1

func (h *HTTP2) clone() *HTTP2 {
	if h == nil {
		return nil
	}
	c := *h
	c.Pseudo, c.Beside = slices.Clone(h.Pseudo), slices.Clone(h.Beside)
	return &c
}

// frame is a frame as it is sent, or a HEADERS frame with its CONTINUATION frames.
type frame struct {
	stream uint32
	flow   int // how much of the flow-control windows it uses, in bytes
	bytes  []byte
}

// frames returns the client's preface and settings, and then the frames of all requests. Every
// element but the first belongs to a stream, and the first stream is the request's own.
func (r *Request) frames() []frame {
	w := newFrameWriter()
	streams := []*Request{r}
	if r.HTTP2 != nil {
		streams = append(streams, r.HTTP2.Beside...)
	}
	id := func(i int) uint32 { return cmp.Or(r.http2().FirstStream, 1) + uint32(2*i) }

	all := []frame{w.opening()}
	bodies := make([][]frame, len(streams))
	for i, s := range streams {
		head, body := w.request(s, id(i))
		all, bodies[i] = append(all, head), body
	}

	for more := true; more; {
		more = false
		for i, body := range bodies {
			if len(body) > 0 {
				all, bodies[i], more = append(all, body[0]), body[1:], true
			}
		}
	}

	// Trailers are encoded last, because HPACK has one state for the connection.
	for i, s := range streams {
		if len(s.Trailers) > 0 {
			all = append(all, w.fields(s.http2(), id(i), lowered(s.Trailers, s.http2().RawNames), true))
		}
	}
	return all
}

// http2 returns how the request is sent, never nil.
func (r *Request) http2() *HTTP2 { return cmp.Or(r.HTTP2, &HTTP2{}) }

// frameWriter writes the frames of one connection.
type frameWriter struct {
	out   bytes.Buffer
	block bytes.Buffer
	hpack *hpack.Encoder
	*http2.Framer
}

func newFrameWriter() *frameWriter {
	w := &frameWriter{}
	w.hpack = hpack.NewEncoder(&w.block)
	w.Framer = http2.NewFramer(&w.out, nil)
	w.AllowIllegalWrites = true
	return w
}

// cut returns what has been written since the last call. Writing to a buffer does not fail.
func (w *frameWriter) cut(stream uint32, flow int) frame {
	f := frame{stream, flow, bytes.Clone(w.out.Bytes())}
	w.out.Reset()
	return f
}

// opening returns the client's preface and settings. The windows are so wide that no answer waits
// for a larger one.
func (w *frameWriter) opening() frame {
	w.out.WriteString(http2.ClientPreface)
	w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24}, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	w.WriteWindowUpdate(0, 1<<24)
	return w.cut(0, 0)
}

// request returns the frame of the fields of a request and the frames of its body.
func (w *frameWriter) request(r *Request, stream uint32) (head frame, body []frame) {
	h := r.http2()
	content := r.Body
	if len(r.After) > 0 && r.tunnel() {
		content = slices.Concat(content, r.After)
	}

	ends := r.Framing != Unfinished && !r.tunnel()
	trailers := len(r.Trailers) > 0
	endApart := h.EndApart || len(content) == 0 && (r.Framing == Chunked || r.Framing == ManyChunks)
	bare := len(content) == 0 && !endApart
	head = w.fields(h, stream, r.fields(), ends && bare && !trailers)

	size := cmp.Or(h.DataSize, maxFrame)
	if r.Framing == ManyChunks {
		size = 7
	}
	size = min(size, maxFrame-1-int(h.Padding))

	data := func(b []byte, end bool) {
		w.WriteDataPadded(stream, end, b, padding(h.Padding))
		flow := len(b)
		if h.Padding > 0 {
			flow += 1 + int(h.Padding)
		}
		body = append(body, w.cut(stream, flow))
	}

	for len(content) > 0 {
		n := min(size, len(content))
		last := n == len(content) && !endApart && !trailers
		data(content[:n], last && ends)
		content = content[n:]
	}
	if endApart && ends && !trailers {
		data(nil, true)
	}
	return head, body
}

// padding returns nil for 0, because a frame with padding of length 0 differs from one without
// padding.
func padding(n uint8) []byte {
	if n == 0 {
		return nil
	}
	return make([]byte, n)
}

// fields writes one field section, cut into frames.
func (w *frameWriter) fields(h *HTTP2, stream uint32, fields [][2]string, end bool) frame {
	w.block.Reset()
	for _, f := range fields {
		w.hpack.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}

	block := w.block.Bytes()
	size := min(cmp.Or(h.FieldSize, maxFrame), maxFrame-6-int(h.Padding)) // beside the priority and the padding's length
	first := block[:min(size, len(block))]
	param := http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(first) == len(block), PadLength: h.Padding}
	if h.Priority {
		param.Priority = http2.PriorityParam{StreamDep: 0, Exclusive: true, Weight: 200}
	}

	w.WriteHeaders(param)
	for block = block[len(first):]; len(block) > 0; {
		n := min(size, len(block))
		w.WriteContinuation(stream, n == len(block), block[:n])
		block = block[n:]
	}
	return w.cut(stream, 0)
}

// tunnel reports whether the request asks for an extended CONNECT (RFC 8441).
func (r *Request) tunnel() bool {
	return slices.ContainsFunc(r.http2().Pseudo, func(f [2]string) bool { return f[0] == ":protocol" && f[1] != Absent })
}

// fields returns the header fields as they are sent.
func (r *Request) fields() [][2]string {
	h := r.http2()
	pseudo := [][2]string{{":method", r.Method}, {":scheme", "http"}, {":authority", cmp.Or(r.Host, AnyHost)}, {":path", r.Target}}
	for _, p := range h.Pseudo {
		if i := slices.IndexFunc(pseudo, func(f [2]string) bool { return f[0] == p[0] }); i >= 0 {
			pseudo[i][1] = p[1]
		} else {
			pseudo = append(pseudo, p)
		}
	}
	pseudo = slices.DeleteFunc(pseudo, func(f [2]string) bool { return f[1] == Absent })

	var regular [][2]string
	for _, f := range r.Headers {
		lower := strings.ToLower(f[0])
		if r.tunnel() && slices.Contains([]string{"connection", "upgrade", "sec-websocket-key"}, lower) {
			continue
		}
		regular = append(regular, f)
	}
	regular = lowered(regular, h.RawNames)

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

// lowered returns fields with their names in lower case, unless the names are sent raw.
func lowered(fields [][2]string, raw bool) [][2]string {
	fields = slices.Clone(fields)
	for i := range fields {
		if !raw {
			fields[i][0] = strings.ToLower(fields[i][0])
		}
	}
	return fields
}

// Connection returns all that a client writes for the request.
func (r *Request) Connection() (raw []byte) {
	for _, f := range r.frames() {
		raw = append(raw, f.bytes...)
	}
	return raw
}

// describeHTTP2 lists the frames, and then the whole connection as base64.
func (r *Request) describeHTTP2() string {
	raw := r.Connection()

	var b strings.Builder
	fields := hpack.NewDecoder(4096, func(f hpack.HeaderField) { fmt.Fprintf(&b, "\t%+q: %+q\n", f.Name, f.Value) })
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

	return fmt.Sprintf("%s\n%ssend it again: echo %s | base64 -d | nc -q1 HOST PORT", strings.Join(r.Trail, " > "), &b, base64.StdEncoding.EncodeToString(raw))
}
