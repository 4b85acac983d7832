package graphql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// This file sends requests over HTTP/2, and does what only HTTP/2 can express. Each method of dice
// makes random choices, changes the request accordingly, and adds a step to its trail.

// http2 makes r a request over HTTP/2, mostly as a client would, and often in an unusual form.
func (d *dice) http2(r *differential.Request) {
	h := &differential.HTTP2{}
	r.HTTP2 = h
	r.Did("HTTP/2")

	// Over HTTP/2, an extended CONNECT opens a WebSocket (RFC 8441). The headers of an upgrade over
	// HTTP/1 stay on purpose: the mixture must not mislead a gate.
	if strings.EqualFold(r.Header("Upgrade"), "websocket") && d.Chance(80) {
		h.Pseudo = [][2]string{{":method", "CONNECT"}, {":protocol", d.One("websocket", "websocket", "WebSocket", "connect-udp")}}
		r.Did("extended CONNECT")
	} else if d.Chance(85) { // RFC 9113 section 8.2.2 forbids these
		for _, name := range []string{"Connection", "Upgrade", "Transfer-Encoding", "HTTP2-Settings"} {
			r.Drop(name)
		}
	}

	for d.Chance(45) {
		d.http2Form(r)
	}

	// Requests beside r are sent on further streams of the same connection, frame by frame in turn.
	// The bound keeps them few enough to be read in a report.
	for d.Chance(12) && len(h.Beside) < 4 {
		b := d.request()
		b.HTTP2 = &differential.HTTP2{}
		if d.Chance(50) {
			d.http2Form(b)
		}
		h.Beside = append(h.Beside, b)
		r.Did("beside [" + strings.Join(b.Trail, " > ") + "]")
	}
}

// http2Form changes one thing about the frames, the header fields or the trailers.
func (d *dice) http2Form(r *differential.Request) {
	h := r.HTTP2

	switch d.IntN(15) {
	case 0, 1:
		h.DataSize = 1 + d.IntN(40)
		if len(r.Body) > 10_000 {
			h.DataSize = 1000
		}
		r.Did(fmt.Sprintf("DATA of %d", h.DataSize))
	case 2:
		h.EndApart = true
		r.Did("END_STREAM apart")
	case 3:
		name := d.One("x-drydock-bypass", "x-trailer", "content-type", "content-length", "content-encoding", "x-http-method-override", "transfer-encoding", "host", ":path", ":method", "query")
		r.Trailers = append(r.Trailers, [2]string{name, d.One("ip", "1", "application/json", "0", "gzip", "POST", "/graphql")})
		r.Did("trailer " + name)

	case 4:
		h.Padding = uint8(d.IntN(256))
		r.Did(fmt.Sprintf("padded by %d", h.Padding))
	case 5:
		h.Priority = true
		r.Did("priority")
	case 6:
		h.FieldSize = 1 + d.IntN(30) // bytes in each HEADERS or CONTINUATION frame
		r.Did(fmt.Sprintf("HEADERS of %d", h.FieldSize))

	case 7:
		d.pseudo(r)
	case 8:
		h.RawNames = true // with capitals, which HTTP/2 forbids
		r.Did("raw names")
	case 9:
		r.Headers = append(r.Headers, [2]string{d.One("host", "Host"), d.One(differential.AnyHost, "other.test", "", differential.AnyHost+":80")})
		if d.Chance(50) {
			h.Pseudo = append(h.Pseudo, [2]string{":authority", differential.Absent})
		}
		r.Did("host")

	case 10: // HTTP/2 allows a Cookie header in several fields (RFC 9113 section 8.2.3)
		for _, c := range []string{"a=1", "_method=" + d.One("POST", "GET"), "b=" + d.One("2", "")} {
			r.Headers = append(r.Headers, [2]string{"cookie", c})
		}
		r.Did("cookies apart")
	case 11:
		name := d.One("te", "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "http2-settings", "content-length", "content_length", "content-length")
		value := map[string]string{"te": d.One("trailers", "gzip"), "connection": "keep-alive, content-type", "transfer-encoding": "chunked", "upgrade": d.One("websocket", "h2c"), "content-length": d.One("0", "1", "+5"), "content_length": "0"}[name]
		r.Headers = append(r.Headers, [2]string{name, value})
		r.Did(name + ": " + value)

	case 12:
		h.PseudoLast = true
		r.Did("pseudo-header fields last")
	case 13:
		d.safeWithBody(r)
	case 14:
		if d.Chance(20) { // rarely, because the servers mostly wait for more, which takes long
			r.Framing = differential.Unfinished
			r.Did("no END_STREAM")
		}
	}
}

// pseudo changes, removes or repeats a pseudo-header field.
func (d *dice) pseudo(r *differential.Request) {
	name := d.One(":path", ":path", ":authority", ":authority", ":scheme", ":method", ":protocol", ":status", ":x")
	value := map[string]string{
		":path":      d.One(differential.Absent, "", "*", "graphql", "http://"+differential.AnyHost+r.Target, r.Target+"#x", strings.Replace(r.Target, "/graphql", "/graphql%0a", 1), " "+r.Target, r.Target+" HTTP/1.1", "/healthz"),
		":authority": d.One(differential.Absent, "", "other.test", "user@"+differential.AnyHost, strings.ToUpper(differential.AnyHost), differential.AnyHost+":80", differential.AnyHost+"."),
		":scheme":    d.One("https", "ftp", differential.Absent, "", "http://x/"),
		":method":    d.One(differential.Absent, strings.ToLower(r.Method), "CONNECT", "GET", "POST /graphql HTTP/1.1"),
		":protocol":  d.One("websocket", "connect-udp", "", "graphql"),
		":status":    "200", ":x": "1",
	}[name]

	if d.Chance(15) { // a second field of this name
		r.Headers = slices.Insert(r.Headers, 0, [2]string{name, strings.TrimPrefix(value, differential.Absent)})
	} else {
		r.HTTP2.Pseudo = append(r.HTTP2.Pseudo, [2]string{name, value})
	}

	r.Did(fmt.Sprintf("%s %q", name, value))
}
