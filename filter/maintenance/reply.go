package maintenance

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// This file writes the reply to a refused request, in the format that the client understands: an
// HTML page (page.go), JSON, plain text, a GraphQL response, or the status of gRPC or gRPC-Web.
// accept.go chooses among the first three. A script in a browser can only read the reply, and the
// Retry-After in it, if the reply has the headers of CORS (Fetch standard, "HTTP extensions").

// Reply is the answer to a refused request.
type Reply struct {
	Status  int
	Headers [][2]string // names in lower case
	// Body is set for HEAD too. The sender must leave it out, but needs it for the headers of a GET
	// (RFC 9110 section 9.3.2).
	Body []byte
	// GRPCStatus is notGRPC, except in a reply to gRPC. Then the proxy makes a trailers-only
	// response of the reply, with this status, and with the body as its message.
	GRPCStatus int
}

// notGRPC is what proxy-wasm expects as the gRPC status of any other reply.
const notGRPC = -1

// EncodeHeaders returns the headers as proxy-wasm serialises maps (appendPairs).
func (r *Reply) EncodeHeaders() []byte { return appendPairs(nil, r.Headers) }

const grpcUnavailable = 14 // google.rpc.Code.UNAVAILABLE

// vary lists the request headers that determine which reply is sent (RFC 9110 section 12.5.5).
const vary = "Accept, Accept-Language, Origin"

// Reply returns the answer to a request that the decision refused: a preflight response to the
// preflight of a listed origin, a client error if the request can never succeed, and the
// maintenance reply otherwise. pages has the pages of the operator; it may be nil. Retry-After is
// counted from now.
func (d *Decision) Reply(r *Request, pages Pages, now time.Time) Reply {
	headers, isListed := d.commonHeaders(r) // isListed is about the origin of the request
	if method := r.Header("access-control-request-method"); isListed && r.Method == "OPTIONS" && method != "" {
		return preflightReply(r, method, headers)
	}
	if isListed {
		headers = append(headers, [2]string{"access-control-expose-headers", "Retry-After, Grpc-Status, Grpc-Message"})
	}

	accepted := parseAccept(r.headerValues("accept"))
	form := accepted.preferredFormat(strings.HasPrefix(strings.ToLower(r.Header("content-type")), "application/json"))
	rpc := grpcMediaType(r)
	if status := d.clientError(r); status != 0 && rpc == "" && form != replyHTML {
		return d.clientErrorReply(status, accepted, headers)
	}

	headers = append(headers,
		[2]string{"retry-after", strconv.Itoa(d.retryAfter(now))},
		[2]string{"vary", vary})
	if rpc != "" {
		return d.grpcReply(rpc, headers)
	}

	status := 503
	if d.Rule == Rule(graphql.RuleLimitBody) {
		status = 413
	}

	mediaType, lang, body := d.maintenanceBody(r, pages, accepted, form, status, now)
	headers = append(headers, [2]string{"content-type", mediaType})
	if lang != "" {
		headers = append(headers, [2]string{"content-language", lang})
	}

	return Reply{Status: status, Headers: headers, Body: body, GRPCStatus: notGRPC}
}

// commonHeaders returns the headers that every reply has, and reports whether the app lists the
// origin of the request. Only a listed origin is told that its scripts may read the reply.
func (d *Decision) commonHeaders(r *Request) (headers [][2]string, isListed bool) {
	headers = append(make([][2]string, 0, 10), // enough for every reply
		[2]string{"cache-control", "no-store"},
		[2]string{"x-drydock-rule", string(d.Rule)})

	origin := r.Header("origin")
	if origin == "" || !slices.Contains(d.app.spec.CORS.Origins, origin) {
		return headers, false
	}

	return append(headers,
		[2]string{"access-control-allow-origin", origin},
		[2]string{"access-control-allow-credentials", "true"}), true
}

