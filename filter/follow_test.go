//go:build !wasm

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// A poll names what the plugin has, and is made again as soon as it was answered.
func TestPoll(t *testing.T) {
	everywhere(t, setup{config: `{"name": "edge", "controller": {"cluster": "drydock", "authority": "drydock.example"}}`}, func(t *testing.T, w *world) {
		if n := len(w.calls()); n != 0 {
			t.Fatalf("the start of the plugin made %d calls", n)
		}
		w.tick()
		c, ask := w.poll()
		want := map[string]string{":method": "POST", ":path": "/proxy/v1/sync", ":authority": "drydock.example", ":scheme": "http",
			"content-type": "application/json", "authorization": "Bearer " + token}
		delete(c.headers, "content-length")
		if !maps.Equal(c.headers, want) {
			t.Errorf("got %v, want %v", c.headers, want)
		}
		if c.timeout != 0 && c.timeout != 30*time.Second {
			t.Errorf("the proxy gives up after %v, want 5 s past the wait", c.timeout)
		}
		if len(ask.Proxy) != 32 || ask.Wait != 25 || ask.Version != (maintenance.Version{}) {
			t.Errorf("asked by %s", c.body)
		}
		proxy := ask.Proxy

		w.say(200, doc(7, in(maintenance.Off)))
		if _, ask = w.poll(); ask.Version != (maintenance.Version{Epoch: 1, Revision: 7}) || ask.Proxy != proxy {
			t.Errorf("then asked %+v", ask)
		}
		w.run(25 * time.Second)
		w.poll()
		w.say(204, "")
		if _, ask = w.poll(); ask.Revision != 7 {
			t.Errorf("after 204 asked %+v", ask)
		}
		w.run(time.Second)
		w.say(200, doc(8, in(maintenance.NoAccess)))
		if _, ask = w.poll(); ask.Revision != 8 {
			t.Errorf("then asked %+v", ask)
		}
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		w.want("errors", 0)
		if lines := w.logged(); len(lines) != 0 {
			t.Error(lines)
		}
	})
}

// A controller that has nothing new and says so at once is not asked in a loop.
func TestPollIsPaced(t *testing.T) {
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, in(maintenance.Off)))
		polls := 0
		for range 100 {
			w.run(tickPeriod)
			if w.polls() {
				polls++
				w.say(204, "")
			}
		}
		if polls < 4 || polls > 6 {
			t.Errorf("%d polls in 5 s, want about one a second", polls)
		}
	})
}

// Whatever the controller answers that is no state, the last good one stays, the poll
// is repeated with growing pauses, and the error is counted each time and logged once.
func TestPollFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		log    string
	}{
		{"no answer", 0, "", "cannot be reached"},
		{"unauthorized", 401, "{}", "status 401"},
		{"broken", 500, "", "status 500"},
		{"proxy's timeout", 504, "upstream request timeout", "status 504"},
		{"elsewhere", 302, "", "status 302"},
		{"empty", 200, "", "reading the state"},
		{"not JSON", 200, "<html>", "is refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
				w.follow(doc(5, in(maintenance.NoAccess)))
				w.say(c.status, c.body)
				var pauses []time.Duration
				pause := time.Duration(0)
				for len(pauses) < 7 && pause < time.Minute {
					w.run(tickPeriod)
					if pause += tickPeriod; w.polls() {
						pauses = append(pauses, pause)
						pause = 0
						w.say(c.status, c.body)
					}
				}
				for i, p := range pauses {
					least := min(100*time.Millisecond<<i, maxBackoff)
					if p < least || p > least*3/2+2*tickPeriod {
						t.Errorf("pause %d is %v, want %v and at most half as much again", i, p, least)
					}
				}
				if len(pauses) < 7 {
					t.Fatalf("polled after %v, and no more", pauses)
				}
				refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
				if n := w.complaints(c.log); n != 1 {
					t.Errorf("logged %d times, want once: %q", n, w.logged())
				}
				if errors := w.metric("drydock.edge.errors"); errors != 8 {
					t.Errorf("errors = %d, want 8", errors)
				}

				w.run(maxBackoff * 2)
				w.say(200, doc(6, in(maintenance.Off)))
				passed(t, w.request("GET", "/", ""))
				w.say(c.status, c.body)
				if n := w.complaints(c.log); n != 2 {
					t.Errorf("logged %d times after the controller was back and away again, want 2", n)
				}
			})
		})
	}
}

