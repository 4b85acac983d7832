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

// property returns a property in a context. It looks in this order (Context::getProperty): what
// follows from the stream, the trees of StreamConfig and Config, what set_property has stored, and
// the configuration of the plugin.
func (in *instance) property(c *wasmContext, path []string) ([]byte, Status) {
	if c.filter != nil && len(path) == 1 && slices.Contains(wrappers, path[0]) {
		return nil, StatusSerializationFailure
	}

	v, ok := c.lookup(in, path)
	if !ok {
		return nil, StatusNotFound
	}
	if c.filter != nil && len(path) == 1 && path[0] == "metadata" {
		return metadata(v), StatusOK
	}
	return serialize(v, slices.Contains(path, "filter_metadata"))
}

// lookup finds the value of a property.
func (c *wasmContext) lookup(in *instance, path []string) (any, bool) {
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

	return v, ok
}

// wrappers are the parts of a stream that Envoy returns only piece by piece.
var wrappers = []string{"request", "response", "source", "destination", "connection", "upstream", "xds"}

// property returns a property that follows from the stream itself. known reports that no other
// source can provide a property of this path. Properties of the request can be read as long as its
// headers can.
func (f *filter) property(path []string) (v any, ok, known bool) {
	if len(path) == 1 && path[0] == "metadata" {
		v, _ = lookup(f.stream.cfg.Properties, []string{"metadata", "filter_metadata"})
		return v, true, true
	}
	if len(path) < 2 {
		return nil, false, false
	}

	switch path[0] {
	case "request":
		return f.requestProperty(path[1], path[2:])
	case "response":
		return f.responseProperty(path[1], path[2:])
	case "filter_state":
		v, ok = f.stream.filterState[path[1]]
		return v, ok && len(path) == 2, ok
	case "metadata":
		if _, given := lookup(f.stream.cfg.Properties, path[:2]); path[1] == "filter_metadata" && !given {
			v, ok = lookup(map[string]any{}, path[2:])
			return v, ok, true
		}
	}
	return nil, false, false
}

// requestProperty returns the property request.name, or the part of it at the path rest.
func (f *filter) requestProperty(name string, rest []string) (v any, ok, known bool) {
	s := f.stream
	headers := f.visible(f.requestHeaders, s.request.headers)
	switch name {
	case "headers":
		return fields(headers, rest)

	case "size":
		if headers != nil && headers.Has("content-length") {
			n, err := strconv.Atoi(headers.Get("content-length"))
			return n, err == nil && len(rest) == 0, true
		}
		return s.request.size, len(rest) == 0, true

	case "total_size":
		if headers == nil {
			return nil, false, true
		}
		return s.request.size + headers.size(), len(rest) == 0, true

	case "path", "url_path", "query":
		v, ok, known = fields(headers, []string{":path"})
		if !ok || len(rest) > 0 {
			return nil, false, known
		}

		before, after, _ := strings.Cut(v.(string), "?")
		switch name {
		case "url_path":
			v = before
		case "query":
			after, _, _ = strings.Cut(after, "#")
			v = after
		}
		return v, true, true
	}

	field := requestFields[name]
	if field == "" {
		return nil, false, false
	}
	if len(rest) > 0 {
		return nil, false, true
	}
	return fields(headers, []string{field})
}

// requestFields maps names of request properties to the header fields with their values.
var requestFields = map[string]string{
	"host": ":authority", "scheme": ":scheme", "method": ":method", "referer": "referer",
	"useragent": "user-agent", "id": "x-request-id",
}

// responseProperty returns the property response.name, or the part of it at the path rest.
func (f *filter) responseProperty(name string, rest []string) (v any, ok, known bool) {
	s := f.stream
	switch name {
	case "code":
		return s.code, s.code != 0 && len(rest) == 0, true
	case "code_details":
		return s.details, s.hasDetails && len(rest) == 0, true
	case "size":
		return s.response.size, len(rest) == 0, true
	case "headers":
		return fields(f.visible(f.responseHeaders, s.response.headers), rest)
	case "trailers":
		return fields(f.visible(f.responseTrailers, s.response.trailers), rest)
	}
	return nil, false, false
}

