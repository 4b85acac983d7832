//go:build !wasm

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
	"github.com/drydock-proxy/drydock/internal/golden"
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
// is awaited: whatever its type, with its length said or not.
func TestUploadBeforeTheFirstStateCompiled(t *testing.T) {
	const part = 512 << 10
	for _, onward := range []bool{false, true} {
		config := holding
		if onward {
			config = `{"name": "edge"}`
		}
		for _, c := range []struct{ method, kind, length string }{
			{"PUT", "video/mp4", ""},
			{"POST", "multipart/form-data", fmt.Sprint(5 * part)},
			{"POST", "application/json", fmt.Sprint(5 * part)},
			{"POST", "application/json", ""},
			{"POST", "application/x-www-form-urlencoded", ""},
			{"GET", "application/json", ""},
		} {
			t.Run(fmt.Sprintf("%s %s of length %q, onward %v", c.method, c.kind, c.length, onward), func(t *testing.T) {
				compiled(t, setup{config: config, onward: onward}, func(t *testing.T, w *world) {
					headers := []string{"content-type", c.kind}
					if c.length != "" {
						headers = append(headers, "content-length", c.length)
					}
					x := w.begin(c.method, "/upload", false, headers...)
					w.tick()
					for range 4 {
						x.send(strings.Repeat("x", part), false)
					}
					held(t, x.view())
					w.say(200, doc(1, in(maintenance.Off)))
					if v := x.view(); len(v.body) != 4*part {
						t.Errorf("with the state there the upstream saw %d bytes, not what was held", len(v.body))
					}
					x.send(strings.Repeat("x", part), true)
					if v := x.view(); v.reply != nil || len(v.body) != 5*part || !v.ended {
						t.Errorf("got %v, the upstream saw %d bytes, to the end: %v", v.reply, len(v.body), v.ended)
					}
					w.want("errors", 0)
				})
			})
		}
	}
}

// A state that comes in the middle of a body which it wants to read gets to read it,
// wherever its end is; the headers of what is refused never go on.
func TestReadBodyThatBeganBeforeTheFirstStateCompiled(t *testing.T) {
	const unread = maintenance.RuleBodyUnread
	for _, c := range []struct {
		name          string
		before, after []string
		trailers      bool
		rule          maintenance.Rule
	}{
		{"its end comes next", []string{aQuery[:9]}, []string{aQuery[9:]}, false, ""},
		{"its end comes later", []string{aQuery[:9], aQuery[9:12]}, []string{aQuery[12:15], aQuery[15:]}, false, ""},
		{"an empty end", []string{aQuery[:9], aQuery[9:]}, []string{""}, false, ""},
		{"a mutation whose end comes next", []string{aMutation[:9]}, []string{aMutation[9:]}, false, "graphql.mutation"},
		{"a mutation whose end comes later", []string{aMutation[:9]}, []string{aMutation[9:12], aMutation[12:]}, false, "graphql.mutation"},
		{"trailers come later", []string{aQuery[:9]}, []string{aQuery[9:]}, true, ""},
		{"a mutation with trailers", []string{aMutation[:9]}, []string{aMutation[9:]}, true, "graphql.mutation"},
		{"trailers alone are left", []string{aQuery}, nil, true, unread},
		{"nothing has come", nil, []string{aQuery}, false, ""},
		{"more than is looked at has come", []string{strings.Repeat(" ", 1<<20), " "}, nil, false, unread},
	} {
		t.Run(c.name, func(t *testing.T) {
			compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
				x := w.begin("POST", "/graphql", false, "content-type", "application/json")
				w.tick()
				for _, part := range c.before {
					x.send(part, false)
				}
				w.say(200, doc(1, in(maintenance.ReadOnly)))
				for i, part := range c.after {
					held(t, x.view())
					w.tick()
					x.send(part, i == len(c.after)-1 && !c.trailers)
				}
				if c.trailers {
					x.trailers()
				}
				w.tick()
				v := x.view()
				if c.rule != "" {
					if refused(t, v, c.rule); c.rule == unread && v.reply.headers["retry-after"] != "5" {
						t.Errorf("got %s", v)
					}
				} else if passed(t, v); v.body != strings.Join(append(c.before, c.after...), "") || !v.ended {
					t.Errorf("the upstream saw %q, to the end: %v", v.body, v.ended)
				}
				x.end()
				w.want("errors", 0)
				w.tick()
				w.want("held_requests", 0)
				w.want("held_bytes", 0)
			})
		})
	}
}

// A GET that could have a body is held until it is known to have none, which the end of
// the stream says in several ways, before the first state and after it.
func TestGetThatEndsWithoutABody(t *testing.T) {
	ends := map[string]func(x exchange){
		"an empty part":                   func(x exchange) { x.send("", true) },
		"empty parts":                     func(x exchange) { x.send("", false); x.send("", true) },
		"trailers":                        func(x exchange) { x.trailers() },
		"an empty part and then trailers": func(x exchange) { x.send("", false); x.trailers() },
	}
	for _, boot := range []bool{false, true} {
		for name, end := range ends {
			for _, path := range []string{"/", "/graphql?query={cart{id}}"} {
				t.Run(fmt.Sprintf("%s, boot %v, %s", name, boot, path), func(t *testing.T) {
					everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
						if !boot {
							w.follow(doc(1, in(maintenance.ReadOnly)))
						}
						x := w.begin("GET", path, false)
						held(t, x.view())
						end(x)
						if boot {
							held(t, x.view())
							w.follow(doc(1, in(maintenance.ReadOnly)))
						}
						v := x.view()
						if passed(t, v); v.body != "" {
							t.Errorf("the upstream saw %q", v.body)
						}
						if s, ok := x.(*shippedExchange); ok && !v.ended {
							t.Errorf("the upstream saw %+v", s.Upstream())
						}

						y := w.begin("GET", path, false)
						y.send("GET / HTTP/1.1", false)
						y.send("x", true)
						if v := y.view(); v.reply == nil || v.headers != nil {
							t.Errorf("with a body: %s", v)
						}
						w.want("errors", 0)
						w.want("misconfigured", 0)
					})
				})
			}
		}
	}
}

// unexpectedly is an app that wants to read more of a body than is usual.
func unexpectedly() maintenance.App {
	app := in(maintenance.ReadOnly)
	app.ReadOnly.WriteThrough = []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/save"}}
	app.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: 4 << 20}
	return app
}

// save is a request whose body that app wants to read, which no other does.
func save(w *world) exchange {
	return w.begin("POST", "/save", false, "content-type", "application/x-www-form-urlencoded", "content-length", "2000000")
}