// A document that is not understood is refused whole. It is counted and logged once, and
// not asked for again until there is a newer one or the poll's wait is over.
func TestBadDocument(t *testing.T) {
	const unknownField = `{"epoch":1,"revision":9,"apps":[{"name":"default","activations":[],"moon_phase":3}]}`
	for _, c := range []struct {
		name, bad string
		ask       maintenance.Version // the next poll's
		again     int                 // how often it is counted when it comes again
	}{
		{"of a newer controller", unknownField, maintenance.Version{Epoch: 1, Revision: 9}, 1},
		{"of a new epoch", strings.Replace(unknownField, `"epoch":1`, `"epoch":3`, 1), maintenance.Version{Epoch: 3, Revision: 9}, 1},
		{"with a bad CIDR", doc(6, maintenance.App{Spec: maintenance.Spec{Bypass: maintenance.Bypass{IPs: []string{"10.0.0.0/99"}}}}), maintenance.Version{Epoch: 1, Revision: 6}, 1},
		{"cut off", unknownField[:40], maintenance.Version{Epoch: 1, Revision: 9}, 1},
		{"without a version", `{"apps":[`, maintenance.Version{Epoch: 1, Revision: 5}, 2},
		{"with an old version", `{"epoch":1,"revision":2,"apps":[3]}`, maintenance.Version{Epoch: 1, Revision: 5}, 2},
		{"with a version past all", `{"epoch":99999999999999999999999,"revision":2,"apps":[3]}`, maintenance.Version{Epoch: 1<<64 - 1, Revision: 2}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
				w.follow(doc(5, in(maintenance.NoAccess)))
				w.say(200, c.bad)
				refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
				w.want("errors", 1)
				if n := w.complaints("is refused"); n != 1 {
					t.Fatalf("logged %d times: %q", n, w.logged())
				}
				w.run(300 * time.Millisecond)
				if _, ask := w.poll(); ask.Version != c.ask {
					t.Errorf("asks for what is newer than %+v, want %+v", ask.Version, c.ask)
				}
				// The number may be as wrong as the rest: after one wait, it is asked for again.
				w.run(25 * time.Second)
				w.say(204, "")
				w.run(time.Second)
				if _, ask := w.poll(); ask.Revision != 5 || ask.Epoch != 1 {
					t.Errorf("after the wait asks %+v", ask.Version)
				}
				w.say(200, c.bad)
				w.want("errors", c.again)
				if n := w.complaints("is refused"); n != c.again {
					t.Errorf("logged %d times: %q", n, w.logged())
				}
				w.run(300 * time.Millisecond)
				if c.ask.Epoch < 9 { // the controller would not answer with less than it was asked
					w.say(200, docs(9, 9, in(maintenance.Off)))
					passed(t, w.request("GET", "/", ""))
				}
			})
		})
	}
}

// The first state may be the one that is not understood: then there is none.
func TestBadFirstDocument(t *testing.T) {
	everywhere(t, setup{config: `{"name": "edge", "unknown": "deny"}`}, func(t *testing.T, w *world) {
		w.follow(`{"epoch":3,"revision":1200,"apps":[],"later":1}`)
		w.run(3 * time.Second)
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		if _, ask := w.poll(); ask.Version != (maintenance.Version{Epoch: 3, Revision: 1200}) {
			t.Errorf("asks %+v", ask.Version)
		}
		w.want("errors", 1)
		w.want("unknown", 1)
		w.say(200, docs(3, 1201, in(maintenance.Off)))
		passed(t, w.request("GET", "/", ""))
	})
}