// visible returns the headers or trailers that the module can read now: those of the filter, or the
// final ones in on_log.
func (f *filter) visible(mine, final *Headers) *Headers {
	if mine == nil && f.logging {
		return final
	}
	return mine
}

// fields returns the value of a header field, in which the values of a repeated field are joined by
// commas, or all fields as a map.
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

// lookup follows a path through a property tree. Its elements are keys of maps and indexes of
// lists.
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

// serialize encodes a property as Envoy does (serializeValue in
// source/extensions/common/wasm/context.cc): strings and bytes as they are, numbers in 8 bytes and
// bools in one, times and durations in nanoseconds, maps as pairs, and lists as pairs with the
// items as keys. If there is a null anywhere, the whole read fails. A protobuf Struct, which all of
// filter_metadata is, has only one kind of number.
func serialize(v any, isStruct bool) ([]byte, Status) {
	if isStruct {
		if f, ok := number(v); ok {
			v = f
		}
	}
	if b, ok := serializeScalar(v); ok {
		return b, StatusOK
	}

	var pairs Headers
	switch t := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(t)) {
			b, st := serialize(t[key], isStruct)
			if st != StatusOK {
				return nil, st
			}
			pairs = append(pairs, [2]string{key, string(b)})
		}
	case map[string]string:
		for _, key := range slices.Sorted(maps.Keys(t)) {
			pairs = append(pairs, [2]string{key, t[key]})
		}
	case []any:
		for i := range t {
			b, st := serialize(t[i], isStruct)
			if st != StatusOK {
				return nil, st
			}
			pairs = append(pairs, [2]string{string(b)})
		}
	case []string:
		for i := range t {
			pairs = append(pairs, [2]string{t[i]})
		}
	case nil:
		return nil, StatusSerializationFailure
	default:
		panic(fmt.Sprintf("wasmhost: a property cannot be a %T; use string, []byte, bool, int, int64, uint64, float64, time.Time, time.Duration, nil, and maps and slices of them", v))
	}
	return appendPairs(nil, pairs), StatusOK
}

// serializeScalar encodes a value that is neither a map, a list nor a null; ok reports whether it
// is one.
func serializeScalar(v any) (b []byte, ok bool) {
	le := binary.LittleEndian
	switch t := v.(type) {
	case string:
		return []byte(t), true
	case []byte:
		return t, true
	case bool:
		if t {
			return []byte{1}, true
		}
		return []byte{0}, true

	case float64:
		return le.AppendUint64(nil, math.Float64bits(t)), true
	case int:
		return le.AppendUint64(nil, uint64(t)), true
	case int64:
		return le.AppendUint64(nil, uint64(t)), true
	case uint64:
		return le.AppendUint64(nil, t), true
	case time.Time:
		return le.AppendUint64(nil, uint64(t.UnixNano())), true
	case time.Duration:
		return le.AppendUint64(nil, uint64(t)), true
	}
	return nil, false
}

// number returns an integer as a double; ok reports whether v is one.
func number(v any) (f float64, ok bool) {
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

// metadata encodes the filter_metadata of a stream as Envoy encodes the property "metadata": as a
// serialized envoy.config.core.v3.Metadata, whose field 1 is a map of Structs. It is empty if no
// filter has written metadata.
func metadata(filterMetadata any) (b []byte) {
	namespaces, _ := filterMetadata.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(namespaces)) {
		object := structValue(namespaces[name]).GetStructValue()
		if object == nil {
			panic(fmt.Sprintf("wasmhost: metadata.filter_metadata.%s must be a map, as a protobuf Struct is", name))
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

// structValue converts a property to a value of a protobuf Struct.
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
	panic(fmt.Sprintf("wasmhost: a property in metadata cannot be a %T, which a protobuf Struct cannot hold", v))
}

func (c call) setProperty() Status {
	f := c.in.current().filter
	if f == nil {
		return StatusNotFound
	}

	f.stream.filterState["wasm."+c.str(0)] = slices.Clone(c.bytes(2))
	return StatusOK
}
