package maintenance_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// What holds for every request, whatever it looks like. Each property takes its choices
// from a tape of bytes, so that one function serves the fuzzer, which mutates tapes, and
// the tests, which draw them with a fixed seed.

// tapes is how many random tapes each property is tried with in a test; a tape is one
// request and a change to it.
const tapes = 60_000

type tape struct{ bytes []byte }

// upTo returns a choice of 0 to n-1, 0 once the tape has ended.
func (t *tape) upTo(n int) int {
	if len(t.bytes) == 0 {
		return 0
	}
	c := int(t.bytes[0])
	t.bytes = t.bytes[1:]
	return c % n
}

func one[T any](t *tape, of []T) T { return of[t.upTo(len(of))] }

func holds(f *testing.F, property func(t *testing.T, tape *tape)) {
	random := rand.New(rand.NewPCG(7, 2026))
	for range 16 {
		seed := make([]byte, 48)
		for i := range seed {
			seed[i] = byte(random.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, choices []byte) { property(t, &tape{choices}) })
}

func holdsAtRandom(t *testing.T, property func(t *testing.T, tape *tape)) {
	t.Helper()
	random := rand.New(rand.NewPCG(7, 2026))
	for range tapes {
		choices := make([]byte, 48)
		for i := range choices {
			choices[i] = byte(random.Uint32())
		}
		if property(t, &tape{choices}); t.Failed() {
			return
		}
	}
}

// world is a state with every rule that lets something pass or refuses it. The mode is
// that of the apps gated and shop, and of default where closed.
func world(t testing.TB, mode maintenance.Mode, permissive, closed bool) *maintenance.State {
	t.Helper()
	readOnly := `"safe_rpcs":["/shop.v1.Catalog/List"],"write_through":[{"methods":["POST"],"prefix":"/gated/search"}],"get_writes":[{"path":"/gated/logout"},{"path":"/logout"}]`
	graphql := `"paths":["/graphql","/gated/graphql"]`
	if permissive {
		readOnly += `,"upgrades":"allow"`
		graphql += `,"upgrades":"allow"`
	} else {
		readOnly += `,"event_streams":"refuse"`
	}
	rules := `"exempt":[{"methods":["GET"],"path":"/gated/healthz"},{"methods":["POST"],"prefix":"/gated/hooks"},{"prefix":"/gated/static"}],"read_only":{` + readOnly + `},"graphql":{` + graphql + `},` + on(mode)
	fallback := `{"name":"default"}`
	if closed {
		fallback = `{"name":"default",` + rules + `}`
	}
	return mustParse(t, `{"apps":[
		{"name":"gated","match":{"paths":["/gated"]},`+rules+`},
		{"name":"shop","match":{"hosts":["shop.example.com"]},`+rules+`},
		`+fallback+`]}`)
}

type worldKey struct {
	mode               maintenance.Mode
	permissive, closed bool
}

// worlds are made once: a tape asks for one of them.
var worlds = map[worldKey]*maintenance.State{}

func (t *tape) world(tb testing.TB, mode maintenance.Mode) *maintenance.State {
	key := worldKey{mode, t.upTo(2) == 1, t.upTo(2) == 1}
	return worldOf(tb, key)
}

func worldOf(tb testing.TB, key worldKey) *maintenance.State {
	if worlds[key] == nil {
		worlds[key] = world(tb, key.mode, key.permissive, key.closed)
	}
	return worlds[key]
}

var (
	someMethods = []string{"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "CONNECT", "post", "TRACE"}
	someHosts   = []string{"open.example.com", "shop.example.com", "SHOP.example.com.:443"}
	somePaths   = []string{
		"/gated", "/gated/x", "/gated/orders/7", "/open", "/", "/graphql", "/gated/graphql", "/gated/healthz", "/gated/hooks/stripe", "/gated/static/app.js",
		"/gated/search", "/gated/logout", "/logout", "/shop.v1.Catalog/List", "/gated/graphql/persisted/7",
	}
	someQueries = []string{"", "", "", "?a=b", "?query={a}", "?query=mutation{b}", "?_method=DELETE", "?op=GetUser", "?query={a}&_method=PUT"}
	someBodies  = []struct{ kind, text string }{
		{"", ""}, {"", ""}, {"application/json", `{"query":"{a}"}`}, {"application/json", `{"query":"mutation{b}"}`}, {"application/json", `{"a":1}`},
		{"application/json", `{"_method":"DELETE"}`}, {"application/x-www-form-urlencoded", "a=b"}, {"application/x-www-form-urlencoded", "_method=DELETE"},
		{"multipart/form-data; boundary=x", "--x--"}, {"", "POST /orders HTTP/1.1"}, {"application/grpc", "\x00\x00\x00\x00\x00"}, {"text/plain", "x"},
	}
	someHeaders = [][2]string{
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

// request draws a request.
func (t *tape) request() *maintenance.Request {
	r := request(one(t, someMethods), one(t, someHosts), one(t, somePaths)+one(t, someQueries))
	if b := one(t, someBodies); b.text != "" || b.kind != "" {
		body(r, b.kind, b.text)
		r.Headers = append(r.Headers, [2]string{"transfer-encoding", "chunked"})
	}
	for range t.upTo(3) {
		r.Headers = append(r.Headers, one(t, someHeaders))
	}
	return r
}

// fresh returns a copy of a request that has not been read.
func fresh(r *maintenance.Request) *maintenance.Request {
	return &maintenance.Request{
		Method: r.Method, Authority: r.Authority, Path: r.Path, Headers: slices.Clone(r.Headers),
		EndStream: r.EndStream, Body: r.Body, Attributes: r.Attributes,
	}
}

func describe(r *maintenance.Request) string {
	return fmt.Sprintf("%s %s %s %q ended %v, body %q", r.Method, r.Authority, r.Path, r.Headers[3:], r.EndStream, r.Body)
}

// No header added to a refused request makes it pass. Only a first Content-Type may,
// without which nobody knows what a body is.
func addedHeaderNeverGrants(t *testing.T, tape *tape) {
	s := tape.world(t, one(tape, []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess}))
	r := tape.request()
	if decide(t, s, fresh(r)).Verdict != maintenance.Refuse {
		return
	}

	more := fresh(r)
	added := one(tape, someHeaders)
	added[0] = tape.respelledName(added[0])
	typed := slices.ContainsFunc(r.Headers, func(h [2]string) bool { return strings.HasPrefix(h[0], "content") && strings.HasSuffix(h[0], "type") })
	if added[0] == "content-type" && !typed {
		return
	}
	more.Headers = slices.Insert(more.Headers, 3+tape.upTo(len(more.Headers)-2), added)
	if d := decide(t, s, more); d.Verdict != maintenance.Refuse {
		t.Errorf("%s was refused, and passes by %s with %q", describe(r), d.Rule, added)
	}
}

func TestAddedHeaderNeverGrants(t *testing.T) { holdsAtRandom(t, addedHeaderNeverGrants) }
func FuzzAddedHeader(f *testing.F)            { holds(f, addedHeaderNeverGrants) }

// respelledName spells a header's name as some gateways read it.
func (t *tape) respelledName(name string) string {
	if t.upTo(3) > 0 {
		return name
	}
	return strings.Map(func(r rune) rune {
		if r == '-' {
			return rune(one(t, []byte("-_.!~'")))
		}
		return r
	}, name)
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
	func(p string, at int) string { return "/index.php" + strings.TrimPrefix(p, "/") },
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

// A refused path, host, method or header name never passes in another spelling that
// some server undoes.
func respellingNeverGrants(t *testing.T, tape *tape) {
	s := tape.world(t, one(tape, []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess}))
	r := tape.request()
	if decide(t, s, fresh(r)).Verdict != maintenance.Refuse {
		return
	}

	other := fresh(r)
	var how string
	switch tape.upTo(5) {
	case 0:
		other.Authority = one(tape, []string{strings.ToUpper(r.Authority), r.Authority + ":8080", r.Authority + ".", "%73" + r.Authority[1:], "me@" + r.Authority})
		how = other.Authority
	case 1:
		other.Headers = append(other.Headers, [2]string{tape.respelledName("x-forwarded-host"), r.Authority})
		other.Authority = "elsewhere.example.com"
		how = "X-Forwarded-Host"
	case 2:
		path, query, _ := strings.Cut(r.Path, "?")
		prefix := one(tape, []string{"/x", "/gated/static", "/gated/hooks"})
		other.Path = prefix + path
		if query != "" {
			other.Path += "?" + query
		}
		other.Headers = append(other.Headers, [2]string{tape.respelledName(one(tape, []string{"script-name", "x-script-name", "x-forwarded-prefix"})), prefix})
		how = "SCRIPT_NAME " + prefix
	case 3:
		other.Headers = append(other.Headers, [2]string{tape.respelledName(one(tape, []string{"x-original-url", "x-rewrite-url"})), r.Path})
		other.Path = one(tape, []string{"/", "/open", "/gated/healthz", "/gated/static/x", "/gated/hooks"})
		how = "X-Original-URL on " + other.Path
	default:
		path, query, found := strings.Cut(r.Path, "?")
		for range 1 + tape.upTo(3) {
			path = one(tape, respellings)(path, tape.upTo(min(len(path), 255)))
		}
		other.Path = path
		if found {
			other.Path += "?" + query
		}
		how = other.Path
	}
	if d := decide(t, s, other); d.Verdict != maintenance.Refuse {
		paths, _ := maintenance.Readings(other)
		t.Errorf("%s was refused, and passes by %s of %s as %s; read as %q", describe(r), d.Rule, d.App, how, paths)
	}
}

func TestRespellingNeverGrants(t *testing.T) { holdsAtRandom(t, respellingNeverGrants) }
func FuzzRespelling(f *testing.F)            { holds(f, respellingNeverGrants) }

// What read-only refuses, no-access refuses too.
func stricterModeRefusesMore(t *testing.T, tape *tape) {
	key := worldKey{maintenance.ReadOnly, tape.upTo(2) == 1, tape.upTo(2) == 1}
	lax := worldOf(t, key)
	key.mode = maintenance.NoAccess
	strict := worldOf(t, key)

	r := tape.request()
	if decide(t, lax, fresh(r)).Verdict == maintenance.Refuse {
		if d := decide(t, strict, fresh(r)); d.Verdict != maintenance.Refuse {
			t.Errorf("%s is refused in read-only, and passes by %s in no-access", describe(r), d.Rule)
		}
	}
}

func TestStricterModeRefusesMore(t *testing.T) { holdsAtRandom(t, stricterModeRefusesMore) }
func FuzzStricterMode(f *testing.F)            { holds(f, stricterModeRefusesMore) }

// Neither padding a refused body nor holding the request in compact form until the body
// has come makes it pass.
func delayNeverGrants(t *testing.T, tape *tape) {
	s := tape.world(t, one(tape, []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess}))
	r := tape.request()
	whole := decide(t, s, fresh(r))

	held := fresh(r)
	first := s.Decide(held, noon)
	held.Compact()
	if again := s.Decide(held, noon); again.Verdict != first.Verdict || again.Rule != first.Rule {
		t.Errorf("%s: %v by %s, and in compact form %v by %s", describe(r), first.Verdict, first.Rule, again.Verdict, again.Rule)
	}
	if compact := decide(t, s, held); compact.Verdict != whole.Verdict || compact.Rule != whole.Rule {
		t.Errorf("%s: %v by %s, and in compact form with its body %v by %s", describe(r), whole.Verdict, whole.Rule, compact.Verdict, compact.Rule)
	}

	if whole.Verdict != maintenance.Refuse || len(r.Body) == 0 {
		return
	}
	padded := fresh(r)
	text := string(r.Body)
	padded.Body = []byte(one(tape, []string{
		" " + text, text + "\n", "\t\r\n" + text + strings.Repeat(" ", 300), strings.Replace(text, ":", " : ", 1), "\ufeff" + text, text + "\x00",
		text + "&", "&" + text, "a=b&" + text, strings.ReplaceAll(text, "mutation", "#\\nmutation"), strings.ReplaceAll(text, "mutation", ",,mutation"),
	}))
	if d := decide(t, s, padded); d.Verdict != maintenance.Refuse {
		t.Errorf("%s was refused, and passes by %s with the body %q", describe(r), d.Rule, padded.Body)
	}
}

func TestDelayNeverGrants(t *testing.T) { holdsAtRandom(t, delayNeverGrants) }
func FuzzDelay(f *testing.F)            { holds(f, delayNeverGrants) }
