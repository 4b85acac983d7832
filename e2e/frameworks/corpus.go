package frameworks

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// This file has the corpus: ways in which a request can name its method, its path or its host other
// than the plain one, and which some server understands. TestServersDiffer tries each of these
// tricks alone on every server without a gate, and the generator combines them. The names of tricks
// are rows of testdata/differences.txt.
//
// In the lists, %s in a text stands for the value that a trick names, and %% for %.

// trick is one of these ways.
type trick struct {
	name string
	do   func(r *differential.Request, value string) // makes r name the value: a method, a path or a host
}

// apply applies the trick to a request, and adds its name to the request's trail.
func (t trick) apply(r *differential.Request, value string) {
	t.do(r, value)
	r.Did(t.name)
}

const (
	// closedHost is the host of an app that a gate may keep in maintenance. A POST to /tenant
	// writes on this host, and only reads on others.
	closedHost = "orders.test"
	// exemptPrefix is a path whose requests pass during a maintenance, because the operator exempts
	// it, as is usual for the challenges of ACME.
	exemptPrefix = "/.well-known/acme-challenge"
	// form is the media type of HTML forms.
	form = "application/x-www-form-urlencoded"
)

// The tricks of the next functions name another method than that of the request line: in a header,
// a parameter of the URL, a cookie or the body. Frameworks then act as if the request had that
// method.

// overrideHeaders are the headers from which frameworks take another method.
var overrideHeaders = []string{
	"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Method", "HTTP-Method-Override", "X-HTTP-Methodoverride", "X-REST-Method", "X-Tunneled-Method",
}

// separators stand for the hyphen of a header's name in some server: CGI turns it into _, and PHP
// turns more characters into _.
var separators = []string{"-", "_", ".", "!", "~", "'", "|", "+", "^", "$", ""}

// headerTricks name a method in headers. The first header is spelt with every separator, the others
// only with the usual two.
func headerTricks() (all []trick) {
	for _, name := range overrideHeaders {
		for i, separator := range separators {
			if i > 1 && name != overrideHeaders[0] {
				break
			}
			name := strings.ReplaceAll(name, "-", separator)
			all = append(all, trick{"header " + name, func(r *differential.Request, method string) { addHeader(r, name, method) }})
		}
	}

	name := overrideHeaders[0]
	return append(all,
		trick{"header twice, harmless first", func(r *differential.Request, m string) { addHeader(r, name, r.Method); addHeader(r, name, m) }},
		trick{"header twice, harmless last", func(r *differential.Request, m string) { addHeader(r, name, m); addHeader(r, name, r.Method) }},
		trick{"header in two spellings", func(r *differential.Request, m string) {
			addHeader(r, name, r.Method)
			addHeader(r, strings.ReplaceAll(name, "-", "_"), m)
		}},
		trick{"header with a list", func(r *differential.Request, m string) { addHeader(r, name, m+", "+r.Method) }},
		trick{"header empty, then another", func(r *differential.Request, m string) { addHeader(r, name, ""); addHeader(r, overrideHeaders[1], m) }},
	)
}

// overrideParameters are the fields of a form or a query from which frameworks take another method,
// as they are sent.
var overrideParameters = []string{
	"_method", "_METHOD", "_Method", "%5fmethod", "_%6dethod", "_method[]", "_method%5B%5D", "_method[0]", "[_method]", "_method[", "_method%00", "+_method", "%20_method", ".method", "+method", "_method+",
	"__METHOD_OVERRIDE__", "__method_override__", "__METHOD%5fOVERRIDE__", "__method", "__method__", "$method", "method", "method_override", "methodOverride", "_http_method", "_httpmethod", "httpMethod", "X-HTTP-Method-Override", "x-http-method-override",
	"X_HTTP_METHOD_OVERRIDE", "X-HTTP-Method", "X-Method-Override", "_method_", "_meth%6fd", "%255fmethod", "_m\u00e9thod", "\uff3fmethod",
}

