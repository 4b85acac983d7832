package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Envoy can take a new configuration while it runs. It then starts new VMs of the filter, or even a
// new process, which have no state at first. During a maintenance, no request may pass meanwhile.
//
// deploy starts a controller, an Envoy with the Drydock filter, and a demo app behind Envoy
// (deployment_test.go). enforce puts an app into a mode and returns once every worker of Envoy
// enforces the mode; enforceOff ends it. In no-access, all requests are refused with 503. A visitor
// is a client of Envoy (clients_test.go). startPolling starts several visitors that request one
// path again and again, and counts the answers by status. The app default applies to every request
// that no other app matches.

// Envoy's operators may update a listener, which contains the filter and its configuration, by LDS
// (listener discovery service), here from a file. The new VMs enforce the maintenance from their
// first request on, and the new configuration holds after each update. An invalid one is rejected.
func TestListenerUpdateDuringMaintenance(t *testing.T) {
	lds := &listenerFile{t: t, path: filepath.Join(t.TempDir(), "lds.json")}
	d := deploy(t, deployOptions{edit: lds.takeListener})
	d.putApp(maintenance.Spec{Name: "default"})
	d.enforce("default", maintenance.NoAccess, "closed")
	v := d.visitorFrom("127.0.0.1")
	visitors, stopVisitors := d.startPolling(3, "/")

	// Each update exempts another path, which shows that the update is in force.
	for round := range 3 {
		path := fmt.Sprintf("/echo/round-%d", round)
		if a := v.get(path); a.Status != 503 {
			t.Errorf("%s before its round: %d, want 503", path, a.Status)
		}
		lds.update(func(plugin map[string]any) {
			plugin["exempt"] = []any{map[string]any{"path": path}}
		})
		eventually(t, time.Minute, func() error {
			if a := v.get(path); a.Status != 200 {
				return fmt.Errorf("%s: %d, want the new exemption to hold", path, a.Status)
			}
			return nil
		})
	}

	// A configuration with an unknown field is rejected, and the one before it stays in force.
	rejected := d.onlyStat(`^listener_manager\.lds\.update_rejected$`)
	lds.update(func(plugin map[string]any) { plugin["unknwon"] = "deny" }) // misspelled on purpose
	eventually(t, time.Minute, func() error {
		if n := d.onlyStat(`^listener_manager\.lds\.update_rejected$`); n == rejected {
			return fmt.Errorf("the bad configuration was not rejected")
		}
		return nil
	})

	if log := d.envoy.Tail(50); !strings.Contains(log, "unknwon") {
		t.Errorf("Envoy's log does not name the unknown field:\n%s", log)
	}
	if a := v.get("/echo/round-2"); a.Status != 200 {
		t.Errorf("after a rejected update: %d, want the configuration before it to hold", a.Status)
	}
	stopVisitors()
	visitors.wantOnly(t, 503)

	d.enforceOff("default")
	if a := v.get("/"); a.Status != 200 {
		t.Errorf("off after the updates: %d, want 200", a.Status)
	}
}

// listenerFile is a file from which Envoy takes its listener by LDS.
type listenerFile struct {
	t        *testing.T
	path     string
	listener map[string]any // as in the bootstrap
}

// takeListener moves the listener of a bootstrap into the file, and makes the bootstrap refer to
// the file. It is a deployOptions.edit.
func (f *listenerFile) takeListener(bootstrap map[string]any) {
	static := bootstrap["static_resources"].(map[string]any)
	f.listener = static["listeners"].([]any)[0].(map[string]any)
	delete(static, "listeners")
	bootstrap["dynamic_resources"] = map[string]any{"lds_config": map[string]any{
		"resource_api_version": "V3", "path_config_source": map[string]any{"path": f.path},
	}}
	noChange := func(map[string]any) {}
	f.update(noChange)
}

// update writes the bootstrap's listener to the file, with a change to the configuration of the
// plugin (the Drydock filter). The changes of earlier updates are not kept.
func (f *listenerFile) update(change func(plugin map[string]any)) {
	f.t.Helper()
	var listener map[string]any // a copy, so that f.listener stays
	data, err := json.Marshal(f.listener)
	must(f.t, err)
	must(f.t, json.Unmarshal(data, &listener))
	changePlugin(f.t, listener, change)
	listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener"

	data, err = json.Marshal(map[string]any{"version_info": strconv.FormatInt(time.Now().UnixNano(), 10), "resources": []any{listener}})
	must(f.t, err)
	must(f.t, os.WriteFile(f.path+".new", data, 0o600))
	must(f.t, os.Rename(f.path+".new", f.path)) // Envoy reads the file again only when it is moved
}

// changePlugin changes the plugin's configuration. A listener contains it as JSON in the field
// value of a StringValue.
func changePlugin(t *testing.T, listener map[string]any, change func(plugin map[string]any)) {
	t.Helper()
	for node := range Objects(listener) {
		text, ok := node["value"].(string)
		if !ok || node["@type"] != "type.googleapis.com/google.protobuf.StringValue" {
			continue
		}

		var plugin map[string]any
		must(t, json.Unmarshal([]byte(text), &plugin))
		change(plugin)
		data, err := json.Marshal(plugin)
		must(t, err)
		node["value"] = string(data)
	}
}

// In a hot restart, a new Envoy takes the listening sockets from the old one, which then exits. If
// that happens during a maintenance, no request passes.
func TestHotRestartDuringMaintenance(t *testing.T) {
	d := deploy(t, deployOptions{hotRestart: true})
	d.putApp(maintenance.Spec{Name: "default"})
	d.enforce("default", maintenance.NoAccess, "closed")
	visitors, stopVisitors := d.startPolling(3, "/")

	old := d.envoy
	options := d.envoyOptions()
	options.TakeOverFrom = old
	next, err := StartEnvoy(t.Context(), options)
	must(t, err)
	d.useEnvoy(next)
	select {
	case <-old.Done():
	case <-time.After(time.Minute):
		t.Fatal("the old Envoy still runs a minute after the new one was ready")
	}

	time.Sleep(time.Second) // for some requests to the new Envoy alone
	stopVisitors()

	// The old process resets connections that it has accepted and not served when it exits.
	delete(visitors.byStatus, noAnswer)
	visitors.wantOnly(t, 503)
	if n := d.app.Requests(); n != 0 {
		t.Errorf("%d requests reached the app", n)
	}
	d.awaitProxy()
	awaitRevisionGauge(d)

	d.enforceOff("default")
	if a := d.visitorFrom("127.0.0.1").get("/"); a.Status != 200 {
		t.Errorf("off after the restart: %d, want 200", a.Status)
	}
	d.enforce("default", maintenance.NoAccess, "closed")
	if a := d.visitorFrom("127.0.0.1").get("/"); a.Status != 503 {
		t.Errorf("on after the restart: %d, want 503", a.Status)
	}
}

// awaitRevisionGauge waits until the filter's gauge revision is the revision of the controller's
// state. As long as the old process of a hot restart lives, Envoy adds the old process's gauges to
// those of the new one.
func awaitRevisionGauge(d *deployment) {
	d.t.Helper()
	var list struct{ Version maintenance.Version }
	must(d.t, json.Unmarshal(d.api("GET", "/api/v1/proxies", nil), &list))
	eventually(d.t, 10*time.Second, func() error {
		if n := d.onlyStat(`wasmcustom.*\.revision$`); n != int64(list.Version.Revision) {
			return fmt.Errorf("the revision gauge is %d, the state's revision is %d", n, list.Version.Revision)
		}
		return nil
	})
}
