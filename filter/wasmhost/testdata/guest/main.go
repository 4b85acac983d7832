// The guest is a module whose plugins are scripts: in each callback it executes what the plugin's
// configuration lists for it, and logs the results. The tests of wasmhost run such scripts, and a
// real Envoy can run the same ones.
//
// A configuration has a line for each callback: its name, a colon, and statements separated by
// semicolons. A statement is an operation and its arguments, separated by spaces, for example
//
//	request_headers: get request :path; reply 503 sorry retry-after=60
//
// The callbacks are start, tick, queue, call (the answer to an HTTP call) and done of the plugin,
// and request_headers, request_body, request_trailers, response_headers, response_body,
// response_trailers and log of a stream. plugin.run executes the statements that decide the result
// of a callback, and the functions do… all other operations; the comment on each case gives its
// arguments. Results and errors are logged as "statement = result".
package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() { proxywasm.SetVMContext(&vm{}) }

// The host calls for which the SDK has no function.

//go:wasmimport env proxy_close_stream
func closeStream(stream uint32) uint32

//go:wasmimport env proxy_get_header_map_size
func headersSize(m uint32, size *uint32) uint32

//go:wasmimport env proxy_get_buffer_status
func bufferStatus(buffer uint32, size, flags *uint32) uint32

//go:wasmimport env proxy_get_current_time_nanoseconds
func currentTime(ns *uint64) uint32

//go:wasmimport env proxy_get_status
func getStatus(code *uint32, message unsafe.Pointer, size *uint32) uint32

//go:wasmimport env proxy_get_buffer_bytes
func bufferBytes(buffer, start, size, data, dataSize uint32) uint32

//go:wasmimport env proxy_send_local_response
func localResponse(status uint32, details *byte, detailsSize uint32, body *byte, bodySize uint32, headers *byte, headersSize uint32, grpc int32) uint32

// vm implements the SDK's context of the module. It refuses to start if its configuration contains
// the word "refuse".
type vm struct{ types.DefaultVMContext }

func (*vm) OnVMStart(int) types.OnVMStartStatus {
	config, _ := proxywasm.GetVMConfiguration()
	return types.OnVMStartStatus(!strings.Contains(string(config), "refuse"))
}

func (*vm) NewPluginContext(id uint32) types.PluginContext { return &plugin{id: id} }

// plugin implements the SDK's root context: a plugin with its script.
type plugin struct {
	types.DefaultPluginContext
	id     uint32
	script map[string][]string // the statements by callback
	open   []uint32            // the ids of the contexts of the open streams
	kept   [][]byte            // the memory that the operation allocate has allocated
	queues map[string]uint32   // the ids of the queues that were registered or resolved, by name
	once   map[string]bool     // the statements with the prefix once that were executed
}

func (p *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	config, err := proxywasm.GetPluginConfiguration()
	if err != nil && err != types.ErrorStatusNotFound {
		panic(err)
	}

	p.script = make(map[string][]string)
	p.queues = make(map[string]uint32)
	p.once = make(map[string]bool)
	for line := range strings.Lines(string(config)) {
		name, statements, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}

		for s := range strings.SplitSeq(statements, ";") {
			p.script[name] = append(p.script[name], strings.TrimSpace(s))
		}
	}

	return types.OnPluginStartStatus(p.run("start", true) != refuse)
}

func (p *plugin) OnTick()             { p.run("tick", false) }
func (p *plugin) OnQueueReady(uint32) { p.run("queue", false) }
func (p *plugin) OnPluginDone() bool  { return p.run("done", true) != refuse }
func (p *plugin) NewHttpContext(id uint32) types.HttpContext {
	p.open = append(p.open, id)
	return &stream{p: p, id: id}
}

// stream implements the SDK's context of a stream. It executes the script of its plugin.
type stream struct {
	types.DefaultHttpContext
	p  *plugin
	id uint32
}

// action executes the statements for a callback. end means that the message ends with it.
func (s *stream) action(callback string, end bool) types.Action {
	return types.Action(s.p.run(callback, end))
}

