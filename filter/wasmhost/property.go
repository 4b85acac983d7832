package wasmhost

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

func (c call) getProperty() Status {
	b, st := c.in.property(c.in.current(), strings.Split(c.str(0), "\x00"))
	if st != StatusOK {
		return st
	}
	return c.putBytes(2, b)
}

func (c call) setProperty() Status {
	f := c.in.current().filter
	if f == nil {
		return StatusNotFound
	}
	f.stream.filterState["wasm."+c.str(0)] = slices.Clone(c.bytes(2))
	return StatusOK
}

// property reads a property for a context: first what follows from the stream, then the trees that the caller gave, then
// what set_property stored, then what the plugin's configuration says (Context::getProperty).
func (in *instance) property(c *wasmContext, path []string) ([]byte, Status) {
	if c.filter != nil && len(path) == 1 && slices.Contains(wrappers, path[0]) {
		return nil, StatusSerializationFailure
	}
	v, ok, known := any(nil), false, false
	if c.filter != nil {
		if v, ok, known = c.filter.property(path); !known {
			v, ok = lookup(c.filter.stream.cfg.Properties, path)
		}
	}
	if !ok && !known {
		v, ok = lookup(in.vm.host.cfg.Properties, path)
	}
	if !ok && !known && c.filter != nil && len(path) == 1 {
		var b []byte
		b, ok = c.filter.stream.filterState["wasm."+path[0]]
		v = b
	}
	if !ok && len(path) == 1 && c.root != nil {
		switch path[0] {
		case "plugin_name":
			v, ok = c.root.plugin.cfg.Name, true
		case "plugin_root_id":
			v, ok = c.root.plugin.cfg.RootID, true
		case "plugin_vm_id":
			v, ok = in.vm.cfg.ID, true
		}
	}
	if !ok {
		return nil, StatusNotFound
	}
	if c.filter != nil && len(path) == 1 && path[0] == "metadata" {
		return metadata(v), StatusOK
	}
	return serialize(v, slices.Contains(path, "filter_metadata"))
}

// wrappers are the parts of a stream that Envoy gives piece by piece only.
var wrappers = []string{"request", "response", "source", "destination", "connection", "upstream", "xds"}

// property is what follows from the stream itself; known tells that nothing else can answer for the path. Parts of the
// request can be read as long as its headers can.
func (f *filter) property(path []string) (v any, ok, known bool) {
	if len(path) == 1 && path[0] == "metadata" {
		v, _ = lookup(f.stream.cfg.Properties, []string{"metadata", "filter_metadata"})
		return v, true, true
	}
	if len(path) < 2 {
		return nil, false, false
	}
	s := f.stream
	visible := func(mine, final *Headers) *Headers {
		if mine == nil && f.logging {
			return final
		}
		return mine
	}
	request := visible(f.requestHeaders, s.request.headers)
	switch path[0] + "." + path[1] {
	case "metadata.filter_metadata":
		if _, given := lookup(s.cfg.Properties, path[:2]); !given {
			v, ok = lookup(map[string]any{}, path[2:])
			return v, ok, true
		}
	case "response.code":
		return s.code, s.code != 0 && len(path) == 2, true
	case "response.code_details":
		return s.details, s.hasDetails && len(path) == 2, true
	case "response.size":
		return s.response.size, len(path) == 2, true
	case "response.headers":
		return fields(visible(f.responseHeaders, s.response.headers), path[2:])
	case "response.trailers":
		return fields(visible(f.responseTrailers, s.response.trailers), path[2:])
	case "request.headers":
		return fields(request, path[2:])
	case "request.size":
		if request != nil && request.Has("content-length") {
			n, err := strconv.Atoi(request.Get("content-length"))
			return n, err == nil && len(path) == 2, true
		}
		return s.request.size, len(path) == 2, true
	case "request.total_size":
		if request == nil {
			return nil, false, true
		}
		return s.request.size + request.size(), len(path) == 2, true
	case "request.path", "request.url_path", "request.query":
		v, ok, known = fields(request, []string{":path"})
		if !ok || len(path) != 2 {
			return nil, false, known
		}
		before, after, _ := strings.Cut(v.(string), "?")
		switch path[1] {
		case "url_path":
			v = before
		case "query":
			after, _, _ = strings.Cut(after, "#")
			v = after
		}
		return v, true, true
	case "filter_state." + path[1]:
		v, ok = s.filterState[path[1]]
		return v, ok && len(path) == 2, ok
	}
	name := requestFields[path[1]]
	if path[0] != "request" || name == "" {
		return nil, false, false
	}
	if len(path) != 2 {
		return nil, false, true
	}
	return fields(request, []string{name})
}

var requestFields = map[string]string{"host": ":authority", "scheme": ":scheme", "method": ":method", "referer": "referer",
	"useragent": "user-agent", "id": "x-request-id"}

// fields is the value of a header field, repeated ones joined by a comma, or all of them as a map.
func fields(h *Headers, path []string) (v any, ok, known bool) {
	if len(path) == 0 {
		all := make(map[string]string)
		if h != nil {
			for _, f := range *h {
				all[f[0]] = strings.Join(h.Values(f[0]), ",")
			}
		}
		return all, true, true
	}
	if h == nil || len(path) != 1 {
		return nil, false, true
	}
	values := h.Values(strings.ToLower(path[0]))
	return strings.Join(values, ","), len(values) > 0, true
}

