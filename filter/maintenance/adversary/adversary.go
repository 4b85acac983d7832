// Package adversary makes states and requests by which tests try to get past a
// decision. Everything is drawn from a [Tape], so that a seed, or a fuzzer's input, is one
// request and what is done to it.
package adversary

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A Tape is a sequence of choices.
type Tape struct{ choices []byte }

// NewTape returns a tape that makes these choices, and then always the first.
func NewTape(choices []byte) *Tape { return &Tape{choices} }

// Tapes calls each with n tapes of one seed, until it returns false.
func Tapes(seed uint64, n int, each func(*Tape) bool) {
	random := rand.New(rand.NewPCG(seed, 2026))
	for range n {
		choices := make([]byte, 48)
		for i := range choices {
			choices[i] = byte(random.Uint32())
		}
		if !each(NewTape(choices)) {
			return
		}
	}
}

// UpTo returns a choice of 0 to n-1, where n is at most 256.
func (t *Tape) UpTo(n int) int {
	if len(t.choices) == 0 {
		return 0
	}
	c := int(t.choices[0])
	t.choices = t.choices[1:]
	return c % n
}

// One returns one of a list.
func One[T any](t *Tape, of []T) T { return of[t.UpTo(len(of))] }

// World says which state of [World.Document] is meant.
type World struct {
	// Mode is that of the apps gated and shop, and of default where Closed is set.
	Mode maintenance.Mode
	// Permissive allows upgrades, where otherwise event streams are refused.
	Permissive bool
	Closed     bool
}

// World draws one.
func (t *Tape) World() World {
	return World{One(t, []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess}), t.UpTo(2) == 1, t.UpTo(2) == 1}
}

// Document returns a state with every kind of rule that lets something pass or refuses
// it, as JSON.
func (w World) Document() string {
	readOnly := `"safe_rpcs":["/shop.v1.Catalog/List"],"write_through":[{"methods":["POST"],"prefix":"/gated/search"}],"get_writes":[{"path":"/gated/logout"},{"path":"/logout"}]`
	graphql := `"paths":["/graphql","/gated/graphql"]`
	if w.Permissive {
		readOnly += `,"upgrades":"allow"`
		graphql += `,"upgrades":"allow"`
	} else {
		readOnly += `,"event_streams":"refuse"`
	}

	rules := `"exempt":[{"methods":["GET"],"path":"/gated/healthz"},{"methods":["POST"],"prefix":"/gated/hooks"},{"prefix":"/gated/static"}],"read_only":{` + readOnly + `},"graphql":{` + graphql + `},
		"activations":[{"id":"a","source":"manual","mode":"` + string(w.Mode) + `","since":"2026-11-21T11:00:00Z"}]`
	fallback := `{"name":"default"}`
	if w.Closed {
		fallback = `{"name":"default",` + rules + `}`
	}
	return `{"epoch":1,"revision":1,"apps":[
		{"name":"gated","match":{"paths":["/gated"]},` + rules + `},
		{"name":"shop","match":{"hosts":["shop.example.com"]},` + rules + `},
		` + fallback + `]}`
}

