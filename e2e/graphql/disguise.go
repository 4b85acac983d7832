package graphql

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// This file disguises requests: they look like something else than a GraphQL operation, but some
// server, or the interface through which a server gets requests (CGI, WSGI, Rack), takes them for
// one. Each method of dice makes random choices, changes the request accordingly, and adds a step
// to its trail.

// disguise disguises a request in one way.
func (d *dice) disguise(r *differential.Request) {
	path, query, hasQuery := strings.Cut(r.Target, "?")
	if hasQuery {
		query = "?" + query
	}

	switch d.IntN(10) {
	case 0, 1:
		d.respellGraphQLPath(r, path, query)
	case 2:
		d.addPrefix(r, path, query)
	case 3:
		d.rewritePath(r, query)
	case 4:
		d.respellHeader(r)
	case 5:
		d.overrideMethod(r)
	case 6:
		d.safeWithBody(r)
	case 7:
		d.upgradeElsewhere(r)
	case 8:
		d.addTrailers(r)
	case 9:
		d.upgradeToHTTP2(r)
	}
}

// respellGraphQLPath names a path that some router takes for the GraphQL path, or one below it.
func (d *dice) respellGraphQLPath(r *differential.Request, path, query string) {
	r.Target = d.One("/graphql.json", "/graphql.json", "/graphql.xml", "/graphql.JSON", "/graphql.x.y", "/graphql%2ejson", "/graphql.json/", "/graphql/.json", "/graphql;.json", "/graphql.%6ason",
		"/graphql%0a", "/graphql%0d", "/graphql%09", "/graphql%0d%0a", "/graphql%20%20", "/graphql%0b", "/graphql%c2%a0", "/graphql%0a/", "/%0agraphql",
		"/index.php/graphql", "/graphql/index.php", "/app.php/graphql", "/x.php/graphql.json",
		"/graphql/persisted/b2/Pay", "/graphql/persisted/b2/Pay", "/graphql/persisted/b2", "/graphql/persisted/b2/", "/graphql/persisted/b2.json", "/graphql/persisted//b2/Pay", "/graphql/persisted/a1/Read",
		"/graphql/persisted/"+sha256Hex(plainMutation)+"/M", "/graphql/x/y", "/graphql/batch/", "/graphql/graphql", "/graphql/%2e%2e/graphql", "/graphql/..;/graphql",
		"/GRAPHQL.json", "//graphql.json", "/x/..;/graphql", "/;x=1/graphql", "/%2fgraphql", "/graph%71l.json", "/graphql%23", "/graphql%26", "/graphql%5c", "/graphql%u0071") + query

	if path != "/graphql" && d.Chance(20) {
		r.Target = path + strings.TrimPrefix(r.Target, "/graphql")
	}
	r.Did("path " + r.Target)
}

// addPrefix puts the path below a prefix, and names the prefix in a header from which some server
// cuts it off.
func (d *dice) addPrefix(r *differential.Request, path, query string) {
	prefix := d.One("/x", "/healthz", "/api/v1", "/.well-known", "/%78", "/graphql", "/")
	name := d.One("SCRIPT_NAME", "Script-Name", "X-Script-Name", "X-Script-Name", "X-Script-Name", "X-Forwarded-Prefix", "X-Script_Name", "x_script_name", "X-Forwarded-Context", "PATH_INFO", "Path-Info", "X-Ingress-Path", "X-Mount-Point", "SCRIPT_URL", "REQUEST_URI")
	value := d.One(prefix, prefix, prefix, prefix+"/", strings.TrimPrefix(prefix, "/"), "/graphql", path)
	r.Headers = append(r.Headers, [2]string{name, value})
	r.Target = d.One(prefix, prefix, prefix, prefix+"/", "/"+prefix) + d.One(path, path, "/graphql") + query
	r.Did(name + ": " + value + ", target " + r.Target)
}

// rewritePath asks for another path, and names the path in a header that some server believes.
func (d *dice) rewritePath(r *differential.Request, query string) {
	name := d.One("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-URI", "X-Forwarded-Path", "X-Request-URI", "X-Envoy-Original-Path", "X-Sendfile")
	if d.Chance(30) {
		name = d.respelt(name)
	}
	r.Headers = append(r.Headers, [2]string{name, d.One("/graphql", "/graphql", r.Target, "/graphql?query="+url.QueryEscape(plainMutation), "//graphql")})
	r.Target = d.One(r.Target, "/", "/x", "/x"+query, "/healthz", "/healthz"+query)
	r.Did(name + ", target " + r.Target)
}

