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

// The words of the scenarios. An app is a set of rules in the controller that applies to the
// requests for some hosts and paths. The app default exists in every controller and applies to all
// requests that no other app matches. An app is off (requests pass), in read-only (requests that
// write are refused) or in no-access (all are refused). Some pass in each mode: those of clients
// with a bypass, such as a listed address, and those that an exemption names. The filter refuses by
// answering 503 itself. It runs once in each worker thread of Envoy, in a WebAssembly VM of its
// own. A mode is enforced once every VM decides by it.

var long = flag.Bool("long", false, "run the long form of the scenarios that have one: hours of load, hundreds of kills")

const (
	operatorToken = "operator-token-of-the-scenarios" // for the controller's API
	syncToken     = "sync-token-of-the-scenarios"     // with which the filter fetches the state
)

// buildOnce runs `make build` when it is first called, so that bin/ is up to date.
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
// behind Envoy. Its methods fail the test when something does not work.
type deployment struct {
	t          *testing.T
	dir        string      // receives the data and the logs of the processes
	app        *demo.App   // runs in the test's process; nil if deployOptions.upstream is set
	upstream   string      // host:port of the demo app, or deployOptions.upstream
	controller *Controller // nil until it is started
	envoy      *Envoy      // nil until it is started

	options                      deployOptions
	apiPort, syncPort, envoyPort *Port  // of the API, the listener for proxies, and Envoy
	envoyBinary, drydock         string // paths of the programs
}

// deployOptions say how a deployment differs from the usual one, which is the zero value.
type deployOptions struct {
	bootstrap string            // file in envoy/; drydock.yaml if empty
	version   string            // of Envoy; the one that FindEnvoy finds if empty
	workers   int               // of Envoy; 2 if 0
	files     map[string]string // for Substitution.Files
	ports     map[int]string    // for Substitution.Ports, beyond the ports of every bootstrap
	upstream  string            // host:port of an app to use instead of the demo app

	// If these are set, deploy does not start the controller or Envoy. The scenario may do so later
	// (startController, startEnvoy).
	withoutController, withoutEnvoy bool

	hotRestart bool // EnvoyOptions.HotRestart

	// edit changes the parsed bootstrap before Envoy gets it. It may be nil.
	edit func(bootstrap map[string]any)
}

// deploy starts a deployment and waits until all workers of Envoy have the controller's state. The
// deployment stops at the end of the test.
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

// useEnvoy makes a running Envoy the one of this deployment. Envoy is killed at the end of the
// test.
func (d *deployment) useEnvoy(e *Envoy) {
	d.envoy = e
	d.t.Cleanup(func() { e.Kill() })
}

// envoyOptions returns the options with which the deployment's Envoy starts.
func (d *deployment) envoyOptions() EnvoyOptions {
	d.t.Helper()
	file := cmp.Or(d.options.bootstrap, "drydock.yaml")
	sub := d.substitution()
	if file == "dual-stack.yaml" {
		// Its listener has the port on two hosts, 127.0.0.1 and ::1, which stay.
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
	ports := map[int]string{
		8080: d.envoyPort.Addr(), // Envoy's listener for visitors
		8081: d.upstream,         // the app
		7071: d.syncPort.Addr(),  // the controller's listener for proxies
		9901: ":0",               // the admin interface, on a port that Envoy chooses
	}
	maps.Copy(ports, d.options.ports)
	return Substitution{Ports: ports, Files: d.options.files}
}

// workers returns the number of worker threads of Envoy. Each has a VM of the filter, and so has
// the main thread, which serves no requests.
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
		accessLog := &Process{Log: d.envoy.AccessLog} // only to call Tail on the file
		d.t.Logf("the end of the access log:\n%s", accessLog.Tail(10))
	}
}

// api sends a request to the controller's API as the operator and returns the body of the answer.
// An answer of 300 or more fails the test. body is sent as JSON unless it is nil, and headers are
// pairs of name and value.
//
// The API refuses a change without If-Match, which says what the change is based on. The scenarios
// send "If-Match: *": they change whatever is there.
func (d *deployment) api(method, path string, body any, headers ...string) []byte {
	d.t.Helper()
	status, answer, err := d.controller.Do(d.t.Context(), method, path, body, headers...)
	if err != nil || status >= 300 {
		d.t.Fatalf("%s %s: %d %s (%v)", method, path, status, answer, err)
	}
	return answer
}

