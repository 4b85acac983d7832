package differential

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file has requests, writes them over HTTP/1 byte by byte, and reads the answers. http2.go and
// exchange.go do so over HTTP/2. In messages, a "gate" is what a test puts in front of a server to
// refuse writes: Envoy with Drydock's filter, or the filter's rules alone (gate.go).

// Request is one request as it is sent, byte by byte. Much in it may be wrong on purpose, and an
// HTTP client of a library would correct that or refuse to send it.
type Request struct {
	Method  string
	Target  string // the second word of the request line: a path with its query, or any other text
	Host    string // the value of the Host header; "" is [AnyHost]
	Version string // "" is HTTP/1.1; ignored over HTTP/2
	// Headers are the names and values of the other headers, in the order in which they are sent.
	// Those that frame the body follow from Framing.
	Headers [][2]string
	Body    []byte
	Framing Framing
	// Trailers follow a body over HTTP/2, and a body in chunks over HTTP/1.
	Trailers [][2]string
	// After follows the request on the same connection: a second request, or frames after an
	// upgrade.
	After []byte
	// ReadOn makes [Send] wait for a second answer, until the server closes the connection or
	// Patience has passed. It is for a Body that some server takes for a second request. Without
	// ReadOn, the connection could be closed before that server has read and executed it.
	ReadOn bool
	// Patience is how long [Send] waits for all answers; 0 means as long as the framing suggests.
	Patience time.Duration
	// HTTP2 is how the request is sent over HTTP/2; nil means HTTP/1.
	HTTP2 *HTTP2

	// Trail describes the steps in which a generator made the request. The first step names the
	// request of the corpus, or the document, with which the generator began.
	Trail []string
}

// Framing is how the end of a body is marked.
type Framing uint8

const (
	Length     Framing = iota // Content-Length, if there is a body
	Chunked                   // in one chunk
	ManyChunks                // in chunks of manyChunksSize bytes, with an extension and a trailer
	Both                      // Content-Length and chunked, which servers read differently
	Unfinished                // a Content-Length of one byte more than there is
	None                      // a body that no header announces
)

const (
	// manyChunksSize is the size of a chunk, or of a DATA frame, of a body framed by ManyChunks. It
	// is so small that it cuts the words that a gate looks for, such as "mutation".
	manyChunksSize = 7

	// defaultPatience is how long an answer may take. A slow server answers within a few seconds.
	defaultPatience = 15 * time.Second
	// shortPatience is how long an answer may take to a request that may never be answered.
	shortPatience = time.Second
	// streamPatience is how long the body of an answer is read that may never end.
	streamPatience = 200 * time.Millisecond
	// tunnelPatience is how long the connection stays open after an upgrade, so that the server
	// can act on the frames that follow.
	tunnelPatience = 500 * time.Millisecond

	// maxBody is how much of the body of an answer is kept, in bytes.
	maxBody = 1 << 20
)

// Clone returns a copy that may be changed by the methods of Request, and by appending to its
// slices. Body and After share their bytes with the original, and the methods replace them rather
// than write to them.
func (r *Request) Clone() *Request {
	c := *r
	c.Headers = slices.Clone(r.Headers)
	c.Trailers = slices.Clone(r.Trailers)
	c.Trail = slices.Clone(r.Trail)
	c.HTTP2 = r.HTTP2.clone()
	return &c
}

// Did adds a step to the trail.
func (r *Request) Did(step string) { r.Trail = append(r.Trail, step) }

// Set removes all headers of this name, in any case, and adds one with the value.
func (r *Request) Set(name, value string) {
	r.Drop(name)
	r.Headers = append(r.Headers, [2]string{name, value})
}

// Drop removes all headers of this name, in any case.
func (r *Request) Drop(name string) {
	r.Headers = slices.DeleteFunc(r.Headers, func(h [2]string) bool { return strings.EqualFold(h[0], name) })
}

// Bytes returns the request as it is sent over HTTP/1, with After. It asks the server to close the
// connection after the answer, unless After follows or the request has a Connection header already.
func (r *Request) Bytes() []byte {
	var b bytes.Buffer
	version := r.Version
	if version == "" {
		version = "HTTP/1.1"
	}
	fmt.Fprintf(&b, "%s %s %s\r\nHost: %s\r\n", r.Method, r.Target, version, cmp.Or(r.Host, AnyHost))

	hasConnection := false
	for _, h := range r.Headers {
		hasConnection = hasConnection || strings.EqualFold(h[0], "connection")
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	if !hasConnection && len(r.After) == 0 {
		b.WriteString("Connection: close\r\n")
	}

	length := func(n int) { fmt.Fprintf(&b, "Content-Length: %d\r\n", n) }
	switch r.Framing {
	case Length:
		if len(r.Body) > 0 || r.Method == "POST" { // some servers require a length of POST
			length(len(r.Body))
		}
	case Both:
		length(len(r.Body))
		b.WriteString("Transfer-Encoding: chunked\r\n")
	case Unfinished:
		length(len(r.Body) + 1)
	case Chunked, ManyChunks:
		b.WriteString("Transfer-Encoding: chunked\r\n")
	}
	b.WriteString("\r\n")

	switch r.Framing {
	case Chunked, Both:
		if len(r.Body) > 0 {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(r.Body), r.Body)
		}
		b.WriteString("0\r\n")
		r.writeTrailers(&b)
	case ManyChunks:
		for chunk := range slices.Chunk(r.Body, manyChunksSize) {
			fmt.Fprintf(&b, "%x;query=a\r\n%s\r\n", len(chunk), chunk)
		}
		b.WriteString("0\r\nX-Trailer: t\r\n")
		r.writeTrailers(&b)
	default:
		b.Write(r.Body)
	}

	b.Write(r.After)
	return b.Bytes()
}

