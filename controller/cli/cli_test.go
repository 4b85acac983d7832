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

// TestScripts runs each script of the folder testdata with a controller of its own. A script is a
// txtar file in the language of testscript. It calls the real drydock command, which is built for
// this test, and the environment of the script leads it to the controller. Besides the commands of
// testscript, scripts have these, of which the first three are about simulated proxies
// (fleet_test.go):
//
//	proxy NAME        start a proxy that follows the controller and reports
//	leave NAME        end the proxy, which closes its connections
//	cut NAME          lose the proxy's messages, but keep its connection open
//	exits CODE CMD…   run a command that must end with the exit code CODE
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
			env.Setenv("TZ", "UTC") // for the times that commands print
			return startController(env)
		},
		// The bool says whether a script has ! before the command, which no script does.
		Cmds: map[string]func(ts *testscript.TestScript, _ bool, args []string){
			"proxy": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(fleetOf(ts).join(args[0]))
			},
			"leave": func(ts *testscript.TestScript, _ bool, args []string) {
				fleetOf(ts).proxies[args[0]].stop()
			},
			"cut": func(ts *testscript.TestScript, _ bool, args []string) {
				fleetOf(ts).proxies[args[0]].cut()
			},
			"exits": exits,
		},
	})
}

// fleetKey is where a script's values have the fleet of its proxies.
const fleetKey = "fleet"

// startController starts the controller of a script and sets the variables of the script's
// environment that lead the drydock command to it. It ends with the script.
func startController(env *testscript.Env) error {
	c, err := controller.New(context.Background(), controller.Options{
		Data:   filepath.Join(env.WorkDir, ".controller"),
		Listen: "127.0.0.1:0", ProxyListen: "127.0.0.1:0", // any free ports
		BootstrapToken: token, SyncToken: syncToken, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	c.Start()

	f := &fleet{url: "http://" + c.ProxyAddr(), proxies: map[string]*proxy{}}
	env.Values[fleetKey] = f
	env.Defer(func() {
		f.leaveAll()
		c.Stop(context.Background())
	})
	env.Setenv("DRYDOCK_URL", "http://"+c.Addr())
	env.Setenv("DRYDOCK_TOKEN", token)
	env.Setenv("DRYDOCK_SYNC_TOKEN", syncToken)
	return nil
}

func fleetOf(ts *testscript.TestScript) *fleet { return ts.Value(fleetKey).(*fleet) }

// exits is the script command "exits CODE CMD…".
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, command, commandArgs := args[0], args[1], args[2:]
	err := ts.Exec(command, commandArgs...)

	code := 0
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err) // the command could not be run at all
	}

	if fmt.Sprint(code) != want {
		ts.Fatalf("exit code %d, want %s", code, want)
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
