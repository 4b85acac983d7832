//go:build !wasm

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file are about the operators' own maintenance pages. A state names each page by
// its SHA-256. The leader, which is the VM that polls the controller, fetches the pages from the
// controller one after the other and stores them in shared data, where all VMs of the process find
// them.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays: a
// request for a page is a callout to maintenance.PagePath that waits until the test answers it. A
// process (compiled_test.go) is an Envoy process with several VMs.

// The operators' pages are fetched by their SHA-256. While a page is missing or wrong, the built-in
// page is shown.
func TestPagesAreFetchedByHash(t *testing.T) {
	const html = "<h1>{{message}}</h1>" // The filter replaces {{message}} by that of the app.
	wantBuiltin := func(t *testing.T, body string) {
		t.Helper()
		if !strings.Contains(strings.ToLower(body), "<!doctype html>") {
			t.Errorf("got %q, want the built-in page", body)
		}
	}

	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appWithPage(html)))
		w.tick()
		requested := w.wantOnePageRequest(html)
		if h := requested.headers; h[":method"] != "GET" || h["authorization"] != "Bearer "+token {
			t.Errorf("requested with %v", h)
		}

		wantBuiltin(t, visitPage(w))
		w.answer(requested, 200, "<h1>another page</h1>")
		wantBuiltin(t, visitPage(w))
		w.wantMetric("errors", 1)
		if w.countLogged("is not available") != 1 {
			t.Errorf("logged %q", w.logged())
		}

		w.runFor(tickPeriod)
		if n := len(w.pendingTo(maintenance.PagePath)); n != 0 {
			t.Errorf("the page was requested again at once")
		}

		w.runFor(pageRetry)
		w.answer(w.wantOnePageRequest(html), 200, html)
		if got := visitPage(w); got != "<h1>Back soon.</h1>" {
			t.Errorf("got %q", got)
		}

		w.runFor(2 * pageRetry)
		if n := len(w.pendingTo(maintenance.PagePath)); n != 0 {
			t.Errorf("a page that is there was requested again")
		}
	})
}

// wantOnePageRequest returns the callout that requests a page. It fails the test if that is not the
// only page that is requested.
func (w *world) wantOnePageRequest(html string) call {
	w.t.Helper()
	requested := w.pendingTo(maintenance.PagePath)
	if len(requested) != 1 || requested[0].path() != maintenance.PagePath+maintenance.PageHash([]byte(html)) {
		w.t.Fatalf("requested %v, want only the page %q", requested, html)
	}
	return requested[0]
}

// A page that arrives when the state no longer names it is not stored, and the page that the state
// names is requested.
func TestPageOfAnOlderStateIsNotKept(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(2, appWithPage("two")))
		w.tick()
		requested := w.wantOnePageRequest("two")
		w.answerPoll(200, doc(3, appWithPage("three")))
		w.answer(requested, 200, "two")
		w.tick()
		if got := visitPage(w); got == "two" {
			t.Error("the page of the older state is shown")
		}

		w.answer(w.wantOnePageRequest("three"), 404, "")
		w.runFor(3 * pageRetry)
		w.answer(w.wantOnePageRequest("three"), 200, "three")
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

// visitPage returns the page that a browser is shown. The app must refuse the request.
func visitPage(w *world) string {
	return w.request("GET", "/", "", "accept", "text/html").reply.body
}

// A refusal reads only the page that it shows, and a missing one only once, until there is another
// state or another page.
func TestMissingPageIsReadOnceCompiled(t *testing.T) {
	reads := 0 // of pages, not of the list of pages
	app := appWithManyPages()
	trace := func(c wasmhost.Call) {
		if c.Func == "proxy_get_shared_data" && strings.Contains(c.Args, "/page/") {
			reads++
		}
	}

	testCompiled(t, setup{config: bootstrapConfig, trace: trace}, func(t *testing.T, w *world) {
		visit := func(lang string) string {
			return w.request("GET", "/", "", "accept", "text/html", "accept-language", lang).reply.body
		}
		wantReads := func(what string, want int) {
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
			w.request("GET", "/", "", "accept", "application/json") // is not shown a page
		}
		wantReads("one page", 1)

		// The first tick finds the list of pages for the first time, so that it forgets which pages
		// were missing. The second visit reads the page again, and the further ones do not.
		for range 10 {
			visit("ab")
			w.tick()
		}
		wantReads("another page, with ticks", 2)

		fetched := w.pendingTo(maintenance.PagePath)[0] // whichever page the filter fetches first
		arrived := ""
		for lang, sha := range app.Pages {
			if strings.HasSuffix(fetched.path(), sha) {
				arrived = lang
			}
		}
		w.answer(fetched, 200, "page in "+arrived)
		w.tick()
		if got := visit(arrived); got != "page in "+arrived {
			t.Errorf("got %q", got)
		}

		// The page that has arrived is cached by now. The other one is read once more.
		reads = 0
		missing := "ab"
		if arrived == missing {
			missing = "ac"
		}
		visit(arrived)
		visit(missing)
		visit(missing)
		wantReads("after a page has arrived", 1)

		w.answerPoll(200, doc(2, app))
		reads = 0
		visit(arrived)
		visit("ab")
		visit("ab")
		wantReads("after the state has changed", 1)
	})
}