func (s *stream) OnHttpRequestHeaders(_ int, end bool) types.Action {
	return s.action("request_headers", end)
}
func (s *stream) OnHttpRequestBody(_ int, end bool) types.Action {
	return s.action("request_body", end)
}
func (s *stream) OnHttpRequestTrailers(int) types.Action { return s.action("request_trailers", true) }
func (s *stream) OnHttpResponseHeaders(_ int, end bool) types.Action {
	return s.action("response_headers", end)
}
func (s *stream) OnHttpResponseBody(_ int, end bool) types.Action {
	return s.action("response_body", end)
}
func (s *stream) OnHttpResponseTrailers(int) types.Action { return s.action("response_trailers", true) }
func (s *stream) OnHttpStreamDone() {
	s.p.run("log", true)
	s.p.open = slices.DeleteFunc(s.p.open, func(id uint32) bool { return id == s.id })
}

// The results of a callback. The default, 0, continues a stream and accepts a configuration.
const (
	pause  = 1
	refuse = 2 // of a callback of the plugin; the methods of plugin make false of it
	press  = 2 // of a stream: hold the body and press back at the limit
)

// run executes the statements for a callback and returns its result. end reports whether the
// message ends with the callback.
func (p *plugin) run(callback string, end bool) (result int) {
	for _, s := range p.script[callback] {
		args := strings.Fields(s)
		if len(args) == 0 {
			continue
		}

		switch args[0] {
		case "pause":
			result = pause
		case "hold": // pauses until the end of the message
			if !end {
				result = pause
			}
		case "refuse":
			result = refuse
		case "press": // presses back, and pauses at the end of the message
			if result = press; end {
				result = pause
			}

		case "each": // executes the rest of the statement for each open stream
			p.each(s, args[1:])
		case "once": // executes the rest of the statement the first time only
			if p.once[s] {
				break
			}
			p.once[s] = true

			switch args[1] {
			case "pause":
				result = pause
			case "press":
				result = press
			default:
				p.doRest(args[1:])
			}
		case "end": // executes the rest of the statement at the end of the message only
			if end {
				p.doRest(args[1:])
			}
		default:
			p.execute(statement{s, args})
		}
	}
	return result
}

// each executes an operation for each open stream, which it makes the one that host calls work on.
func (p *plugin) each(s string, args []string) {
	for _, id := range slices.Clone(p.open) {
		if err := proxywasm.SetEffectiveContext(id); err != nil {
			report(s, err)
			continue
		}

		p.doRest(args)
	}
}

// doRest executes the part of a statement that follows a prefix such as each.
func (p *plugin) doRest(args []string) { p.execute(statement{strings.Join(args, " "), args}) }

// report logs the result of a statement.
func report(statement string, result any) { proxywasm.LogInfof("%s = %v", statement, result) }

// text returns a result in quotes, or the error.
func text[T ~string | ~[]byte](v T, err error) any {
	if err != nil {
		return err
	}

	return strconv.Quote(string(v))
}

// number parses an argument, which may be hexadecimal with the prefix 0x.
func number(s string) int {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		panic(err)
	}

	return int(n)
}

