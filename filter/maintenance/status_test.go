package maintenance_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The public status must not contain a window that is not announced yet, nor who made a change. At
// noon the window of the app planned is announced, because it opens within its hour of announce,
// and that of the app secret is not, for lack of a second. Each app has the path of its name.
func TestStatusOmitsWhatIsNotPublic(t *testing.T) {
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
			now = noon.Add(-time.Millisecond) // 1 ms before its end: retry_after is rounded up to 1
		}

		st, ok := s.Status(name, now)
		if got := string(st.AppendJSON(nil)); !ok || got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if got := string(s.StatusOf(get("h", "/"+name+"?x"), now).AppendJSON([]byte("prefix "))); got != "prefix "+want {
			t.Errorf("of a request to %s: %s, want %s", name, got, want)
		}

		// encoding/json must read the same struct from the JSON, and write the same JSON.
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

// The filter answers a request for the public status with that of the app that the host belongs to.
func TestEdgeStatusAnswersGetAndHead(t *testing.T) {
	s := mustParse(t, `{"apps":[{"name":"shop","match":{"hosts":["shop.example.com"]},`+activationJSON(maintenance.NoAccess)+`}]}`)
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

// In any other spelling, the path is one like all others, and the request is decided.
func TestStatusPathHasOneSpelling(t *testing.T) {
	for path, want := range map[string]bool{
		"/.drydock/status":             true,
		"/.drydock/status?x":           true,
		"/.drydock/status/":            false,
		"/.drydock/other":              false,
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
