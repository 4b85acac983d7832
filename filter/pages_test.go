//go:build !wasm

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// Own pages come by their SHA-256. What is missing, wrong or not wanted any more is not
// shown: the built-in page is.
func TestPagesAreFetchedByHash(t *testing.T) {
	const html = "<h1>{{message}}</h1>"
	page := func(html string) maintenance.App {
		a := appIn(maintenance.NoAccess)
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
	everywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.follow(doc(1, page(html)))
		w.tick()
		asks := w.pending(maintenance.PagePath)
		if len(asks) != 1 || asks[0].path() != maintenance.PagePath+maintenance.PageHash([]byte(html)) || asks[0].headers[":method"] != "GET" || asks[0].headers["authorization"] != "Bearer "+token {
			t.Fatalf("asked for %v", asks)
		}
		builtin(t, visit(w))
		w.answer(asks[0], 200, "<h1>another page</h1>")
		builtin(t, visit(w))
		w.wantMetric("errors", 1)
		if w.countLogged("is not available") != 1 {
			t.Errorf("logged %q", w.logged())
		}
		w.run(tickPeriod)
		if n := len(w.pending(maintenance.PagePath)); n != 0 {
			t.Errorf("asked again at once for the page")
		}
		w.run(pageRetry)
		asks = w.pending(maintenance.PagePath)
		if len(asks) != 1 {
			t.Fatalf("%d pages asked for after a pause, want 1", len(asks))
		}
		w.answer(asks[0], 200, html)
		if got := visit(w); got != "<h1>Back soon.</h1>" {
			t.Errorf("got %q", got)
		}
		w.run(2 * pageRetry)
		if n := len(w.pending(maintenance.PagePath)); n != 0 {
			t.Errorf("asked again for a page that is there")
		}

		// What a newer state does not name is not waited for, and not kept when it comes.
		w.answerPoll(200, doc(2, page("two")))
		w.tick()
		two := w.pending(maintenance.PagePath)
		w.answerPoll(200, doc(3, page("three")))
		w.answer(two[0], 200, "two")
		w.tick()
		if asks = w.pending(maintenance.PagePath); len(asks) != 1 || !strings.HasSuffix(asks[0].path(), maintenance.PageHash([]byte("three"))) {
			t.Fatalf("asked for %v", asks)
		}
		w.answer(asks[0], 404, "")
		w.run(3 * pageRetry)
		if asks = w.pending(maintenance.PagePath); len(asks) != 1 || !strings.HasSuffix(asks[0].path(), maintenance.PageHash([]byte("three"))) {
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
func TestMissingPageIsReadOnceCompiled(t *testing.T) {
	reads := 0
	app := appIn(maintenance.NoAccess)
	app.Pages = map[string]string{}
	hash := func(lang string) string { return maintenance.PageHash([]byte("page in " + lang)) }
	for i := range 30 {
		lang := fmt.Sprintf("%c%c", 'a'+i/26, 'a'+i%26)
		app.Pages[lang] = hash(lang)
	}
	compiled(t, setup{config: bootstrapConfig, trace: func(c wasmhost.Call) {
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

		first := w.pending(maintenance.PagePath)[0]
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
		w.answerPoll(200, doc(2, app))
		reads = 0
		visit(come)
		visit("ab")
		visit("ab")
		expect("after the state has changed", 1)
	})
}

// Pages leave shared data, and each VM's memory, with the last state that names them,
// whichever VM led meanwhile.
func TestPagesAreDroppedCompiled(t *testing.T) {
	p := newProcess(t, setup{config: bootstrapConfig})
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
	p.crashes = true
	tickAll(all)
	const revisions = 60
	var first uint32
	for i := range revisions {
		l := leader(t, all)
		app := appIn(maintenance.NoAccess)
		app.Pages = map[string]string{"": maintenance.PageHash([]byte(page(i))), "de": maintenance.PageHash([]byte("de" + page(i)))}
		l.answerPoll(200, doc(uint64(i+1), app))
		if i%10 == 5 && i < revisions/2 {
			// The leader goes before it has fetched anything.
			rigOf(l).vm.Crash(errCrash)
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
			late := l.pending(maintenance.PagePath)[0]
			html := page(i - 1)
			if !strings.HasSuffix(late.path(), maintenance.PageHash([]byte(html))) {
				html = "de" + html
			}
			l.answer(late, 200, html)
		}
		for range 2 {
			p.runAll(all, tickPeriod)
			asks := l.pending(maintenance.PagePath)
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
			first = rigOf(all[0]).vm.MemorySize()
		}
	}
	// 29 more revisions were 6 MB of pages.
	if last := rigOf(all[0]).vm.MemorySize(); last > first+(2<<20) {
		t.Errorf("memory grew from %d to %d", first, last)
	}
}
