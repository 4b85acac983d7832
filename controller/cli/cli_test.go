package cli

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/drydock-proxy/drydock/controller"
)

const (
	token     = "operator-token-of-the-tests"
	syncToken = "sync-token-of-the-tests"
)

// TestScripts runs each script in testdata with a controller of its own. In addition to drydock,
// scripts have these commands:
//
//	proxy NAME        start a proxy that follows the controller and reports
//	leave NAME        end the proxy
//	cut NAME          lose the proxy's messages, but keep its connection open
//	exits CODE CMD…   run a command that must end with an exit code
func TestScripts(t *testing.T) {
	// The scripts run a binary without the race detector, which starts many times faster than the
	// test's own one.
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/drydock").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("TZ", "UTC")
			return startController(env)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"proxy": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Check(fleetOf(ts).join(args[0]))
			},
			"leave": func(ts *testscript.TestScript, neg bool, args []string) {
				fleetOf(ts).proxies[args[0]].stop()
			},
			"cut": func(ts *testscript.TestScript, neg bool, args []string) {
				fleetOf(ts).proxies[args[0]].cut()
			},
			"exits": exits,
		},
	})
}

// startController starts the controller of a script, and names it in the script's environment.
func startController(env *testscript.Env) error {
	c, err := controller.New(context.Background(), controller.Options{
		Data: filepath.Join(env.WorkDir, ".controller"), Listen: "127.0.0.1:0", ProxyListen: "127.0.0.1:0",
		BootstrapToken: token, SyncToken: syncToken, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	c.Start()

	f := &fleet{url: "http://" + c.ProxyAddr(), proxies: map[string]*proxy{}}
	env.Values["fleet"] = f
	env.Defer(func() {
		f.leaveAll()
		c.Stop(context.Background())
	})
	env.Setenv("DRYDOCK_URL", "http://"+c.Addr())
	env.Setenv("DRYDOCK_TOKEN", token)
	env.Setenv("DRYDOCK_SYNC_TOKEN", syncToken)
	return nil
}

func fleetOf(ts *testscript.TestScript) *fleet { return ts.Value("fleet").(*fleet) }

func exits(ts *testscript.TestScript, neg bool, args []string) {
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
}

func TestHelpListsAllCommands(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Run(t.Context(), []string{"--help"}, nil, &out, &errs); code != exitOK {
		t.Fatal(code, errs.String())
	}

	for _, command := range []string{"serve", "on", "off", "status", "app", "allow", "apply", "explain", "proxies", "audit", "token", "version"} {
		if !strings.Contains(out.String(), "\n  "+command+" ") {
			t.Errorf("the help does not list %s", command)
		}
	}
}
