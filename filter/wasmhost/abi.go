package wasmhost

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"time"
)

// This file describes the proxy-wasm ABI (https://github.com/proxy-wasm/spec, abi-versions/v0.2.1):
// the numbers that it defines, the encoding of pairs, and the table of its functions. It also holds
// the few host calls that belong to no other file. How a host call gets its parameters is in
// hostcall.go; a call's method u32(i) returns parameter i.

// Status is the result of a proxy-wasm host call (ABI 0.2.1, proxy_status_t).
type Status uint32

// The statuses of the ABI that this host uses.
const (
	StatusOK                   Status = 0
	StatusNotFound             Status = 1
	StatusBadArgument          Status = 2
	StatusSerializationFailure Status = 3
	StatusParseFailure         Status = 4
	StatusInvalidMemoryAccess  Status = 6
	StatusEmpty                Status = 7
	StatusCasMismatch          Status = 8
	StatusInternalFailure      Status = 10
	StatusBrokenConnection     Status = 11
	StatusUnimplemented        Status = 12
)

// String returns the name of the status, also of those that this host does not use.
func (s Status) String() string {
	return enum(s, "OK", "NotFound", "BadArgument", "SerializationFailure", "ParseFailure", "BadExpression", "InvalidMemoryAccess",
		"Empty", "CasMismatch", "ResultMismatch", "InternalFailure", "BrokenConnection", "Unimplemented")
}

// appendPairs appends pairs in the encoding of proxy-wasm, which is used for header maps and for
// properties that are maps: the number of pairs and then the lengths of all names and values, as
// little-endian 32-bit numbers, and then the names and values, each with a terminating zero.
func appendPairs(b []byte, pairs [][2]string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(pairs)))

	for _, p := range pairs {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p[0])))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p[1])))
	}

	for _, p := range pairs {
		b = append(append(b, p[0]...), 0)
		b = append(append(b, p[1]...), 0)
	}

	return b
}

// The limits of proxy-wasm-cpp-host on pairs that a module passes in (limits.h).
const (
	maxPairsSize = 1 << 20 // bytes
	maxPairs     = 1024
)

// parsePairs decodes pairs in the encoding of appendPairs. It returns nil if b is malformed or
// exceeds a limit, as proxy-wasm-cpp-host does (pairs_util.cc).
func parsePairs(b []byte) Headers {
	const numberSize = 4 // bytes of the number of pairs and of each length
	if len(b) < numberSize || len(b) > maxPairsSize {
		return nil
	}

	n := int(binary.LittleEndian.Uint32(b))
	textsAt := numberSize + 2*numberSize*n // after a length for each name and each value
	if n > maxPairs || len(b) < textsAt {
		return nil
	}

	sizes, rest := b[numberSize:textsAt], b[textsAt:]
	next := func() (string, bool) {
		size := uint64(binary.LittleEndian.Uint32(sizes))
		sizes = sizes[numberSize:]
		if size+1 > uint64(len(rest)) || rest[size] != 0 {
			return "", false
		}

		s := string(rest[:size])
		rest = rest[size+1:]
		return s, true
	}

	pairs := make(Headers, n)
	for i := range pairs {
		for j := range pairs[i] {
			var ok bool
			if pairs[i][j], ok = next(); !ok {
				return nil
			}
		}
	}

	if len(rest) > 0 {
		return nil
	}
	return pairs
}

// proxyFuncs are the functions of the ABI, which a module imports from "env". args describes the
// parameters and allowed the phases besides ordinary callbacks (hostFunc in hostcall.go).
var proxyFuncs = []hostFunc{
	{name: "proxy_log", args: "Lb", allowed: inInit | inMalloc, fn: call.log},
	{name: "proxy_get_log_level", args: "w", fn: call.logLevel},
	{name: "proxy_get_current_time_nanoseconds", args: "q", fn: call.currentTime},
	{name: "proxy_get_status", args: "wr", fn: call.getStatus},
	{name: "proxy_get_property", args: "pr", fn: call.getProperty},
	{name: "proxy_set_property", args: "pb", fn: call.setProperty},
	{name: "proxy_send_local_response", args: "ibbmi", fn: call.sendLocalResponse},
	{name: "proxy_continue_stream", args: "S", fn: call.continueStream},
	{name: "proxy_close_stream", args: "S", fn: call.closeStream},
	{name: "proxy_get_shared_data", args: "brw", fn: call.getSharedData},
	{name: "proxy_set_shared_data", args: "bbi", fn: call.setSharedData},
	{name: "proxy_register_shared_queue", args: "bw", fn: call.registerQueue},
	{name: "proxy_resolve_shared_queue", args: "bbw", fn: call.resolveQueue},
	{name: "proxy_dequeue_shared_queue", args: "ir", fn: call.dequeue},
	{name: "proxy_enqueue_shared_queue", args: "ib", fn: call.enqueue},
	{name: "proxy_get_header_map_value", args: "Hbr", fn: call.getHeader},
	{name: "proxy_add_header_map_value", args: "Hbb", fn: call.addHeader},
	{name: "proxy_replace_header_map_value", args: "Hbb", fn: call.replaceHeader},
	{name: "proxy_remove_header_map_value", args: "Hb", fn: call.removeHeader},
	{name: "proxy_get_header_map_pairs", args: "Hr", fn: call.getHeaders},
	{name: "proxy_set_header_map_pairs", args: "Hm", fn: call.setHeaders},
	{name: "proxy_get_header_map_size", args: "Hw", fn: call.headersSize},
	{name: "proxy_get_buffer_bytes", args: "Biir", fn: call.getBuffer},
	{name: "proxy_set_buffer_bytes", args: "Biib", fn: call.setBuffer},
	{name: "proxy_get_buffer_status", args: "Bww", fn: call.bufferStatus},
	{name: "proxy_http_call", args: "bmbmiw", fn: call.httpCall},
	{name: "proxy_grpc_call", args: "bbbmbiw", fn: unimplemented},
	{name: "proxy_grpc_stream", args: "bbbmw", fn: unimplemented},
	{name: "proxy_grpc_close", args: "i", fn: unimplemented},
	{name: "proxy_grpc_cancel", args: "i", fn: unimplemented},
	{name: "proxy_grpc_send", args: "ibi", fn: unimplemented},
	{name: "proxy_set_tick_period_milliseconds", args: "i", fn: call.setTickPeriod},
	{name: "proxy_set_effective_context", args: "i", fn: call.setEffectiveContext},
	{name: "proxy_done", fn: call.done},
	{name: "proxy_define_metric", args: "Mbw", fn: call.defineMetric},
	{name: "proxy_increment_metric", args: "il", fn: call.incrementMetric},
	{name: "proxy_record_metric", args: "il", fn: call.recordMetric},
	{name: "proxy_get_metric", args: "iq", fn: call.getMetric},
	{name: "proxy_call_foreign_function", args: "bbr", fn: call.foreignFunction},
}

