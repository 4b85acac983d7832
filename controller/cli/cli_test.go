package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/drydock-proxy/drydock/controller"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

const (
	token     = "operator-token-of-the-tests"
	syncToken = "sync-token-of-the-tests"
)

// TestScripts runs each script of testdata against a controller of its own. Beside
// drydock a script has proxy NAME, which starts a proxy that follows and acks, and
// leave NAME, which ends it, and cut NAME, which cuts it off: nothing of it arrives any
// more, but no connection is closed.
func TestScripts(t *testing.T) {
	// The real binary, which also starts in a fraction of the time that one with the
	// race detector needs.
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/drydock").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("TZ", "UTC")
			env.Setenv("DRYDOCK_SYNC_TOKEN", syncToken)
			c, err := controller.New(context.Background(), controller.Options{
				Data: filepath.Join(env.WorkDir, ".controller"), Listen: "127.0.0.1:0", ProxyListen: "127.0.0.1:0",
				BootstrapToken: token, SyncToken: syncToken, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				return err
			}
			c.Start()
			fleet := &fleet{url: "http://" + c.ProxyAddr(), stop: map[string]context.CancelFunc{}, cut: map[string]context.CancelFunc{}}
			env.Values["fleet"] = fleet
			env.Defer(func() {
				fleet.leaveAll()
				c.Stop(context.Background())
			})
			env.Setenv("DRYDOCK_URL", "http://"+c.Addr())
			env.Setenv("DRYDOCK_TOKEN", token)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"proxy": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Check(ts.Value("fleet").(*fleet).join(args[0]))
			},
			"leave": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Value("fleet").(*fleet).leave(args[0])
			},
			"cut": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Value("fleet").(*fleet).cut[args[0]]()
			},
			// exits CODE COMMAND… runs a command that must end with that code.
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				code := 0
				if exit, ok := err.(interface{ ExitCode() int }); ok {
					code = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if fmt.Sprint(code) != args[0] {
					ts.Fatalf("exit code %d, want %s", code, args[0])
				}
			},
		},
	})
}

// fleet are proxies as the controller sees them: they poll and ack as the filter does.
type fleet struct {
	url     string
	running sync.WaitGroup
	stop    map[string]context.CancelFunc
	cut     map[string]context.CancelFunc
}

// join starts a proxy, and returns when it has said its first word.
func (f *fleet) join(name string) error {
	ctx, cancel := context.WithCancel(context.Background())
	reach, cut := context.WithCancel(ctx)
	f.stop[name], f.cut[name] = cancel, cut
	client := &http.Client{}
	post := func(path string, message any) ([]byte, error) {
		body, err := json.Marshal(message)
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+syncToken)
		res, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		return io.ReadAll(res.Body)
	}
	var mu sync.Mutex
	var has maintenance.Version
	ack := func() error {
		mu.Lock()
		defer mu.Unlock()
		_, err := post(maintenance.AckPath, maintenance.Ack{Version: has, Proxy: name, VM: "1", Node: "node-of-" + name, Time: time.Now().UnixMilli()})
		return err
	}
	follow := func(wait int) error {
		mu.Lock()
		req := maintenance.SyncRequest{Version: has, Proxy: name, Wait: wait}
		mu.Unlock()
		doc, err := post(maintenance.SyncPath, req)
		if reach.Err() != nil {
			<-ctx.Done()
			return ctx.Err()
		}
		if err != nil || len(doc) == 0 {
			return err
		}
		s, err := maintenance.Parse(doc)
		if err != nil {
			return err
		}
		mu.Lock()
		has = s.Version()
		mu.Unlock()
		return ack()
	}
	if err := follow(0); err != nil {
		return err
	}
	f.running.Go(func() {
		for ctx.Err() == nil {
			if follow(maintenance.SyncWait) != nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
	})
	f.running.Go(func() {
		beat := time.NewTicker(maintenance.HeartbeatSeconds * time.Second)
		defer beat.Stop()
		for {
			select {
			case <-reach.Done():
				return
			case <-beat.C:
				ack()
			}
		}
	})
	return nil
}

func (f *fleet) leave(name string) { f.stop[name]() }

func (f *fleet) leaveAll() {
	for _, stop := range f.stop {
		stop()
	}
	f.running.Wait()
}

func TestParseTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 10, 24, 21, 30, 0, 0, berlin) // the night in which summer time ends
	for in, want := range map[string]string{
		"2026-11-21T22:00:00Z":      "2026-11-21T22:00:00Z",
		"2026-11-21T22:00:00+02:00": "2026-11-21T22:00:00+02:00",
		"22:00":                     "2026-10-24T22:00:00+02:00",
		"21:30":                     "2026-10-25T21:30:00+01:00",
		"6:00":                      "2026-10-25T06:00:00+01:00",
		"tomorrow":                  "error",
		"25:00":                     "error",
		"":                          "error",
	} {
		got, err := parseTime(in, now)
		if out := got.Format(time.RFC3339); err == nil && out != want || err != nil && want != "error" {
			t.Errorf("%q: %s, %v; want %s", in, out, err, want)
		}
	}
}

func TestParseClaims(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want map[string]any
	}{
		{nil, nil},
		{[]string{"iss=https://idp.example.com", "admin=true", "level=3"}, map[string]any{"iss": "https://idp.example.com", "admin": true, "level": 3.0}},
		{[]string{"realm_access.roles=user", "realm_access.roles=admin"}, map[string]any{"realm_access": map[string]any{"roles": []any{"user", "admin"}}}},
		{[]string{`groups=["a","b"]`}, map[string]any{"groups": []any{"a", "b"}}},
		{[]string{"https://example.com/roles=x"}, map[string]any{"https://example.com/roles": "x"}},
		{[]string{"empty="}, map[string]any{"empty": ""}},
	} {
		if got, err := parseClaims(c.in); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %v, %v; want %v", c.in, got, err, c.want)
		}
	}
	for _, in := range [][]string{{"x"}, {"=x"}, {"a=1", "a.b=2"}} {
		if got, err := parseClaims(in); exitCode(err) != exitUsage {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{now.Add(-5 * time.Second), "19:59:55 (5s ago)"},
		{now.Add(90 * time.Minute), "21:30:00 (in 1h30m)"},
		{now.Add(30 * time.Hour), "2026-11-23 02:00 (in 30h00m)"},
		{now.Add(-72 * time.Hour), "2026-11-18 20:00 (3d ago)"},
	} {
		if got := moment(c.t, now); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// Every command says what it does, and its examples parse.
func TestHelp(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Run(t.Context(), []string{"--help"}, nil, &out, &errs); code != exitOK {
		t.Fatal(code, errs.String())
	}
	for _, command := range []string{"serve", "on", "off", "status", "app", "allow", "apply", "explain", "proxies", "audit", "token", "version"} {
		if !strings.Contains(out.String(), "\n  "+command+" ") {
			t.Errorf("no %s in the help", command)
		}
	}
}
