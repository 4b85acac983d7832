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

// This file holds properties: values that a module reads by a path such as source.address
// (get_property), and that it may set for the stream. A property follows from the stream itself
// (request.path), or comes from one of two trees that the user of this package gives: those of the
// stream (StreamConfig.Properties) and of the process (Config.Properties). A value is returned in
// the encoding of serialize.

// getProperty is proxy_get_property. Its parameters are 0 and 1 the path, whose elements are
// separated by zero bytes, and 2 and 3 where to return the value.
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
func (in *instance) property(ctx *wasmContext, path []string) ([]byte, Status) {
	if ctx.filter != nil && len(path) == 1 && slices.Contains(objects, path[0]) {
		return nil, StatusSerializationFailure
	}

	value, ok := ctx.findProperty(in, path)
	if !ok {
		return nil, StatusNotFound
	}

	if ctx.filter != nil && len(path) == 1 && path[0] == "metadata" {
		return metadata(value), StatusOK
	}
	return serialize(value, slices.Contains(path, "filter_metadata"))
}

// objects are the properties of a stream that Envoy returns only member by member.
var objects = []string{"request", "response", "source", "destination", "connection", "upstream", "xds"}

// findProperty returns the value of a property; ok reports whether there is one.
func (c *wasmContext) findProperty(in *instance, path []string) (value any, ok bool) {
	if c.filter != nil {
		if value, ok, final := c.filter.streamProperty(path); final {
			return value, ok
		}
		if value, ok := followPath(c.filter.stream.cfg.Properties, path); ok {
			return value, true
		}
	}
	if value, ok := followPath(in.vm.host.cfg.Properties, path); ok {
		return value, true
	}

	if c.filter != nil && len(path) == 1 {
		if stored, ok := c.filter.stream.filterState["wasm."+path[0]]; ok {
			return stored, true
		}
	}
	return c.pluginProperty(in, path)
}

// pluginProperty returns a property of the configuration of the plugin; ok reports whether it is
// one.
func (c *wasmContext) pluginProperty(in *instance, path []string) (value string, ok bool) {
	if len(path) != 1 || c.root == nil {
		return "", false
	}

	switch path[0] {
	case "plugin_name":
		return c.root.plugin.cfg.Name, true
	case "plugin_root_id":
		return c.root.plugin.cfg.RootID, true
	case "plugin_vm_id":
		return in.vm.cfg.ID, true
	}
	return "", false
}

// streamProperty returns a property that follows from the stream itself. ok reports whether it has
// a value, and final that no other source can provide a property of this path, whether it has a
// value or not. Properties of the request can be read as long as its headers can.
func (f *filter) streamProperty(path []string) (value any, ok, final bool) {
	if len(path) == 1 && path[0] == "metadata" {
		value, _ = followPath(f.stream.cfg.Properties, []string{"metadata", "filter_metadata"})
		return value, true, true
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
		stored, exists := f.stream.filterState[path[1]]
		return stored, exists && len(path) == 2, exists
	case "metadata":
		// Without any metadata, filter_metadata is an empty map.
		if _, given := followPath(f.stream.cfg.Properties, path[:2]); path[1] == "filter_metadata" && !given {
			value, ok = followPath(map[string]any{}, path[2:])
			return value, ok, true
		}
	}
	return nil, false, false
}

// requestProperty returns the property request.name, or the part of it at the path rest. Its
// results are those of streamProperty. Only headers have parts: for the others, a rest means no
// value.
func (f *filter) requestProperty(name string, rest []string) (value any, ok, final bool) {
	s := f.stream
	headers := f.visible(f.requestHeaders, s.request.headers)
	switch name {
	case "headers":
		return headerProperty(headers, rest)

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
		path, ok, _ := headerProperty(headers, []string{":path"})
		if !ok || len(rest) > 0 {
			return nil, false, true
		}
		return pathProperty(name, path.(string)), true, true
	}

	field := requestFields[name]
	if field == "" {
		return nil, false, false
	}
	if len(rest) > 0 {
		return nil, false, true
	}
	return headerProperty(headers, []string{field})
}

