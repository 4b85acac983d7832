package wasmhost_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The hooks OnUpstream and OnDownstream receive each frame when it leaves the filters, as a gateway
// needs it that forwards the frames.
func TestFramesGoToHooksAsTheyCome(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, _ := p.startScript("request_headers: add request x y")
	var got []string
	hook := func(receiver string) func(wasmhost.Frame) {
		return func(f wasmhost.Frame) { got = append(got, fmt.Sprint(receiver, f)) }
	}

	s := pl.NewStream(wasmhost.StreamConfig{OnUpstream: hook("up"), OnDownstream: hook("down")})
	s.RequestHeaders(wasmhost.Headers{{":method", "POST"}}, false)
	s.RequestBody([]byte("a"), false)

	if request, response := s.Paused(); request || response {
		t.Errorf("paused %t, %t", request, response)
	}

	s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, false)
	s.Abort()

	want := []string{ // receiver{headers, data (97 is "a"), trailers, end, reset}
		"up{[[:method POST] [x y]] [] [] false false}",
		"up{[] [97] [] false false}",
		"down{[[:status 200]] [] [] false false}",
		"up{[] [] [] false true}",
	}
	if !slices.Equal(got, want) || len(s.Upstream().Frames)+len(s.Downstream().Frames) > 0 {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The reply of the plugin is held by its own response callback until the tick. The request stays
// paused, since it never goes on.
func TestStreamReportsItsState(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.startScript("start: tick 1\nrequest_headers: reply 503 sorry a=b\nresponse_headers: pause\ntick: each resume response")
	s := pl.NewStream(wasmhost.StreamConfig{})
	s.RequestHeaders(getRequest, true)
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
}

func TestHeadersReturnRepeatedFields(t *testing.T) {
	h := wasmhost.Headers{{"a", "1"}, {"b", "2"}, {"a", "3"}}
	if got := h.Get("a"); got != "1" {
		t.Errorf("Get returned %q, want the first value", got)
	}
	if got := h.Values("a"); !slices.Equal(got, []string{"1", "3"}) {
		t.Errorf("Values returned %q, want both values", got)
	}
	if got := h.Get("c"); got != "" || !h.Has("b") || h.Has("c") {
		t.Errorf("b: %t, c: %t and %q; want b alone", h.Has("b"), h.Has("c"), got)
	}
}

func TestPartsOutOfOrderPanic(t *testing.T) {
	const more, end = false, true // what follows a part
	for name, deliver := range map[string]func(*wasmhost.Stream){
		"headers twice":           func(s *wasmhost.Stream) { s.RequestHeaders(getRequest, more); s.RequestHeaders(getRequest, more) },
		"body before the headers": func(s *wasmhost.Stream) { s.RequestBody(nil, end) },
		"trailers after the end":  func(s *wasmhost.Stream) { s.RequestHeaders(getRequest, end); s.RequestTrailers(nil) },
		"response headers twice":  func(s *wasmhost.Stream) { s.ResponseHeaders(nil, more); s.ResponseHeaders(nil, more) },
	} {
		t.Run(name, func(t *testing.T) {
			pl, _ := newProcess(t, wasmhost.Config{}).startScript("")
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()

			deliver(pl.NewStream(wasmhost.StreamConfig{}))
		})
	}
}

// A property of a type that has no encoding is a mistake of the test. The panic passes through the
// module, which fails the VM.
func TestPropertyOfUnknownTypeFailsTheVM(t *testing.T) {
	p := newProcess(t, wasmhost.Config{Properties: map[string]any{"odd": struct{}{}}})
	pl, vm := p.startScript("request_headers: prop odd")

	pl.NewStream(wasmhost.StreamConfig{}).RequestHeaders(getRequest, true)
	if err := vm.Err(); err == nil || !strings.Contains(err.Error(), "a property cannot be a struct {}") {
		t.Errorf("the VM failed with %v", err)
	}
}
