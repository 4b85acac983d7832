package wasmhost

import (
	"fmt"
	"strconv"
	"strings"
)

// This file makes the lines of [Config.Trace]: one for each host call, and one for the start and
// the result of each callback. The callback that runs is the invocation of the instance
// (instance.go), and the letters in hostFunc.args (hostcall.go) say what the parameters of a host
// call are.

// Call is a callback or a host call in the trace.
type Call struct {
	Thread   string // VMConfig.Thread
	Callback string // the running callback
	Context  uint32 // the id of its context
	Func     string // the host call; empty for the start and the end of the callback itself
	Args     string
	Result   string // the status and the results of a host call; empty at the start of a callback
}

// String returns the call as one line of text.
func (c Call) String() string {
	switch {
	case c.Func != "":
		return fmt.Sprintf("%s %s[%d] %s(%s) = %s", c.Thread, c.Callback, c.Context, c.Func, c.Args, c.Result)
	case c.Result != "":
		return fmt.Sprintf("%s < %s[%d] = %s", c.Thread, c.Callback, c.Context, c.Result)
	}
	return fmt.Sprintf("%s > %s(%s)", c.Thread, c.Callback, c.Args)
}

// trace reports a host call to [Config.Trace]. result is the name of the status, to which the
// results that the call has noted with noteResult are appended. Parameters for results are left
// out.
func (in *instance) trace(f *hostFunc, stack []uint64, result string) {
	trace := in.vm.host.cfg.Trace
	if trace == nil {
		return
	}

	c := call{in, stack}
	var args []string
	i := 0
	for _, a := range f.args {
		if text, ok := c.argument(a, i); ok {
			args = append(args, text)
		}
		i++
		if a == 'b' || a == 'm' || a == 'p' || a == 'r' {
			i++
		}
	}

	trace(Call{
		Thread: in.vm.cfg.Thread, Callback: in.invocation.callback.String(), Context: in.invocation.context.id,
		Func: f.name, Args: strings.Join(args, ", "), Result: result + string(in.results),
	})
}

// argument returns the text of the parameter at index i, which hostFunc.args describes with the
// letter a. ok reports whether it is an input of the call.
func (c call) argument(a rune, i int) (text string, ok bool) {
	switch a {
	case 'b', 'm', 'p':
		b, ok := c.in.mem.Read(c.u32(i), c.u32(i+1))
		switch {
		case !ok:
			return "out of memory bounds", true
		case a == 'm':
			return quotePairs(parsePairs(b)), true
		case a == 'p':
			return strconv.Quote(strings.ReplaceAll(string(b), "\x00", ".")), true
		}
		return quote(b), true

	case 'H':
		return enum(c.u32(i), headerMapNames...), true
	case 'B':
		return enum(c.u32(i), bufferNames...), true
	case 'S':
		return enum(c.u32(i), streamNames...), true
	case 'L':
		return enum(c.u32(i), logLevelNames...), true
	case 'M':
		return MetricType(c.u32(i)).String(), true
	case 'i':
		return strconv.Itoa(int(int32(c.stack[i]))), true
	case 'l':
		return strconv.FormatInt(int64(c.stack[i]), 10), true
	}
	return "", false
}

// traceCallback reports the start of a callback, or its result if there is one. Memory allocations
// are not reported.
func (in *instance) traceCallback(cb callback, ctx *wasmContext, args []uint64, result string) {
	trace := in.vm.host.cfg.Trace
	if trace == nil || cb == cbMalloc {
		return
	}

	var text []string
	for _, a := range args {
		text = append(text, strconv.FormatUint(uint64(uint32(a)), 10))
	}

	trace(Call{
		Thread: in.vm.cfg.Thread, Callback: cb.String(), Context: ctx.id, Args: strings.Join(text, ", "), Result: result,
	})
}

// noteResult adds a result of the running host call to the trace. text is called only if there is a
// trace.
func (in *instance) noteResult(text func() string) {
	if in.vm.host.cfg.Trace != nil {
		in.results = append(append(in.results, ' '), text()...)
	}
}

// quote quotes a value and shortens a long one, since people read and compare traces.
func quote(b []byte) string {
	const longest, shown = 256, 64 // bytes
	if len(b) > longest {
		return fmt.Sprintf("%q… %d bytes", b[:shown], len(b))
	}
	return strconv.Quote(string(b))
}

// quotePairs returns pairs as text, for example {:path: "/x", a: "b"}.
func quotePairs(h Headers) string {
	var s []string
	for _, f := range h {
		s = append(s, f[0]+": "+quote([]byte(f[1])))
	}
	return "{" + strings.Join(s, ", ") + "}"
}

// enum returns the name of v, or its number if it has no name.
func enum[T ~uint32](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.FormatUint(uint64(v), 10)
}
