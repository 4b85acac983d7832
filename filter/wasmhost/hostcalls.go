package wasmhost

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// When a host function may be called besides in ordinary callbacks, by the rules before (legacy) and since (modern)
// proxy-wasm-cpp-host #533: WasmBase::startVm and WasmBase::allocMemory.
const (
	initLegacy = 1 << iota
	initModern
	mallocLegacy
	mallocModern
	modernOnly // did not exist before

	inInit   = initLegacy | initModern
	inMalloc = mallocLegacy | mallocModern
)

// hostFunc is a function that the module may import. args describes its parameters, for their types, to check memory
// before fn runs, and for the trace, one letter each:
//
//	i  a number (i32)                 l  a number (i64)
//	b  bytes (address and size)       p  a property path (address and size)
//	m  pairs (address and size)       H  B  S  L  M  an i32: header map, buffer, stream, log level, metric type
//	r  where to put allocated bytes (two addresses)      w  q  where to put an i32, an i64
//
// A call reads parameters by their position in the wasm signature.
type hostFunc struct {
	name    string
	args    string
	wasi    bool
	allowed uint8
	fn      func(c call) Status
	index   int // in hostFuncs
}

type call struct {
	in    *instance
	stack []uint64
}

var hostFuncs = slices.Concat(proxyFuncs, wasiFuncs)

func init() {
	for i := range hostFuncs {
		hostFuncs[i].index = i
	}
}

