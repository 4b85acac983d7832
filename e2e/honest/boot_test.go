package honest

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e"
)

// bootWait is the filter's setting boot_wait in this test: for how many seconds after its start
// Envoy holds requests back while it has no state yet. The test takes less time.
const bootWait = 30

// bodySize is the size of the uploads, about: larger than the buffers of Envoy and of the filter (1
// MiB), so an upload cannot be held as a whole.
const bodySize = 3 << 19 // bytes: 1.5 MiB

// upload is a request with a large body, and what became of it.
type upload struct {
	name, method, target, contentType string
	body                              []byte
	chunked                           bool

	// outcome is the status of the answer, such as "200", or how the exchange failed.
	outcome string
}

// id is the value of idHeader in the request.
func (u *upload) id() string { return "boot " + u.name }

// uploads returns an upload for each way in which the filter treats a body: it reads JSON, forms
// and multipart bodies for a method override ("_method"), and GraphQL for mutations.
func uploads(t *testing.T) []*upload {
	t.Helper()
	form, formType := multipartForm(t, bodySize)
	const override = "a _method "
	document := slices.Concat([]byte(`{"text":"`), bytes.Repeat([]byte(override), bodySize/len(override)), []byte(`"}`))
	fields := slices.Concat([]byte("text="), bytes.Repeat([]byte("a+"), bodySize/len("a+")))
	variables := []byte(`{"query":"query Q($x: String) { echo(x: $x) }","variables":{"x":"` + strings.Repeat("x", bodySize) + `"}}`)

	const chunked = true
	return []*upload{
		{name: "multipart", method: "POST", target: "/upload", contentType: formType, body: form},
		{name: "multipart in chunks", method: "POST", target: "/upload", contentType: formType, body: form, chunked: chunked},
		{name: "JSON", method: "POST", target: "/import", contentType: "application/json", body: document},
		{name: "JSON in chunks", method: "POST", target: "/import", contentType: "application/json", body: document, chunked: chunked},
		{name: "JSON of another type", method: "POST", target: "/import", contentType: "application/vnd.api+json", body: document},
		{name: "form", method: "POST", target: "/comments", contentType: "application/x-www-form-urlencoded", body: fields},
		{name: "form in chunks", method: "POST", target: "/comments", contentType: "application/x-www-form-urlencoded", body: fields, chunked: chunked},
		{name: "bytes by PUT", method: "PUT", target: "/files/caf%C3%A9.bin", contentType: "application/octet-stream", body: document},
		{name: "JSON by PUT", method: "PUT", target: "/import/1", contentType: "application/json", body: document},
		{name: "no type", method: "POST", target: "/import", contentType: "", body: document, chunked: chunked},
		{name: "GraphQL variables", method: "POST", target: "/graphql", contentType: "application/json", body: variables},
	}
}

// TestUploadsPassWhileEnvoyAwaitsItsFirstState sends uploads to an Envoy that cannot reach its
// controller yet, so the filter does not know which apps are in maintenance. The filter holds the
// uploads. Then the state comes, and nothing is in maintenance: each upload must reach the app
// whole.
func TestUploadsPassWhileEnvoyAwaitsItsFirstState(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts Envoy")
	}

	all := uploads(t)
	toController := newValve(t)
	r := start(t, options{controllerAddr: toController.addr(), editBootstrap: setBootWait})
	toController.target = r.controller.Proxy

	var sent sync.WaitGroup
	for _, u := range all {
		sent.Go(func() { u.outcome = r.send(u) })
	}

	time.Sleep(time.Second) // time for Envoy to take what it takes of the uploads without a state
	for _, u := range all {
		if _, arrived := r.upstream.take(u.id()); arrived {
			t.Errorf("%s: it reached the app before there was a state, so the test shows nothing", u.name)
		}
	}

	// The uploads must go on because of the state, and not because bootWait is over.
	opened := time.Now()
	toController.open()
	sent.Wait()
	if waited := time.Since(opened); waited > bootWait*time.Second/2 {
		t.Errorf("the uploads went on %v after the controller could be reached, so it was not its state that let them pass", waited)
	}

	for _, u := range all {
		got, arrived := r.upstream.take(u.id())
		switch {
		case !arrived:
			t.Errorf("%s: it did not reach the app, and the client got %s", u.name, u.outcome)
		case !bytes.Equal(got.Body, u.body) || u.outcome != "200":
			t.Errorf("%s: %d of %d bytes reached the app, and the client got %s", u.name, len(got.Body), len(u.body), u.outcome)
		}
	}
}

// setBootWait sets boot_wait in the filter's own configuration, a text in JSON, to bootWait.
func setBootWait(bootstrap map[string]any) {
	const asShipped = `"boot_wait": 2`
	for object := range e2e.Objects(bootstrap) {
		if value, ok := object["value"].(string); ok && strings.Contains(value, asShipped) {
			object["value"] = strings.Replace(value, asShipped, fmt.Sprintf(`"boot_wait": %d`, bootWait), 1)
		}
	}
}

// send sends an upload through Envoy and returns its outcome.
func (r *rig) send(u *upload) (outcome string) {
	var body io.Reader = bytes.NewReader(u.body)
	if u.chunked {
		body = io.MultiReader(body) // net/http cannot see its length, and sends it in chunks
	}
	req, err := http.NewRequest(u.method, "http://"+r.envoy.Listeners["edge"]+u.target, body)
	if err != nil {
		return err.Error()
	}
	req.Header.Set(idHeader, u.id())
	if u.contentType != "" {
		req.Header.Set("Content-Type", u.contentType)
	}

	client := &http.Client{Timeout: (bootWait + 30) * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return fmt.Sprint(resp.StatusCode)
}

// multipartForm returns a multipart body with a text and a file of this size in bytes, and its
// media type with the boundary.
func multipartForm(t *testing.T, size int) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	must(t, w.WriteField("title", "about a _method"))
	file, err := w.CreateFormFile("file", "caf\u00e9.bin")
	must(t, err)

	contents := []byte{0, 1, 2, 3}
	_, err = file.Write(bytes.Repeat(contents, size/len(contents)))
	must(t, err)
	must(t, w.Close())
	return b.Bytes(), w.FormDataContentType()
}

// valve is a TCP proxy between Envoy and the controller. It accepts connections, but passes nothing
// on until it is opened.
type valve struct {
	listener net.Listener
	opened   chan struct{} // closed by open
	target   string        // host:port of the controller; to be set before open
}

// newValve starts a closed valve, which accepts connections until the test ends.
func newValve(t *testing.T) *valve {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	v := &valve{listener: l, opened: make(chan struct{})}

	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go v.serve(c)
		}
	}()
	return v
}

func (v *valve) addr() string { return v.listener.Addr().String() }

func (v *valve) open() { close(v.opened) }

// serve waits until the valve is opened, and then copies in both directions until one side closes.
func (v *valve) serve(client net.Conn) {
	defer client.Close()
	<-v.opened
	server, err := net.Dial("tcp", v.target)
	if err != nil {
		return
	}
	defer server.Close()

	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}