// A state may want to read a body that was not expected to be read: then the headers go
// on, and the body is withheld.
func TestUnexpectedlyReadCompiled(t *testing.T) {
	for _, c := range []struct {
		body string
		rule maintenance.Rule
	}{{"name=x", ""}, {"_method=DELETE", maintenance.RuleWriteBody}} {
		compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
			x := save(w)
			x.send(c.body, true)
			w.tick()
			held(t, x.view())
			w.say(200, doc(1, unexpectedly()))
			v := x.view()
			if v.headers == nil {
				t.Error("the headers did not go on")
			}
			if c.rule == "" {
				if passed(t, v); v.body != c.body || !v.ended {
					t.Errorf("the upstream saw %q", v.body)
				}
			} else {
				v.headers = nil
				if refused(t, v, c.rule); v.ended {
					t.Error("the upstream saw all of it")
				}
			}
			w.want("errors", 0)
		})
	}
}

// Nor does it count as a misconfiguration when such a body does not come; and when it
// comes, that does not speak for the configuration.
func TestUnexpectedlyReadDoesNotComeCompiled(t *testing.T) {
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		x := save(w)
		w.follow(doc(1, unexpectedly()))
		w.run(firstByteTimeout + 100*time.Millisecond)
		if v := x.view(); v.reply == nil || !strings.HasSuffix(v.note, string(maintenance.RuleBodyTimeout)) {
			t.Errorf("got %s", v)
		}
		w.want("misconfigured", 0)
		w.want("errors", 0)
	})
	t.Run("and the state changes", func(t *testing.T) {
		compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
			x := save(w)
			w.follow(doc(1, unexpectedly()))
			w.say(200, doc(2, in(maintenance.Off)))
			w.run(firstByteTimeout + 100*time.Millisecond)
			x.send("_method=DELETE", true)
			passed(t, x.view())
			w.want("misconfigured", 0)
		})
	})
	t.Run("misconfigured", func(t *testing.T) {
		compiled(t, setup{config: holding, onward: true}, func(t *testing.T, w *world) {
			x := save(w)
			w.follow(doc(1, unexpectedly()))
			x.send("name=x", true)
			passed(t, x.view())
			y := w.begin("POST", "/graphql", false, "content-type", "application/json")
			w.run(firstByteTimeout + 100*time.Millisecond)
			refused(t, y.view(), maintenance.RuleBodyTimeout)
			w.want("misconfigured", 1)
		})
	})
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
				if n := w.complaints("no state arrived within 1.5s"); n != 1 {
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
	staff := in(maintenance.NoAccess)
	staff.Name, staff.Match.Hosts = "staff", []string{"staff.example.com"}
	staff.Bypass.Claims = []maintenance.ClaimRule{{Issuer: "a"}, {Issuer: "b", Audience: "c"}, {Issuer: "b", Claim: []string{"roles"}, Values: []any{"admin"}}}
	closed.Pages = map[string]string{}
	for _, lang := range []string{"", "de", "fr", "it"} {
		closed.Pages[lang] = maintenance.PageHash([]byte("a page that the controller does not have, in " + lang))
	}
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
	w.follow(docs(1, 1, app, closed, staff, open))
	for _, c := range []struct {
		name    string
		request func()
	}{
		{"another app is on", func() { w.request("GET", "/", "", ":authority", "open.example.com") }},
		{"refused", func() { w.request("GET", "/", "", ":authority", "admin.example.com") }},
		{"refused by three claim rules", func() { w.request("GET", "/", "", ":authority", "staff.example.com") }},
		{"refused as JSON", func() { w.request("GET", "/", "", ":authority", "admin.example.com", "accept", "application/json") }},
		{"refused with a page that is missing", func() {
			w.request("GET", "/", "", ":authority", "admin.example.com", "accept", "text/html", "accept-language", "de")
		}},
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
	golden.Compare(t, "testdata/hostcalls.golden", got.String())
}

// What the client gets is the core's reply; gRPC gets its status, the access log the rule
// as response code details, and nothing goes upstream.
func TestRefused(t *testing.T) {
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		app := in(maintenance.NoAccess)
		app.RetryAfter = 90
		w.follow(doc(1, app))
		for _, c := range []struct {
			name     string
			headers  []string
			status   int
			kind     string
			body     string
			grpc     int
			downward map[string]string // what the client sees, compiled
		}{
			{"curl", nil, 503, "text/plain; charset=utf-8", "Back soon.\n", -1, nil},
			{"browser", []string{"accept", "text/html,*/*;q=0.8"}, 503, "text/html; charset=utf-8", "Back soon.", -1, nil},
			{"JSON", []string{"accept", "application/json"}, 503, "application/problem+json", `"rule":"no-access"`, -1, nil},
			{"gRPC", []string{"content-type", "application/grpc"}, 503, "", "Back soon.", 14,
				map[string]string{":status": "200", "content-type": "application/grpc", "grpc-status": "14", "grpc-message": "Back soon."}},
			{"gRPC-Web", []string{"content-type", "application/grpc-web+proto"}, 200, "application/grpc-web+proto", "grpc-status:14\r\n", -1,
				map[string]string{":status": "200", "grpc-status": "14", "grpc-message": "Back soon."}},
		} {
			x := w.begin("POST", "/shop.Cart/Add", false, c.headers...)
			x.send("x", true)
			v := x.view()
			refused(t, v, maintenance.RuleNoAccess)
			if r := v.reply; r.status != c.status || r.headers["content-type"] != c.kind || !strings.Contains(r.body, c.body) || (c.body == "") != (r.body == "") ||
				r.grpc != c.grpc || r.headers["retry-after"] != "90" || r.headers["cache-control"] != "no-store" {
				t.Errorf("%s: got %s, grpc %d", c.name, v, r.grpc)
			}
			if v.note != "app=default mode=no-access rule=no-access" {
				t.Errorf("%s: noted %q", c.name, v.note)
			}
			if s, ok := x.(*shippedExchange); ok {
				got := fields(s.Downstream().Headers)
				for name, want := range c.downward {
					if got[name] != want {
						t.Errorf("%s: the client sees %s: %q, want %q", c.name, name, got[name], want)
					}
				}
				if v.reply.details != "drydock:no-access" || s.Details() != "drydock:no-access" {
					t.Errorf("%s: details %q, %q", c.name, v.reply.details, s.Details())
				}
			}
			x.end()
		}
		w.want("blocked", 5)
		w.want("bypassed", 0)
	})
}

