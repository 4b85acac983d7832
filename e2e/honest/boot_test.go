package honest

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e"
)

// bootWait is how long Envoy holds requests while it has no state, in seconds. The scenario takes
// less time.
const bootWait = 30

// TestUploadsPassWhileEnvoyAwaitsItsFirstState sends uploads that are larger than Envoy's buffer (1
// MiB) to an Envoy that cannot reach its controller yet. Nothing is in maintenance, so when the
// state has come, each upload must reach the app whole.
func TestUploadsPassWhileEnvoyAwaitsItsFirstState(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts Envoy")
	}
	form, formType := multipartForm(t, 3<<19)
	document := append(append([]byte(`{"text":"`), bytes.Repeat([]byte("a _method "), 3<<19/10)...), `"}`...)
	fields := append([]byte("text="), bytes.Repeat([]byte("a+"), 3<<18)...)

	uploads := []struct {
		name, method, target, contentType string
		body                              []byte
		chunked                           bool
	}{
		{"multipart", "POST", "/upload", formType, form, false},
		{"multipart in chunks", "POST", "/upload", formType, form, true},
		{"JSON", "POST", "/import", "application/json", document, false},
		{"JSON in chunks", "POST", "/import", "application/json", document, true},
		{"JSON of another type", "POST", "/import", "application/vnd.api+json", document, false},
		{"form", "POST", "/comments", "application/x-www-form-urlencoded", fields, false},
		{"form in chunks", "POST", "/comments", "application/x-www-form-urlencoded", fields, true},
		{"bytes by PUT", "PUT", "/files/caf%C3%A9.bin", "application/octet-stream", document, false},
		{"JSON by PUT", "PUT", "/import/1", "application/json", document, false},
		{"no type", "POST", "/import", "", document, true},
		{"GraphQL variables", "POST", "/graphql", "application/json", []byte(`{"query":"query Q($x: String) { echo(x: $x) }","variables":{"x":"` + strings.Repeat("x", 3<<19) + `"}}`), false},
	}

	controller := newValve(t)
	r := start(t, controller.addr(), func(bootstrap map[string]any) {
		for node := range e2e.Objects(bootstrap) {
			if value, ok := node["value"].(string); ok && strings.Contains(value, `"boot_wait": 2`) {
				node["value"] = strings.Replace(value, `"boot_wait": 2`, fmt.Sprintf(`"boot_wait": %d`, bootWait), 1)
			}
		}
	})
	controller.to = r.controller.Proxy

	var sent sync.WaitGroup
	answers := make([]string, len(uploads))
	for i, u := range uploads {
		sent.Go(func() {
			answers[i] = r.upload(u.method, u.target, u.contentType, fmt.Sprint("boot-", i), u.body, u.chunked)
		})
	}

	time.Sleep(time.Second) // time for Envoy to take what it takes of the uploads without a state
	for i, u := range uploads {
		if _, arrived := r.upstream.take(fmt.Sprint("boot-", i)); arrived {
			t.Errorf("%s: it reached the app before there was a state, so the test shows nothing", u.name)
		}
	}

	opened := time.Now()
	controller.open()
	sent.Wait()
	if waited := time.Since(opened); waited > bootWait*time.Second/2 {
		t.Errorf("the uploads went on %v after the controller could be reached, so it was not its state that let them pass", waited)
	}

	for i, u := range uploads {
		got, arrived := r.upstream.take(fmt.Sprint("boot-", i))
		switch {
		case !arrived:
			t.Errorf("%s: it did not reach the app, and the client got %s", u.name, answers[i])
		case !bytes.Equal(got.Body, u.body) || answers[i] != "200":
			t.Errorf("%s: %d of %d bytes reached the app, and the client got %s", u.name, len(got.Body), len(u.body), answers[i])
		}
	}
}

// upload sends a body and returns the status of the answer, or how the exchange failed.
func (r *rig) upload(method, target, contentType, id string, body []byte, chunked bool) string {
	var in io.Reader = bytes.NewReader(body)
	if chunked {
		in = io.MultiReader(in) // of a length that the client does not know
	}
	req, err := http.NewRequest(method, "http://"+r.envoy.Listeners["edge"]+target, in)
	if err != nil {
		return err.Error()
	}
	req.Header.Set(idHeader, id)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
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

func multipartForm(t *testing.T, size int) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	must(t, w.WriteField("title", "about a _method"))
	file, err := w.CreateFormFile("file", "caf\u00e9.bin")
	must(t, err)

	_, err = file.Write(bytes.Repeat([]byte{0, 1, 2, 3}, size/4))
	must(t, err)
	must(t, w.Close())
	return b.Bytes(), w.FormDataContentType()
}

// valve stands between Envoy and the controller. It accepts connections, but passes nothing on
// until it is opened.
type valve struct {
	listener net.Listener
	opened   chan struct{}
	to       string // host:port; set before open
}

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

func (v *valve) serve(client net.Conn) {
	defer client.Close()
	<-v.opened
	server, err := net.Dial("tcp", v.to)
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
