package frameworks

import (
	"net/http"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// This file shows that Drydock in read-only does not turn away requests that only read. rig has
// real servers (servers.go), each with a counter that every write raises.

// TestHonestRequestsPass sends each honest request to every server, without Envoy and through Envoy
// in read-only. Both answers must be the same, and the counter must not rise.
func TestHonestRequestsPass(t *testing.T) {
	var servers []*differential.Server
	for _, s := range rig.Servers(t) {
		// NanoHTTPD leaves a body that it does not parse in the connection, and answers HEAD with a
		// body.
		servers = append(servers, &differential.Server{Name: s.Name, Addr: s.Addr, OneRequest: s.Name == "nanohttpd"})
	}

	s := states()[0] // read-only
	addrs := differential.EnvoyGate(t, servers, differential.State(s.apps...))
	checkGate(t, servers, addrs, s)
	all := honest()

	differential.Each(servers, func(i int, server *differential.Server) {
		for _, r := range all {
			const patience = 10 * time.Second // for a slow server: every request is to be answered
			r, direct := r.Clone(), ungated(r)
			r.Patience, direct.Patience = patience, patience
			before := differential.Counter(t, server)

			want, err := differential.Send(server.Addr, direct)
			if err != nil {
				t.Errorf("%s: %v", server.Name, err)
				return
			}

			got, err := differential.Send(addrs[i], r)
			if err != nil {
				t.Errorf("%s: %v", server.Name, err)
				return
			}

			sameAnswer := got.Status == want.Status && string(got.Body) == string(want.Body)
			if !sameAnswer || got.Status == http.StatusServiceUnavailable || got.Status == 0 {
				t.Errorf("%s: %s: got %d %.200q, without a gate %d %.200q", server.Name, r, got.Status, got.Body, want.Status, want.Body)
			}
			if n := differential.Counter(t, server); n != before {
				t.Errorf("%s: %s: it is not honest, because it wrote", server.Name, r)
			}
		}
	})
	if !t.Failed() {
		t.Logf("%d requests to each of %d servers passed", len(all), len(servers))
	}
}

// honest returns requests of browsers, clients, monitors and crawlers that only read. Some of them
// contain words by which other requests name a method, such as "_method", where they mean nothing.
func honest() (all []*differential.Request) {
	// add adds a request with headers, names and values in turn, and returns it to be changed.
	add := func(method, target string, headers ...string) *differential.Request {
		r := &differential.Request{Method: method, Target: target, Trail: []string{method + " " + target}}
		for i := 0; i < len(headers); i += 2 {
			r.Set(headers[i], headers[i+1])
		}
		all = append(all, r)
		return r
	}

	for _, target := range []string{
		"/orders", "/orders/1", "/orders/", "/orders?page=2&sort=-price", "/orders?q=caf%C3%A9+%26+bar", "/orders?method=post&q=delete", "/orders?filter[status]=open&filter[method]=card", "/orders?q=a;b", "/orders/caf%C3%A9", "/orders/a%20b",
		"/healthz", "/search", exemptPrefix + "/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0", "/favicon.ico", "/static/%40angular/core.js", "/?utm_source=x", "/orders/1.",
	} {
		add("GET", target)
	}

	for _, method := range []string{"HEAD", "OPTIONS"} {
		add(method, "/orders")
		add(method, "/orders/1?full=1")
	}

	add("OPTIONS", "/orders", "Origin", "https://app.example.com", "Access-Control-Request-Method", "DELETE", "Access-Control-Request-Headers", "content-type,x-http-method-override")
	add("GET", "/orders", "If-None-Match", `"x"`)
	add("GET", "/orders", "If-Modified-Since", "Sat, 01 Jan 2022 00:00:00 GMT")
	add("GET", "/orders/1", "If-Match", "*", "Cache-Control", "max-age=0")
	add("GET", "/orders", "Range", "bytes=0-0")
	add("GET", "/orders", "Accept-Encoding", "gzip, deflate, br, zstd", "Accept-Language", "de-DE,de;q=0.9", "User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "Upgrade-Insecure-Requests", "1")
	add("GET", "/orders", "Cookie", "session=abc; _ga=GA1.2.3; method=card; theme=dark", "Referer", "https://app.test/orders?_method=x", "Sec-Fetch-Mode", "navigate", "Sec-Purpose", "prefetch")
	add("GET", "/orders", "X-Forwarded-For", "192.0.2.7", "X-Forwarded-Proto", "https", "X-Real-Ip", "192.0.2.7", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

	add("GET", "/orders", "Content-Type", "application/json", "Accept", "application/json")
	add("GET", "/orders", "Content-Length", "0")
	add("GET", "/orders", "Authorization", "Basic dXNlcjpwYXNz")
	add("GET", "/orders").Host = "APP.test:8080"
	add("GET", "/orders").HTTP2 = &differential.HTTP2{}
	add("HEAD", "/orders/1").HTTP2 = &differential.HTTP2{}

	post := func(target, contentType, body string) *differential.Request {
		r := add("POST", target, "Content-Type", contentType)
		r.Body = []byte(body)
		r.Did(contentType + " " + body)
		return r
	}

	post("/search", form, "q=rope")
	post("/search", form, "q=how+to+use+_method+in+a+form&page=2")
	post("/search", form+"; charset=UTF-8", "q=caf%C3%A9")
	post("/search", "application/json", `{"q":"rope","page":2}`)
	post("/search", "application/json", `{"q":"_method=DELETE","text":"run \u0060make\u0060"}`)
	post("/search", "application/json; charset=utf-8", `{"q":"café","filters":[{"field":"payment","op":"eq","value":"card"}]}`)
	post("/search", "application/json", `{"q":"rope"}`).Framing = differential.Chunked
	post("/search", "application/json", `{"q":"rope"}`).HTTP2 = &differential.HTTP2{}
	post("/login", form, "user=a%40example.com&password=p%26q")

	add("POST", "/search")
	return all
}