// Who is let through is named to the upstream, with the mode; what a client says in our
// name is not passed on.
func TestTowardsUpstream(t *testing.T) {
	const pretend = "x-drydock-bypass,ip,x-drydock-mode,off,x-drydock-bypass,again,x_drydock_mode,off,x-drydock_future,1,x-drydock,kept,x-drydocks-mode,kept," +
		"x.drydock.bypass,ip,x!drydock~mode,off,x'drydock`bypass,ip,x0drydock-mode,kept,x--drydock-mode,kept"
	for _, c := range []struct {
		name         string
		mode         maintenance.Mode
		from, path   string
		mode2, cause string // the headers; "-" for what the client said
		bypassed     int
	}{
		{"an address", maintenance.NoAccess, "[::ffff:10.1.2.3]:4711", "/", "no-access", "ip", 1},
		{"an exempt path", maintenance.NoAccess, visitor, "/login", "no-access", "", 0},
		{"a read", maintenance.ReadOnly, visitor, "/", "read-only", "", 0},
		{"an app that is off", maintenance.Off, visitor, "/", "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
				app := in(c.mode)
				app.Bypass.IPs = []string{"10.0.0.0/8"}
				app.Exempt = []maintenance.PathRule{{Path: "/login"}}
				other := in(maintenance.NoAccess)
				other.Name, other.Match.Hosts = "other", []string{"other.example.com"}
				w.follow(docs(1, 1, app, other))
				v := w.request("GET", c.path, "", append([]string{"from", c.from}, strings.Split(pretend, ",")...)...)
				passed(t, v)
				if v.headers["x-drydock-mode"] != c.mode2 || v.headers["x-drydock-bypass"] != c.cause {
					t.Errorf("the upstream saw %v", v.headers)
				}
				for _, name := range []string{"x_drydock_mode", "x-drydock_future", "x.drydock.bypass", "x!drydock~mode", "x'drydock`bypass"} {
					if v.headers[name] != "" {
						t.Errorf("the upstream saw %s", name)
					}
				}
				for _, name := range []string{"x-drydock", "x-drydocks-mode", "x0drydock-mode", "x--drydock-mode"} {
					if v.headers[name] != "kept" {
						t.Errorf("the upstream did not see %s: %v", name, v.headers)
					}
				}
				w.want("bypassed", c.bypassed)
				w.want("blocked", 0)
			})
		})
	}
}

// Nor is what a client says in our name, or what would change how a server reads the
// request, passed on in trailers: of a request that is let go
// at once, and of one that was held for its body or for the first state.
func TestTrailersTowardsUpstreamCompiled(t *testing.T) {
	app := in(maintenance.ReadOnly)
	app.Bypass.IPs = []string{"10.0.0.0/8"}
	trailers := wasmhost.Headers{{"x-drydock-bypass", "ip"}, {"x.drydock!mode", "off"}, {"x-drydock-bypass", "claim"}, {"x-checksum", "1"},
		{"x-http-method-override", "DELETE"}, {"x-original-url", "/admin"}, {"x_forwarded_host", "admin.example.com"}, {"script-name", "/x"},
		{"content_type", "text/plain"}, {"cookie", "_method=DELETE"}}
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		check := func(what string, x exchange) {
			t.Helper()
			if got := x.(*shippedExchange).Upstream().Trailers; len(got) != 1 || got.Get("x-checksum") != "1" {
				t.Errorf("%s: the upstream saw the trailers %v", what, got)
			}
			x.end()
		}
		boot := w.begin("PUT", "/upload", false, "from", "10.0.0.1:1")
		boot.send("x", false)
		boot.(*shippedExchange).RequestTrailers(trailers)
		w.follow(doc(1, app))
		check("held for the first state", boot)

		x := w.begin("PUT", "/upload", false, "from", "10.0.0.1:1")
		x.send("x", false)
		x.(*shippedExchange).RequestTrailers(trailers)
		check("let go", x)

		y := w.begin("POST", "/graphql", false, "content-type", "application/json")
		y.send(aQuery, false)
		y.(*shippedExchange).RequestTrailers(trailers)
		check("held for its body", y)
		w.want("errors", 0)
	})
}

// A claim of a verified token lets through; what the client only says does not.
func TestClaimCompiled(t *testing.T) {
	app := in(maintenance.NoAccess)
	app.Bypass.Claims = []maintenance.ClaimRule{{Issuer: "https://id.example.com", Claim: []string{"realm", "roles"}, Values: []any{"sre", 7, true}}}
	compiled(t, setup{config: `{"name": "edge", "jwt_metadata": ["envoy.filters.http.jwt_authn", "verified"]}`}, func(t *testing.T, w *world) {
		w.follow(doc(1, app))
		payload := func(issuer string, roles any) map[string]any {
			return map[string]any{"verified": map[string]any{"iss": issuer, "realm": map[string]any{"roles": roles}, "email": nil}}
		}
		const ours = "https://id.example.com"
		for _, c := range []struct {
			name   string
			jwt    map[string]any
			passes bool
		}{
			{"the role", payload(ours, []any{"dev", "sre"}), true},
			{"the role beside null", payload(ours, []any{nil, "sre"}), true},
			{"the number", payload(ours, 7), true},
			{"true", payload(ours, true), true},
			{"another role", payload(ours, []any{"dev"}), false},
			{"another issuer", payload("https://evil.example.com", []any{"sre"}), false},
			{"another key", map[string]any{"payload": payload(ours, "sre")["verified"]}, false},
			{"no claims", nil, false},
			{"the bytes of the number as a string", payload(ours, "\x00\x00\x00\x00\x00\x00\x1c@"), false},
			{"the byte of true as a string", payload(ours, "\x01"), false},
			{"the role as a key", payload(ours, map[string]any{"sre": ""}), false},
			{"a text with the bytes of a list", payload(ours, "\x01\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00sre\x00\x00"), false},
		} {
			s := on(w).plugin.NewStream(wasmhost.StreamConfig{Properties: map[string]any{
				"source":   map[string]any{"address": visitor},
				"metadata": map[string]any{"filter_metadata": map[string]any{"envoy.filters.http.jwt_authn": c.jwt, "other": map[string]any{"verified": nil}}},
			}})
			s.RequestHeaders(wasmhost.Headers{{":method", "GET"}, {":path", "/"}, {":authority", "x"}, {"authorization", "Bearer forged"}}, true)
			if got := s.Upstream().End; got != c.passes {
				t.Errorf("%s: passed: %v", c.name, got)
			}
			s.Abort()
		}
		w.want("bypassed", 4)
		w.want("blocked", 8)
	})
}

