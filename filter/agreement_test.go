//go:build !wasm

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/adversary"
)

// The module decides what the core decides, however the body is split and delayed.
func TestModuleDecidesAsTheCoreCompiled(t *testing.T) {
	for _, config := range []string{holding, `{"name":"edge"}`} {
		for _, mode := range []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess} {
			compiled(t, setup{config: config}, func(t *testing.T, w *world) {
				document := adversary.World{Mode: mode, Permissive: true, Closed: true}.Document()
				state, err := maintenance.Parse([]byte(document))
				if err != nil {
					t.Fatal(err)
				}
				w.follow(document)
				adversary.Tapes(11, 1_500, func(tape *adversary.Tape) bool {
					agree(t, w, state, tape)
					return !t.Failed()
				})
				w.want("errors", 0)
			})
		}
	}
}

// agree sends one request, its body in parts and with ticks between them.
func agree(t *testing.T, w *world, state *maintenance.State, tape *adversary.Tape) {
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
			if tape.UpTo(4) == 0 {
				w.tick()
			}
			x.send(string(part), i == len(parts)-1)
		}
	}

	v := x.view()
	answered, letGo := v.reply != nil, !v.held && v.headers != nil
	switch refused := want.Verdict == maintenance.Refuse; {
	case answered != refused || !refused && !letGo:
		t.Errorf("%s: the core says %v by %s, the module %s", adversary.Describe(r), want.Verdict, want.Rule, v)
	case letGo && !answered && v.body != string(r.Body):
		t.Errorf("%s passes, and the upstream saw the body %q", adversary.Describe(r), v.body)
	}
	if v.reply != nil && !strings.HasSuffix(v.note, "rule="+string(want.Rule)) {
		t.Errorf("%s: the core refuses by %s, the module notes %q", adversary.Describe(r), want.Rule, v.note)
	}
}
