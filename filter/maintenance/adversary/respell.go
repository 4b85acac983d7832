package adversary

import (
	"fmt"
	"strings"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// RespellName may spell the name of a header in a way that some gateways read alike.
func (t *Tape) RespellName(name string) string {
	if t.UpTo(3) > 0 {
		return name
	}

	return strings.Map(func(r rune) rune {
		if r == '-' {
			return rune(One(t, []byte("-_.!~'")))
		}
		return r
	}, name)
}

// Respell rewrites a request in a way that some server undoes, and describes the change.
func (t *Tape) Respell(r *maintenance.Request) (how string) {
	path, query, hasQuery := strings.Cut(r.Path, "?")
	if hasQuery {
		query = "?" + query
	}

	switch t.UpTo(5) {
	case 0:
		r.Authority = One(t, []string{strings.ToUpper(r.Authority), r.Authority + ":8080", r.Authority + ".", "%73" + r.Authority[1:], "me@" + r.Authority})
		return "host " + r.Authority
	case 1:
		if t.UpTo(3) == 0 {
			padding := ""
			if t.UpTo(4) == 0 {
				padding = ";" + strings.Repeat("x", 5_000) // longer than the core follows a path
			}
			r.Path = "//" + r.Authority + path + padding + query
		} else {
			r.Headers = append(r.Headers, [2]string{t.RespellName("x-forwarded-host"), r.Authority})
		}
		r.Authority = "elsewhere.example.com"
		return "host, by a header or by the path " + r.Path[:min(len(r.Path), 100)]
	case 2:
		prefix := One(t, []string{"/x", "/gated/static", "/gated/hooks"})
		r.Path = prefix + path + query
		r.Headers = append(r.Headers, [2]string{t.RespellName(One(t, []string{"script-name", "x-script-name", "x-forwarded-prefix"})), prefix})
		return "script name " + prefix
	case 3:
		r.Headers = append(r.Headers, [2]string{t.RespellName(One(t, []string{"x-original-url", "x-rewrite-url"})), r.Path})
		r.Path = One(t, []string{"/", "/open", "/gated/healthz", "/gated/static/x", "/gated/hooks"})
		return "rewritten URL on " + r.Path
	}

	for range 1 + t.UpTo(3) {
		path = One(t, respellings)(path, t.UpTo(min(len(path), 255)))
	}

	r.Path = path + query
	return "path " + r.Path
}

// respellings rewrite a path, partly at an index, in ways that some server undoes.
var respellings = []func(path string, at int) string{
	func(p string, at int) string { return p[:at] + fmt.Sprintf("%%%02x", p[at]) + p[at+1:] },
	func(p string, at int) string { return p[:at] + fmt.Sprintf("%%%02X", p[at]) + p[at+1:] },
	func(p string, at int) string { return p[:at] + fmt.Sprintf("%%25%02x", p[at]) + p[at+1:] },
	func(p string, at int) string { return p[:at] + fmt.Sprintf("%%u%04x", p[at]) + p[at+1:] },
	func(p string, at int) string { return p[:at] + strings.ToUpper(p[at:at+1]) + p[at+1:] },
	func(p string, at int) string { return "/" + p },
	func(p string, at int) string { return "/." + p },
	func(p string, at int) string { return "/x/.." + p },
	func(p string, at int) string { return "/x/%2e%2E" + p },
	func(p string, at int) string { return "/;x=y" + p },
	func(p string, at int) string { return "/x/..;" + p },
	func(p string, at int) string { return "/x%2f.." + p },
	func(p string, at int) string { return "/index.php" + p },
	func(p string, at int) string {
		if strings.HasPrefix(p, "//") {
			return p // the server would not add the second slash again
		}
		return "/index.php" + strings.TrimPrefix(p, "/")
	},
	func(p string, at int) string { return "/x/INDEX.ph%70" + p },
	func(p string, at int) string { return "/cgi-bin/app.fcgi" + p },
	func(p string, at int) string { return "//www.example.com" + p },
	func(p string, at int) string { return p + ".json" },
	func(p string, at int) string { return p + "/" },
	func(p string, at int) string { return p + "%0a" },
	func(p string, at int) string { return p + "%20" },
	func(p string, at int) string { return p + "." },
	func(p string, at int) string { return p + ";x" },
	func(p string, at int) string { return p + "%00" },
	func(p string, at int) string { return p + "%23" },
	func(p string, at int) string { return p + "%3f" },
	func(p string, at int) string { return p[:1] + strings.ReplaceAll(p[1:], "/", `\`) },
	func(p string, at int) string { return p[:1] + strings.ReplaceAll(p[1:], "/", "%5c") },
	func(p string, at int) string { return p[:1] + strings.ReplaceAll(p[1:], "/", "%c0%af") },
	func(p string, at int) string { return strings.ReplaceAll(p, "/", "//") },
	func(p string, at int) string { return strings.ReplaceAll(p, "/", "/./") },
}

// Pad rewrites a body without changing what it asks for.
func (t *Tape) Pad(body []byte) []byte {
	text := string(body)
	return []byte(One(t, []string{
		" " + text, text + "\n", "\t\r\n" + text + strings.Repeat(" ", 300), strings.Replace(text, ":", " : ", 1), "\ufeff" + text, text + "\x00",
		text + "&", "&" + text, "a=b&" + text, strings.ReplaceAll(text, "mutation", "#\\nmutation"), strings.ReplaceAll(text, "mutation", ",,mutation"),
	}))
}

// Split cuts a body into at most seven parts. Some may be empty.
func (t *Tape) Split(body []byte) (parts [][]byte) {
	for len(body) > 0 && len(parts) < 6 {
		n := t.UpTo(min(len(body)+1, 256))
		parts, body = append(parts, body[:n]), body[n:]
	}
	return append(parts, body)
}
