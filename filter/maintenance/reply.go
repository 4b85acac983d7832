package maintenance

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// Reply is the answer to a refused request.
type Reply struct {
	Status  int
	Headers [][2]string // names in lower case
	// Body is there for HEAD, too: whoever sends the reply leaves it out, and needs it
	// for a GET's headers (RFC 9110 section 9.3.2).
	Body []byte
	// GRPCStatus is -1 but for gRPC, where the proxy makes the trailers-only answer
	// and takes the body for its message.
	GRPCStatus int
}

const grpcUnavailable = 14 // google.rpc.Code.UNAVAILABLE

// Reply makes the answer to a request that the decision refused.
func (d *Decision) Reply(r *Request, pages Pages, now time.Time) Reply {
	headers, listed := d.cors(r)
	if method := r.Header("access-control-request-method"); listed && r.Method == "OPTIONS" && method != "" {
		return preflight(r, method, headers)
	}
	if listed {
		headers = append(headers, [2]string{"access-control-expose-headers", "Retry-After, Grpc-Status, Grpc-Message"})
	}

	const vary = "Accept, Accept-Language, Origin"
	accepted := parseAccept(r.headers("accept"))
	form := accepted.prefer(strings.HasPrefix(strings.ToLower(r.Header("content-type")), "application/json"))
	rpc := grpcType(r)
	if status := d.clientError(r); status != 0 && rpc == "" && form != formHTML {
		headers = append(headers, [2]string{"vary", vary})
		if status == 415 { // RFC 9110 section 15.5.16
			headers = append(headers, [2]string{"accept", "application/json"})
		}
		headers = append(headers, [2]string{"content-type", graphQLType(accepted)})
		return Reply{Status: status, Headers: headers, Body: d.graphQLClientError(), GRPCStatus: -1}
	}

	headers = append(headers,
		[2]string{"retry-after", strconv.Itoa(d.retryAfter(now))},
		[2]string{"vary", vary})
	if rpc != "" {
		return d.grpc(rpc, headers)
	}

	reply := Reply{Status: 503, GRPCStatus: -1}
	if d.Rule == Rule(graphql.RuleLimitBody) {
		reply.Status = 413
	}
	kind, lang, body := d.body(r, pages, accepted, form, reply.Status, now)
	headers = append(headers, [2]string{"content-type", kind})
	if lang != "" {
		headers = append(headers, [2]string{"content-language", lang})
	}
	reply.Headers, reply.Body = headers, body
	return reply
}

// cors returns the headers that every reply has, and whether the request comes from an origin that the app lists.
func (d *Decision) cors(r *Request) (headers [][2]string, listed bool) {
	headers = append(make([][2]string, 0, 10), [2]string{"cache-control", "no-store"}, [2]string{"x-drydock-rule", string(d.Rule)})
	origin := r.Header("origin")
	if origin == "" || !slices.Contains(d.app.spec.CORS.Origins, origin) {
		return headers, false
	}
	return append(headers,
		[2]string{"access-control-allow-origin", origin},
		[2]string{"access-control-allow-credentials", "true"}), true
}

// preflight answers a preflight so that the script gets to read the 503 itself; with a max-age of 0 so that nothing of
// it outlives the maintenance.
func preflight(r *Request, method string, headers [][2]string) Reply {
	headers = append(headers,
		[2]string{"access-control-allow-methods", method},
		[2]string{"access-control-max-age", "0"},
		[2]string{"vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"})
	if asked := strings.Join(r.headers("access-control-request-headers"), ","); asked != "" {
		headers = append(headers, [2]string{"access-control-allow-headers", asked})
	}
	return Reply{Status: 204, Headers: headers, GRPCStatus: -1}
}

// clientError returns the 4xx status of a request that is wrong for every GraphQL server, so that waiting would not
// help it, or 0. It is 0 below a GraphQL path, and wherever else a server may serve something other than GraphQL.
func (d *Decision) clientError(r *Request) int {
	if !d.graphql {
		return 0
	}
	status := graphql.Rule(d.Rule).ClientError()
	if status == 0 || !slices.ContainsFunc(d.app.graphql, func(p graphqlPath) bool { return p.isSurely(r.read()) }) {
		return 0
	}
	return status
}

// grpcType returns the media type of a gRPC or gRPC-Web request, or "".
func grpcType(r *Request) string {
	name, ok := r.only("content-type")
	name, _, _ = strings.Cut(name, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	rest, found := strings.CutPrefix(name, "application/grpc")
	if codec, web := strings.CutPrefix(rest, "-web"); web {
		rest = strings.TrimPrefix(codec, "-text")
	}
	if ok && found && (rest == "" || rest[0] == '+' && token(rest)) {
		return name
	}
	return ""
}

// grpc answers a gRPC or gRPC-Web request of the media type rpc.
func (d *Decision) grpc(rpc string, headers [][2]string) Reply {
	if !strings.HasPrefix(rpc, "application/grpc-web") {
		return Reply{Status: 503, Headers: headers, Body: []byte(d.text()), GRPCStatus: grpcUnavailable}
	}

	// Trailers-only: clients take the status from the headers. The body has it again for
	// those that look there first, and because Envoy takes the content type from a reply
	// without a body, which some clients then refuse.
	status, message := strconv.Itoa(grpcUnavailable), grpcMessage(d.text())
	headers = append(headers, [2]string{"content-type", rpc}, [2]string{"grpc-status", status}, [2]string{"grpc-message", message})
	body := grpcWebTrailers("grpc-status:" + status + "\r\ngrpc-message:" + message + "\r\n")
	if strings.HasPrefix(rpc, "application/grpc-web-text") {
		body = []byte("gAAAAAA=") // no trailers: who speaks this form looks at the headers
	}
	return Reply{Status: 200, Headers: headers, Body: body, GRPCStatus: -1}
}

// grpcWebTrailers is the last frame of a gRPC-Web body (gRPC-Web protocol, "Protocol
// differences vs gRPC over HTTP2").
func grpcWebTrailers(trailers string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0x80}, uint32(len(trailers)))
	return append(b, trailers...)
}

