package main

import (
	"fmt"
	"slices"
	"strings"
)

// An attack is a request that is as expensive to judge as an attacker can make it.
type attack struct {
	name, request string
	plain         string // a request of the same size that is refused at once, by its method or its operation

	cost, base []float64 // microseconds of processor time for request and plain, by round
	answer     string    // to request: its status and rule
}

const (
	headerBytes = 60 << 10 // Envoy accepts up to this by default (max_request_headers_kb)
	bodyBytes   = 1<<20 - 4096
)

// fill returns a text repeated to n bytes.
func fill(n int, text string) string { return strings.Repeat(text, n/len(text)+1)[:n] }

// head returns an HTTP/1.1 request without a body. headers are pairs of name and value.
func head(method, path string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\n", method, path)
	for i := 0; i < len(headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", headers[i], headers[i+1])
	}
	return b.String() + "\r\n"
}

// withBody returns a POST with a body.
func withBody(path, kind, body string) string {
	return head("POST", path, "content-type", kind, "content-length", fmt.Sprint(len(body))) + body
}

// attacks returns the most expensive requests that reviews, attacks and fuzzing have found, for
// each part of a request that is read.
func attacks() []*attack { return slices.Concat(pathAttacks(), headerAttacks(), bodyAttacks()) }

// inPath returns an attack whose request without a body has a long path.
func inPath(name, request string) *attack {
	rest := len(request) - len(head("DELETE", "/"))
	return &attack{name: name, request: request, plain: head("DELETE", "/"+strings.Repeat("a", max(0, rest)))}
}

// inHead returns an attack whose request without a body has long headers.
func inHead(name, request string) *attack {
	rest := len(request) - len(head("DELETE", "/cart", "x-padding", ""))
	return &attack{name: name, request: request, plain: head("DELETE", "/cart", "x-padding", strings.Repeat("a", max(0, rest)))}
}

// inBody returns an attack with a long body.
func inBody(name, path, contentType, body string) *attack {
	const plain = `{"query":"mutation{b}","variables":{"a":""}}`
	padded := strings.Replace(plain, `""`, `"`+strings.Repeat("a", max(0, len(body)-len(plain)))+`"`, 1)
	return &attack{name: name, request: withBody(path, contentType, body), plain: withBody("/graphql", "application/json", padded)}
}

func pathAttacks() (all []*attack) {
	all = append(all, inPath("path, 4 kB of //a/./b%2f..;x", head("DELETE", "/"+fill(4000, "//a/./b%2f..;x"))))
	for _, text := range []string{"//a/./b%2f..;x", "%25", ";x/", "../", "a/", "%2e%2e%2f", ".a", "%c0%af", "A"} {
		all = append(all, inPath(fmt.Sprintf("path, 60 kB of %s", text), head("DELETE", "/"+fill(headerBytes-500, text))))
	}

	for _, text := range []string{"a=%25&", "_method&", "%5fmethod=%50OST;", "%", "&", "x[_method]=", "query=%7Ba%7D&"} {
		all = append(all, inPath(fmt.Sprintf("query, 60 kB of %s", text), head("GET", "/graphql?"+fill(headerBytes-500, text))))
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
			all = append(all, inHead(fmt.Sprintf("header %s, 60 kB of %q", name, text), head("DELETE", "/cart", name, fill(headerBytes-500, text))))
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

// crowdedState returns a state with rules of every kind, so that every part of a request is read.
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
