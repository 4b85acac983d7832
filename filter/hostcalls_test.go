//go:build !wasm

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/e2e/golden"
	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file are about the cost of a request: its host calls. A host call is a call
// from the module to the proxy.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays.
// A trace receives all callbacks and host calls of the module in wasmhost.

// While nothing is on or announced, no request costs a host call.
func TestNoHostCallWhileOffCompiled(t *testing.T) {
	var traced []string // the host calls while tracing is set
	tracing := false
	trace := func(c wasmhost.Call) {
		if isHostCall := c.Func != ""; tracing && isHostCall {
			traced = append(traced, c.String())
		}
	}

	testCompiled(t, setup{config: bootstrapConfig, trace: trace}, func(t *testing.T, w *world) {
		traced = nil
		w.startWith(doc(1, appIn(maintenance.Off)))
		wantPassed(t, w.request("GET", "/", ""))

		rigOf(w).vm.ResetCalls()
		tracing = true

		for range 20 {
			x := w.begin("POST", "/graphql?x=1", moreFollows, "content-type", "application/json", "x-drydock-mode", "off", "upgrade", "websocket")
			x.send(aMutation, moreFollows)
			x.send("", moreFollows)
			x.sendTrailers()

			s := x.(*compiledExchange)
			s.ResponseHeaders(wasmhost.Headers{{":status", "200"}}, false)
			s.ResponseBody([]byte("x"), true)
			if o := x.outcomeSoFar(); o.body != aMutation || !s.Done() {
				t.Fatal(o)
			}

			w.request("GET", "/", "")
			w.request("GET", "/.drydock/status", "")
		}

		tracing = false
		if calls := rigOf(w).vm.Calls(); len(calls) > 0 || len(traced) > 0 {
			t.Errorf("host calls: %v\n%s", calls, strings.Join(traced, "\n"))
		}
	})
}

// The golden file shows the host calls of some requests, so that a change of their number is seen
// in a review. Below the name of a request, it has each callback with its arguments, the host calls
// that the callback made, with their arguments and results, and what the callback returned.
func TestHostCallsOfRequestsCompiled(t *testing.T) {
	var got strings.Builder
	tracing := false
	trace := func(c wasmhost.Call) {
		switch {
		case !tracing:
		case c.Func != "": // a host call
			fmt.Fprintf(&got, "    %s(%s) = %s\n", c.Func, c.Args, c.Result)
		case c.Result != "": // the end of a callback
			fmt.Fprintf(&got, "  = %s\n", c.Result)
		default: // the start of a callback
			_, args, _ := strings.Cut(c.Args, ", ") // without the id of the context, which comes first
			fmt.Fprintf(&got, "  %s(%s)\n", c.Callback, args)
		}
	}
	w := newProcess(t, setup{config: bootstrapConfig, trace: trace}).worker("worker_0")
	w.startWith(docOf(1, 1, appsForHostCalls()...))

	for _, c := range []struct {
		name    string
		request func()
	}{
		{"another app is on", func() { w.request("GET", "/", "", ":authority", "open.example.com") }},
		{"refused", func() { w.request("GET", "/", "", ":authority", "admin.example.com") }},
		{"refused by three claim rules", func() { w.request("GET", "/", "", ":authority", "staff.example.com") }},
		{"refused as JSON", func() { w.request("GET", "/", "", ":authority", "admin.example.com", "accept", "application/json") }},
		{"refused with a page that is missing", func() {
			w.request("GET", "/", "", ":authority", "admin.example.com", "accept", "text/html", "accept-language", "de")
		}},
		{"let through by its address", func() { w.request("POST", "/cart", "x", "from", "10.1.2.3:4711") }},
		{"a query in read-only", func() { w.graphQL(aQuery) }},
		{"a mutation in read-only, with a header of ours", func() {
			w.request("POST", "/graphql", aMutation, "content-type", "application/json", "x-drydock-bypass", "ip")
		}},
	} {
		fmt.Fprintf(&got, "-- %s --\n", c.name)
		c.request() // The first one also makes calls that are not repeated.
		tracing = true
		c.request()
		tracing = false
	}

	golden.Compare(t, "testdata/hostcalls.golden", got.String())
}

// appsForHostCalls returns apps whose requests are decided at different costs.
func appsForHostCalls() []maintenance.App {
	readOnly := appIn(maintenance.ReadOnly)
	readOnly.Bypass.IPs = []string{"10.0.0.0/8"}

	closed := appIn(maintenance.NoAccess)
	closed.Name, closed.Match.Hosts = "admin", []string{"admin.example.com"}
	closed.Pages = map[string]string{}
	for _, lang := range []string{"", "de", "fr", "it"} {
		closed.Pages[lang] = maintenance.PageHash([]byte("a page that the controller does not have, in " + lang))
	}

	staff := appIn(maintenance.NoAccess)
	staff.Name, staff.Match.Hosts = "staff", []string{"staff.example.com"}
	staff.Bypass.Claims = []maintenance.ClaimRule{{Issuer: "a"}, {Issuer: "b", Audience: "c"}, {Issuer: "b", Claim: []string{"roles"}, Values: []any{"admin"}}}

	open := maintenance.App{Spec: maintenance.Spec{Name: "open", Match: maintenance.Match{Hosts: []string{"open.example.com"}}}}
	return []maintenance.App{readOnly, closed, staff, open}
}
