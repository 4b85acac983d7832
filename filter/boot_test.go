//go:build !wasm

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The tests of this file are about the time before the first state. Requests are paused until it
// arrives, but at most for boot_wait (2 s by default), counted from the first tick. Then the policy
// for an unknown state decides.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays.
// The first state arrives when the test answers the plugin's poll, which a tick makes. A request
// that is sent in steps is an exchange, and its outcome is what has become of it so far.

// A request that is paused for the first state is decided by it.
func TestRequestsWaitForTheFirstState(t *testing.T) {
	for _, c := range []struct {
		mode         maintenance.Mode
		method, path string
		body         []string         // its parts; nil if the request ends with its headers
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
				o := x.outcomeSoFar()
				if c.rule != "" {
					wantRefused(t, o, c.rule)
				} else {
					wantPassed(t, o)
					if o.body != body {
						t.Errorf("the upstream saw %q, want %q", o.body, body)
					}
				}

				w.wantMetric("unknown", 0)
				w.wantMetric("errors", 0)
			})
		})
	}
}

// The first state may arrive in the middle of a body. Nothing is lost then, also in Envoy before
// envoyproxy/envoy#46842, which loses the next part of a body that was resumed halfway.
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
				got := x.outcomeSoFar().body
				whole := got == "first, second, third, last"
				if lastPart := got == "last"; !whole && !lastPart { // The emulator shows only the last part.
					t.Errorf("the upstream saw %q", got)
				}
			})

			// The same with no tick after the state, so that the next part meets a request that was
			// resumed by the answer to the poll.
			testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				x := w.begin("POST", c.path, moreFollows, "content-type", c.kind)
				w.tick()

				x.send("first, ", moreFollows)
				w.answerPoll(200, doc(1, appIn(maintenance.Off)))

				x.send("second, ", moreFollows)
				x.send("last", endOfStream)

				if o := x.outcomeSoFar(); o.body != "first, second, last" || !o.ended {
					t.Errorf("the upstream saw %q, to the end: %v", o.body, o.ended)
				}
			})
		})
	}
}

