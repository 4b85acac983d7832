//go:build !wasm

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The tests of this file are about the filter's log: an error is counted each time, and logged once
// for as long as it goes on. The errors are those of pages that a state names and that the
// controller does not have: the filter requests one missing page after the other, with a pause of
// pageRetry.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays.

// An error that goes on is logged once, even if it alternates with another one and lasts for long.
func TestErrorsThatAlternateAreLoggedOnceCompiled(t *testing.T) {
	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		app := appIn(maintenance.NoAccess)
		app.Pages = map[string]string{ // the SHA-256 of each page, by language
			"de": strings.Repeat("1", 64),
			"fr": strings.Repeat("2", 64),
		}
		w.startWith(doc(1, app))

		for range 40 {
			w.runFor(pageRetry)
			for _, c := range w.pendingTo(maintenance.PagePath) {
				w.answer(c, 404, "")
			}
			if w.hasPoll() {
				w.answerPoll(204, "") // Nothing is new.
			}
		}

		w.wantMetric("errors", 40)
		if n := w.countLogged("is not available"); n != 2 {
			t.Errorf("logged %d times, want once for each page: %q", n, w.logged())
		}
	})
}

// The log has a bound, however many different errors there are.
func TestManyDifferentErrorsAreBoundedCompiled(t *testing.T) {
	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		app := appIn(maintenance.NoAccess)
		app.Pages = map[string]string{}
		for i := range 100 {
			app.Pages[fmt.Sprintf("%c%c", 'a'+i/26, 'a'+i%26)] = maintenance.PageHash([]byte(fmt.Sprint(i)))
		}
		w.startWith(doc(1, app))

		for range 100 {
			w.runFor(pageRetry)
			w.answer(w.pendingTo(maintenance.PagePath)[0], 404, "")
		}

		w.wantMetric("errors", 100)
		if n := w.countLogged(""); n != maxErrorTexts+1 || w.countLogged("not logged") != 1 {
			t.Errorf("logged %d times, want %d, the last of which says that there are more", n, maxErrorTexts+1)
		}
	})
}
