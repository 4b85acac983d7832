package wasmhost

import (
	"fmt"
	"strconv"
	"strings"
)

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
		Func: f.name, Args: strings.Join(args, ", "), Result: result + string(in.results)})
}

// traceCallback reports the start of a callback, or its result. Allocations are not worth a line.
func (in *instance) traceCallback(cb callback, ctx *wasmContext, args []uint64, result string) {
	trace := in.vm.host.cfg.Trace
	if trace == nil || cb == cbMalloc {
		return
	}
	var text []string
	for _, a := range args {
		text = append(text, strconv.FormatUint(uint64(uint32(a)), 10))
	}
	trace(Call{Thread: in.vm.cfg.Thread, Callback: cb.String(), Context: ctx.id, Args: strings.Join(text, ", "), Result: result})
}

// noteResult adds to what the running host call gives back, for the trace.
func (in *instance) noteResult(text func() string) {
	if in.vm.host.cfg.Trace != nil {
		in.results = append(append(in.results, ' '), text()...)
	}
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

func enum[T ~uint32](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.FormatUint(uint64(v), 10)
}
