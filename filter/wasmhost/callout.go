package wasmhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file holds callouts: HTTP calls of a module to a cluster. httpCall starts a callout, a test
// or the handler of the cluster answers it, and the answer calls the module back. A callout belongs
// to a root context (plugin.go) in one instance of the module (instance.go).

// Callout is an HTTP call that a module has made (proxy_http_call). Answering it calls the module
// back on the caller's goroutine, which must be the one that uses the VM. An answer to a callout
// that was already answered, or whose VM or plugin is gone, is dropped.
type Callout struct {
	Cluster  string
	Token    uint32 // the module's id for it
	Headers  Headers
	Body     []byte
	Trailers Headers
	Timeout  time.Duration // 0: none

	in     *instance
	root   *root
	cancel context.CancelFunc // ends the handler; nil without one
}

// calloutResponse is the answer that the module can read during the callback.
type calloutResponse struct {
	headers  Headers
	body     []byte
	trailers *Headers // nil: none
}

// NoHealthyHost is the handler of a cluster without a healthy host. The host call itself fails with
// InternalFailure.
var NoHealthyHost http.Handler = noHealthyHost{}

type noHealthyHost struct{}

func (noHealthyHost) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
}

// Forward returns the handler of a cluster whose only host is the server at u, of which scheme and
// host are used. As in Envoy, a server that cannot be reached results in an answer of 503, and one
// that breaks off its answer makes the callout fail.
func Forward(u *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host },
		ErrorLog: log.New(io.Discard, "", 0), // the module gets the error
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure")
		},
	}
}

// contextServer is the [http.Server] that handlers find in their context.
var contextServer = new(http.Server)

// Callouts returns the calls that wait for an answer, oldest first, including those that a handler
// is working on.
func (h *Host) Callouts() []*Callout {
	h.mu.Lock()
	defer h.mu.Unlock()

	return slices.Clone(h.callouts)
}

// Callouts returns the calls of this VM that wait for an answer, oldest first.
func (vm *VM) Callouts() []*Callout {
	return slices.DeleteFunc(vm.host.Callouts(), func(c *Callout) bool { return c.in.vm != vm })
}

// httpCall is proxy_http_call. Its parameters are 0 and 1 the name of the cluster, 2 and 3 the
// headers, 4 and 5 the body, 6 and 7 the trailers, 8 the timeout in milliseconds, and 9 where to
// return the token, an id that the callback for the answer gets too. The token is written also if
// the call fails. A call from a stream belongs to the root context of the stream, and outlives the
// stream.
func (c call) httpCall() Status {
	root := c.in.current().root
	co := &Callout{
		in: c.in, root: root, Cluster: c.str(0), Headers: parsePairs(c.bytes(2)).normalized(), Body: slices.Clone(c.bytes(4)),
		Trailers: parsePairs(c.bytes(6)), Timeout: time.Duration(int32(c.u32(8))) * time.Millisecond,
	}
	co.Headers.moveHostToAuthority()

	st := co.start()
	if put := c.put32(9, co.Token); st == StatusOK {
		st = put
	}
	return st
}

// start makes the call. As in Envoy (Context::httpCall), an unknown cluster, a negative timeout and
// headers without a method, a path or an authority are BadArgument; a cluster without a healthy
// host is InternalFailure.
func (c *Callout) start() Status {
	h := c.in.vm.host
	h.mu.Lock()
	defer h.mu.Unlock()

	handler, ok := h.clusters[c.Cluster]
	complete := c.Headers.Has(":method") && c.Headers.Has(":path") && c.Headers.Has(":authority")
	if !ok || c.Timeout < 0 || !complete {
		return StatusBadArgument
	}

	const kindsOfCallout = 4 // the two low bits of a token are the kind of callout, 0 for HTTP
	c.in.nextCall += kindsOfCallout
	if handler == NoHealthyHost {
		return StatusInternalFailure
	}

	c.Token = c.in.nextCall
	if len(c.Body) > 0 {
		c.Headers.replace("content-length", strconv.Itoa(len(c.Body)))
	}

	h.callouts = append(h.callouts, c)
	c.root.callouts = append(c.root.callouts, c)
	if handler != nil {
		c.serve(handler)
	}
	return StatusOK
}

// serve runs the handler on goroutines of its own, and posts its answer, or the expiry of the
// timeout if that is earlier, to the thread of the VM.
func (c *Callout) serve(handler http.Handler) {
	ctx, cancel := context.WithCancel(context.Background())
	if c.Timeout > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), c.Timeout)
	}
	c.cancel = cancel

	vm := c.in.vm
	answer := make(chan func(), 1)
	go func() { answer <- c.handle(ctx, handler) }()
	go func() {
		select {
		case fn := <-answer:
			vm.Post(fn)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				vm.Post(c.Expire)
			}
		}
	}()
}