// lookup walks a property tree. The keys of a map and the indexes of a list are the path.
func lookup(v any, path []string) (any, bool) {
	for _, name := range path {
		switch t := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = t[name]; !ok {
				return nil, false
			}
		case map[string]string:
			s, ok := t[name]
			if !ok {
				return nil, false
			}
			v = s
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(t) {
				return nil, false
			}
			v = t[i]
		case []string:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(t) {
				return nil, false
			}
			v = t[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// serialize writes a property as Envoy does (serializeValue in source/extensions/common/wasm/context.cc): strings and
// bytes as they are, numbers in 8 bytes and bools in one, times and durations in nanoseconds, maps as pairs, lists as
// pairs with the items as keys. A null anywhere fails the whole read. What comes from a protobuf Struct (all of
// filter_metadata) knows no integers.
func serialize(v any, isStruct bool) ([]byte, Status) {
	le := binary.LittleEndian
	if isStruct {
		if f, ok := number(v); ok {
			v = f
		}
	}
	switch t := v.(type) {
	case string:
		return []byte(t), StatusOK
	case []byte:
		return t, StatusOK
	case bool:
		if t {
			return []byte{1}, StatusOK
		}
		return []byte{0}, StatusOK
	case float64:
		return le.AppendUint64(nil, math.Float64bits(t)), StatusOK
	case int:
		return le.AppendUint64(nil, uint64(t)), StatusOK
	case int64:
		return le.AppendUint64(nil, uint64(t)), StatusOK
	case uint64:
		return le.AppendUint64(nil, t), StatusOK
	case time.Time:
		return le.AppendUint64(nil, uint64(t.UnixNano())), StatusOK
	case time.Duration:
		return le.AppendUint64(nil, uint64(t)), StatusOK
	case map[string]any:
		pairs := make(Headers, 0, len(t))
		for _, key := range slices.Sorted(maps.Keys(t)) {
			b, st := serialize(t[key], isStruct)
			if st != StatusOK {
				return nil, st
			}
			pairs = append(pairs, [2]string{key, string(b)})
		}
		return appendPairs(nil, pairs), StatusOK
	case map[string]string:
		pairs := make(Headers, 0, len(t))
		for _, key := range slices.Sorted(maps.Keys(t)) {
			pairs = append(pairs, [2]string{key, t[key]})
		}
		return appendPairs(nil, pairs), StatusOK
	case []any:
		pairs := make(Headers, len(t))
		for i := range t {
			b, st := serialize(t[i], isStruct)
			if st != StatusOK {
				return nil, st
			}
			pairs[i][0] = string(b)
		}
		return appendPairs(nil, pairs), StatusOK
	case []string:
		pairs := make(Headers, len(t))
		for i := range t {
			pairs[i][0] = t[i]
		}
		return appendPairs(nil, pairs), StatusOK
	case nil:
		return nil, StatusSerializationFailure
	}
	panic(fmt.Sprintf("wasmhost: a property cannot be a %T; use string, []byte, bool, int, int64, uint64, float64, time.Time, time.Duration, nil, and maps and slices of them", v))
}

func number(v any) (float64, bool) {
	switch t := v.(type) {
	case int:
		return float64(t), true
	case int64:
		return float64(t), true
	case uint64:
		return float64(t), true
	}
	return 0, false
}

// metadata writes a stream's filter_metadata as Envoy writes dynamic metadata that is asked for whole: as a serialised
// envoy.config.core.v3.Metadata, whose field 1 is a map of Structs. It is there, and empty, also where no filter wrote any.
func metadata(filterMetadata any) (b []byte) {
	namespaces, _ := filterMetadata.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(namespaces)) {
		object := structValue(namespaces[name]).GetStructValue()
		if object == nil {
			panic(fmt.Sprintf("wasmhost: metadata.filter_metadata.%s must be a map, which a protobuf Struct is", name))
		}
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(object)
		if err != nil {
			panic(fmt.Sprintf("wasmhost: metadata.filter_metadata.%s: %v", name, err))
		}

		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
		entry = protowire.AppendBytes(protowire.AppendTag(entry, 2, protowire.BytesType), data)
		b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), entry)
	}
	return b
}

// structValue is a property as a protobuf Struct holds it.
func structValue(v any) *structpb.Value {
	switch t := v.(type) {
	case map[string]any:
		fields := make(map[string]*structpb.Value, len(t))
		for name := range t {
			fields[name] = structValue(t[name])
		}
		return structpb.NewStructValue(&structpb.Struct{Fields: fields})
	case map[string]string:
		fields := make(map[string]*structpb.Value, len(t))
		for name := range t {
			fields[name] = structpb.NewStringValue(t[name])
		}
		return structpb.NewStructValue(&structpb.Struct{Fields: fields})
	case []any:
		list := make([]*structpb.Value, len(t))
		for i := range t {
			list[i] = structValue(t[i])
		}
		return structpb.NewListValue(&structpb.ListValue{Values: list})
	case []string:
		list := make([]*structpb.Value, len(t))
		for i := range t {
			list[i] = structpb.NewStringValue(t[i])
		}
		return structpb.NewListValue(&structpb.ListValue{Values: list})
	case nil, bool, string, float64, int, int64, uint64:
		value, err := structpb.NewValue(t)
		if err != nil {
			panic(fmt.Sprintf("wasmhost: a property in metadata: %v", err))
		}
		return value
	}
	panic(fmt.Sprintf("wasmhost: a property in metadata cannot be a %T, since no protobuf Struct holds one", v))
}