// maps has the SDK's functions for each header map, by the name that scripts use.
var maps = map[string]struct {
	pairs    func() ([][2]string, error)
	replace  func([][2]string) error
	get      func(string) (string, error)
	add, set func(string, string) error
	del      func(string) error
}{
	"request": {proxywasm.GetHttpRequestHeaders, proxywasm.ReplaceHttpRequestHeaders, proxywasm.GetHttpRequestHeader,
		proxywasm.AddHttpRequestHeader, proxywasm.ReplaceHttpRequestHeader, proxywasm.RemoveHttpRequestHeader},
	"request_trailers": {proxywasm.GetHttpRequestTrailers, proxywasm.ReplaceHttpRequestTrailers, proxywasm.GetHttpRequestTrailer,
		proxywasm.AddHttpRequestTrailer, proxywasm.ReplaceHttpRequestTrailer, proxywasm.RemoveHttpRequestTrailer},
	"response": {proxywasm.GetHttpResponseHeaders, proxywasm.ReplaceHttpResponseHeaders, proxywasm.GetHttpResponseHeader,
		proxywasm.AddHttpResponseHeader, proxywasm.ReplaceHttpResponseHeader, proxywasm.RemoveHttpResponseHeader},
	"response_trailers": {proxywasm.GetHttpResponseTrailers, proxywasm.ReplaceHttpResponseTrailers, proxywasm.GetHttpResponseTrailer,
		proxywasm.AddHttpResponseTrailer, proxywasm.ReplaceHttpResponseTrailer, proxywasm.RemoveHttpResponseTrailer},
	"call":          {pairs: proxywasm.GetHttpCallResponseHeaders},
	"call_trailers": {pairs: proxywasm.GetHttpCallResponseTrailers},
}

// bodies has the SDK's functions for each body, by the name that scripts use.
var bodies = map[string]struct {
	get                      func(start, size int) ([]byte, error)
	append, prepend, replace func([]byte) error
}{
	"request":  {proxywasm.GetHttpRequestBody, proxywasm.AppendHttpRequestBody, proxywasm.PrependHttpRequestBody, proxywasm.ReplaceHttpRequestBody},
	"response": {proxywasm.GetHttpResponseBody, proxywasm.AppendHttpResponseBody, proxywasm.PrependHttpResponseBody, proxywasm.ReplaceHttpResponseBody},
	"call":     {get: proxywasm.GetHttpCallResponseBody},
}

// statement is an operation and its arguments.
type statement struct {
	text string
	args []string
}

// arg returns an argument, or "" if the statement has fewer.
func (s statement) arg(i int) string {
	if i < len(s.args) {
		return s.args[i]
	}

	return ""
}

// rest returns the arguments as one text.
func (s statement) rest() string { return strings.Join(s.args[1:], " ") }

// pairs returns the arguments from i on, which have the form name=value.
func (s statement) pairs(i int) (pairs [][2]string) {
	for _, f := range s.args[min(i, len(s.args)):] {
		name, value, _ := strings.Cut(f, "=")
		pairs = append(pairs, [2]string{name, value})
	}

	return pairs
}

func (s statement) report(result any) { report(s.text, result) }

// fail reports an error.
func (s statement) fail(err error) {
	if err != nil {
		s.report(err)
	}
}

// execute executes one statement. Most operations report what they read, or the error.
func (p *plugin) execute(s statement) {
	if !doHeaders(s) && !doBody(s) && !doStream(s) && !p.doShared(s) && !doMetric(s) && !doRead(s) && !p.doPlugin(s) {
		panic("unknown operation " + s.args[0])
	}
}

// doHeaders executes an operation on a header map, and reports whether the statement is one. So do
// the other functions do….
func doHeaders(s statement) bool {
	m := maps[s.arg(1)]

	switch s.args[0] {
	case "get": // map name
		s.report(text(m.get(s.args[2])))
	case "pairs": // map
		pairs, err := m.pairs()
		if err != nil {
			s.report(err)
			break
		}
		s.report(pairs)

	case "add": // map name value
		s.fail(m.add(s.args[2], s.arg(3)))
	case "set": // map name value
		s.fail(m.set(s.args[2], s.arg(3)))
	case "del": // map name
		s.fail(m.del(s.args[2]))
	case "setall": // map name=value …
		s.fail(m.replace(s.pairs(2)))
	case "size": // map number
		var size uint32
		s.report(fmt.Sprint(headersSize(uint32(number(s.args[1])), &size), " ", size))
	default:
		return false
	}
	return true
}