// handle runs the handler and returns the function that answers the callout with what the handler
// wrote. A handler that panics breaks its answer off.
func (c *Callout) handle(ctx context.Context, handler http.Handler) (answer func()) {
	defer func() {
		if r := recover(); r != nil {
			if r != http.ErrAbortHandler {
				c.logError("handler panicked: %v", r)
			}
			answer = c.Fail
		}
	}()

	req, err := c.request(ctx)
	if err != nil {
		c.logError("%v", err)
		return c.Fail
	}

	w := &responseWriter{header: make(http.Header)}
	handler.ServeHTTP(w, req)
	w.WriteHeader(http.StatusOK) // if the handler has not written a status
	if w.sent.Get("Content-Length") == "" {
		w.sent.Set("Content-Length", strconv.Itoa(w.body.Len()))
	}

	// A handler sets trailers as headers with a prefix, before or after it writes the status.
	maps.DeleteFunc(w.sent, func(name string, _ []string) bool { return strings.HasPrefix(name, http.TrailerPrefix) })
	headers := append(Headers{{":status", strconv.Itoa(w.status)}}, headerFields(w.sent)...)
	trailers := make(http.Header)
	for name, values := range w.header {
		if trailer, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			trailers[trailer] = values
		}
	}

	return func() { c.Respond(headers, w.body.Bytes(), headerFields(trailers)) }
}

// request returns the callout as the request that a server passes to a handler.
func (c *Callout) request(ctx context.Context) (*http.Request, error) {
	// Without a server in the context, ReverseProxy does not panic when an answer breaks off, so
	// that the answer would seem complete.
	ctx = context.WithValue(ctx, http.ServerContextKey, contextServer)

	u := "http://" + c.Headers.Get(":authority") + c.Headers.Get(":path")
	req, err := http.NewRequestWithContext(ctx, c.Headers.Get(":method"), u, bytes.NewReader(c.Body))
	if err != nil {
		return nil, err
	}

	req.RequestURI = c.Headers.Get(":path")
	for _, f := range c.Headers {
		if !strings.HasPrefix(f[0], ":") {
			req.Header.Add(f[0], f[1])
		}
	}
	for _, f := range c.Trailers {
		if req.Trailer == nil {
			req.Trailer = make(http.Header)
		}
		req.Trailer.Add(f[0], f[1])
	}
	return req, nil
}

// logError logs an error of the handler of the cluster.
func (c *Callout) logError(format string, args ...any) {
	message := fmt.Sprintf("cluster %s: %s", c.Cluster, fmt.Sprintf(format, args...))
	c.in.vm.host.log(LogEntry{Thread: c.in.vm.cfg.Thread, Level: slog.LevelError, Message: message})
}

// headerFields returns the fields sorted by name, in lower case.
func headerFields(h http.Header) (fs Headers) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			fs = append(fs, [2]string{strings.ToLower(name), v})
		}
	}
	return fs
}

// responseWriter records the answer of a handler.
type responseWriter struct {
	header http.Header
	status int
	sent   http.Header // a copy of header at the time when the status was written
	body   bytes.Buffer
}

// Header, WriteHeader, Write and Flush implement [http.ResponseWriter] and [http.Flusher]. An
// informational status (1xx) is ignored, as is any status after the first.
func (w *responseWriter) Header() http.Header { return w.header }

func (w *responseWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *responseWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *responseWriter) Flush() {}

// Respond answers the callout. The headers must include ":status".
func (c *Callout) Respond(headers Headers, body []byte, trailers Headers) {
	if !c.remove() {
		return
	}

	r := &calloutResponse{headers: headers.normalized(), body: body}
	if len(trailers) > 0 {
		t := trailers.normalized()
		r.trailers = &t
	}

	c.root.response = r
	c.callBack(len(headers), len(body), len(trailers))
}

// Fail breaks the callout off. The module's callback gets no headers, and proxy_get_status returns
// the reason.
func (c *Callout) Fail() {
	if !c.remove() {
		return
	}

	c.root.status, c.root.statusMessage = StatusBrokenConnection, "reset"
	c.callBack(0, 0, 0)
}

// Expire answers with 504, as Envoy does when the timeout of the callout has passed.
func (c *Callout) Expire() {
	const body = "upstream request timeout"
	headers := Headers{{":status", "504"}, {"content-length", strconv.Itoa(len(body))}, {"content-type", "text/plain"}}
	c.Respond(headers, []byte(body), nil)
}

// callBack calls proxy_on_http_call_response. The arguments are the numbers of header fields, of
// bytes and of trailer fields of the answer, which the module reads during the callback.
func (c *Callout) callBack(headers, body, trailers int) {
	in, r := c.in, c.root
	if in.exports[cbHTTPCallResponse] != nil {
		in.call(cbHTTPCallResponse, &r.wasmContext, uint64(r.id), uint64(c.Token), uint64(headers), uint64(body), uint64(trailers))
	}
	r.response, r.statusMessage = nil, ""
	in.doAfterCallActions()
}

// getStatus is proxy_get_status, which returns why a callout failed. Its parameters are 0 where to
// return the status, and 1 and 2 where to return the message.
func (c call) getStatus() Status {
	root := c.in.current().root
	if st := c.put32(0, uint32(root.status)); st != StatusOK {
		return st
	}
	return c.putBytes(1, []byte(root.statusMessage))
}

// remove takes the callout off the lists and reports whether it was still waiting for its answer.
func (c *Callout) remove() bool {
	if c.cancel != nil {
		c.cancel()
	}

	waiting := slices.Contains(c.root.callouts, c)
	c.root.callouts = slices.DeleteFunc(c.root.callouts, func(d *Callout) bool { return d == c })

	h := c.in.vm.host
	h.mu.Lock()
	defer h.mu.Unlock()

	h.callouts = slices.DeleteFunc(h.callouts, func(d *Callout) bool { return d == c })
	return waiting
}

// cancelCallouts drops all callouts of the plugin without calling the module.
func (r *root) cancelCallouts() {
	for _, c := range slices.Clone(r.callouts) {
		c.remove()
	}
}
