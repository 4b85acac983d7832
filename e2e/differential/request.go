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

// Request is one request as it is sent, byte by byte. An HTTP client would correct much of what is
// wrong with it on purpose.
type Request struct {
	Method  string
	Target  string
	Host    string // "" is [AnyHost]
	Version string // "" is HTTP/1.1
	Headers [][2]string
	Body    []byte
	Framing Framing
	// Trailers follow a body over HTTP/2, and a body in chunks over HTTP/1.
	Trailers [][2]string
	// After follows the request on the same connection: a second request, or frames after an
	// upgrade.
	After []byte
	// ReadOn reads a second answer, until the server closes the connection or Patience has passed.
	// It is for a body that some server takes for a request: such a server answers it once it has
	// acted on it, and what it has not read yet is lost if the connection is closed first.
	ReadOn bool
	// Patience is how long to wait for an answer; 0 means as long as the framing suggests.
	Patience time.Duration
	// HTTP2 is how the request is sent over HTTP/2; nil means HTTP/1.
	HTTP2 *HTTP2

	// Trail lists the steps that led to the request, from its seed on.
	Trail []string
}

// Framing is how the end of a body is marked.
type Framing uint8

const (
	Length     Framing = iota // Content-Length, if there is a body
	Chunked                   // in one chunk
	ManyChunks                // in chunks of a few bytes, with an extension and a trailer
	Both                      // Content-Length and chunked, as request smuggling begins
	Unfinished                // a Content-Length of one byte more than there is
	None                      // a body that no header announces
)

// Clone returns a copy. The methods of Request never change what the copy shares with the original.
func (r *Request) Clone() *Request {
	c := *r
	c.Headers = slices.Clone(r.Headers)
	c.Trailers = slices.Clone(r.Trailers)
	c.Trail = slices.Clone(r.Trail)
	c.HTTP2 = r.HTTP2.clone()
	return &c
}

// Did notes a step that led to the request.
func (r *Request) Did(what string) { r.Trail = append(r.Trail, what) }

// Set replaces a header, or adds it.
func (r *Request) Set(name, value string) {
	r.Drop(name)
	r.Headers = append(r.Headers, [2]string{name, value})
}

// Drop removes a header.
func (r *Request) Drop(name string) {
	r.Headers = slices.DeleteFunc(r.Headers, func(h [2]string) bool { return strings.EqualFold(h[0], name) })
}

// Bytes returns the request as it is sent over HTTP/1. It asks the server to close the connection,
// unless the request needs it open.
func (r *Request) Bytes() []byte {
	var b bytes.Buffer
	version := r.Version
	if version == "" {
		version = "HTTP/1.1"
	}
	fmt.Fprintf(&b, "%s %s %s\r\nHost: %s\r\n", r.Method, r.Target, version, cmp.Or(r.Host, AnyHost))

	upgrade := false
	for _, h := range r.Headers {
		upgrade = upgrade || strings.EqualFold(h[0], "connection")
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	if !upgrade && len(r.After) == 0 {
		b.WriteString("Connection: close\r\n")
	}

	length := func(n int) { fmt.Fprintf(&b, "Content-Length: %d\r\n", n) }
	switch r.Framing {
	case Length:
		if len(r.Body) > 0 || r.Method == "POST" {
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
		for chunk := range slices.Chunk(r.Body, 7) {
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

// patience returns how long an answer may take. A request for which the other side may wait for
// more gets less time.
func (r *Request) patience() time.Duration {
	switch {
	case r.Patience > 0:
		return r.Patience
	case r.Framing == Unfinished, r.Framing == Both, r.Header("Transfer-Encoding") != "", r.Header("Content-Length") != "", r.Header("Expect") != "", len(r.After) > 0:
		return time.Second
	}
	return 15 * time.Second
}

// Header returns the first value of a header, or "" without one.
func (r *Request) Header(name string) string {
	for _, h := range r.Headers {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}

// Response is what came back. Its status is 0 if no answer came.
type Response struct {
	Status int
	// Malformed is set if the peer closed an HTTP/2 connection before it had answered any request,
	// and no request has trailers. Such a peer has forwarded nothing.
	Malformed bool
	Header    http.Header
	Body      []byte
}

// AnyHost is the host of a request that names no host.
const AnyHost = "app.test"

// RefusedBy returns the rule that a gate names in its refusal, or "" for an answer of the server. A
// refusal that is not in GraphQL's form is recognized by its status, and the rule is "unknown".
func (res *Response) RefusedBy() maintenance.Rule {
	var reply struct {
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
		return "unknown"
	}
	return ""
}

// Send writes a request to an address and reads the answer. If a server closes the connection or
// does not answer in time, that is an answer too. An error means that nobody listens at the
// address.
func Send(addr string, r *Request) (Response, error) {
	if r.HTTP2 != nil {
		return sendHTTP2(addr, r)
	}
	return send(addr, r.Bytes(), r.Method, r.patience(), r.pipelined() || r.ReadOn)
}

// pipelined reports whether another request follows the request, which is to be answered too.
func (r *Request) pipelined() bool {
	return len(r.After) > 0 && r.After[0] >= 'A' && r.After[0] <= 'Z'
}

// send sends raw bytes. more says that another request follows in them.
func send(addr string, raw []byte, method string, patience time.Duration, more bool) (res Response, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return res, err
	}
	defer c.Close()
	c.(*net.TCPConn).SetLinger(0) // there are hundreds of thousands of these: none may stay in TIME_WAIT
	c.SetDeadline(time.Now().Add(patience))
	c.Write(raw) // may fail: a server that refuses a request need not read all of it, and still answers

	in := bufio.NewReader(c)
	for {
		h, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return res, nil
		}

		res.Status, res.Header = h.StatusCode, h.Header
		if t := h.Header.Get("Content-Type"); strings.HasPrefix(t, "text/event-stream") || strings.HasPrefix(t, "multipart/mixed") {
			c.SetDeadline(time.Now().Add(200 * time.Millisecond)) // some streams never end
		}

		res.Body, _ = io.ReadAll(io.LimitReader(h.Body, 1<<20))
		if h.StatusCode >= 200 || h.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}

	switch {
	case res.Status == http.StatusSwitchingProtocols:
		c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		io.Copy(io.Discard, in)
	case more:
		if h, err := http.ReadResponse(in, nil); err == nil {
			io.Copy(io.Discard, h.Body)
		}
	}
	return res, nil
}