// putApp creates an app or replaces its rules. It does not wait until the proxies enforce them.
func (d *deployment) putApp(spec maintenance.Spec) {
	d.t.Helper()
	d.api("PUT", "/api/v1/apps/"+spec.Name, spec, "If-Match", "*")
}

// activate puts an app into a mode. It does not wait until the proxies enforce the mode. A refusal
// shows the message to the client.
func (d *deployment) activate(app string, mode maintenance.Mode, message string) {
	d.t.Helper()
	d.api("POST", "/api/v1/apps/"+app+"/activations", map[string]any{"mode": mode, "message": message}, "If-Match", "*")
}

// enforce puts an app into a mode and waits until every worker enforces the mode.
func (d *deployment) enforce(app string, mode maintenance.Mode, message string) {
	d.t.Helper()
	d.activate(app, mode, message)
	d.awaitEnforced(app)
}

// deactivate puts an app out of every mode that activate or enforce put it into. It does not wait.
func (d *deployment) deactivate(app string) {
	d.t.Helper()
	d.api("DELETE", "/api/v1/apps/"+app+"/activations", nil, "If-Match", "*")
}

// enforceOff puts an app out of every mode and waits until its requests pass in every worker.
func (d *deployment) enforceOff(app string) {
	d.t.Helper()
	d.deactivate(app)
	d.awaitEnforced(app)
}

// awaitEnforced waits until every worker enforces the app's current rules and mode. The API itself
// waits for up to ten seconds in each call.
func (d *deployment) awaitEnforced(app string) {
	d.t.Helper()
	eventually(d.t, time.Minute, func() error {
		var st struct {
			Enforced bool
			Waiting  json.RawMessage // which proxies do not enforce it yet, for the message
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

// proxyState is a proxy (one process of Envoy, with one filter) as the API lists it.
type proxyState struct {
	ID      string
	State   string                   // "live", or "lost" if the proxy has not reported for a while
	Current bool                     // every VM has the newest state
	VMs     []struct{ State string } // "live" or "crashed"
}

// proxies returns the proxies that the controller knows.
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
	wantVMs := d.workers() + 1
	eventually(d.t, time.Minute, func() error {
		all := d.proxies()
		for _, p := range all {
			if p.State == "lost" {
				d.api("DELETE", "/api/v1/proxies/"+p.ID, nil)
			}
		}

		if len(all) != 1 || len(all[0].VMs) != wantVMs || !all[0].Current {
			return fmt.Errorf("the controller lists the proxies %+v, want one with %d VMs that are current", all, wantVMs)
		}
		return nil
	})
}

// onlyStat returns the value of the one counter or gauge of Envoy whose name matches a regular
// expression. Any other number of matches fails the test. The filter's own metrics are named
// wasmcustom.drydock.NAME.METRIC, where NAME is the name in the plugin's configuration ("edge").
func (d *deployment) onlyStat(pattern string) (value int64) {
	d.t.Helper()
	stats, err := d.envoy.Stats(pattern)
	must(d.t, err)
	if len(stats) != 1 {
		d.t.Fatalf("stats matching %s: %v, want one", pattern, stats)
	}

	for _, n := range stats {
		value = n
	}
	return value
}

// rss returns Envoy's resident memory in bytes.
func (d *deployment) rss() int64 {
	d.t.Helper()
	n, err := d.envoy.RSS()
	must(d.t, err)
	return n
}

// awaitAccessLog waits for a line of Envoy's access log for which want returns true, and returns
// the parsed line. The fields of a line are set by log_format in the bootstrap. Envoy buffers the
// log and writes it every ten seconds or when the buffer is full.
func (d *deployment) awaitAccessLog(want func(entry map[string]any) bool) map[string]any {
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

// reservePort reserves a port on 127.0.0.1 until the end of the test.
func reservePort(t *testing.T) *Port {
	t.Helper()
	p, err := ReservePort()
	must(t, err)
	t.Cleanup(p.Release)
	return p
}

// must fails the test and ends it if err is not nil.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually calls check until it returns nil. If that takes longer than timeout, the test fails
// with the last error, and ends.
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
		time.Sleep(20 * time.Millisecond) // short beside what is waited for
	}
}
