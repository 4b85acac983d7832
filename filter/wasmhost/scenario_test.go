package wasmhost_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/drydock-proxy/drydock/filter/wasmhost"
	"github.com/drydock-proxy/drydock/internal/golden"
)

// guest is testdata/guest, compiled when the first test asks for it.
var guest = sync.OnceValue(func() *wasmhost.Module {
	dir, err := os.MkdirTemp("", "wasmhost")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "guest.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", file, "./testdata/guest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build the guest: %v\n%s", err, out))
	}
	wasm, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	m, err := wasmhost.Compile(context.Background(), wasm)
	if err != nil {
		panic(err)
	}
	return m
})

// process is a Host whose messages and calls are recorded.
type process struct {
	*wasmhost.Host
	t     *testing.T
	mu    sync.Mutex
	logs  []wasmhost.LogEntry
	calls []wasmhost.Call
}

func newProcess(t *testing.T, cfg wasmhost.Config) *process {
	p := &process{t: t}
	cfg.Log = func(e wasmhost.LogEntry) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.logs = append(p.logs, e)
	}
	cfg.Trace = func(c wasmhost.Call) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calls = append(p.calls, c)
	}
	p.Host = wasmhost.New(cfg)
	t.Cleanup(p.Close)
	return p
}

func (p *process) vm(cfg wasmhost.VMConfig) *wasmhost.VM {
	p.t.Helper()
	vm, err := p.NewVM(guest(), cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return vm
}

// plugin starts a plugin with this script in a VM of its own.
func (p *process) plugin(script string) (*wasmhost.Plugin, *wasmhost.VM) {
	p.t.Helper()
	vm := p.vm(wasmhost.VMConfig{Thread: "worker_0"})
	return p.add(vm, wasmhost.PluginConfig{Name: "p", RootID: "r", Configuration: []byte(script)}), vm
}

func (p *process) add(vm *wasmhost.VM, cfg wasmhost.PluginConfig) *wasmhost.Plugin {
	p.t.Helper()
	pl, err := vm.Plugin(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return pl
}

// messages returns the messages of the module since the last look.
func (p *process) messages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, e := range p.logs {
		out = append(out, e.Message)
	}
	p.logs = nil
	return out
}

func (p *process) expect(want ...string) {
	p.t.Helper()
	if got := p.messages(); !slices.Equal(got, want) {
		p.t.Errorf("the module logged\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// TestScenarios runs the scenarios of testdata, which tell what a stream does step by step. They were compared, callback
// by callback, with the same guest in Envoy 1.40.0 (resume_midway_legacy: 1.36.4), save callout_late, callout_resumes,
// headers_replaced, press, removed, removed_pending, resume_headers, router_reply, too_large_at_once, trailers_added and
// two_filters_hold, which follow its source.
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

func section(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// runScenario does the steps of a scenario and returns what came of each. The comment's lines that start with "option:"
// set the stage, the files "plugin" and "plugin 2" are the scripts of the plugins that streams go through.
func runScenario(t *testing.T, a *txtar.Archive) string {
	var host wasmhost.Config
	var stream wasmhost.StreamConfig
	pc := wasmhost.PluginConfig{Name: "p", RootID: "r"}
	for line := range strings.Lines(string(a.Comment)) {
		option, ok := strings.CutPrefix(strings.TrimSpace(line), "option: ")
		switch name, value, _ := strings.Cut(option, "="); {
		case !ok:
		case name == "allow_on_headers_stop_iteration":
			pc.AllowOnHeadersStopIteration = true
		case name == "policy":
			pc.FailurePolicy = map[string]wasmhost.FailurePolicy{"open": wasmhost.FailOpen, "reload": wasmhost.FailReload}[value]
		case name == "limit":
			stream.BufferLimit, _ = strconv.Atoi(value)
		case name == "legacy":
			host.LegacyResume, host.LegacyWASI = true, true
		default:
			t.Fatalf("unknown option %q", option)
		}
	}
	host.Clusters = map[string]http.Handler{"up": nil, "empty": wasmhost.NoHealthyHost}

	p := newProcess(t, host)
	vm := p.vm(wasmhost.VMConfig{})
	var plugins []*wasmhost.Plugin
	for _, f := range a.Files {
		if strings.HasPrefix(f.Name, "plugin") {
			pc.Configuration = f.Data
			plugins = append(plugins, p.add(vm, pc))
		}
	}
	p.calls = nil

	var s *wasmhost.Stream
	var out bytes.Buffer
	var up, down int
	for step := range strings.Lines(section(a, "steps")) {
		args := strings.Fields(step)
		if len(args) == 0 {
			continue
		}
		fmt.Fprintf(&out, "$ %s\n", strings.Join(args, " "))
		end := args[len(args)-1] == "end"
		if end {
			args = args[:len(args)-1]
		}
		fields := func(from int) (h wasmhost.Headers) {
			for _, f := range args[from:] {
				i := strings.LastIndex(f, "=")
				h = append(h, [2]string{f[:i], f[i+1:]})
			}
			return h
		}
		body := func() []byte {
			if len(args) < 2 {
				return nil
			}
			if n, ok := strings.CutPrefix(args[1], "bytes="); ok {
				size, _ := strconv.Atoi(n)
				return bytes.Repeat([]byte("x"), size)
			}
			return []byte(args[1])
		}
		switch args[0] {
		case "stream":
			s, up, down = wasmhost.NewStream(stream, plugins...), 0, 0
		case "request":
			s, up, down = wasmhost.NewStream(stream, plugins...), 0, 0
			s.RequestHeaders(append(wasmhost.Headers{{":method", args[1]}, {":path", args[2]}, {":authority", "a.example"}}, fields(3)...), end)
		case "body":
			s.RequestBody(body(), end)
		case "trailers":
			s.RequestTrailers(fields(1))
		case "response":
			s.ResponseHeaders(append(wasmhost.Headers{{":status", args[1]}}, fields(2)...), end)
		case "answer":
			s.ResponseBody(body(), end)
		case "answer_trailers":
			s.ResponseTrailers(fields(1))
		case "reply":
			status, _ := strconv.Atoi(args[1])
			s.Reply(wasmhost.LocalReply{Status: status, Body: []byte(args[2]), Details: args[3], GRPCStatus: -1})
		case "abort":
			s.Abort()
		case "tick":
			vm.Tick()
		case "crash":
			vm.Crash(fmt.Errorf("crashed by the test"))
		case "respond":
			vm.Callouts()[0].Respond(append(wasmhost.Headers{{":status", args[1]}}, fields(3)...), []byte(args[2]), nil)
		case "fail":
			vm.Callouts()[0].Fail()
		case "expire":
			vm.Callouts()[0].Expire()
		case "remove":
			plugins[0].Remove()
		case "dispatch":
			vm.Dispatch()
		default:
			t.Fatalf("unknown step %q", step)
		}
		for _, c := range p.calls {
			switch {
			case c.Func == "proxy_log" || c.Func != "" && !strings.HasPrefix(c.Func, "proxy_"):
				// Messages repeat what the calls say; what Go's runtime asks of WASI is its own affair.
			case c.Func != "":
				fmt.Fprintf(&out, "      %s(%s) = %s\n", c.Func, c.Args, c.Result)
			case c.Result != "":
				fmt.Fprintf(&out, "    = %s\n", c.Result)
			default:
				fmt.Fprintf(&out, "  %s(%s)\n", c.Callback, c.Args)
			}
		}
		p.calls = nil
		if s == nil {
			continue
		}
		show := func(who string, frames []wasmhost.Frame) {
			for _, f := range frames {
				fmt.Fprintf(&out, "%s: ", who)
				switch {
				case f.Reset:
					out.WriteString("reset")
				case f.Headers != nil:
					fmt.Fprint(&out, "headers ", f.Headers)
				case f.Trailers != nil:
					fmt.Fprint(&out, "trailers ", f.Trailers)
				case len(f.Data) > 100:
					fmt.Fprintf(&out, "%d bytes", len(f.Data))
				default:
					fmt.Fprintf(&out, "body %q", f.Data)
				}
				if f.End {
					out.WriteString(" end")
				}
				out.WriteString("\n")
			}
		}
		u, d := s.Upstream().Frames, s.Downstream().Frames
		show("upstream", u[up:])
		show("client", d[down:])
		up, down = len(u), len(d)
		if s.Pressing() {
			out.WriteString("reading from the client has stopped\n")
		}
	}
	if s != nil && s.Done() {
		fmt.Fprintf(&out, "details: %q\n", s.Details())
	}
	if err := vm.Err(); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintf(&out, "crashed: %s\n", first)
	}
	for _, v := range p.Violations() {
		fmt.Fprintf(&out, "violation: %s\n", v)
	}
	return out.String()
}