// doBody executes an operation on a buffer.
func doBody(s statement) bool {
	b := bodies[s.arg(1)]

	switch s.args[0] {
	case "body": // body [start size]
		start, size := 0, 1<<30
		if len(s.args) > 2 {
			start, size = number(s.args[2]), number(s.args[3])
		}

		data, err := b.get(start, size)
		if len(data) > 100 {
			s.report(fmt.Sprint(len(data), " bytes"))
			break
		}
		s.report(text(data, err))

	case "append": // body text
		s.fail(b.append([]byte(s.args[2])))
	case "prepend": // body text
		s.fail(b.prepend([]byte(s.args[2])))
	case "replace": // body text
		s.fail(b.replace([]byte(s.args[2])))
	case "bufstatus": // buffer number
		var size, flags uint32
		s.report(fmt.Sprint(bufferStatus(uint32(number(s.args[1])), &size, &flags), " ", size, " ", flags))
	case "outside": // reads the configuration of the VM to addresses outside of the memory
		const vmConfiguration = 6
		s.report(bufferBytes(vmConfiguration, 0, 4, 0xfffffff0, 0xfffffff4))
	default:
		return false
	}
	return true
}

// doStream executes an operation on a stream.
func doStream(s statement) bool {
	switch s.args[0] {
	case "reply": // status body [name=value …]
		s.fail(proxywasm.SendHttpResponse(uint32(number(s.args[1])), s.pairs(3), []byte(s.arg(2)), -1))
	case "grpcreply": // status message grpc-status
		s.fail(proxywasm.SendHttpResponse(uint32(number(s.args[1])), nil, []byte(s.args[2]), int32(number(s.args[3]))))
	case "details": // text: replies 503 with these response code details
		details := []byte(strings.ReplaceAll(s.args[1], "+", " "))
		noHeaders := []byte{0, 0, 0, 0} // the number of pairs
		const noGRPCStatus = -1
		localResponse(503, &details[0], uint32(len(details)), nil, 0, &noHeaders[0], uint32(len(noHeaders)), noGRPCStatus)

	case "resume": // request|response
		if s.args[1] == "request" {
			s.fail(proxywasm.ResumeHttpRequest())
		} else {
			s.fail(proxywasm.ResumeHttpResponse())
		}
	case "close": // stream number
		if st := closeStream(uint32(number(s.args[1]))); st != 0 {
			s.report(st)
		}
	case "effective": // context
		s.fail(proxywasm.SetEffectiveContext(uint32(number(s.args[1]))))
	default:
		return false
	}
	return true
}

// doShared executes an operation on shared data or a shared queue.
func (p *plugin) doShared(s statement) bool {
	switch s.args[0] {
	case "shget": // key
		v, cas, err := proxywasm.GetSharedData(s.args[1])
		s.report(fmt.Sprint(text(v, err), " ", cas))
	case "shset": // key value ("-" for none) cas
		value := []byte(strings.Trim(s.args[2], "-"))
		s.report(text("ok", proxywasm.SetSharedData(s.args[1], value, uint32(number(s.args[3])))))
	case "count": // key: adds one by CAS, for races
		increment(s.args[1])

	case "register": // queue
		id, err := proxywasm.RegisterSharedQueue(s.args[1])
		s.fail(err)
		p.queues[s.args[1]] = id
	case "resolve": // vm_id ("-" for none) queue
		id, err := proxywasm.ResolveSharedQueue(strings.Trim(s.args[1], "-"), s.args[2])
		s.fail(err)
		p.queues[s.args[2]] = id
	case "enqueue": // queue text
		s.fail(proxywasm.EnqueueSharedQueue(p.queues[s.args[1]], []byte(s.args[2])))
	case "dequeue": // queue
		s.report(text(proxywasm.DequeueSharedQueue(p.queues[s.args[1]])))
	default:
		return false
	}
	return true
}

// increment adds one to the number in a key. If another VM has written the key since it was read,
// it tries again.
func increment(key string) {
	const newKey = 0xffffffff // not 0, which would overwrite what another VM has just created
	for {
		v, cas, err := proxywasm.GetSharedData(key)
		n, _ := strconv.Atoi(string(v))
		if err != nil {
			cas = newKey
		}

		if proxywasm.SetSharedData(key, []byte(strconv.Itoa(n+1)), cas) == nil {
			return
		}
	}
}