// What else the proxy knows of a request: the peer's identity in the mesh, and which
// route and cluster it has chosen.
func TestAttributesCompiled(t *testing.T) {
	route, cluster := in(maintenance.NoAccess), in(maintenance.NoAccess)
	route.Name, route.Match.Routes = "by-route", []string{"admin"}
	route.Bypass.Principals = []string{"spiffe://cluster.local/ns/ops/*"}
	cluster.Name, cluster.Match.Clusters = "by-cluster", []string{"outbound|80||legacy"}
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(docs(1, 1, route, cluster))
		for _, c := range []struct {
			route, cluster, peer string
			note                 string
		}{
			{"shop", "shop", "", ""},
			{"admin", "shop", "", "app=by-route mode=no-access rule=no-access"},
			{"admin", "shop", "spiffe://cluster.local/ns/ops/sa/ci", "app=by-route mode=no-access rule=bypass.principal"},
			{"admin", "shop", "spiffe://cluster.local/ns/opsx/sa/ci", "app=by-route mode=no-access rule=no-access"},
			{"shop", "outbound|80||legacy", "spiffe://cluster.local/ns/ops/sa/ci", "app=by-cluster mode=no-access rule=no-access"},
		} {
			s := on(w).plugin.NewStream(wasmhost.StreamConfig{Properties: map[string]any{
				"source":     map[string]any{"address": visitor},
				"connection": map[string]any{"uri_san_peer_certificate": c.peer},
				"xds":        map[string]any{"route_name": c.route, "cluster_name": c.cluster},
			}})
			s.RequestHeaders(wasmhost.Headers{{":method", "GET"}, {":path", "/"}, {":authority", "x"}}, true)
			note, _ := s.FilterState("wasm.drydock.decision")
			if passes := !strings.HasSuffix(c.note, "=no-access"); string(note) != c.note || s.Upstream().End != passes {
				t.Errorf("%+v: passed: %v, %q", c, s.Upstream().End, note)
			}
			s.Abort()
		}
	})
}

// bodies are the ways in which a GraphQL body can come.
var bodies = []struct {
	name     string
	headers  string
	parts    []string
	trailers bool
	rule     maintenance.Rule // that refuses it; none: it passes
	status   int
}{
	{"query", "", []string{aQuery}, false, "", 0},
	{"mutation", "", []string{aMutation}, false, "graphql.mutation", 503},
	{"query in parts", "", strings.SplitAfter(aQuery, ""), false, "", 0},
	{"mutation in parts", "", strings.SplitAfter(aMutation, ""), false, "graphql.mutation", 503},
	{"query, then an empty end", "", []string{aQuery, ""}, false, "", 0},
	{"mutation, then an empty end", "", []string{aMutation, ""}, false, "graphql.mutation", 503},
	{"an empty part first", "", []string{"", aQuery}, false, "", 0},
	{"query and trailers", "", []string{aQuery}, true, "", 0},
	{"mutation and trailers", "", []string{aMutation}, true, "graphql.mutation", 503},
	{"trailers alone", "", nil, true, "graphql.json", 400},
	{"nothing", "content-length,0", []string{""}, false, "graphql.json", 400},
	{"as much as is looked at", "", []string{aQuery + strings.Repeat(" ", 1000-len(aQuery))}, false, "", 0},
	{"more than is looked at", "", []string{aQuery + strings.Repeat(" ", 1000-len(aQuery)), "\n"}, false, "graphql.limit-body", 413},
	{"more than is looked at, and not its end", "", []string{strings.Repeat(" ", 1001)}, false, "graphql.limit-body", 413},
	{"a mutation behind it all", "", []string{aQuery, aMutation}, false, "graphql.json-ambiguous", 503},
}

// In read-only the body of a GraphQL request is held until it was judged. A refused one
// never reaches the upstream.
func TestBody(t *testing.T) {
	app := in(maintenance.ReadOnly)
	app.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: 1000}
	for _, c := range bodies {
		t.Run(c.name, func(t *testing.T) {
			test := func(t *testing.T, w *world, onward bool) {
				w.follow(doc(1, app))
				headers := []string{"content-type", "application/json"}
				if c.headers != "" {
					headers = append(headers, strings.Split(c.headers, ",")...)
				}
				x := w.begin("POST", "/graphql", false, headers...)
				sent := ""
				for i, part := range c.parts {
					if v := x.view(); v.body != "" || !onward && v.headers != nil || v.reply != nil {
						t.Fatalf("after %q: %s", sent, v)
					}
					w.run(300 * time.Millisecond) // slow, but within the grace
					end := i == len(c.parts)-1 && !c.trailers && !strings.Contains(c.name, "not its end")
					x.send(part, end)
					sent += part
				}
				if c.trailers {
					x.trailers()
				}
				v := x.view()
				if onward && v.headers != nil {
					if v.headers["x-drydock-mode"] != "" {
						t.Errorf("the upstream saw %v although its headers had gone on", v.headers)
					}
					if c.rule != "" { // the headers alone: a request that is broken off
						if s := x.(*shippedExchange); !s.Upstream().Reset || v.ended {
							t.Errorf("the upstream saw %+v", s.Upstream())
						}
						v.headers = nil
					}
				}
				if c.rule != "" {
					refused(t, v, c.rule)
					if v.reply.status != c.status {
						t.Errorf("got %s, want %d", v, c.status)
					}
				} else if passed(t, v); !strings.HasSuffix(sent, v.body) || !c.trailers && v.body == "" && sent != "" {
					t.Errorf("the upstream saw %q of %q", v.body, sent)
				}
				if s, ok := x.(*shippedExchange); ok && c.rule == "" && (v.body != sent || !v.ended || (s.Upstream().Trailers != nil) != c.trailers) {
					t.Errorf("the upstream saw %+v", s.Upstream())
				}
				x.end()
				w.want("misconfigured", 0)
				w.want("errors", 0)
				w.run(1500 * time.Millisecond)
				if a := w.lastAck(); a.Requests != 0 {
					t.Errorf("%d requests are left", a.Requests)
				}
			}
			everywhere(t, setup{config: holding}, func(t *testing.T, w *world) { test(t, w, false) })
			t.Run("headers go on", func(t *testing.T) {
				compiled(t, setup{config: `{"name": "edge"}`, onward: true}, func(t *testing.T, w *world) { test(t, w, true) })
			})
			t.Run("headers are held unexpectedly", func(t *testing.T) {
				compiled(t, setup{config: `{"name": "edge"}`}, func(t *testing.T, w *world) { test(t, w, true) })
			})
		})
	}
}

// When Envoy does not hold headers although the plugin was told so, no body ever comes: a
// held request is answered after 5 s, counted and logged.
func TestMisconfiguredCompiled(t *testing.T) {
	compiled(t, setup{config: holding, onward: true}, func(t *testing.T, w *world) {
		w.follow(doc(1, in(maintenance.ReadOnly)))
		x, y := w.begin("POST", "/graphql", false, "content-type", "application/json"), w.begin("POST", "/graphql", false, "content-type", "application/json")
		x.send(aQuery, true)
		w.run(4950 * time.Millisecond)
		held(t, x.view())
		w.run(150 * time.Millisecond)
		refused(t, x.view(), maintenance.RuleBodyTimeout)
		refused(t, y.view(), maintenance.RuleBodyTimeout)
		if v := x.view(); v.reply.status != 503 || v.reply.details != "drydock:read-only.body-timeout" {
			t.Errorf("got %s, %s", v, v.reply.details)
		}
		w.want("misconfigured", 2)
		w.want("errors", 2)
		if w.complaints("allow_on_headers_stop_iteration") != 1 {
			t.Errorf("logged %q", w.logged())
		}
	})
}

