package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

const (
	aQuery    = `{"query":"{cart{id}}"}`
	aMutation = `{"query":"mutation{buy}"}`
)

// Before the first state a request is held, and judged by that state as soon as it is
// there.
func TestHeldUntilTheFirstState(t *testing.T) {
	for _, c := range []struct {
		mode         maintenance.Mode
		method, path string
		body         []string
		rule         maintenance.Rule // that refuses it; none: it passes
	}{
		{maintenance.Off, "GET", "/", nil, ""},
		{maintenance.Off, "POST", "/graphql", []string{aMutation}, ""},
		{maintenance.NoAccess, "GET", "/", nil, maintenance.RuleNoAccess},
		{maintenance.ReadOnly, "GET", "/", nil, ""},
		{maintenance.ReadOnly, "POST", "/cart", []string{"x"}, maintenance.RuleMethod},
		{maintenance.ReadOnly, "POST", "/graphql", []string{aQuery}, ""},
		{maintenance.ReadOnly, "POST", "/graphql", []string{aQuery[:9], aQuery[9:]}, ""},
		{maintenance.ReadOnly, "POST", "/graphql", []string{aMutation}, "graphql.mutation"},
	} {
		t.Run(string(c.mode)+" "+c.method+" "+c.path, func(t *testing.T) {
			everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
				x := w.begin(c.method, c.path, c.body == nil, "content-type", "application/json")
				body := ""
				for i, part := range c.body {
					x.send(part, i == len(c.body)-1)
					body += part
				}
				held(t, x.view())
				w.run(time.Second)
				held(t, x.view())
				w.say(200, doc(1, in(c.mode)))
				if c.rule != "" {
					refused(t, x.view(), c.rule)
				} else if passed(t, x.view()); x.view().body != body {
					t.Errorf("the upstream saw %q, want %q", x.view().body, body)
				}
				w.want("unknown", 0)
				w.want("errors", 0)
			})
		})
	}
}

// What is held for the first state loses nothing, whenever that comes: also when it
// comes in the middle of a body, on Envoys that lose what follows a body resumed halfway.
func TestFirstStateInTheMiddleOfABody(t *testing.T) {
	for _, c := range []struct{ path, kind string }{
		{"/graphql", "application/json"},
		{"/upload", "application/octet-stream"},
		{"/api", "Application/JSON; charset=utf-8"},
	} {
		t.Run(c.path, func(t *testing.T) {
			everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
				x := w.begin("POST", c.path, false, "content-type", c.kind)
				w.tick()
				x.send("first, ", false)
				x.send("second, ", false)
				held(t, x.view())
				w.say(200, doc(1, in(maintenance.Off)))
				w.tick()
				x.send("third, ", false)
				x.send("last", true)
				passed(t, x.view())
				if got := x.view().body; !strings.HasSuffix(got, "last") || len(got) > 4 && got != "first, second, third, last" {
					t.Errorf("the upstream saw %q", got)
				}
			})
			// The emulator shows only the last part that went on.
			compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
				x := w.begin("POST", c.path, false, "content-type", c.kind)
				w.tick()
				x.send("first, ", false)
				w.say(200, doc(1, in(maintenance.Off)))
				x.send("second, ", false)
				x.send("last", true)
				if v := x.view(); v.body != "first, second, last" || !v.ended {
					t.Errorf("the upstream saw %q, to the end: %v", v.body, v.ended)
				}
			})
		})
	}
}

// An upload past what Envoy buffers is held, and not answered 413, while the first state
// is awaited.
func TestUploadBeforeTheFirstStateCompiled(t *testing.T) {
	for _, onward := range []bool{false, true} {
		config := holding
		if onward {
			config = `{"name": "edge"}`
		}
		compiled(t, setup{config: config, onward: onward}, func(t *testing.T, w *world) {
			x := w.begin("PUT", "/upload", false, "content-type", "video/mp4")
			part := strings.Repeat("x", 512<<10)
			w.tick()
			for range 4 {
				x.send(part, false)
			}
			held(t, x.view())
			w.say(200, doc(1, in(maintenance.Off)))
			x.send(part, true)
			if v := x.view(); v.reply != nil || len(v.body) != 5*len(part) || !v.ended {
				t.Errorf("got %v, the upstream saw %d bytes, to the end: %v", v.reply, len(v.body), v.ended)
			}
		})
	}
}

// Without a state within boot_wait, the policy for unknown decides: counted, and logged
// once.
func TestUnknown(t *testing.T) {
	for _, c := range []struct {
		unknown   string
		get, post maintenance.Rule
	}{
		{"allow", "", ""},
		{"read-only", "", maintenance.RuleMethod},
		{"deny", maintenance.RuleNoAccess, maintenance.RuleNoAccess},
	} {
		t.Run(c.unknown, func(t *testing.T) {
			everywhere(t, setup{config: `{"name": "edge", "boot_wait": 1.5, "unknown": "` + c.unknown + `"}`}, func(t *testing.T, w *world) {
				check := func(v view, rule maintenance.Rule) {
					t.Helper()
					if rule == "" {
						passed(t, v)
					} else if refused(t, v, rule); v.reply.headers["retry-after"] != "5" {
						t.Errorf("retry-after is %q", v.reply.headers["retry-after"])
					}
				}
				get, post := w.begin("GET", "/", true), w.begin("POST", "/cart", false)
				w.tick() // from here on a state can come
				w.run(1450 * time.Millisecond)
				held(t, get.view())
				held(t, post.view())
				w.want("unknown", 0)
				w.run(50 * time.Millisecond)
				check(get.view(), c.get)
				check(post.view(), c.post)
				w.want("unknown", 2)
				check(w.request("GET", "/", ""), c.get)
				check(w.request("POST", "/cart", "x"), c.post)
				w.want("unknown", 4)
				w.run(10 * time.Second)
				if n := w.complaints("no state came within 1.5s"); n != 1 {
					t.Errorf("logged %d times: %q", n, w.logged())
				}
				w.want("errors", 0)

				// A state that comes late counts from then on.
				w.say(200, doc(1, in(maintenance.Off)))
				passed(t, w.request("POST", "/cart", "x"))
				w.want("unknown", 4)
			})
		})
	}
}

