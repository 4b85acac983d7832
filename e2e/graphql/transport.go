package graphql

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// This file changes how a request is encoded, framed and addressed. Each method of dice makes
// random choices, changes the request accordingly, and adds a step to its trail. A step says what
// was done, and is quoted in testdata.

// types are media types that a request may give its body, whatever the body holds.
var types = []string{
	"application/json; charset=utf-8", "application/json;charset=UTF-8", `application/json; charset="utf-8"`, "APPLICATION/JSON", "application/json;", "application/json ",
	"application/json; charset=utf-16", "application/json; charset=utf-16le", "application/json; charset=latin1", "application/json; charset=utf-7", "application/json; charset=x",
	"application/json; boundary=x", "application/json, application/json", "application/json,text/plain", "application/graphql+json", "application/graphql-response+json",
	"application/vnd.api+json", "text/json", "text/plain", "application/octet-stream", "application/graphql", "application/graphql; charset=utf-8", "*/*", "json", "",
	"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json\t", "application/json;charset=utf-8;charset=utf-7", "application/jsonp",
}

// transport changes one thing about how a request is sent. Kinds of change with several cases are
// as many times more likely.
func (d *dice) transport(r *differential.Request) {
	switch d.IntN(20) {
	case 0, 1, 2:
		t := d.One(types...)
		r.Set("Content-Type", t)
		if t == "" {
			r.Drop("Content-Type")
		}
		r.Did("type " + quote(t))
	case 3:
		t := d.One(types...)
		name := d.One("Content-Type", "content-type", "Content_Type", "X-Content-Type", "CONTENT-TYPE")
		h := [2]string{name, t}
		r.Headers = slices.Insert(r.Headers, d.IntN(len(r.Headers)+1), h)
		r.Did("second type, " + name + ": " + t)
	case 4, 5:
		d.compress(r)
	case 6:
		d.transcode(r)
	case 7:
		// The byte order mark of UTF-8, UTF-16LE or UTF-16BE.
		r.Body = append([]byte(d.One("\ufeff", "\xff\xfe", "\xfe\xff")), r.Body...)
		r.Did("BOM")
	case 8, 9:
		r.Framing = differential.Framing(d.IntN(int(differential.None) + 1))
		// After Both, Unfinished and None, servers mostly wait for more, which takes long.
		if r.Framing >= differential.Both && d.Chance(75) {
			r.Framing = differential.ManyChunks
		}
		r.Did(fmt.Sprintf("framing %d", r.Framing))

	case 10:
		r.Method = d.One("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "QUERY", "post", "get", "POST", "TRACE", "PROPFIND")
		r.Did(r.Method)
	case 11:
		name := d.One("X-HTTP-Method-Override", "X-Http-Method", "X-Method-Override", "X_HTTP_Method_Override")
		r.Set(name, d.One("POST", "GET", "PUT", "post"))
		if d.Chance(50) {
			r.Method = d.One("GET", "HEAD", "OPTIONS")
		}
		r.Did(name)
	case 12, 13:
		d.respellPath(r)
	case 14:
		d.addParameter(r)
	case 15:
		r.Set("Accept", d.One("text/event-stream", "application/graphql-response+json", "multipart/mixed; deferSpec=20220824, application/json", "text/html", "*/*", "", "application/json;q=0"))
		r.Did("Accept")
	case 16:
		d.addHeader(r)

	case 17:
		if d.Chance(30) {
			r.After = post("", "application/json", object(`"query"`, quote(plainMutation))).Bytes()
			r.Did("pipelined")
		}
	case 18:
		if d.Chance(40) {
			r.Version = "HTTP/1.0"
			r.Did(r.Version)
		}
	case 19:
		if len(r.Body) > 0 && r.Method == "POST" && d.Chance(30) {
			d.pad(r)
		}
	}
}

// compress sends a body in a content coding, with or without a header that says so. Compress takes
// "deflate-raw" for deflate without the header of zlib.
func (d *dice) compress(r *differential.Request) {
	e := d.One("gzip", "deflate", "br", "x-gzip", "GZIP", "identity", "gzip, gzip", "deflate-raw", "gzip, identity", "compress", "")

	if len(r.Body) > 0 {
		r.Body = differential.Compress(e, r.Body)
	}
	if d.Chance(85) {
		r.Headers = append(r.Headers, [2]string{d.One("Content-Encoding", "content-encoding", "Content-Encoding", "Content_Encoding"), strings.TrimSuffix(e, "-raw")})
	}
	r.Did("encoded " + quote(e))
}

// transcode sends a body in a charset, with or without a header that says so.
func (d *dice) transcode(r *differential.Request) {
	e := d.One("utf-16", "utf-16le", "utf-16be", "utf-32", "utf-7", "latin1")
	r.Body = differential.Transcode(e, string(r.Body))
	if d.Chance(60) {
		r.Set("Content-Type", "application/json; charset="+e)
	}
	r.Did("in " + e)
}

// respellPath names a path that some server takes for the GraphQL path.
func (d *dice) respellPath(r *differential.Request) {
	path, query, hasQuery := strings.Cut(r.Target, "?")
	path = d.One(path, "/graphql/", "/GraphQL", "//graphql", "/./graphql", "/x/../graphql", "/%67raphql", "/graphql;x=1", "/graphql/x", "/graphql%2f", `\graphql`, `/x\..\graphql`,
		"/graphql%3f", "/graphql%00", "/graphql.", "/graphql%20", "/%2567raphql", "/graphql/../graphql", "http://app.test/graphql", "http://other.test/graphql", "/graphql/batch", "/graphql/.", "*", "/")

	r.Target = path
	if hasQuery {
		r.Target += "?" + query
	}
	r.Did("path " + path)
}

// addParameter adds a parameter to the URL, such as a second query or another method.
func (d *dice) addParameter(r *differential.Request) {
	sep := "?"
	if strings.Contains(r.Target, "?") {
		sep = d.One("&", "?", ";", "&&", "#")
	}
	p := d.One("x=1", "query=", "query="+url.QueryEscape(plainMutation), "Query="+url.QueryEscape(plainMutation), "query[]="+url.QueryEscape(plainMutation), "%71uery="+url.QueryEscape(plainMutation), "query="+url.QueryEscape(plainQuery), "operationName=M",
		"_method=POST", "_method=GET", "variables={}", "extensions="+url.QueryEscape(`{"persistedQuery":{"version":1,"sha256Hash":"`+sha256Hex(plainMutation)+`"}}`), "doc_id=1", "raw")

	r.Target += sep + p
	r.Did("parameter " + p)
}

// addHeader adds a header that changes how a server, or a gate, treats the request.
func (d *dice) addHeader(r *differential.Request) {
	name := d.One("Upgrade", "Expect", "Transfer-Encoding", "TE", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "Content-Transfer-Encoding", "Content-Disposition", "Range", "Content-Length", "Cookie", "X-Apollo-Operation-Name", "Apollo-Require-Preflight")
	value := map[string]string{"Upgrade": d.One("h2c", "websocket", "foo"), "Expect": "100-continue", "Transfer-Encoding": d.One("gzip, chunked", "identity", "Chunked", "chunked, identity"),
		"X-Original-URL": "/graphql", "X-Rewrite-URL": "/graphql", "Content-Length": d.One("0", "5", "+10", "1, 2"), "Content-Transfer-Encoding": "base64"}[name]

	r.Headers = append(r.Headers, [2]string{name, value})
	r.Did(name + ": " + value)
}

// pad makes a body longer by white space in front of it, which JSON allows. Some bodies get a
// little shorter or longer than 1 MiB: by default, the filter judges no longer body, and Envoy's
// buffer holds no longer one.
func (d *dice) pad(r *differential.Request) {
	n := d.IntN(70_000)
	if d.Chance(10) {
		const limit = 1 << 20
		n = limit - 512 + d.IntN(1024)
	}
	r.Body = append(bytes.Repeat([]byte(" "), n), r.Body...)
	r.Did(fmt.Sprintf("padded by %d", n))
}

// escape encodes the value of a form's field, mostly as it should be, otherwise more than needed,
// twice or with an error.
func (d *dice) escape(s string) string {
	switch d.IntN(8) {
	case 0:
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, "%%%02x", s[i])
		}
		return b.String()
	case 1:
		return url.PathEscape(s)
	case 2:
		return url.QueryEscape(url.QueryEscape(s))
	case 3:
		return url.QueryEscape(s) + d.One("%", "%zz", "%u006d", "%00", "%ff", "#", "?")
	default:
		return url.QueryEscape(s)
	}
}