// The same answer goes to who sends no body, but that is no misconfiguration where the
// bodies of others came.
func TestBodyDoesNotCome(t *testing.T) {
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, in(maintenance.ReadOnly)))
		passed(t, w.graphQL(aQuery))
		x := w.begin("POST", "/graphql", false, "content-type", "application/json")
		slow := w.begin("POST", "/graphql", false, "content-type", "application/json")
		slow.send(aQuery[:5], false)
		w.run(5100 * time.Millisecond)
		refused(t, x.view(), maintenance.RuleBodyTimeout)
		w.run(20 * time.Second)
		held(t, slow.view())
		slow.send(aQuery[5:], true)
		passed(t, slow.view())
		w.want("misconfigured", 0)
		w.want("errors", 0)
	})
}

// A body that cannot be read is not taken for none: the request is refused.
func TestUnreadableBodyIsRefusedCompiled(t *testing.T) {
	app := in(maintenance.ReadOnly)
	app.ReadOnly.WriteThrough = []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/save"}}
	fails := wasmhost.StatusOK
	s := setup{config: holding, fault: func(function string) wasmhost.Status {
		if function == "proxy_get_buffer_bytes" {
			return fails
		}
		return wasmhost.StatusOK
	}}
	compiled(t, s, func(t *testing.T, w *world) {
		fails = wasmhost.StatusOK
		w.follow(doc(1, app))
		for _, fails = range []wasmhost.Status{wasmhost.StatusNotFound, wasmhost.StatusBadArgument, wasmhost.StatusInternalFailure} {
			for _, path := range []string{"/save", "/graphql"} {
				x := w.begin("POST", path, false, "content-type", "application/json")
				x.send(`{}`, true)
				v := x.view()
				refused(t, v, maintenance.RuleBodyUnread)
				if v.reply.status != 503 || v.reply.headers["retry-after"] != "5" {
					t.Errorf("got %s", v)
				}
				x.end()
			}
		}
		w.want("errors", 6)
		fails = wasmhost.StatusOK
	})
}

// A request that is held for its body is given up when not all of it comes in time.
func TestBodyTimeout(t *testing.T) {
	for _, c := range []struct {
		config  string
		timeout time.Duration
	}{
		{holding, 30 * time.Second},
		{`{"name": "edge", "allow_on_headers_stop_iteration": true, "body_timeout": 7.5}`, 7500 * time.Millisecond},
	} {
		everywhere(t, setup{config: c.config}, func(t *testing.T, w *world) {
			w.follow(doc(1, in(maintenance.ReadOnly)))
			x := w.begin("POST", "/graphql", false, "content-type", "application/json")
			for i := range 6 {
				// Neither slow parts nor changes of the state give it more time.
				x.send(aQuery[i:i+1], false)
				w.run(time.Second)
				w.say(200, doc(uint64(i+2), in(maintenance.ReadOnly)))
			}
			w.run(c.timeout - 6*time.Second - tickPeriod)
			held(t, x.view())
			w.run(100 * time.Millisecond)
			v := x.view()
			refused(t, v, maintenance.RuleBodyTimeout)
			if v.reply.status != 503 || v.reply.headers["retry-after"] != "5" || !strings.Contains(v.reply.body, "did not come in time") {
				t.Errorf("got %s", v)
			}
			w.want("misconfigured", 0)
			w.want("errors", 0)
			w.want("held_requests", 0)
		})
	}
}

// Where the app is off by the time that a body is given up, the request goes on with what
// comes next, and nothing of it is lost.
func TestBodyTimeoutWhenOffCompiled(t *testing.T) {
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, in(maintenance.ReadOnly)))
		x := w.begin("POST", "/graphql", false, "content-type", "application/json")
		x.send(aMutation[:7], false)
		w.run(29 * time.Second)
		w.say(200, doc(2, in(maintenance.Off)))
		w.run(5 * time.Second)
		x.send(aMutation[7:9], false)
		x.send(aMutation[9:], true)
		if v := x.view(); v.reply != nil || v.body != aMutation || !v.ended {
			t.Errorf("got %s, to the end: %v", v, v.ended)
		}
		w.want("errors", 0)
	})
}

// What is held has a bound in number. Past it a request that would be held is refused at
// once, and asked to come again soon; others are decided as always.
func TestHeldRequestsAreBounded(t *testing.T) {
	post := func(w *world) exchange { return w.begin("POST", "/graphql", false, "content-type", "application/json") }
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		get := w.begin("GET", "/", true)
		crowd := []exchange{get}
		for len(crowd) < maxPausedRequests {
			crowd = append(crowd, w.begin("POST", "/graphql", false, "content-type", "application/json"))
		}
		tooMany := func(x exchange) {
			t.Helper()
			v := x.view()
			refused(t, v, maintenance.RuleHeldLimit)
			if v.reply.status != 503 || v.reply.headers["retry-after"] != "5" || !strings.Contains(v.reply.body, "Too many requests wait") {
				t.Errorf("got %s", v)
			}
			x.end()
		}
		tooMany(w.begin("GET", "/", true))
		w.follow(doc(1, in(maintenance.ReadOnly)))
		passed(t, get.view())
		crowd[0] = post(w)
		held(t, crowd[0].view())
		tooMany(post(w))
		passed(t, w.request("GET", "/", ""))
		refused(t, w.request("PUT", "/cart", "x"), maintenance.RuleMethod)
		w.tick()
		w.want("held_limit", 2)
		w.want("blocked", 3)
		w.want("held_requests", maxPausedRequests)
		if n := w.metric("drydock.edge.held_bytes"); n < maxPausedRequests*streamBytes || n > maxPausedBytes {
			t.Errorf("held_bytes = %d", n)
		}

		crowd[7].end()
		crowd[8].send(aMutation, true)
		crowd[9].send(aQuery, true)
		passed(t, crowd[9].view())
		for range 3 {
			held(t, post(w).view())
		}
		tooMany(post(w))

		// While so many wait, nobody waits for long.
		w.run(crowdedTimeout + 2*maxPausedRequests/maxResumed*tickPeriod)
		refused(t, crowd[20].view(), maintenance.RuleBodyTimeout)
		passed(t, w.graphQL(aQuery))
		w.want("held_requests", 0)
		w.want("held_bytes", 0)
	})
}