// writeTrailers writes the end of a body in chunks: its trailers, and an empty line.
func (r *Request) writeTrailers(b *bytes.Buffer) {
	for _, h := range r.Trailers {
		fmt.Fprintf(b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
}

// String describes the request: the steps that led to it, its bytes, and a command that sends it
// again.
func (r *Request) String() string {
	if r.HTTP2 != nil {
		return r.describeHTTP2()
	}
	raw := r.Bytes()
	return fmt.Sprintf("%s\n%s\nsend it again: echo %s | base64 -d | nc -q1 HOST PORT",
		strings.Join(r.Trail, " > "), strconv.QuoteToASCII(string(raw)), base64.StdEncoding.EncodeToString(raw))
}

// patience returns how long the answer to the request may take. If the framing of the request is
// unclear, the server may wait for more bytes and never answer, so such a request gets less time.
func (r *Request) patience() time.Duration {
	if r.Patience > 0 {
		return r.Patience
	}

	framingUnclear := r.Framing == Unfinished || r.Framing == Both || len(r.After) > 0 ||
		r.Header("Transfer-Encoding") != "" || r.Header("Content-Length") != "" || r.Header("Expect") != ""
	if framingUnclear {
		return shortPatience
	}
	return defaultPatience
}

// Header returns the value of the first header of this name, in any case, or "" if there is none.
func (r *Request) Header(name string) string {
	for _, h := range r.Headers {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}

// Response is what came back to a request.
type Response struct {
	Status int // 0 if no answer came
	// Malformed is set if the peer closed an HTTP/2 connection on which it got one request without
	// trailers, and had not answered the request. This is how Envoy rejects a malformed request,
	// and it has forwarded nothing of it.
	Malformed bool
	Header    http.Header
	Body      []byte
}

// AnyHost is the Host of a request for which the host does not matter.
const AnyHost = "app.test"

// unknownRule stands for the rule of a refusal that does not name its rule in GraphQL's form.
const unknownRule maintenance.Rule = "unknown"

// RefusedBy returns the rule that made a gate refuse the request, or "" for an answer of the
// server. The gate names the rule in the extensions of a GraphQL error. Any other answer with
// status 503 is taken for a refusal, and its rule is "unknown".
func (res *Response) RefusedBy() maintenance.Rule {
	var reply struct { // {"errors": [{"extensions": {"mode": …, "rule": …}}]}
		Errors []struct {
			Extensions struct {
				Mode maintenance.Mode
				Rule maintenance.Rule
			}
		}
	}

	switch {
	case json.Unmarshal(res.Body, &reply) == nil && len(reply.Errors) > 0 && reply.Errors[0].Extensions.Mode != "":
		return reply.Errors[0].Extensions.Rule
	case res.Status == http.StatusServiceUnavailable:
		return unknownRule
	}
	return ""
}

// Send writes a request to an address (host:port) and reads the answer. If the server closes the
// connection or does not answer in time, Send returns a Response with the status 0. An error means
// that nobody listens at the address.
func Send(addr string, r *Request) (Response, error) {
	if r.HTTP2 != nil {
		return sendHTTP2(addr, r)
	}
	return sendHTTP1(addr, r.Bytes(), r.Method, r.patience(), r.pipelined() || r.ReadOn)
}

// pipelined reports whether After is another request, and not the frames of an upgraded protocol. A
// request begins with its method, in capitals.
func (r *Request) pipelined() bool {
	return len(r.After) > 0 && r.After[0] >= 'A' && r.After[0] <= 'Z'
}

// sendHTTP1 sends raw bytes on a connection of their own, and returns the final answer to the first
// request in them, which has this method. If awaitSecond is set, it also waits for the answer to
// another request, and discards that answer.
func sendHTTP1(addr string, raw []byte, method string, patience time.Duration, awaitSecond bool) (res Response, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return res, err
	}
	defer c.Close()
	// A run opens hundreds of thousands of connections. Closed by a reset, they do not use up the
	// local ports as connections in TIME_WAIT.
	c.(*net.TCPConn).SetLinger(0)
	c.SetDeadline(time.Now().Add(patience))
	c.Write(raw) // may fail: a server that refuses a request need not read all of it, and still answers

	in := bufio.NewReader(c)
	for {
		h, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return res, nil
		}

		res.Status, res.Header = h.StatusCode, h.Header
		if isEventStream(h.Header) {
			c.SetDeadline(time.Now().Add(streamPatience))
		}

		res.Body, _ = io.ReadAll(io.LimitReader(h.Body, maxBody))
		if h.StatusCode >= 200 || h.StatusCode == http.StatusSwitchingProtocols {
			break // the others (1xx) precede the final answer
		}
	}

	switch {
	case res.Status == http.StatusSwitchingProtocols:
		c.SetDeadline(time.Now().Add(tunnelPatience))
		io.Copy(io.Discard, in)
	case awaitSecond:
		if h, err := http.ReadResponse(in, nil); err == nil {
			io.Copy(io.Discard, h.Body)
		}
	}
	return res, nil
}
