package maintenance_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests the plugin configuration of the filter.

// TestValidConfigsAreRead compares each configuration with the defaults as change makes them.
func TestValidConfigsAreRead(t *testing.T) {
	defaults := maintenance.Config{
		Cluster: "drydock", Authority: "drydock", Name: "drydock", BootWait: 2 * time.Second, Unknown: maintenance.UnknownAllow,
		JWTMetadata: []string{"envoy.filters.http.jwt_authn", "payload"}, BodyTimeout: 30 * time.Second,
	}

	for _, c := range []struct {
		name, config string
		change       func(*maintenance.Config)
	}{
		{"nothing", ``, func(c *maintenance.Config) {}},
		{"an empty object", ` {} `, func(c *maintenance.Config) {}},
		{"everything", `{"controller":{"cluster":"ctl","authority":"ctl.example.com:7071"},"name":"edge","boot_wait":0.5,"body_timeout":12.5,"unknown":"deny","exempt":[{"methods":["GET"],"path":"/ready"},{"prefix":"/probes"}],"jwt_metadata":["istio_authn","payload","x"],"allow_on_headers_stop_iteration":true}`, func(c *maintenance.Config) {
			*c = maintenance.Config{
				Cluster: "ctl", Authority: "ctl.example.com:7071", Name: "edge", BootWait: 500 * time.Millisecond, Unknown: maintenance.UnknownDeny,
				Exempt:      []maintenance.PathRule{{Methods: []string{"GET"}, Path: "/ready"}, {Prefix: "/probes"}},
				JWTMetadata: []string{"istio_authn", "payload", "x"}, AllowOnHeadersStopIteration: true, BodyTimeout: 12500 * time.Millisecond,
			}
		}},
		{"only the cluster", `{"controller":{"cluster":"ctl"}}`, func(c *maintenance.Config) { c.Cluster = "ctl" }},
		{"no wait", `{"boot_wait":0}`, func(c *maintenance.Config) { c.BootWait = 0 }},
		{"the longest wait", `{"boot_wait":60}`, func(c *maintenance.Config) { c.BootWait = time.Minute }},
	} {
		// Written leaves out what ParseConfig compiles from the fields.
		want := defaults
		c.change(&want)
		got, err := maintenance.ParseConfig([]byte(c.config))

		if err != nil || !reflect.DeepEqual(maintenance.Written(*got), want) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}

}

// The error of an invalid configuration names the field and what it must be. It does not repeat the
// value of a field that is unknown, which may be a secret.
func TestInvalidConfigsAreRejected(t *testing.T) {
	for config, want := range map[string]string{
		` `:                             "not valid JSON: it ends too early",
		`[]`:                            "must be an object, not a list",
		`"x"`:                           "must be an object, not a string",
		`{"controler":{}}`:              "controler: unknown field",
		`{"controller":{"url":"x"}}`:    "controller.url: unknown field",
		`{"controller":{"cluster":""}}`: "controller.cluster: must not be empty",
		`{"controller":{"cluster":1}}`:  "controller.cluster: must be a string, not a number",
		`{"token":"hunter2"}`:           "token: unknown field",
		`{"name":"Edge"}`:               `name: "Edge" must be 1 to 63`,
		`{"boot_wait":"2s"}`:            "boot_wait: must be a number, not a string",
		`{"boot_wait":-1}`:              "boot_wait: must be seconds, 0 to 60",
		`{"boot_wait":61}`:              "boot_wait: must be seconds, 0 to 60",
		`{"boot_wait":1e999}`:           "boot_wait: is too large",
		`{"body_timeout":0.9}`:          "body_timeout: must be seconds, 1 to 300",
		`{"body_timeout":301}`:          "body_timeout: must be seconds, 1 to 300",
		`{"unknown":"open"}`:            `unknown: "open" must be allow, read-only or deny`,
		`{"exempt":[{"path":"/a"},{}]}`: "exempt[1]: must have either path or prefix",
		`{"exempt":[{"path":"a"}]}`:     "exempt[0]: \"a\" must begin with /",
		`{"exempt":[{"methods":["POST"],"path":"/a"}]}`: `exempt[0].allow: must have "overrides" if the methods have POST`,
		`{"exempt":[{"path":"/a","allow":["all"]}]}`:    `exempt[0].allow[0]: "all" must be upgrades, overrides or bodies`,
		`{"jwt_metadata":["x"]}`:                        "jwt_metadata: must be the namespace and at least one key",
		`{"jwt_metadata":["x",""]}`:                     "jwt_metadata: must be the namespace and at least one key",
		`{"jwt_metadata":[1]}`:                          "jwt_metadata[0]: must be a string, not a number",
		`{"name":"a","name":"b"}`:                       "name: given twice",
		`{"allow_on_headers_stop_iteration":"true"}`:    "allow_on_headers_stop_iteration: must be true or false, not a string",
	} {
		_, err := maintenance.ParseConfig([]byte(config))
		if err == nil || !strings.HasPrefix(err.Error(), "reading the plugin configuration: "+want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}

		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Error("the error contains a secret")
		}
	}
}

