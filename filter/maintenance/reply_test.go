package maintenance_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/drydock-proxy/drydock/e2e/golden"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests the reply to a refused request, for each kind of client.

// The header Accept as Firefox and axios, a library for scripts, send it.
const (
	browserAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
	axiosAccept   = "application/json, text/plain, */*"
)

// headerValues returns the values of a header of the reply, with " | " between them.
func headerValues(reply *maintenance.Reply, name string) string {
	var values []string
	for _, h := range reply.Headers {
		if h[0] == name {
			values = append(values, h[1])
		}
	}
	return strings.Join(values, " | ")
}

// mustRefuse decides on a request at the time now, with its body if the decision needs it, and
// returns the reply. The test fails if the request is not refused.
func mustRefuse(t testing.TB, s *maintenance.State, r *maintenance.Request, pages maintenance.Pages, now time.Time) maintenance.Reply {
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

// TestEachClientIsAnsweredInItsForm compares the reply to each kind of client with
// testdata/replies.golden, which has the name of the case, the status, the headers and the body.
// Run the test with -update to write the file.
func TestEachClientIsAnsweredInItsForm(t *testing.T) {
	const cors = `"cors":{"origins":["https://app.example.com"]}`
	// The message has characters that HTML, JSON and gRPC must escape.
	const message = `"activations":[{"id":"a","source":"manual","mode":"MODE","message":"We move the \"warehouse\" <now> & are back at 3 — promised","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:30:00Z"}]`
	// Three states: with a message and a known end, with neither, and in read-only.
	noAccess := mustParse(t, `{"apps":[{"name":"default",`+cors+`,`+strings.Replace(message, "MODE", "no-access", 1)+`}]}`)
	plain := mustParse(t, `{"apps":[{"name":"default",`+activationJSON(maintenance.NoAccess)+`}]}`)
	writes := readOnlyState(t, cors)
	preflight := func(origin string) *maintenance.Request {
		return request("OPTIONS", "h", "/api", "origin", origin, "access-control-request-method", "PUT", "access-control-request-headers", "authorization,content-type")
	}
	var got bytes.Buffer

	for _, c := range []struct {
		name  string
		state *maintenance.State
		r     *maintenance.Request
	}{
		{"browser", noAccess, get("h", "/", "accept", browserAccept)},
		{"browser, nothing said about why and how long", plain, get("h", "/", "accept", browserAccept, "accept-language", "en-GB,en;q=0.9")},
		{"browser that posts a form in read-only", writes, withBody(request("POST", "h", "/order", "accept", browserAccept), "application/x-www-form-urlencoded", "a=b")},
		{"curl", noAccess, get("h", "/", "accept", "*/*")},
		{"curl that sends JSON", noAccess, withBody(request("POST", "h", "/", "accept", "*/*"), "application/json", "{}")},
		{"axios", noAccess, get("h", "/", "accept", axiosAccept)},
		{"a client that asks for JSON, nothing said", plain, get("h", "/", "accept", "application/json")},
		{"a write in read-only", writes, request("DELETE", "h", "/orders/7", "accept", "application/json")},
		{"nothing in particular", noAccess, get("h", "/")},
		{"HEAD", noAccess, request("HEAD", "h", "/", "accept", browserAccept)},
		{"gRPC", noAccess, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc+proto", "te", "trailers")},
		{"gRPC-Web", noAccess, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc-web+proto", "accept", "application/grpc-web+proto", "x-grpc-web", "1", "origin", "https://app.example.com")},
		{"gRPC-Web-text", noAccess, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc-web-text", "accept", "application/grpc-web-text")},
		{"GraphQL", noAccess, withBody(request("POST", "h", "/graphql", "accept", "*/*"), "application/json", `{"query":"{a}"}`)},
		{"GraphQL that takes its own type", writes, withBody(request("POST", "h", "/graphql", "accept", "application/graphql-response+json, application/json;q=0.9"), "application/json", `{"query":"mutation{b}"}`)},
		{"GraphQL that only takes JSON", writes, withBody(request("POST", "h", "/graphql", "accept", "application/graphql-response+json;q=0, application/json"), "application/json", `{"query":"mutation{b}"}`)},
		{"GraphQL, too large", writes, withBody(request("POST", "h", "/graphql", "accept", "application/json"), "application/json", strings.Repeat(" ", 1<<20+1))},
		{"GraphQL by hash alone, whose client sends the document next", writes, withBody(request("POST", "h", "/graphql", "accept", "application/json"), "application/json", `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"`+strings.Repeat("0", 64)+`"}}}`)},
		{"GraphQL that is cut off, to a client that takes its own type", writes, withBody(request("POST", "h", "/graphql", "accept", "application/graphql-response+json"), "application/json", `{"query":"{a`)},
		{"GraphQL without a document, from a listed origin", writes, withBody(request("POST", "h", "/graphql", "accept", "application/json", "origin", "https://app.example.com"), "application/json", `{"qeury":"{a}"}`)},
		{"GraphQL that cannot be parsed", writes, withBody(request("POST", "h", "/graphql/"), "application/json", `{"query":"{mutation"}`)},
		{"GraphQL as text", writes, withBody(request("POST", "h", "/graphql", "accept", "*/*"), "text/plain;charset=UTF-8", `{"query":"{a}"}`)},
		{"GraphQL as a form", writes, withBody(request("POST", "h", "/graphql", "accept", "*/*"), "application/x-www-form-urlencoded", `query={a}`)},
		{"GraphQL in a browser's address bar", writes, get("h", "/graphql?query=mutation{b}", "accept", browserAccept)},
		{"a listed origin", noAccess, get("h", "/", "accept", "application/json", "origin", "https://app.example.com")},
		{"an unlisted origin", noAccess, get("h", "/", "accept", "application/json", "origin", "https://evil.example.com")},
		{"preflight of a listed origin", noAccess, preflight("https://app.example.com")},
		{"preflight of an unlisted origin", noAccess, preflight("https://evil.example.com")},
		{"preflight of no headers", noAccess, request("OPTIONS", "h", "/", "origin", "https://app.example.com", "access-control-request-method", "GET")},
		{"OPTIONS that is not a preflight", noAccess, request("OPTIONS", "h", "/", "origin", "https://app.example.com")},
	} {
		reply := mustRefuse(t, c.state, c.r, nil, noon)
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

		// A binary body, of gRPC-Web, is written with escapes.
		text := string(bytes.TrimSuffix(reply.Body, []byte("\n")))
		if !utf8.ValidString(text) || strings.Contains(text, "\r") {
			text = strconv.Quote(text)
		}

		fmt.Fprintf(&got, "\n%s\n\n", text)

		if kind := headerValues(&reply, "content-type"); strings.Contains(kind, "json") && !json.Valid(reply.Body) {
			t.Errorf("%s: not valid: %s", c.name, reply.Body)
		}
	}

	golden.Compare(t, "testdata/replies.golden", got.String())
}

// TestMalformedGraphQLIsAClientError checks that a request which no GraphQL server can answer gets
// a client error (4xx), which does not mention the maintenance, and that any other request gets a
// Retry-After. Only on a GraphQL path itself is it known that the request must be GraphQL, and only
// a GraphQL client is told so, and not a browser.
func TestMalformedGraphQLIsAClientError(t *testing.T) {
	const json = "application/json"
	// empty returns a POST with an empty body, which is not a GraphQL request.
	empty := func(path string, headers ...string) *maintenance.Request {
		return withBody(request("POST", "h", path, headers...), json, "")
	}
	two := readOnlyState(t, `"graphql":{"paths":["/graphql","/shop/graphql"]}`)

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
		{"no type", two, withBody(request("POST", "h", "/graphql"), "", `{"query":"{a}"}`), 415},
		{"GET without a document", two, get("h", "/graphql?operationName=A"), 400},
		{"a mutation", two, withBody(request("POST", "h", "/graphql"), json, `{"query":"mutation{b}"}`), 503},
		{"a mutation by GET", two, get("h", "/graphql?query=mutation{b}"), 503},
		{"an upload", two, withBody(request("POST", "h", "/graphql"), "multipart/form-data; boundary=x", ""), 503},
		{"another method", two, request("PUT", "h", "/graphql"), 503},
		{"too large", two, withBody(request("POST", "h", "/graphql"), json, strings.Repeat(" ", 1<<20+1)), 413},

		{"below the path, where anything may be", two, empty("/graphql/upload"), 503},
		{"in another spelling, which some servers route to something else", two, empty("/GraphQL"), 503},
		{"an escaped path", two, empty("/%67raphql"), 503},
		{"a path that a gateway may have cut", two, empty("/graphql", "x-forwarded-prefix", "/graphql"), 503},
		{"not GraphQL", two, empty("/orders"), 503},
		{"a browser", two, empty("/graphql", "accept", browserAccept), 503},
		{"gRPC", two, withBody(request("POST", "h", "/graphql"), "application/grpc", ""), 503},
		{"no-access", mustParse(t, `{"apps":[{"name":"default",`+activationJSON(maintenance.NoAccess)+`}]}`), empty("/graphql"), 503},
	} {
		reply := mustRefuse(t, c.state, c.r, nil, noon)
		if reply.Status != c.status {
			t.Errorf("%s: %d, want %d", c.name, reply.Status, c.status)
		}

		mentionsMaintenance := bytes.Contains(reply.Body, []byte("MAINTENANCE")) || bytes.Contains(reply.Body, []byte("maintenance")) || bytes.Contains(reply.Body, []byte("retry_after"))
		hasRetryAfter := headerValues(&reply, "retry-after") != ""
		isClientError := c.status == 400 || c.status == 415
		if isClientError && (mentionsMaintenance || hasRetryAfter) {
			t.Errorf("%s: a client error mentions the maintenance: %v %s", c.name, reply.Headers, reply.Body)
		}
		if !isClientError && !hasRetryAfter {
			t.Errorf("%s: no Retry-After: %v", c.name, reply.Headers)
		}
		if headerValues(&reply, "cache-control") != "no-store" {
			t.Errorf("%s may be cached", c.name)
		}
	}
}

// Retry-After is in seconds (RFC 9110 section 10.2.3). It is rounded up, so that a client never
// comes back before the end of the mode, and it is at least 1. Without a known end it is the
// retry_after of the app, and without that 3600. The last case has the largest time.Duration, 292
// years.
func TestRetryAfterIsNeverTooEarly(t *testing.T) {
	for _, c := range []struct {
		fields string // of the app
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
		reply := mustRefuse(t, s, get("h", "/"), nil, c.now)
		if got := headerValues(&reply, "retry-after"); got != c.want {
			t.Errorf("%s at %v: %s, want %s", c.fields, c.now, got, c.want)
		}
	}

}

// A reply may be made after the end of the mode, if the decision was before it.
func TestRetryAfterOfALateReplyIsOneSecond(t *testing.T) {
	s := mustParse(t, `{"apps":[{"name":"default","activations":[{"id":"a","source":"file","mode":"no-access","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:01:00Z"}]}]}`)
	r := get("h", "/")
	d := s.Decide(r, noon)
	reply := d.Reply(r, nil, noon.Add(time.Hour))

	if got := headerValues(&reply, "retry-after"); got != "1" {
		t.Errorf("got %s, want 1", got)
	}
}

// A temporary refusal gives its reason instead of the message of the activation, and asks for a
// retry in a few seconds instead of at the end of the maintenance.
func TestTemporaryRefusalsAskForARetrySoon(t *testing.T) {
	s := readOnlyState(t, `"retry_after":7200`)
	for _, rule := range []maintenance.Rule{maintenance.RuleHeldLimit, maintenance.RuleBodyTimeout, maintenance.RuleBodyUnread} {
		for _, accept := range []string{"text/html", "application/json", "text/plain"} {
			r := request("POST", "h", "/graphql", "accept", accept, "content-type", "application/json")
			d := s.Decide(r, noon)
			d.Verdict, d.Rule, d.Until = maintenance.Refuse, rule, noon.Add(time.Hour)
			reply := d.Reply(r, nil, noon)

			if reply.Status != 503 || headerValues(&reply, "retry-after") != "5" || !strings.Contains(string(reply.Body), rule.Explain()) {
				t.Errorf("%s as %s: %d, retry after %s, %s", rule, accept, reply.Status, headerValues(&reply, "retry-after"), reply.Body)
			}
		}
	}
}

// A gRPC-Web body consists of frames: a byte that distinguishes trailers from messages, a length,
// and as many bytes. The text form is in base64.
func TestGRPCWebBodyIsAFrameOfTrailers(t *testing.T) {
	s := noAccessState(t, `"retry_after":1`)
	for kind, want := range map[string]string{
		"application/grpc-web":            "grpc-status:14\r\ngrpc-message:We are down for maintenance and will be back soon.\r\n",
		"application/grpc-web+proto":      "grpc-status:14\r\ngrpc-message:We are down for maintenance and will be back soon.\r\n",
		"application/grpc-web-text":       "",
		"application/grpc-web-text+proto": "",
	} {
		reply := mustRefuse(t, s, request("POST", "h", "/shop.v1.Shop/Get", "content-type", kind), nil, noon)
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
		if headerValues(&reply, "grpc-status") != "14" || headerValues(&reply, "content-type") != kind {
			t.Errorf("%s: %v", kind, reply.Headers)
		}
	}
}

// A reply repeats the content type of a gRPC-Web request and the origin, because clients need them.
// It must not repeat any other value of these headers, which could be an attack on the client.
func TestRepliesEchoOnlyKnownValues(t *testing.T) {
	s := noAccessState(t, `"cors":{"origins":["https://app.example.com"]}`)
	for _, contentType := range []string{"application/grpc-web<script>", "application/grpc-web, text/html", "application/grpc-webx", "application/grpcx", "application/grpc-web+<b>"} {
		reply := mustRefuse(t, s, request("POST", "h", "/", "content-type", contentType), nil, noon)
		if got := headerValues(&reply, "content-type"); got != "text/plain; charset=utf-8" || reply.Status != 503 {
			t.Errorf("%s: %d %s", contentType, reply.Status, got)
		}
	}

	for _, origin := range []string{"null", "https://app.example.com.evil.example", "https://app.example.com/", "HTTPS://APP.EXAMPLE.COM", "http://app.example.com", "*", "https://app.example.com, https://evil.example"} {
		reply := mustRefuse(t, s, get("h", "/", "origin", origin), nil, noon)
		for _, h := range reply.Headers {
			if strings.HasPrefix(h[0], "access-control-") {
				t.Errorf("origin %s is told %s", origin, h)
			}
		}

		if !strings.Contains(headerValues(&reply, "vary"), "Origin") {
			t.Error("the reply does not vary by origin")
		}
	}
}

// TestHeadersAreEncodedForProxyWasm checks the encoding of maps in proxy-wasm.
func TestHeadersAreEncodedForProxyWasm(t *testing.T) {
	reply := maintenance.Reply{Headers: [][2]string{{"a", "bc"}, {"def", ""}}}
	if got, want := string(reply.EncodeHeaders()), "\x02\x00\x00\x00"+"\x01\x00\x00\x00\x02\x00\x00\x00"+"\x03\x00\x00\x00\x00\x00\x00\x00"+"a\x00bc\x00"+"def\x00\x00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
