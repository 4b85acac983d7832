package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/drydock-proxy/drydock/e2e"
)

// An attack is a request that is as expensive to judge as somebody could make it.
type attack struct {
	name, request string
	// plain is a request of the same size that is refused without anything to find out.
	plain string

	cost, base []float64 // microseconds of Envoy's CPU, by round
	answer     string
}

const (
	headerBytes = 60 << 10 // what Envoy takes unless told otherwise (max_request_headers_kb)
	bodyBytes   = 1<<20 - 4096
)

// fill repeats a text to n bytes.
func fill(n int, text string) string { return strings.Repeat(text, n/len(text)+1)[:n] }

func head(method, path string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nhost: bench\r\naccept: application/json\r\n", method, path)
	for i := 0; i < len(headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", headers[i], headers[i+1])
	}
	return b.String() + "\r\n"
}

func withBody(path, kind, body string) string {
	return head("POST", path, "content-type", kind, "content-length", fmt.Sprint(len(body))) + body
}

// attacks are the worst inputs that reviews, attacks and fuzzing have found, in each part
// of a request that is read.
func attacks() []*attack {
	var all []*attack
	inHead := func(name, request string) {
		rest := len(request) - len(head("DELETE", "/cart", "x-padding", ""))
		all = append(all, &attack{name: name, request: request, plain: head("DELETE", "/cart", "x-padding", strings.Repeat("a", max(0, rest)))})
	}
	inPath := func(name, request string) {
		rest := len(request) - len(head("DELETE", "/"))
		all = append(all, &attack{name: name, request: request, plain: head("DELETE", "/"+strings.Repeat("a", max(0, rest)))})
	}
	inBody := func(name, path, kind, body string) {
		const plain = `{"query":"mutation{b}","variables":{"a":""}}`
		padded := strings.Replace(plain, `""`, `"`+strings.Repeat("a", max(0, len(body)-len(plain)))+`"`, 1)
		all = append(all, &attack{name: name, request: withBody(path, kind, body), plain: withBody("/graphql", "application/json", padded)})
	}

	inPath("path, 4 kB of //a/./b%2f..;x", head("DELETE", "/"+fill(4000, "//a/./b%2f..;x")))
	for _, text := range []string{"//a/./b%2f..;x", "%25", ";x/", "../", "a/", "%2e%2e%2f", ".a", "%c0%af", "A"} {
		inPath(fmt.Sprintf("path, 60 kB of %s", text), head("DELETE", "/"+fill(headerBytes-500, text)))
	}
	for _, text := range []string{"a=%25&", "_method&", "%5fmethod=%50OST;", "%", "&", "x[_method]=", "query=%7Ba%7D&"} {
		inPath(fmt.Sprintf("query, 60 kB of %s", text), head("GET", "/graphql?"+fill(headerBytes-500, text)))
	}
	inHead("X-Original-URL, 4 kB, nested escapes and no UTF-8", head("GET", "/", "X-Original-URL", "/%"+strings.Repeat("25", 60)+"3b"+strings.Repeat("\xff", 3900)))
	for _, name := range []string{"x-original-url", "script_name", "x-forwarded-host", "cookie", "x-http-method-override", "accept", "accept-language", "content-type", "content-length-"} {
		for _, text := range []string{"/%25%2f..;\xff", "_method=a; ", "a;q=0.1,"} {
			inHead(fmt.Sprintf("header %s, 60 kB of %q", name, text), head("DELETE", "/cart", name, fill(headerBytes-500, text)))
		}
	}
	for _, name := range []string{"x-original-url", "x.http!method~override", "accept-language", "cookie"} {
		var headers []string
		for range 90 {
			headers = append(headers, name, fill(500, "/a;b%2f..%25\xff,_method=a;"))
		}
		inHead("90 headers "+name, head("GET", "/", headers...))
	}

	form := "application/x-www-form-urlencoded"
	for _, text := range []string{"\xff", "&", "a=%25&", "%5f%5", "+", "_=&"} {
		inBody(fmt.Sprintf("write-through form, 1 MB of %q", text), "/search", form, fill(bodyBytes, text))
	}
	for _, text := range []string{`[`, `{"a":`, `"\u005f",`, `"a":1,`, `1,`} {
		inBody("write-through JSON, 1 MB of "+text, "/search", "application/json", "["+fill(bodyBytes, text))
	}
	for _, text := range []string{"{a", "a ", "{}", "#\\n", `\"\"\"`, `\u0061`, "fragment a on a{a}", "a:a(a:[", "@a", "...a ", "\xc3\xa9"} {
		inBody("GraphQL document, 1 MB of "+text, "/graphql", "application/json", `{"query":"query{`+fill(bodyBytes/len(text)*len(text), text)+`"}`)
	}
	inBody("GraphQL batch, 1 MB", "/graphql", "application/json", "["+strings.TrimSuffix(strings.Repeat(`{"query":"{a}"},`, bodyBytes/16), ",")+"]")
	inBody("GraphQL variables, 1 MB of [", "/graphql", "application/json", `{"query":"{a}","variables":`+fill(bodyBytes, "[")+`}`)
	inBody("GraphQL keys, 1 MB", "/graphql", "application/json", `{"query":"{a}"`+fill(bodyBytes/8*8, `,"a":"b"`)+`}`)
	return all
}

// crowdedState is a document with rules of every kind, so that each part of a request is
// asked about.
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

