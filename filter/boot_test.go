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
			testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				x := w.begin(c.method, c.path, c.body == nil, "content-type", "application/json")
				body := ""
				for i, part := range c.body {
					x.send(part, i == len(c.body)-1)
					body += part
				}

				wantPaused(t, x.outcomeSoFar())
				w.runFor(time.Second)
				wantPaused(t, x.outcomeSoFar())

				w.answerPoll(200, doc(1, appIn(c.mode)))

				if c.rule != "" {
					wantRefused(t, x.outcomeSoFar(), c.rule)
				} else if wantPassed(t, x.outcomeSoFar()); x.outcomeSoFar().body != body {
					t.Errorf("the upstream saw %q, want %q", x.outcomeSoFar().body, body)
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
			testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				x := w.begin("POST", c.path, moreFollows, "content-type", c.kind)

				w.tick()
				x.send("first, ", moreFollows)
				x.send("second, ", moreFollows)
				wantPaused(t, x.outcomeSoFar())

				w.answerPoll(200, doc(1, appIn(maintenance.Off)))
				w.tick()

				x.send("third, ", moreFollows)
				x.send("last", endOfStream)
				wantPassed(t, x.outcomeSoFar())
				if got := x.outcomeSoFar().body; !strings.HasSuffix(got, "last") || len(got) > 4 && got != "first, second, third, last" {
					t.Errorf("the upstream saw %q", got)
				}
			})

			// The emulator shows only the last part that went on.
			testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				x := w.begin("POST", c.path, moreFollows, "content-type", c.kind)
				w.tick()

				x.send("first, ", moreFollows)
				w.answerPoll(200, doc(1, appIn(maintenance.Off)))

				x.send("second, ", moreFollows)
				x.send("last", endOfStream)

				if v := x.outcomeSoFar(); v.body != "first, second, last" || !v.ended {
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
				testCompiled(t, setup{config: config, headersGoOn: headersGoOn}, func(t *testing.T, w *world) {
					headers := []string{"content-type", c.kind}
					if c.length != "" {
						headers = append(headers, "content-length", c.length)
					}

					x := w.begin(c.method, "/upload", moreFollows, headers...)

					w.tick()
					for range 4 {
						x.send(strings.Repeat("x", part), moreFollows)
					}

					wantPaused(t, x.outcomeSoFar())

					w.answerPoll(200, doc(1, appIn(maintenance.Off)))
					if v := x.outcomeSoFar(); len(v.body) != 4*part {
						t.Errorf("with the state the upstream saw %d bytes, not all that was paused", len(v.body))
					}

					x.send(strings.Repeat("x", part), endOfStream)
					if v := x.outcomeSoFar(); v.reply != nil || len(v.body) != 5*part || !v.ended {
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
			testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				x := w.beginGraphQL()

				w.tick()
				for _, part := range c.before {
					x.send(part, moreFollows)
				}

				w.answerPoll(200, doc(1, appIn(maintenance.ReadOnly)))

				for i, part := range c.after {
					wantPaused(t, x.outcomeSoFar())
					w.tick()
					x.send(part, i == len(c.after)-1 && !c.trailers)
				}

				if c.trailers {
					x.sendTrailers()
				}

				w.tick()

				v := x.outcomeSoFar()
				if c.rule != "" {
					if wantRefused(t, v, c.rule); c.rule == unread && v.reply.headers["retry-after"] != "5" {
						t.Errorf("got %s", v)
					}
				} else if wantPassed(t, v); v.body != strings.Join(append(c.before, c.after...), "") || !v.ended {
					t.Errorf("the upstream saw %q, to the end: %v", v.body, v.ended)
				}

				x.disconnect()
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
		"an empty part":                   func(x exchange) { x.send("", endOfStream) },
		"empty parts":                     func(x exchange) { x.send("", moreFollows); x.send("", endOfStream) },
		"trailers":                        func(x exchange) { x.sendTrailers() },
		"an empty part and then trailers": func(x exchange) { x.send("", moreFollows); x.sendTrailers() },
	}

	for _, boot := range []bool{false, true} {
		for name, end := range ends {
			for _, path := range []string{"/", "/graphql?query={cart{id}}"} {
				t.Run(fmt.Sprintf("%s, boot %v, %s", name, boot, path), func(t *testing.T) {
					testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
						if !boot {
							w.startWith(doc(1, appIn(maintenance.ReadOnly)))
						}

						x := w.begin("GET", path, moreFollows)
						wantPaused(t, x.outcomeSoFar())
						end(x)
						if boot {
							wantPaused(t, x.outcomeSoFar())
							w.startWith(doc(1, appIn(maintenance.ReadOnly)))
						}

						v := x.outcomeSoFar()
						if wantPassed(t, v); v.body != "" {
							t.Errorf("the upstream saw %q", v.body)
						}
						if s, ok := x.(*compiledExchange); ok && !v.ended {
							t.Errorf("the upstream saw %+v", s.Upstream())
						}

						y := w.begin("GET", path, moreFollows)
						y.send("GET / HTTP/1.1", moreFollows)
						y.send("x", endOfStream)
						if v := y.outcomeSoFar(); v.reply == nil || v.headers != nil {
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
	return w.begin("POST", "/save", moreFollows, "content-type", "application/x-www-form-urlencoded", "content-length", "2000000")
}

// A state may need a body that was not expected to be needed. Then the headers go on and only the
// body is paused.
func TestUnexpectedlyNeededBodyLetsHeadersGoOnCompiled(t *testing.T) {
	for _, c := range []struct {
		body string
		rule maintenance.Rule
	}{{"name=x", ""}, {"_method=DELETE", maintenance.RuleWriteBody}} {

		testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
			x := beginSave(w)
			x.send(c.body, endOfStream)

			w.tick()
			wantPaused(t, x.outcomeSoFar())
			w.answerPoll(200, doc(1, appWithLongBodies()))

			v := x.outcomeSoFar()

			if v.headers == nil {
				t.Error("the headers did not go on")
			}

			if c.rule == "" {
				if wantPassed(t, v); v.body != c.body || !v.ended {
					t.Errorf("the upstream saw %q", v.body)
				}
			} else {
				v.headers = nil
				if wantRefused(t, v, c.rule); v.ended {
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
	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		x := beginSave(w)
		w.startWith(doc(1, appWithLongBodies()))

		w.runFor(firstByteTimeout + 100*time.Millisecond)

		if v := x.outcomeSoFar(); v.reply == nil || !strings.HasSuffix(v.note, string(maintenance.RuleBodyTimeout)) {
			t.Errorf("got %s", v)
		}

		w.wantMetric("misconfigured", 0)
		w.wantMetric("errors", 0)
	})

	t.Run("and the state changes", func(t *testing.T) {
		testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
			x := beginSave(w)
			w.startWith(doc(1, appWithLongBodies()))
			w.answerPoll(200, doc(2, appIn(maintenance.Off)))

			w.runFor(firstByteTimeout + 100*time.Millisecond)
			x.send("_method=DELETE", endOfStream)
			wantPassed(t, x.outcomeSoFar())
			w.wantMetric("misconfigured", 0)
		})
	})

	t.Run("misconfigured", func(t *testing.T) {
		testCompiled(t, setup{config: bootstrapConfig, headersGoOn: true}, func(t *testing.T, w *world) {
			x := beginSave(w)
			w.startWith(doc(1, appWithLongBodies()))
			x.send("name=x", endOfStream)
			wantPassed(t, x.outcomeSoFar())

			y := w.beginGraphQL()
			w.runFor(firstByteTimeout + 100*time.Millisecond)
			wantRefused(t, y.outcomeSoFar(), maintenance.RuleBodyTimeout)
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
			testEverywhere(t, setup{config: `{"name": "edge", "boot_wait": 1.5, "unknown": "` + c.unknown + `"}`}, func(t *testing.T, w *world) {
				check := func(v outcome, rule maintenance.Rule) {
					t.Helper()
					if rule == "" {
						wantPassed(t, v)
					} else if wantRefused(t, v, rule); v.reply.headers["retry-after"] != "5" {
						t.Errorf("retry-after is %q", v.reply.headers["retry-after"])
					}
				}

				get, post := w.begin("GET", "/", endOfStream), w.begin("POST", "/cart", moreFollows)

				w.tick() // From here on a state can arrive.
				w.runFor(1450 * time.Millisecond)
				wantPaused(t, get.outcomeSoFar())
				wantPaused(t, post.outcomeSoFar())
				w.wantMetric("unknown", 0)

				w.runFor(50 * time.Millisecond)
				check(get.outcomeSoFar(), c.get)
				check(post.outcomeSoFar(), c.post)
				w.wantMetric("unknown", 2)

				check(w.request("GET", "/", ""), c.get)
				check(w.request("POST", "/cart", "x"), c.post)
				w.wantMetric("unknown", 4)

				w.runFor(10 * time.Second)
				if n := w.countLogged("no state arrived within 1.5s"); n != 1 {
					t.Errorf("logged %d times: %q", n, w.logged())
				}
				w.wantMetric("errors", 0)

				// A state that arrives late is in force from then on.
				w.answerPoll(200, doc(1, appIn(maintenance.Off)))
				wantPassed(t, w.request("POST", "/cart", "x"))
				w.wantMetric("unknown", 4)
			})
		})
	}
}
