package wasmhost_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// A gateway forwards frames with such hooks.
func TestFramesGoToHooksAsTheyCome(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, _ := p.plugin("request_headers: add request x y")
	var got []string
	hook := func(who string) func(wasmhost.Frame) {
		return func(f wasmhost.Frame) { got = append(got, fmt.Sprint(who, f)) }
	}

	s := pl.NewStream(wasmhost.StreamConfig{OnUpstream: hook("up"), OnDownstream: hook("down")})
	s.RequestHeaders(wasmhost.Headers{{":method", "POST"}}, false)
	s.RequestBody([]byte("a"), false)

	if request, response := s.Paused(); request || response {
		t.Errorf("paused %t, %t", request, response)
	}

	s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, false)
	s.Abort()

	want := []string{"up{[[:method POST] [x y]] [] [] false false}", "up{[] [97] [] false false}", "down{[[:status 200]] [] [] false false}", "up{[] [] [] false true}"}
	if !slices.Equal(got, want) || len(s.Upstream().Frames)+len(s.Downstream().Frames) > 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStreamReportsItsState(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.plugin("start: tick 1\nrequest_headers: reply 503 sorry a=b\nresponse_headers: pause\ntick: each resume response")
	s := pl.NewStream(wasmhost.StreamConfig{})
	s.RequestHeaders(get, true)
	if request, response := s.Paused(); !request || !response || s.Done() {
		t.Errorf("paused %t, %t, done %t", request, response, s.Done())
	}

	vm.Tick()
	if r := s.LocalReply(); r == nil || r.Status != 503 || string(r.Body) != "sorry" || r.Headers.Get("a") != "b" || r.GRPCStatus != -1 {
		t.Errorf("got %+v", r)
	}
	if d := s.Downstream(); d.Status() != 503 || !d.End || !s.Done() {
		t.Errorf("got %+v", d)
	}

	h := wasmhost.Headers{{"a", "1"}, {"b", "2"}, {"a", "3"}}
	if h.Get("a") != "1" || h.Get("c") != "" || !h.Has("b") || h.Has("c") || !slices.Equal(h.Values("a"), []string{"1", "3"}) {
		t.Errorf("%v is not read right", h)
	}

	for name, fn := range map[string]func(*wasmhost.Stream){
		"headers twice":              func(s *wasmhost.Stream) { s.RequestHeaders(get, false); s.RequestHeaders(get, false) },
		"body before the headers":    func(s *wasmhost.Stream) { s.RequestBody(nil, true) },
		"trailers after the end":     func(s *wasmhost.Stream) { s.RequestHeaders(get, true); s.RequestTrailers(nil) },
		"response headers twice":     func(s *wasmhost.Stream) { s.ResponseHeaders(nil, false); s.ResponseHeaders(nil, false) },
		"a property of another kind": func(s *wasmhost.Stream) { s.RequestHeaders(get, true) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProcess(t, wasmhost.Config{Properties: map[string]any{"odd": struct{}{}}})
			script := ""
			if strings.Contains(name, "property") {
				script = "request_headers: prop odd"
			}

			pl, vm := p.plugin(script)
			panicked := func() (r any) {
				defer func() { r = recover() }()
				fn(pl.NewStream(wasmhost.StreamConfig{}))
				return nil
			}()

			if panicked == nil && vm.Err() == nil {
				t.Error("no panic")
			}
		})
	}
}
