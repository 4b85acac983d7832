package graphql

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// Disguises: ways in which a request that some server takes for a GraphQL operation looks like another one, and what
// only HTTP/2 can say.

// respelt writes a header's name as gateway interfaces fold it back: CGI, WSGI and Rack take "_" for "-", and servers
// such as lighttpd every character that is not alphanumeric.
func (d *dice) respelt(name string) string {
	sep := d.One("_", "_", "_", ".", "!", "~", "'")
	if d.Chance(20) { // only the last
		i := strings.LastIndexByte(name, '-')
		return name[:max(i, 0)] + strings.Replace(name[max(i, 0):], "-", sep, 1)
	}
	name = strings.ReplaceAll(name, "-", sep)
	if d.Chance(40) {
		name = strings.ToLower(name)
	}
	return name
}

// disguise changes what a request seems to be.
func (d *dice) disguise(r *differential.Request) {
	path, query, has := strings.Cut(r.Target, "?")
	if has {
		query = "?" + query
	}
	switch n := d.IntN(10); n {
	case 0, 1:
		d.elsewhere(r, path, query)
	case 2:
		d.prefixed(r, path, query)
	case 3:
		name := d.One("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-URI", "X-Forwarded-Path", "X-Request-URI", "X-Envoy-Original-Path", "X-Sendfile")
		if d.Chance(30) {
			name = d.respelt(name)
		}
		r.Headers = append(r.Headers, [2]string{name, d.One("/graphql", "/graphql", r.Target, "/graphql?query="+url.QueryEscape(m), "//graphql")})
		r.Target = d.One(r.Target, "/", "/x", "/x"+query, "/healthz", "/healthz"+query)
		r.Did(name + ", target " + r.Target)
	case 4: // a header that exists, spelt anew, beside it or in its place
		if i := d.IntN(len(r.Headers) + 1); i < len(r.Headers) {
			h := [2]string{d.respelt(r.Headers[i][0]), r.Headers[i][1]}
			if d.Chance(50) {
				r.Headers[i] = h
			} else {
				h[1] = d.One(h[1], "", "application/json", "text/plain", "gzip", "0")
				r.Headers = slices.Insert(r.Headers, d.IntN(len(r.Headers)+1), h)
			}
			r.Did("respelt " + h[0] + ": " + h[1])
		}
	case 5:
		name := d.One("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Method", "HTTP-Method-Override", "_method", "X-Forwarded-Method", "X-Original-Method")
		if d.Chance(60) {
			name = d.respelt(name)
		}
		value := d.One("POST", "POST", "post", "GET", "PUT")
		switch d.IntN(3) {
		case 0:
			r.Headers = append(r.Headers, [2]string{name, value})
			r.Did(name + ": " + value)
		case 1:
			r.Headers = append(r.Headers, [2]string{d.One("Cookie", "Cookie", "cookie_"), d.One("", "a=1; ") + d.One("_method", "_method", "__METHOD_OVERRIDE__", "method") + "=" + value})
			r.Did("cookie that names a method")
		case 2:
			p := d.One("_method", "__METHOD_OVERRIDE__", "_METHOD", "%5fmethod", "x-http-method-override", "method_override", "httpMethod") + "=" + value
			r.Target += map[bool]string{true: "&", false: "?"}[has] + p
			r.Did("parameter " + p)
		}
	case 6:
		d.safeWithBody(r)
	case 7: // an upgrade where a probe or nothing at all is
		w := websocket(d.One("graphql-ws", "graphql-ws", "graphql-transport-ws"), d.One(m, "subscription{bump}", "mutation{b}", q))
		w.Target = d.One("/healthz", "/healthz", "/", "/ws", "/subscriptions", "/graphql.json", "/.drydock/status", "/healthz?x=1", "/static/app.js")
		w.Method = d.One("GET", "GET", "GET", "GET", "POST", "HEAD")
		*r = *w
		r.Did("at " + r.Target)
	case 8:
		r.Framing = differential.Chunked
		for range 1 + d.IntN(2) {
			name := d.One("x-drydock-bypass", "x_drydock_mode", "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "X-HTTP-Method-Override", "Host", "query", "X-Original-URL")
			r.Trailers = append(r.Trailers, [2]string{name, d.One("ip", "application/json", "0", "gzip", "POST", "/graphql", m)})
			r.Did("trailer " + name)
		}
	case 9:
		d.upgradeToHTTP2(r)
	}
}

// elsewhere names a path that some router takes for the GraphQL path, or one below it.
func (d *dice) elsewhere(r *differential.Request, path, query string) {
	r.Target = d.One("/graphql.json", "/graphql.json", "/graphql.xml", "/graphql.JSON", "/graphql.x.y", "/graphql%2ejson", "/graphql.json/", "/graphql/.json", "/graphql;.json", "/graphql.%6ason",
		"/graphql%0a", "/graphql%0d", "/graphql%09", "/graphql%0d%0a", "/graphql%20%20", "/graphql%0b", "/graphql%c2%a0", "/graphql%0a/", "/%0agraphql",
		"/index.php/graphql", "/graphql/index.php", "/app.php/graphql", "/x.php/graphql.json",
		"/graphql/persisted/b2/Pay", "/graphql/persisted/b2/Pay", "/graphql/persisted/b2", "/graphql/persisted/b2/", "/graphql/persisted/b2.json", "/graphql/persisted//b2/Pay", "/graphql/persisted/a1/Read",
		"/graphql/persisted/"+sha256Hex(m)+"/M", "/graphql/x/y", "/graphql/batch/", "/graphql/graphql", "/graphql/%2e%2e/graphql", "/graphql/..;/graphql",
		"/GRAPHQL.json", "//graphql.json", "/x/..;/graphql", "/;x=1/graphql", "/%2fgraphql", "/graph%71l.json", "/graphql%23", "/graphql%26", "/graphql%5c", "/graphql%u0071") + query
	if path != "/graphql" && d.Chance(20) {
		r.Target = path + strings.TrimPrefix(r.Target, "/graphql")
	}
	r.Did("path " + r.Target)
}

// prefixed sends a path below a prefix, and a header by which a server takes the prefix away.
func (d *dice) prefixed(r *differential.Request, path, query string) {
	prefix := d.One("/x", "/healthz", "/api/v1", "/.well-known", "/%78", "/graphql", "/")
	name := d.One("SCRIPT_NAME", "Script-Name", "X-Script-Name", "X-Script-Name", "X-Script-Name", "X-Forwarded-Prefix", "X-Script_Name", "x_script_name", "X-Forwarded-Context", "PATH_INFO", "Path-Info", "X-Ingress-Path", "X-Mount-Point", "SCRIPT_URL", "REQUEST_URI")
	value := d.One(prefix, prefix, prefix, prefix+"/", strings.TrimPrefix(prefix, "/"), "/graphql", path)
	r.Headers = append(r.Headers, [2]string{name, value})
	r.Target = d.One(prefix, prefix, prefix, prefix+"/", "/"+prefix) + d.One(path, path, "/graphql") + query
	r.Did(name + ": " + value + ", target " + r.Target)
}

// safeWithBody gives a body to a method that has none, and hides that it is there.
func (d *dice) safeWithBody(r *differential.Request) {
	r.Method = d.One("GET", "GET", "HEAD", "OPTIONS", "TRACE")
	if len(r.Body) == 0 {
		r.Body = []byte(object(`"query"`, quote(d.One(m, "mutation{b}", "subscription{bump}"))))
		r.Set("Content-Type", d.One("application/json", "application/json", "text/plain"))
	}
	if d.Chance(70) {
		r.Target, _, _ = strings.Cut(r.Target, "?")
		r.Target += d.One("", "", "?query="+url.QueryEscape(q))
	}
	switch d.IntN(4) {
	case 0, 1:
		r.Framing = d.framing(differential.Chunked, differential.ManyChunks)
		name := d.One("content_length", "Content_Length", "content.length", "content~length", "Content-length_", "X-Content-Length")
		r.Headers = append(r.Headers, [2]string{name, d.One("0", "0", "0", "00", "-1", "")})
		r.Did(r.Method + " with a body in chunks and " + name)
	case 2:
		r.Framing = d.framing(differential.Length, differential.Chunked, differential.None)
		r.Did(r.Method + " with a body")
	case 3: // for a server that leaves the body to be read as the next request
		r.Body = post("", "application/json", object(`"query"`, quote(m))).Bytes()
		r.Target = d.One(r.Target, "/healthz", "/", "/graphql?query="+url.QueryEscape(q))
		r.Did(r.Method + " with a request as its body")
	}
}

func (d *dice) framing(of ...differential.Framing) differential.Framing { return of[d.IntN(len(of))] }

// upgradeToHTTP2 asks for HTTP/2 in an HTTP/1.1 request and goes on as if it had got it (RFC 7540 section 3.2).
func (d *dice) upgradeToHTTP2(r *differential.Request) {
	settings := base64.RawURLEncoding.EncodeToString([]byte{0, 3, 0, 0, 0, 100})
	r.Headers = append(r.Headers, [2]string{"Connection", d.One("Upgrade, HTTP2-Settings", "Upgrade", "HTTP2-Settings, upgrade")}, [2]string{"Upgrade", d.One("h2c", "h2c", "H2C", "h2", "h2c, websocket")}, [2]string{"HTTP2-Settings", settings})
	next := post("", "application/json", object(`"query"`, quote(m)))
	next.HTTP2 = &differential.HTTP2{FirstStream: 3}
	r.After = next.Connection()
	r.Did("upgrade to h2c")
}

// http2 sends a request over HTTP/2, mostly as a client would, and often in a way of its own.
func (d *dice) http2(r *differential.Request) {
	h := &differential.HTTP2{}
	r.HTTP2 = h
	r.Did("HTTP/2")
	if strings.EqualFold(r.Header("Upgrade"), "websocket") && d.Chance(80) {
		h.Pseudo = [][2]string{{":method", "CONNECT"}, {":protocol", d.One("websocket", "websocket", "WebSocket", "connect-udp")}}
		r.Did("extended CONNECT")
	} else if d.Chance(85) { // what RFC 9113 section 8.2.2 forbids
		for _, name := range []string{"Connection", "Upgrade", "Transfer-Encoding", "HTTP2-Settings"} {
			r.Drop(name)
		}
	}
	for d.Chance(45) {
		d.http2Form(r)
	}
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

// http2Form changes one thing about the frames.
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
		h.FieldSize = 1 + d.IntN(30)
		r.Did(fmt.Sprintf("HEADERS of %d", h.FieldSize))
	case 7:
		d.pseudo(r)
	case 8:
		h.RawNames = true
		r.Did("raw names")
	case 9:
		r.Headers = append(r.Headers, [2]string{d.One("host", "Host"), d.One(differential.AnyHost, "other.test", "", differential.AnyHost+":80")})
		if d.Chance(50) {
			h.Pseudo = append(h.Pseudo, [2]string{":authority", differential.Absent})
		}
		r.Did("host")
	case 10: // crumbs (RFC 9113 section 8.2.3)
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
		if d.Chance(20) { // mostly leads to a wait for the time-out
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
	if d.Chance(15) { // a second one
		r.Headers = slices.Insert(r.Headers, 0, [2]string{name, strings.TrimPrefix(value, differential.Absent)})
	} else {
		r.HTTP2.Pseudo = append(r.HTTP2.Pseudo, [2]string{name, value})
	}
	r.Did(fmt.Sprintf("%s %q", name, value))
}
