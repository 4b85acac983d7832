package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/store"
	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/internal/golden"
)

const (
	operatorToken = "operator-token-of-the-tests"
	viewerToken   = "viewer-token-of-the-tests"
	syncToken     = "sync-token-of-the-tests"
)

type rig struct {
	t          *testing.T
	keeper     *keeper.Keeper
	api, proxy *httptest.Server
	stop       context.CancelFunc // what waits
	closeStore func()
}

var discard = slog.New(slog.DiscardHandler)

func start(t testing.TB) *rig {
	t.Helper()
	r := &rig{}
	r.t, _ = t.(*testing.T)
	db, err := store.OpenBolt(filepath.Join(t.TempDir(), "drydock.db"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.closeStore = func() { db.Close() }
	r.keeper, err = keeper.Open(t.Context(), keeper.Options{Store: db, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	boot := keeper.Actor{Name: "bootstrap"}
	for _, token := range []struct {
		secret string
		role   keeper.Role
	}{{operatorToken, keeper.Operator}, {viewerToken, keeper.Viewer}} {
		if _, err := r.keeper.CreateToken(t.Context(), boot, string(token.role), token.role, token.secret); err != nil {
			t.Fatal(err)
		}
	}
	var stopping context.Context
	stopping, r.stop = context.WithCancel(context.Background())
	o := Options{Keeper: r.keeper, SyncToken: syncToken, Stopping: stopping, Now: time.Now, Log: discard, Version: "test"}
	r.api, r.proxy = httptest.NewServer(API(o)), httptest.NewServer(Proxy(o))
	running := make(chan struct{})
	go func() { r.keeper.Run(stopping); close(running) }()
	t.Cleanup(func() {
		r.stop()
		r.api.Close()
		r.proxy.Close()
		<-running
		db.Close()
	})
	return r
}

type answer struct {
	status int
	header http.Header
	body   string
}

// call makes a request: "METHOD /path", a body ("" for none), and headers as "Name: value".
func (r *rig) call(what, token, body string, headers ...string) answer {
	r.t.Helper()
	method, path, _ := strings.Cut(what, " ")
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
			req.Host = value
		}
	}
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

var unstable = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`"epoch": \d+`), `"epoch": 1`},
	{regexp.MustCompile(`m-[a-z2-7]{10}`), "m-ID"},
	{regexp.MustCompile(`(\\?")[\w-]{20}(\\?")`), "${1}ETAG${2}"},
	{regexp.MustCompile(`"id": "[a-z2-7]{10}"`), `"id": "ID"`},
	{regexp.MustCompile(`drydock_[0-9a-f]{64}`), "drydock_SECRET"},
	{regexp.MustCompile(`"skew_ms": -?\d+`), `"skew_ms": 0`},
}

func stable(s string) string {
	for _, u := range unstable {
		s = u.find.ReplaceAllString(s, u.put)
	}
	return s
}

// transcript is how an answer stands in a golden file.
func (a answer) transcript() string {
	var b strings.Builder
	b.WriteString(http.StatusText(a.status) + "\n")
	for _, h := range []string{"Content-Type", "Etag", "Allow", "Www-Authenticate", "Retry-After"} {
		if v := a.header.Get(h); v != "" {
			b.WriteString(h + ": " + v + "\n")
		}
	}
	var indented bytes.Buffer
	if json.Indent(&indented, []byte(a.body), "", "  ") == nil {
		b.Write(bytes.TrimSpace(indented.Bytes()))
	} else {
		b.WriteString(strings.TrimSpace(a.body))
	}
	return stable(b.String())
}

func (r *rig) version() maintenance.Version { return r.keeper.Current().Version() }

func TestOpenAPI(t *testing.T) {
	r := start(t)
	a := r.call("GET /api/v1/openapi.json", "", "")
	golden.Compare(t, "testdata/openapi.json", a.body+"\n")
}
