// The guest does in each callback what its plugin's configuration says, and logs what came of it: the tests of wasmhost
// are scripts for it, which a real Envoy runs just as well.
//
// A configuration has a line for each callback: its name, a colon, and statements separated by semicolons. A statement
// is an operation and its arguments, separated by spaces.
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

// What the SDK has no function for.

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

type vm struct{ types.DefaultVMContext }

func (*vm) OnVMStart(int) types.OnVMStartStatus {
	config, _ := proxywasm.GetVMConfiguration()
	return types.OnVMStartStatus(!strings.Contains(string(config), "refuse"))
}

func (*vm) NewPluginContext(id uint32) types.PluginContext { return &plugin{id: id} }

type plugin struct {
	types.DefaultPluginContext
	id     uint32
	script map[string][]string
	open   []uint32 // streams
	held   [][]byte
	queues map[string]uint32
	once   map[string]bool
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

type stream struct {
	types.DefaultHttpContext
	p  *plugin
	id uint32
}

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

const (
	goOn = iota
	pause
	refuse
	press = 2
)

func (p *plugin) run(callback string, end bool) (result int) {
	for _, s := range p.script[callback] {
		args := strings.Fields(s)
		if len(args) == 0 {
			continue
		}
		switch {
		case args[0] == "pause":
			result = pause
		case args[0] == "hold":
			if !end {
				result = pause
			}
		case args[0] == "refuse":
			result = refuse
		case args[0] == "press": // holds the parts of a body by pressing back at the limit, the last one as pause does
			if result = press; end {
				result = pause
			}
		case args[0] == "each":
			for _, id := range slices.Clone(p.open) {
				if err := proxywasm.SetEffectiveContext(id); err != nil {
					report(s, err)
					continue
				}
				p.do(strings.Join(args[1:], " "), args[1:])
			}
		case args[0] == "once": // the rest of the statement the first time only
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
				p.do(strings.Join(args[1:], " "), args[1:])
			}
		case args[0] == "end": // the rest of the statement at the end of the stream only
			if end {
				p.do(strings.Join(args[1:], " "), args[1:])
			}
		default:
			p.do(s, args)
		}
	}
	return result
}

func report(statement string, result any) { proxywasm.LogInfof("%s = %v", statement, result) }

// text is a result, quoted, or the error.
func text[T ~string | ~[]byte](v T, err error) any {
	if err != nil {
		return err
	}
	return strconv.Quote(string(v))
}

func number(s string) int {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		panic(err)
	}
	return int(n)
}

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

var bodies = map[string]struct {
	get                      func(start, size int) ([]byte, error)
	append, prepend, replace func([]byte) error
}{
	"request":  {proxywasm.GetHttpRequestBody, proxywasm.AppendHttpRequestBody, proxywasm.PrependHttpRequestBody, proxywasm.ReplaceHttpRequestBody},
	"response": {proxywasm.GetHttpResponseBody, proxywasm.AppendHttpResponseBody, proxywasm.PrependHttpResponseBody, proxywasm.ReplaceHttpResponseBody},
	"call":     {get: proxywasm.GetHttpCallResponseBody},
}

