//go:build !wasm

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestRequestsWaitForTheFirstState(t *testing.T) {
	for _, c := range []struct {
		mode         maintenance.Mode
		method, path string
		body         []string
		rule         maintenance.Rule // the one that refuses it, empty if it passes
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
			everywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				x := w.begin(c.method, c.path, c.body == nil, "content-type", "application/json")
				body := ""
				for i, part := range c.body {
					x.send(part, i == len(c.body)-1)
					body += part
				}

				paused(t, x.view())
				w.run(time.Second)
				paused(t, x.view())

				w.answerPoll(200, doc(1, appIn(c.mode)))

				if c.rule != "" {
					refused(t, x.view(), c.rule)
				} else if passed(t, x.view()); x.view().body != body {
					t.Errorf("the upstream saw %q, want %q", x.view().body, body)
				}

				w.wantMetric("unknown", 0)
				w.wantMetric("errors", 0)
			})
		})
	}
}

// The first state may arrive in the middle of a body. Nothing is lost then, also in versions of
// Envoy that lose what follows a body that was resumed halfway.
func TestFirstStateInTheMiddleOfABodyLosesNothing(t *testing.T) {
	for _, c := range []struct{ path, kind string }{
		{"/graphql", "application/json"},
		{"/upload", "application/octet-stream"},
		{"/api", "Application/JSON; charset=utf-8"},
	} {
		t.Run(c.path, func(t *testing.T) {
			everywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				x := w.begin("POST", c.path, false, "content-type", c.kind)

				w.tick()
				x.send("first, ", false)
				x.send("second, ", false)
				paused(t, x.view())

				w.answerPoll(200, doc(1, appIn(maintenance.Off)))
				w.tick()

				x.send("third, ", false)
				x.send("last", true)
				passed(t, x.view())
				if got := x.view().body; !strings.HasSuffix(got, "last") || len(got) > 4 && got != "first, second, third, last" {
					t.Errorf("the upstream saw %q", got)
				}
			})

			// The emulator shows only the last part that went on.
			compiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				x := w.begin("POST", c.path, false, "content-type", c.kind)
				w.tick()

				x.send("first, ", false)
				w.answerPoll(200, doc(1, appIn(maintenance.Off)))

				x.send("second, ", false)
				x.send("last", true)

				if v := x.view(); v.body != "first, second, last" || !v.ended {
					t.Errorf("the upstream saw %q, to the end: %v", v.body, v.ended)
				}
			})
		})
	}
}

// An upload that is longer than Envoy's buffer is paused, and not answered with 413, whatever its
// type is and whether or not its length is known.
func TestLongUploadWaitsForTheFirstStateCompiled(t *testing.T) {
	const part = 512 << 10
	for _, headersGoOn := range []bool{false, true} {
		config := bootstrapConfig
		if headersGoOn {
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
			t.Run(fmt.Sprintf("%s %s of length %q, headers go on: %v", c.method, c.kind, c.length, headersGoOn), func(t *testing.T) {
				compiled(t, setup{config: config, headersGoOn: headersGoOn}, func(t *testing.T, w *world) {
					headers := []string{"content-type", c.kind}
					if c.length != "" {
						headers = append(headers, "content-length", c.length)
					}

					x := w.begin(c.method, "/upload", false, headers...)

					w.tick()
					for range 4 {
						x.send(strings.Repeat("x", part), false)
					}

					paused(t, x.view())

					w.answerPoll(200, doc(1, appIn(maintenance.Off)))
					if v := x.view(); len(v.body) != 4*part {
						t.Errorf("with the state the upstream saw %d bytes, not all that was paused", len(v.body))
					}

					x.send(strings.Repeat("x", part), true)
					if v := x.view(); v.reply != nil || len(v.body) != 5*part || !v.ended {
						t.Errorf("got %v, the upstream saw %d bytes, to the end: %v", v.reply, len(v.body), v.ended)
					}
					w.wantMetric("errors", 0)
				})
			})
		}
	}
}

// A body that began before the first state is read if the state needs it, wherever it ends. The
// headers of a refused request never go on.
func TestBodyThatBeganBeforeTheFirstStateIsReadCompiled(t *testing.T) {
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
		{"nothing arrived before", nil, []string{aQuery}, false, ""},
		{"more arrived than is read", []string{strings.Repeat(" ", 1<<20), " "}, nil, false, unread},
	} {
		t.Run(c.name, func(t *testing.T) {
			compiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				x := w.beginGraphQL()

				w.tick()
				for _, part := range c.before {
					x.send(part, false)
				}

				w.answerPoll(200, doc(1, appIn(maintenance.ReadOnly)))

				for i, part := range c.after {
					paused(t, x.view())
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
				w.wantMetric("errors", 0)
				w.tick()
				w.wantMetric("held_requests", 0)
				w.wantMetric("held_bytes", 0)
			})
		})
	}
}

