package honest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file sends an entry, a request of the corpus (corpus.go), through the Envoy of a rig
// (rig_test.go) and finds out what became of it.

// exchangePatience is how long an exchange may take. Envoy and the upstream answer at once.
const exchangePatience = 15 * time.Second

// replay sends an entry to its app in a mode, and returns the verdict: "pass" if the upstream got
// the request, and "refuse" if Drydock answered. If the entry was refused or changed in a way that
// it must not be, problem says so. redirects is 1 if Envoy redirected the request to a path without
// encoded slashes, which replay follows (path_with_escaped_slashes_action of our bootstrap), and 0
// otherwise. id must be another one for each call.
func (r *rig) replay(t *testing.T, e *Entry, mode maintenance.Mode, id string) (verdict string, redirects int, problem string) {
	t.Helper()
	sent := *e // with the target of the redirect
	for {
		a, err := sent.send(r.envoy.Listeners["edge"], Host(e.App, mode), id)
		if err != nil {
			return "", redirects, err.Error()
		}

		got, arrived := r.upstream.take(id)
		switch {
		case arrived && a.Status != http.StatusOK:
			return "", redirects, fmt.Sprintf("it reached the upstream, but the client got %d", a.Status)
		case arrived:
			return "pass", redirects, sent.difference(got)
		case a.Status == http.StatusTemporaryRedirect && redirects == 0:
			location, err := url.Parse(a.Header.Get("Location"))
			if err != nil {
				return "", redirects, err.Error()
			}
			sent.Target = location.RequestURI()
			redirects++
		case a.isRefusal():
			return "refuse", redirects, ""
		default:
			return "", redirects, fmt.Sprintf("it did not reach the upstream, and the client got %d %.200s", a.Status, a.Body)
		}
	}
}

// isRefusal reports whether an answer is one by which Drydock refuses a request. It is called only
// for requests that did not reach the upstream.
func (a *answer) isRefusal() bool {
	switch a.Status {
	case http.StatusServiceUnavailable:
		return true
	case http.StatusBadRequest: // malformed GraphQL
		return true
	case http.StatusNoContent: // a preflight of an origin that the app lists
		return true
	case http.StatusRequestEntityTooLarge:
		// From Envoy: if a body exceeds both its limit and the filter's, Envoy may notice first.
		return true
	case http.StatusOK:
		const unavailable = "14" // google.rpc.Code
		return a.Header.Get("Grpc-Status") == unavailable || a.Trailer.Get("Grpc-Status") == unavailable
	}
	return false
}

// answer is what came back to the client.
type answer struct {
	Status  int
	Header  http.Header
	Body    []byte
	Trailer http.Header
}

// send sends an entry for a host to a proxy (host:port) and returns the final answer. id is the
// value of idHeader.
func (e *Entry) send(proxy, host, id string) (answer, error) {
	if e.Version == "HTTP/2" {
		return e.sendHTTP2(proxy, host, id)
	}
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		return answer{}, fmt.Errorf("connecting: %w", err)
	}
	defer c.Close()

	if err := c.SetDeadline(time.Now().Add(exchangePatience)); err != nil {
		return answer{}, fmt.Errorf("setting a deadline: %w", err)
	}
	// A server that refuses a request need not read all of it. The write may fail, and the answer
	// comes all the same.
	_, _ = c.Write(e.bytes(host, id))

	in := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: e.Method})
		if err != nil {
			return answer{}, fmt.Errorf("reading the answer: %w", err)
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		return readAnswer(resp)
	}
}

// sendHTTP2 does what send does, over HTTP/2 without TLS. The order of the headers is lost, but no
// rule of Drydock depends on it.
func (e *Entry) sendHTTP2(proxy, host, id string) (answer, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DisableCompression: true, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()

	// Opaque keeps the path as it is spelt. A nil User-Agent keeps the client from adding its own.
	path, query, _ := strings.Cut(e.Target, "?")
	req := &http.Request{
		Method: e.Method, URL: &url.URL{Scheme: "http", Host: proxy, Opaque: "//" + host + path, RawQuery: query},
		Host: host, Header: http.Header{"User-Agent": nil},
	}
	if !e.streamEnds() {
		const unknownLength = -1 // as with gRPC
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(e.body())), unknownLength
	}
	if e.Framing == "length" {
		req.ContentLength = int64(len(e.body()))
	}

	for _, h := range e.Headers {
		name := http.CanonicalHeaderKey(h[0])
		req.Header[name] = append(req.Header[name], h[1])
	}
	req.Header.Set(idHeader, id)

	client := &http.Client{
		Transport: transport, Timeout: exchangePatience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // replay follows redirects
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("sending over HTTP/2: %w", err)
	}
	return readAnswer(resp)
}

// readAnswer reads the body and the trailers of a response, and closes it.
func readAnswer(resp *http.Response) (answer, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	return answer{resp.StatusCode, resp.Header, body, resp.Trailer}, nil
}

// hops are headers that belong to one connection (RFC 9110 section 7.6.1) or that Envoy sets
// itself.
var hops = []string{
	"connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "expect", "trailer",
	"x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-envoy-external-address", "x-envoy-internal",
}

// difference describes how a request that reached the upstream differs from the entry, or returns
// "" if it does not. It leaves out hops. Values of one header may have been joined by "," or, for
// cookies, by "; ".
func (e *Entry) difference(got received) string {
	if got.Method != e.Method || got.Target != e.Target {
		return fmt.Sprintf("it arrived as %s %s", got.Method, got.Target)
	}
	if !bytes.Equal(got.Body, e.body()) {
		return fmt.Sprintf("%d bytes of body arrived, not the %d that were sent", len(got.Body), len(e.body()))
	}

	want := http.Header{}
	for _, h := range e.Headers {
		want.Add(h[0], strings.TrimSpace(h[1]))
	}
	for name, values := range want {
		if slices.Contains(hops, strings.ToLower(name)) {
			continue
		}
		arrived := got.Header.Values(name)
		sameJoinedBy := func(sep string) bool { return strings.Join(arrived, sep) == strings.Join(values, sep) }
		if !sameJoinedBy(",") && !sameJoinedBy("; ") {
			return fmt.Sprintf("header %s arrived as %q, sent as %q", name, arrived, values)
		}
	}
	return ""
}