var (
	methods = []string{"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "CONNECT", "post", "TRACE"}
	hosts   = []string{"open.example.com", "shop.example.com", "SHOP.example.com.:443"}
	paths   = []string{
		"/gated", "/gated/x", "/gated/orders/7", "/open", "/", "/graphql", "/gated/graphql", "/gated/healthz", "/gated/hooks/stripe", "/gated/static/app.js",
		"/gated/search", "/gated/logout", "/logout", "/shop.v1.Catalog/List", "/gated/graphql/persisted/7",
	}
	queries = []string{"", "", "", "?a=b", "?query={a}", "?query=mutation{b}", "?_method=DELETE", "?op=GetUser", "?query={a}&_method=PUT"}
	bodies  = []struct{ kind, text string }{
		{"", ""}, {"", ""}, {"application/json", `{"query":"{a}"}`}, {"application/json", `{"query":"mutation{b}"}`}, {"application/json", `{"a":1}`},
		{"application/json", `{"_method":"DELETE"}`}, {"application/x-www-form-urlencoded", "a=b"}, {"application/x-www-form-urlencoded", "_method=DELETE"},
		{"multipart/form-data; boundary=x", "--x--"}, {"", "POST /orders HTTP/1.1"}, {"application/grpc+json", `{"_method":"DELETE"}`}, {"application/grpc", "\x00\x00\x00\x00\x00"}, {"text/plain", "x"},
	}
	headers = [][2]string{
		{"accept", "text/event-stream"}, {"upgrade", "websocket"}, {":protocol", "websocket"}, {"x-http-method-override", "DELETE"}, {"x-http-method-override", "GET"},
		{"x-method-override", "POST"}, {"x-original-url", "/gated/healthz"}, {"x-original-url", "/open"}, {"x-rewrite-url", "/gated"}, {"script-name", "/gated"},
		{"script_name", "/gated/static"}, {"x-script-name", "/gated"}, {"x-forwarded-prefix", "/gated/hooks"}, {"x-forwarded-host", "open.example.com"},
		{"x-forwarded-host", "shop.example.com"}, {"forwarded", "host=open.example.com"}, {"content-length", "0"}, {"content_length", "0"}, {"content-length", "7"},
		{"transfer-encoding", "chunked"}, {"content-type", "application/json"}, {"content-type", "application/grpc"}, {"content_type", "application/json"},
		{"content-encoding", "gzip"}, {"content-encoding", "identity"}, {"cookie", "_method=DELETE"}, {"cookie", "a=b"}, {"origin", "https://app.example.com"},
		{"x-forwarded-for", "10.0.0.1"}, {"authorization", "Bearer x"}, {"x-drydock-bypass", "ip"}, {"expect", "100-continue"}, {"te", "trailers"},
		{"host", "open.example.com"}, {"x-envoy-original-path", "/gated/healthz"}, {"access-control-request-method", "GET"}, {"sec-purpose", "prefetch"},
	}
)

// Request draws a request. Its Headers hold no pseudo-headers but :protocol.
func (t *Tape) Request() *maintenance.Request {
	r := &maintenance.Request{Method: One(t, methods), Authority: One(t, hosts), Path: One(t, paths) + One(t, queries), EndStream: true}
	if b := One(t, bodies); b.text != "" || b.kind != "" {
		if b.kind != "" {
			r.Headers = append(r.Headers, [2]string{"content-type", b.kind})
		}
		r.Headers = append(r.Headers, [2]string{"transfer-encoding", "chunked"})
		r.Body, r.EndStream = []byte(b.text), false
	}
	for range t.UpTo(3) {
		r.Headers = append(r.Headers, One(t, headers))
	}
	return r
}

// Header draws a header, its name in some spelling.
func (t *Tape) Header() [2]string {
	h := One(t, headers)
	h[0] = t.RespellName(h[0])
	return h
}

// RespellName spells a header's name as some gateways read it.
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

// Respell writes a request in another way that some server undoes, and says how.
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
				padding = ";" + strings.Repeat("x", 5_000) // more than is followed
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

// Pad writes a body in another way that does not change what it asks for.
func (t *Tape) Pad(body []byte) []byte {
	text := string(body)
	return []byte(One(t, []string{
		" " + text, text + "\n", "\t\r\n" + text + strings.Repeat(" ", 300), strings.Replace(text, ":", " : ", 1), "\ufeff" + text, text + "\x00",
		text + "&", "&" + text, "a=b&" + text, strings.ReplaceAll(text, "mutation", "#\\nmutation"), strings.ReplaceAll(text, "mutation", ",,mutation"),
	}))
}

// Split cuts a body into parts, of which some are empty.
func (t *Tape) Split(body []byte) (parts [][]byte) {
	for len(body) > 0 && len(parts) < 6 {
		n := t.UpTo(min(len(body)+1, 256))
		parts, body = append(parts, body[:n]), body[n:]
	}
	return append(parts, body)
}

// Stranger is a client of whom the proxy knows nothing but an address.
type Stranger struct{}

func (Stranger) SourceAddress() string      { return "192.0.2.1:1234" }
func (Stranger) Principal() string          { return "" }
func (Stranger) Route() string              { return "" }
func (Stranger) Cluster() string            { return "" }
func (Stranger) Claims() maintenance.Claims { return "" }

// Judge returns what a state decides on a stranger's request whose whole body is there.
func Judge(state *maintenance.State, r *maintenance.Request, now time.Time) maintenance.Decision {
	r = Fresh(r)
	r.Attributes = Stranger{}
	d := state.Decide(r, now)
	if d.Verdict == maintenance.NeedBody {
		// The filter reads one byte more than is asked for.
		r.Body, r.BodyRead = r.Body[:min(len(r.Body), d.MaxBody+1)], true
		d = state.Decide(r, now)
	}
	return d
}

// Fresh returns a copy of a request that no decision has read.
func Fresh(r *maintenance.Request) *maintenance.Request {
	return &maintenance.Request{
		Method: r.Method, Authority: r.Authority, Path: r.Path, Headers: slices.Clone(r.Headers),
		EndStream: r.EndStream, Body: r.Body, Attributes: r.Attributes,
	}
}

// Describe returns a request as one line.
func Describe(r *maintenance.Request) string {
	return fmt.Sprintf("%s %s %s %q ended %v, body %q", r.Method, r.Authority, r.Path, r.Headers, r.EndStream, r.Body)
}

// respellings are ways of writing a path that some server undoes.
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
			return p // of which one slash is not the server's to add
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
