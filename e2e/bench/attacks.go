package main

// This file has the requests that are known to be expensive to judge. The filter reads a request in
// every way in which a server behind Envoy might read it, so texts with many escapes, separators or
// nested brackets cost most. How they are measured is in attack_costs.go.

import (
	"fmt"
	"slices"
	"strings"
)

// An attack is a request that is as expensive to judge as an attacker can make it.
type attack struct {
	name    string
	request string // as it is sent
	plain   string // a request of the same size that is refused at once, by its method or its operation

	cost, base []float64 // microseconds of processor time for request and plain, by round
	answer     string    // to request: its status and rule
}

const (
	// headerBytes is how much Envoy accepts by default (max_request_headers_kb), in all headers and
	// the path.
	headerBytes = 60 << 10
	// otherHeaders is room for the headers that a request has besides the long one.
	otherHeaders = 500
	// bodyBytes is a little less than the 1 MiB that the filter reads by default, for what is
	// around the text.
	bodyBytes = 1<<20 - 4096
)

// fill returns the first n bytes of a text that is repeated without end.
func fill(n int, text string) string { return strings.Repeat(text, n/len(text)+1)[:n] }

// head returns an HTTP/1.1 request without a body, as it is sent. headers are pairs of name and
// value.
func head(method, path string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\n", method, path)
	for i := 0; i < len(headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", headers[i], headers[i+1])
	}
	return b.String() + "\r\n"
}

// withBody returns a POST with a body.
func withBody(path, contentType, body string) string {
	return head("POST", path, "content-type", contentType, "content-length", fmt.Sprint(len(body))) + body
}

// attacks returns the most expensive requests that reviews, attacks and fuzzing have found, for
// each part of a request that is read.
func attacks() []*attack { return slices.Concat(pathAttacks(), headerAttacks(), bodyAttacks()) }

// inPath returns an attack with a request that has a long path and no body. In read-only, the
// filter refuses the plain request by its method.
func inPath(name, request string) *attack {
	padding := len(request) - len(head("DELETE", "/"))
	return &attack{name: name, request: request, plain: head("DELETE", "/"+letters(padding))}
}

// inHead returns an attack with a request that has long headers and no body. The plain request is
// refused by its method.
func inHead(name, request string) *attack {
	padding := len(request) - len(head("DELETE", "/cart", "x-padding", ""))
	return &attack{name: name, request: request, plain: head("DELETE", "/cart", "x-padding", letters(padding))}
}

// inBody returns an attack with a long body. The plain request is a GraphQL mutation, which is
// refused once its document is read.
func inBody(name, path, contentType, body string) *attack {
	const before, after = `{"query":"mutation{b}","variables":{"a":"`, `"}}`
	plain := before + letters(len(body)-len(before)-len(after)) + after
	return &attack{name: name, request: withBody(path, contentType, body), plain: withBody("/graphql", "application/json", plain)}
}

// letters returns n letters, or none if n is negative.
func letters(n int) string { return strings.Repeat("a", max(0, n)) }

func pathAttacks() (all []*attack) {
	all = append(all, inPath("path, 4 kB of //a/./b%2f..;x", head("DELETE", "/"+fill(4000, "//a/./b%2f..;x"))))
	for _, text := range []string{"//a/./b%2f..;x", "%25", ";x/", "../", "a/", "%2e%2e%2f", ".a", "%c0%af", "A"} {
		all = append(all, inPath(fmt.Sprintf("path, 60 kB of %s", text), head("DELETE", "/"+fill(headerBytes-otherHeaders, text))))
	}

	for _, text := range []string{"a=%25&", "_method&", "%5fmethod=%50OST;", "%", "&", "x[_method]=", "query=%7Ba%7D&"} {
		all = append(all, inPath(fmt.Sprintf("query, 60 kB of %s", text), head("GET", "/graphql?"+fill(headerBytes-otherHeaders, text))))
	}
	return all
}

func headerAttacks() (all []*attack) {
	all = append(all, inHead("X-Original-URL, 4 kB, nested escapes and invalid UTF-8", head("GET", "/", "X-Original-URL", "/%"+strings.Repeat("25", 60)+"3b"+strings.Repeat("\xff", 3900))))
	for _, name := range []string{
		"x-original-url", "script_name", "x-forwarded-host", "cookie", "x-http-method-override",
		"accept", "accept-language", "content-type", "content-length-",
	} {
		for _, text := range []string{"/%25%2f..;\xff", "_method=a; ", "a;q=0.1,"} {
			all = append(all, inHead(fmt.Sprintf("header %s, 60 kB of %q", name, text), head("DELETE", "/cart", name, fill(headerBytes-otherHeaders, text))))
		}
	}

	for _, name := range []string{"x-original-url", "x.http!method~override", "accept-language", "cookie"} {
		var headers []string
		for range 90 {
			headers = append(headers, name, fill(500, "/a;b%2f..%25\xff,_method=a;"))
		}
		all = append(all, inHead("90 headers "+name, head("GET", "/", headers...)))
	}

	return all
}

func bodyAttacks() (all []*attack) {
	// crowdedState lets a POST to /search pass if its body overrides no method, so the body is
	// read.
	const form, json = "application/x-www-form-urlencoded", "application/json"
	for _, text := range []string{"\xff", "&", "a=%25&", "%5f%5", "+", "_=&"} {
		all = append(all, inBody(fmt.Sprintf("write-through form, 1 MB of %q", text), "/search", form, fill(bodyBytes, text)))
	}
	for _, text := range []string{`[`, `{"a":`, `"\u005f",`, `"a":1,`, `1,`} {
		all = append(all, inBody("write-through JSON, 1 MB of "+text, "/search", json, "["+fill(bodyBytes, text)))
	}

	for _, text := range []string{"{a", "a ", "{}", "#\\n", `\"\"\"`, `\u0061`, "fragment a on a{a}", "a:a(a:[", "@a", "...a ", "\xc3\xa9"} {
		all = append(all, inBody("GraphQL document, 1 MB of "+text, "/graphql", json, `{"query":"query{`+fill(bodyBytes/len(text)*len(text), text)+`"}`))
	}
	return append(all,
		inBody("GraphQL batch, 1 MB", "/graphql", json, "["+strings.TrimSuffix(strings.Repeat(`{"query":"{a}"},`, bodyBytes/16), ",")+"]"),
		inBody("GraphQL variables, 1 MB of [", "/graphql", json, `{"query":"{a}","variables":`+fill(bodyBytes, "[")+`}`),
		inBody("GraphQL keys, 1 MB", "/graphql", json, `{"query":"{a}"`+fill(bodyBytes/8*8, `,"a":"b"`)+`}`),
	)
}

// crowdedState returns the JSON of a state with rules of every kind, so that every part of a
// request is read. All apps are in read-only.
func crowdedState() string {
	on := `"activations":[{"id":"bench","source":"manual","mode":"read-only","since":"2026-01-01T00:00:00Z"}]`
	var writes []string
	for i := range 20 {
		writes = append(writes, fmt.Sprintf(`{"prefix":"/writes/%d"}`, i))
	}

	return `{"epoch":1,"revision":1,"apps":[{"name":"default","exempt":[{"methods":["GET"],"path":"/login"},{"prefix":"/.well-known"}],` +
		`"read_only":{"write_through":[{"methods":["POST"],"path":"/search"}],"get_writes":[` + strings.Join(writes, ",") + `]},` + on + `},` +
		`{"name":"admin","match":{"hosts":["admin.example.com"],"paths":["/admin","/orders"]},` + on + `}]}`
}