// A proxy never goes back.
func TestNeverBack(t *testing.T) {
	for _, c := range []struct {
		name            string
		epoch, revision uint64
		adopted         bool
	}{
		{"older revision", 2, 4, false},
		{"the same", 2, 5, false},
		{"lower epoch", 1, 900, false},
		{"newer revision", 2, 6, true},
		{"new epoch, lower revision", 3, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
				w.follow(docs(2, 5, in(maintenance.NoAccess)))
				w.say(200, docs(c.epoch, c.revision, in(maintenance.Off)))
				v := w.request("GET", "/", "")
				if c.adopted {
					passed(t, v)
					w.want("errors", 0)
				} else {
					refused(t, v, maintenance.RuleNoAccess)
					w.want("errors", 1)
					if n := w.complaints("not newer than the current one"); n != 1 {
						t.Errorf("logged %q", w.logged())
					}
					if w.polls() {
						t.Error("polled at once")
					}
				}
				w.run(time.Second)
				want := maintenance.Version{Epoch: 2, Revision: 5}
				if c.adopted {
					want = maintenance.Version{Epoch: c.epoch, Revision: c.revision}
				}
				if a := w.lastAck(); a.Version != want {
					t.Errorf("enforces %+v, want %+v", a.Version, want)
				}
			})
		})
	}
}

// Acks go at once, then every second, and say how many requests are not done.
func TestAcks(t *testing.T) {
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.run(time.Second)
		if len(w.acks) != 0 {
			t.Fatalf("acknowledged %+v before there was a state", w.acks)
		}
		w.say(200, doc(1, in(maintenance.Off)))
		first := w.lastAck()
		_, ask := w.poll()
		if len(w.acks) != 1 || first.Revision != 1 || first.Epoch != 1 || first.Proxy != ask.Proxy || len(first.VM) != 32 || first.VM == first.Proxy ||
			first.Node != "gateway-7" || first.Time != begin.Add(time.Second).UnixMilli() || first.Requests != 0 {
			t.Fatalf("got %+v", w.acks)
		}
		w.run(10 * time.Second)
		if n := len(w.acks) - 1; n < 9 || n > 10 {
			t.Errorf("%d heartbeats in 10 s", n)
		}

		// Requests that were let through count until they are done; one that is held does not.
		streams := []exchange{w.begin("GET", "/", true), w.begin("POST", "/upload", false), w.begin("GET", "/", true)}
		w.say(200, doc(2, in(maintenance.ReadOnly)))
		streams = append(streams, w.begin("POST", "/graphql", false, "content-type", "application/json"))
		w.run(2 * time.Second)
		if a := w.lastAck(); a.Requests != 3 || a.Revision != 2 || a.VM != first.VM {
			t.Errorf("got %+v, want 3 requests", a)
		}
		streams[3].send(aQuery, true)
		w.run(2 * time.Second)
		if a := w.lastAck(); a.Requests != 4 {
			t.Errorf("got %+v, want 4 requests when the held one was let go", a)
		}
		refused(t, w.request("POST", "/cart", "x"), maintenance.RuleMethod)
		streams = append(streams, w.begin("POST", "/cart", false))
		w.run(2 * time.Second)
		if a := w.lastAck(); a.Requests != 4 {
			t.Errorf("got %+v, want 4 requests beside one that is being refused", a)
		}
		for _, x := range streams {
			x.end()
		}
		w.request("GET", "/", "")
		w.run(1500 * time.Millisecond)
		if a := w.lastAck(); a.Requests != 0 {
			t.Errorf("got %+v, want no requests", a)
		}
	})
}

// An ack that fails is not repeated before the next is due, and harms nothing.
func TestAckFailsCompiled(t *testing.T) {
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, in(maintenance.NoAccess)))
		for _, status := range []int{0, 401, 422, 500} {
			w.pass(time.Second)
			w.rig.tick()
			acks := w.asks(maintenance.AckPath)
			if len(acks) != 1 {
				t.Fatalf("%d acks wait", len(acks))
			}
			w.rig.answer(acks[0], status, "")
			w.rig.tick()
			if n := len(w.asks(maintenance.AckPath)); n != 0 {
				t.Errorf("after %d there were %d acks at once", status, n)
			}
		}
		refused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
	})
}