// The numbers of the header maps that this host has (proxy_header_map_type_t).
const (
	mapRequestHeaders   = 0
	mapRequestTrailers  = 1
	mapResponseHeaders  = 2
	mapResponseTrailers = 3
	mapCallHeaders      = 6
	mapCallTrailers     = 7
)

// The numbers of the buffers that this host has (proxy_buffer_type_t).
const (
	bufferRequestBody         = 0
	bufferResponseBody        = 1
	bufferCallBody            = 4
	bufferVMConfiguration     = 6
	bufferPluginConfiguration = 7
)

// The names of the numbers of the ABI, for the trace.
var (
	headerMapNames = []string{
		"request_headers", "request_trailers", "response_headers", "response_trailers",
		"grpc_initial_metadata", "grpc_trailing_metadata", "call_headers", "call_trailers",
	}
	bufferNames = []string{
		"request_body", "response_body", "downstream_data", "upstream_data", "call_body", "grpc_message",
		"vm_configuration", "plugin_configuration", "call_data",
	}
	streamNames   = []string{"request", "response", "downstream", "upstream"}
	logLevelNames = []string{"trace", "debug", "info", "warn", "error", "critical"}
)

// unimplemented is the host call of a function that this host does not have.
func unimplemented(call) Status { return StatusUnimplemented }

// The levels of Envoy for which log/slog has no name.
const (
	levelTrace    = slog.LevelDebug - 4
	levelCritical = slog.LevelError + 4
)

// log is proxy_log. Its parameters are 0 the level, and 1 and 2 the message.
func (c call) log() Status {
	levels := [...]slog.Level{ // in the order of logLevelNames
		levelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError, levelCritical,
	}
	if int(c.u32(0)) >= len(levels) {
		return StatusBadArgument
	}

	c.in.log(levels[c.u32(0)], c.str(1))
	return StatusOK
}

// logLevel is proxy_get_log_level. Its parameter 0 is where to return the level: info, the default
// of Envoy.
func (c call) logLevel() Status {
	const info = 2 // in logLevelNames
	return c.put32(0, info)
}

// currentTime is proxy_get_current_time_nanoseconds. Its parameter 0 is where to return the
// wall-clock time in nanoseconds since 1970.
func (c call) currentTime() Status {
	return c.put64(0, uint64(c.in.vm.host.cfg.Clock.Wall().UnixNano()))
}

// setTickPeriod is proxy_set_tick_period_milliseconds. Its parameter 0 is the period; 0 ends the
// ticks.
func (c call) setTickPeriod() Status {
	root := c.in.current().root
	root.period = time.Duration(c.u32(0)) * time.Millisecond
	root.due = time.Now().Add(root.period)
	return StatusOK
}

// setEffectiveContext is proxy_set_effective_context, which selects the context that host calls
// work on until the callback returns. Its parameter 0 is the id of the context.
func (c call) setEffectiveContext() Status {
	id := c.u32(0)
	if c.in.contexts[id] == nil {
		return StatusBadArgument
	}

	c.in.invocation.effective = id
	return StatusOK
}

// done is proxy_done, which ends a root context whose proxy_on_done returned false.
func (c call) done() Status {
	root := c.in.current().root
	if !root.pendingDone {
		return StatusNotFound
	}

	root.pendingDone = false
	c.in.addAfterCallAction(root.delete)
	return StatusOK
}

// foreignFunction is proxy_call_foreign_function. Its parameters are 0 and 1 the name of the
// function, 2 and 3 its argument, and 4 and 5 where to return its result, which is written also if
// the function fails.
func (c call) foreignFunction() Status {
	fn := c.in.vm.host.cfg.ForeignFunctions[c.str(0)]
	if fn == nil {
		return StatusNotFound
	}

	result, st := fn(slices.Clone(c.bytes(2)))
	if put := c.putBytes(4, result); put != StatusOK {
		return put
	}
	return st
}
