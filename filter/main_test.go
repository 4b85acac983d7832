//go:build !wasm

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file are about a plugin as a whole: its configuration, the names of its
// metrics, and its secret, the sync token.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays.
// A process (compiled_test.go) is an Envoy process in wasmhost, and vm one of its VMs.

// A plugin with a bad configuration does not start, and the log says why.
func TestBadConfigurationDoesNotStart(t *testing.T) {
	for config, want := range map[string]string{ // want is a part of what is logged
		`{"nam": "edge"}`:                   "nam: unknown field",
		`{"name": "Edge"}`:                  "name: ",
		`{"boot_wait": -1}`:                 "boot_wait: ",
		`{"unknown": "maybe"}`:              "unknown: ",
		`{"exempt": [{"path": "healthz"}]}`: "exempt[0]: ",
		`{"controller": {"cluster": ""}}`:   "controller.cluster: ",
		`{"token": "` + token + `"}`:        "token: unknown field",
		`{`:                                 "not valid JSON",
		`[]`:                                "must be an object",
	} {
		wantLogged := func(t *testing.T, lines []string) {
			t.Helper()
			text := strings.Join(lines, "\n")
			if !strings.Contains(text, "drydock: reading the plugin configuration: ") || !strings.Contains(text, want) {
				t.Errorf("%s: logged %q, want %q", config, text, want)
			}
			if strings.Contains(text, token) {
				t.Errorf("%s: the token was logged: %q", config, text)
			}
		}

		t.Run("native", func(t *testing.T) {
			_, err := newEmulatorRig(t, setup{config: config})
			if err == nil {
				t.Fatalf("%s: it started", config)
			}
			wantLogged(t, []string{err.Error()})
		})
		t.Run("compiled", func(t *testing.T) {
			p := newProcess(t, setup{})
			if _, err := p.vm("main").Plugin(p.pluginConfig(config)); !errors.Is(err, wasmhost.ErrConfigure) {
				t.Fatalf("%s: %v", config, err)
			}
			wantLogged(t, p.logs(""))
		})
	}

}

// A plugin needs no configuration. Its metrics are then those of a plugin named drydock.
func TestNoConfigurationIsValid(t *testing.T) {
	testEverywhere(t, setup{}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.NoAccess)))
		wantRefused(t, w.request("GET", "/", ""), maintenance.RuleNoAccess)
		if w.metric("drydock.drydock.blocked") != 1 {
			t.Error("the refusal was not counted")
		}
	})
}

// The exemptions in the plugin's configuration hold before the first state and in every state, but
// only for paths that are written exactly so.
func TestConfiguredExemptionsAlwaysPass(t *testing.T) {
	config := `{
		"name": "edge", "unknown": "deny",
		"exempt": [{"methods": ["GET"], "path": "/healthz"}, {"prefix": "/controller"}]
	}`
	notExempt := []string{
		"/healthz/", "/Healthz", "/x/../healthz", "/%68ealthz", "/controllers", "/controller/../admin", "//controller",
	}

	testEverywhere(t, setup{config: config}, func(t *testing.T, w *world) {
		checkExemptions := func() {
			t.Helper()
			wantPassed(t, w.request("GET", "/healthz", ""))
			wantPassed(t, w.request("HEAD", "/healthz?x=1", "")) // GET includes HEAD.
			wantPassed(t, w.request("POST", "/controller/api", "x"))

			for _, path := range notExempt {
				if o := w.request("GET", path, ""); o.headers != nil {
					t.Errorf("GET %s passed", path)
				}
			}
			if o := w.request("POST", "/healthz", "x"); o.headers != nil {
				t.Errorf("POST /healthz passed")
			}
		}

		checkExemptions() // Before the first state, other requests are paused.
		w.startWith(doc(1, appIn(maintenance.NoAccess)))
		checkExemptions()
	})
}

// Dashboards and alerts depend on the names of the metrics.
func TestMetricNamesCompiled(t *testing.T) {
	p := newProcess(t, setup{config: bootstrapConfig})
	p.worker("worker_0")

	var names []string
	for _, m := range p.host.Metrics() {
		names = append(names, m.Type.String()+" "+m.Name)
	}
	slices.Sort(names)

	want := []string{
		"counter drydock.edge.blocked",
		"counter drydock.edge.bypassed",
		"counter drydock.edge.errors",
		"counter drydock.edge.held_limit",
		"counter drydock.edge.misconfigured",
		"counter drydock.edge.unknown",
		"gauge drydock.edge.held_bytes",
		"gauge drydock.edge.held_requests",
		"gauge drydock.edge.revision",
		"gauge drydock.edge.state_age",
	}
	if !slices.Equal(names, want) {
		t.Errorf("got  %q\nwant %q", names, want)
	}
}

// The sync token appears only in the Authorization header of calls to the controller.
func TestTokenStaysSecretCompiled(t *testing.T) {
	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		// Each answer is wrong in another way, so that the filter logs many errors.
		w.startWith(`{"epoch":1,"revision":1,"apps":[{"` + token[:5] + `":1}]}`)
		for _, status := range []int{0, 401, 403, 500} {
			w.runFor(maxBackoff * 2)
			for _, c := range w.pendingCalls() {
				if n := strings.Count(fmt.Sprint(c.headers, c.body), token); n != 1 || c.headers["authorization"] != "Bearer "+token {
					t.Errorf("the token appears %d times in %v", n, c.headers)
				}
			}
			w.answerPoll(status, "Bearer "+token)
		}

		rigOf(w).host.RemoveCluster("drydock")
		w.runFor(10 * time.Second)

		p := rigOf(w).process
		if len(p.lines) < 4 {
			t.Fatalf("only %d lines were logged", len(p.lines))
		}

		for _, line := range p.lines {
			if strings.Contains(line.Message, token) {
				t.Errorf("logged %q", line.Message)
			}
		}
		for _, key := range p.host.SharedKeys("") {
			if value, _, _ := p.host.SharedData("", key); strings.Contains(key+string(value), token) {
				t.Errorf("the token is in shared data: %s", key)
			}
		}

		if o := w.request("GET", "/", ""); strings.Contains(fmt.Sprint(o), token) {
			t.Error(o)
		}
	})
}
