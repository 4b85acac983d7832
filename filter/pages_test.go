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

// The operators' pages are fetched by their SHA-256. While a page is missing or wrong, the built-in
// page is shown.
func TestPagesAreFetchedByHash(t *testing.T) {
	const html = "<h1>{{message}}</h1>"
	builtin := func(t *testing.T, body string) {
		t.Helper()
		if !strings.Contains(body, "<!doctype html>") && !strings.Contains(body, "<!DOCTYPE html>") {
			t.Errorf("got %q, want the built-in page", body)
		}
	}

	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appWithPage(html)))
		w.tick()
		requested := w.pendingTo(maintenance.PagePath)
		if len(requested) != 1 || requested[0].path() != maintenance.PagePath+maintenance.PageHash([]byte(html)) || requested[0].headers[":method"] != "GET" || requested[0].headers["authorization"] != "Bearer "+token {
			t.Fatalf("requested %v", requested)
		}

		builtin(t, visitPage(w))
		w.answer(requested[0], 200, "<h1>another page</h1>")
		builtin(t, visitPage(w))
		w.wantMetric("errors", 1)
		if w.countLogged("is not available") != 1 {
			t.Errorf("logged %q", w.logged())
		}

		w.runFor(tickPeriod)
		if n := len(w.pendingTo(maintenance.PagePath)); n != 0 {
			t.Errorf("the page was requested again at once")
		}

		w.runFor(pageRetry)
		requested = w.pendingTo(maintenance.PagePath)
		if len(requested) != 1 {
			t.Fatalf("%d pages were requested after a pause, want 1", len(requested))
		}

		w.answer(requested[0], 200, html)
		if got := visitPage(w); got != "<h1>Back soon.</h1>" {
			t.Errorf("got %q", got)
		}

		w.runFor(2 * pageRetry)
		if n := len(w.pendingTo(maintenance.PagePath)); n != 0 {
			t.Errorf("a page that is there was requested again")
		}
	})
}

// A page that a newer state does not name is not waited for, and not kept if it arrives.
func TestPageOfAnOlderStateIsNotKept(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(2, appWithPage("two")))
		w.tick()
		two := w.pendingTo(maintenance.PagePath)
		w.answerPoll(200, doc(3, appWithPage("three")))
		w.answer(two[0], 200, "two")
		w.tick()
		requested := w.pendingTo(maintenance.PagePath)
		if len(requested) != 1 || !strings.HasSuffix(requested[0].path(), maintenance.PageHash([]byte("three"))) {
			t.Fatalf("requested %v", requested)
		}

		w.answer(requested[0], 404, "")
		w.runFor(3 * pageRetry)
		if requested = w.pendingTo(maintenance.PagePath); len(requested) != 1 || !strings.HasSuffix(requested[0].path(), maintenance.PageHash([]byte("three"))) {
			t.Fatalf("requested %v", requested)
		}

		w.answer(requested[0], 200, "three")
		if got := visitPage(w); got != "three" {
			t.Errorf("got %q", got)
		}
	})
}

// appWithPage returns an app in no-access with one page for all languages.
func appWithPage(html string) maintenance.App {
	a := appIn(maintenance.NoAccess)
	a.Pages = map[string]string{"": maintenance.PageHash([]byte(html))}
	return a
}

// visitPage returns what a browser is shown.
func visitPage(w *world) string {
	return w.request("GET", "/", "", "accept", "text/html").reply.body
}

// A refusal reads only the page that it shows, and a missing one only once, until there is another
// state or another page.
func TestMissingPageIsReadOnceCompiled(t *testing.T) {
	reads := 0
	app := appWithManyPages()
	testCompiled(t, setup{config: bootstrapConfig, trace: func(c wasmhost.Call) {
		if c.Func == "proxy_get_shared_data" && strings.Contains(c.Args, "/page/") {
			reads++
		}
	}}, func(t *testing.T, w *world) {
		visit := func(lang string) string {
			return w.request("GET", "/", "", "accept", "text/html", "accept-language", lang).reply.body
		}
		expect := func(what string, want int) {
			t.Helper()
			if reads != want {
				t.Errorf("%s: %d reads of pages, want %d", what, reads, want)
			}
			reads = 0
		}

		w.startWith(doc(1, app))
		w.tick()
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
		expect("another, with ticks", 2) // The first tick reads the list of pages.

		first := w.pendingTo(maintenance.PagePath)[0]
		arrived := ""
		for lang, sha := range app.Pages {
			if strings.HasSuffix(first.path(), sha) {
				arrived = lang
			}
		}
		w.answer(first, 200, "page in "+arrived)
		w.tick()
		if got := visit(arrived); got != "page in "+arrived {
			t.Errorf("got %q", got)
		}

		reads = 0
		visit(arrived)
		visit("ab")
		visit("ab")
		expect("after a page has arrived", 1)

		w.answerPoll(200, doc(2, app))
		reads = 0
		visit(arrived)
		visit("ab")
		visit("ab")
		expect("after the state has changed", 1)
	})
}