// While the cluster is unknown (its discovery is not done) or has no healthy host, the
// poll is tried again; at boot often, so that no request waits in vain.
func TestNoClusterCompiled(t *testing.T) {
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		host := on(w).host
		host.RemoveCluster("drydock")
		x := w.begin("GET", "/", true)
		w.run(1600 * time.Millisecond)
		if n := len(w.logged()); n != 0 {
			t.Errorf("complained while booting: %q", w.logged())
		}
		host.SetCluster("drydock", nil)
		w.run(350 * time.Millisecond)
		w.say(200, doc(1, in(maintenance.NoAccess)))
		refused(t, x.view(), maintenance.RuleNoAccess)

		// Later: acks and polls fail, each is logged once.
		w.say(500, "")
		host.RemoveCluster("drydock")
		w.run(20 * time.Second)
		if poll, ack := w.complaints("polling cluster"), w.complaints("acknowledging"); poll != 1 || ack != 1 {
			t.Errorf("logged %d and %d times, want once each: %q", poll, ack, w.logged())
		}
		host.SetCluster("drydock", nil)
		w.run(maxBackoff * 2)
		w.say(200, doc(2, in(maintenance.Off)))
		passed(t, w.request("GET", "/", ""))
	})
}

// state_age is the time since the controller last answered, or since the start.
func TestStateAge(t *testing.T) {
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.run(7 * time.Second)
		if age := w.metric("drydock.edge.state_age"); age < 5 || age > 7 {
			t.Errorf("state_age = %d after 7 s without a controller", age)
		}
		w.want("revision", 0)
		w.say(200, doc(1234, in(maintenance.Off)))
		w.run(time.Second)
		w.want("revision", 1234)
		if age := w.metric("drydock.edge.state_age"); age > 1 {
			t.Errorf("state_age = %d a second after the controller's answer", age)
		}
		w.say(0, "")
		w.run(100 * time.Second)
		if age := w.metric("drydock.edge.state_age"); age < 98 || age > 101 {
			t.Errorf("state_age = %d after 101 s", age)
		}
		w.want("revision", 1234)
	})
}

// Own pages come by their SHA-256. What is missing, wrong or not wanted any more is not
// shown: the built-in page is.
func TestPages(t *testing.T) {
	const html = "<h1>{{message}}</h1>"
	page := func(html string) maintenance.App {
		a := in(maintenance.NoAccess)
		a.Pages = map[string]string{"": maintenance.PageHash([]byte(html))}
		return a
	}
	visit := func(w *world) string { return w.request("GET", "/", "", "accept", "text/html").reply.body }
	builtin := func(t *testing.T, body string) {
		t.Helper()
		if !strings.Contains(body, "<!doctype html>") && !strings.Contains(body, "<!DOCTYPE html>") {
			t.Errorf("got %q, want the built-in page", body)
		}
	}
	everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
		w.follow(doc(1, page(html)))
		w.tick()
		asks := w.asks(maintenance.PagePath)
		if len(asks) != 1 || asks[0].path() != maintenance.PagePath+maintenance.PageHash([]byte(html)) || asks[0].headers[":method"] != "GET" || asks[0].headers["authorization"] != "Bearer "+token {
			t.Fatalf("asked for %v", asks)
		}
		builtin(t, visit(w))
		w.answer(asks[0], 200, "<h1>another page</h1>")
		builtin(t, visit(w))
		w.want("errors", 1)
		if w.complaints("is not available") != 1 {
			t.Errorf("logged %q", w.logged())
		}
		w.run(tickPeriod)
		if n := len(w.asks(maintenance.PagePath)); n != 0 {
			t.Errorf("asked again at once for the page")
		}
		w.run(pageRetry)
		asks = w.asks(maintenance.PagePath)
		if len(asks) != 1 {
			t.Fatalf("%d pages asked for after a pause, want 1", len(asks))
		}
		w.answer(asks[0], 200, html)
		if got := visit(w); got != "<h1>Back soon.</h1>" {
			t.Errorf("got %q", got)
		}
		w.run(2 * pageRetry)
		if n := len(w.asks(maintenance.PagePath)); n != 0 {
			t.Errorf("asked again for a page that is there")
		}

		// What a newer state does not name is not waited for, and not kept when it comes.
		w.say(200, doc(2, page("two")))
		w.tick()
		two := w.asks(maintenance.PagePath)
		w.say(200, doc(3, page("three")))
		w.answer(two[0], 200, "two")
		w.tick()
		if asks = w.asks(maintenance.PagePath); len(asks) != 1 || !strings.HasSuffix(asks[0].path(), maintenance.PageHash([]byte("three"))) {
			t.Fatalf("asked for %v", asks)
		}
		w.answer(asks[0], 404, "")
		w.run(3 * pageRetry)
		if asks = w.asks(maintenance.PagePath); len(asks) != 1 || !strings.HasSuffix(asks[0].path(), maintenance.PageHash([]byte("three"))) {
			t.Fatalf("asked for %v", asks)
		}
		w.answer(asks[0], 200, "three")
		if got := visit(w); got != "three" {
			t.Errorf("got %q", got)
		}
	})
}

