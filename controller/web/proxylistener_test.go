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

// noWaitLimit bounds the time of an answer that does not wait.
const noWaitLimit = 5 * time.Second

func TestSyncAnswersAtOnceWithANewerState(t *testing.T) {
	r := startRig(t)

	a, took := r.sync(maintenance.Version{}, 25)
	state, err := maintenance.Parse([]byte(a.body))
	if a.status != http.StatusOK || err != nil || state.Version() != r.version() || took > noWaitLimit {
		t.Fatal(a, err, took)
	}

	before := r.version()
	r.turnOn(t, "default", maintenance.ReadOnly)
	if a, took = r.sync(before, 25); a.status != http.StatusOK || took > noWaitLimit {
		t.Fatal(a, took)
	}

	otherEpoch := maintenance.Version{Epoch: r.version().Epoch - 1, Revision: 1000}
	if a, took = r.sync(otherEpoch, 25); a.status != http.StatusOK || took > noWaitLimit {
		t.Fatal("a higher epoch is newer, whatever the revision: ", a)
	}
}

func TestSyncWaitsForANewerState(t *testing.T) {
	r := startRig(t)
	for _, wait := range []int{0, 1, -5} {
		a, took := r.sync(r.version(), wait)
		if least := time.Duration(max(wait, 0)) * time.Second; a.status != http.StatusNoContent || a.body != "" || took < least || took > least+noWaitLimit {
			t.Fatal(wait, a, took)
		}
	}

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		time.Sleep(200 * time.Millisecond)
		r.turnOn(t, "default", maintenance.NoAccess)
	})

	a, took := r.sync(r.version(), 25)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"no-access"`) || took > noWaitLimit {
		t.Fatal(a, took)
	}
}

func TestSyncNeverAnswersWithAnOlderState(t *testing.T) {
	r := startRig(t)
	ahead := r.version()
	ahead.Revision++
	if a, _ := r.sync(ahead, 0); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
}

func TestSyncChecksItsRequest(t *testing.T) {
	r := startRig(t)
	for body, status := range map[string]int{"{": 400, `{"wait":"long"}`: 400, "": 400, `{"epoch":1,"later":"fields"}`: 200} {
		if a := r.call("POST /proxy/v1/sync", syncToken, body); a.status != status {
			t.Errorf("%q: %d %s", body, a.status, a.body)
		}
	}
	if a := r.call("GET /proxy/v1/sync", syncToken, ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
		t.Error(a)
	}
}

func TestStoppingEndsWaitingRequests(t *testing.T) {
	r := startRig(t)
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
	if took := time.Since(begin); took > noWaitLimit {
		t.Errorf("waited for %s", took)
	}
}

func TestAckEndsTheWaitForEnforced(t *testing.T) {
	r := startRig(t)
	r.ack(t, maintenance.Ack{Version: r.version(), Proxy: "p", VM: "1", Node: "n"})
	r.turnOn(t, "default", maintenance.NoAccess)

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		time.Sleep(200 * time.Millisecond)
		r.ack(t, maintenance.Ack{Version: r.version(), Proxy: "p", VM: "1", Node: "n"})
	})

	begin := time.Now()
	var st keeper.AppStatus
	a := r.call("GET /api/v1/apps/default/status?wait=enforced&timeout=20", viewerToken, "")
	if err := json.Unmarshal([]byte(a.body), &st); err != nil || !st.Enforced || time.Since(begin) > noWaitLimit {
		t.Fatal(a, err)
	}
}

func TestInvalidAcksAndWaitsAreRefused(t *testing.T) {
	r := startRig(t)
	if a := r.call("POST /proxy/v1/ack", syncToken, `{"proxy":"","vm":"1"}`); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "proxy: must be") {
		t.Error(a)
	}
	if a := r.call("GET /api/v1/apps/default/status?wait=forever", viewerToken, ""); a.status != http.StatusUnprocessableEntity {
		t.Error(a)
	}
}

func TestProxyListenerServesPages(t *testing.T) {
	r := startRig(t)
	sha, err := r.keeper.PutPage(t.Context(), tester, []byte("<p>page</p>"))
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
}

// Other spellings of a path, which a cleaning server would redirect or follow, lead nowhere.
func TestProxyListenerServesNothingOfTheAPI(t *testing.T) {
	r := startRig(t)
	for _, path := range []string{"/", "/api/v1/apps", "/api/v1/status", "/metrics", "/healthz", "/.drydock/", "/.drydock/../api/v1/apps", "/.drydock/%2e%2e/api/v1/apps",
		"/.drydock/..;/api/v1/apps", "//.drydock/status", "/.drydock/status/", "/.drydock/status/../../api/v1/apps", "/.DRYDOCK/status", "/.drydock/pass"} {
		req, err := http.NewRequest(http.MethodGet, r.proxy.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = path
		if strings.HasPrefix(path, "//") {
			req.URL.Opaque = "" // net/http would take the start of Opaque for a host
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

func TestEdgeStatusIsThatOfTheHostsApp(t *testing.T) {
	r := startRig(t)
	start := time.Now().UTC().Truncate(time.Second).Add(time.Hour)
	window := func(id string, announce int) []maintenance.Window {
		return []maintenance.Window{{ID: id, Mode: maintenance.NoAccess, Message: id, Announce: announce, Occurrences: []maintenance.Occurrence{{Start: start, End: start.Add(time.Hour)}}}}
	}
	for _, spec := range []maintenance.Spec{
		{Name: "shop", Match: maintenance.Match{Hosts: []string{"shop.example.com"}}, Windows: window("announced", 7200)},
		{Name: "blog", Match: maintenance.Match{Hosts: []string{"*.example.org"}}, Windows: window("secret", 60)},
	} {
		if _, err := r.keeper.PutSpec(t.Context(), tester, keeper.Always, spec); err != nil {
			t.Fatal(err)
		}
	}

	r.turnOn(t, "shop", maintenance.ReadOnly)
	since := r.keeper.Current().Apps()[1].Activations[0].Since.Format(time.RFC3339Nano)
	from, until := start.Format(time.RFC3339), start.Add(time.Hour).Format(time.RFC3339)
	for host, want := range map[string]string{
		"SHOP.example.com.:8080": `{"app":"shop","mode":"read-only","message":"x","since":"` + since + `","retry_after":3600,"next":{"mode":"no-access","start":"` + from + `","end":"` + until + `","message":"announced"}}`,
		"a.example.org":          `{"app":"blog","mode":"off"}`,
		"unknown":                `{"app":"default","mode":"off"}`,
	} {
		a := r.call("GET /.drydock/status?x=y", "", "", "Host: "+host)
		if strings.TrimSpace(a.body) != want || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v\nwant %s", host, a, want)
		}
	}

	// The API's public status says the same of an app.
	a := r.call("GET /api/system/maintenance/status?app=blog", "", "")
	if got := strings.TrimSpace(a.body); got != `{"maintenance":false,"app":"blog","mode":"off"}` || a.header.Get("Cache-Control") != "no-store" {
		t.Error(a)
	}
}

func TestEdgeStatusIsReadOnly(t *testing.T) {
	r := startRig(t)
	if a := r.call("POST /.drydock/status", "", "{}"); a.status != http.StatusMethodNotAllowed {
		t.Error(a)
	}
	if a := r.call("HEAD /.drydock/status", "", ""); a.status != http.StatusOK || a.body != "" {
		t.Error(a)
	}
}

func TestAThousandProxiesGetEveryState(t *testing.T) {
	r := startRig(t)
	const pollers, toggles = 1000, 3
	transport := &http.Transport{MaxIdleConnsPerHost: pollers}
	defer transport.CloseIdleConnections()

	first := r.version()
	var mu sync.Mutex
	arrived := map[uint64][]time.Time{} // by revision

	var wg sync.WaitGroup
	ready := make(chan struct{}, pollers)
	for range pollers {
		wg.Go(func() {
			has := maintenance.Version{}
			for has.Revision < first.Revision+toggles {
				s, err := r.poll(transport, has)
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
		r.turnOn(t, "default", []maintenance.Mode{maintenance.NoAccess, maintenance.ReadOnly}[i%2])
		published = append(published, time.Now())
		time.Sleep(time.Second)
	}
	wg.Wait()

	for i, at := range published {
		times := arrived[first.Revision+uint64(i)+1]
		if len(times) == 0 {
			t.Errorf("no proxy got toggle %d", i)
			continue
		}
		slices.SortFunc(times, time.Time.Compare)
		t.Logf("toggle %d: %d of %d proxies got it, the median after %s, the last after %s", i, len(times), pollers,
			times[len(times)/2].Sub(at).Round(time.Millisecond), times[len(times)-1].Sub(at).Round(time.Millisecond))
	}

	if n := len(arrived[first.Revision+toggles]); n != pollers {
		t.Errorf("%d of %d proxies got the last state", n, pollers)
	}
}

// poll waits for a newer state than a version, with a transport of the caller.
func (r *rig) poll(transport *http.Transport, has maintenance.Version) (*maintenance.State, error) {
	body, _ := json.Marshal(maintenance.SyncRequest{Version: has, Proxy: "p", Wait: 25})
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

// BenchmarkToggle measures a toggle through the API until a waiting proxy has the state, which
// includes a commit to the disk.
func BenchmarkToggle(b *testing.B) {
	r := startRig(b)
	toggle := func(on bool) {
		a := answer{}
		if on {
			a = r.call("POST /api/v1/apps/default/activations", operatorToken, "{}", anyState)
		} else {
			a = r.call("DELETE /api/v1/apps/default/activations", operatorToken, "", anyState)
		}
		if a.status != http.StatusOK {
			b.Error(a)
		}
	}

	got := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(got)
		for has := r.version(); ; {
			a, _ := r.sync(has, 25)
			if a.status == http.StatusNoContent {
				return // the rig stopped
			}
			s, err := maintenance.Parse([]byte(a.body))
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
		toggle(on)
		on = !on
		<-got
	}
	close(stopped)
	r.stop()
	<-got
}
