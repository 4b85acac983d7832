// Package adversary generates states and requests with which tests try to get a request past a
// refusal. Everything is drawn from a [Tape], so that a seed, or the input of a fuzzer, determines
// one request and what is done to it.
//
// A test draws a [World], which selects the state of the apps (which are in maintenance, and what
// their rules allow), draws a request, and asks the core, package maintenance, for its decision
// with [Judge]. Then it changes the request, and expects the core to stay at a refusal; or it sends
// the request through the module or Envoy, and expects the same decision.
//
// adversary.go draws states and requests and asks the core about them; respell.go writes a request
// in other ways that some server reads alike.
package adversary

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A Tape is a sequence of choices. Each draw consumes one of them. The methods that draw something
// are named after what they draw.
type Tape struct{ choices []byte }

// maxChoices is the greatest number of alternatives of one draw, since a choice is a byte.
const maxChoices = 256

// NewTape returns a tape of these choices. Once they are consumed, every draw takes the first of
// its alternatives.
func NewTape(choices []byte) *Tape { return &Tape{choices} }

// Tapes makes n tapes from one seed and calls each with one tape after the other, until each
// returns false.
func Tapes(seed uint64, n int, each func(*Tape) (goOn bool)) {
	const sequence = 2026 // any number: the second half of the generator's seed
	const length = 48     // more choices than one test draws
	random := rand.New(rand.NewPCG(seed, sequence))

	for range n {
		choices := make([]byte, length)
		for i := range choices {
			choices[i] = byte(random.Uint32())
		}

		if !each(NewTape(choices)) {
			return
		}
	}
}

// UpTo draws a number from 0 to n-1. n must be from 1 to maxChoices.
func (t *Tape) UpTo(n int) int {
	if len(t.choices) == 0 {
		return 0
	}

	c := int(t.choices[0])
	t.choices = t.choices[1:]
	return c % n
}

// One draws an element of a list.
func One[T any](t *Tape, of []T) T { return of[t.UpTo(len(of))] }

// A World selects one of the states that [World.Document] can return.
type World struct {
	// Mode is the mode of the apps gated and shop, and of default if Closed is set.
	Mode maintenance.Mode
	// Permissive allows upgrades. Otherwise event streams are refused.
	Permissive bool
	// Closed puts the app default into Mode, too.
	Closed bool
}

// World draws a world.
func (t *Tape) World() World {
	modes := []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess}
	mode := One(t, modes)
	permissive := t.UpTo(2) == 1
	closed := t.UpTo(2) == 1
	return World{Mode: mode, Permissive: permissive, Closed: closed}
}

// Document returns the state as the JSON that [maintenance.Parse] reads. It has every kind of rule
// that passes or refuses a request: the app gated is chosen by path, shop by host, and default gets
// all other requests.
func (w World) Document() string {
	readOnly := `"safe_rpcs":["/shop.v1.Catalog/List"],` +
		`"write_through":[{"methods":["POST"],"prefix":"/gated/search"}],` +
		`"get_writes":[{"path":"/gated/logout"},{"path":"/logout"}]`
	graphql := `"paths":["/graphql","/gated/graphql"]`
	if w.Permissive {
		readOnly += `,"upgrades":"allow"`
		graphql += `,"upgrades":"allow"`
	} else {
		readOnly += `,"event_streams":"refuse"`
	}

	rules := `"exempt":[{"methods":["GET"],"path":"/gated/healthz"},` +
		`{"methods":["POST"],"prefix":"/gated/hooks"},{"prefix":"/gated/static"}],` +
		`"read_only":{` + readOnly + `},"graphql":{` + graphql + `},
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

// What requests are drawn from. Repeated elements are drawn more often.
var (
	methods = []string{"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "CONNECT", "post", "TRACE"}
	hosts   = []string{"open.example.com", "shop.example.com", "SHOP.example.com.:443"}
	paths   = []string{
		"/gated", "/gated/x", "/gated/orders/7", "/open", "/", "/graphql", "/gated/graphql", "/gated/healthz",
		"/gated/hooks/stripe", "/gated/static/app.js", "/gated/search", "/gated/logout", "/logout",
		"/shop.v1.Catalog/List", "/gated/graphql/persisted/7",
	}
	queries = []string{"", "", "", "?a=b", "?query={a}", "?query=mutation{b}", "?_method=DELETE", "?op=GetUser", "?query={a}&_method=PUT"}
	bodies  = []struct{ contentType, text string }{
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

// Request draws a request: a method, a host, a path with a query, a body, and up to two headers. Of
// the pseudo-headers, its Headers contain at most :protocol.
func (t *Tape) Request() *maintenance.Request {
	r := &maintenance.Request{
		Method: One(t, methods), Authority: One(t, hosts), Path: One(t, paths) + One(t, queries), EndStream: true,
	}

	if b := One(t, bodies); b.text != "" {
		if b.contentType != "" {
			r.Headers = append(r.Headers, [2]string{"content-type", b.contentType})
		}
		r.Headers = append(r.Headers, [2]string{"transfer-encoding", "chunked"})
		r.Body, r.EndStream = []byte(b.text), false
	}

	for range t.UpTo(3) {
		r.Headers = append(r.Headers, One(t, headers))
	}

	return r
}

// Header draws a header, whose name it may spell in another way that some gateways read alike.
func (t *Tape) Header() [2]string {
	h := One(t, headers)
	h[0] = t.RespellName(h[0])
	return h
}

// Stranger has the attributes of a client of which the proxy knows only the address.
type Stranger struct{ maintenance.NoAttributes }

func (Stranger) SourceAddress() string { return "192.0.2.1:1234" }

// Judge returns the decision of a state on the request of a [Stranger]. If the decision depends on
// the body, the core asks for it (NeedBody) and decides again when it has it, as the filter does.
func Judge(state *maintenance.State, r *maintenance.Request, now time.Time) maintenance.Decision {
	r = Fresh(r)
	r.Attributes = Stranger{}
	d := state.Decide(r, now)

	if d.Verdict == maintenance.NeedBody {
		// The filter reads one byte more than the maximum, to notice a body that is longer.
		r.Body, r.BodyRead = r.Body[:min(len(r.Body), d.MaxBody+1)], true
		d = state.Decide(r, now)
	}

	return d
}

// Fresh returns a copy of a request without what earlier decisions have cached in it, so that the
// copy can be changed and decided again.
func Fresh(r *maintenance.Request) *maintenance.Request {
	return &maintenance.Request{
		Method: r.Method, Authority: r.Authority, Path: r.Path, Headers: slices.Clone(r.Headers),
		EndStream: r.EndStream, Body: r.Body, Attributes: r.Attributes,
	}
}

// Describe returns a request as one line of text, for the message of a failed test.
func Describe(r *maintenance.Request) string {
	return fmt.Sprintf("%s %s %s %q ended %v, body %q", r.Method, r.Authority, r.Path, r.Headers, r.EndStream, r.Body)
}