// The plugin's own exemptions hold before any state and in every one; only in the form in
// which they were written.
func TestStaticExemptions(t *testing.T) {
	everywhere(t, setup{config: `{"name": "edge", "unknown": "deny", "exempt": [{"methods": ["GET"], "path": "/healthz"}, {"prefix": "/controller"}]}`}, func(t *testing.T, w *world) {
		for range 2 { // before and during no-access
			passed(t, w.request("GET", "/healthz", ""))
			passed(t, w.request("HEAD", "/healthz?x=1", ""))
			passed(t, w.request("POST", "/controller/api", "x"))
			for _, path := range []string{"/healthz/", "/Healthz", "/x/../healthz", "/%68ealthz", "/controllers", "/controller/../admin", "//controller"} {
				if v := w.request("GET", path, ""); v.headers != nil {
					t.Errorf("%s passed", path)
				}
			}
			if v := w.request("POST", "/healthz", "x"); v.headers != nil {
				t.Errorf("POST /healthz passed")
			}
			if w.polls() {
				return
			}
			w.follow(doc(1, in(maintenance.NoAccess)))
		}
	})
}

// While nothing is on or announced, a request costs no host call, whatever it is.
func TestOffCostsNothingCompiled(t *testing.T) {
	var trace []string
	tracing := false
	compiled(t, setup{config: holding, trace: func(c wasmhost.Call) {
		if tracing && c.Func != "" {
			trace = append(trace, c.String())
		}
	}}, func(t *testing.T, w *world) {
		trace = nil
		w.follow(doc(1, in(maintenance.Off)))
		passed(t, w.request("GET", "/", ""))
		on(w).vm.ResetCalls()
		tracing = true
		for range 20 {
			x := w.begin("POST", "/graphql?x=1", false, "content-type", "application/json", "x-drydock-mode", "off", "upgrade", "websocket")
			x.send(aMutation, false)
			x.send("", false)
			x.trailers()
			on := x.(*shippedExchange)
			on.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, false)
			on.ResponseBody([]byte("x"), true)
			if v := x.view(); v.body != aMutation || !on.Done() {
				t.Fatal(v)
			}
			w.request("GET", "/", "")
			w.request("GET", "/.drydock/status", "")
		}
		tracing = false
		if calls := on(w).vm.Calls(); len(calls) > 0 || len(trace) > 0 {
			t.Errorf("host calls: %v\n%s", calls, strings.Join(trace, "\n"))
		}
	})
}

// The host calls of some requests, as they are: each is time on the request path.
func TestHostCallsCompiled(t *testing.T) {
	app := in(maintenance.ReadOnly)
	app.Bypass.IPs = []string{"10.0.0.0/8"}
	closed := in(maintenance.NoAccess)
	closed.Name, closed.Match.Hosts = "admin", []string{"admin.example.com"}
	open := maintenance.App{Spec: maintenance.Spec{Name: "open", Match: maintenance.Match{Hosts: []string{"open.example.com"}}}}
	var got strings.Builder
	tracing := false
	p := newProcess(t, setup{config: holding, trace: func(c wasmhost.Call) {
		_, args, _ := strings.Cut(c.Args, ", ") // behind the context's id
		switch {
		case !tracing:
		case c.Func != "":
			fmt.Fprintf(&got, "    %s(%s) = %s\n", c.Func, c.Args, c.Result)
		case c.Result != "":
			fmt.Fprintf(&got, "  = %s\n", c.Result)
		default:
			fmt.Fprintf(&got, "  %s(%s)\n", c.Callback, args)
		}
	}})
	w := p.worker("worker_0")
	w.follow(docs(1, 1, app, closed, open))
	for _, c := range []struct {
		name    string
		request func()
	}{
		{"another app is on", func() { w.request("GET", "/", "", ":authority", "open.example.com") }},
		{"refused", func() { w.request("GET", "/", "", ":authority", "admin.example.com") }},
		{"let through by its address", func() { w.request("POST", "/cart", "x", "from", "10.1.2.3:4711") }},
		{"a query in read-only", func() { w.graphQL(aQuery) }},
		{"a mutation in read-only, with a header of ours", func() {
			w.request("POST", "/graphql", aMutation, "content-type", "application/json", "x-drydock-bypass", "ip")
		}},
	} {
		fmt.Fprintf(&got, "-- %s --\n", c.name)
		c.request() // once before, for what the first one alone does
		tracing = true
		c.request()
		tracing = false
	}
	golden(t, "hostcalls.golden", got.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (go test -update rewrites it):\n%s", file, got)
	}
}