// An upload that is longer than Envoy's buffer is paused, and not answered with 413, whatever its
// type is and whether or not its length is known.
func TestLongUploadWaitsForTheFirstStateCompiled(t *testing.T) {
	const part = 512 << 10 // Four of them are twice what Envoy buffers by default, 1 MiB.

	for _, s := range []setup{
		{config: bootstrapConfig},
		{config: `{"name": "edge"}`, withoutStopIteration: true},
	} {
		for _, c := range []struct{ method, kind, length string }{ // kind is the content type
			{"PUT", "video/mp4", ""},
			{"POST", "multipart/form-data", fmt.Sprint(5 * part)},
			{"POST", "application/json", fmt.Sprint(5 * part)},
			{"POST", "application/json", ""},
			{"POST", "application/x-www-form-urlencoded", ""},
			{"GET", "application/json", ""},
		} {
			name := fmt.Sprintf("%s %s of length %q, without stop iteration: %v", c.method, c.kind, c.length, s.withoutStopIteration)
			t.Run(name, func(t *testing.T) {
				testCompiled(t, s, func(t *testing.T, w *world) {
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
					if o := x.outcomeSoFar(); len(o.body) != 4*part {
						t.Errorf("with the state the upstream saw %d bytes, not all that was paused", len(o.body))
					}

					x.send(strings.Repeat("x", part), endOfStream)
					if o := x.outcomeSoFar(); o.reply != nil || len(o.body) != 5*part || !o.ended {
						t.Errorf("got %v, the upstream saw %d bytes, to the end: %v", o.reply, len(o.body), o.ended)
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
	const (
		unread   = maintenance.RuleBodyUnread // The filter cannot read a part that Envoy holds.
		mutation = maintenance.Rule("graphql.mutation")
	)
	tooMuch := strings.Repeat(" ", maintenance.DefaultMaxBody) + " " // one byte more than is read

	for _, c := range []struct {
		name string
		// before and after are the parts that are sent before and after the first state arrives.
		// The request ends with the last one of after, or with trailers.
		before, after []string
		trailers      bool
		rule          maintenance.Rule // the one that refuses the request, empty if it passes
	}{
		{"its end comes next", []string{aQuery[:9]}, []string{aQuery[9:]}, false, ""},
		{"its end comes later", []string{aQuery[:9], aQuery[9:12]}, []string{aQuery[12:15], aQuery[15:]}, false, ""},
		{"an empty end", []string{aQuery[:9], aQuery[9:]}, []string{""}, false, ""},
		{"a mutation whose end comes next", []string{aMutation[:9]}, []string{aMutation[9:]}, false, mutation},
		{"a mutation whose end comes later", []string{aMutation[:9]}, []string{aMutation[9:12], aMutation[12:]}, false, mutation},
		{"trailers come later", []string{aQuery[:9]}, []string{aQuery[9:]}, true, ""},
		{"a mutation with trailers", []string{aMutation[:9]}, []string{aMutation[9:]}, true, mutation},
		{"trailers alone are left", []string{aQuery}, nil, true, unread},
		{"nothing arrived before", nil, []string{aQuery}, false, ""},
		{"more arrived than is read", []string{tooMuch[1:], tooMuch[:1]}, nil, false, unread},
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
					isLast := i == len(c.after)-1
					x.send(part, isLast && !c.trailers)
				}
				if c.trailers {
					x.sendTrailers()
				}
				w.tick() // A body whose end only a tick can read is decided by the next one.

				o := x.outcomeSoFar()
				if c.rule != "" {
					wantRefused(t, o, c.rule)
					if c.rule == unread && o.reply.headers["retry-after"] != "5" {
						t.Errorf("got %s", o)
					}
				} else {
					wantPassed(t, o)
					if sent := strings.Join(slices.Concat(c.before, c.after), ""); o.body != sent || !o.ended {
						t.Errorf("the upstream saw %q of %q, to the end: %v", o.body, sent, o.ended)
					}
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

// A GET whose headers do not end the request could have a body, as in HTTP/2 before an empty last
// frame. In read-only it is paused until the request ends, which can happen in several ways.
func TestGetWaitsUntilItIsKnownToHaveNoBody(t *testing.T) {
	ends := map[string]func(x exchange){
		"an empty part":                   func(x exchange) { x.send("", endOfStream) },
		"empty parts":                     func(x exchange) { x.send("", moreFollows); x.send("", endOfStream) },
		"trailers":                        func(x exchange) { x.sendTrailers() },
		"an empty part and then trailers": func(x exchange) { x.send("", moreFollows); x.sendTrailers() },
	}

	for _, boot := range []bool{false, true} { // whether the request comes before the first state
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

						o := x.outcomeSoFar()
						wantPassed(t, o)
						if o.body != "" {
							t.Errorf("the upstream saw %q", o.body)
						}
						if s, ok := x.(*compiledExchange); ok && !o.ended {
							t.Errorf("the upstream saw %+v", s.Upstream())
						}

						withBody := w.begin("GET", path, moreFollows)
						withBody.send("GET / HTTP/1.1", moreFollows)
						withBody.send("x", endOfStream)
						if o := withBody.outcomeSoFar(); o.reply == nil || o.headers != nil {
							t.Errorf("with a body: %s", o)
						}

						w.wantMetric("errors", 0)
						w.wantMetric("misconfigured", 0)
					})
				})
			}
		}
	}
}

// appWithLongBodies returns an app in read-only that reads the bodies of unusual requests: of POST
// /save, which may write, unless the body overrides the method; and long GraphQL bodies.
func appWithLongBodies() maintenance.App {
	app := appIn(maintenance.ReadOnly)
	app.ReadOnly.WriteThrough = []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/save"}}
	app.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: 4 << 20}
	return app
}

// beginSave begins a request whose body the filter does not expect to be needed, because it is
// announced as longer than states read by default. appWithLongBodies reads it all the same.
func beginSave(w *world) exchange {
	return w.begin("POST", "/save", moreFollows, "content-type", "application/x-www-form-urlencoded", "content-length", "2000000")
}

// A request that comes before the first state is paused with its headers and its body, unless a
// state is likely to read the body. If the state needs the body nevertheless, the headers go on and
// only the body is paused, since Envoy shows the filter no body before.
func TestUnexpectedlyNeededBodyLetsHeadersGoOnCompiled(t *testing.T) {
	for _, c := range []struct {
		body string
		rule maintenance.Rule
	}{
		{"name=x", ""},
		{"_method=DELETE", maintenance.RuleWriteBody}, // Frameworks take this for a DELETE.
	} {
		testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
			x := beginSave(w)
			x.send(c.body, endOfStream)

			w.tick()
			wantPaused(t, x.outcomeSoFar())
			w.answerPoll(200, doc(1, appWithLongBodies()))

			o := x.outcomeSoFar()
			if o.headers == nil {
				t.Error("the headers did not go on")
			}
			if c.rule == "" {
				wantPassed(t, o)
				if o.body != c.body || !o.ended {
					t.Errorf("the upstream saw %q, to the end: %v", o.body, o.ended)
				}
			} else {
				o.headers = nil // wantRefused expects that the upstream saw none.
				wantRefused(t, o, c.rule)
				if o.ended {
					t.Error("the upstream saw the end of a refused request")
				}
			}

			w.wantMetric("errors", 0)
		})
	}
}

