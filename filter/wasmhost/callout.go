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

func (c call) httpCall() Status {
	root := c.in.current().root
	co := &Callout{
		in: c.in, root: root, Cluster: c.str(0), Headers: parsePairs(c.bytes(2)).normal(), Body: slices.Clone(c.bytes(4)),
		Trailers: parsePairs(c.bytes(6)), Timeout: time.Duration(int32(c.u32(8))) * time.Millisecond,
	}
	co.Headers.hostIsAuthority()
	st := co.start()
	if put := c.put32(9, co.Token); st == StatusOK {
		st = put
	}
	return st
}

func (c call) getStatus() Status {
	root := c.in.current().root
	if st := c.put32(0, uint32(root.status)); st != StatusOK {
		return st
	}
	return c.putBytes(1, []byte(root.statusMessage))
}

// Callout is an HTTP call that a module made (proxy_http_call) and that was not answered yet. Answering it calls the
// module back on the caller's goroutine, so it must be the one that uses the VM. An answer to a callout that was already
// answered, or whose VM or plugin is gone, is dropped.
type Callout struct {
	Cluster  string
	Token    uint32 // the module's id for it
	Headers  Headers
	Body     []byte
	Trailers Headers
	Timeout  time.Duration // 0: none

	in     *instance
	root   *root
	cancel context.CancelFunc // ends the handler; nil if there is none
}

type calloutResponse struct {
	headers  Headers
	body     []byte
	trailers *Headers
}

// NoHealthyHost is the handler of a cluster that has no host to call: the call itself fails with InternalFailure.
var NoHealthyHost http.Handler = noHealthyHost{}

type noHealthyHost struct{}

func (noHealthyHost) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
}

// Forward is the handler of a cluster whose only host is the server at u (scheme and host). As in Envoy, a server that
// cannot be reached is an answer of 503, and one that breaks off its answer makes the call fail.
func Forward(u *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host },
		ErrorLog: log.New(io.Discard, "", 0), // the module is told
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure")
		},
	}
}

// server is the one that handlers run in.
var server = new(http.Server)

// Callouts lists the calls that wait for an answer, oldest first, those that a handler works on included.
func (h *Host) Callouts() []*Callout {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.callouts)
}

// Callouts lists the calls of this VM that wait for an answer, oldest first.
func (vm *VM) Callouts() []*Callout {
	return slices.DeleteFunc(vm.host.Callouts(), func(c *Callout) bool { return c.in.vm != vm })
}

func (c *Callout) start() Status {
	h := c.in.vm.host
	h.mu.Lock()
	defer h.mu.Unlock()
	handler, ok := h.clusters[c.Cluster]
	if !ok || c.Timeout < 0 || !c.Headers.Has(":method") || !c.Headers.Has(":path") || !c.Headers.Has(":authority") {
		return StatusBadArgument
	}
	c.in.nextCall += 4 // the two low bits are the kind of callout, 0 for HTTP
	if handler == NoHealthyHost {
		return StatusInternalFailure
	}
	c.Token = c.in.nextCall
	if len(c.Body) > 0 {
		c.Headers.set("content-length", strconv.Itoa(len(c.Body)))
	}
	h.callouts = append(h.callouts, c)
	c.root.callouts = append(c.root.callouts, c)
	if handler != nil {
		c.serve(handler)
	}
	return StatusOK
}

// remove takes the callout off the lists, and tells whether it still waited.
func (c *Callout) remove() bool {
	if c.cancel != nil {
		c.cancel()
	}
	waits := slices.Contains(c.root.callouts, c)
	c.root.callouts = slices.DeleteFunc(c.root.callouts, func(d *Callout) bool { return d == c })
	h := c.in.vm.host
	h.mu.Lock()
	defer h.mu.Unlock()
	h.callouts = slices.DeleteFunc(h.callouts, func(d *Callout) bool { return d == c })
	return waits
}

func (r *root) cancelCallouts() {
	for _, c := range slices.Clone(r.callouts) {
		c.remove()
	}
}

// Respond answers the callout. Headers must hold ":status".
func (c *Callout) Respond(headers Headers, body []byte, trailers Headers) {
	if !c.remove() {
		return
	}
	r := &calloutResponse{headers: headers.normal(), body: body}
	if len(trailers) > 0 {
		t := trailers.normal()
		r.trailers = &t
	}
	c.root.response = r
	c.call(len(headers), len(body), len(trailers))
}

// Fail breaks the callout off: the module's callback sees no headers.
func (c *Callout) Fail() {
	if !c.remove() {
		return
	}
	c.root.status, c.root.statusMessage = StatusBrokenConnection, "reset"
	c.call(0, 0, 0)
}

// Expire answers as Envoy does when the callout's timeout is over: with 504.
func (c *Callout) Expire() {
	const body = "upstream request timeout"
	c.Respond(Headers{{":status", "504"}, {"content-length", strconv.Itoa(len(body))}, {"content-type", "text/plain"}}, []byte(body), nil)
}

func (c *Callout) call(headers, body, trailers int) {
	in, r := c.in, c.root
	if in.fns[cbHTTPCallResponse] != nil {
		in.call(cbHTTPCallResponse, &r.wasmContext, uint64(r.id), uint64(c.Token), uint64(headers), uint64(body), uint64(trailers))
	}
	r.response, r.statusMessage = nil, ""
	in.doAfterCallActions()
}

// serve runs the handler, and gives its answer to the VM's goroutine.
func (c *Callout) serve(handler http.Handler) {
	ctx, cancel := context.WithCancel(context.Background())
	if c.Timeout > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), c.Timeout)
	}
	c.cancel = cancel
	vm := c.in.vm
	answer := make(chan func(), 1)
	go func() { answer <- c.run(ctx, handler) }()
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

// run lets the handler answer the callout, and returns what then is to be done with it.
func (c *Callout) run(ctx context.Context, handler http.Handler) (answer func()) {
	defer func() {
		if r := recover(); r != nil {
			if r != http.ErrAbortHandler {
				c.in.vm.host.log(LogEntry{Thread: c.in.vm.cfg.Thread, Level: slog.LevelError, Message: fmt.Sprintf("cluster %s: handler panicked: %v", c.Cluster, r)})
			}
			answer = c.Fail
		}
	}()
	ctx = context.WithValue(ctx, http.ServerContextKey, server) // or ReverseProxy hides an answer that broke off
	req, err := http.NewRequestWithContext(ctx, c.Headers.Get(":method"), "http://"+c.Headers.Get(":authority")+c.Headers.Get(":path"), bytes.NewReader(c.Body))
	if err != nil {
		c.in.vm.host.log(LogEntry{Thread: c.in.vm.cfg.Thread, Level: slog.LevelError, Message: fmt.Sprintf("cluster %s: %v", c.Cluster, err)})
		return c.Fail
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
	w := &responseWriter{header: make(http.Header)}
	handler.ServeHTTP(w, req)
	w.WriteHeader(http.StatusOK)
	if w.sent.Get("Content-Length") == "" {
		w.sent.Set("Content-Length", strconv.Itoa(w.body.Len()))
	}
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

func headerFields(h http.Header) (fs Headers) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			fs = append(fs, [2]string{strings.ToLower(name), v})
		}
	}
	return fs
}

// responseWriter keeps a handler's answer.
type responseWriter struct {
	header http.Header
	status int
	sent   http.Header // header as it was when the status was written
	body   bytes.Buffer
}

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
