package maintenance_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The public status says what people may know, and nothing before it is announced.
func TestStatus(t *testing.T) {
	s := mustParse(t, `{"epoch":1,"revision":4,"apps":[
		{"name":"off","match":{"paths":["/off"]}},
		{"name":"on","match":{"paths":["/on"]},"activations":[{"id":"secret-id","source":"manual","mode":"no-access","message":"Back soon","since":"2026-11-21T13:00:00+02:00","until":"2026-11-21T14:00:00+02:00"}]},
		{"name":"open-ended","match":{"paths":["/open-ended"]},"retry_after":60,"activations":[{"id":"a","source":"file","mode":"read-only","since":"2026-11-21T11:00:00.25Z"}]},
		{"name":"planned","match":{"paths":["/planned"]},"windows":[{"id":"w","mode":"no-access","message":"Upgrade","announce":3600,"occurrences":[{"start":"2026-11-21T13:00:00Z","end":"2026-11-21T14:00:00Z"}]}]},
		{"name":"secret","match":{"paths":["/secret"]},"windows":[{"id":"w","mode":"no-access","message":"Layoffs","announce":3599,"occurrences":[{"start":"2026-11-21T13:00:00Z","end":"2026-11-21T14:00:00Z"}]}]}
	]}`)
	for name, want := range map[string]string{
		"off":        `{"app":"off","mode":"off"}`,
		"on":         `{"app":"on","mode":"no-access","message":"Back soon","since":"2026-11-21T11:00:00Z","until":"2026-11-21T12:00:00Z","retry_after":1}`,
		"open-ended": `{"app":"open-ended","mode":"read-only","since":"2026-11-21T11:00:00.25Z","retry_after":60}`,
		"planned":    `{"app":"planned","mode":"off","next":{"mode":"no-access","start":"2026-11-21T13:00:00Z","end":"2026-11-21T14:00:00Z","message":"Upgrade"}}`,
		"secret":     `{"app":"secret","mode":"off"}`,
		"default":    `{"app":"default","mode":"off"}`,
	} {
		now := noon
		if name == "on" {
			now = noon.Add(-time.Millisecond) // rounded up
		}
		st, ok := s.Status(name, now)
		if got := string(st.AppendJSON(nil)); !ok || got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if got := string(s.StatusOf(get("h", "/"+name+"?x"), now).AppendJSON([]byte("prefix "))); got != "prefix "+want {
			t.Errorf("of a request to %s: %s, want %s", name, got, want)
		}
		// What another program makes of it is the struct.
		var back maintenance.Status
		if err := json.Unmarshal(st.AppendJSON(nil), &back); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, want := marshal(t, back), string(st.AppendJSON(nil)); got != want {
			t.Errorf("%s: encoding/json writes %s, AppendJSON %s", name, got, want)
		}
	}
	if _, ok := s.Status("nobody", noon); ok {
		t.Error("an app that does not exist has a status")
	}
}

func TestEdgeStatus(t *testing.T) {
	s := mustParse(t, `{"apps":[{"name":"shop","match":{"hosts":["shop.example.com"]},`+on(maintenance.NoAccess)+`}]}`)
	for _, c := range []struct {
		r      *maintenance.Request
		status int
		body   string
	}{
		{get("shop.example.com", "/.drydock/status"), 200, `{"app":"shop","mode":"no-access","since":"2026-11-21T11:00:00Z","retry_after":3600}`},
		{get("other.example.com", "/.drydock/status"), 200, `{"app":"default","mode":"off"}`},
		{request("HEAD", "shop.example.com", "/.drydock/status"), 200, `{"app":"shop","mode":"no-access","since":"2026-11-21T11:00:00Z","retry_after":3600}`},
		{request("POST", "shop.example.com", "/.drydock/status"), 405, `{"type":"about:blank","title":"Method Not Allowed","status":405}`},
	} {
		reply := s.EdgeStatus(c.r, noon)
		if reply.Status != c.status || string(reply.Body) != c.body || reply.GRPCStatus != -1 {
			t.Errorf("%s %s: %d %s", c.r.Method, c.r.Authority, reply.Status, reply.Body)
		}
		if headers := marshal(t, reply.Headers); !strings.Contains(headers, `["cache-control","no-store"]`) || (c.status == 405) != strings.Contains(headers, `["allow","GET, HEAD"]`) {
			t.Errorf("%s: %s", c.r.Method, headers)
		}
	}
}

