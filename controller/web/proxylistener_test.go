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

// A proxy polls by POST /proxy/v1/sync for a newer version of the state than the one that it has,
// and reports by POST /proxy/v1/ack which version it enforces. A version is an epoch, which rises
// with every new store, and a revision, which rises with every change.

// fullWait is the longest wait for a newer state that a proxy can ask for, in seconds. The filter
// asks for it too.
const fullWait = maintenance.SyncWait

// noWaitLimit is a time within which an answer comes that does not wait, also on a busy machine. It
// is much shorter than fullWait.
const noWaitLimit = 5 * time.Second

func TestSyncAnswersAtOnceWithANewerState(t *testing.T) {
	r := startRig(t)

	noVersion := maintenance.Version{}
	a, took := r.sync(noVersion, fullWait)
	state, err := maintenance.Parse([]byte(a.body))
	if a.status != http.StatusOK || err != nil || state.Version() != r.version() || took > noWaitLimit {
		t.Fatal(a, err, took)
	}

	before := r.version()
	r.turnOn(t, "default", maintenance.ReadOnly)
	if a, took = r.sync(before, fullWait); a.status != http.StatusOK || took > noWaitLimit {
		t.Fatal(a, took)
	}

	lowerEpoch := maintenance.Version{Epoch: r.version().Epoch - 1, Revision: 1000}
	if a, took = r.sync(lowerEpoch, fullWait); a.status != http.StatusOK || took > noWaitLimit {
		t.Fatal("a higher epoch is newer, whatever the revision: ", a)
	}
}

func TestSyncAnswersWithoutContentAfterTheWait(t *testing.T) {
	r := startRig(t)
	for _, c := range []struct {
		asked int // seconds
		wait  time.Duration
	}{
		{asked: 0, wait: 0},
		{asked: 1, wait: time.Second},
		{asked: -5, wait: 0},
	} {
		a, took := r.sync(r.version(), c.asked)
		if a.status != http.StatusNoContent || a.body != "" {
			t.Fatal(c.asked, a)
		}
		if took < c.wait || took > c.wait+noWaitLimit {
			t.Fatalf("a poll that may wait for %d s took %s", c.asked, took)
		}
	}
}

func TestSyncAnswersWhenTheStateChanges(t *testing.T) {
	r := startRig(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		time.Sleep(200 * time.Millisecond)
		r.turnOn(t, "default", maintenance.NoAccess)
	})

	a, took := r.sync(r.version(), fullWait)
	if a.status != http.StatusOK || !strings.Contains(a.body, `"no-access"`) || took > noWaitLimit {
		t.Fatal(a, took)
	}
}

func TestSyncNeverAnswersWithAnOlderState(t *testing.T) {
	r := startRig(t)
	ahead := r.version() // of a proxy that has a newer state than the controller
	ahead.Revision++
	if a, _ := r.sync(ahead, 0); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
}

func TestSyncChecksItsRequest(t *testing.T) {
	r := startRig(t)
	for body, status := range map[string]int{
		"{":               400,
		`{"wait":"long"}`: 400,
		"":                400,
		// Unknown fields are ignored: a newer filter may send more.
		`{"epoch":1,"later":"fields"}`: 200,
	} {
		if a := r.call("POST /proxy/v1/sync", syncToken, body); a.status != status {
			t.Errorf("%q: %d %s, want %d", body, a.status, a.body, status)
		}
	}
	if a := r.call("GET /proxy/v1/sync", syncToken, ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
		t.Error(a)
	}
}

// When the controller stops, requests that wait get the answer that they would get after their
// whole wait: polls of proxies, and requests for a status.
func TestStoppingEndsWaitingRequests(t *testing.T) {
	r := startRig(t)
	var wg sync.WaitGroup
	begin := time.Now()
	wg.Go(func() {
		if a, _ := r.sync(r.version(), fullWait); a.status != http.StatusNoContent {
			t.Error(a)
		}
	})
	wg.Go(func() {
		if a := r.call("GET /api/v1/apps/default/status?wait=enforced&timeout=60", viewerToken, ""); a.status != http.StatusOK {
			t.Error(a)
		}
	})

	time.Sleep(200 * time.Millisecond) // until both wait
	r.stop()
	wg.Wait()
	if took := time.Since(begin); took > noWaitLimit {
		t.Errorf("waited for %s", took)
	}
}

func TestAckEndsTheWaitForEnforced(t *testing.T) {
	r := startRig(t)
	// The only proxy reports the state before the change, and a moment later the one after it.
	r.ack(t, maintenance.Ack{Version: r.version(), Proxy: "p", VM: "1", Node: "n"})
	r.turnOn(t, "default", maintenance.NoAccess)

	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		time.Sleep(200 * time.Millisecond) // until the request below waits
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
	a := r.call("POST /proxy/v1/ack", syncToken, `{"proxy":"","vm":"1"}`)
	if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "proxy: must be") {
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

	a := r.call("GET /proxy/v1/pages/"+sha, syncToken, "")
	if a.status != http.StatusOK || a.body != "<p>page</p>" || a.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Error(a)
	}

	unknownSHA := strings.Repeat("0", 64)
	for _, path := range []string{
		"/proxy/v1/pages/" + unknownSHA, "/proxy/v1/pages/", "/proxy/v1/pages/../sync", "/proxy/v1/", "/proxy/v1/sync/",
	} {
		if a := r.call("GET "+path, syncToken, ""); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

// A page is HTML that an operator uploaded. Opened from the API's address, it must not run scripts
// there, and no answer may be taken for another type than it has.
func TestUploadedPagesCannotActForTheAPI(t *testing.T) {
	r := startRig(t)
	sha, err := r.keeper.PutPage(t.Context(), tester, []byte("<script>1</script>"))
	if err != nil {
		t.Fatal(err)
	}

	fromAPI := r.call("GET /api/v1/pages/"+sha, viewerToken, "")
	if got := fromAPI.header.Get("Content-Security-Policy"); fromAPI.status != http.StatusOK || got != "sandbox" {
		t.Errorf("status %d, Content-Security-Policy %q, want sandbox", fromAPI.status, got)
	}

	forProxies := r.call("GET /proxy/v1/pages/"+sha, syncToken, "")
	for name, a := range map[string]answer{"the API": fromAPI, "the proxy listener": forProxies} {
		if got := a.header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options %q, want nosniff", name, got)
		}
	}
}

