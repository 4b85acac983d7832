package maintenance_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/cases"
)

// This file tests what an app in read-only lets pass. Each case has a request and the rule that
// must decide on it. That rule also tells the verdict: the few rules that let requests pass are
// listed.

// TestReadOnlyRefusesWhatMayWrite checks the rules for HTTP. The requests are to paths without
// GraphQL.
func TestReadOnlyRefusesWhatMayWrite(t *testing.T) {
	// The rules that requests are expected to be decided by.
	const (
		safe, method, override = maintenance.RuleSafeMethod, maintenance.RuleMethod, maintenance.RuleMethodOverride
		upgrade, stream        = maintenance.RuleUpgrade, maintenance.RuleEventStream
		through, writes, rpc   = maintenance.RuleWriteThrough, maintenance.RuleGetWrites, maintenance.RuleSafeRPC
		writeBody, getBody     = maintenance.RuleWriteBody, maintenance.RuleGetBody
	)
	const plain, form, jsonType = "text/plain", "application/x-www-form-urlencoded", "application/json"
	passes := map[maintenance.Rule]bool{safe: true, through: true, rpc: true}

	for _, c := range []struct {
		name  string
		rules string // the fields of the app's read_only
		r     *maintenance.Request
		want  maintenance.Rule
	}{
		// RFC 9110 section 9.2.1.
		{"GET", ``, get("h", "/x"), safe},
		{"HEAD", ``, request("HEAD", "h", "/x"), safe},
		{"OPTIONS", ``, request("OPTIONS", "h", "/x"), safe},
		{"OPTIONS *", ``, request("OPTIONS", "h", "*"), safe},
		{"TRACE", ``, request("TRACE", "h", "/x"), safe},
		{"GET with a body", ``, withBody(get("h", "/x"), jsonType, `{}`), getBody},
		{"GET with a body, allowed", `"get_bodies":"allow"`, withBody(get("h", "/x"), jsonType, `{}`), safe},
		{"GET with a body that turns out to be empty", ``, withBody(get("h", "/x"), jsonType, ""), safe},
		{"GET that announces a body", ``, withBody(get("h", "/x", "content-length", "2"), jsonType, ""), getBody},
		{"HEAD with a body", ``, withBody(request("HEAD", "h", "/x"), "", "x"), getBody},
		{"OPTIONS with a body", ``, withBody(request("OPTIONS", "h", "/x"), jsonType, `{}`), getBody},
		{"GET with a body that CGI takes for empty", ``, withBody(get("h", "/x", "content_length", "0"), jsonType, `{}`), getBody},
		{"POST", ``, request("POST", "h", "/x"), method},
		{"PUT", ``, request("PUT", "h", "/x"), method},
		{"PATCH", ``, request("PATCH", "h", "/x"), method},
		{"DELETE", ``, request("DELETE", "h", "/x"), method},
		{"PROPFIND", ``, request("PROPFIND", "h", "/x"), method},
		{"MKCOL", ``, request("MKCOL", "h", "/x"), method},
		{"PURGE", ``, request("PURGE", "h", "/x"), method},
		{"GET in lower case, which is another method", ``, request("get", "h", "/x"), method},
		{"GET in mixed case", ``, request("Get", "h", "/x"), method},
		{"GET with a blank behind", ``, request("GET ", "h", "/x"), method},
		{"no method", ``, request("", "h", "/x"), method},
		{"CONNECT", ``, request("CONNECT", "h:443", ""), upgrade},

		// A header or a parameter may name another method, which some frameworks then obey.
		{"GET that says DELETE", ``, get("h", "/x", "x-http-method-override", "DELETE"), override},
		{"GET that says GET", ``, get("h", "/x", "x-http-method-override", "GET"), safe},
		{"GET that says get", ``, get("h", "/x", "x-http-method-override", " get "), safe},
		{"GET that says HEAD", ``, get("h", "/x", "x-http-method-override", "HEAD"), override},
		{"GET that says nothing", ``, get("h", "/x", "x-http-method-override", ""), override},
		{"POST that says GET", ``, request("POST", "h", "/x", "x-http-method-override", "GET"), override},
		{"HEAD that says POST", ``, request("HEAD", "h", "/x", "x-http-method", "POST"), override},
		{"OPTIONS that says PUT", ``, request("OPTIONS", "h", "/x", "x-method-override", "put"), override},
		{"GET that says DELETE in x-method", ``, get("h", "/x", "x-method", "DELETE"), override},
		{"GET that says DELETE in http-method-override", ``, get("h", "/x", "http-method-override", "DELETE"), override},
		{"override header as CGI spells it", ``, get("h", "/x", "x_http_method_override", "DELETE"), override},
		{"override header of which half is as CGI spells it", ``, get("h", "/x", "x-http_method-override", "DELETE"), override},
		{"two overrides that differ", ``, get("h", "/x", "x-http-method-override", "GET", "x-http-method-override", "DELETE"), override},
		{"two overrides that are the same", ``, get("h", "/x", "x-http-method-override", "GET", "x-http-method-override", "GET"), override},
		{"overrides in two different headers", ``, get("h", "/x", "x-http-method-override", "GET", "x-method-override", "DELETE"), override},
		{"a list of overrides", ``, get("h", "/x", "x-http-method-override", "GET, DELETE"), override},
		{"in the query", ``, get("h", "/x?_method=DELETE"), override},
		{"in the query, in lower case", ``, get("h", "/x?_method=delete"), override},
		{"in the query, GET", ``, get("h", "/x?_method=get"), safe},
		{"in the query, name in upper case", ``, get("h", "/x?_METHOD=DELETE"), override},
		{"in the query, empty", ``, get("h", "/x?_method="), override},
		{"in the query, no value", ``, get("h", "/x?_method"), override},
		{"in the query, second", ``, get("h", "/x?a=b&_method=DELETE"), override},
		{"in the query, behind a semicolon", ``, get("h", "/x?a=b;_method=DELETE"), override},
		{"in the query, twice", ``, get("h", "/x?_method=GET&_method=DELETE"), override},
		{"in the query, encoded", ``, get("h", "/x?%5fmethod=DELETE"), override},
		{"in the query, encoded twice", ``, get("h", "/x?%255Fm%2565thod=DELETE"), override},
		{"in the query, value encoded", ``, get("h", "/x?_method=%44ELETE"), override},
		{"in the query, as a list", ``, get("h", "/x?_method[]=DELETE"), override},
		{"in the query, as an encoded list", ``, get("h", "/x?_method%5B0%5D=DELETE"), override},
		{"in the query, as PHP spells it", ``, get("h", "/x?.method=DELETE"), override},
		{"in the query, as PHP spells it, with a bracket", ``, get("h", "/x?[method=DELETE"), override},
		{"in the query, as PHP spells it, with blanks", ``, get("h", "/x?+%20_method=DELETE"), override},
		{"in the query, as PHP spells it, with a NUL", ``, get("h", "/x?_method%00x=DELETE"), override},
		{"in the query, behind many blanks", ``, get("h", "/x?"+strings.Repeat("+", 1000)+"_method=DELETE"), override},
		{"in the query, before a NUL and more", ``, get("h", "/x?_method%00"+strings.Repeat("x", 1000)+"=DELETE"), override},
		{"in the query, a blank", ``, get("h", "/x?_method=%20"), override},
		{"in the query, $method", ``, get("h", "/x?$method=DELETE"), override},
		{"in the query, as the header", ``, get("h", "/x?X-HTTP-Method-Override=DELETE"), override},
		{"in a query that only a decoding server sees", ``, get("h", "/x%3f_method=DELETE"), override},
		{"overrides in a header and in the query", ``, get("h", "/x?_method=GET", "x-http-method-override", "GET"), override},
		{"parameters that are not overrides", ``, get("h", "/x?method=DELETE&payment_method=card&x_method=1"), safe},
		{"name of an override in a value", ``, get("h", "/x?a=_method"), safe},
		{"override in the path, where no server looks", ``, get("h", "/_method=DELETE"), safe},
		{"headers that are not overrides", ``, get("h", "/x", "access-control-request-method", "DELETE", "x-payment-method", "card"), safe},

		// Upgrades.
		{"WebSocket", ``, get("h", "/x", "upgrade", "websocket", "connection", "upgrade"), upgrade},
		{"upgrade with an empty value first", ``, get("h", "/x", "upgrade", "", "upgrade", "websocket"), upgrade},
		{"WebSocket over HTTP/2", ``, request("CONNECT", "h", "/x", ":protocol", "websocket"), upgrade},
		{"WebSocket over HTTP/2, as a GET", ``, get("h", "/x", ":protocol", "websocket"), upgrade},
		{"WebSocket, allowed", `"upgrades":"allow"`, get("h", "/x", "upgrade", "websocket"), safe},
		{"WebSocket over HTTP/2, allowed", `"upgrades":"allow"`, request("CONNECT", "h", "/x", ":protocol", "websocket"), safe},
		{"POST with an upgrade, allowed", `"upgrades":"allow"`, request("POST", "h", "/x", "upgrade", "websocket"), method},
		{"WebSocket, refused explicitly", `"upgrades":"refuse"`, get("h", "/x", "upgrade", "websocket"), upgrade},

		// Server-sent events.
		{"event stream", ``, get("h", "/x", "accept", "text/event-stream"), safe},
		{"event stream, refused", `"event_streams":"refuse"`, get("h", "/x", "accept", "text/event-stream"), stream},
		{"event stream among others, refused", `"event_streams":"refuse"`, get("h", "/x", "accept", "application/json, Text/Event-Stream;q=0.5"), stream},
		{"event stream in a second header, refused", `"event_streams":"refuse"`, get("h", "/x", "accept", "*/*", "accept", "text/event-stream"), stream},
		{"no event stream", `"event_streams":"refuse"`, get("h", "/x", "accept", "text/html, */*"), safe},

		// RPCs that only read.
		{"safe RPC", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc"), rpc},
		{"safe RPC with a codec", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc+proto"), rpc},
		{"safe RPC by gRPC-Web", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc-web-text+proto;charset=utf-8"), rpc},
		{"safe RPC in upper case", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "Application/gRPC"), rpc},
		{"safe RPC with JSON for a codec", `"safe_rpcs":["/shop.v1.Shop/Get"]`, withBody(request("POST", "h", "/shop.v1.Shop/Get"), "application/grpc+json", `{"_method":"DELETE"}`), method},
		{"safe RPC with a parameter", `"safe_rpcs":["/shop.v1.Shop/Get"]`, withBody(request("POST", "h", "/shop.v1.Shop/Get"), "application/grpc; x=/json", `{"_method":"DELETE"}`), method},
		{"write through that calls itself gRPC", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "application/grpc+x-www-form-urlencoded", "_method=DELETE"), writeBody},
		{"write through of gRPC", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "application/grpc+proto", "\x00\x00\x00\x00\x00"), through},
		{"another RPC", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Put", "content-type", "application/grpc"), method},
		{"RPC in other letter case", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/get", "content-type", "application/grpc"), method},
		{"RPC with a slash more", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get/", "content-type", "application/grpc"), method},
		{"RPC in disguise", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Put/..%2fGet", "content-type", "application/grpc"), method},
		{"RPC that is not gRPC", `"safe_rpcs":["/shop.v1.Shop/Get"]`, withBody(request("POST", "h", "/shop.v1.Shop/Get"), jsonType, `{}`), method},
		{"RPC without a type", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get"), method},
		{"RPC with two types in one", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc, text/plain"), method},
		{"RPC with two types", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc", "content-type", "text/plain"), method},
		{"RPC with a type that begins alike", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpcx"), method},
		{"RPC with a type of which half is gRPC-Web's", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc-text"), method},
		{"RPC by PUT", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("PUT", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc"), method},
		{"RPC with an override", `"safe_rpcs":["/shop.v1.Shop/Get"]`, request("POST", "h", "/shop.v1.Shop/Get", "content-type", "application/grpc", "x-http-method-override", "PUT"), override},

		// Writes that the operator lets through.
		{"write through", `"write_through":[{"methods":["POST"],"path":"/search"}]`, request("POST", "h", "/search"), through},
		{"write through with a query", `"write_through":[{"methods":["POST"],"path":"/search"}]`, request("POST", "h", "/search?q=x"), through},
		{"write through by another method", `"write_through":[{"methods":["POST"],"path":"/search"}]`, request("PUT", "h", "/search"), method},
		{"write through elsewhere", `"write_through":[{"methods":["POST"],"path":"/search"}]`, request("POST", "h", "/search/x"), method},
		{"write through in other letter case", `"write_through":[{"methods":["POST"],"path":"/search"}]`, request("POST", "h", "/Search"), method},
		{"write through in disguise", `"write_through":[{"prefix":"/search"}]`, request("POST", "h", "/search/..%2fx"), method},
		{"write through by any method", `"write_through":[{"prefix":"/search"}]`, request("DELETE", "h", "/search/x"), through},
		{"write through with an override", `"write_through":[{"methods":["POST"],"path":"/search"}]`, request("POST", "h", "/search", "x-http-method-override", "DELETE"), override},
		{"write through with an override to what is let through", `"write_through":[{"methods":["POST","PUT"],"path":"/search"}]`, request("POST", "h", "/search", "x-http-method-override", "PUT"), through},
		{"write through with an override in the query", `"write_through":[{"methods":["POST"],"path":"/search"}]`, request("POST", "h", "/search?_method=DELETE"), override},
		{"write through by any method, with an override", `"write_through":[{"prefix":"/search"}]`, request("POST", "h", "/search", "x-http-method-override", "DELETE"), through},
		{"write through with an upgrade", `"write_through":[{"prefix":"/search"}]`, get("h", "/search", "upgrade", "websocket"), upgrade},
		{"write through with an upgrade, allowed", `"write_through":[{"prefix":"/search"}],"upgrades":"allow"`, get("h", "/search", "upgrade", "websocket"), through},

		// An override may also be in the body, where frameworks look for one only with POST.
		{"form without an override", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), form, `q=x&payment_method=card`), through},
		{"form with an override", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), form, `q=x&_method=DELETE`), writeBody},
		{"form with an encoded override", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), form+"; charset=utf-8", `q=x&%5Fmethod=DELETE`), writeBody},
		{"form with an override to the method it has", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), form, `_method=POST`), writeBody},
		{"form without a type", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "", `_method=DELETE`), writeBody},
		{"multipart without an override, which is not parsed", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "multipart/form-data; boundary=x", "--x\r\ncontent-disposition: form-data; name=\"shipping_method\"\r\n\r\nthe _method of it\r\n--x--"), writeBody},
		{"multipart with an override", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "multipart/form-data; boundary=x", "--x\r\ncontent-disposition: form-data; name=\"_METHOD\"\r\n\r\nDELETE\r\n--x--"), writeBody},
		{"multipart with an override without quotes", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "multipart/form-data; boundary=x", "--x\r\ncontent-disposition: form-data; name=_method\r\n\r\nDELETE\r\n--x--"), writeBody},
		{"JSON without an override", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), jsonType, `{"payment_method":"card","q":"\u00e9\u003c"}`), through},
		{"JSON with an override", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), jsonType, `{"_method":"DELETE"}`), writeBody},
		{"JSON with an escaped override", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), jsonType, `{"\u005Fm\u0065thod":"DELETE"}`), writeBody},
		{"JSON with a letter of it escaped", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), jsonType, `{"_\u006dethod":"DELETE"}`), writeBody},
		{"JSON of Elasticsearch's clients", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "application/vnd.elasticsearch+json; compatible-with=8", `{"q":"x"}`), through},
		{"JSON with a profile", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), `application/ld+json; profile="https://www.w3.org/ns/activitystreams"; charset=UTF-8`, `{"q":"x"}`), through},
		{"JSON in another charset behind a parameter", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "application/json; version=2; charset=utf-16", `{"q":"x"}`), writeBody},
		{"JSON in two charsets", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "application/json; charset=utf-8; charset=utf-7", `{"q":"x"}`), writeBody},
		{"JSON in an encoded charset", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "application/json; charset*=utf-8''utf-7", `{"q":"x"}`), writeBody},
		{"JSON that names a form in a parameter", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "application/json; x=y/z+x-www-form-urlencoded", `{"q":"x"}`), writeBody},
		{"JSON that names multipart in a parameter", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "application/json; x=multipart/mixed; boundary=b", `{"q":"x"}`), writeBody},
		{"JSON in a list of types", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), "application/json; x=y, text/plain", `{"q":"x"}`), writeBody},
		{"form with a parameter", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), form+"; x=/json", `q=x`), writeBody},
		{"write through with two types", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search", "content-type", plain), form, `_method=DELETE`), writeBody},
		{"write through with a type that is neither JSON nor a form", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), plain, `_method=DELETE`), writeBody},
		{"a form larger than is looked at", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), form, strings.Repeat("x", 1<<20+1)), writeBody},
		{"a larger body of another type", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), plain, strings.Repeat("x", 1<<20+1)), writeBody},
		{"PUT of a form with an override", `"write_through":[{"methods":["PUT"],"path":"/search"}]`, withBody(request("PUT", "h", "/search"), form, `_method=DELETE`), writeBody},
		{"PROPFIND, whose body no framework overrides by", `"write_through":[{"methods":["PROPFIND"],"path":"/dav"}]`, withBody(request("PROPFIND", "h", "/dav"), "application/xml", `<propfind/>`), through},
		{"JSON that is a text", `"write_through":[{"methods":["POST"],"path":"/search"}]`, withBody(request("POST", "h", "/search"), jsonType, `"text"`), through},
		{"PUT of JSON", `"write_through":[{"methods":["PUT"],"path":"/search"}]`, withBody(request("PUT", "h", "/search"), jsonType, `{"a":1}`), through},
		{"PUT of a file, with overrides allowed", `"write_through":[{"methods":["PUT"],"path":"/search","allow":["overrides"]}]`, withBody(request("PUT", "h", "/search"), "image/png", "x"), through},
		{"any method is let through anyway", `"write_through":[{"path":"/search"}]`, withBody(request("POST", "h", "/search"), form, `_method=DELETE`), through},
		{"another rule lets it through", `"write_through":[{"methods":["POST"],"path":"/search"},{"path":"/search"}]`, withBody(request("POST", "h", "/search"), form, `_method=DELETE`), through},

		// GETs that write.
		{"GET that writes", `"get_writes":[{"path":"/Unsubscribe"}]`, get("h", "/Unsubscribe?id=1"), writes},
		{"GET that writes, with a slash", `"get_writes":[{"path":"/Unsubscribe"}]`, get("h", "/unsubscribe/"), writes},
		{"GET that writes, HEAD", `"get_writes":[{"methods":["GET"],"path":"/unsubscribe"}]`, request("HEAD", "h", "/unsubscribe"), writes},
		{"GET that writes, OPTIONS", `"get_writes":[{"methods":["GET"],"path":"/unsubscribe"}]`, request("OPTIONS", "h", "/unsubscribe"), safe},
		{"GET beside a path whose GET writes", `"get_writes":[{"path":"/unsubscribe"}]`, get("h", "/unsubscribed"), safe},
		{"GET below a path whose GET writes", `"get_writes":[{"path":"/unsubscribe"}]`, get("h", "/unsubscribe/x"), safe},
		{"GET below a prefix", `"get_writes":[{"prefix":"/unsubscribe/"}]`, get("h", "/unsubscribe/x"), writes},
		{"GET that writes, in other letter case", `"get_writes":[{"path":"/unsubscribe"}]`, get("h", "/UNSUBSCRIBE"), writes},
		{"GET that writes, encoded", `"get_writes":[{"path":"/unsubscribe"}]`, get("h", "/%75nsubscribe"), writes},
		{"GET that writes, reached by dots", `"get_writes":[{"path":"/unsubscribe"}]`, get("h", "/x/..%2funsubscribe"), writes},
		{"GET that writes, with a path parameter", `"get_writes":[{"path":"/unsubscribe"}]`, get("h", "/unsubscribe;x=1"), writes},
		{"GET that writes, with a path parameter that swallows the rest", `"get_writes":[{"path":"/unsubscribe"}]`, get("h", "/unsubscribe;/x"), writes},
		{"GET that writes, with a double slash", `"get_writes":[{"prefix":"/admin/do"}]`, get("h", "/admin//do/x"), writes},
		{"GET that writes, with a backslash", `"get_writes":[{"prefix":"/admin/do"}]`, get("h", `/admin\do\x`), writes},
		{"GET that may write, since it has more readings than are followed", `"get_writes":[{"path":"/unsubscribe"}]`, get("h", "/%"+strings.Repeat("25", 70)+"41"), writes},
		{"GET that writes, named in a header", `"get_writes":[{"path":"/unsubscribe"}]`, get("h", "/x", "x-original-url", "/unsubscribe"), writes},
		{"POST to a path whose GET writes", `"get_writes":[{"methods":["GET"],"path":"/unsubscribe"}]`, request("POST", "h", "/unsubscribe"), method},
		{"GET that writes, and that a write-through rule lets pass", `"get_writes":[{"prefix":"/do"}],"write_through":[{"path":"/do/this"}]`, get("h", "/do/this"), through},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := decideWithBody(t, readOnlyState(t, `"read_only":{`+c.rules+`}`), c.r)
			want := maintenance.Refuse
			if passes[c.want] {
				want = maintenance.Pass
			}
			if d.Verdict != want || d.Rule != c.want {
				t.Errorf("%v by %s, want %v by %s", d.Verdict, d.Rule, want, c.want)
			}
		})
	}
}