func TestStatusPathHasOneSpelling(t *testing.T) {
	for path, want := range map[string]bool{
		"/.drydock/status":             true,
		"/.drydock/status?x":           true,
		"/.drydock/status/":            false,
		"/.drydock/banner.js":          false,
		"/.drydock/":                   false,
		"/":                            false,
		"/.DRYDOCK/status":             false,
		"//.drydock/status":            false,
		"/x/../.drydock/status":        false,
		"/%2edrydock/status":           false,
		"/.drydock/../.drydock/status": false,
	} {
		if got := maintenance.IsStatusPath(path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

func TestParseConfig(t *testing.T) {
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
		want := defaults
		c.change(&want)
		got, err := maintenance.ParseConfig([]byte(c.config))
		if err != nil || !reflect.DeepEqual(maintenance.Written(*got), want) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
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
			t.Error("the error tells a secret")
		}
	}
}

// What holds before any state does.
func TestConfigExempts(t *testing.T) {
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
		t.Error("nothing is exempt by default")
	}
}

func TestUnknownState(t *testing.T) {
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

// The messages are JSON as encoding/json writes it.
func TestMessages(t *testing.T) {
	version := maintenance.Version{Epoch: 1<<64 - 1, Revision: 7}
	for _, m := range []interface{ AppendJSON([]byte) []byte }{
		maintenance.SyncRequest{},
		maintenance.SyncRequest{Version: version, Proxy: "p", Wait: maintenance.SyncWait},
		maintenance.Ack{},
		maintenance.Ack{Version: version, Proxy: "p", VM: "v", Node: "sidecar~10.0.0.1~\"quoted\"\\~\n", Time: 1763726400123, Requests: 12},
		maintenance.Ack{Node: "Größe \U0001f6a2 \u2028"},
	} {
		got := string(m.AppendJSON([]byte("before ")))
		var want strings.Builder
		encoder := json.NewEncoder(&want)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(m); err != nil {
			t.Fatal(err)
		}
		// The one liberty of encoding/json that remains.
		if w := "before " + strings.ReplaceAll(strings.TrimSuffix(want.String(), "\n"), `\u2028`, "\u2028"); got != w {
			t.Errorf("got  %s\nwant %s", got, w)
		}
	}
	// A node id is whatever an operator wrote.
	var back maintenance.Ack
	if err := json.Unmarshal(maintenance.Ack{Node: "a\xffb"}.AppendJSON(nil), &back); err != nil || back.Node != "a\ufffdb" {
		t.Errorf("%q, %v", back.Node, err)
	}
}

func TestHead(t *testing.T) {
	for _, h := range []maintenance.Head{
		{},
		{Version: maintenance.Version{Epoch: 1, Revision: 2}, Contact: 1763726400123},
		{Version: maintenance.Version{Epoch: 1<<64 - 1, Revision: 1 << 63}, Contact: -1},
	} {
		b := h.Append([]byte{})
		if len(b) != maintenance.HeadSize {
			t.Fatalf("%d bytes", len(b))
		}
		if got, ok := maintenance.ParseHead(append(b, `{"epoch":1}`...)); !ok || got != h {
			t.Errorf("%+v became %+v", h, got)
		}
		if _, ok := maintenance.ParseHead(b[:len(b)-1]); ok {
			t.Error("half a head was taken")
		}
	}
	if _, ok := maintenance.ParseHead(nil); ok {
		t.Error("nothing was taken for a head")
	}
}