// queryTricks name a method in parameters of the URL.
func queryTricks() (all []trick) {
	for _, name := range overrideParameters {
		all = append(all, trick{"query " + name, func(r *differential.Request, m string) { addParameter(r, "&", name+"="+url.QueryEscape(m)) }})
	}

	for _, separator := range []string{";", "&&", "?", "%26", "#", "\n"} {
		if separator == "\n" {
			separator = "%0a"
		}
		all = append(all, trick{"query after " + separator, func(r *differential.Request, m string) { addParameter(r, "&", "x=1"+separator+"_method="+m) }})
	}

	return append(all,
		trick{"query twice, harmless first", func(r *differential.Request, m string) { addParameter(r, "&", "_method="+r.Method+"&_method="+m) }},
		trick{"query twice, harmless last", func(r *differential.Request, m string) { addParameter(r, "&", "_method="+m+"&_method="+r.Method) }},
		trick{"query without a value, then with", func(r *differential.Request, m string) { addParameter(r, "&", "_method&_method="+m) }},
	)
}

// cookieTricks name a method in a cookie.
func cookieTricks() (all []trick) {
	for _, cookie := range []string{"_method=%s", "a=b; _method=%s", "_METHOD=%s", "__METHOD_OVERRIDE__=%s", `_method="%s"`, "a=b;_method=%s", "X-HTTP-Method-Override=%s", "$Version=1; _method=%s", "%%5fmethod=%s", "_method[]=%s"} {
		all = append(all, trick{"cookie " + cookie, func(r *differential.Request, m string) { addHeader(r, "Cookie", fmt.Sprintf(cookie, m)) }})
	}
	return all
}

// body returns a trick that sets a body, which text returns for a method, and its media type. With
// the type "" the request has no Content-Type.
func body(name, contentType string, text func(method string) string) trick {
	return trick{"body " + name, func(r *differential.Request, m string) {
		r.Body = []byte(text(m))
		r.Drop("Content-Type")
		if contentType != "" {
			r.Set("Content-Type", contentType)
		}
	}}
}

// withHeader returns a trick of the same name that also adds a header.
func (t trick) withHeader(name, header string) trick {
	return trick{t.name, func(r *differential.Request, value string) { t.do(r, value); addHeader(r, name, header) }}
}

// percentUTF16 returns a text in UTF-16BE, of which every byte is percent-encoded.
func percentUTF16(s string) string {
	var b strings.Builder
	for _, c := range differential.Transcode("utf-16be", s) {
		fmt.Fprintf(&b, "%%%02x", c)
	}
	return b.String()
}

// types are media types that a request may give its body, whatever the body holds.
var types = []string{
	"", form, form + "; charset=utf-8", "APPLICATION/X-WWW-FORM-URLENCODED", form + ";", form + " ", "application/x-url-encoded", "application/json", "application/json; charset=utf-8", "application/vnd.api+json",
	"text/json", "text/plain", "text/plain; charset=utf-8", "application/octet-stream", "*/*", "x", "multipart/form-data; boundary=x", "multipart/form-data", `multipart/form-data; boundary="x"`,
	"multipart/mixed; boundary=x", "multipart/related; boundary=x", "multipart/alternative; boundary=x", "multipart/x; boundary=x", "Multipart/Form-Data; Boundary=x", form + ", application/json", "application/json, " + form,
	"text/plain;/json", "text/plain; x=+json", "x/y+json", form + ";x=/json", form + "; charset=utf-16", form + "; charset=IBM037", form + ",text/plain", "x/y+x-www-form-urlencoded", "multipart/form-data; xboundary=x", "multipart/form-data; boundary=x,y",
	"multipart/form-data; charset=utf-16; boundary=x", "multipart/form-data; boundary=y; boundary=x", "multipart/form-data, boundary=x", "application/xml", "message/rfc822",
}

