package wasmhost_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/drydock-proxy/drydock/e2e/golden"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// A scenario is a txtar archive in testdata. Its comment says what it shows and may set options,
// the files "plugin" and "plugin 2" are scripts of plugins (harness_test.go), "steps" has a line
// for each thing that happens to one stream, and "want" is what came of each step: the callbacks
// and the host calls of the module, and what the upstream and the client received.

// TestScenarios runs the scenarios of testdata, each of which shows step by step what happens to a
// stream. With -update it writes the results into them.
//
// The results were compared, callback by callback, with those of the same guest in Envoy 1.40.0
// (resume_midway_legacy: 1.36.4). The following were not, and follow Envoy's source: callout_late,
// callout_resumes, headers_replaced, press, removed, removed_pending, resume_headers, router_reply,
// too_large_at_once, trailers_added and two_filters_hold.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios in testdata", err)
	}

	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}

			got, want := runScenario(t, a), section(a, "want")
			switch {
			case got == want:
			case golden.Update():
				a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
				a.Files = append(a.Files, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			default:
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// section returns the file of that name, or "".
func section(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// runScenario executes the steps of a scenario and returns its results in the format of "want". A
// step that ends in the word "end" ends the message.
func runScenario(t *testing.T, a *txtar.Archive) string {
	s := &scenario{t: t}
	host, pc := s.options(string(a.Comment))
	host.Clusters = map[string]http.Handler{
		"up":    nil, // its calls wait for a step to answer them
		"empty": wasmhost.NoHealthyHost,
	}

	s.process = newProcess(t, host)
	s.vm = s.startVM(wasmhost.VMConfig{})

	for _, f := range a.Files {
		if strings.HasPrefix(f.Name, "plugin") {
			pc.Configuration = f.Data
			s.plugins = append(s.plugins, s.startPlugin(s.vm, pc))
		}
	}
	s.calls = nil

	for line := range strings.Lines(section(a, "steps")) {
		args := strings.Fields(line)
		if len(args) == 0 {
			continue
		}

		fmt.Fprintf(&s.out, "$ %s\n", strings.Join(args, " "))
		end := args[len(args)-1] == "end"
		if end {
			args = args[:len(args)-1]
		}

		if !s.streamStep(args, end) && !s.hostStep(args) {
			t.Fatalf("unknown step %q", line)
		}
		s.writeCalls()
		s.writeFrames()
	}

	s.writeEnd()
	return s.out.String()
}

// scenario is a scenario that is running.
type scenario struct {
	*process
	t       *testing.T
	config  wasmhost.StreamConfig
	vm      *wasmhost.VM
	plugins []*wasmhost.Plugin

	stream           *wasmhost.Stream
	upstream, client int // how many frames that each of them received are written in out
	out              bytes.Buffer
}

// options reads the options in the comment of a scenario: lines of the form "option: name=value"
// that configure the host, the plugins or the stream.
func (s *scenario) options(comment string) (host wasmhost.Config, pc wasmhost.PluginConfig) {
	pc = wasmhost.PluginConfig{Name: "p", RootID: "r"}
	for line := range strings.Lines(comment) {
		option, ok := strings.CutPrefix(strings.TrimSpace(line), "option: ")
		if !ok {
			continue
		}

		switch name, value, _ := strings.Cut(option, "="); name {
		case "allow_on_headers_stop_iteration":
			pc.AllowOnHeadersStopIteration = true
		case "policy":
			pc.FailurePolicy = map[string]wasmhost.FailurePolicy{
				"open": wasmhost.FailOpen, "reload": wasmhost.FailReload,
			}[value]
		case "limit":
			s.config.BufferLimit, _ = strconv.Atoi(value)
		case "legacy":
			host.LegacyResume, host.LegacyWASI = true, true
		default:
			s.t.Fatalf("unknown option %q", option)
		}
	}
	return host, pc
}

// streamStep executes a step that delivers a part of a message, and reports whether it is one.
func (s *scenario) streamStep(args []string, end bool) bool {
	switch args[0] {
	case "stream":
		s.newStream()
	case "request": // method path [name=value …]
		s.newStream()
		h := wasmhost.Headers{{":method", args[1]}, {":path", args[2]}, {":authority", "a.example"}}
		s.stream.RequestHeaders(append(h, fields(args[3:])...), end)
	case "body":
		s.stream.RequestBody(body(args), end)
	case "trailers":
		s.stream.RequestTrailers(fields(args[1:]))

	case "response": // status [name=value …]
		s.stream.ResponseHeaders(append(wasmhost.Headers{{":status", args[1]}}, fields(args[2:])...), end)
	case "answer":
		s.stream.ResponseBody(body(args), end)
	case "answer_trailers":
		s.stream.ResponseTrailers(fields(args[1:]))
	case "reply": // status body details
		status, _ := strconv.Atoi(args[1])
		s.stream.Reply(wasmhost.LocalReply{Status: status, Body: []byte(args[2]), Details: args[3], GRPCStatus: -1})
	case "abort":
		s.stream.Abort()
	default:
		return false
	}
	return true
}

// newStream begins a stream, which the following steps are about.
func (s *scenario) newStream() {
	s.stream, s.upstream, s.client = wasmhost.NewStream(s.config, s.plugins...), 0, 0
}

// hostStep executes a step on the VM, a callout or a plugin, and reports whether it is one.
func (s *scenario) hostStep(args []string) bool {
	switch args[0] {
	case "tick":
		s.vm.Tick()
	case "dispatch":
		s.vm.Dispatch()
	case "crash":
		s.vm.Crash(fmt.Errorf("crashed by the test"))

	case "respond": // status body [name=value …]
		h := append(wasmhost.Headers{{":status", args[1]}}, fields(args[3:])...)
		s.vm.Callouts()[0].Respond(h, []byte(args[2]), nil)
	case "fail":
		s.vm.Callouts()[0].Fail()
	case "expire":
		s.vm.Callouts()[0].Expire()
	case "remove":
		s.plugins[0].Remove()
	default:
		return false
	}
	return true
}

// fields returns header fields from arguments of the form name=value.
func fields(args []string) (h wasmhost.Headers) {
	for _, f := range args {
		i := strings.LastIndex(f, "=")
		h = append(h, [2]string{f[:i], f[i+1:]})
	}
	return h
}

// body returns the part of a body in a step, which is a text or bytes=size.
func body(args []string) []byte {
	if len(args) < 2 {
		return nil
	}

	if n, ok := strings.CutPrefix(args[1], "bytes="); ok {
		size, _ := strconv.Atoi(n)
		return bytes.Repeat([]byte("x"), size)
	}
	return []byte(args[1])
}

// writeCalls writes the callbacks and the host calls of a step, except proxy_log, whose messages
// repeat the results of other calls, and what Go's runtime calls in WASI.
func (s *scenario) writeCalls() {
	for _, c := range s.calls {
		switch {
		case c.Func == "proxy_log" || c.Func != "" && !strings.HasPrefix(c.Func, "proxy_"):
		case c.Func != "":
			fmt.Fprintf(&s.out, "      %s(%s) = %s\n", c.Func, c.Args, c.Result)
		case c.Result != "":
			fmt.Fprintf(&s.out, "    = %s\n", c.Result)
		default:
			fmt.Fprintf(&s.out, "  %s(%s)\n", c.Callback, c.Args)
		}
	}
	s.calls = nil
}

// writeFrames writes what the upstream and the client received in a step.
func (s *scenario) writeFrames() {
	if s.stream == nil {
		return
	}

	up, down := s.stream.Upstream().Frames, s.stream.Downstream().Frames
	for _, f := range up[s.upstream:] {
		s.writeFrame("upstream", f)
	}
	for _, f := range down[s.client:] {
		s.writeFrame("client", f)
	}
	s.upstream, s.client = len(up), len(down)

	if s.stream.Pressing() {
		s.out.WriteString("reading from the client has stopped\n")
	}
}

// writeFrame writes one frame that the upstream or the client received.
func (s *scenario) writeFrame(receiver string, f wasmhost.Frame) {
	fmt.Fprintf(&s.out, "%s: ", receiver)
	switch {
	case f.Reset:
		s.out.WriteString("reset")
	case f.Headers != nil:
		fmt.Fprint(&s.out, "headers ", f.Headers)
	case f.Trailers != nil:
		fmt.Fprint(&s.out, "trailers ", f.Trailers)
	case len(f.Data) > 100:
		fmt.Fprintf(&s.out, "%d bytes", len(f.Data))
	default:
		fmt.Fprintf(&s.out, "body %q", f.Data)
	}

	if f.End {
		s.out.WriteString(" end")
	}
	s.out.WriteString("\n")
}

// writeEnd writes how the stream and the VM ended.
func (s *scenario) writeEnd() {
	if s.stream != nil && s.stream.Done() {
		fmt.Fprintf(&s.out, "details: %q\n", s.stream.Details())
	}

	if err := s.vm.Err(); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintf(&s.out, "crashed: %s\n", first)
	}
	for _, v := range s.Violations() {
		fmt.Fprintf(&s.out, "violation: %s\n", v)
	}
}