// Who refuses looks only for the page that it shows, once: what is missing is looked for
// again when the state has changed or a page has come.
func TestMissingPagesAreLookedForOnceCompiled(t *testing.T) {
	reads := 0
	app := in(maintenance.NoAccess)
	app.Pages = map[string]string{}
	hash := func(lang string) string { return maintenance.PageHash([]byte("page in " + lang)) }
	for i := range 30 {
		lang := fmt.Sprintf("%c%c", 'a'+i/26, 'a'+i%26)
		app.Pages[lang] = hash(lang)
	}
	compiled(t, setup{config: holding, trace: func(c wasmhost.Call) {
		if c.Func == "proxy_get_shared_data" && strings.Contains(c.Args, "/page/") {
			reads++
		}
	}}, func(t *testing.T, w *world) {
		visit := func(lang string) string {
			return w.request("GET", "/", "", "accept", "text/html", "accept-language", lang).reply.body
		}
		w.follow(doc(1, app))
		w.tick()
		expect := func(what string, want int) {
			t.Helper()
			if reads != want {
				t.Errorf("%s: %d reads of pages, want %d", what, reads, want)
			}
			reads = 0
		}
		reads = 0
		for range 10 {
			visit("ac")
			w.request("GET", "/", "", "accept", "application/json")
		}
		expect("one page", 1)
		for range 10 {
			visit("ab")
			w.tick()
		}
		expect("another, with ticks", 2) // the first tick learns where the list of pages stands

		first := w.asks(maintenance.PagePath)[0]
		come := ""
		for lang, sha := range app.Pages {
			if strings.HasSuffix(first.path(), sha) {
				come = lang
			}
		}
		w.answer(first, 200, "page in "+come)
		w.tick()
		if got := visit(come); got != "page in "+come {
			t.Errorf("got %q", got)
		}
		reads = 0
		visit(come)
		visit("ab")
		visit("ab")
		expect("after a page has come", 1)
		w.say(200, doc(2, app))
		reads = 0
		visit(come)
		visit("ab")
		visit("ab")
		expect("after the state has changed", 1)
	})
}

// What goes wrong again and again is logged once, also where it alternates with something
// of the same kind, and however long it lasts.
func TestErrorsThatAlternateAreLoggedOnceCompiled(t *testing.T) {
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		app := in(maintenance.NoAccess)
		app.Pages = map[string]string{"de": strings.Repeat("1", 64), "fr": strings.Repeat("2", 64)}
		w.follow(doc(1, app))
		for range 40 {
			w.run(pageRetry)
			for _, c := range w.asks(maintenance.PagePath) {
				w.answer(c, 404, "")
			}
			if w.polls() {
				w.say(204, "")
			}
		}
		w.want("errors", 40)
		if n := w.complaints("is not available"); n != 2 {
			t.Errorf("logged %d times, want once for each page: %q", n, w.logged())
		}
	})
}

