package maintenance_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/e2e/golden"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

const (
	browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
	axios   = "application/json, text/plain, */*"
)

func header(reply *maintenance.Reply, name string) string {
	var values []string
	for _, h := range reply.Headers {
		if h[0] == name {
			values = append(values, h[1])
		}
	}
	return strings.Join(values, " | ")
}

// refusal is the reply to a request that must be refused.
func refusal(t testing.TB, s *maintenance.State, r *maintenance.Request, pages maintenance.Pages, now time.Time) maintenance.Reply {
	t.Helper()
	d := s.Decide(r, now)
	if d.Verdict == maintenance.NeedBody {
		r.BodyRead = true
		d = s.Decide(r, now)
	}
	if d.Verdict != maintenance.Refuse {
		t.Fatalf("%s %s: %v by %s", r.Method, r.Path, d.Verdict, d.Rule)
	}
	return d.Reply(r, pages, now)
}

// What each kind of client is answered, to the byte: testdata/replies.golden.
func TestReplies(t *testing.T) {
	const cors = `"cors":{"origins":["https://app.example.com"]}`
	const message = `"activations":[{"id":"a","source":"manual","mode":"MODE","message":"We move the \"warehouse\" <now> & are back at 3 — promised","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:30:00Z"}]`
	noAccess := mustParse(t, `{"apps":[{"name":"default",`+cors+`,`+strings.Replace(message, "MODE", "no-access", 1)+`}]}`)
	plain := mustParse(t, `{"apps":[{"name":"default",`+on(maintenance.NoAccess)+`}]}`)
	writes := readOnly(t, cors)
	preflight := func(origin string) *maintenance.Request {
		return request("OPTIONS", "h", "/api", "origin", origin, "access-control-request-method", "PUT", "access-control-request-headers", "authorization,content-type")
	}
	var got bytes.Buffer
	for _, c := range []struct {
		name  string
		state *maintenance.State
		r     *maintenance.Request
	}{
		{"browser", noAccess, get("h", "/", "accept", browser)},
		{"browser, nothing said about why and how long", plain, get("h", "/", "accept", browser, "accept-language", "en-GB,en;q=0.9")},
		{"browser that posts a form in read-only", writes, body(request("POST", "h", "/order", "accept", browser), "application/x-www-form-urlencoded", "a=b")},
		{"curl", noAccess, get("h", "/", "accept", "*/*")},
		{"curl that sends JSON", noAccess, body(request("POST", "h", "/", "accept", "*/*"), "application/json", "{}")},
		{"axios", noAccess, get("h", "/", "accept", axios)},
		{"a client that asks for JSON, nothing said", plain, get("h", "/", "accept", "application/json")},
		{"a write in read-only", writes, request("DELETE", "h", "/orders/7", "accept", "application/json")},
		{"nothing in particular", noAccess, get("h", "/")},
		{"HEAD", noAccess, request("HEAD", "h", "/", "accept", browser)},
		{"gRPC", noAccess, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc+proto", "te", "trailers")},
		{"gRPC-Web", noAccess, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc-web+proto", "accept", "application/grpc-web+proto", "x-grpc-web", "1", "origin", "https://app.example.com")},
		{"gRPC-Web-text", noAccess, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc-web-text", "accept", "application/grpc-web-text")},
		{"GraphQL", noAccess, body(request("POST", "h", "/graphql", "accept", "*/*"), "application/json", `{"query":"{a}"}`)},
		{"GraphQL that takes its own type", writes, body(request("POST", "h", "/graphql", "accept", "application/graphql-response+json, application/json;q=0.9"), "application/json", `{"query":"mutation{b}"}`)},
		{"GraphQL that only takes JSON", writes, body(request("POST", "h", "/graphql", "accept", "application/graphql-response+json;q=0, application/json"), "application/json", `{"query":"mutation{b}"}`)},
		{"GraphQL, too large", writes, body(request("POST", "h", "/graphql", "accept", "application/json"), "application/json", strings.Repeat(" ", 1<<20+1))},
		{"GraphQL by hash alone, whose client sends the document next", writes, body(request("POST", "h", "/graphql", "accept", "application/json"), "application/json", `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"`+strings.Repeat("0", 64)+`"}}}`)},
		{"GraphQL that is cut off, to a client that takes its own type", writes, body(request("POST", "h", "/graphql", "accept", "application/graphql-response+json"), "application/json", `{"query":"{a`)},
		{"GraphQL without a document, from a listed origin", writes, body(request("POST", "h", "/graphql", "accept", "application/json", "origin", "https://app.example.com"), "application/json", `{"qeury":"{a}"}`)},
		{"GraphQL that cannot be parsed", writes, body(request("POST", "h", "/graphql/"), "application/json", `{"query":"{mutation"}`)},
		{"GraphQL as text", writes, body(request("POST", "h", "/graphql", "accept", "*/*"), "text/plain;charset=UTF-8", `{"query":"{a}"}`)},
		{"GraphQL as a form", writes, body(request("POST", "h", "/graphql", "accept", "*/*"), "application/x-www-form-urlencoded", `query={a}`)},
		{"GraphQL in a browser's address bar", writes, get("h", "/graphql?query=mutation{b}", "accept", browser)},
		{"a listed origin", noAccess, get("h", "/", "accept", "application/json", "origin", "https://app.example.com")},
		{"an unlisted origin", noAccess, get("h", "/", "accept", "application/json", "origin", "https://evil.example.com")},
		{"preflight of a listed origin", noAccess, preflight("https://app.example.com")},
		{"preflight of an unlisted origin", noAccess, preflight("https://evil.example.com")},
		{"preflight of no headers", noAccess, request("OPTIONS", "h", "/", "origin", "https://app.example.com", "access-control-request-method", "GET")},
		{"OPTIONS that is no preflight", noAccess, request("OPTIONS", "h", "/", "origin", "https://app.example.com")},
	} {
		reply := refusal(t, c.state, c.r, nil, noon)
		fmt.Fprintf(&got, "== %s\n%d\n", c.name, reply.Status)
		if reply.GRPCStatus >= 0 {
			fmt.Fprintf(&got, "(gRPC status %d)\n", reply.GRPCStatus)
		}
		for _, h := range reply.Headers {
			if h[0] != strings.ToLower(h[0]) {
				t.Errorf("%s: header %s", c.name, h[0])
			}
			fmt.Fprintf(&got, "%s: %s\n", h[0], h[1])
		}
		text := string(bytes.TrimSuffix(reply.Body, []byte("\n")))
		if !utf8.ValidString(text) || strings.Contains(text, "\r") {
			text = strconv.Quote(text)
		}
		fmt.Fprintf(&got, "\n%s\n\n", text)
		if kind := header(&reply, "content-type"); strings.Contains(kind, "json") && !json.Valid(reply.Body) {
			t.Errorf("%s: not valid: %s", c.name, reply.Body)
		}
	}
	golden.Compare(t, "testdata/replies.golden", got.String())
}

// What is wrong by itself is told so, once, and what Drydock alone refuses is told when to come back. The one is known
// only on a GraphQL path itself, and only a GraphQL client reads it.
func TestMalformedIsNotUnavailable(t *testing.T) {
	const json = "application/json"
	empty := func(path string, headers ...string) *maintenance.Request {
		return body(request("POST", "h", path, headers...), json, "")
	}
	two := readOnly(t, `"graphql":{"paths":["/graphql","/shop/graphql"]}`)
	for _, c := range []struct {
		name   string
		state  *maintenance.State
		r      *maintenance.Request
		status int
	}{
		{"no body", two, empty("/graphql"), 400},
		{"no body, on another GraphQL path", two, empty("/shop/graphql"), 400},
		{"no body, with a slash", two, empty("/graphql/"), 400},
		{"no body, with a parameter of the page", two, empty("/graphql?op=GetUser"), 400},
		{"no type", two, body(request("POST", "h", "/graphql"), "", `{"query":"{a}"}`), 415},
		{"GET without a document", two, get("h", "/graphql?operationName=A"), 400},
		{"a mutation", two, body(request("POST", "h", "/graphql"), json, `{"query":"mutation{b}"}`), 503},
		{"a mutation by GET", two, get("h", "/graphql?query=mutation{b}"), 503},
		{"an upload", two, body(request("POST", "h", "/graphql"), "multipart/form-data; boundary=x", ""), 503},
		{"another method", two, request("PUT", "h", "/graphql"), 503},
		{"too large", two, body(request("POST", "h", "/graphql"), json, strings.Repeat(" ", 1<<20+1)), 413},

		{"below the path, where anything may be", two, empty("/graphql/upload"), 503},
		{"in another spelling, which some servers route to something else", two, empty("/GraphQL"), 503},
		{"an escaped path", two, empty("/%67raphql"), 503},
		{"a path that a gateway may have cut", two, empty("/graphql", "x-forwarded-prefix", "/graphql"), 503},
		{"not GraphQL", two, empty("/orders"), 503},
		{"a browser", two, empty("/graphql", "accept", browser), 503},
		{"gRPC", two, body(request("POST", "h", "/graphql"), "application/grpc", ""), 503},
		{"no-access", mustParse(t, `{"apps":[{"name":"default",`+on(maintenance.NoAccess)+`}]}`), empty("/graphql"), 503},
	} {
		reply := refusal(t, c.state, c.r, nil, noon)
		if reply.Status != c.status {
			t.Errorf("%s: %d, want %d", c.name, reply.Status, c.status)
		}
		told := bytes.Contains(reply.Body, []byte("MAINTENANCE")) || bytes.Contains(reply.Body, []byte("maintenance")) || bytes.Contains(reply.Body, []byte("retry_after"))
		if malformed := c.status == 400 || c.status == 415; malformed && (told || header(&reply, "retry-after") != "") || !malformed && header(&reply, "retry-after") == "" {
			t.Errorf("%s: %v %s", c.name, reply.Headers, reply.Body)
		}
		if header(&reply, "cache-control") != "no-store" {
			t.Errorf("%s may be cached", c.name)
		}
	}
}

// Who gets a page, JSON or text: RFC 9110 section 12.5.1.
func TestAccept(t *testing.T) {
	s := closed(t, `"graphql":{"paths":[]}`)
	const html, problem, text = "text/html; charset=utf-8", "application/problem+json", "text/plain; charset=utf-8"
	for _, c := range []struct {
		accept []string
		want   string
	}{
		{nil, text},
		{[]string{""}, text},
		{[]string{"*/*"}, text},
		{[]string{browser}, html},
		{[]string{"text/html"}, html},
		{[]string{"TEXT/HTML"}, html},
		{[]string{"application/xhtml+xml"}, html},
		{[]string{"text/*"}, html},
		{[]string{"text/plain"}, text},
		{[]string{"text/plain, text/html;q=0.9"}, text},
		{[]string{"text/html;q=0.8, text/plain"}, text},
		{[]string{"text/html, */*"}, html},
		{[]string{"*/*, text/html"}, html},
		{[]string{"text/html;q=0.5, */*"}, text},
		{[]string{"text/html;q=0"}, text},
		{[]string{"text/html;q=0, */*"}, text},
		{[]string{"text/*;q=0.5, text/html;q=0, application/json;q=0.1"}, text},
		{[]string{"application/json"}, problem},
		{[]string{"application/problem+json"}, problem},
		{[]string{"application/vnd.api+json"}, problem},
		{[]string{"application/*"}, problem},
		{[]string{axios}, problem},
		{[]string{"application/json;q=0.1, text/html;q=0.2"}, html},
		{[]string{"application/json;q=0.2, text/html;q=0.1"}, problem},
		{[]string{"application/*, text/html"}, html},            // the more specific
		{[]string{"text/html", "application/json;q=0.9"}, html}, // lines are one list
		{[]string{"application/json;q=0.9", "text/html"}, html},
		{[]string{"text/html;level=1;q=0.3, application/json;q=0.4"}, problem},
		{[]string{"text/html ; q = 0.3 , application/json"}, problem},
		{[]string{"text/html;Q=0.3, application/json;q=0.4"}, problem},
		{[]string{"image/png"}, text},
		{[]string{"image/png, */*;q=0.1"}, text},
		// Weights that are none count as nothing.
		{[]string{"text/html;q=x"}, text},
		{[]string{"text/html;q=-1"}, text},
		{[]string{"text/html;q=1.001"}, text},
		{[]string{"text/html;q=NaN"}, text},
		{[]string{"text/html;q=Inf"}, text},
		{[]string{"text/html;q="}, text},
		// And what is no list of types.
		{[]string{","}, text},
		{[]string{"html"}, text},
		{[]string{"/"}, text},
		{[]string{";q=1"}, text},
		{[]string{"text/html/x"}, text},
	} {
		r := get("h", "/")
		for _, a := range c.accept {
			r.Headers = append(r.Headers, [2]string{"accept", a})
		}
		reply := refusal(t, s, r, nil, noon)
		if got := header(&reply, "content-type"); got != c.want {
			t.Errorf("%q: %s, want %s", c.accept, got, c.want)
		}
		// One who sends JSON is answered in JSON if it does not say otherwise.
		sends := body(request("POST", "h", "/"), "application/json; charset=utf-8", "{}")
		sends.Headers = append(sends.Headers, r.Headers[3:]...)
		want := c.want
		if want == text && !strings.Contains(strings.Join(c.accept, ","), "text/plain") && !strings.Contains(strings.Join(c.accept, ","), "text/*") {
			want = problem
		}
		reply = refusal(t, s, sends, nil, noon)
		if got := header(&reply, "content-type"); got != want {
			t.Errorf("%q, sending JSON: %s, want %s", c.accept, got, want)
		}
	}
}

// Languages by Accept-Language: RFC 4647 section 3.4.
func TestLanguages(t *testing.T) {
	s := closed(t, `"retry_after":1`)
	for accept, want := range map[string]string{
		"": "en", "*": "en", "de": "de", "DE": "de", "de-CH": "de", "de-CH-1996": "de", "fr-CA, en;q=0.5": "fr", "en;q=0.5, it": "it",
		"es;q=0, zh-Hant-TW": "zh", "tlh": "en", "tlh, de;q=0.1": "de", "de;q=0": "en", "de;q=0.5, fr;q=0.5": "de", "deutsch": "en", "-": "en", "de-": "de", "x,": "en",
	} {
		reply := refusal(t, s, get("h", "/", "accept", browser, "accept-language", accept), nil, noon)
		if got := header(&reply, "content-language"); got != want || !bytes.Contains(reply.Body, []byte(`<html lang="`+want+`">`)) {
			t.Errorf("%q: %s, want %s", accept, got, want)
		}
	}
	// Every language has all of its phrases.
	for _, mode := range []maintenance.Mode{maintenance.NoAccess, maintenance.ReadOnly} {
		s := mustParse(t, `{"apps":[{"name":"default","activations":[{"id":"a","source":"manual","mode":"`+string(mode)+`","since":"2026-11-21T11:00:00Z","until":"2026-11-21T13:00:00Z"}]}]}`)
		seen := map[string]bool{}
		for _, lang := range strings.Fields(maintenance.BuiltinLanguages()) {
			reply := refusal(t, s, request("POST", "h", "/", "accept", browser, "accept-language", lang), nil, noon)
			page := string(reply.Body)
			if header(&reply, "content-language") != lang || seen[page] || strings.Contains(page, "{{") || strings.Contains(page, "<p></p>") || strings.Contains(page, `"until"> <`) || !strings.Contains(page, "2026-11-21T13:00:00Z") {
				t.Errorf("%s in %s: %s", lang, mode, page)
			}
			seen[page] = true
		}
	}
}

// An operator's own pages.
func TestOwnPages(t *testing.T) {
	page := func(html string) (string, []byte) { return maintenance.PageHash([]byte(html)), []byte(html) }
	known := map[string][]byte{}
	pages := maintenance.Pages(func(sha string) []byte { return known[sha] })
	hashes := map[string]string{}
	for lang, html := range map[string]string{
		"":      `<title>{{title}}</title>{{ message }}|{{mode}}|{{app}}|{{lang}}|{{until}}|{{until_text}}|{{unknown}}|{{ }}|{{{message}}}|{{message}`,
		"de":    `<p title="{{message}}">Hinweis: {{message}}</p>`,
		"pt-BR": `<p>{{message`,
	} {
		sha, data := page(html)
		known[sha], hashes[lang] = data, sha
	}
	hashes["fr"] = strings.Repeat("0", 64) // not fetched yet
	spec := maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp, Pages: hashes}, Activations: []maintenance.Activation{{
		ID: "a", Source: maintenance.SourceManual, Mode: maintenance.NoAccess, Message: `<script>alert("1")</script> & 'more' {{app}}`, Since: noon, Until: noon.Add(time.Hour),
	}}}
	s := compile(t, spec)
	const escaped = `&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt; &amp; &#39;more&#39; {{app}}`
	for accept, want := range map[string]struct{ lang, html string }{
		"":              {"", `<title>Down for maintenance</title>` + escaped + `|no-access|default||2026-11-21T13:00:00Z|Expected back:|{{unknown}}|{{ }}|{{{message}}}|{{message}`},
		"de-AT":         {"de", `<p title="` + escaped + `">Hinweis: ` + escaped + `</p>`},
		"pt-BR":         {"pt-BR", `<p>{{message`},
		"pt":            {"", `<title>Down`},
		"tlh, de;q=0.1": {"de", `<p title=`},
	} {
		r := get("h", "/", "accept", "text/html", "accept-language", accept)
		reply := refusal(t, s, r, pages, noon)
		if got := header(&reply, "content-language"); got != want.lang || !strings.HasPrefix(string(reply.Body), want.html) {
			t.Errorf("%q: %s\n%s\nwant %s", accept, got, reply.Body, want.html)
		}
	}
	// A page that is not there is no reason for none.
	for _, p := range []maintenance.Pages{nil, func(string) []byte { return nil }, pages} {
		reply := refusal(t, s, get("h", "/", "accept", "text/html", "accept-language", "fr"), p, noon)
		if header(&reply, "content-language") != "fr" || !bytes.Contains(reply.Body, []byte("Maintenance en cours")) {
			t.Errorf("%s: %s", header(&reply, "content-language"), reply.Body)
		}
	}
	want := slices.Sorted(maps.Values(hashes))
	if got := s.PageHashes(); !slices.Equal(got, want) {
		t.Errorf("PageHashes: %q, want %q", got, want)
	}
	// Whoever writes a page cannot make a worker stand still with it.
	begin := time.Now()
	sha, data := page(strings.Repeat("{{", maintenance.MaxPageBytes/2))
	spec.Pages = map[string]string{"": sha}
	reply := refusal(t, compile(t, spec), get("h", "/", "accept", "text/html"), func(string) []byte { return data }, noon)
	if took := time.Since(begin); took > time.Second || len(reply.Body) != len(data) {
		t.Errorf("%d bytes in %v", len(reply.Body), took)
	}
}

// Seconds, never 0, never too early: RFC 9110 section 10.2.3.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		fields string
		now    time.Time
		want   string
	}{
		{`"retry_after":0,"activations":[{"id":"a","source":"file","mode":"no-access","since":"2026-11-21T11:00:00Z"}]`, noon, "3600"},
		{`"retry_after":7,"activations":[{"id":"a","source":"file","mode":"no-access","since":"2026-11-21T11:00:00Z"}]`, noon, "7"},
		{`"retry_after":7,"activations":[{"id":"a","source":"file","mode":"no-access","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:01:00Z"}]`, noon, "60"},
		{`"activations":[{"id":"a","source":"file","mode":"no-access","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:01:00Z"}]`, noon.Add(time.Nanosecond), "60"},
		{`"activations":[{"id":"a","source":"file","mode":"no-access","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:01:00Z"}]`, noon.Add(time.Minute - time.Nanosecond), "1"},
		{`"activations":[{"id":"a","source":"file","mode":"no-access","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:00:00.001Z"}]`, noon, "1"},
		{`"activations":[{"id":"a","source":"file","mode":"no-access","since":"2026-11-21T11:00:00Z","until":"9999-12-31T23:59:59Z"}]`, noon, "9223372037"},
	} {
		s := mustParse(t, `{"apps":[{"name":"default",`+c.fields+`}]}`)
		reply := refusal(t, s, get("h", "/"), nil, c.now)
		if got := header(&reply, "retry-after"); got != c.want {
			t.Errorf("%s at %v: %s, want %s", c.fields, c.now, got, c.want)
		}
	}
	// A reply that is made a little after its decision still asks for a pause.
	s := mustParse(t, `{"apps":[{"name":"default","activations":[{"id":"a","source":"file","mode":"no-access","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:01:00Z"}]}]}`)
	r := get("h", "/")
	d := s.Decide(r, noon)
	reply := d.Reply(r, nil, noon.Add(time.Hour))
	if got := header(&reply, "retry-after"); got != "1" {
		t.Errorf("afterwards: %s", got)
	}
}

