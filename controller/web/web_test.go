package web

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The tests of this package call both listeners over HTTP, on a keeper with a real store. A [rig]
// has these; web_test.go has what the tests share.

// The tokens of a rig: two API tokens, and the one that proxies send.
const (
	operatorToken = "operator-token-of-the-tests"
	viewerToken   = "viewer-token-of-the-tests"
	syncToken     = "sync-token-of-the-tests"
)

// anyState is the header of a change that replaces whatever is there.
const anyState = "If-Match: *"

// A rig is a running keeper, and a server for each of the two listeners.
type rig struct {
	t          testing.TB
	keeper     *keeper.Keeper
	api, proxy *httptest.Server
	stop       context.CancelFunc // does what the controller does first when it stops, see Options.Stopping
	closeStore func()             // makes all further writes fail
}

// answer is the response to a request, with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

// tester is the actor of changes that tests make without the API.
var tester = keeper.Actor{Name: "test"}

var noLog = slog.New(slog.DiscardHandler)

// startRig starts a rig with a new store, whose only app is the default app. It ends with the test.
func startRig(t testing.TB) *rig {
	t.Helper()
	db, err := store.OpenBolt(filepath.Join(t.TempDir(), "drydock.db"), time.Now())
	if err != nil {
		t.Fatal(err)
	}

	k, err := keeper.Open(t.Context(), keeper.Options{Store: db, Log: noLog})
	if err != nil {
		t.Fatal(err)
	}

	createToken := func(role keeper.Role, secret string) {
		name := string(role)
		if _, err := k.CreateToken(t.Context(), keeper.Actor{Name: "bootstrap"}, name, role, secret); err != nil {
			t.Fatal(err)
		}
	}
	createToken(keeper.Operator, operatorToken)
	createToken(keeper.Viewer, viewerToken)

	stopping, stop := context.WithCancel(context.Background())
	o := Options{
		Keeper: k, SyncToken: syncToken, Stopping: stopping, Now: time.Now, Log: noLog, Version: "test",
	}
	r := &rig{
		t: t, keeper: k, api: httptest.NewServer(API(o)), proxy: httptest.NewServer(Proxy(o)),
		stop: stop, closeStore: func() { db.Close() },
	}

	running := make(chan struct{})
	go func() {
		defer close(running)
		k.Run(stopping)
	}()

	t.Cleanup(func() {
		stop()
		r.api.Close()
		r.proxy.Close()
		<-running
		db.Close()
	})
	return r
}

// call makes a request, such as "GET /healthz", to the listener that has this path. headers are of
// the form "Name: value". An empty token or body is not sent.
func (r *rig) call(methodAndPath, token, body string, headers ...string) answer {
	r.t.Helper()
	method, path, _ := strings.Cut(methodAndPath, " ")
	base := r.api.URL
	if strings.HasPrefix(path, "/proxy/") || strings.HasPrefix(path, "/.drydock/") {
		base = r.proxy.URL
	}

	req, err := http.NewRequestWithContext(r.t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}

	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
		if name == "Host" {
			req.Host = value // which net/http sends in place of the header
		}
	}

	// A transport, unlike a client, does not follow redirects.
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()

	data, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(data)}
}

// version returns the version of the newest state.
func (r *rig) version() maintenance.Version { return r.keeper.Current().Version() }

// turnOn puts an app into maintenance without the API.
func (r *rig) turnOn(t *testing.T, app string, mode maintenance.Mode) {
	t.Helper()
	activation := keeper.ManualActivation{Mode: mode, Message: "x"}
	if _, err := r.keeper.On(t.Context(), tester, keeper.Always, app, activation); err != nil {
		t.Fatal(err)
	}
}

// sync polls as a proxy that has a version and wants to wait at most for the given number of
// seconds. It also returns how long the answer took.
func (r *rig) sync(has maintenance.Version, waitSeconds int) (answer, time.Duration) {
	body, _ := json.Marshal(maintenance.SyncRequest{Version: has, Proxy: "p", Wait: waitSeconds})
	begin := time.Now()
	return r.call("POST /proxy/v1/sync", syncToken, string(body)), time.Since(begin)
}

// ack sends a proxy's report of the version that one of its VMs enforces, with the proxy's clock
// set to the present time. It must be accepted.
func (r *rig) ack(t testing.TB, report maintenance.Ack) {
	t.Helper()
	report.Time = time.Now().UnixMilli()
	body, _ := json.Marshal(report)
	if a := r.call("POST /proxy/v1/ack", syncToken, string(body)); a.status != http.StatusNoContent {
		t.Error(a)
	}
}
