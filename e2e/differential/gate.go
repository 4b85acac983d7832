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

// A Gate stands between the generator and the servers. It enforces a state until the test ends, and
// returns, in the servers' order, the addresses (host:port) at which each is reached through it.
type Gate func(t testing.TB, servers []*Server, state maintenance.Document) (addrs []string)

// NoGate lets everything through.
func NoGate(_ testing.TB, servers []*Server, _ maintenance.Document) (addrs []string) {
	for _, s := range servers {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}

// InMode returns an app that an operator has put into a mode.
func InMode(spec maintenance.Spec, mode maintenance.Mode) maintenance.App {
	return maintenance.App{Spec: spec, Activations: []maintenance.Activation{{
		ID: "rig", Source: maintenance.SourceManual, Mode: mode, Since: time.Now().Add(-time.Minute).UTC().Truncate(time.Second),
	}}}
}

// State returns a document with these apps.
func State(apps ...maintenance.App) maintenance.Document {
	return maintenance.Document{Version: maintenance.Version{Epoch: 1, Revision: 1}, Apps: apps}
}

// CoreGate decides by the core alone, in a proxy of net/http. It finds a hole in the rules fast,
// and tells it from one that only Envoy makes.
func CoreGate(t testing.TB, servers []*Server, document maintenance.Document) (addrs []string) {
	t.Helper()
	state, err := maintenance.Compile(document)
	if err != nil {
		t.Fatal(err)
	}

	for _, s := range servers {
		gate := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { guard(w, r, state, s) }))
		gate.Config.ErrorLog = log.New(io.Discard, "", 0)
		gate.Config.Protocols = new(http.Protocols)
		gate.Config.Protocols.SetHTTP1(true)
		gate.Config.Protocols.SetUnencryptedHTTP2(true)
		gate.Start()

		t.Cleanup(gate.Close)
		addrs = append(addrs, gate.Listener.Addr().String())
	}
	return addrs
}

// guard decides as the filter does, first by the headers and, if the core asks for it, again by the
// body. It forwards what passes.
func guard(w http.ResponseWriter, r *http.Request, state *maintenance.State, s *Server) {
	// Envoy, too, takes host and path from a target in absolute form.
	target := r.RequestURI
	if r.URL.IsAbs() {
		target = r.URL.RequestURI()
	}
	m := &maintenance.Request{Method: r.Method, Authority: r.Host, Path: target, EndStream: r.Body == http.NoBody, Attributes: adversary.Stranger{}}
	for name, values := range r.Header {
		for _, v := range values {
			m.Headers = append(m.Headers, [2]string{strings.ToLower(name), v})
		}
	}

	d := state.Decide(m, time.Now())
	body, err := io.ReadAll(io.LimitReader(r.Body, 2<<20))
	if err != nil {
		return
	}
	if d.Verdict == maintenance.NeedBody {
		// The filter reads one byte more than the core asks for.
		m.Body, m.BodyRead = body[:min(len(body), d.MaxBody+1)], true
		d = state.Decide(m, time.Now())
	}

	if d.Verdict == maintenance.Pass {
		forward(w, r, target, body, s)
		return
	}
	reply := d.Reply(m, nil, time.Now())
	for _, h := range reply.Headers {
		w.Header().Add(h[0], h[1])
	}
	w.Header().Set(refusedBy, string(d.Rule))
	w.WriteHeader(reply.Status)
	w.Write(reply.Body)
}

// forward sends a request to a server on a connection of its own and returns the answer to the
// client.
func forward(w http.ResponseWriter, r *http.Request, target string, body []byte, s *Server) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", r.Method, target, r.Host)
	for name, values := range r.Header {
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
	if t := res.Header.Get("Content-Type"); t != "" {
		w.Header().Set("Content-Type", t)
	}
	w.WriteHeader(res.Status)
	w.Write(res.Body)
}

// refusedBy is the header in which CoreGate names the rule of a refusal.
const refusedBy = "X-Refused-By"

// AwaitRefusal sends a request that a gate must refuse until the gate answers 503, which it does
// once it has its state. It returns the last answer, and gives up after 20 seconds.
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
