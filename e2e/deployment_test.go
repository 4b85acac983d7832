package e2e

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/demo"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

var long = flag.Bool("long", false, "run the long form of the scenarios that have one: hours of load, hundreds of kills")

const (
	operatorToken = "operator-token-of-the-scenarios"
	syncToken     = "sync-token-of-the-scenarios"
)

// buildOnce runs `make build` before the first scenario, so that bin/ is up to date.
var buildOnce = sync.OnceValue(func() error {
	root, err := Root()
	if err != nil {
		return err
	}
	if out, err := exec.Command("make", "-s", "-C", root, "build").CombinedOutput(); err != nil {
		return fmt.Errorf("make build: %w\n%s", err, out)
	}
	return nil
})

// deployment is Drydock as a user runs it: a controller, an Envoy with the filter, and an app
// behind them. Its methods fail the test when something does not work.
type deployment struct {
	t          *testing.T
	dir        string
	app        *demo.App // nil if deployOptions.upstream is set
	upstream   string    // host:port of the app
	controller *Controller
	envoy      *Envoy

	options                      deployOptions
	apiPort, syncPort, envoyPort *Port // of the API, the listener for proxies, and Envoy
	envoyBinary, drydock         string
}

type deployOptions struct {
	bootstrap string            // file in envoy/; drydock.yaml if empty
	version   string            // of Envoy; the one that FindEnvoy finds if empty
	workers   int               // of Envoy; 2 if 0
	files     map[string]string // for Substitution.Files
	ports     map[int]string    // for Substitution.Ports, beyond the ports of every bootstrap
	upstream  string            // host:port of an app to use instead of the demo app

	// The scenario starts the controller or Envoy itself.
	withoutController, withoutEnvoy bool

	hotRestart bool

	// edit changes the parsed bootstrap before Envoy gets it.
	edit func(bootstrap map[string]any)
}

// deploy starts a deployment and waits until every worker of Envoy is connected to the controller.
// The deployment stops at the end of the test.
func deploy(t *testing.T, o deployOptions) *deployment {
	t.Helper()
	must(t, buildOnce())

	d := &deployment{t: t, dir: t.TempDir(), options: o}
	var err error
	d.drydock, err = Binary("drydock")
	must(t, err)
	if o.version != "" {
		d.envoyBinary, err = InstallEnvoy(t.Context(), o.version, os.Stderr)
	} else {
		d.envoyBinary, err = FindEnvoy(t.Context(), os.Stderr)
	}
	must(t, err)

	d.apiPort, d.syncPort, d.envoyPort = reservePort(t), reservePort(t), reservePort(t)
	if d.upstream = o.upstream; d.upstream == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		d.app, d.upstream = demo.New(), l.Addr().String()
		stop := d.app.Serve(l)
		t.Cleanup(func() { stop() })
	}

	t.Cleanup(d.logIfFailed)
	if !o.withoutController {
		d.startController()
	}
	if !o.withoutEnvoy {
		d.startEnvoy()
		if !o.withoutController {
			d.awaitProxy()
		}
	}

	return d
}

func (d *deployment) startController() {
	d.t.Helper()
	c, err := StartController(d.t.Context(), ControllerOptions{
		Binary: d.drydock, Data: filepath.Join(d.dir, "data"), Listen: d.apiPort.Addr(), Proxy: d.syncPort.Addr(),
		Token: operatorToken, Sync: syncToken, Log: filepath.Join(d.dir, "controller.log"),
	})
	must(d.t, err)

	d.controller = c
	d.t.Cleanup(func() { c.Kill() })
}

func (d *deployment) startEnvoy() {
	d.t.Helper()
	e, err := StartEnvoy(d.t.Context(), d.envoyOptions())
	must(d.t, err)
	d.useEnvoy(e)
}

// useEnvoy makes a running Envoy the one of this deployment.
func (d *deployment) useEnvoy(e *Envoy) {
	d.envoy = e
	d.t.Cleanup(func() { e.Kill() })
}