// bodyTricks name a method in a body: a form, a part of a multipart body, or JSON. The first
// tricks, of which corpus takes three, are plain forms.
func bodyTricks() (all []trick) {
	for _, name := range overrideParameters {
		all = append(all, body("form "+name, form, func(m string) string { return name + "=" + url.QueryEscape(m) }))
	}

	plain := func(m string) string { return "_method=" + m }
	for _, t := range types {
		all = append(all, body("form as "+t, t, plain), body("multipart as "+t, t, func(m string) string { return part(`form-data; name="_method"`, m) }),
			body("JSON as "+t, t, func(m string) string { return `{"_method":"` + m + `","_METHOD":"` + m + `"}` }))
	}

	for _, text := range []string{"a=b&_method=%s", "a=b;_method=%s", "_method=%s&_method=POST", "_method=POST&_method=%s", "&_method=%s", "?_method=%s", "\n_method=%s", "\ufeff_method=%s", "a\n_method=%s", "_method = %s", "_method=%s\n", "_method=%s\x00"} {
		all = append(all, body(fmt.Sprintf("form %q", text), form, func(m string) string { return fmt.Sprintf(text, m) }))
	}

	for _, disposition := range []string{
		`form-data; name=_method`, `form-data; name='_method'`, `form-data; name="\_method"`, `form-data; name="_\method"`, `form-data; name*=utf-8''%5fm%65thod`, `form-data; name*=UTF-8''_method`, `form-data; name*0="_met"; name*1="hod"`,
		`form-data; name="x"; name="_method"`, `form-data; name="_method"; name="x"`, `form-data; name="_method"; filename=""`, `form-data; name="_method"; filename="f"`, `form-data; filename="f"; name="_method"`, `form-data; name="[_method]"`,
		`form-data; name="_method[]"`, `FORM-DATA; NAME="_method"`, `form-data;name="_method"`, `form-data; name = "_method"`, `form-data; name="=?utf-8?q?_method?="`, `form-data; name="_method`, `attachment; name="_method"`, `form-data; x="\"; name="_method"`,
		"form-data;\r\n name=\"_method\"", `form-data; name="_METHOD"`, `form-data; name="%5fmethod"`, `form-data; name="__METHOD_OVERRIDE__"`, `form-data; name=" _method"`, `name="_method"`,
		`form-data; name="=?utf-8?B?X21ldGhvZA==?="`, `form-data; name="=?utf-8?Q?=5fm=65thod?="`, `form-data; name*=utf-16''%00%5f%00m%00e%00t%00h%00o%00d`, `form-data; name=".method"`, "x\r\nContent-ID: _method", `form-data; name=[_method]`,
	} {
		all = append(all, body("part "+disposition, "multipart/form-data; boundary=x", func(m string) string { return part(disposition, m) }))
	}

	all = append(all,
		body("form in percent-encoded UTF-16", form+"; charset=utf-16", func(m string) string { return percentUTF16("_method") + "=" + percentUTF16(m) }),
		body("two types, the second by another name", "application/json", func(m string) string { return `{"a":"&_METHOD=` + m + `&_method=` + m + `&"}` }).withHeader("Content_Type", "x/y+x-www-form-urlencoded"),
		body("two types, JSON by another name", form, func(m string) string { return `{"_METHOD":"` + m + `","_method":"` + m + `"}` }).withHeader("Content_Type", "application/json"),
		body("two types, JSON by a dot", form, func(m string) string { return `{"_METHOD":"` + m + `","_method":"` + m + `"}` }).withHeader("Content.Type", "application/json"),
		body("part in base64", "multipart/form-data; boundary=x", func(m string) string {
			return strings.Replace(part(`form-data; name="_method"`, base64.StdEncoding.EncodeToString([]byte(m))), "\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1)
		}),
		body("parts by LF alone", "multipart/form-data; boundary=x", func(m string) string { return strings.ReplaceAll(part(`form-data; name="_method"`, m), "\r\n", "\n") }),
		body("part after a preamble", "multipart/form-data; boundary=x", func(m string) string { return "preamble\r\n" + part(`form-data; name="_method"`, m) }),
		body("part without an end", "multipart/form-data; boundary=x", func(m string) string { return strings.TrimSuffix(part(`form-data; name="_method"`, m), "--x--\r\n") }),
	)

	for _, key := range []string{`"_method"`, `"\u005fmethod"`, `"_\u006dethod"`, `"_METHOD"`, `"__METHOD_OVERRIDE__"`, `"method"`, `"X-HTTP-Method-Override"`, `"_method[]"`, `'_method'`, `_method`, `"\_method"`} {
		all = append(all, body("JSON "+key, "application/json", func(m string) string { return "{" + key + `:"` + m + `"}` }))
	}
	for _, text := range []string{`{"_method":"POST","_method":"%s"}`, `{"_method":"%s","_method":"POST"}`, `[{"_method":"%s"}]`, `{"_method":["%s"]}`, "\ufeff" + `{"_method":"%s"}`, `{"a":NaN,"_method":"%s"}`, `{"_method":"%s"}x`, `{"a":1,}{"_method":"%s"}`, `{"__proto__":{"_method":"%s"}}`, `{"constructor":{"prototype":{"_method":"%s"}}}`} {
		all = append(all, body("JSON "+text, "application/json", func(m string) string { return fmt.Sprintf(text, m) }))
	}

	for _, c := range []string{"gzip", "deflate", "br", "x-gzip", "GZIP", "identity", "gzip, gzip", "deflate-raw"} {
		all = append(all, coded("form in "+c, form, c, plain), coded("JSON in "+c, "application/json", c, func(m string) string { return `{"_method":"` + m + `"}` }))
	}

	for _, c := range []string{"utf-16", "utf-16le", "utf-16be", "utf-32", "utf-7", "latin1"} {
		for _, mark := range []string{"", "\ufeff"} {
			in := func(text func(string) string) func(string) string {
				return func(m string) string { return string(differential.Transcode(c, mark+text(m))) }
			}
			json := func(m string) string { return `{"_method":"` + m + `"}` }
			all = append(all, body(fmt.Sprintf("JSON in %s, named, with %q", c, mark), "application/json; charset="+c, in(json)), body(fmt.Sprintf("JSON in %s, with %q", c, mark), "application/json", in(json)),
				body(fmt.Sprintf("form in %s, named, with %q", c, mark), form+"; charset="+c, in(plain)), body(fmt.Sprintf("form in %s, with %q", c, mark), form, in(plain)))
		}
	}
	return all
}

// coded returns a trick that sets a body in a content coding, and its Content-Encoding. Compress
// takes "deflate-raw" for deflate without the header of zlib.
func coded(name, contentType, coding string, text func(method string) string) trick {
	t := body(name, contentType, text)
	do := t.do
	t.do = func(r *differential.Request, m string) {
		do(r, m)
		r.Body = differential.Compress(coding, r.Body)
		r.Set("Content-Encoding", strings.TrimSuffix(coding, "-raw"))
	}
	return t
}

// part returns a multipart body with the boundary x and one part: a field with this
// Content-Disposition and value.
func part(disposition, value string) string {
	return "--x\r\nContent-Disposition: " + disposition + "\r\n\r\n" + value + "\r\n--x--\r\n"
}

// The tricks of the next functions name another path than that which a gate sees at first sight.

// pathTricks spell the path in another way.
func pathTricks() (all []trick) {
	for _, format := range []string{
		"%s/", "%s//", "/%s", "//%s", "///%s", "/.%s", "/./%s", "/x/..%s", "/x/..;%s", "/x/..;a=b%s", "/..;%s", "/;x%s", "/;%s", "/x/%%2e%%2e%s", "/x%%2f..%s", "/x/..%%2f%s", "/x/.%%2e%s", "/x%%5c..%s", `/x\..%s`, "/%%2e%s", "/%%2f%s", "/%%5c%s", `/\%s`, `\%s`,
		"%s;x=1", "%s;", "%s;.json", "%s.json;x", "%s.json", "%s.xml", "%s.html", "%s.JSON", "%s.", "%s..", "%s.x", "%s%%2ejson", "%s%%252ejson", "%s.json/", "%s/.json",
		"%s%%20", "%s%%09", "%s%%0a", "%s%%0d", "%s%%0d%%0a", "%s%%0b", "%s%%0c", "%s%%00", "%s%%00.json", "%s%%7f", "%s%%c2%%a0", "%s%%c2%%85", "%s%%e2%%80%%a8", "%s%%e3%%80%%80", "%s%%ad", "%s%%0a.json", "%%20%s", "/%%20%s", "/%%0a%s",
		"%s%%2f", "%s%%5c", `%s\`, "%s%%3f", "%s%%3fx=1", "%s%%23", "%s#", "%s#x", "%s?", "%s?/", "%s??x", "%s%%3b", "%s%%3bx", "%s%%26", "%s&", "%s/.", "%s/%%2e", "%s/..%s", "%s/x/..", "%s/%%2e%%2e%s", "%s/..;/", "%s~", "%s!", "%s*", "%s'", `%s"`, "%s,", "%s:80", "%s$", "%s%%", "%s%%zz",
		"/index.php%s", "/index.php/index.php%s", "/x.php%s", "/app.php%s", "/index.php/x/..%s", "/index.php%%2f%s", "/INDEX.PHP%s", "/cgi-bin/index.cgi%s", "/api%s", "/x%s", "/index.php;%s", "/index.phtml%s", "/index.php5%s", "/public/index.php%s", "/index%%2ephp%s", "/index.ph%%70%s", "%s.%%0a", "%s.a.b", "%s.%%3b", "%s.json%%20", "/search/index.php%s",
		"http://" + differential.AnyHost + "%s", "http://" + closedHost + "%s", "http://x%s", "HTTP://" + differential.AnyHost + "%s", "https://" + differential.AnyHost + "%s", "http:%s", "http:///%s", "//x%s", `/\x%s`, "x%s", "/http://" + differential.AnyHost + "%s",
	} {
		all = append(all, trick{"path " + format, func(r *differential.Request, p string) {
			setPath(r, strings.ReplaceAll(strings.ReplaceAll(format, "%s", p), "%%", "%"))
		}})
	}

	// These change the first character of the last segment of the path.
	splitLast := func(p string) (head, segment string) { i := strings.LastIndexByte(p, '/') + 1; return p[:i], p[i:] }
	for name, spell := range map[string]func(c byte) string{
		"one character encoded": func(c byte) string { return fmt.Sprintf("%%%02x", c) }, "one character encoded twice": func(c byte) string { return fmt.Sprintf("%%25%02x", c) },
		"one character as %u": func(c byte) string { return fmt.Sprintf("%%u%04x", c) }, "one character in two bytes": func(c byte) string { return fmt.Sprintf("%%%02x%%%02x", 0xc0|c>>6, 0x80|c&0x3f) },
		"one character in three bytes": func(c byte) string { return fmt.Sprintf("%%e0%%%02x%%%02x", 0x80|c>>6, 0x80|c&0x3f) }, "one character in raw overlong bytes": func(c byte) string { return string([]byte{0xc0 | c>>6, 0x80 | c&0x3f}) },
		"one fullwidth character": func(c byte) string { return url.PathEscape(string(rune(c) + 0xfee0)) }, "one capital": func(c byte) string { return strings.ToUpper(string(c)) },
		"one character doubled": func(c byte) string { return string(c) + string(c) }, "a soft hyphen": func(c byte) string { return string(c) + "%c2%ad" }, "a NUL": func(c byte) string { return string(c) + "%00" },
		"a tab": func(c byte) string { return string(c) + "%09" },
	} {
		all = append(all, trick{"path with " + name, func(r *differential.Request, p string) {
			head, segment := splitLast(p)
			if segment == "" {
				return
			}
			setPath(r, head+spell(segment[0])+segment[1:])
		}})
	}
	sortTricks(all)

	return append(all,
		trick{"path glued to a script", func(r *differential.Request, p string) { setPath(r, "/index.php"+strings.TrimPrefix(p, "/")) }},
		trick{"path glued to a script in capitals", func(r *differential.Request, p string) { setPath(r, "/INDEX.PHP"+strings.TrimPrefix(p, "/")) }},
		trick{"path glued to a folder", func(r *differential.Request, p string) { setPath(r, "/public"+strings.TrimPrefix(p, "/")) }},
		trick{"path in capitals", func(r *differential.Request, p string) { setPath(r, strings.ToUpper(p)) }},
		trick{"path encoded", func(r *differential.Request, p string) {
			var b strings.Builder
			for _, c := range []byte(p[1:]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
			setPath(r, "/"+b.String())
		}},
		trick{"path with a dotless i or a long s", func(r *differential.Request, p string) { setPath(r, strings.ReplaceAll(p, "s", "%C5%BF")) }},
		trick{"path with the Kelvin sign", func(r *differential.Request, p string) { setPath(r, strings.ReplaceAll(p, "o", "%C2%BA")) }},
	)
}

// prefixHeaders are headers in which a proxy tells a server a prefix of the path, which the server
// cuts off.
var prefixHeaders = []string{
	"SCRIPT_NAME", "Script-Name", "script_name", "SCRIPT.NAME", "X-Script-Name", "X_SCRIPT_NAME", "X-Forwarded-Prefix", "X_Forwarded_Prefix", "X-Forwarded-Script-Name", "X-Script-Path", "X-Base-Path", "X-Forwarded-Path", "X-Forwarded-Base", "X-External-Path", "X-Ingress-Path",
	"X-Envoy-Original-Path-Prefix", "X-Replaced-Path", "X-Stripped-Prefix", "X-Spring-Prefix", "X-Forwarded-Context", "CONTEXT_PREFIX", "HTTP_SCRIPT_NAME",
}

// prefixTricks put the path below a prefix, which the gate may exempt or not know, and name the
// prefix in a header, so that a server serves the path itself.
func prefixTricks() (all []trick) {
	for _, header := range prefixHeaders {
		for _, prefix := range []string{"/x", exemptPrefix} {
			all = append(all, trick{"prefix " + prefix + " by " + header, func(r *differential.Request, p string) {
				addHeader(r, header, prefix)
				setPath(r, prefix+p)
			}})
		}
	}

	for _, cut := range [][2]string{{"/x/", "/x/"}, {"x", "/x"}, {"/X", "/x"}, {"/x", "/X"}, {"/%78", "/x"}, {"/x", "/%78"}, {"//x", "/x"}, {"/x/y", "/x/y"}, {"/x, /y", "/x"}, {exemptPrefix + "/", exemptPrefix + "/"}, {exemptPrefix[:4], exemptPrefix[:4]}, {"/healthz", "/healthz"}, {"/login", "/login"}, {"/search", "/search"}} {
		for _, header := range []string{"SCRIPT_NAME", "X-Script-Name", "X-Forwarded-Prefix"} {
			all = append(all, trick{"prefix " + cut[1] + " by " + header + ": " + cut[0], func(r *differential.Request, p string) {
				addHeader(r, header, cut[0])
				setPath(r, cut[1]+p)
			}})
		}
	}
	return all
}

// rewriteTricks ask for a harmless path, and name the path in a header from which a server takes
// it.
func rewriteTricks() (all []trick) {
	for _, header := range []string{"X-Original-URL", "X-Rewrite-URL", "X_Original_URL", "X-Original-URI", "X-Forwarded-Uri", "X-Forwarded-URL", "X-Forwarded-Path", "X-Envoy-Original-Path", "X-Waws-Unencoded-Url", "PATH_INFO", "Path-Info", "REQUEST_URI", "Request-Uri", "ORIG_PATH_INFO", "Unencoded-Url", "IIS_UrlRewriteURI", "Destination", "X-Accel-Redirect", "X-Sendfile", "Referer", "X-HTTP-Path-Override", ":path"} {
		for _, at := range []string{"/", "/healthz", exemptPrefix + "/x", "/login"} {
			if at != "/" && header != "X-Original-URL" && header != "PATH_INFO" && header != "X-Rewrite-URL" {
				continue
			}
			all = append(all, trick{"rewritten from " + at + " by " + header, func(r *differential.Request, p string) {
				addHeader(r, header, p)
				if at == "/login" && r.Method != "POST" {
					// By other methods /login writes, and it may do so if its app is open.
					setPath(r, "/healthz")
					return
				}
				setPath(r, at)
			}})
		}
	}
	return all
}

// hostTricks name a host: in headers of proxies, in another spelling of Host, or in the target.
func hostTricks() (all []trick) {
	for _, header := range []string{"X-Forwarded-Host", "X_Forwarded_Host", "X.Forwarded.Host", "X-Forwarded-Server", "X-Host", "X-Original-Host", "X-HTTP-Host-Override", "X-Forwarded-Authority", "X-Real-Host", "X-Envoy-Original-Host", "HTTP_HOST", "SERVER_NAME", "X-Rewrite-Host"} {
		all = append(all, trick{"host by " + header, func(r *differential.Request, host string) { addHeader(r, header, host) }})
	}

	for _, value := range []string{"%s, app.test", "app.test, %s", "%s:80", "%s:443", "%s.", "%s,", ",%s", " %s ", `"%s"`} {
		all = append(all, trick{"host by X-Forwarded-Host: " + value, func(r *differential.Request, host string) { addHeader(r, "X-Forwarded-Host", fmt.Sprintf(value, host)) }})
	}
	for _, value := range []string{"host=%s", `host="%s"`, "for=192.0.2.1;host=%s", "for=192.0.2.1, host=%s", "Host=%s", "host=%s;proto=http, host=app.test", "host=app.test, host=%s", `host="%s:80"`, `HOST = %s`, `host="orders\.test"%.0s`} {
		all = append(all, trick{"host by Forwarded: " + value, func(r *differential.Request, host string) { addHeader(r, "Forwarded", fmt.Sprintf(value, host)) }})
	}

	for _, value := range []string{
		"%s", "%s:80", "%s:8080", "%s:", "%s:x", "%s.", "%s..", "%s:80:80", "app.test@%s", "u:p@%s", "@%s", "%s@app.test", "%s/", "%s/x", "%s?x", "%s#x", "%s\\x", "%s, app.test", "app.test,%s", "%s app.test", "%s;x", ".%s", "[%s]", "%s%%00", "%s%%20", "%s%%2e", "http://%s", "//%s", "%s\t", "%s:80, app.test",
	} {
		all = append(all, trick{"Host: " + value, func(r *differential.Request, host string) { r.Host = fmt.Sprintf(value, host) }})
	}

	for name, spell := range map[string]func(host string) string{
		"in capitals": strings.ToUpper, "with a capital": func(h string) string { return strings.ToUpper(h[:1]) + h[1:] }, "with a character encoded": func(h string) string { return fmt.Sprintf("%%%02x", h[0]) + h[1:] },
		"with the dot encoded": func(h string) string { return strings.Replace(h, ".", "%2e", 1) }, "with a fullwidth character": func(h string) string { return string(rune(h[0])+0xfee0) + h[1:] },
		"with an encoded fullwidth character": func(h string) string { return url.PathEscape(string(rune(h[0])+0xfee0)) + h[1:] },
		"with an ideographic dot":             func(h string) string { return strings.Replace(h, ".", "\u3002", 1) }, "with a soft hyphen": func(h string) string { return h[:1] + "\u00ad" + h[1:] }, "with an encoded ideographic dot": func(h string) string { return strings.Replace(h, ".", "%E3%80%82", 1) },
		"with a tab": func(h string) string { return h[:1] + "\t" + h[1:] }, "with an encoded soft hyphen": func(h string) string { return h[:1] + "%C2%AD" + h[1:] }, "with a long s": func(h string) string { return strings.ReplaceAll(h, "s", "\u017f") },
		"with an encoded long s": func(h string) string { return strings.ReplaceAll(h, "s", "%C5%BF") }, "all encoded": func(h string) string { return strings.ReplaceAll(url.QueryEscape(h), "o", "%6F") },
		"with a circled letter": func(h string) string { return strings.Replace(h, "o", "\u24de", 1) }, "encoded twice": func(h string) string { return "%256f" + h[1:] },
	} {
		all = append(all, trick{"Host " + name, func(r *differential.Request, host string) { r.Host = spell(host) }})
	}

	sortTricks(all)
	for _, format := range []string{"http://%s", "//%s", "http:%s", `/\%s`, `http:\\%s`, "///%s", "/%%09/%s", "https://%s", "http://app.test@%s", "http://%s:80", "//u@%s", "\\\\%s", "http://%s.", "//%s:80"} {
		all = append(all, trick{"host in the target: " + format, func(r *differential.Request, host string) {
			setPath(r, strings.ReplaceAll(strings.ReplaceAll(format, "%s", host), "%%", "%")+r.Target)
		}})
	}

	return append(all,
		trick{"two Host headers, the second", func(r *differential.Request, host string) { addHeader(r, "Host", host) }},
		trick{"two Host headers, the first", func(r *differential.Request, host string) { r.Host = host; addHeader(r, "Host", differential.AnyHost) }},
		trick{"Host by another spelling", func(r *differential.Request, host string) { addHeader(r, "Host ", host) }},
	)
}

// The tricks of the next functions hide a request where a gate sees none: in a body where no body
// belongs, or on a connection that changes its protocol.

// smuggledLine is the first line of the request that smuggled returns.
const smuggledLine = "POST /orders HTTP/1.1"

// smuggled returns the bytes of a request that writes, to be sent as the body of another request or
// after it.
func smuggled(host string) []byte {
	return []byte(smuggledLine + "\r\nHost: " + host + "\r\nContent-Length: 0\r\n\r\n")
}

// smuggleTricks send a whole request as the body of another one. A server that does not read the
// body takes it for the next request of the connection. The value is the host of the smuggled
// request.
func smuggleTricks() (all []trick) {
	for _, framing := range []struct {
		name  string
		value differential.Framing
	}{{"Content-Length", differential.Length}, {"chunks", differential.Chunked}, {"small chunks", differential.ManyChunks}, {"both lengths", differential.Both}, {"no length", differential.None}} {
		for _, header := range []string{"", "content_length: 0", "Content-Length: 0", "Content-Length : 0", "Content-Length:\t0", "Transfer-Encoding: chunked", "Transfer_Encoding: chunked", "Transfer-Encoding: xchunked", "Transfer-Encoding:\vchunked", "Transfer-Encoding: chunked, identity", "Expect: 100-continue", "Connection: Content-Length, close"} {
			all = append(all, trick{"smuggled by " + framing.name + " with " + header, func(r *differential.Request, host string) {
				r.Framing, r.Body = framing.value, smuggled(host)
				// The connection has to stay open, so that the server reads what is left on it.
				addHeader(r, "Connection", "keep-alive")
				if name, value, ok := strings.Cut(header, ":"); ok {
					r.Headers = append(r.Headers, [2]string{name, strings.TrimPrefix(value, " ")})
				}
			}})
		}
	}

	return append(all,
		trick{"smuggled in a chunk's extension", func(r *differential.Request, host string) {
			addHeader(r, "Transfer-Encoding", "chunked")
			r.Framing = differential.None
			r.Body = fmt.Appendf(nil, "1;\n%s\r\nx\r\n0\r\n\r\n", smuggled(host))
		}},
		trick{"pipelined", func(r *differential.Request, host string) { r.After = smuggled(host) }},
	)
}

// upgradeTricks ask for another protocol on the connection, in which the gate could not judge what
// follows, and send at once a message of that protocol, or a request, that writes.
func upgradeTricks() []trick {
	handshake := func(r *differential.Request) {
		r.Method, r.Body = "GET", nil
		for _, h := range [][2]string{{"Connection", "Upgrade"}, {"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}, {"Sec-WebSocket-Key", "ZHJ5ZG9ja2RyeWRvY2tkcg=="}} {
			r.Set(h[0], h[1])
		}
		r.After = textFrame("write")
	}

	// edit returns a handshake with another value of a header.
	edit := func(name, header, value string) trick {
		return trick{"WebSocket, " + name, func(r *differential.Request, _ string) { handshake(r); r.Drop(header); addHeader(r, header, value) }}
	}

	return []trick{
		{"WebSocket", func(r *differential.Request, _ string) { handshake(r) }},
		edit("in capitals", "Upgrade", "WebSocket"),
		edit("among others", "Upgrade", "foo, websocket"),
		edit("with a version", "Upgrade", "websocket/13"),
		edit("keep-alive first", "Connection", "keep-alive, Upgrade"),
		edit("underscored", "Up_grade", "websocket"),
		{"WebSocket over HTTP/2", func(r *differential.Request, _ string) {
			handshake(r)
			r.Method = "CONNECT"
			r.HTTP2 = &differential.HTTP2{Pseudo: [][2]string{{":protocol", "websocket"}}}
		}},
		{"h2c", func(r *differential.Request, host string) {
			for _, h := range [][2]string{{"Connection", "Upgrade, HTTP2-Settings"}, {"Upgrade", "h2c"}, {"HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"}} {
				r.Set(h[0], h[1])
			}
			r.After = smuggled(host)
		}},
		{"upgrade to foo", func(r *differential.Request, host string) {
			r.Set("Connection", "Upgrade")
			r.Set("Upgrade", "foo")
			r.After = smuggled(host)
		}},
		{"CONNECT", func(r *differential.Request, host string) {
			r.Method, r.Target = "CONNECT", differential.AnyHost+":80"
			r.After = smuggled(host)
		}},
	}
}

// textFrame returns a WebSocket frame with a message of at most 125 bytes (RFC 6455 section 5.2).
// Clients must mask the message, and a mask of zeros leaves it as it is.
func textFrame(message string) []byte {
	const finalText, masked = 0x81, 0x80
	b := []byte{finalText, masked | byte(len(message))}
	b = binary.BigEndian.AppendUint32(b, 0) // the mask
	return append(b, message...)
}

// addHeader adds a header, even if the request has one of that name.
func addHeader(r *differential.Request, name, value string) {
	r.Headers = append(r.Headers, [2]string{name, value})
}

// setPath replaces the path of the target and keeps the query.
func setPath(r *differential.Request, path string) {
	if _, query, ok := strings.Cut(r.Target, "?"); ok {
		path += "?" + query
	}
	r.Target = path
}

// addParameter adds a parameter to the query, after the separator, or after "?" if there is no
// query.
func addParameter(r *differential.Request, separator, parameter string) {
	if !strings.Contains(r.Target, "?") {
		separator = "?"
	}
	r.Target += separator + parameter
}