// Proxies route the paths below /.drydock/ of the services that they protect to this listener, so
// it is open to everybody. The API must not be served there, also not under another spelling of a
// path: many servers clean a path, and then redirect to the clean path or serve it.
func TestProxyListenerServesNothingOfTheAPI(t *testing.T) {
	r := startRig(t)
	for _, path := range []string{
		"/", "/api/v1/apps", "/api/v1/status", "/metrics", "/healthz", "/.drydock/",
		"/.drydock/../api/v1/apps", "/.drydock/%2e%2e/api/v1/apps", "/.drydock/..;/api/v1/apps",
		"/.drydock/status/../../api/v1/apps",
		"//.drydock/status", "/.drydock/status/", "/.DRYDOCK/status", "/.drydock/pass",
	} {
		req, err := http.NewRequest(http.MethodGet, r.proxy.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = path // is sent as it is
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
		if res.StatusCode != http.StatusNotFound || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
		if location := res.Header.Get("Location"); location != "" {
			t.Errorf("%s redirects to %s", path, location)
		}
	}
}

// The public status at the edge is that of the app to which the Host header belongs, in each of its
// spellings. It shows a planned window only from its announcement on. Of the two apps here, both
// have a window in an hour: that of shop is announced two hours before, and that of blog a minute
// before.
func TestEdgeStatusIsThatOfTheHostsApp(t *testing.T) {
	r := startRig(t)
	start := time.Now().UTC().Truncate(time.Second).Add(time.Hour)
	end := start.Add(time.Hour)
	window := func(id string, announceSeconds int) []maintenance.Window {
		return []maintenance.Window{{
			ID: id, Mode: maintenance.NoAccess, Message: id, Announce: announceSeconds,
			Occurrences: []maintenance.Occurrence{{Start: start, End: end}},
		}}
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
	shop, err := r.keeper.Current().App("shop")
	if err != nil {
		t.Fatal(err)
	}
	since := shop.Activations[0].Since.Format(time.RFC3339Nano)
	next := fmt.Sprintf(`{"mode":"no-access","start":%q,"end":%q,"message":"announced"}`, start.Format(time.RFC3339), end.Format(time.RFC3339))
	for host, want := range map[string]string{
		"SHOP.example.com.:8080": `{"app":"shop","mode":"read-only","message":"x","since":"` + since + `","retry_after":3600,"next":` + next + `}`,
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

// Each of many proxies gets the first state and the last one, and never an older state than the one
// that it has. It may skip a state in between. The test logs how long the states took to arrive.
func TestAThousandProxiesFollowTheState(t *testing.T) {
	r := startRig(t)
	const pollers, toggles = 1000, 3
	transport := &http.Transport{MaxIdleConnsPerHost: pollers}
	defer transport.CloseIdleConnections()

	first := r.version()
	var mu sync.Mutex
	arrived := map[uint64][]time.Time{} // when each proxy got a state, by the revision of the state

	var wg sync.WaitGroup
	ready := make(chan struct{}, pollers) // has an element for each proxy that got the first state
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

				if isFirst := has.Epoch == 0; isFirst {
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
	mode, otherMode := maintenance.NoAccess, maintenance.ReadOnly
	for range toggles {
		r.turnOn(t, "default", mode)
		published = append(published, time.Now())
		mode, otherMode = otherMode, mode // so that the next toggle changes something
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

// poll waits for a newer state than the version that a proxy has, like [rig.sync]. It may be called
// by many goroutines at once, for which the transport must have enough connections. An answer
// without a state is an error.
func (r *rig) poll(transport *http.Transport, has maintenance.Version) (*maintenance.State, error) {
	body, _ := json.Marshal(maintenance.SyncRequest{Version: has, Proxy: "p", Wait: fullWait})
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

// BenchmarkToggle measures the time from a request to the API that turns an app on or off until a
// proxy that was waiting has the new state. The time includes a commit to the disk.
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

	received := make(chan struct{}) // gets an element for each state; closed when the proxy has ended
	finished := make(chan struct{}) // closed when nobody reads received any more
	go func() {
		defer close(received)
		for has := r.version(); ; {
			a, _ := r.sync(has, fullWait)
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
			case received <- struct{}{}:
			case <-finished:
			}
		}
	}()

	on := true
	for b.Loop() {
		toggle(on)
		on = !on
		<-received
	}

	close(finished)
	r.stop()
	<-received
}