// bare takes out of a bootstrap what refuses or changes a request before the filter sees
// it: in a mesh the edge is somebody else's.
func bare(bootstrap []byte) ([]byte, error) {
	var tree any
	if err := json.Unmarshal(bootstrap, &tree); err != nil {
		return nil, err
	}
	found := false
	for node := range e2e.Objects(tree) {
		if _, ok := node["early_header_mutation_extensions"]; ok {
			found = true
			for _, name := range []string{"early_header_mutation_extensions", "normalize_path", "merge_slashes", "path_with_escaped_slashes_action"} {
				delete(node, name)
			}
			node["max_request_headers_kb"] = 96
		}
	}
	if !found {
		return nil, errors.New("the bootstrap has no connection manager to lay bare")
	}
	return json.Marshal(tree)
}

// runAttacks prints what the worst requests cost beside plain refused ones of their size.
func runAttacks(rounds, requests int) error {
	dir, err := os.MkdirTemp("", "drydock-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := e2e.Root()
	if err != nil {
		return err
	}
	bin, err := e2e.FindEnvoy(context.Background(), os.Stderr)
	if err != nil {
		return err
	}
	controller, err := serveState(crowdedState())
	if err != nil {
		return err
	}
	bootstrap, err := e2e.Bootstrap("drydock.yaml", e2e.Substitution{
		Ports: map[int]string{8080: ":0", 9901: ":0", 8081: "127.0.0.1:1", 7071: controller},
		Files: map[string]string{"bin/drydock.wasm": filepath.Join(root, "bin", "drydock.wasm")},
	})
	if err != nil {
		return err
	}
	if bootstrap, err = bare(bootstrap); err != nil {
		return err
	}
	envoy, err := e2e.StartEnvoy(context.Background(), e2e.EnvoyOptions{Binary: bin, Bootstrap: bootstrap, Dir: dir, Workers: 1, Env: []string{"DRYDOCK_SYNC_TOKEN=bench"}})
	if err != nil {
		return err
	}
	defer envoy.Stop(time.Second)

	v := &variant{envoy: envoy}
	client := &line{addr: envoy.Listeners["edge"]}
	defer client.close()
	if err := client.untilReadOnly(); err != nil {
		return err
	}
	all := attacks()
	for round := range rounds + 1 { // the first warms up
		for _, a := range all {
			n := max(5, min(requests, 8<<20/len(a.request)))
			cost, answer, err := v.cost(client, a.request, n)
			if err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			base, plain, err := v.cost(client, a.plain, n)
			if err != nil {
				return fmt.Errorf("the plain request beside %s: %w", a.name, err)
			}
			if !strings.HasPrefix(plain, "503 ") {
				return fmt.Errorf("the plain request beside %s is answered %s, not refused by the filter", a.name, plain)
			}
			if a.answer = answer; round > 0 {
				a.cost, a.base = append(a.cost, cost), append(a.base, base)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *attack) int { return int(1000 * (b.times() - a.times())) })
	fmt.Printf("Envoy's CPU per request, medians of %d rounds, one worker; the dearest first:\n\n", rounds)
	fmt.Println("| request | bytes | CPU | a plain refused one of its size | times | answer |")
	fmt.Println("| --- | --- | --- | --- | --- | --- |")
	for _, a := range all {
		fmt.Printf("| %s | %d | %.0f µs | %.0f µs | %.1f | %s |\n", strings.ReplaceAll(a.name, "|", `\|`), len(a.request), median(a.cost), median(a.base), a.times(), a.answer)
	}
	return nil
}

func (a *attack) times() float64 { return median(a.cost) / median(a.base) }

// cost is the worker's processor time for each of n requests, in microseconds.
func (v *variant) cost(client *line, request string, n int) (cost float64, answer string, err error) {
	before, err := v.processorTime()
	if err != nil {
		return 0, "", err
	}
	for range n {
		if answer, err = client.send(request); err != nil {
			return 0, "", err
		}
	}
	after, err := v.processorTime()
	return float64(after-before) / float64(time.Microsecond) / float64(n), answer, err
}

// line is a connection that is opened anew when Envoy closes it, as it does after some
// refusals.
type line struct {
	addr string
	conn net.Conn
	r    *bufio.Reader
}

func (l *line) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

var ruleInBody = regexp.MustCompile(`"rule":"([^"]*)"`)

// send returns the status and the rule, or Envoy's own text.
func (l *line) send(request string) (string, error) {
	if l.conn == nil {
		conn, err := net.Dial("tcp", l.addr)
		if err != nil {
			return "", err
		}
		l.conn, l.r = conn, bufio.NewReader(conn)
	}
	// An answer may come before all of the request is taken.
	sent := make(chan struct{})
	go func(conn net.Conn) {
		io.WriteString(conn, request)
		close(sent)
	}(l.conn)
	resp, err := http.ReadResponse(l.r, nil)
	if err != nil {
		l.close()
		<-sent
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Close {
		l.close()
	}
	<-sent
	what := "by Envoy"
	if rule := ruleInBody.FindSubmatch(body); rule != nil {
		what = string(rule[1])
	} else if resp.StatusCode < 400 || resp.StatusCode == http.StatusServiceUnavailable {
		what = "passed on"
	}
	return fmt.Sprint(resp.StatusCode, " ", what), err
}

// untilReadOnly waits for the state.
func (l *line) untilReadOnly() error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		answer, err := l.send(head("DELETE", "/cart"))
		if err == nil && answer == "503 read-only.method" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no state came; a DELETE is answered %s (%v)", answer, err)
		}
	}
}