// preflightReply allows the request that a preflight asks for, so that it is sent, and the script
// can then read the 503. The max-age of 0 keeps browsers from using the answer after the
// maintenance.
func preflightReply(r *Request, method string, headers [][2]string) Reply {
	headers = append(headers,
		[2]string{"access-control-allow-methods", method},
		[2]string{"access-control-max-age", "0"},
		[2]string{"vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"})
	if names := strings.Join(r.headerValues("access-control-request-headers"), ","); names != "" {
		headers = append(headers, [2]string{"access-control-allow-headers", names})
	}

	return Reply{Status: 204, Headers: headers, GRPCStatus: notGRPC}
}

// clientError returns the 4xx status for a request that no GraphQL server can answer, so that
// waiting would not help its client. It returns 0 for any other request, and for a path at which
// some server may serve something other than GraphQL.
func (d *Decision) clientError(r *Request) int {
	status := graphql.Rule(d.Rule).ClientError()
	if status == 0 || !d.mayBeGraphQL || !d.app.isGraphQLPath(r.interpret()) {
		return 0
	}
	return status
}

// clientErrorReply returns the reply to a request with this clientError.
func (d *Decision) clientErrorReply(status int, accepted acceptHeader, headers [][2]string) Reply {
	headers = append(headers, [2]string{"vary", vary})
	if status == 415 { // RFC 9110 section 15.5.16
		headers = append(headers, [2]string{"accept", "application/json"})
	}
	headers = append(headers, [2]string{"content-type", graphQLType(accepted)})
	return Reply{Status: status, Headers: headers, Body: d.graphQLClientError(), GRPCStatus: notGRPC}
}

// grpcMediaType returns the media type of a gRPC or gRPC-Web request, in lower case, or "" for any
// other request: application/grpc, application/grpc-web or application/grpc-web-text, and possibly
// + and a codec such as proto.
func grpcMediaType(r *Request) string {
	value, ok := r.soleValue("content-type")
	media, _, _ := strings.Cut(value, ";")
	media = strings.ToLower(strings.TrimSpace(media))

	codec, isGRPC := strings.CutPrefix(media, "application/grpc")
	if rest, isWeb := strings.CutPrefix(codec, "-web"); isWeb {
		codec = strings.TrimPrefix(rest, "-text")
	}
	if ok && isGRPC && (codec == "" || codec[0] == '+' && isToken(codec)) {
		return media
	}

	return ""
}

// grpcReply answers a gRPC or gRPC-Web request of the media type rpc. For gRPC, the proxy writes
// the status. For gRPC-Web, the HTTP status is 200 and the status of the call is in the reply
// (gRPC-Web protocol).
func (d *Decision) grpcReply(rpc string, headers [][2]string) Reply {
	if !strings.HasPrefix(rpc, "application/grpc-web") {
		return Reply{Status: 503, Headers: headers, Body: []byte(d.messageText()), GRPCStatus: grpcUnavailable}
	}

	// Clients take the status from the headers of a trailers-only response. The body repeats it for
	// clients that read the body first. Without a body Envoy would also remove the content type,
	// and some clients reject that.
	status, message := strconv.Itoa(grpcUnavailable), grpcMessage(d.messageText())
	headers = append(headers, [2]string{"content-type", rpc}, [2]string{"grpc-status", status}, [2]string{"grpc-message", message})
	body := grpcWebTrailers("grpc-status:" + status + "\r\ngrpc-message:" + message + "\r\n")
	if strings.HasPrefix(rpc, "application/grpc-web-text") {
		// An empty frame of trailers in base64: clients of this form read the headers.
		body = []byte("gAAAAAA=")
	}

	return Reply{Status: 200, Headers: headers, Body: body, GRPCStatus: notGRPC}
}

// grpcWebTrailers returns the last frame of a gRPC-Web body: 0x80 for trailers, their length in
// four bytes, and the trailers (gRPC-Web protocol, "Protocol differences vs gRPC over HTTP2").
func grpcWebTrailers(trailers string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0x80}, uint32(len(trailers)))
	return append(b, trailers...)
}

// grpcMessage percent-encodes a message as the gRPC protocol over HTTP/2 requires.
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

// temporaryRetryAfter is the Retry-After of refusals by a [Rule.isTemporary], in seconds.
const temporaryRetryAfter = 5