// appWithManyPages returns an app in no-access with pages in 30 languages.
func appWithManyPages() maintenance.App {
	app := appIn(maintenance.NoAccess)
	app.Pages = map[string]string{}
	for i := range 30 {
		lang := fmt.Sprintf("%c%c", 'a'+i/26, 'a'+i%26)
		app.Pages[lang] = maintenance.PageHash([]byte("page in " + lang))
	}
	return app
}

// A page leaves shared data and the memory of each VM with the last state that names it, whichever
// VM leads meanwhile.
func TestPagesAreDroppedCompiled(t *testing.T) {
	const revisions = 60
	p := newProcess(t, setup{config: bootstrapConfig})
	p.expectCrashes = true
	all := p.mainAndWorkers(2)
	tickAll(all)
	pagesOf := func(i int) []string {
		html := fmt.Sprint(strings.Repeat("x", 100_000), i)
		return []string{html, "de" + html}
	}

	var middle uint32 // the memory after half of the revisions
	for i := range revisions {
		l := wantOneLeader(t, all)
		pages := pagesOf(i)
		app := appIn(maintenance.NoAccess)
		app.Pages = map[string]string{"": maintenance.PageHash([]byte(pages[0])), "de": maintenance.PageHash([]byte(pages[1]))}
		l.answerPoll(200, doc(uint64(i+1), app))

		switch {
		case i%10 == 5 && i < revisions/2: // The leader crashes before it has fetched a page.
			rigOf(l).vm.Crash(errCrash)
			all = slices.DeleteFunc(all, func(w *world) bool { return w == l })
			all = append(all, p.worker("worker"))
			p.runAllFor(all, 1500*time.Millisecond)
			l = wantOneLeader(t, all)
		case i%10 == 7: // The next state arrives before the pages.
			p.runAllFor(all, tickPeriod)
			continue
		case i%10 == 8: // A page of the last state arrives.
			l.answerPage(pagesOf(i - 1))
		}

		for range pages {
			p.runAllFor(all, tickPeriod)
			l.answerPage(pages)
		}
		for _, w := range all {
			if got := w.request("GET", "/", "", "accept", "text/html"); got.reply.body != pages[0] {
				t.Fatalf("revision %d: %s", i+1, got)
			}
		}
		if n := p.storedPages(); n != 2 {
			t.Fatalf("revision %d: %d pages in shared data, want 2", i+1, n)
		}
		if i == revisions/2 {
			middle = rigOf(all[0]).vm.MemorySize()
		}
	}

	// The other 29 revisions had 6 MB of pages.
	if last := rigOf(all[0]).vm.MemorySize(); last > middle+(2<<20) {
		t.Errorf("memory grew from %d to %d", middle, last)
	}
}

// answerPage answers the one request for a page with that page.
func (w *world) answerPage(pages []string) {
	w.t.Helper()
	requested := w.pendingTo(maintenance.PagePath)
	if len(requested) != 1 {
		w.t.Fatalf("%d pages are requested, want 1", len(requested))
	}
	for _, html := range pages {
		if strings.HasSuffix(requested[0].path(), maintenance.PageHash([]byte(html))) {
			w.answer(requested[0], 200, html)
			return
		}
	}
	w.t.Fatalf("an unknown page is requested: %s", requested[0].path())
}

// storedPages returns how many pages are in shared data.
func (p *process) storedPages() (n int) {
	for _, key := range p.host.SharedKeys("") {
		if html, _, _ := p.host.SharedData("", key); strings.Contains(key, "/page/") && len(html) > 0 {
			n++
		}
	}
	return n
}
