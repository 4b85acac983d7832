package wasmhost_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// Each case reads one property during request headers, from the tree below or from the stream. The
// script (testdata/guest) separates the path by dots, or by slashes if there is one.
func TestPropertiesAreSerializedAsInEnvoy(t *testing.T) {
	tree := map[string]any{
		"source":     map[string]any{"address": "10.0.0.1:4711", "port": 4711},
		"connection": map[string]any{"mtls": true, "id": uint64(1) << 63},
		"request":    map[string]any{"time": time.Unix(1, 5), "duration": 3 * time.Second, "protocol": "HTTP/2", "path": "/ignored"},
		"metadata": map[string]any{"filter_metadata": map[string]any{"envoy.filters.http.jwt_authn": map[string]any{"payload": map[string]any{
			"sub": "joe", "exp": 12, "admin": true, "none": nil, "groups": []any{"a", "b"}, "one": []string{"x"}, "mixed": []any{"a", nil},
			"inner": map[string]any{"y": 1.5, "x": "z"},
		}}}},
		"bytes": []byte{1, 2}, "list": []any{int64(-1), 2.5}, "null": nil, "words": map[string]string{"k": "v"},
	}

	// The property metadata as a whole is a protobuf message, in which every value has its type.
	// Below is the encoding of the tree, one member of the payload after another. The encoding of
	// each member was seen in Envoy 1.40.0 and 1.36.4. The order of members is that of this host:
	// the maps of Envoy have none.
	const metadata = "\n\xd1\x01\n\x1cenvoy.filters.http.jwt_authn\x12\xb0\x01\n\xad\x01\n\apayload\x12\xa1\x01*\x9e\x01" +
		"\n\v\n\x05admin\x12\x02 \x01" + "\n\x10\n\x03exp\x12\t\x11\x00\x00\x00\x00\x00\x00(@" + "\n\x16\n\x06groups\x12\f2\n\n\x03\x1a\x01a\n\x03\x1a\x01b" +
		"\n%\n\x05inner\x12\x1c*\x1a\n\b\n\x01x\x12\x03\x1a\x01z\n\x0e\n\x01y\x12\t\x11\x00\x00\x00\x00\x00\x00\xf8?" +
		"\n\x14\n\x05mixed\x12\v2\t\n\x03\x1a\x01a\n\x02\b\x00" + "\n\n\n\x04none\x12\x02\b\x00" + "\n\x0e\n\x03one\x12\a2\x05\n\x03\x1a\x01x" + "\n\f\n\x03sub\x12\x05\x1a\x03joe"

	const claim = "metadata/filter_metadata/envoy.filters.http.jwt_authn/payload/"
	const notFound, failure = "NotFound", "SerializationFailure"
	double := func(f float64) string { return "OK " + fmt.Sprintf("%q", littleEndian(math.Float64bits(f))) }
	ok := func(s string) string { return fmt.Sprintf("OK %q", s) }
	pairs := func(h ...string) string { return ok(pairs(h...)) }

	p := newProcess(t, wasmhost.Config{Properties: map[string]any{"listener": "shared"}})
	vm := p.startVM(wasmhost.VMConfig{Thread: "worker_0"})

	for path, want := range map[string]string{
		"source.address":   ok("10.0.0.1:4711"),
		"source.port":      ok(littleEndian(4711)),
		"source.nope":      notFound,
		"source":           failure,
		"connection.mtls":  ok("\x01"),
		"connection.id":    ok(littleEndian(1 << 63)),
		"request.time":     ok(littleEndian(1_000_000_005)),
		"request.duration": ok(littleEndian(3_000_000_000)),
		"request.protocol": ok("HTTP/2"),
		"request":          failure,
		"bytes":            ok("\x01\x02"),
		"list":             pairs(littleEndian(math.MaxUint64), "", littleEndian(math.Float64bits(2.5)), ""),
		"list.1":           double(2.5),
		"list.2":           notFound,
		"list.x":           notFound,
		"null":             failure,
		"null.x":           notFound,
		"words":            pairs("k", "v"),
		"words.k":          ok("v"),
		"words.nope":       notFound,
		"node":             notFound,
		"listener":         ok("shared"),

		// Properties that follow from the stream.
		"request.path":                ok("/a?b=c#d"),
		"request.url_path":            ok("/a"),
		"request.query":               ok("b=c"),
		"request.method":              ok("POST"),
		"request.host":                ok("a.example"),
		"request.scheme":              notFound,
		"request.useragent":           ok("curl"),
		"request.size":                ok(littleEndian(3)),
		"request.total_size":          ok(littleEndian(76)),
		"request.path.x":              notFound,
		"request.host.x":              notFound,
		"request.headers.X":           ok("1,2"),
		"request.headers.nope":        notFound,
		"request.headers.x.y":         notFound,
		"request.headers":             pairs(":authority", "a.example", ":method", "POST", ":path", "/a?b=c#d", "content-length", "3", "user-agent", "curl", "x", "1,2"),
		"response.code":               notFound,
		"response.code_details":       notFound,
		"response.headers.x":          notFound,
		"response.headers":            pairs(),
		"response.size":               ok(littleEndian(0)),
		"plugin_name":                 ok("p"),
		"plugin_root_id":              ok("r"),
		"plugin_vm_id":                ok(""),
		"metadata":                    ok(metadata),
		"metadata.filter_metadata":    failure, // it contains a null
		"metadata.filter_metadata.no": notFound,

		// Claims are in a protobuf Struct, which has one kind of number.
		claim + "sub":        ok("joe"),
		claim + "exp":        double(12),
		claim + "admin":      ok("\x01"),
		claim + "none":       failure,
		claim + "groups":     pairs("a", "", "b", ""),
		claim + "groups/1":   ok("b"),
		claim + "one":        pairs("x", ""),
		claim + "one/0":      ok("x"),
		claim + "one/1":      notFound,
		claim + "mixed":      failure,
		claim + "mixed/0":    ok("a"),
		claim + "inner":      pairs("x", "z", "y", littleEndian(math.Float64bits(1.5))),
		claim + "inner/y":    double(1.5),
		claim + "inner/nope": notFound,
		claim + "sub/x":      notFound,
	} {
		t.Run(strings.ReplaceAll(path, "/", "."), func(t *testing.T) {
			pl := p.startPlugin(vm, wasmhost.PluginConfig{Name: "p", RootID: "r", Configuration: []byte("request_headers: prop " + path)})
			p.calls = nil

			s := pl.NewStream(wasmhost.StreamConfig{Properties: tree})
			s.RequestHeaders(wasmhost.Headers{
				{":method", "POST"}, {":path", "/a?b=c#d"}, {"Host", "a.example"}, {"user-agent", "curl"},
				{"X", "1"}, {"x", "2"}, {"content-length", "3"},
			}, false)
			if got := p.tracedCalls("proxy_get_property"); len(got) != 1 || !strings.HasSuffix(got[0], ") = "+want) {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// In a stream, the property metadata is empty if no filter wrote any. In a tick, it is NotFound
// until the module selects a stream ("each").
func TestMetadataIsEmptyWhereNoFilterWroteAny(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.startScript("start: tick 1\nrequest_headers: prop metadata; prop metadata.filter_metadata.x\ntick: prop metadata; each prop metadata")
	s := pl.NewStream(wasmhost.StreamConfig{})
	s.RequestHeaders(getRequest, true)
	p.wantMessages(`prop metadata = ""`, "prop metadata.filter_metadata.x = error status returned by host: not found")

	vm.Tick()
	p.wantMessages("prop metadata = error status returned by host: not found", `prop metadata = ""`)
}

// pairs encodes names and values as proxy-wasm pairs.
func pairs(h ...string) string {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(h)/2))
	for _, s := range h {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	}
	return string(b) + strings.Join(append(h, ""), "\x00")
}

// The filter state belongs to one stream. A tick must select the stream ("each") to read it.
func TestSetPropertyStoresFilterState(t *testing.T) {
	p := newProcess(t, wasmhost.Config{})
	pl, vm := p.startScript("start: tick 1\nrequest_headers: setprop x y; setprop x z; prop x; prop x.y\ntick: setprop x y; prop x; each prop x\nlog: setprop last 1")
	s := pl.NewStream(wasmhost.StreamConfig{})
	s.RequestHeaders(getRequest, true)
	p.wantMessages(`prop x = "z"`, "prop x.y = error status returned by host: not found")

	vm.Tick()
	p.wantMessages("setprop x y = error status returned by host: not found", "prop x = error status returned by host: not found", `prop x = "z"`)
	s.Abort()

	for name, want := range map[string]string{"wasm.x": "z", "wasm.last": "1"} {
		if v, ok := s.FilterState(name); string(v) != want || !ok {
			t.Errorf("%s is %q, %t", name, v, ok)
		}
	}

	if v, ok := s.FilterState("x"); ok {
		t.Errorf("x is %q", v)
	}
	if v, ok := pl.NewStream(wasmhost.StreamConfig{}).FilterState("wasm.x"); ok {
		t.Errorf("another stream has %q", v)
	}
}