// requestOf returns the request of a case in the table of package cases.
func requestOf(c *cases.Case) *maintenance.Request {
	r := request(c.Method, "api.example.com", c.Path)
	r.Headers = append(r.Headers, c.Headers...)
	r.Body = c.Body()
	r.EndStream = len(r.Body) == 0
	return r
}

// TestGraphQLCasesAreDecidedAsListed checks that an app in read-only decides on the requests in the
// table of package cases as the table says. Other tests run the same table against the rules of
// GraphQL alone, and against a real Envoy.
func TestGraphQLCasesAreDecidedAsListed(t *testing.T) {
	s := readOnlyState(t, "")
	for _, c := range cases.Load(t) {
		t.Run(c.Name, func(t *testing.T) {
			d := decideWithBody(t, s, requestOf(&c))
			want := map[string]maintenance.Verdict{"pass": maintenance.Pass, "refuse": maintenance.Refuse}[c.Verdict]
			if d.Verdict != want || c.Verdict == "refuse" && d.Rule != maintenance.Rule(c.Rule) {
				t.Errorf("%v by %s, want %s by %s\n%s %s %q", d.Verdict, d.Rule, c.Verdict, c.Rule, c.Method, c.Path, c.Headers)
			}
		})
	}
}

// TestReadOnlyPassesOnlyGraphQLQueries checks what the table of cases cannot: how the settings of
// an app, the path, and the rest of a request act together.
func TestReadOnlyPassesOnlyGraphQLQueries(t *testing.T) {
	const json = "application/json"
	query, mutation := `{"query":"{a}"}`, `{"query":"mutation{b}"}`
	post := func(target, text string, headers ...string) *maintenance.Request {
		return withBody(request("POST", "h", target, headers...), json, text)
	}

	for _, c := range []struct {
		name string
		app  string // the fields of the app
		r    *maintenance.Request
		want maintenance.Rule
	}{
		{"the default path", ``, post("/graphql", query), maintenance.RuleGraphQLQuery},
		{"below the default path, where servers may have stored documents", ``, post("/graphql/v1?x=1", query), "graphql.path"},
		{"below the default path, allowed", `"graphql":{"paths":["/graphql"],"below":"allow"}`, post("/graphql/v1?x=1", query), maintenance.RuleGraphQLQuery},
		{"below the default path, allowed, a mutation", `"graphql":{"paths":["/graphql"],"below":"allow"}`, post("/graphql/v1", mutation), "graphql.mutation"},
		{"the name of a stored document", ``, post("/graphql/persisted/60ddx/Pay", query), "graphql.path"},
		{"the name of a stored document, by GET", ``, get("h", "/graphql/persisted/60ddx/Pay?query={a}"), "graphql.path"},
		{"the name of a stored document, in disguise", ``, get("h", "/graphql%2fpersisted%2f60ddx/Pay?query={a}"), "graphql.path"},
		{"the default path, a mutation", ``, post("/graphql", mutation), "graphql.mutation"},
		{"another path", ``, post("/api", query), maintenance.RuleMethod},
		{"a longer name than the default path", ``, post("/graphqlx", query), maintenance.RuleMethod},
		{"own paths", `"graphql":{"paths":["/api","/v2/gql/"]}`, post("/v2/gql", query), maintenance.RuleGraphQLQuery},
		{"own paths, a mutation", `"graphql":{"paths":["/api","/v2/gql/"]}`, post("/api", mutation), "graphql.mutation"},
		{"own paths, not the default one", `"graphql":{"paths":["/api"]}`, post("/graphql", query), maintenance.RuleMethod},
		{"no paths", `"graphql":{"paths":[]}`, post("/graphql", query), maintenance.RuleMethod},
		{"the editor for queries that some servers show", ``, get("h", "/graphql"), maintenance.RuleSafeMethod},
		{"the editor, with a slash", ``, get("h", "/graphql/"), maintenance.RuleSafeMethod},
		{"GET below the path, where a document may be stored", ``, get("h", "/graphql/persisted/7"), "graphql.path"},
		{"an unknown parameter", ``, get("h", "/graphql?v=7"), "graphql.unknown-key"},
		{"a preflight below the path", ``, request("OPTIONS", "h", "/graphql/v1"), "graphql.path"},
		{"a preflight", ``, request("OPTIONS", "h", "/graphql"), maintenance.RuleSafeMethod},
		{"a preflight of a client that adds the operation's name", ``, request("OPTIONS", "h", "/graphql?op=GetUser"), maintenance.RuleSafeMethod},
		{"a preflight of a query", ``, request("OPTIONS", "h", "/graphql?query={a}&operationName=A"), maintenance.RuleGraphQLQuery},
		{"GET of a query", ``, get("h", "/graphql?query={a}"), maintenance.RuleGraphQLQuery},
		{"GET of a mutation", ``, get("h", "/graphql?query=mutation{b}"), "graphql.mutation"},
		{"HEAD of a mutation", ``, request("HEAD", "h", "/graphql?query=mutation{b}"), "graphql.mutation"},
		{"OPTIONS of a mutation", ``, request("OPTIONS", "h", "/graphql?query=mutation{b}"), "graphql.mutation"},
		{"GET with a body to come", ``, withBody(get("h", "/graphql"), json, query), "graphql.get-body"},
		{"GET with a body that CGI takes for empty", ``, withBody(get("h", "/graphql", "content_length", "0", "transfer-encoding", "chunked"), json, mutation), "graphql.get-body"},
		{"OPTIONS with a body", ``, withBody(request("OPTIONS", "h", "/graphql"), json, mutation), "graphql.get-body"},
		{"behind the JDK's server, a mutation by GET", ``, get("h", "/graphql%c2%a0?%71uery=mutation{b}"), "graphql.mutation"},
		{"behind the JDK's server, a query by GET", ``, get("h", "/graphqlx?query={a}"), maintenance.RuleGraphQLQuery},
		{"a path that begins alike", ``, get("h", "/graphql-docs?page=2"), maintenance.RuleSafeMethod},
		{"with a format suffix, a mutation by GET", ``, get("h", "/graphql.json?query=mutation{b}"), "graphql.mutation"},
		{"with a format suffix, a mutation by POST", ``, post("/graphql.json", mutation), maintenance.RuleMethod},
		{"with a line feed, a mutation by GET", ``, get("h", "/graphql%0a?query=mutation{b}"), "graphql.mutation"},
		{"GET with an empty body", ``, withBody(get("h", "/graphql", "content-length", "0"), "", ""), maintenance.RuleSafeMethod},
		{"event stream of a query", `"read_only":{"event_streams":"refuse"}`, post("/graphql", query, "accept", "text/event-stream"), maintenance.RuleGraphQLQuery},

		// The body only counts if every server reads the path as a GraphQL path.
		{"a path that leads out", ``, post("/graphql/..%2forders", query), maintenance.RuleMethod},
		{"a path that leads in", ``, post("/orders/..%2fgraphql", query), maintenance.RuleMethod},
		{"a double slash before the path", ``, post("//graphql", query), maintenance.RuleMethod},
		{"a path parameter", ``, post("/graphql;x", query), maintenance.RuleMethod},
		{"an encoded path", ``, post("/%67raphql", query), maintenance.RuleMethod},
		{"the path in other letter case", ``, post("/GraphQL", query), maintenance.RuleMethod},
		{"a header names another path", ``, post("/graphql", query, "x-rewrite-url", "/orders"), maintenance.RuleMethod},
		{"a header names the GraphQL path", ``, get("h", "/x", "x-original-url", "/graphql?query=mutation{b}"), "graphql.mutation"},
		{"GET of a mutation by a path that leads in", ``, get("h", "/x/..%2fGraphQL?query=mutation{b}"), "graphql.mutation"},
		{"GET of a mutation in a query that only a decoding server sees", ``, get("h", "/graphql%3Fquery=mutation%7Bb%7D"), "graphql.mutation"},
		{"GET of a mutation in a query that comes from a header", ``, get("h", "/graphql", "x-original-url", "/graphql?query=mutation{b}"), "graphql.mutation"},
		{"GET of a query by a path that leads in", ``, get("h", "/x/..%2fgraphql?query={a}"), maintenance.RuleGraphQLQuery},
		{"more disguises than are followed", ``, post("/%"+strings.Repeat("25", 70)+"41", query), maintenance.RuleMethod},
		{"more disguises than are followed, GET of a mutation", ``, get("h", "/%"+strings.Repeat("25", 70)+"41?query=mutation{b}"), "graphql.path"},

		// Some servers read these headers, and others do not.
		{"two content types", ``, post("/graphql", query, "content-type", "text/plain"), "graphql.content-type"},
		{"a second content type as CGI spells it", ``, post("/graphql", query, "content_type", "application/x-www-form-urlencoded"), "graphql.content-type"},
		{"a list of content types", ``, withBody(request("POST", "h", "/graphql"), "application/json, text/plain", query), "graphql.content-type"},
		{"an empty encoding first", ``, post("/graphql", query, "content-encoding", "", "content-encoding", "gzip"), "graphql.content-encoding"},
		{"an empty encoding", ``, post("/graphql", query, "content-encoding", ""), "graphql.content-encoding"},
		{"an override", ``, post("/graphql", query, "x-http-method-override", "PUT"), "graphql.method-override"},
		{"an override in the query", ``, post("/graphql?_method=PUT", query), "graphql.method-override"},
		{"CONNECT", ``, request("CONNECT", "h", "/graphql"), "graphql.upgrade"},
		{"WebSocket", ``, get("h", "/graphql", "upgrade", "websocket"), "graphql.upgrade"},
		{"WebSocket, allowed away from GraphQL", `"read_only":{"upgrades":"allow"}`, get("h", "/graphql", "upgrade", "websocket"), "graphql.upgrade"},
		{"WebSocket, allowed", `"graphql":{"paths":["/graphql"],"upgrades":"allow"}`, get("h", "/graphql", "upgrade", "websocket"), maintenance.RuleSafeMethod},
		{"WebSocket, allowed on this path, but the path may be another", `"graphql":{"paths":["/graphql"],"upgrades":"allow"}`, get("h", "/graphql/..%2fx", "upgrade", "websocket"), maintenance.RuleUpgrade},

		// The settings of the operator apply.
		{"batch", ``, post("/graphql", "["+query+"]"), maintenance.RuleGraphQLQuery},
		{"batch, refused", `"graphql":{"paths":["/graphql"],"batching":false}`, post("/graphql", "["+query+"]"), "graphql.batch"},
		{"batch too long", `"graphql":{"paths":["/graphql"],"max_batch":1}`, post("/graphql", "["+query+","+query+"]"), "graphql.limit-batch"},
		{"too many tokens", `"graphql":{"paths":["/graphql"],"max_tokens":2}`, post("/graphql", query), "graphql.limit-tokens"},
		{"too deep", `"graphql":{"paths":["/graphql"],"max_depth":1}`, post("/graphql", `{"query":"{a{b}}"}`), "graphql.limit-depth"},
		{"too large", `"graphql":{"paths":["/graphql"],"max_body":10}`, post("/graphql", query), "graphql.limit-body"},
		{"an unknown key", ``, post("/graphql", `{"query":"{a}","trace":1}`), "graphql.unknown-key"},
		{"a known key", `"graphql":{"paths":["/graphql"],"extra_keys":["trace"]}`, post("/graphql", `{"query":"{a}","trace":1}`), maintenance.RuleGraphQLQuery},
		{"an unlisted hash", ``, post("/graphql", persistedBody), "graphql.persisted"},
		{"a listed hash", `"graphql":{"paths":["/graphql"],"persisted":["` + strings.Repeat("ab", 32) + `"]}`, post("/graphql", persistedBody), maintenance.RuleGraphQLQuery},
		{"a hash listed in upper case", `"graphql":{"paths":["/graphql"],"persisted":["` + strings.Repeat("AB", 32) + `"]}`, post("/graphql", persistedBody), maintenance.RuleGraphQLQuery},
		{"a mutation that the operator lets through", `"read_only":{"write_through":[{"path":"/graphql"}]}`, post("/graphql", mutation), maintenance.RuleWriteThrough},
		{"an exempt path", `"exempt":[{"path":"/graphql"}]`, post("/graphql", mutation), maintenance.RuleExempt},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := decideWithBody(t, readOnlyState(t, c.app), c.r)
			passes := slices.Contains([]maintenance.Rule{
				maintenance.RuleGraphQLQuery, maintenance.RuleSafeMethod, maintenance.RuleWriteThrough, maintenance.RuleExempt,
			}, c.want)
			if d.Rule != c.want || passes != (d.Verdict == maintenance.Pass) {
				t.Errorf("%v by %s, want %s", d.Verdict, d.Rule, c.want)
			}
		})
	}
}

// persistedBody is a request that names its document by a hash alone (automatic persisted queries).
var persistedBody = `{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + strings.Repeat("ab", 32) + `"}}}`
