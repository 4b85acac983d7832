package main

import (
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

const (
	aQuery    = `{"query":"{cart{id}}"}`
	aMutation = `{"query":"mutation{buy}"}`
)

// Before the first state a request is held, and judged by that state as soon as it is
// there.
func TestHeldUntilTheFirstState(t *testing.T) {
	for _, c := range []struct {
		mode         maintenance.Mode
		method, path string
		body         []string
		rule         maintenance.Rule // that refuses it; none: it passes
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
			everywhere(t, setup{config: holding}, func(t *testing.T, w *world) {
				x := w.begin(c.method, c.path, c.body == nil, "content-type", "application/json")
				body := ""
				for i, part := range c.body {
					x.send(part, i == len(c.body)-1)
					body += part
				}
				held(t, x.view())
				w.run(time.Second)
				held(t, x.view())
				w.say(200, doc(1, in(c.mode)))
				if c.rule != "" {
					refused(t, x.view(), c.rule)
				} else if passed(t, x.view()); x.view().body != body {
					t.Errorf("the upstream saw %q, want %q", x.view().body, body)
				}
				w.want("unknown", 0)
				w.want("errors", 0)
			})
		})
	}
}
