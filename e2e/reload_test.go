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

// A listener that is updated by LDS during a maintenance brings new VMs. While they take over, not
// one request passes, and then the new configuration holds.
func TestListenerUpdateDuringMaintenance(t *testing.T) {
	lds := &listenerFile{t: t, path: filepath.Join(t.TempDir(), "lds.json")}
	d := deploy(t, deployOptions{edit: lds.takeListener})
	d.putApp(maintenance.Spec{Name: "default"})
	d.enforce("default", maintenance.NoAccess, "closed")
	v := d.visitorFrom("127.0.0.1")
	visitors, stopVisitors := d.startPolling(3, "/")

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
	lds.update(func(plugin map[string]any) { plugin["unknwon"] = "deny" })
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

// takeListener moves the listener of a bootstrap into the file.
func (f *listenerFile) takeListener(bootstrap map[string]any) {
	static := bootstrap["static_resources"].(map[string]any)
	f.listener = static["listeners"].([]any)[0].(map[string]any)
	delete(static, "listeners")
	bootstrap["dynamic_resources"] = map[string]any{"lds_config": map[string]any{
		"resource_api_version": "V3", "path_config_source": map[string]any{"path": f.path},
	}}
	f.update(func(map[string]any) {})
}

// update writes the listener with a change to the plugin's configuration. Changes of earlier
// updates are not kept.
func (f *listenerFile) update(change func(plugin map[string]any)) {
	f.t.Helper()
	var listener map[string]any
	data, err := json.Marshal(f.listener)
	must(f.t, err)
	must(f.t, json.Unmarshal(data, &listener))
	changePlugin(f.t, listener, change)
	listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener"

	data, err = json.Marshal(map[string]any{"version_info": strconv.FormatInt(time.Now().UnixNano(), 10), "resources": []any{listener}})
	must(f.t, err)
	must(f.t, os.WriteFile(f.path+".new", data, 0o600))
	must(f.t, os.Rename(f.path+".new", f.path)) // Envoy only notices moves
}

// changePlugin changes the plugin's configuration, which a listener contains as a string of JSON.
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

// A hot restart hands the listening sockets to a new process during a maintenance, and no request
// passes.
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

	time.Sleep(time.Second)
	stopVisitors()

	// Connections that the old process accepted and did not serve are reset.
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

// awaitRevisionGauge waits until the revision gauge is the state's revision. For as long as the old
// process of a hot restart lives, Envoy adds its gauges to those of the new one.
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
