package differential

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/adversary"
)

// This file has what a test puts in front of servers, and the states that it enforces. A state
// document (maintenance.Document) lists apps, each with its rules and its activations; an
// activation puts the app into a mode. maintenance.Compile makes a maintenance.State of the
// document, and Decide of that state is the core: the rules that the filter in Envoy applies, too.
// envoy.go has the gates with a real Envoy.

// A Gate starts a proxy in front of each server. The proxies enforce a state until the test ends. A
// Gate returns the addresses (host:port) of the proxies, in the order of the servers.
type Gate func(t testing.TB, servers []*Server, state maintenance.Document) (addrs []string)

// NoGate returns the addresses of the servers themselves.
func NoGate(_ testing.TB, servers []*Server, _ maintenance.Document) (addrs []string) {
	for _, s := range servers {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}

// InMode returns an app of these rules that an operator put into a mode a minute ago.
func InMode(spec maintenance.Spec, mode maintenance.Mode) maintenance.App {
	return maintenance.App{Spec: spec, Activations: []maintenance.Activation{{
		ID: "rig", Source: maintenance.SourceManual, Mode: mode, Since: time.Now().Add(-time.Minute).UTC().Truncate(time.Second),
	}}}
}

// State returns a document with these apps and the version of a first revision.
func State(apps ...maintenance.App) maintenance.Document {
	return maintenance.Document{Version: maintenance.Version{Epoch: 1, Revision: 1}, Apps: apps}
}

// CoreGate decides by the core alone, in a proxy of net/http. It is faster than Envoy, and a
// request that gets past it shows a hole in the rules themselves. It calls t.Fatal if the document
// is invalid.
func CoreGate(t testing.TB, servers []*Server, document maintenance.Document) (addrs []string) {
	t.Helper()
	state, err := maintenance.Compile(document)
	if err != nil {
		t.Fatal(err)
	}

	for _, s := range servers {
		gate := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			guard(w, r, state, s)
		}))
		gate.Config.ErrorLog = log.New(io.Discard, "", 0) // it would report malformed requests
		gate.Config.Protocols = new(http.Protocols)
		gate.Config.Protocols.SetHTTP1(true)
		gate.Config.Protocols.SetUnencryptedHTTP2(true)
		gate.Start()

		t.Cleanup(gate.Close)
		addrs = append(addrs, gate.Listener.Addr().String())
	}
	return addrs
}

// maxRequestBody is how much of the body of a request CoreGate reads, in bytes: more than the core
// asks for by default, and more than generators send.
const maxRequestBody = 2 << 20

// guard asks the core about a request as the filter does: first by the headers and, if the verdict
// is NeedBody, again with the start of the body. It forwards a request that passes, and answers
// another with the core's reply.
func guard(w http.ResponseWriter, r *http.Request, state *maintenance.State, s *Server) {
	// Envoy, too, takes host and path from a target in absolute form.
	target := r.RequestURI
	if r.URL.IsAbs() {
		target = r.URL.RequestURI()
	}
	m := &maintenance.Request{
		Method: r.Method, Authority: r.Host, Path: target, EndStream: r.Body == http.NoBody,
		Attributes: adversary.Stranger{}, // a client for which no exception is made
	}
	for name, values := range r.Header {
		for _, v := range values {
			m.Headers = append(m.Headers, [2]string{strings.ToLower(name), v})
		}
	}

	d := state.Decide(m, time.Now())
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequestBody))
	if err != nil {
		return // the client sent less than it announced, so the request is not whole
	}
	if d.Verdict == maintenance.NeedBody {
		// The core learns from one byte more than it asks for that the body is too long.
		m.Body, m.BodyRead = body[:min(len(body), d.MaxBody+1)], true
		d = state.Decide(m, time.Now())
	}

	if d.Verdict == maintenance.Pass {
		forward(w, r, target, body, s)
		return
	}
	reply := d.Reply(m, nil, time.Now()) // nil: without a page of the operator
	for _, h := range reply.Headers {
		w.Header().Add(h[0], h[1])
	}
	w.Header().Set(refusedBy, string(d.Rule))
	w.WriteHeader(reply.Status)
	w.Write(reply.Body)
}

// forward sends a request to a server, on a connection of its own and with a Content-Length, and
// writes the server's answer to the client. It leaves out the headers that concern only the
// connection to the client.
func forward(w http.ResponseWriter, r *http.Request, target string, body []byte, s *Server) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", r.Method, target, r.Host)
	for name, values := range r.Header { // such as "Content-Length"
		if slices.Contains([]string{"Connection", "Content-Length", "Expect", "Te", "Trailer", "Upgrade"}, name) {
			continue
		}
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	if r.Body != http.NoBody || r.Method == http.MethodPost { // some servers require a length of POST
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)

	const awaitSecond = false
	res, err := sendHTTP1(s.Addr, b.Bytes(), r.Method, defaultPatience, awaitSecond)
	if err != nil || res.Status < 200 {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if contentType := res.Header.Get("Content-Type"); contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	w.WriteHeader(res.Status)
	w.Write(res.Body)
}

// refusedBy is the header in which CoreGate names the rule of a refusal.
const refusedBy = "X-Refused-By"

// AwaitRefusal waits until a gate enforces its state, which an Envoy has to fetch first. It sends a
// request that the gate must refuse again and again, until the answer is 503 or 20 seconds have
// passed, and returns the last answer.
func AwaitRefusal(t testing.TB, addr string, r *Request) Response {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		res, err := Send(addr, r)
		if err != nil {
			t.Fatal(err)
		}
		if res.Status == http.StatusServiceUnavailable || !time.Now().Before(deadline) {
			return res
		}
	}
}