func (d *deployment) envoyOptions() EnvoyOptions {
	d.t.Helper()
	file := cmp.Or(d.options.bootstrap, "drydock.yaml")
	sub := d.substitution()
	if file == "dual-stack.yaml" {
		sub.Ports[8080] = fmt.Sprintf(":%d", d.envoyPort.Number)
	}
	bootstrap, err := Bootstrap(file, sub)
	must(d.t, err)

	if d.options.edit != nil {
		var tree map[string]any
		must(d.t, json.Unmarshal(bootstrap, &tree))
		d.options.edit(tree)
		bootstrap, err = json.Marshal(tree)
		must(d.t, err)
	}

	return EnvoyOptions{
		Binary: d.envoyBinary, Bootstrap: bootstrap, Dir: filepath.Join(d.dir, "envoy"), Workers: d.workers(),
		Env: []string{"DRYDOCK_SYNC_TOKEN=" + syncToken}, HotRestart: d.options.hotRestart,
	}
}

// substitution returns the ports and files that this deployment puts into its bootstrap.
func (d *deployment) substitution() Substitution {
	ports := map[int]string{8080: d.envoyPort.Addr(), 8081: d.upstream, 7071: d.syncPort.Addr(), 9901: ":0"}
	maps.Copy(ports, d.options.ports)
	return Substitution{Ports: ports, Files: d.options.files}
}

func (d *deployment) workers() int { return cmp.Or(d.options.workers, 2) }

// logIfFailed logs the end of each process's output if the test has failed.
func (d *deployment) logIfFailed() {
	if !d.t.Failed() {
		return
	}

	if d.controller != nil {
		d.t.Logf("the end of the controller's log:\n%s", d.controller.Tail(30))
	}
	if d.envoy != nil {
		d.t.Logf("the end of Envoy's log:\n%s", d.envoy.Tail(30))
		access := &Process{Log: d.envoy.AccessLog}
		d.t.Logf("the end of the access log:\n%s", access.Tail(10))
	}
}

// api sends a request to the API, which must succeed, and returns the body of the answer.
func (d *deployment) api(method, path string, body any, headers ...string) []byte {
	d.t.Helper()
	status, answer, err := d.controller.Do(d.t.Context(), method, path, body, headers...)
	if err != nil || status >= 300 {
		d.t.Fatalf("%s %s: %d %s (%v)", method, path, status, answer, err)
	}
	return answer
}

// putApp creates an app or replaces its rules.
func (d *deployment) putApp(spec maintenance.Spec) {
	d.t.Helper()
	d.api("PUT", "/api/v1/apps/"+spec.Name, spec, "If-Match", "*")
}

// activate puts an app into a mode and does not wait until the proxies enforce it.
func (d *deployment) activate(app string, mode maintenance.Mode, message string) {
	d.t.Helper()
	d.api("POST", "/api/v1/apps/"+app+"/activations", map[string]any{"mode": mode, "message": message}, "If-Match", "*")
}

// on puts an app into a mode and waits until every worker enforces it.
func (d *deployment) enforce(app string, mode maintenance.Mode, message string) {
	d.t.Helper()
	d.activate(app, mode, message)
	d.awaitEnforced(app)
}

// deactivate ends what activate began and does not wait.
func (d *deployment) deactivate(app string) {
	d.t.Helper()
	d.api("DELETE", "/api/v1/apps/"+app+"/activations", nil, "If-Match", "*")
}

// off ends what on began and waits until every worker enforces that.
func (d *deployment) enforceOff(app string) {
	d.t.Helper()
	d.deactivate(app)
	d.awaitEnforced(app)
}