// pathProperty returns the property request.path, request.url_path (without the query) or
// request.query (without a fragment) of a path.
func pathProperty(name, path string) string {
	urlPath, query, _ := strings.Cut(path, "?")
	switch name {
	case "url_path":
		return urlPath
	case "query":
		query, _, _ = strings.Cut(query, "#")
		return query
	}
	return path
}

// requestFields maps names of request properties to the header fields with their values.
var requestFields = map[string]string{
	"host": ":authority", "scheme": ":scheme", "method": ":method", "referer": "referer",
	"useragent": "user-agent", "id": "x-request-id",
}

// responseProperty returns the property response.name, or the part of it at the path rest. Its
// results are those of streamProperty.
func (f *filter) responseProperty(name string, rest []string) (value any, ok, final bool) {
	s := f.stream
	switch name {
	case "code":
		return s.code, s.code != 0 && len(rest) == 0, true
	case "code_details":
		return s.details, s.hasDetails && len(rest) == 0, true
	case "size":
		return s.response.size, len(rest) == 0, true
	case "headers":
		return headerProperty(f.visible(f.responseHeaders, s.response.headers), rest)
	case "trailers":
		return headerProperty(f.visible(f.responseTrailers, s.response.trailers), rest)
	}
	return nil, false, false
}

// visible returns the headers or trailers that the module can read now, or nil: those that the
// filter has, or otherwise, in on_log, those of the stream.
func (f *filter) visible(ofFilter, ofStream *Headers) *Headers {
	if ofFilter == nil && f.logging {
		return ofStream
	}
	return ofFilter
}

// headerProperty returns all fields as a map if the path is empty. Otherwise the path is the name
// of a field, and the values of a repeated field are joined by commas. The results are those of
// streamProperty; without headers, the map is empty and a field has no value.
func headerProperty(h *Headers, path []string) (value any, ok, final bool) {
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

// followPath follows a path through a tree of properties. The elements of the path are keys of maps
// and indexes of lists. ok reports whether there is a value at its end.
func followPath(v any, path []string) (value any, ok bool) {
	for _, name := range path {
		switch t := v.(type) {
		case map[string]any:
			member, ok := t[name]
			if !ok {
				return nil, false
			}
			v = member
		case map[string]string:
			member, ok := t[name]
			if !ok {
				return nil, false
			}
			v = member
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
// bools in one, times and durations in nanoseconds, maps as pairs (appendPairs in abi.go), and
// lists as pairs with the items as names and without values. If there is a null anywhere, the whole
// read fails. inStruct says that the property is in a protobuf Struct, as all of filter_metadata
// is: a Struct has only one kind of number, so that integers become doubles.
func serialize(v any, inStruct bool) ([]byte, Status) {
	if inStruct {
		if f, ok := integerAsDouble(v); ok {
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
			b, st := serialize(t[key], inStruct)
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
			b, st := serialize(t[i], inStruct)
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

// serializeScalar encodes a value that is neither a map, a list nor a null; ok reports whether v is
// such a value.
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

// integerAsDouble returns an integer as a double; ok reports whether v is an integer.
func integerAsDouble(v any) (f float64, ok bool) {
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
// serialized envoy.config.core.v3.Metadata, whose field 1 is filter_metadata, a map of Structs. The
// encoding is empty if no filter has written metadata.
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

		// An entry of a protobuf map is a message with the key in field 1 and the value in field 2.
		const keyField, valueField, filterMetadataField = 1, 2, 1
		entry := protowire.AppendString(protowire.AppendTag(nil, keyField, protowire.BytesType), name)
		entry = protowire.AppendBytes(protowire.AppendTag(entry, valueField, protowire.BytesType), data)
		b = protowire.AppendBytes(protowire.AppendTag(b, filterMetadataField, protowire.BytesType), entry)
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

// setProperty is proxy_set_property. Its parameters are 0 and 1 the path, and 2 and 3 the value.
// Envoy stores the value in the filter state of the stream, under "wasm." and the path, and returns
// NotFound outside of a stream (Context::setProperty).
func (c call) setProperty() Status {
	f := c.in.current().filter
	if f == nil {
		return StatusNotFound
	}

	f.stream.filterState["wasm."+c.str(0)] = slices.Clone(c.bytes(2))
	return StatusOK
}