// However many errors differ, the log has a bound.
func TestManyDifferentErrorsAreBoundedCompiled(t *testing.T) {
	compiled(t, setup{config: holding}, func(t *testing.T, w *world) {
		app := in(maintenance.NoAccess)
		app.Pages = map[string]string{}
		for i := range 100 {
			app.Pages[fmt.Sprintf("%c%c", 'a'+i/26, 'a'+i%26)] = maintenance.PageHash([]byte(fmt.Sprint(i)))
		}
		w.follow(doc(1, app))
		for range 100 {
			w.run(pageRetry)
			w.answer(w.asks(maintenance.PagePath)[0], 404, "")
		}
		w.want("errors", 100)
		if n := w.complaints(""); n != maxErrorTexts+1 || w.complaints("not logged") != 1 {
			t.Errorf("logged %d times, want %d, the last of which says that there are more", n, maxErrorTexts+1)
		}
	})
}

// Pages leave shared data, and each VM's memory, with the last state that names them,
// whichever VM led meanwhile.
func TestPagesAreDroppedCompiled(t *testing.T) {
	p := newProcess(t, setup{config: holding})
	all := p.workers(2)
	stored := func() (n int) {
		for _, key := range p.host.SharedKeys("") {
			if html, _, _ := p.host.SharedData("", key); strings.Contains(key, "/page/") && len(html) > 0 {
				n++
			}
		}
		return n
	}
	page := func(i int) string { return fmt.Sprint(strings.Repeat("x", 100_000), i) }
	p.dies = true
	each(all)
	const revisions = 60
	var first uint32
	for i := range revisions {
		l := leader(t, all)
		app := in(maintenance.NoAccess)
		app.Pages = map[string]string{"": maintenance.PageHash([]byte(page(i))), "de": maintenance.PageHash([]byte("de" + page(i)))}
		l.say(200, doc(uint64(i+1), app))
		if i%10 == 5 && i < revisions/2 {
			// The leader goes before it has fetched anything.
			on(l).vm.Crash(errCrash)
			all = slices.DeleteFunc(all, func(w *world) bool { return w == l })
			all = append(all, p.worker("worker"))
			p.runAll(all, 1500*time.Millisecond)
			l = leader(t, all)
		}
		if i%10 == 7 {
			// The next state comes before the pages.
			p.runAll(all, tickPeriod)
			continue
		}
		if i%10 == 8 {
			late := l.asks(maintenance.PagePath)[0]
			html := page(i - 1)
			if !strings.HasSuffix(late.path(), maintenance.PageHash([]byte(html))) {
				html = "de" + html
			}
			l.answer(late, 200, html)
		}
		for range 2 {
			p.runAll(all, tickPeriod)
			asks := l.asks(maintenance.PagePath)
			if len(asks) != 1 {
				t.Fatalf("revision %d: %d pages asked for, want 1", i+1, len(asks))
			}
			html := page(i)
			if !strings.HasSuffix(asks[0].path(), maintenance.PageHash([]byte(html))) {
				html = "de" + html
			}
			l.answer(asks[0], 200, html)
		}
		for _, w := range all {
			if got := w.request("GET", "/", "", "accept", "text/html"); got.reply.body != page(i) {
				t.Fatalf("revision %d: %s", i+1, got)
			}
		}
		if n := stored(); n != 2 {
			t.Fatalf("revision %d: %d pages in shared data, want 2", i+1, n)
		}
		if i == revisions/2 {
			first = on(all[0]).vm.MemorySize()
		}
	}
	// 29 more revisions were 6 MB of pages.
	if last := on(all[0]).vm.MemorySize(); last > first+(2<<20) {
		t.Errorf("memory grew from %d to %d", first, last)
	}
}