var proxyFuncs = []hostFunc{
	{name: "proxy_log", args: "Lb", allowed: inInit | inMalloc, fn: call.log},
	{name: "proxy_get_log_level", args: "w", fn: func(c call) Status { return c.put32(0, 2) }}, // info, Envoy's default
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

var (
	headerMapNames = []string{"request_headers", "request_trailers", "response_headers", "response_trailers",
		"grpc_initial_metadata", "grpc_trailing_metadata", "call_headers", "call_trailers"}
	bufferNames = []string{"request_body", "response_body", "downstream_data", "upstream_data", "call_body", "grpc_message",
		"vm_configuration", "plugin_configuration", "call_data"}
	streamNames   = []string{"request", "response", "downstream", "upstream"}
	logLevelNames = []string{"trace", "debug", "info", "warn", "error", "critical"}
)

// signature is the wasm type of the function.
func (f *hostFunc) signature() (params, results []api.ValueType) {
	for _, a := range f.args {
		switch a {
		case 'l':
			params = append(params, api.ValueTypeI64)
		case 'b', 'm', 'p', 'r':
			params = append(params, api.ValueTypeI32, api.ValueTypeI32)
		default:
			params = append(params, api.ValueTypeI32)
		}
	}
	if f.name != "proc_exit" {
		results = []api.ValueType{api.ValueTypeI32}
	}
	return params, results
}

// Call runs the function for the module; it makes f a wazero api.GoModuleFunction.
func (f *hostFunc) Call(ctx context.Context, _ api.Module, stack []uint64) {
	in := ctx.Value(instanceKey{}).(*instance)
	in.vm.calls[in.frame.callback][f.index]++
	if in.frame.restrict&^f.allowed != 0 {
		v := in.violation(in.frame.callback, f.name, "Envoy allows no such call in this phase")
		in.trace(f, stack, "restricted")
		panic(v)
	}
	in.note = in.note[:0]
	st := StatusInvalidMemoryAccess
	switch fault := in.vm.host.cfg.Fault; {
	case !in.readable(f.args, stack):
	case fault != nil && !f.wasi && fault(f.name) != StatusOK:
		st = fault(f.name)
	default:
		st = f.fn(call{in, stack})
	}
	result := st.String()
	if f.wasi {
		result = errnoName(st)
	}
	in.trace(f, stack, result)
	stack[0] = uint64(st) // proc_exit has no result, but room for its parameter
}

// readable tells whether all bytes that the parameters point to lie in the module's memory.
func (in *instance) readable(args string, stack []uint64) bool {
	i := 0
	for _, a := range args {
		switch a {
		case 'b', 'm', 'p':
			if _, ok := in.mem.Read(uint32(stack[i]), uint32(stack[i+1])); !ok {
				return false
			}
			i += 2
		case 'r':
			i += 2
		default:
			i++
		}
	}
	return true
}

// trace reports a host call. The results noted by the call follow the status.
func (in *instance) trace(f *hostFunc, stack []uint64, result string) {
	trace := in.vm.host.cfg.Trace
	if trace == nil {
		return
	}
	var args []string
	i := 0
	c := call{in, stack}
	for _, a := range f.args {
		switch a {
		case 'b', 'm', 'p':
			b, ok := in.mem.Read(c.u32(i), c.u32(i+1))
			switch {
			case !ok:
				args = append(args, "out of memory bounds")
			case a == 'm':
				args = append(args, quotePairs(parsePairs(b)))
			case a == 'p':
				args = append(args, strconv.Quote(strings.ReplaceAll(string(b), "\x00", ".")))
			default:
				args = append(args, quote(b))
			}
			i++
		case 'H':
			args = append(args, enum(c.u32(i), headerMapNames...))
		case 'B':
			args = append(args, enum(c.u32(i), bufferNames...))
		case 'S':
			args = append(args, enum(c.u32(i), streamNames...))
		case 'L':
			args = append(args, enum(c.u32(i), logLevelNames...))
		case 'M':
			args = append(args, MetricType(c.u32(i)).String())
		case 'i':
			args = append(args, strconv.Itoa(int(int32(stack[i]))))
		case 'l':
			args = append(args, strconv.FormatInt(int64(stack[i]), 10))
		case 'r':
			i++
		}
		i++
	}
	trace(Call{Thread: in.vm.cfg.Thread, Callback: in.frame.callback.String(), Context: in.frame.context.id,
		Func: f.name, Args: strings.Join(args, ", "), Result: result + string(in.note)})
}

// Call is a callback or a host call in the trace.
type Call struct {
	Thread   string // VMConfig.Thread
	Callback string // the callback that runs
	Context  uint32 // the id of the context for which it runs
	Func     string // the host call made in it; empty for the start and the end of the callback itself
	Args     string
	Result   string // the status and what else a host call gave back; empty at the start of a callback
}

// String is the call in one line.
func (c Call) String() string {
	switch {
	case c.Func != "":
		return fmt.Sprintf("%s %s[%d] %s(%s) = %s", c.Thread, c.Callback, c.Context, c.Func, c.Args, c.Result)
	case c.Result != "":
		return fmt.Sprintf("%s < %s[%d] = %s", c.Thread, c.Callback, c.Context, c.Result)
	}
	return fmt.Sprintf("%s > %s(%s)", c.Thread, c.Callback, c.Args)
}

// quote shortens long values: traces are compared and read by people.
func quote(b []byte) string {
	if len(b) > 256 {
		return fmt.Sprintf("%q… %d bytes", b[:64], len(b))
	}
	return strconv.Quote(string(b))
}

func quotePairs(h Headers) string {
	var s []string
	for _, f := range h {
		s = append(s, f[0]+": "+quote([]byte(f[1])))
	}
	return "{" + strings.Join(s, ", ") + "}"
}

func (c call) u32(i int) uint32 { return uint32(c.stack[i]) }

// bytes are the bytes at the address in parameter i with the size in i+1. They belong to the module: whoever keeps them
// beyond the next allocation copies them.
func (c call) bytes(i int) []byte {
	b, _ := c.in.mem.Read(c.u32(i), c.u32(i+1))
	return b
}

func (c call) str(i int) string { return string(c.bytes(i)) }

func (c call) put32(i int, v uint32) Status {
	c.in.noteText(func() string { return strconv.FormatUint(uint64(v), 10) })
	if !c.in.mem.WriteUint32Le(c.u32(i), v) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}

func (c call) put64(i int, v uint64) Status {
	c.in.noteText(func() string { return strconv.FormatUint(v, 10) })
	if !c.in.mem.WriteUint64Le(c.u32(i), v) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}

// putBytes gives b to the module in memory that the module allocates, and puts its address and size where parameters i and
// i+1 say. Nothing is allocated for no bytes.
func (c call) putBytes(i int, b []byte) Status {
	c.in.noteText(func() string { return quote(b) })
	return c.put(i, b)
}

func (c call) put(i int, b []byte) Status {
	var addr uint32
	if len(b) > 0 {
		note := c.in.note
		addr = c.in.malloc(uint32(len(b)))
		c.in.note = note
		if addr == 0 || !c.in.mem.Write(addr, b) {
			return StatusInvalidMemoryAccess
		}
	}
	if !c.in.mem.WriteUint32Le(c.u32(i), addr) || !c.in.mem.WriteUint32Le(c.u32(i+1), uint32(len(b))) {
		return StatusInvalidMemoryAccess
	}
	return StatusOK
}

// noteText adds to what the running host call gives back, for the trace.
func (in *instance) noteText(text func() string) {
	if in.vm.host.cfg.Trace != nil {
		in.note = append(append(in.note, ' '), text()...)
	}
}

func unimplemented(call) Status { return StatusUnimplemented }

func (c call) log() Status {
	levels := [...]slog.Level{slog.LevelDebug - 4, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError, slog.LevelError + 4}
	if int(c.u32(0)) >= len(levels) {
		return StatusBadArgument
	}
	c.in.log(levels[c.u32(0)], c.str(1))
	return StatusOK
}

func (c call) currentTime() Status {
	return c.put64(0, uint64(c.in.vm.host.cfg.Clock.Wall().UnixNano()))
}

func (c call) getStatus() Status {
	root := c.in.current().root
	if st := c.put32(0, uint32(root.status)); st != StatusOK {
		return st
	}
	return c.putBytes(1, []byte(root.statusMessage))
}

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

// spaces is what Envoy does to response code details, which stand in access logs.
var spaces = strings.NewReplacer(" ", "_", "\t", "_", "\n", "_", "\v", "_", "\f", "_", "\r", "_")

func (c call) sendLocalResponse() Status {
	c.in.stopped = true
	f := c.in.current().filter
	if f == nil {
		c.in.misuse(c.in.frame.callback, "proxy_send_local_response", "no stream is current")
		return StatusOK
	}
	r := LocalReply{
		Status: int(c.u32(0)), Details: spaces.Replace(c.str(1)), Body: slices.Clone(c.bytes(3)),
		Headers: parsePairs(c.bytes(5)), GRPCStatus: int(int32(c.u32(7))),
	}
	if r.GRPCStatus < 0 || r.GRPCStatus > 16 {
		r.GRPCStatus = -1
	}
	// It takes effect when the module has returned, as do the other calls on streams: the module must not be entered
	// while it runs.
	in, during := c.in, c.in.frame.callback
	in.defers(func() {
		if f.stream.reply != nil || f.stream.done {
			in.misuse(during, "proxy_send_local_response", "the stream was already answered or has ended")
			return
		}
		f.stream.reply = &r
		f.stream.localReply(r)
	})
	return StatusOK
}

func (c call) continueStream() Status {
	f := c.in.current().filter
	if typ := c.u32(0); typ > 1 {
		if typ == 3 {
			return StatusUnimplemented
		}
		if typ == 2 {
			return StatusOK // TCP
		}
		return StatusBadArgument
	}
	if f == nil {
		c.in.misuse(c.in.frame.callback, "proxy_continue_stream", "no stream is current")
		return StatusOK
	}
	f.requestHeaders, f.requestTrailers, f.requestBody = nil, nil, nil
	h := &f.decode
	if c.u32(0) == 1 {
		h = &f.encode
	}
	in, during := c.in, c.in.frame.callback
	in.defers(func() {
		switch {
		case f.stream.done:
			in.misuse(during, "proxy_continue_stream", "the stream has ended")
		case f.stream.reply != nil && h == &f.decode:
			in.misuse(during, "proxy_continue_stream", "the stream was already answered by a local reply")
		case h.state == iterating:
			in.misuse(during, "proxy_continue_stream", "the stream is not paused")
		default:
			h.resume()
		}
	})
	return StatusOK
}

func (c call) closeStream() Status {
	if c.u32(0) > 3 {
		return StatusBadArgument
	}
	if f := c.in.current().filter; f != nil && c.u32(0) < 2 {
		if !f.stream.detailed {
			f.stream.setDetails("wasm_close_stream")
		}
		c.in.defers(f.stream.reset)
	}
	return StatusOK
}

func (c call) getSharedData() Status {
	value, cas, ok := c.in.vm.host.store.get(c.in.vm.cfg.ID, c.str(0))
	if !ok {
		return StatusNotFound
	}
	if st := c.putBytes(2, value); st != StatusOK {
		return st
	}
	return c.put32(4, cas)
}

func (c call) setSharedData() Status {
	return c.in.vm.host.store.set(c.in.vm.cfg.ID, c.str(0), c.bytes(2), c.u32(4))
}

func (c call) registerQueue() Status {
	vm, root := c.in.vm, c.in.current().root
	var token uint32
	token = vm.host.store.registerQueue(vm.cfg.ID, c.str(0), func() {
		vm.Post(func() { vm.queueReady(root.id, token) })
	})
	return c.put32(2, token)
}

func (c call) resolveQueue() Status {
	vmID := c.str(0)
	if vmID == "" {
		vmID = c.in.vm.cfg.ID
	}
	token, ok := c.in.vm.host.store.resolveQueue(vmID, c.str(2))
	if !ok {
		return StatusNotFound
	}
	return c.put32(4, token)
}

func (c call) dequeue() Status {
	item, st := c.in.vm.host.store.dequeue(c.u32(0))
	if st != StatusOK {
		return st
	}
	return c.putBytes(1, item)
}

func (c call) enqueue() Status { return c.in.vm.host.store.enqueue(c.u32(0), c.bytes(1)) }

// Header maps.

// headersRead finds a header map for reading. After the stream has gone on, a filter has none of its maps any more,
// until on_log shows it the final ones.
func (c call) headersRead() (*Headers, Status) {
	ctx := c.in.current()
	f, t := ctx.filter, c.u32(0)
	if int(t) >= len(headerMapNames) {
		return nil, StatusBadArgument
	}
	var h *Headers
	switch {
	case t == 6 || t == 7:
		if r := ctx.root.response; r != nil && t == 6 {
			h = &r.headers
		} else if r != nil && r.trailers != nil {
			h = r.trailers
		}
	case f == nil:
	case f.logging:
		s := f.stream
		if h = [...]*Headers{s.request.headers, nil, s.response.headers, s.response.trailers, nil, nil}[t]; h == nil {
			return nil, StatusNotFound
		}
	default:
		h = f.headers(t)
	}
	if h == nil {
		return nil, StatusBadArgument
	}
	return h, StatusOK
}

// headersWrite finds a header map for writing. In the last body callback a filter may add trailers that were not there.
func (c call) headersWrite() (*Headers, Status) {
	f, t := c.in.current().filter, c.u32(0)
	if f == nil || t > 3 {
		return nil, StatusBadArgument
	}
	switch {
	case t == 1 && f.requestTrailers == nil && f.requestBody != nil && f.endOfStream:
		f.requestTrailers = f.decode.addTrailers()
	case t == 3 && f.responseTrailers == nil && f.responseBody != nil && f.endOfStream:
		f.responseTrailers = f.encode.addTrailers()
	}
	h := f.headers(t)
	if h == nil {
		return nil, StatusBadArgument
	}
	return h, StatusOK
}

// field is the name of a header field in parameter i. A request has its host in ":authority".
func (c call) field(i int) string {
	name := strings.ToLower(c.str(i))
	if name == "host" && c.u32(0) == 0 {
		return ":authority"
	}
	return name
}

func (f *filter) headers(t uint32) *Headers {
	switch t {
	case 0:
		return f.requestHeaders
	case 1:
		return f.requestTrailers
	case 2:
		return f.responseHeaders
	case 3:
		return f.responseTrailers
	}
	return nil
}

func (c call) getHeader() Status {
	h, st := c.headersRead()
	if st != StatusOK {
		return st
	}
	i := h.index(c.field(1))
	if i < 0 {
		return StatusNotFound
	}
	return c.putBytes(3, []byte((*h)[i][1]))
}

// getHeaders is OK with nothing for a map that is not available, where getHeader is BadArgument: so it is in Envoy.
func (c call) getHeaders() Status {
	if int(c.u32(0)) >= len(headerMapNames) {
		return StatusBadArgument
	}
	h, st := c.headersRead()
	if st != StatusOK || len(*h) == 0 {
		return c.put(1, nil)
	}
	c.in.noteText(func() string { return quotePairs(*h) })
	return c.put(1, appendPairs(nil, *h))
}

func (c call) addHeader() Status {
	h, st := c.headersWrite()
	if st == StatusOK {
		h.add(c.field(1), c.str(3))
	}
	return st
}

func (c call) replaceHeader() Status {
	h, st := c.headersWrite()
	if st == StatusOK {
		h.set(c.field(1), c.str(3))
	}
	return st
}

func (c call) removeHeader() Status {
	h, st := c.headersWrite()
	if st == StatusOK {
		h.remove(c.field(1))
	}
	return st
}

func (c call) setHeaders() Status {
	h, st := c.headersWrite()
	if st == StatusOK {
		if *h = parsePairs(c.bytes(1)).normal(); c.u32(0) == 0 {
			h.hostIsAuthority()
		}
	}
	return st
}

func (c call) headersSize() Status {
	h, st := c.headersWrite()
	if st != StatusOK {
		return st
	}
	return c.put32(1, uint32(h.size()))
}

// Buffers.

// buffer finds a buffer: b is its content, body the buffer behind it if it can be changed.
func (c call) buffer() (b []byte, body *buffer, st Status) {
	ctx := c.in.current()
	t := c.u32(0)
	switch f := ctx.filter; {
	case int(t) >= len(bufferNames):
		return nil, nil, StatusBadArgument
	case t == 0 && f != nil:
		if body = f.requestBody; f.decode.buffering {
			body = f.stream.request.buffered
		} else if body != nil && c.in.frame.callback != cbRequestBody {
			c.in.misuse(c.in.frame.callback, "proxy_get_buffer_bytes", "the part of the body that the last callback showed is gone")
		}
	case t == 1 && f != nil:
		if body = f.responseBody; f.encode.buffering {
			body = f.stream.response.buffered
		}
	case t == 4 && ctx.root.response != nil:
		return ctx.root.response.body, nil, StatusOK
	case t == 6:
		return c.in.vm.cfg.Configuration, nil, StatusOK
	case t == 7 && ctx.root.configuring && f == nil:
		return ctx.root.plugin.cfg.Configuration, nil, StatusOK
	case t == 4 || t == 7:
		return nil, nil, StatusNotFound
	}
	if body != nil {
		b = body.b
	}
	return b, body, StatusOK
}

func (c call) getBuffer() Status {
	b, _, st := c.buffer()
	if st != StatusOK {
		return st
	}
	start, length := uint64(c.u32(1)), uint64(c.u32(2))
	if start > uint64(len(b)) {
		return c.putBytes(3, nil)
	}
	return c.putBytes(3, b[start:min(start+length, uint64(len(b)))])
}

// setBuffer can prepend (start and length 0), append (start at or past the end) and replace all (start 0, length at
// least the size). Envoy knows no more.
func (c call) setBuffer() Status {
	_, body, st := c.buffer()
	if st != StatusOK {
		return st
	}
	start, length, data := uint64(c.u32(1)), uint64(c.u32(2)), c.bytes(3)
	switch {
	case body == nil:
		return StatusBadArgument
	case start == 0 && length == 0:
		body.b = slices.Concat(data, body.b)
	case start == 0 && length >= uint64(len(body.b)):
		body.b = slices.Clone(data)
	case start != 0 && start >= uint64(len(body.b)):
		body.b = append(body.b, data...)
	default:
		return StatusBadArgument
	}
	return StatusOK
}

func (c call) bufferStatus() Status {
	b, _, st := c.buffer()
	if st != StatusOK {
		return st
	}
	if st := c.put32(1, uint32(len(b))); st != StatusOK {
		return st
	}
	return c.put32(2, 0)
}

func (c call) httpCall() Status {
	root := c.in.current().root
	co := &Callout{
		in: c.in, root: root, Cluster: c.str(0), Headers: parsePairs(c.bytes(2)).normal(), Body: slices.Clone(c.bytes(4)),
		Trailers: parsePairs(c.bytes(6)), Timeout: time.Duration(int32(c.u32(8))) * time.Millisecond,
	}
	co.Headers.hostIsAuthority()
	st := co.start()
	if put := c.put32(9, co.Token); st == StatusOK {
		st = put
	}
	return st
}

func (c call) setTickPeriod() Status {
	root := c.in.current().root
	root.period = time.Duration(c.u32(0)) * time.Millisecond
	root.due = time.Now().Add(root.period)
	return StatusOK
}

func (c call) setEffectiveContext() Status {
	id := c.u32(0)
	if c.in.contexts[id] == nil {
		return StatusBadArgument
	}
	c.in.frame.effective = id
	return StatusOK
}

func (c call) done() Status {
	root := c.in.current().root
	if !root.pendingDone {
		return StatusNotFound
	}
	root.pendingDone = false
	c.in.defers(root.delete)
	return StatusOK
}

// Metrics: the two low bits of an id are its type, the rest counts.

func (c call) defineMetric() Status {
	t := c.u32(0)
	if t > uint32(Histogram) {
		return StatusBadArgument
	}
	c.in.nextMetric[t] += 4
	id := c.in.nextMetric[t] | t
	c.in.metrics[id] = c.in.vm.host.store.metric(MetricType(t), c.str(1))
	return c.put32(3, id)
}

// metric finds a defined metric and hands it to fn under the lock of all metrics.
func (c call) metric(id uint32, fn func(m *Metric) Status) Status {
	if id&3 > uint32(Histogram) {
		return StatusBadArgument
	}
	m := c.in.metrics[id]
	if m == nil {
		return StatusNotFound
	}
	s := &c.in.vm.host.store
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn(m)
}

func (c call) incrementMetric() Status {
	offset := int64(c.stack[1])
	return c.metric(c.u32(0), func(m *Metric) Status {
		if m.Type == Histogram || m.Type == Counter && offset <= 0 {
			return StatusBadArgument
		}
		m.Value += uint64(offset)
		return StatusOK
	})
}

func (c call) recordMetric() Status {
	value := c.stack[1]
	return c.metric(c.u32(0), func(m *Metric) Status {
		switch m.Type {
		case Counter:
			m.Value += value
		case Gauge:
			m.Value = value
		case Histogram:
			m.Value, m.Count, m.Max = m.Value+value, m.Count+1, max(m.Max, value)
		}
		return StatusOK
	})
}

func (c call) getMetric() Status {
	var value uint64
	st := c.metric(c.u32(0), func(m *Metric) Status {
		if m.Type == Histogram {
			return StatusBadArgument
		}
		value = m.Value
		return StatusOK
	})
	if st != StatusOK {
		return st
	}
	return c.put64(1, value)
}

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

// WASI preview 1, as far as Envoy goes: a module sees its environment, the clocks, randomness, and the log as standard
// output and error.

const (
	esuccess Status = 0
	ebadf    Status = 8
	efault   Status = 21
	einval   Status = 28
	enoent   Status = 44
	enosys   Status = 52
	enotsup  Status = 58
)

func errnoName(e Status) string {
	names := map[Status]string{esuccess: "ESUCCESS", ebadf: "EBADF", efault: "EFAULT", einval: "EINVAL", enoent: "ENOENT",
		enosys: "ENOSYS", enotsup: "ENOTSUP"}
	if name, ok := names[e]; ok {
		return name
	}
	return "errno " + strconv.Itoa(int(e))
}

func errno(e Status) func(call) Status { return func(call) Status { return e } }

// stdio succeeds on standard output and error only.
func stdio(c call) Status {
	if fd := c.u32(0); fd != 1 && fd != 2 {
		return ebadf
	}
	return esuccess
}

const modernInit = initModern | modernOnly

// wasiFuncs has proxy-wasm-cpp-host's signatures, also where WASI's differ (path_link, path_symlink): a module with
// others does not load in Envoy.

var wasiFuncs = []hostFunc{
	{wasi: true, name: "args_get", args: "ii", allowed: inInit, fn: errno(esuccess)},
	{wasi: true, name: "args_sizes_get", args: "ww", allowed: inInit, fn: func(c call) Status { return c.sizes(0, 0) }},
	{wasi: true, name: "environ_get", args: "ii", allowed: inInit, fn: call.environ},
	{wasi: true, name: "environ_sizes_get", args: "ww", allowed: inInit, fn: call.environSizes},
	{wasi: true, name: "clock_time_get", args: "ilw", allowed: inInit | inMalloc, fn: call.clock},
	{wasi: true, name: "clock_res_get", args: "iw", allowed: modernInit, fn: call.clockResolution},
	{wasi: true, name: "random_get", args: "ii", allowed: inInit, fn: call.random},
	{wasi: true, name: "sched_yield", fn: errno(esuccess)},
	{wasi: true, name: "poll_oneoff", args: "iiiw", allowed: initModern | mallocModern, fn: call.poll},
	{wasi: true, name: "proc_exit", args: "i", fn: call.exit},
	{wasi: true, name: "fd_write", args: "iiiw", allowed: inInit | inMalloc, fn: call.write},
	{wasi: true, name: "fd_pwrite", args: "iiilw", allowed: modernInit, fn: func(c call) Status {
		return call{c.in, []uint64{c.stack[0], c.stack[1], c.stack[2], c.stack[4]}}.write()
	}},
	{wasi: true, name: "fd_read", args: "iiiw", fn: errno(enosys)},
	{wasi: true, name: "fd_pread", args: "iiilw", allowed: modernInit, fn: errno(enosys)},
	{wasi: true, name: "fd_seek", args: "iliw", fn: errno(esuccess)},
	{wasi: true, name: "fd_close", args: "i", fn: errno(esuccess)},
	{wasi: true, name: "fd_fdstat_get", args: "iw", allowed: inInit, fn: call.fdstat},
	{wasi: true, name: "fd_fdstat_set_flags", args: "ii", allowed: inInit, fn: errno(enosys)},
	{wasi: true, name: "fd_fdstat_set_rights", args: "ill", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_prestat_get", args: "iw", allowed: inInit, fn: errno(ebadf)},
	{wasi: true, name: "fd_prestat_dir_name", args: "iii", allowed: inInit, fn: errno(enosys)},
	{wasi: true, name: "fd_filestat_get", args: "iw", allowed: modernInit, fn: errno(ebadf)},
	{wasi: true, name: "fd_filestat_set_size", args: "il", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_filestat_set_times", args: "illi", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_advise", args: "illi", allowed: modernInit, fn: errno(esuccess)},
	{wasi: true, name: "fd_allocate", args: "ill", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_datasync", args: "i", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_sync", args: "i", allowed: modernInit, fn: stdio},
	{wasi: true, name: "fd_tell", args: "iw", allowed: modernInit, fn: func(c call) Status {
		if stdio(c) != esuccess {
			return ebadf
		}
		return fault(c.in.mem.WriteUint64Le(c.u32(1), 0))
	}},
	{wasi: true, name: "fd_readdir", args: "iiilw", allowed: modernInit, fn: errno(20)},
	{wasi: true, name: "fd_renumber", args: "ii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_open", args: "iiiiillii", fn: errno(enoent)},
	{wasi: true, name: "path_filestat_get", args: "iiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_filestat_set_times", args: "iiiilli", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_create_directory", args: "iii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_link", args: "iiiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_readlink", args: "iiiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_remove_directory", args: "iii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_rename", args: "iiiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_symlink", args: "iiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "path_unlink_file", args: "iii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "sock_accept", args: "iii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "sock_recv", args: "iiiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "sock_send", args: "iiiii", allowed: modernInit, fn: errno(enotsup)},
	{wasi: true, name: "sock_shutdown", args: "ii", allowed: modernInit, fn: errno(enotsup)},
}

func fault(ok bool) Status {
	if !ok {
		return efault
	}
	return esuccess
}

func (c call) sizes(n, size uint32) Status {
	return fault(c.in.mem.WriteUint32Le(c.u32(0), n) && c.in.mem.WriteUint32Le(c.u32(1), size))
}

func (c call) environSizes() Status {
	size := 0
	for k, v := range c.in.vm.cfg.Env {
		size += len(k) + len(v) + 2
	}
	return c.sizes(uint32(len(c.in.vm.cfg.Env)), uint32(size))
}

func (c call) environ() Status {
	array, buf := c.u32(0), c.u32(1)
	for _, k := range slices.Sorted(maps.Keys(c.in.vm.cfg.Env)) {
		s := k + "=" + c.in.vm.cfg.Env[k] + "\x00"
		if !c.in.mem.WriteUint32Le(array, buf) || !c.in.mem.WriteString(buf, s) {
			return efault
		}
		array, buf = array+4, buf+uint32(len(s))
	}
	return esuccess
}

func (c call) clock() Status {
	clock := c.in.vm.host.cfg.Clock
	var ns int64
	switch c.u32(0) {
	case 0:
		ns = clock.Wall().UnixNano()
	case 1:
		ns = int64(clock.Mono())
	default:
		return enotsup
	}
	return fault(c.in.mem.WriteUint64Le(c.u32(2), uint64(ns)))
}

func (c call) clockResolution() Status {
	if c.u32(0) > 1 {
		return enotsup
	}
	return fault(c.in.mem.WriteUint64Le(c.u32(1), 1))
}

func (c call) random() Status {
	if c.u32(1) > 64<<10 { // limits.h
		return einval
	}
	b, ok := c.in.mem.Read(c.u32(0), c.u32(1))
	if ok {
		rand.Read(b) // never fails
	}
	return fault(ok)
}

func (c call) poll() Status {
	if c.in.vm.host.cfg.LegacyWASI {
		return enosys
	}
	return fault(c.in.mem.WriteUint32Le(c.u32(3), 0))
}

func (c call) fdstat() Status {
	if stdio(c) != esuccess {
		return ebadf
	}
	var stat [24]byte
	stat[8] = 64 // fs_rights_base: fd_write
	c.in.mem.Write(c.u32(1), stat[:])
	return esuccess
}

// exit does nothing, and the module goes on: os.Exit has no effect in Envoy. Go's runtime runs into an unreachable
// instruction when it has to end after a panic.
func (c call) exit() Status {
	c.in.log(slog.LevelDebug-4, "proc_exit")
	return esuccess
}

// write sends what the module prints to the log, each call as one message.
func (c call) write() Status {
	level := slog.LevelInfo
	switch c.u32(0) {
	case 1:
	case 2:
		level = slog.LevelError
	default:
		return ebadf
	}
	var text []byte
	for i := range c.u32(2) {
		iov, ok := c.in.mem.Read(c.u32(1)+8*i, 8)
		if !ok {
			return efault
		}
		b, ok := c.in.mem.Read(binary.LittleEndian.Uint32(iov), binary.LittleEndian.Uint32(iov[4:]))
		if !ok {
			return efault
		}
		text = append(text, b...)
	}
	if len(text) > 0 {
		c.in.log(level, strings.TrimSuffix(string(text), "\n"))
	}
	return fault(c.in.mem.WriteUint32Le(c.u32(3), uint32(len(text))))
}