// do runs one statement. Most report what they read, and the error if they have none to read.
func (p *plugin) do(s string, args []string) {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	fail := func(err error) {
		if err != nil {
			report(s, err)
		}
	}
	switch args[0] {
	case "log":
		proxywasm.LogInfo(strings.Join(args[1:], " "))
	case "critical":
		proxywasm.LogCritical(strings.Join(args[1:], " "))
	case "get": // map name
		report(s, text(maps[args[1]].get(args[2])))
	case "pairs": // map
		pairs, err := maps[args[1]].pairs()
		if err != nil {
			report(s, err)
			break
		}
		report(s, pairs)
	case "add": // map name value
		fail(maps[args[1]].add(args[2], arg(3)))
	case "set": // map name value
		fail(maps[args[1]].set(args[2], arg(3)))
	case "del": // map name
		fail(maps[args[1]].del(args[2]))
	case "setall": // map name=value …
		var pairs [][2]string
		for _, f := range args[2:] {
			name, value, _ := strings.Cut(f, "=")
			pairs = append(pairs, [2]string{name, value})
		}
		fail(maps[args[1]].replace(pairs))
	case "size": // map number
		var size uint32
		report(s, fmt.Sprint(headersSize(uint32(number(args[1])), &size), " ", size))
	case "body": // body [start size]
		start, size := 0, 1<<30
		if len(args) > 2 {
			start, size = number(args[2]), number(args[3])
		}
		b, err := bodies[args[1]].get(start, size)
		if len(b) > 100 {
			report(s, fmt.Sprint(len(b), " bytes"))
			break
		}
		report(s, text(b, err))
	case "append": // body text
		fail(bodies[args[1]].append([]byte(args[2])))
	case "prepend": // body text
		fail(bodies[args[1]].prepend([]byte(args[2])))
	case "replace": // body text
		fail(bodies[args[1]].replace([]byte(args[2])))
	case "bufstatus": // buffer number
		var size, flags uint32
		report(s, fmt.Sprint(bufferStatus(uint32(number(args[1])), &size, &flags), " ", size, " ", flags))
	case "outside": // reads a buffer to an address outside of the memory
		report(s, bufferBytes(6, 0, 4, 0xfffffff0, 0xfffffff4))
	case "prop": // a.b.c, or a/b/c.d
		separator := "."
		if strings.Contains(args[1], "/") {
			separator = "/"
		}
		report(s, text(proxywasm.GetProperty(strings.Split(args[1], separator))))
	case "setprop": // name value
		fail(proxywasm.SetProperty([]string{args[1]}, []byte(args[2])))
	case "reply": // status body [name=value …]
		var headers [][2]string
		for _, f := range args[min(3, len(args)):] {
			name, value, _ := strings.Cut(f, "=")
			headers = append(headers, [2]string{name, value})
		}
		fail(proxywasm.SendHttpResponse(uint32(number(args[1])), headers, []byte(arg(2)), -1))
	case "grpcreply": // status message grpc-status
		fail(proxywasm.SendHttpResponse(uint32(number(args[1])), nil, []byte(args[2]), int32(number(args[3]))))
	case "details": // text: replies 503 with these response code details
		details, headers := strings.ReplaceAll(args[1], "+", " "), []byte{0, 0, 0, 0}
		b := []byte(details)
		localResponse(503, &b[0], uint32(len(b)), nil, 0, &headers[0], 4, -1)
	case "resume": // request|response
		if args[1] == "request" {
			fail(proxywasm.ResumeHttpRequest())
		} else {
			fail(proxywasm.ResumeHttpResponse())
		}
	case "close": // stream number
		if st := closeStream(uint32(number(args[1]))); st != 0 {
			report(s, st)
		}
	case "effective": // context
		fail(proxywasm.SetEffectiveContext(uint32(number(args[1]))))
	case "shget": // key
		v, cas, err := proxywasm.GetSharedData(args[1])
		report(s, fmt.Sprint(text(v, err), " ", cas))
	case "shset": // key value ("-" for none) cas
		report(s, text("ok", proxywasm.SetSharedData(args[1], []byte(strings.Trim(args[2], "-")), uint32(number(args[3])))))
	case "count": // key: adds one by CAS, for races
		for {
			v, cas, err := proxywasm.GetSharedData(args[1])
			n, _ := strconv.Atoi(string(v))
			if err != nil {
				cas = 0xffffffff
			}
			if proxywasm.SetSharedData(args[1], []byte(strconv.Itoa(n+1)), cas) == nil {
				break
			}
		}
	case "register": // queue
		id, err := proxywasm.RegisterSharedQueue(args[1])
		fail(err)
		p.queues[args[1]] = id
	case "resolve": // vm_id ("-" for none) queue
		id, err := proxywasm.ResolveSharedQueue(strings.Trim(args[1], "-"), args[2])
		fail(err)
		p.queues[args[2]] = id
	case "enqueue": // queue text
		fail(proxywasm.EnqueueSharedQueue(p.queues[args[1]], []byte(args[2])))
	case "dequeue": // queue
		report(s, text(proxywasm.DequeueSharedQueue(p.queues[args[1]])))
	case "tick": // milliseconds
		fail(proxywasm.SetTickPeriodMilliSeconds(uint32(number(args[1]))))
	case "call": // cluster path body timeout; without a path the call lacks headers
		headers := [][2]string{{":method", "POST"}, {":authority", "controller"}, {"accept", "text/plain"}}
		if arg(2) != "" {
			headers = append(headers, [2]string{":path", args[2]})
		}
		timeout := 1000
		if arg(4) != "" {
			timeout = number(args[4])
		}
		_, err := proxywasm.DispatchHttpCall(args[1], headers, []byte(strings.Trim(arg(3), "-")), nil, uint32(timeout), func(headers, body, trailers int) {
			proxywasm.LogInfof("answer: %d headers, %d bytes, %d trailers", headers, body, trailers)
			p.run("call", true)
		})
		fail(err)
	case "status":
		var code, size uint32
		var message *byte
		report(s, fmt.Sprint(getStatus(&code, unsafe.Pointer(&message), &size), " ", code, " ", size))
	case "counter": // name increment
		m := proxywasm.DefineCounterMetric(args[1])
		m.Increment(uint64(number(args[2])))
		report(s, m.Value())
	case "gauge": // name change
		m := proxywasm.DefineGaugeMetric(args[1])
		m.Add(int64(number(args[2])))
		report(s, m.Value())
	case "histogram": // name value
		proxywasm.DefineHistogramMetric(args[1]).Record(uint64(number(args[2])))
	case "foreign": // function argument
		report(s, text(proxywasm.CallForeignFunction(args[1], []byte(arg(2)))))
	case "env": // name
		report(s, strconv.Quote(os.Getenv(args[1])))
	case "now":
		report(s, time.Now().UTC().Format(time.RFC3339Nano))
	case "time":
		var ns uint64
		currentTime(&ns)
		report(s, ns)
	case "config":
		report(s, text(proxywasm.GetPluginConfiguration()))
	case "vmconfig":
		report(s, text(proxywasm.GetVMConfiguration()))
	case "print": // text
		fmt.Println(strings.Join(args[1:], " "))
	case "allocate": // bytes, kept
		p.held = append(p.held, make([]byte, number(args[1])))
	case "panic":
		panic(strings.Join(args[1:], " "))
	case "exit": // code
		os.Exit(number(args[1]))
	case "sleep": // milliseconds
		time.Sleep(time.Duration(number(args[1])) * time.Millisecond)
	case "done":
		proxywasm.PluginDone()
	default:
		panic("unknown operation " + args[0])
	}
}