// The exemptions in the configuration apply before there is a state. Like all exemptions they apply
// only if every server reads the request so.
func TestConfigExemptsPassWithoutAState(t *testing.T) {
	c, err := maintenance.ParseConfig([]byte(`{"exempt":[{"methods":["GET"],"path":"/ready"},{"prefix":"/proxy/v1/"}]}`))
	if err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		r    *maintenance.Request
		want bool
	}{
		{get("h", "/ready"), true},
		{request("HEAD", "h", "/ready?x"), true},
		{request("POST", "h", "/ready"), false},
		{get("h", "/ready/x"), false},
		{get("h", "/Ready"), false},
		{get("h", "//ready"), false},
		{get("h", "/x/..%2fready"), false},
		{get("h", "/ready", "x-original-url", "/admin"), false},
		{get("h", "/ready", "x-http-method-override", "DELETE"), false},
		{request("POST", "h", "/proxy/v1/sync"), true},
		{get("h", "/proxy/v1/../../admin"), false},
	} {
		if got := c.Exempts(tt.r); got != tt.want {
			t.Errorf("%s %s %v: %v", tt.r.Method, tt.r.Path, tt.r.Headers[3:], got)
		}
	}

	none := maintenance.Config{}
	if none.Exempts(get("h", "/ready")) {
		t.Error("a configuration without exemptions exempts a request")
	}
}

// TestUnknownStateFollowsThePolicy checks what happens to requests while there is no state: the
// verdicts on a GET and on a POST.
func TestUnknownStateFollowsThePolicy(t *testing.T) {
	for unknown, want := range map[maintenance.Unknown][2]maintenance.Verdict{
		maintenance.UnknownAllow:    {maintenance.Pass, maintenance.Pass},
		maintenance.UnknownReadOnly: {maintenance.Pass, maintenance.Refuse},
		maintenance.UnknownDeny:     {maintenance.Refuse, maintenance.Refuse},
	} {
		c := maintenance.Config{Unknown: unknown}
		s := c.UnknownState()
		if idle, until := s.Idle(noon); idle != (unknown == maintenance.UnknownAllow) || !until.IsZero() {
			t.Errorf("%s: idle %v until %v", unknown, idle, until)
		}
		if s.Version() != (maintenance.Version{}) {
			t.Errorf("%s: version %v", unknown, s.Version())
		}

		read, write := s.Decide(get("h", "/"), noon), request("POST", "h", "/")
		d := s.Decide(write, noon)

		if got := [2]maintenance.Verdict{read.Verdict, d.Verdict}; got != want {
			t.Errorf("%s: %v", unknown, got)
		}
		if d.Verdict == maintenance.Refuse {
			if reply := d.Reply(write, nil, noon); !strings.Contains(marshal(t, reply.Headers), `["retry-after","5"]`) || !strings.Contains(string(reply.Body), "not known yet") {
				t.Errorf("%s: %v %s", unknown, reply.Headers, reply.Body)
			}
		}
	}
}