// grpcMessage percent-encodes as the gRPC protocol over HTTP/2 asks for.
func grpcMessage(s string) string {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

// retryAfter is in seconds, at least 1: 0 would ask for a retry at once.
func (d *Decision) retryAfter(now time.Time) int {
	if d.Rule.passing() {
		return passingRetryAfter
	}
	if !d.Until.IsZero() {
		left := d.Until.Sub(now) // saturates, so nothing may be added to it
		seconds := int(left / time.Second)
		if left%time.Second > 0 {
			seconds++
		}
		return max(1, seconds)
	}
	if d.app.spec.RetryAfter > 0 {
		return d.app.spec.RetryAfter
	}
	return DefaultRetryAfter
}

// passingRetryAfter is said by refusals that are not the maintenance's, in seconds.
const passingRetryAfter = 5

// text is what a person is told where there is no page.
func (d *Decision) text() string {
	if d.Rule.passing() {
		return d.Rule.Explain()
	}
	if d.Activation != nil && d.Activation.Message != "" {
		return d.Activation.Message
	}
	return d.Mode.text("en").message
}

func (d *Decision) body(r *Request, pages Pages, accepted accept, form form, status int, now time.Time) (kind, lang string, body []byte) {
	if d.graphql && form != formHTML {
		return graphQLType(accepted), "", d.graphQLErrors(now)
	}
	switch form {
	case formHTML:
		lang, body = d.page(r, pages)
		return "text/html; charset=utf-8", lang, body
	case formJSON:
		return "application/problem+json", "", d.problem(status, now)
	}
	return "text/plain; charset=utf-8", "", append([]byte(d.text()), '\n')
}

// problem is RFC 9457.
func (d *Decision) problem(status int, now time.Time) []byte {
	title := "Service Unavailable"
	if status == 413 {
		title = "Content Too Large"
	}
	o := jsonObject("{")
	o.text("type", "about:blank")
	o.text("title", title)
	o.number("status", int64(status))
	o.text("detail", d.text())
	d.explain(&o, now)
	return append(o, '}')
}

// graphQLType is the media type of a GraphQL response (GraphQL over HTTP, section "Media Types").
func graphQLType(accepted accept) string {
	if accepted.names("application/graphql-response+json") {
		return "application/graphql-response+json; charset=utf-8"
	}
	return "application/json; charset=utf-8"
}

// graphQLErrors is a GraphQL response (GraphQL specification section 7.1) whose
// extensions tell a developer which rule refused the request.
func (d *Decision) graphQLErrors(now time.Time) []byte {
	o := jsonObject(`{"errors":[{`)
	o.text("message", d.text())
	o.key("extensions")
	o = append(o, '{')
	o.text("code", d.Mode.graphQLCode())
	d.explain(&o, now)
	o = append(o, "}}"...)
	if d.Rule == Rule(graphql.RulePersisted) {
		// The word by which clients of automatic persisted queries learn to send the
		// document, which then can be judged (Apollo Server, "APQ protocol").
		o = append(o, `,{"message":"PersistedQueryNotFound","extensions":{"code":"PERSISTED_QUERY_NOT_FOUND"}}`...)
	}
	return append(o, "]}"...)
}

// graphQLClientError is a GraphQL response to a request that is wrong by itself. It says nothing of the maintenance, and
// its codes are Apollo Server's ("Error handling", "Built-in error codes"), which clients know.
func (d *Decision) graphQLClientError() []byte {
	code := "BAD_REQUEST"
	if d.Rule == Rule(graphql.RuleSyntax) {
		code = "GRAPHQL_PARSE_FAILED"
	}
	o := jsonObject(`{"errors":[{`)
	o.text("message", d.Rule.Explain())
	o.key("extensions")
	o = append(o, '{')
	o.text("code", code)
	d.name(&o)
	return append(o, "}}]}"...)
}

// name says what refused the request.
func (d *Decision) name(o *jsonObject) {
	o.text("app", d.App)
	o.text("mode", string(d.Mode))
	o.text("rule", string(d.Rule))
}

// explain says what refused the request, and when to come back.
func (d *Decision) explain(o *jsonObject, now time.Time) {
	d.name(o)
	o.text("explanation", d.Rule.Explain())
	o.number("retry_after", int64(d.retryAfter(now)))
	if !d.Until.IsZero() {
		o.time("until", d.Until)
	}
}

// EncodeHeaders are the headers as proxy-wasm serialises maps.
func (r *Reply) EncodeHeaders() []byte { return appendPairs(nil, r.Headers) }