// retryAfter returns after how many seconds a client may try again: at the end of the mode if it is
// known, and otherwise after the time that the app says. It is at least 1, because 0 would mean at
// once.
func (d *Decision) retryAfter(now time.Time) int {
	if d.Rule.isTemporary() {
		return temporaryRetryAfter
	}

	if !d.Until.IsZero() {
		// Rounded up. left may be the largest Duration, so nothing may be added to it before.
		left := d.Until.Sub(now)
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

// messageText returns the message of a reply that is not a page. Its fallback is in English.
func (d *Decision) messageText() string { return d.message(d.Mode.text("en").message) }

// message returns what people read: the reason of a temporary refusal, the message of the
// activation that determines the mode, or the fallback if the activation has no message.
func (d *Decision) message(fallback string) string {
	switch {
	case d.Rule.isTemporary():
		return d.Rule.Explain()
	case d.Activation != nil && d.Activation.Message != "":
		return d.Activation.Message
	}
	return fallback
}

// maintenanceBody returns the body of the maintenance reply, its media type, and its language if it
// is a page; otherwise lang is "".
func (d *Decision) maintenanceBody(r *Request, pages Pages, accepted acceptHeader, form replyFormat, status int, now time.Time) (mediaType, lang string, body []byte) {
	if d.mayBeGraphQL && form != replyHTML {
		return graphQLType(accepted), "", d.graphQLErrors(now)
	}

	switch form {
	case replyHTML:
		lang, body = d.page(r, pages)
		return "text/html; charset=utf-8", lang, body
	case replyJSON:
		return "application/problem+json", "", d.problemJSON(status, now)
	}

	return "text/plain; charset=utf-8", "", append([]byte(d.messageText()), '\n')
}

// problemJSON returns the problem details of RFC 9457.
func (d *Decision) problemJSON(status int, now time.Time) []byte {
	title := "Service Unavailable"
	if status == 413 {
		title = "Content Too Large"
	}

	o := jsonObject("{")
	o.text("type", "about:blank")
	o.text("title", title)
	o.number("status", int64(status))
	o.text("detail", d.messageText())
	d.appendExplanation(&o, now)
	return append(o, '}')
}

// graphQLType returns the media type of a GraphQL response. Only a client that names the newer type
// understands it (GraphQL over HTTP, section "Media Types").
func graphQLType(accepted acceptHeader) string {
	if accepted.listsExactly("application/graphql-response+json") {
		return "application/graphql-response+json; charset=utf-8"
	}
	return "application/json; charset=utf-8"
}

// graphQLErrors returns a GraphQL response (GraphQL specification section 7.1). Its extensions name
// the rule that refused the request.
func (d *Decision) graphQLErrors(now time.Time) []byte {
	o := jsonObject(`{"errors":[{`)
	o.text("message", d.messageText())
	o.key("extensions")
	o = append(o, '{')
	o.text("code", d.Mode.graphQLCode())
	d.appendExplanation(&o, now)
	o = append(o, "}}"...)

	if d.Rule == Rule(graphql.RulePersisted) {
		// The request has only the hash of its document (automatic persisted queries). If a server
		// does not know the hash, clients send the document, which can be judged (Apollo Server,
		// "APQ protocol").
		o = append(o, `,{"message":"PersistedQueryNotFound","extensions":{"code":"PERSISTED_QUERY_NOT_FOUND"}}`...)
	}

	return append(o, "]}"...)
}

// graphQLClientError returns a GraphQL response to a request that can never succeed. It does not
// mention the maintenance, and its codes are those of Apollo Server ("Error handling", "Built-in
// error codes"), which clients know.
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
	d.appendReason(&o)
	return append(o, "}}]}"...)
}

// appendReason appends the app, the mode and the rule that refused the request.
func (d *Decision) appendReason(o *jsonObject) {
	o.text("app", d.App)
	o.text("mode", string(d.Mode))
	o.text("rule", string(d.Rule))
}

// appendExplanation appends what refused the request, why, and when to try again.
func (d *Decision) appendExplanation(o *jsonObject, now time.Time) {
	d.appendReason(o)
	o.text("explanation", d.Rule.Explain())
	o.number("retry_after", int64(d.retryAfter(now)))
	if !d.Until.IsZero() {
		o.time("until", d.Until)
	}
}