// respellHeader spells a header of the request in another way, beside the header or in its place.
func (d *dice) respellHeader(r *differential.Request) {
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
}

// respelt returns the name of a header with another character in place of "-". Applications behind
// CGI, WSGI and Rack cannot tell "_" from "-", and for servers such as lighttpd any character that
// is not alphanumeric counts as "_".
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

// overrideMethod names another method in a header, a cookie or a parameter.
func (d *dice) overrideMethod(r *differential.Request) {
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
		r.Target += map[bool]string{true: "&", false: "?"}[strings.Contains(r.Target, "?")] + p
		r.Did("parameter " + p)
	}
}

// safeWithBody sends a body with a method that reads, and does not normally have a body. Some
// servers execute it. In some requests, a misspelt Content-Length of 0 hides the body.
func (d *dice) safeWithBody(r *differential.Request) {
	r.Method = d.One("GET", "GET", "HEAD", "OPTIONS", "TRACE")
	if len(r.Body) == 0 {
		r.Body = []byte(object(`"query"`, quote(d.One(plainMutation, "mutation{b}", "subscription{bump}"))))
		r.Set("Content-Type", d.One("application/json", "application/json", "text/plain"))
	}

	if d.Chance(70) {
		r.Target, _, _ = strings.Cut(r.Target, "?")
		r.Target += d.One("", "", "?query="+url.QueryEscape(plainQuery))
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
	case 3: // for a server that leaves the body and reads it as the next request
		r.Body = post("", "application/json", object(`"query"`, quote(plainMutation))).Bytes()
		r.Target = d.One(r.Target, "/healthz", "/", "/graphql?query="+url.QueryEscape(plainQuery))
		r.Did(r.Method + " with a request as its body")
	}
}

// framing returns one of its arguments.
func (d *dice) framing(framings ...differential.Framing) differential.Framing {
	return framings[d.IntN(len(framings))]
}

// upgradeElsewhere replaces the request by one for a WebSocket at a path that is not that of
// GraphQL, but of a probe, a page or nothing. Some servers open a WebSocket at any path.
func (d *dice) upgradeElsewhere(r *differential.Request) {
	w := websocket(d.One("graphql-ws", "graphql-ws", "graphql-transport-ws"), d.One(plainMutation, "subscription{bump}", "mutation{b}", plainQuery))
	w.Target = d.One("/healthz", "/healthz", "/", "/ws", "/subscriptions", "/graphql.json", "/.drydock/status", "/healthz?x=1", "/static/app.js")
	w.Method = d.One("GET", "GET", "GET", "GET", "POST", "HEAD")
	*r = *w
	r.Did("at " + r.Target)
}

// addTrailers adds trailers after a body in chunks.
func (d *dice) addTrailers(r *differential.Request) {
	r.Framing = differential.Chunked
	for range 1 + d.IntN(2) {
		name := d.One("x-drydock-bypass", "x_drydock_mode", "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "X-HTTP-Method-Override", "Host", "query", "X-Original-URL")
		r.Trailers = append(r.Trailers, [2]string{name, d.One("ip", "application/json", "0", "gzip", "POST", "/graphql", plainMutation)})
		r.Did("trailer " + name)
	}
}

// upgradeToHTTP2 asks for HTTP/2 in an HTTP/1.1 request, and goes on as if the server had agreed
// (RFC 7540 section 3.2).
func (d *dice) upgradeToHTTP2(r *differential.Request) {
	settings := base64.RawURLEncoding.EncodeToString([]byte{0, 3, 0, 0, 0, 100}) // MAX_CONCURRENT_STREAMS: 100
	r.Headers = append(r.Headers,
		[2]string{"Connection", d.One("Upgrade, HTTP2-Settings", "Upgrade", "HTTP2-Settings, upgrade")},
		[2]string{"Upgrade", d.One("h2c", "h2c", "H2C", "h2", "h2c, websocket")},
		[2]string{"HTTP2-Settings", settings})

	next := post("", "application/json", object(`"query"`, quote(plainMutation)))
	next.HTTP2 = &differential.HTTP2{FirstStream: 3} // stream 1 is that of the upgraded request
	r.After = next.Connection()
	r.Did("upgrade to h2c")
}
