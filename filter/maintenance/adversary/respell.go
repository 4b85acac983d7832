package adversary

import (
	"fmt"
	"strings"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A respelling is written so that some server, gateway or framework reads the result as the
// original. The core must therefore refuse it if it refuses the original. A [Tape] (adversary.go)
// makes the choices: UpTo(n) draws a number below n, and One an element of a list.

// RespellName may spell the name of a header in a way that some gateways read alike.
func (t *Tape) RespellName(name string) string {
	if t.UpTo(3) > 0 { // two times out of three
		return name
	}

	return strings.Map(func(r rune) rune {
		if r == '-' {
			return rune(One(t, []byte("-_.!~'")))
		}
		return r
	}, name)
}

// Respell rewrites a request in a way that some server undoes, and returns a description of the
// change for the message of a failed test.
func (t *Tape) Respell(r *maintenance.Request) (how string) {
	path, query, hasQuery := strings.Cut(r.Path, "?")
	if hasQuery {
		query = "?" + query
	}

	switch t.UpTo(5) {
	case 0:
		return t.respellHost(r)
	case 1:
		return t.moveHost(r, path, query)
	case 2:
		return t.addScriptName(r, path, query)
	case 3:
		return t.moveURL(r)
	default:
		return t.respellPath(r, path, query)
	}
}

// respellHost writes the host in another way.
func (t *Tape) respellHost(r *maintenance.Request) string {
	const escapedS = "%73" // the first letter of the host of the app shop
	r.Authority = One(t, []string{
		strings.ToUpper(r.Authority), r.Authority + ":8080", r.Authority + ".", escapedS + r.Authority[1:], "me@" + r.Authority,
	})
	return "host " + r.Authority
}

// moveHost names the host in a header or in an absolute path, and another host as the authority.
func (t *Tape) moveHost(r *maintenance.Request, path, query string) string {
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
	const shown = 100 // characters of a long path
	return "host, by a header or by the path " + r.Path[:min(len(r.Path), shown)]
}

// addScriptName puts a prefix before the path and names it in a header, so that a server removes
// it.
func (t *Tape) addScriptName(r *maintenance.Request, path, query string) string {
	prefix := One(t, []string{"/x", "/gated/static", "/gated/hooks"})
	r.Path = prefix + path + query

	name := t.RespellName(One(t, []string{"script-name", "x-script-name", "x-forwarded-prefix"}))
	r.Headers = append(r.Headers, [2]string{name, prefix})
	return "script name " + prefix
}

// moveURL names the path in a header that replaces the path on some servers, and another as the
// path.
func (t *Tape) moveURL(r *maintenance.Request) string {
	name := t.RespellName(One(t, []string{"x-original-url", "x-rewrite-url"}))
	r.Headers = append(r.Headers, [2]string{name, r.Path})

	r.Path = One(t, []string{"/", "/open", "/gated/healthz", "/gated/static/x", "/gated/hooks"})
	return "rewritten URL on " + r.Path
}

// respellPath applies one to three respellings to the path.
func (t *Tape) respellPath(r *maintenance.Request, path, query string) string {
	const maxIndex = 255 // of the character to respell, which UpTo must be able to draw
	for range 1 + t.UpTo(3) {
		respell := One(t, respellings)
		path = respell(path, t.UpTo(min(len(path), maxIndex)))
	}

	r.Path = path + query
	return "path " + r.Path
}

// respellings rewrite a path in ways that some server undoes. Some of them change the character at
// the index at, which is within the path; the others ignore it.
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

// Pad rewrites a body so that some server still reads what it asked for.
func (t *Tape) Pad(body []byte) []byte {
	text := string(body)
	return []byte(One(t, []string{
		" " + text,
		text + "\n",
		"\t\r\n" + text + strings.Repeat(" ", 300),
		strings.Replace(text, ":", " : ", 1),
		"\ufeff" + text,
		text + "\x00",
		text + "&", "&" + text, "a=b&" + text, // of a form
		strings.ReplaceAll(text, "mutation", "#\\nmutation"), // a comment of GraphQL, in a JSON string
		strings.ReplaceAll(text, "mutation", ",,mutation"),   // commas, which GraphQL ignores
	}))
}

// Split cuts a body into one to seven parts, as they may arrive at the proxy. Some may be empty.
func (t *Tape) Split(body []byte) (parts [][]byte) {
	const maxParts = 7
	for len(body) > 0 && len(parts) < maxParts-1 {
		n := t.UpTo(min(len(body)+1, maxChoices)) // the size of the next part
		parts, body = append(parts, body[:n]), body[n:]
	}
	return append(parts, body) // the rest
}