// A gRPC-Web body is frames: a byte that tells trailers from messages, a length, and
// that much. In the text form all of it is in base64.
func TestGRPCWebBody(t *testing.T) {
	s := closed(t, `"retry_after":1`)
	for kind, want := range map[string]string{
		"application/grpc-web":            "grpc-status:14\r\ngrpc-message:We are down for maintenance and will be back soon.\r\n",
		"application/grpc-web+proto":      "grpc-status:14\r\ngrpc-message:We are down for maintenance and will be back soon.\r\n",
		"application/grpc-web-text":       "",
		"application/grpc-web-text+proto": "",
	} {
		reply := refusal(t, s, request("POST", "h", "/shop.v1.Shop/Get", "content-type", kind), nil, noon)
		frame := reply.Body
		if strings.Contains(kind, "text") {
			var err error
			if frame, err = base64.StdEncoding.DecodeString(string(frame)); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if len(frame) < 5 || frame[0] != 0x80 || int(binary.BigEndian.Uint32(frame[1:])) != len(frame)-5 || string(frame[5:]) != want {
			t.Errorf("%s: %q, want a frame of trailers of %q", kind, frame, want)
		}
		if header(&reply, "grpc-status") != "14" || header(&reply, "content-type") != kind {
			t.Errorf("%s: %v", kind, reply.Headers)
		}
	}
}

// What comes from the client and goes back to it cannot become anything else.
func TestReplyEchoes(t *testing.T) {
	s := closed(t, `"cors":{"origins":["https://app.example.com"]}`)
	for _, contentType := range []string{"application/grpc-web<script>", "application/grpc-web, text/html", "application/grpc-webx", "application/grpcx", "application/grpc-web+<b>"} {
		reply := refusal(t, s, request("POST", "h", "/", "content-type", contentType), nil, noon)
		if got := header(&reply, "content-type"); got != "text/plain; charset=utf-8" || reply.Status != 503 {
			t.Errorf("%s: %d %s", contentType, reply.Status, got)
		}
	}
	for _, origin := range []string{"null", "https://app.example.com.evil.example", "https://app.example.com/", "HTTPS://APP.EXAMPLE.COM", "http://app.example.com", "*", "https://app.example.com, https://evil.example"} {
		reply := refusal(t, s, get("h", "/", "origin", origin), nil, noon)
		for _, h := range reply.Headers {
			if strings.HasPrefix(h[0], "access-control-") {
				t.Errorf("origin %s is told %s", origin, h)
			}
		}
		if !strings.Contains(header(&reply, "vary"), "Origin") {
			t.Error("the reply does not vary by origin")
		}
	}
}

// The form in which the proxy takes headers.
func TestPairs(t *testing.T) {
	reply := maintenance.Reply{Headers: [][2]string{{"a", "bc"}, {"def", ""}}}
	if got, want := string(reply.EncodeHeaders()), "\x02\x00\x00\x00"+"\x01\x00\x00\x00\x02\x00\x00\x00"+"\x03\x00\x00\x00\x00\x00\x00\x00"+"a\x00bc\x00"+"def\x00\x00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Whatever a client says that it accepts, it is answered in a form that it has not
// ruled out where there is one, and in a language that there is.
func FuzzAccept(f *testing.F) {
	s := closed(f, `"retry_after":1`)
	languages := strings.Fields(maintenance.BuiltinLanguages())
	for _, seed := range [][3]string{
		{browser, "de-CH,de;q=0.9,en;q=0.8", ""}, {axios, "*", "application/json"}, {"*/*", "", "application/grpc"}, {"text/html;q=0,*/*", "de;q=0", "application/grpc-web+proto"},
		{"application/json;q=0.0001", "zh-Hant-x-a", "application/json;"}, {"a/b;q=1;q=0,,;=/", "-;q=,", "x"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, accept, language, contentType string) {
		r := request("POST", "h", "/x", "accept", accept, "accept-language", language, "content-type", contentType)
		reply := refusal(t, s, r, nil, noon)
		kind, _, _ := strings.Cut(header(&reply, "content-type"), ";")
		switch kind {
		case "text/html":
			if !slices.Contains(languages, header(&reply, "content-language")) {
				t.Errorf("language %q", header(&reply, "content-language"))
			}
			lower := strings.ToLower(accept)
			if !strings.Contains(lower, "html") && !strings.Contains(lower, "text/*") && !strings.Contains(lower, "application/*") {
				t.Errorf("a page for %q", accept)
			}
		case "application/problem+json":
			if !json.Valid(reply.Body) {
				t.Errorf("not valid: %s", reply.Body)
			}
		case "text/plain":
		case "":
			if reply.GRPCStatus != 14 {
				t.Errorf("no type, and gRPC status %d", reply.GRPCStatus)
			}
		default:
			if !strings.HasPrefix(kind, "application/grpc-web") || reply.Status != http.StatusOK || len(reply.Body) == 0 {
				t.Errorf("%d %s", reply.Status, kind)
			}
		}
		if strings.TrimSpace(accept) == "text/html" && kind != "text/html" && kind != "" && !strings.HasPrefix(kind, "application/grpc") {
			t.Errorf("%s for one who takes only pages", kind)
		}
	})
}

// A page of nothing but placeholders for a long message does not grow without bound.
func TestFilledInPagesAreBounded(t *testing.T) {
	html := []byte(strings.Repeat("{{message}}", maintenance.MaxPageBytes/len("{{message}}")))
	spec := maintenance.App{
		Spec: maintenance.Spec{Name: maintenance.DefaultApp, Pages: map[string]string{"": maintenance.PageHash(html)}},
		Activations: []maintenance.Activation{{ID: "a", Source: maintenance.SourceManual, Mode: maintenance.NoAccess, Since: noon,
			Message: strings.Repeat("\"", maintenance.MaxMessageBytes)}},
	}
	reply := refusal(t, compile(t, spec), get("h", "/", "accept", "text/html"), func(string) []byte { return html }, noon)
	if n := len(reply.Body); n > 3*maintenance.MaxPageBytes {
		t.Errorf("%d bytes", n)
	}
}

// Only the page that is shown is asked for: none of another language, and none at all where
// the reply is no page.
func TestOnlyTheShownPageIsAskedFor(t *testing.T) {
	spec := maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp, Pages: map[string]string{}}, Activations: []maintenance.Activation{{
		ID: "a", Source: maintenance.SourceManual, Mode: maintenance.NoAccess, Since: noon,
	}}}
	for i, lang := range []string{"", "de", "fr", "it"} {
		spec.Pages[lang] = strings.Repeat(strconv.Itoa(i), 64)
	}
	s := compile(t, spec)
	for _, c := range []struct {
		accept, language string
		want             []string
	}{
		{"text/html", "fr", []string{spec.Pages["fr"]}},
		{"text/html", "ja", []string{spec.Pages[""]}},
		{"application/json", "fr", nil},
		{"text/plain", "fr", nil},
	} {
		var asked []string
		refusal(t, s, get("h", "/", "accept", c.accept, "accept-language", c.language), func(sha string) []byte {
			asked = append(asked, sha)
			return nil
		}, noon)
		if !slices.Equal(asked, c.want) {
			t.Errorf("%s in %s: asked for %q, want %q", c.accept, c.language, asked, c.want)
		}
	}
}

// What is refused for a reason that is soon over says so in place of the maintenance's
// message, and asks for a retry in seconds and not at the maintenance's end.
func TestRepliesThatAskForARetrySoon(t *testing.T) {
	s := readOnly(t, `"retry_after":7200`)
	for _, rule := range []maintenance.Rule{maintenance.RuleHeldLimit, maintenance.RuleBodyTimeout, maintenance.RuleBodyUnread} {
		for _, accept := range []string{"text/html", "application/json", "text/plain"} {
			r := request("POST", "h", "/graphql", "accept", accept, "content-type", "application/json")
			d := s.Decide(r, noon)
			d.Verdict, d.Rule, d.Until = maintenance.Refuse, rule, noon.Add(time.Hour)
			reply := d.Reply(r, nil, noon)
			if reply.Status != 503 || header(&reply, "retry-after") != "5" || !strings.Contains(string(reply.Body), rule.Explain()) {
				t.Errorf("%s as %s: %d, retry after %s, %s", rule, accept, reply.Status, header(&reply, "retry-after"), reply.Body)
			}
		}
	}
}