// awaitEnforced waits until every worker enforces the app's current state.
func (d *deployment) awaitEnforced(app string) {
	d.t.Helper()
	eventually(d.t, time.Minute, func() error {
		var st struct {
			Enforced bool
			Waiting  json.RawMessage
		}
		must(d.t, json.Unmarshal(d.api("GET", "/api/v1/apps/"+app+"/status?wait=enforced&timeout=10", nil), &st))
		if !st.Enforced {
			return fmt.Errorf("app %s is not enforced; waiting for %s", app, st.Waiting)
		}
		return nil
	})
}

// status returns the mode and the message that the controller reports for an app.
func (d *deployment) status(app string) (maintenance.Mode, string) {
	d.t.Helper()
	var st struct {
		Mode    maintenance.Mode `json:"mode"`
		Message string           `json:"message"`
	}
	must(d.t, json.Unmarshal(d.api("GET", "/api/v1/apps/"+app+"/status", nil), &st))
	return st.Mode, st.Message
}

// proxyState is a proxy as the API lists it.
type proxyState struct {
	ID      string
	State   string
	Current bool
	VMs     []struct{ State string }
}

func (d *deployment) proxies() []proxyState {
	d.t.Helper()
	var list struct{ Proxies []proxyState }
	must(d.t, json.Unmarshal(d.api("GET", "/api/v1/proxies", nil), &list))
	return list.Proxies
}

// awaitProxy waits until the controller lists a single proxy, all of whose VMs have the current
// state: one VM for each worker and one for Envoy's main thread. It removes proxies that are lost,
// as an operator does after stopping an Envoy.
func (d *deployment) awaitProxy() {
	d.t.Helper()
	eventually(d.t, time.Minute, func() error {
		all := d.proxies()
		for _, p := range all {
			if p.State == "lost" {
				d.api("DELETE", "/api/v1/proxies/"+p.ID, nil)
			}
		}

		if len(all) != 1 || len(all[0].VMs) != d.workers()+1 || !all[0].Current {
			return fmt.Errorf("the controller lists the proxies %+v, want one with %d VMs that are current", all, d.workers()+1)
		}
		return nil
	})
}

// stat returns the value of Envoy's only stat that matches.
func (d *deployment) onlyStat(filter string) int64 {
	d.t.Helper()
	stats, err := d.envoy.Stats(filter)
	must(d.t, err)
	if len(stats) != 1 {
		d.t.Fatalf("stats matching %s: %v, want one", filter, stats)
	}

	for _, n := range stats {
		return n
	}
	return 0
}

// rss returns Envoy's resident memory in bytes.
func (d *deployment) rss() int64 {
	d.t.Helper()
	n, err := d.envoy.RSS()
	must(d.t, err)
	return n
}

// awaitAccessLog waits for a line of Envoy's access log for which want returns true, and returns
// it. Envoy writes the log with a delay.
func (d *deployment) awaitAccessLog(want func(map[string]any) bool) map[string]any {
	d.t.Helper()
	var found map[string]any
	eventually(d.t, 15*time.Second, func() error {
		data, err := os.ReadFile(d.envoy.AccessLog)
		if err != nil {
			return err
		}

		for line := range strings.Lines(string(data)) {
			var entry map[string]any
			if json.Unmarshal([]byte(line), &entry) == nil && want(entry) {
				found = entry
				return nil
			}
		}
		return fmt.Errorf("the access log does not have the line:\n%s", data)
	})

	return found
}

// onOldestAndNewestEnvoy runs a scenario on the oldest and on the newest Envoy.
func onOldestAndNewestEnvoy(t *testing.T, scenario func(t *testing.T, version string)) {
	for _, version := range []string{OldestEnvoy, EnvoyVersion} {
		t.Run(version, func(t *testing.T) { scenario(t, version) })
	}
}

// reserve reserves a port until the end of the test.
func reservePort(t *testing.T) *Port {
	t.Helper()
	p, err := ReservePort()
	must(t, err)
	t.Cleanup(p.Release)
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until check returns nil, and fails the test if that takes longer than timeout.
func eventually(t *testing.T, timeout time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", timeout, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