// doMetric executes an operation on a metric.
func doMetric(s statement) bool {
	switch s.args[0] {
	case "counter": // name increment
		m := proxywasm.DefineCounterMetric(s.args[1])
		m.Increment(uint64(number(s.args[2])))
		s.report(m.Value())

	case "gauge": // name change
		m := proxywasm.DefineGaugeMetric(s.args[1])
		m.Add(int64(number(s.args[2])))
		s.report(m.Value())

	case "histogram": // name value
		proxywasm.DefineHistogramMetric(s.args[1]).Record(uint64(number(s.args[2])))
	default:
		return false
	}
	return true
}

// doRead executes an operation that reports what the module can read outside of messages, and
// setprop.
func doRead(s statement) bool {
	switch s.args[0] {
	case "prop": // a.b.c, or a/b/c.d if a name contains a dot
		separator := "."
		if strings.Contains(s.args[1], "/") {
			separator = "/"
		}

		s.report(text(proxywasm.GetProperty(strings.Split(s.args[1], separator))))
	case "setprop": // name value
		s.fail(proxywasm.SetProperty([]string{s.args[1]}, []byte(s.args[2])))

	case "status":
		var code, size uint32
		var message *byte
		s.report(fmt.Sprint(getStatus(&code, unsafe.Pointer(&message), &size), " ", code, " ", size))
	case "foreign": // function argument
		s.report(text(proxywasm.CallForeignFunction(s.args[1], []byte(s.arg(2)))))
	case "env": // name
		s.report(strconv.Quote(os.Getenv(s.args[1])))
	case "now":
		s.report(time.Now().UTC().Format(time.RFC3339Nano))
	case "time":
		var ns uint64
		currentTime(&ns)
		s.report(ns)
	case "config":
		s.report(text(proxywasm.GetPluginConfiguration()))
	case "vmconfig":
		s.report(text(proxywasm.GetVMConfiguration()))
	default:
		return false
	}
	return true
}

// doPlugin executes any other operation.
func (p *plugin) doPlugin(s statement) bool {
	switch s.args[0] {
	case "log": // text
		proxywasm.LogInfo(s.rest())
	case "critical": // text
		proxywasm.LogCritical(s.rest())
	case "print": // text
		fmt.Println(s.rest())

	case "tick": // milliseconds
		s.fail(proxywasm.SetTickPeriodMilliSeconds(uint32(number(s.args[1]))))
	case "call": // cluster path body timeout; without a path the call lacks headers
		p.call(s)
	case "done":
		proxywasm.PluginDone()

	case "allocate": // bytes, which are kept
		p.kept = append(p.kept, make([]byte, number(s.args[1])))
	case "panic": // text
		panic(s.rest())
	case "exit": // code
		os.Exit(number(s.args[1]))
	case "sleep": // milliseconds
		time.Sleep(time.Duration(number(s.args[1])) * time.Millisecond)
	default:
		return false
	}
	return true
}

// call makes an HTTP call, whose answer runs the callback "call" of the script.
func (p *plugin) call(s statement) {
	headers := [][2]string{{":method", "POST"}, {":authority", "controller"}, {"accept", "text/plain"}}
	if s.arg(2) != "" {
		headers = append(headers, [2]string{":path", s.args[2]})
	}
	timeout := 1000 // milliseconds
	if s.arg(4) != "" {
		timeout = number(s.args[4])
	}

	answer := func(headers, body, trailers int) {
		proxywasm.LogInfof("answer: %d headers, %d bytes, %d trailers", headers, body, trailers)
		p.run("call", true)
	}
	body := []byte(strings.Trim(s.arg(3), "-"))
	_, err := proxywasm.DispatchHttpCall(s.args[1], headers, body, nil, uint32(timeout), answer)
	s.fail(err)
}
