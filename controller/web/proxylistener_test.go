package web

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

var someone = keeper.Actor{Name: "test"}

func (r *rig) sync(has maintenance.Version, wait int) (answer, time.Duration) {
	body, _ := json.Marshal(maintenance.SyncRequest{Version: has, Proxy: "p", Wait: wait})
	begin := time.Now()
	return r.call("POST /proxy/v1/sync", syncToken, string(body)), time.Since(begin)
}

func (r *rig) on(t *testing.T, app string, mode maintenance.Mode) {
	t.Helper()
	if _, err := r.keeper.On(t.Context(), someone, keeper.Always, app, keeper.ManualActivation{Mode: mode, Message: "x"}); err != nil {
		t.Fatal(err)
	}
}

func TestSync(t *testing.T) {
	r := start(t)
	// Any state to who has none: at once, and such that the proxies' own code reads it.
	a, took := r.sync(maintenance.Version{}, 25)
	state, err := maintenance.Parse([]byte(a.body))
	if a.status != http.StatusOK || err != nil || state.Version() != r.version() || took > 5*time.Second {
		t.Fatal(a, err, took)
	}
	// Nothing newer: 204 after the wait.
	for _, wait := range []int{0, 1, -5} {
		a, took = r.sync(r.version(), wait)
		if least := time.Duration(max(wait, 0)) * time.Second; a.status != http.StatusNoContent || a.body != "" || took < least || took > least+5*time.Second {
			t.Fatal(wait, a, took)
		}
	}
	// A newer one while waiting: at once.
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		time.Sleep(200 * time.Millisecond)
		r.on(t, "default", maintenance.NoAccess)
	})
	a, took = r.sync(r.version(), 25)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"no-access"`) || took > 5*time.Second {
		t.Fatal(a, took)
	}
	// A newer one while away: at once.
	was := r.version()
	r.on(t, "default", maintenance.ReadOnly)
	if a, took = r.sync(was, 25); a.status != http.StatusOK || took > 5*time.Second {
		t.Fatal(a, took)
	}
	// A proxy that is ahead is not taken back.
	ahead := r.version()
	ahead.Revision++
	if a, _ = r.sync(ahead, 0); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	ahead.Epoch, ahead.Revision = ahead.Epoch-1, 1000
	if a, _ = r.sync(ahead, 25); a.status != http.StatusOK {
		t.Fatal("a newer epoch is newer, whatever the revision: ", a)
	}
	for body, status := range map[string]int{"{": 400, `{"wait":"long"}`: 400, "": 400, `{"epoch":1,"later":"fields"}`: 200} {
		if a := r.call("POST /proxy/v1/sync", syncToken, body); a.status != status {
			t.Errorf("%q: %d %s", body, a.status, a.body)
		}
	}
	if a := r.call("GET /proxy/v1/sync", syncToken, ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
		t.Error(a)
	}
}

func TestStopEndsWaiting(t *testing.T) {
	r := start(t)
	var wg sync.WaitGroup
	begin := time.Now()
	wg.Go(func() {
		if a, _ := r.sync(r.version(), 25); a.status != http.StatusNoContent {
			t.Error(a)
		}
	})
	wg.Go(func() {
		if a := r.call("GET /api/v1/apps/default/status?wait=enforced&timeout=60", viewerToken, ""); a.status != http.StatusOK {
			t.Error(a)
		}
	})
	time.Sleep(200 * time.Millisecond)
	r.stop()
	wg.Wait()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("waited for %s", took)
	}
}

func TestAckAndWait(t *testing.T) {
	r := start(t)
	ack := func(version maintenance.Version) {
		body, _ := json.Marshal(maintenance.Ack{Version: version, Proxy: "p", VM: "1", Node: "n", Time: time.Now().UnixMilli()})
		if a := r.call("POST /proxy/v1/ack", syncToken, string(body)); a.status != http.StatusNoContent {
			t.Error(a)
		}
	}
	ack(r.version())
	r.on(t, "default", maintenance.NoAccess)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		time.Sleep(200 * time.Millisecond)
		ack(r.version())
	})
	begin := time.Now()
	var st keeper.AppStatus
	a := r.call("GET /api/v1/apps/default/status?wait=enforced&timeout=20", viewerToken, "")
	if err := json.Unmarshal([]byte(a.body), &st); err != nil || !st.Enforced || time.Since(begin) > 5*time.Second {
		t.Fatal(a, err)
	}
	if a := r.call("POST /proxy/v1/ack", syncToken, `{"proxy":"","vm":"1"}`); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "proxy: must be") {
		t.Error(a)
	}
	if a := r.call("GET /api/v1/apps/default/status?wait=forever", viewerToken, ""); a.status != http.StatusUnprocessableEntity {
		t.Error(a)
	}
}

// The proxies' listener serves what is said and nothing else, in whatever disguise.
func TestProxyListener(t *testing.T) {
	r := start(t)
	sha, err := r.keeper.PutPage(t.Context(), someone, []byte("<p>page</p>"))
	if err != nil {
		t.Fatal(err)
	}
	if a := r.call("GET /proxy/v1/pages/"+sha, syncToken, ""); a.status != http.StatusOK || a.body != "<p>page</p>" || a.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Error(a)
	}
	for _, path := range []string{"/proxy/v1/pages/" + strings.Repeat("0", 64), "/proxy/v1/pages/", "/proxy/v1/pages/../sync", "/proxy/v1/", "/proxy/v1/sync/"} {
		if a := r.call("GET "+path, syncToken, ""); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	for _, path := range []string{"/", "/api/v1/apps", "/api/v1/status", "/metrics", "/healthz", "/.drydock/", "/.drydock/../api/v1/apps", "/.drydock/%2e%2e/api/v1/apps",
		"/.drydock/..;/api/v1/apps", "//.drydock/status", "/.drydock/status/", "/.drydock/status/../../api/v1/apps", "/.DRYDOCK/status", "/.drydock/pass"} {
		req, err := http.NewRequest(http.MethodGet, r.proxy.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = path
		if strings.HasPrefix(path, "//") {
			req.URL.Opaque = "" // Opaque would be taken for a host
			req.URL.Path = path
		}
		req.Header.Set("Authorization", "Bearer "+operatorToken)
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusNotFound || res.Header.Get("Content-Type") != "application/problem+json" || res.Header.Get("Location") != "" {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
}

func TestEdgeStatus(t *testing.T) {
	r := start(t)
	start := time.Now().UTC().Truncate(time.Second).Add(time.Hour)
	window := func(id string, announce int) maintenance.Window {
		return maintenance.Window{ID: id, Mode: maintenance.NoAccess, Message: id, Announce: announce, Occurrences: []maintenance.Occurrence{{Start: start, End: start.Add(time.Hour)}}}
	}
	for _, spec := range []maintenance.Spec{
		{Name: "shop", Match: maintenance.Match{Hosts: []string{"shop.example.com"}}, Windows: []maintenance.Window{window("announced", 7200)}},
		{Name: "blog", Match: maintenance.Match{Hosts: []string{"*.example.org"}}, Windows: []maintenance.Window{window("secret", 60)}},
	} {
		if _, err := r.keeper.PutSpec(t.Context(), someone, keeper.Always, spec); err != nil {
			t.Fatal(err)
		}
	}
	r.on(t, "shop", maintenance.ReadOnly)
	since := r.keeper.Current().Apps()[1].Activations[0].Since.Format(time.RFC3339Nano)
	at := start.Format(time.RFC3339)
	end := start.Add(time.Hour).Format(time.RFC3339)
	for host, want := range map[string]string{
		"SHOP.example.com.:8080": `{"app":"shop","mode":"read-only","message":"x","since":"` + since + `","retry_after":3600,"next":{"mode":"no-access","start":"` + at + `","end":"` + end + `","message":"announced"}}`,
		"a.example.org":          `{"app":"blog","mode":"off"}`,
		"unknown":                `{"app":"default","mode":"off"}`,
	} {
		a := r.call("GET /.drydock/status?x=y", "", "", "Host: "+host)
		if strings.TrimSpace(a.body) != want || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v\nwant %s", host, a, want)
		}
	}
	if a := r.call("POST /.drydock/status", "", "{}"); a.status != http.StatusMethodNotAllowed {
		t.Error(a)
	}
	if a := r.call("HEAD /.drydock/status", "", ""); a.status != http.StatusOK || a.body != "" {
		t.Error(a)
	}
	// The API's own public status says the same of an app.
	a := r.call("GET /api/system/maintenance/status?app=blog", "", "")
	if got := strings.TrimSpace(a.body); got != `{"maintenance":false,"app":"blog","mode":"off"}` || a.header.Get("Cache-Control") != "no-store" {
		t.Error(a)
	}
}

// A thousand proxies wait, and all of them get each new state.
func TestManyPollers(t *testing.T) {
	r := start(t)
	const pollers, toggles = 1000, 3
	transport := &http.Transport{MaxIdleConnsPerHost: pollers}
	defer transport.CloseIdleConnections()
	var mu sync.Mutex
	arrived := map[uint64][]time.Time{}
	var wg sync.WaitGroup
	ready := make(chan struct{}, pollers)
	poll := func(has maintenance.Version, wait int) (*maintenance.State, error) {
		body, _ := json.Marshal(maintenance.SyncRequest{Version: has, Proxy: "p", Wait: wait})
		req, err := http.NewRequest(http.MethodPost, r.proxy.URL+maintenance.SyncPath, strings.NewReader(string(body)))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+syncToken)
		res, err := transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%d: %v", res.StatusCode, err)
		}
		return maintenance.Parse(data)
	}
	first := r.version()
	for range pollers {
		wg.Go(func() {
			has := maintenance.Version{}
			for has.Revision < first.Revision+toggles {
				s, err := poll(has, 25)
				now := time.Now()
				if err != nil {
					t.Error(err)
					return
				}
				if s.Version().Compare(has) <= 0 {
					t.Errorf("went from %+v to %+v", has, s.Version())
					return
				}
				if has.Epoch == 0 {
					ready <- struct{}{}
				}
				has = s.Version()
				mu.Lock()
				arrived[has.Revision] = append(arrived[has.Revision], now)
				mu.Unlock()
			}
		})
	}
	for range pollers {
		<-ready
	}
	time.Sleep(500 * time.Millisecond) // until they wait again
	var published []time.Time
	for i := range toggles {
		mode := []maintenance.Mode{maintenance.NoAccess, maintenance.ReadOnly}[i%2]
		r.on(t, "default", mode)
		published = append(published, time.Now())
		time.Sleep(time.Second)
	}
	wg.Wait()
	for i, at := range published {
		times := arrived[first.Revision+uint64(i)+1]
		slices.SortFunc(times, time.Time.Compare)
		if len(times) == 0 {
			t.Errorf("nobody got toggle %d", i)
			continue
		}
		t.Logf("toggle %d: %d of %d proxies got it, the middle one after %s, the last after %s", i, len(times), pollers,
			times[len(times)/2].Sub(at).Round(time.Millisecond), times[len(times)-1].Sub(at).Round(time.Millisecond))
	}
	if n := len(arrived[first.Revision+toggles]); n != pollers {
		t.Errorf("%d of %d got the last state", n, pollers)
	}
}

// BenchmarkToggle is an on or off through the API until a waiting proxy has it: a
// commit to the disk lies in between.
func BenchmarkToggle(b *testing.B) {
	r := start(b)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	call := func(method, url, token, body string) []byte {
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			b.Error(err)
			return nil
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("If-Match", "*")
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		res, err := client.Do(req)
		if err != nil {
			b.Error(err)
			return nil
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode >= 300 {
			b.Errorf("%s %s: %d %v", method, url, res.StatusCode, err)
		}
		return data
	}
	got := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(got)
		for has := r.version(); ; {
			body, _ := json.Marshal(maintenance.SyncRequest{Version: has, Proxy: "p", Wait: 25})
			data := call(http.MethodPost, r.proxy.URL+maintenance.SyncPath, syncToken, string(body))
			if len(data) == 0 {
				return // stopped
			}
			s, err := maintenance.Parse(data)
			if err != nil {
				b.Error(err)
				return
			}
			has = s.Version()
			select {
			case got <- struct{}{}:
			case <-stopped:
			}
		}
	}()
	on := true
	for b.Loop() {
		if on {
			call(http.MethodPost, r.api.URL+"/api/v1/apps/default/activations", operatorToken, "{}")
		} else {
			call(http.MethodDelete, r.api.URL+"/api/v1/apps/default/activations", operatorToken, "")
		}
		on = !on
		<-got
	}
	close(stopped)
	r.stop()
	<-got
}