// A crowd that was held for the first state goes on or is answered in parts, since Envoy
// cannot do so for thousands at once; the rest follows soon, and not only a tick later.
func TestCrowdLeavesInPartsCompiled(t *testing.T) {
	for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.NoAccess} {
		periods := map[string]int{}
		compiled(t, setup{config: holding, trace: func(c wasmhost.Call) {
			if c.Func == "proxy_set_tick_period_milliseconds" {
				periods[c.Args]++
			}
		}}, func(t *testing.T, w *world) {
			clear(periods)
			var crowd []exchange
			for range 1000 {
				crowd = append(crowd, w.begin("GET", "/", true))
			}
			w.follow(doc(1, in(mode)))
			for range 1000 / maxResumed {
				w.tick()
			}
			for _, x := range crowd {
				if v := x.view(); mode == maintenance.Off {
					passed(t, v)
				} else {
					refused(t, v, maintenance.RuleNoAccess)
				}
			}
			w.tick()
			if periods["1"] != 1 || periods["50"] != 1 { // the start was not traced
				t.Errorf("tick periods were set: %v", periods)
			}
			w.want("errors", 0)
		})
	}
}

// It has a bound in bytes, too: of headers and of bodies.
func TestHeldBytesAreBoundedCompiled(t *testing.T) {
	big := strings.Repeat("x", 57<<10)
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, in(maintenance.ReadOnly)))
		var crowd []exchange
		for i := 0; ; i++ {
			x := w.begin("POST", "/graphql", false, "content-type", "application/json", "accept", big)
			if x.view().reply != nil {
				refused(t, x.view(), maintenance.RuleHeldLimit)
				break
			}
			if crowd = append(crowd, x); i > maxPausedBytes/len(big) {
				t.Fatalf("%d requests with 57 kB of headers are held", i)
			}
		}
		w.tick()
		if n := w.metric("drydock.edge.held_bytes"); n > maxPausedBytes || n < maxPausedBytes-2*len(big) {
			t.Errorf("held_bytes = %d with %d held", n, len(crowd))
		}
		for _, x := range crowd {
			x.end()
		}

		part := strings.Repeat(" ", 900<<10)
		n := 0
		for ; n < 100; n++ {
			x := w.begin("POST", "/graphql", false, "content-type", "application/json")
			if x.send(part, false); x.view().reply != nil {
				refused(t, x.view(), maintenance.RuleHeldLimit)
				break
			}
		}
		if n != maxPausedBytes/(len(part)+streamBytes) {
			t.Errorf("%d bodies of 900 kB are held", n)
		}
		passed(t, w.graphQL(aQuery)) // short bodies, which are judged at once, still have room
		w.want("held_limit", 2)
		w.want("errors", 0)
	})
}

// However many requests are begun and left open, the module's memory has a bound: with
// 57 kB of headers and a byte of body, with most of a long body, before and after the
// first state.
func TestMemoryOfHeldRequestsIsBoundedCompiled(t *testing.T) {
	padding := strings.Repeat("x", 19<<10)
	bulk := strings.Repeat(" ", 950<<10)
	w := newProcess(t, setup{config: holding}).worker("worker_0")
	attack := func(n int, body string) {
		for range n {
			x := w.begin("POST", "/graphql?x="+padding[:100], false, "content-type", "application/json", "cookie", padding, "accept", padding, "x-padding", padding)
			x.send(body, false)
			if x.view().reply != nil {
				x.end()
			}
		}
	}
	attack(4500, "{")
	w.follow(doc(1, in(maintenance.ReadOnly)))
	attack(5000, "{")
	w.run(10 * time.Second)
	attack(100, bulk)
	w.run(10 * time.Second)
	attack(2000, "{")
	size := on(w).vm.MemorySize()
	t.Logf("%d MB of memory", size>>20)
	if size > 256<<20 {
		t.Errorf("the module has %d MB of memory", size>>20)
	}
	w.run(10 * time.Second)
	passed(t, w.graphQL(aQuery))
}

// A body is judged by the state that is in force when it is there.
func TestStateChangesWhileABodyIsHeld(t *testing.T) {
	limit := func(n int) maintenance.App {
		a := in(maintenance.ReadOnly)
		a.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: n}
		return a
	}
	post := func(w *world) exchange { return w.begin("POST", "/graphql", false, "content-type", "application/json") }
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, limit(30)))
		off, closed, open := post(w), post(w), post(w)
		off.send(aMutation[:20], false)
		closed.send(aQuery[:20], false)
		open.send(aQuery[:20], false)

		// More is looked at: what was there is not judged as if it were all.
		w.say(200, doc(2, limit(100)))
		open.send(aQuery[20:], false)
		open.send(strings.Repeat(" ", 40), false)
		held(t, open.view())
		open.send(aMutation, true)
		refused(t, open.view(), "graphql.json-ambiguous")

		// Less is looked at.
		less := post(w)
		less.send(aQuery, false)
		w.say(200, doc(3, limit(10)))
		less.send(" ", true)
		refused(t, less.view(), "graphql.limit-body")

		w.say(200, doc(4, in(maintenance.Off)))
		off.send(aMutation[20:], true)
		passed(t, off.view())
		w.say(200, doc(5, in(maintenance.NoAccess)))
		closed.send(aQuery[20:], true)
		refused(t, closed.view(), maintenance.RuleNoAccess)

		// Held without a body, and then off: it goes on when the grace is over.
		w.say(200, doc(6, in(maintenance.ReadOnly)))
		waits := post(w)
		w.say(200, doc(7, in(maintenance.Off)))
		w.run(5100 * time.Millisecond)
		waits.send(aMutation, true)
		passed(t, waits.view())
	})
}

// What is past Envoy's own buffer limit, although the app would look at it, Envoy answers.
func TestPastEnvoysLimitCompiled(t *testing.T) {
	app := in(maintenance.ReadOnly)
	app.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: 4 << 20}
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, app))
		x := w.begin("POST", "/graphql", false, "content-type", "application/json")
		for range 3 {
			x.send(strings.Repeat(" ", 512<<10), false)
		}
		s := x.(*shippedExchange)
		if s.Downstream().Status() != 413 || s.Details() != "request_payload_too_large" || s.Upstream().Headers != nil {
			t.Errorf("the client saw %+v, %s; the upstream %+v", s.Downstream(), s.Details(), s.Upstream())
		}
		w.run(10 * time.Second)
		if a := w.lastAck(); a.Requests != 0 {
			t.Errorf("%d requests are left", a.Requests)
		}
		w.want("errors", 0)
		w.want("misconfigured", 0)
	})
}

