package wasmhost_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// A cluster has a handler of the test, or one that forwards to a server. In each case, a tick makes
// a callout, and the module logs what it gets as the answer. The headers of the callout are those
// of the operation "call" in testdata/guest.
func TestHandlersAnswerCallouts(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			panic(http.ErrAbortHandler)
		}

		if r.URL.Path == "/half" {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}

		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, r.URL, body)
	}))
	defer server.Close()
	dead := httptest.NewServer(nil)
	dead.Close()

	forward := func(s string) http.Handler {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}

		return wasmhost.Forward(u)
	}

	const notFound = " = error status returned by host: not found"
	for name, tt := range map[string]struct {
		handler http.Handler
		call    string   // path, body ("-" for none) and timeout in milliseconds
		want    []string // the first messages of the module
	}{
		"handler": {
			http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Add("X-Two", "1")
				w.Header().Add("X-Two", "2")
				w.WriteHeader(http.StatusTeapot)
				fmt.Fprint(w, r.Method, " ", r.Host, " ", r.RequestURI, " ", r.Header.Get("Accept"), " ", r.ContentLength)
				w.(http.Flusher).Flush()
				w.Header().Set(http.TrailerPrefix+"X-Sum", "9")
			}), "/a?b hi",
			[]string{"answer: 4 headers, 33 bytes, 1 trailers", `body call = "POST controller /a?b text/plain 2"`,
				"pairs call = [[:status 418] [content-length 33] [x-two 1] [x-two 2]]", "pairs call_trailers = [[x-sum 9]]", "status = 0 0 0"},
		},
		"handler that writes nothing": {
			http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "/",
			[]string{"answer: 2 headers, 0 bytes, 0 trailers", "body call" + notFound,
				"pairs call = [[:status 200] [content-length 0]]", "pairs call_trailers" + notFound, "status = 0 0 0"},
		},
		"handler that breaks off": { // status: OK, BrokenConnection and a message of 5 bytes, "reset"
			http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), "/",
			[]string{"answer: 0 headers, 0 bytes, 0 trailers", "body call" + notFound,
				"pairs call" + notFound, "pairs call_trailers" + notFound, "status = 0 11 5"},
		},
		"handler that is too slow": {
			http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "/ - 20",
			[]string{"answer: 3 headers, 24 bytes, 0 trailers", `body call = "upstream request timeout"`,
				"pairs call = [[:status 504] [content-length 24] [content-type text/plain]]", "pairs call_trailers" + notFound, "status = 0 0 0"},
		},
		"server":                        {forward(server.URL), "/a?b hi", []string{"answer: 4 headers, 23 bytes, 0 trailers", `body call = "POST controller /a?b hi"`}},
		"server that breaks off":        {forward(server.URL), "/broken", []string{"answer: 3 headers, 98 bytes, 0 trailers"}},
		"server that breaks off midway": {forward(server.URL), "/half", []string{"answer: 0 headers, 0 bytes, 0 trailers"}},
		"no server": {forward(dead.URL), "/", []string{"answer: 3 headers, 98 bytes, 0 trailers",
			`body call = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"`,
			"pairs call = [[:status 503] [content-length 98] [content-type text/plain]]"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProcess(t, wasmhost.Config{})
			p.SetCluster("c", tt.handler)
			_, vm := p.startScript("start: tick 1\ntick: call c " + tt.call + "\ncall: body call; pairs call; pairs call_trailers; status")
			vm.Tick()

			select {
			case <-vm.Wake():
			case <-time.After(20 * time.Second):
				t.Fatal("no answer")
			}
			if n := vm.Dispatch(); n != 1 || len(p.Callouts()) > 0 {
				t.Errorf("%d events, %v wait", n, p.Callouts())
			}

			got := p.takeMessages()
			if len(got) < len(tt.want) || !slices.Equal(got[:len(tt.want)], tt.want) {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(tt.want, "\n\t"))
			}

			p.RemoveCluster("c")
			vm.Tick()
			if got := p.takeMessages(); len(got) != 1 || !strings.HasSuffix(got[0], "bad argument") {
				t.Errorf("a call to a removed cluster: %q", got)
			}
		})
	}
}

func TestCalloutIsAnsweredOnce(t *testing.T) {
	p := newProcess(t, wasmhost.Config{Clusters: map[string]http.Handler{"c": nil}})
	pl, vm := p.startScript("start: tick 1\ntick: call c /x hi 500")
	vm.Tick()
	other, _ := p.startScript("start: call c /y")

	all := p.Callouts()
	if len(all) != 2 || len(vm.Callouts()) != 1 {
		t.Fatalf("%d and %d callouts, want 2 and 1", len(all), len(vm.Callouts()))
	}

	c := all[0]
	const firstToken = 4 // the two low bits are the kind of callout
	if c != vm.Callouts()[0] || c.Cluster != "c" || c.Headers.Get(":path") != "/x" || c.Headers.Get("content-length") != "2" || string(c.Body) != "hi" || c.Timeout != 500*time.Millisecond || c.Token != firstToken {
		t.Errorf("got %+v", c)
	}

	c.Respond(wasmhost.Headers{{":status", "200"}}, []byte("a"), wasmhost.Headers{{"x", "y"}})
	c.Respond(wasmhost.Headers{{":status", "200"}}, nil, nil)
	c.Fail()

	p.wantMessages("answer: 1 headers, 1 bytes, 1 trailers")

	other.Remove() // cancels the other callout, so that its failure is not delivered
	all[1].Fail()

	vm.Tick()
	vm.Crash(errors.New("crashed"))
	if left := p.Callouts(); len(left) > 0 {
		t.Errorf("%d callouts are left without a VM", len(left))
	}
	p.wantMessages("VM failed: crashed")
	pl.Tick() // of a crashed VM
	p.wantMessages()
}
