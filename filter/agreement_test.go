//go:build !wasm

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/adversary"
	"github.com/drydock-proxy/drydock/filter/maintenance/cases"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file compare the compiled module with package maintenance, which is called the
// core: both have to decide each request in the same way. The requests come from package adversary,
// which makes hostile requests from a tape (a sequence of random choices that can be repeated), and
// from the table of GraphQL requests in package cases.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays.

// The module decides what the core decides, however the body is split and delayed.
func TestModuleDecidesAsTheCoreCompiled(t *testing.T) {
	for _, config := range []string{bootstrapConfig, `{"name":"edge"}`} {
		for _, mode := range []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess} {
			testCompiled(t, setup{config: config}, func(t *testing.T, w *world) {
				document := adversary.World{Mode: mode, Permissive: true, Closed: true}.Document()
				state, err := maintenance.Parse([]byte(document))
				if err != nil {
					t.Fatal(err)
				}

				w.startWith(document)
				const (
					seed  = 11 // any number: the requests are the same in every run
					tapes = 1_500
				)
				adversary.Tapes(seed, tapes, func(tape *adversary.Tape) bool {
					wantAgreement(t, w, state, tape)
					return !t.Failed()
				})
				w.wantMetric("errors", 0)
			})
		}
	}
}

// wantAgreement sends the request of a tape, with its body in parts and with ticks between some of
// them, and compares the outcome with the core's decision on the whole request.
func wantAgreement(t *testing.T, w *world, state *maintenance.State, tape *adversary.Tape) {
	t.Helper()
	r := tape.Request()
	want := adversary.Judge(state, r, time.Now())

	headers := []string{":authority", r.Authority}
	for _, h := range r.Headers {
		headers = append(headers, h[0], h[1])
	}

	x := w.begin(r.Method, r.Path, r.EndStream, headers...)
	if !r.EndStream {
		parts := tape.Split(r.Body)
		for i, part := range parts {
			if tape.UpTo(4) == 0 { // now and then
				w.tick()
			}
			isLast := i == len(parts)-1
			x.send(string(part), isLast)
		}
	}

	o := x.outcomeSoFar()
	answered := o.reply != nil
	passed := !answered && !o.paused && o.headers != nil
	switch {
	case answered != (want.Verdict == maintenance.Refuse), passed == answered:
		t.Errorf("%s: the core decides %v by %s, the module %s", adversary.Describe(r), want.Verdict, want.Rule, o)
	case passed && o.body != string(r.Body):
		t.Errorf("%s passes, and the upstream saw the body %q", adversary.Describe(r), o.body)
	}
	if answered && !strings.HasSuffix(o.note, "rule="+string(want.Rule)) {
		t.Errorf("%s: the core refuses by %s, the module's note is %q", adversary.Describe(r), want.Rule, o.note)
	}
}

// The module decides the table of read-only GraphQL requests as the core does.
func TestGraphQLCasesCompiled(t *testing.T) {
	table := cases.Load(t)
	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))
		passes := 0
		for _, c := range table {
			body := string(c.Body())
			s := rigOf(w).plugin.NewStream(wasmhost.StreamConfig{Properties: map[string]any{"source": map[string]any{"address": clientAddress}}})

			// As in HTTP/1, a body has a length, and a request without one ends with its headers.
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

		t.Logf("%d cases, of which %d pass", len(table), passes)
		w.wantMetric("blocked", len(table)-passes)
		w.wantMetric("errors", 0)
	})
}