// Ten thousand requests that are broken off in the middle of their bodies, before and
// after the first state, leave nothing behind.
func TestMustShow3AbortsCompiled(t *testing.T) {
	w := newProcess(t, setup{config: holding}).worker("worker_0")
	part := strings.Repeat(" ", 1000)
	abort := func(n int) {
		for range n {
			x := w.begin("POST", "/graphql", false, "content-type", "application/json")
			x.send(part, false)
			x.send(part, false)
			x.end()
		}
	}
	abort(2000)
	w.follow(doc(1, in(maintenance.ReadOnly)))
	abort(6000)
	before := on(w).vm.MemorySize()
	abort(10_000)
	after := on(w).vm.MemorySize()
	t.Logf("memory: %d kB, after 10,000 aborts %d kB", before>>10, after>>10)
	if after > before+before/10 {
		t.Errorf("memory grew from %d to %d", before, after)
	}
	w.run(1100 * time.Millisecond)
	if a := w.lastAck(); a.Requests != 0 {
		t.Errorf("%d requests are left", a.Requests)
	}
	passed(t, w.graphQL(aQuery))
}

// A window opens and closes on the proxy's own clock, also with the controller away.
func TestWindow(t *testing.T) {
	app := maintenance.App{Spec: maintenance.Spec{Windows: []maintenance.Window{{
		ID: "upgrade", Mode: maintenance.NoAccess, Message: "Upgrade.", Announce: 60,
		Occurrences: []maintenance.Occurrence{
			{Start: begin.Add(2 * time.Minute), End: begin.Add(3 * time.Minute)},
			{Start: begin.Add(10 * time.Minute), End: begin.Add(10*time.Minute + 500*time.Millisecond)},
		},
	}}}}
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, app))
		w.say(0, "") // and away it stays
		get := func() view { return w.request("GET", "/", "") }
		status := func() string {
			if v := w.request("GET", "/.drydock/status", ""); v.reply != nil {
				return v.reply.body
			}
			return ""
		}
		w.run(59900 * time.Millisecond)
		passed(t, get())
		if s := status(); s != "" {
			t.Errorf("said %q before the announcement", s)
		}
		w.run(150 * time.Millisecond)
		passed(t, get())
		if s := status(); !strings.Contains(s, `"mode":"off"`) || !strings.Contains(s, `"start":"2000-01-01T00:02:00Z"`) {
			t.Errorf("announced by %q", s)
		}
		w.run(59900 * time.Millisecond)
		passed(t, get())
		w.run(100 * time.Millisecond)
		v := get()
		refused(t, v, maintenance.RuleNoAccess)
		if v.reply.headers["retry-after"] != "60" || v.reply.body != "Upgrade.\n" {
			t.Errorf("got %s", v)
		}
		w.run(59850 * time.Millisecond)
		refused(t, get(), maintenance.RuleNoAccess)
		w.run(150 * time.Millisecond)
		passed(t, get())
		if s := status(); s != "" {
			t.Errorf("said %q after the window", s)
		}
		w.run(7 * time.Minute)
		refused(t, get(), maintenance.RuleNoAccess)
		w.run(500 * time.Millisecond)
		passed(t, get())
		w.run(time.Hour)
		passed(t, get())
		w.want("revision", 1)
	})
}

// A proxy whose clock was ahead, so that a window seemed over, opens it when the clock is
// put right.
func TestWindowAfterTheClockIsSetBackCompiled(t *testing.T) {
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		on(w).clock.Set(begin.Add(5 * time.Hour))
		w.follow(doc(1, maintenance.App{Spec: maintenance.Spec{Windows: []maintenance.Window{{ID: "w", Mode: maintenance.NoAccess,
			Occurrences: []maintenance.Occurrence{{Start: begin.Add(time.Hour), End: begin.Add(2 * time.Hour)}}}}}}))
		w.run(time.Second)
		passed(t, w.request("GET", "/", ""))
		on(w).clock.Set(begin.Add(90 * time.Minute))
		w.tick()
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		on(w).clock.Set(begin.Add(30 * time.Minute))
		w.tick()
		passed(t, w.request("GET", "/", ""))
		w.run(time.Second)
		on(w).clock.Set(begin.Add(61 * time.Minute))
		w.tick()
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
	})
}

// What was switched on holds, whatever the proxy's clock says of when that was.
func TestExplicitActivationAndClock(t *testing.T) {
	app := in(maintenance.NoAccess)
	app.Activations[0].Since = begin.Add(time.Hour) // the controller's clock is ahead
	app.Activations[0].Until = begin.Add(2 * time.Hour)
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, app))
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
	})
	// Also when it jumps back and forth.
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, app))
		for _, to := range []time.Time{begin.AddDate(-10, 0, 0), begin, begin.Add(119 * time.Minute), begin.Add(-time.Second)} {
			on(w).clock.Set(to)
			w.run(10 * tickPeriod)
			refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		}
		on(w).clock.Set(begin.Add(2 * time.Hour))
		w.run(tickPeriod)
		passed(t, w.request("GET", "/", ""))
		if !w.polls() {
			t.Error("nobody polls after the clock was set")
		}
	})
}

// The public status is answered by the filter while something is on or announced, and
// left to the route of the bootstraps while all is off.
func TestEdgeStatus(t *testing.T) {
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		app := in(maintenance.NoAccess)
		app.Name, app.Match.Hosts = "shop", []string{"shop.example.com"}
		app.Activations[0].Until = begin.Add(time.Hour)
		x := w.begin("GET", "/.drydock/status", true)
		w.tick()
		held(t, x.view())
		w.say(200, docs(1, 1, app))
		if v := x.view(); v.reply == nil || v.reply.status != 200 {
			t.Fatalf("got %s", v)
		}
		for _, c := range []struct {
			method, host string
			status       int
			holds        string
		}{
			{"GET", "shop.example.com", 200, `{"app":"shop","mode":"no-access","message":"Back soon."`},
			{"HEAD", "shop.example.com", 200, ""},
			{"GET", "other.example.com", 200, `{"app":"default","mode":"off"}`},
			{"POST", "shop.example.com", 405, ""},
		} {
			v := w.request(c.method, "/.drydock/status?x", "", ":authority", c.host)
			if v.reply == nil || v.headers != nil || v.reply.status != c.status || !strings.HasPrefix(v.reply.body, c.holds) || v.reply.headers["cache-control"] != "no-store" {
				t.Errorf("%s %s: got %s", c.method, c.host, v)
			}
			if r := v.reply; r != nil && r.details != "" && r.details != "drydock:edge" {
				t.Errorf("details %q", r.details)
			}
		}
		// Only in this form: the rest of the prefix, and disguises, are requests as any other.
		for _, path := range []string{"/.drydock/", "/.drydock/statuses", "/.drydock/status/", "/.drydock//status", "/.drydock/%73tatus", "/x/../.drydock/status"} {
			refused(t, w.request("GET", path, ""), maintenance.RuleNoAccess)
		}
		w.say(200, docs(1, 2, maintenance.App{}))
		passed(t, w.request("GET", "/.drydock/status", ""))
	})
}