// A GET that could have a body is paused until its stream ends, which can happen in several ways.
func TestGetWaitsUntilItIsKnownToHaveNoBody(t *testing.T) {
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
					everywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
						if !boot {
							w.follow(doc(1, appIn(maintenance.ReadOnly)))
						}

						x := w.begin("GET", path, false)
						paused(t, x.view())
						end(x)
						if boot {
							paused(t, x.view())
							w.follow(doc(1, appIn(maintenance.ReadOnly)))
						}

						v := x.view()
						if passed(t, v); v.body != "" {
							t.Errorf("the upstream saw %q", v.body)
						}
						if s, ok := x.(*compiledExchange); ok && !v.ended {
							t.Errorf("the upstream saw %+v", s.Upstream())
						}

						y := w.begin("GET", path, false)
						y.send("GET / HTTP/1.1", false)
						y.send("x", true)
						if v := y.view(); v.reply == nil || v.headers != nil {
							t.Errorf("with a body: %s", v)
						}

						w.wantMetric("errors", 0)
						w.wantMetric("misconfigured", 0)
					})
				})
			}
		}
	}
}

// appWithLongBodies returns an app that needs longer bodies than usual, and other requests.
func appWithLongBodies() maintenance.App {
	app := appIn(maintenance.ReadOnly)
	app.ReadOnly.WriteThrough = []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/save"}}
	app.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: 4 << 20}
	return app
}

// beginSave begins a request whose body only that app needs.
func beginSave(w *world) exchange {
	return w.begin("POST", "/save", false, "content-type", "application/x-www-form-urlencoded", "content-length", "2000000")
}

// A state may need a body that was not expected to be needed. Then the headers go on and only the
// body is paused.
func TestUnexpectedlyNeededBodyLetsHeadersGoOnCompiled(t *testing.T) {
	for _, c := range []struct {
		body string
		rule maintenance.Rule
	}{{"name=x", ""}, {"_method=DELETE", maintenance.RuleWriteBody}} {

		compiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
			x := beginSave(w)
			x.send(c.body, true)

			w.tick()
			paused(t, x.view())
			w.answerPoll(200, doc(1, appWithLongBodies()))

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

			w.wantMetric("errors", 0)
		})
	}
}

// If such a body does not arrive, that does not count as a misconfiguration. If it arrives, that
// does not prove that the configuration is right.
func TestUnexpectedlyNeededBodyDoesNotCountAsMisconfiguredCompiled(t *testing.T) {
	compiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		x := beginSave(w)
		w.follow(doc(1, appWithLongBodies()))

		w.run(firstByteTimeout + 100*time.Millisecond)

		if v := x.view(); v.reply == nil || !strings.HasSuffix(v.note, string(maintenance.RuleBodyTimeout)) {
			t.Errorf("got %s", v)
		}

		w.wantMetric("misconfigured", 0)
		w.wantMetric("errors", 0)
	})

	t.Run("and the state changes", func(t *testing.T) {
		compiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
			x := beginSave(w)
			w.follow(doc(1, appWithLongBodies()))
			w.answerPoll(200, doc(2, appIn(maintenance.Off)))

			w.run(firstByteTimeout + 100*time.Millisecond)
			x.send("_method=DELETE", true)
			passed(t, x.view())
			w.wantMetric("misconfigured", 0)
		})
	})

	t.Run("misconfigured", func(t *testing.T) {
		compiled(t, setup{config: bootstrapConfig, headersGoOn: true}, func(t *testing.T, w *world) {
			x := beginSave(w)
			w.follow(doc(1, appWithLongBodies()))
			x.send("name=x", true)
			passed(t, x.view())

			y := w.beginGraphQL()
			w.run(firstByteTimeout + 100*time.Millisecond)
			refused(t, y.view(), maintenance.RuleBodyTimeout)
			w.wantMetric("misconfigured", 1)
		})
	})
}

func TestUnknownPolicyDecidesAfterBootWait(t *testing.T) {
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

				w.tick() // From here on a state can arrive.
				w.run(1450 * time.Millisecond)
				paused(t, get.view())
				paused(t, post.view())
				w.wantMetric("unknown", 0)

				w.run(50 * time.Millisecond)
				check(get.view(), c.get)
				check(post.view(), c.post)
				w.wantMetric("unknown", 2)

				check(w.request("GET", "/", ""), c.get)
				check(w.request("POST", "/cart", "x"), c.post)
				w.wantMetric("unknown", 4)

				w.run(10 * time.Second)
				if n := w.countLogged("no state arrived within 1.5s"); n != 1 {
					t.Errorf("logged %d times: %q", n, w.logged())
				}
				w.wantMetric("errors", 0)

				// A state that arrives late is in force from then on.
				w.answerPoll(200, doc(1, appIn(maintenance.Off)))
				passed(t, w.request("POST", "/cart", "x"))
				w.wantMetric("unknown", 4)
			})
		})
	}
}