// appWithManyPages returns an app in no-access with pages in 30 languages.
func appWithManyPages() maintenance.App {
	app := appIn(maintenance.NoAccess)
	app.Pages = map[string]string{}
	for i := range 30 {
		lang := fmt.Sprintf("%c%c", 'a'+i/26, 'a'+i%26) // aa, ab, …
		app.Pages[lang] = maintenance.PageHash([]byte("page in " + lang))
	}
	return app
}

// A page leaves shared data and the memory of each VM with the last state that names it, whichever
// VM leads meanwhile.
func TestPagesAreDroppedCompiled(t *testing.T) {
	const (
		revisions = 60
		pageBytes = 100_000
		maxGrowth = 2 << 20 // The pages of half of the revisions have three times as much.
	)
	p := newProcess(t, setup{config: bootstrapConfig})
	p.expectCrashes = true
	all := p.mainAndWorkers(2)
	tickAll(all)
	pagesOf := func(revision int) (fallback, german string) {
		html := fmt.Sprint(strings.Repeat("x", pageBytes), revision)
		return html, "de" + html
	}

	var halfway uint32 // the memory after half of the revisions
	for revision := 1; revision <= revisions; revision++ {
		fallback, german := pagesOf(revision)
		app := appIn(maintenance.NoAccess)
		app.Pages = map[string]string{
			"":   maintenance.PageHash([]byte(fallback)), // for every other language
			"de": maintenance.PageHash([]byte(german)),
		}
		leader := wantOneLeader(t, all)
		leader.answerPoll(200, doc(uint64(revision), app))

		switch {
		case revision%10 == 6 && revision <= revisions/2:
			// The leader crashes before it has fetched a page, and another VM starts.
			all = append(crash(leader, all), p.worker("worker"))
			p.runAllFor(all, takeOverTime)
			leader = wantOneLeader(t, all)
		case revision%10 == 8:
			// The next state arrives before the pages do.
			p.runAllFor(all, tickPeriod)
			continue
		case revision%10 == 9:
			// A page of the last state arrives.
			leader.answerPage(pagesOf(revision - 1))
		}

		for range app.Pages {
			p.runAllFor(all, tickPeriod)
			leader.answerPage(fallback, german)
		}
		for _, w := range all {
			if got := visitPage(w); got != fallback {
				t.Fatalf("revision %d: %.200s", revision, got)
			}
		}
		if n := p.storedPages(); n != len(app.Pages) {
			t.Fatalf("revision %d: %d pages in shared data, want %d", revision, n, len(app.Pages))
		}
		if revision == revisions/2+1 {
			halfway = rigOf(all[0]).vm.MemorySize()
		}
	}

	if last := rigOf(all[0]).vm.MemorySize(); last > halfway+maxGrowth {
		t.Errorf("memory grew from %d to %d", halfway, last)
	}
}

// answerPage answers the one request for a page that waits, which must be for one of two pages.
func (w *world) answerPage(one, other string) {
	w.t.Helper()
	requested := w.pendingTo(maintenance.PagePath)
	if len(requested) != 1 {
		w.t.Fatalf("%d pages are requested, want 1", len(requested))
	}

	for _, html := range []string{one, other} {
		if strings.HasSuffix(requested[0].path(), maintenance.PageHash([]byte(html))) {
			w.answer(requested[0], 200, html)
			return
		}
	}
	w.t.Fatalf("an unknown page is requested: %s", requested[0].path())
}

// storedPages returns how many pages are in shared data. A page that was dropped is an empty value,
// since shared data cannot delete a key.
func (p *process) storedPages() (n int) {
	for _, key := range p.host.SharedKeys("") {
		if html, _, _ := p.host.SharedData("", key); strings.Contains(key, "/page/") && len(html) > 0 {
			n++
		}
	}
	return n
}