// A plugin with a bad configuration does not start, and says why.
func TestBadConfig(t *testing.T) {
	for config, want := range map[string]string{
		`{"nam": "edge"}`:                   "nam: unknown field",
		`{"name": "Edge"}`:                  "name: ",
		`{"boot_wait": -1}`:                 "boot_wait: ",
		`{"unknown": "maybe"}`:              "unknown: ",
		`{"exempt": [{"path": "healthz"}]}`: "exempt[0]: ",
		`{"controller": {"cluster": ""}}`:   "controller.cluster: ",
		`{"token": "` + token + `"}`:        "token: unknown field",
		`{`:                                 "not valid JSON",
		`[]`:                                "must be an object",
	} {
		check := func(t *testing.T, lines []string) {
			t.Helper()
			if text := strings.Join(lines, "\n"); !strings.Contains(text, "drydock: reading the plugin configuration: ") || !strings.Contains(text, want) || strings.Contains(text, token) {
				t.Errorf("%s: logged %q, want %q", config, text, want)
			}
		}
		t.Run("native", func(t *testing.T) {
			_, err := emulate(t, setup{config: config})
			if err == nil {
				t.Fatalf("%s: it started", config)
			}
			check(t, []string{err.Error()})
		})
		t.Run("compiled", func(t *testing.T) {
			p := newProcess(t, setup{})
			if _, err := p.vm("main").Plugin(p.pluginConfig(config)); !errors.Is(err, wasmhost.ErrConfigure) {
				t.Fatalf("%s: %v", config, err)
			}
			check(t, p.logs(""))
		})
	}
	everywhere(t, setup{}, func(t *testing.T, w *world) { // none is one
		w.follow(doc(1, in(maintenance.NoAccess)))
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		if w.metric("drydock.drydock.blocked") != 1 {
			t.Error("it was not counted")
		}
	})
}

// The metrics that dashboards and alerts are built on.
func TestMetricsCompiled(t *testing.T) {
	p := newProcess(t, setup{config: holding})
	p.worker("worker_0")
	var names []string
	for _, m := range p.host.Metrics() {
		names = append(names, m.Type.String()+" "+m.Name)
	}
	slices.Sort(names)
	want := []string{"counter drydock.edge.blocked", "counter drydock.edge.bypassed", "counter drydock.edge.errors", "counter drydock.edge.held_limit",
		"counter drydock.edge.misconfigured", "counter drydock.edge.unknown",
		"gauge drydock.edge.held_bytes", "gauge drydock.edge.held_requests", "gauge drydock.edge.revision", "gauge drydock.edge.state_age"}
	if !slices.Equal(names, want) {
		t.Errorf("got  %q\nwant %q", names, want)
	}
}

// The sync token shows in nothing but the Authorization header of calls to the
// controller.
func TestTokenStaysSecretCompiled(t *testing.T) {
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(`{"epoch":1,"revision":1,"apps":[{"` + token[:5] + `":1}]}`)
		for _, status := range []int{0, 401, 403, 500} {
			w.run(maxBackoff * 2)
			for _, c := range w.calls() {
				if n := strings.Count(fmt.Sprint(c.headers, c.body), token); n != 1 || c.headers["authorization"] != "Bearer "+token {
					t.Errorf("the token is %d times in %v", n, c.headers)
				}
			}
			w.say(status, "Bearer "+token)
		}
		on(w).host.RemoveCluster("drydock")
		w.run(10 * time.Second)
		p := on(w).process
		if len(p.lines) < 4 {
			t.Fatalf("only %d lines were logged", len(p.lines))
		}
		for _, line := range p.lines {
			if strings.Contains(line.Message, token) {
				t.Errorf("logged %q", line.Message)
			}
		}
		for _, key := range p.host.SharedKeys("") {
			if value, _, _ := p.host.SharedData("", key); strings.Contains(key+string(value), token) {
				t.Errorf("the token is in shared data: %s", key)
			}
		}
		if v := w.request("GET", "/", ""); strings.Contains(fmt.Sprint(v), token) {
			t.Error(v)
		}
	})
}

// The table of read-only GraphQL requests, through the module as it is shipped.
func TestMustShow1_CasesCompiled(t *testing.T) {
	data, err := os.ReadFile("maintenance/graphql/testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Method, Path, Body, Verdict, Rule string
		Base64                                  []byte `json:"body_base64"`
		Headers                                 [][2]string
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 150 {
		t.Fatalf("%d cases, want at least 150", len(cases))
	}
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, in(maintenance.ReadOnly)))
		passes := 0
		for _, c := range cases {
			body := c.Body + string(c.Base64)
			s := on(w).plugin.NewStream(wasmhost.StreamConfig{Properties: map[string]any{"source": map[string]any{"address": visitor}}})
			// As HTTP/1 has it: a body has a length, and no body ends with the headers.
			headers := wasmhost.Headers{{":method", c.Method}, {":scheme", "http"}, {":authority", "shop.example.com"}, {":path", c.Path}}
			headers = append(headers, c.Headers...)
			if body != "" {
				headers = append(headers, [2]string{"content-length", fmt.Sprint(len(body))})
			}
			s.RequestHeaders(headers, body == "")
			if body != "" {
				s.RequestBody([]byte(body), true)
			}
			verdict, rule := "pass", ""
			if s.LocalReply() != nil {
				verdict, rule = "refuse", strings.TrimPrefix(s.Details(), "drydock:")
				if up := s.Upstream(); up.Headers != nil || up.Body != nil {
					t.Errorf("%s: the upstream saw %+v", c.Name, up)
				}
			} else if up := s.Upstream(); !up.End || string(up.Body) != body {
				t.Errorf("%s: the upstream saw %+v", c.Name, up)
			}
			if verdict != c.Verdict || rule != c.Rule {
				t.Errorf("%s: got %s %s, want %s %s", c.Name, verdict, rule, c.Verdict, c.Rule)
			}
			if verdict == "pass" {
				passes++
			}
			s.Abort()
		}
		t.Logf("%d cases, of which %d pass", len(cases), passes)
		w.want("blocked", len(cases)-passes)
		w.want("errors", 0)
	})
}

// A request that is let go or answered while a part of its body comes is not held on: here
// the bound on what is held is reached once boot_wait is over, and before the next tick.
func TestBodyThatReachesTheBoundAfterTheWaitIsNotLostCompiled(t *testing.T) {
	for _, end := range []bool{true, false} {
		compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
			w.tick()
			part := strings.Repeat(" ", 900<<10)
			var crowd []exchange
			for range 72 {
				x := w.begin("POST", "/graphql", false, "content-type", "application/json")
				x.send(part, false)
				crowd = append(crowd, x)
			}

			w.pass(2100 * time.Millisecond)
			crowd[3].send(part, end)
			w.run(time.Second)
			if v := crowd[3].view(); v.reply == nil && v.headers == nil {
				t.Errorf("the request is neither answered nor let go: %.200s", v)
			}
			w.want("errors", 0)
		})
	}
}