// The filter takes the bodies of requests whose headers are paused for a sign that Envoy's
// configuration agrees with the plugin's. A request whose headers have gone on proves nothing: if
// its body does not arrive, that does not count as a misconfiguration, and if it arrives, that does
// not prove that the configuration is right.
func TestUnexpectedlyNeededBodyDoesNotCountAsMisconfiguredCompiled(t *testing.T) {
	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		x := beginSave(w)
		w.startWith(doc(1, appWithLongBodies()))
		w.runFor(firstByteTimeout + 2*tickPeriod)
		if o := x.outcomeSoFar(); o.reply == nil || !strings.HasSuffix(o.note, string(maintenance.RuleBodyTimeout)) {
			t.Errorf("got %s", o)
		}

		w.wantMetric("misconfigured", 0)
		w.wantMetric("errors", 0)
	})

	t.Run("another state needs no body", func(t *testing.T) {
		testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
			x := beginSave(w)
			w.startWith(doc(1, appWithLongBodies()))
			w.answerPoll(200, doc(2, appIn(maintenance.Off)))

			w.runFor(firstByteTimeout + 2*tickPeriod)
			x.send("_method=DELETE", endOfStream)
			wantPassed(t, x.outcomeSoFar())
			w.wantMetric("misconfigured", 0)
		})
	})

	t.Run("a body arrives although the configuration is wrong", func(t *testing.T) {
		testCompiled(t, setup{config: bootstrapConfig, withoutStopIteration: true}, func(t *testing.T, w *world) {
			x := beginSave(w)
			w.startWith(doc(1, appWithLongBodies()))
			x.send("name=x", endOfStream)
			wantPassed(t, x.outcomeSoFar())

			withPausedHeaders := w.beginGraphQL()
			w.runFor(firstByteTimeout + 2*tickPeriod)
			wantRefused(t, withPausedHeaders.outcomeSoFar(), maintenance.RuleBodyTimeout)
			w.wantMetric("misconfigured", 1)
		})
	})
}

// If no state has arrived after boot_wait, the policy for an unknown state decides the requests
// that are paused and those that come, until a state arrives.
func TestUnknownPolicyDecidesAfterBootWait(t *testing.T) {
	for _, c := range []struct {
		unknown   string           // the policy
		get, post maintenance.Rule // which rule refuses GET / and POST /cart, empty if they pass
	}{
		{"allow", "", ""},
		{"read-only", "", maintenance.RuleMethod},
		{"deny", maintenance.RuleNoAccess, maintenance.RuleNoAccess},
	} {
		t.Run(c.unknown, func(t *testing.T) {
			testEverywhere(t, setup{config: `{"name": "edge", "boot_wait": 1.5, "unknown": "` + c.unknown + `"}`}, func(t *testing.T, w *world) {
				check := func(o outcome, rule maintenance.Rule) {
					t.Helper()
					if rule == "" {
						wantPassed(t, o)
						return
					}
					wantRefused(t, o, rule)
					if got := o.reply.headers["retry-after"]; got != "5" {
						t.Errorf("retry-after is %q, want 5", got)
					}
				}

				get, post := w.begin("GET", "/", endOfStream), w.begin("POST", "/cart", moreFollows)
				w.tick() // boot_wait, 1.5 s, begins with the first tick.
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
