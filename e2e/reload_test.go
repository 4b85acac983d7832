package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A listener that arrives anew by LDS brings new VMs in the middle of a maintenance: not
// one request slips through while they take over, and the new configuration holds.
func TestListenerUpdateDuringMaintenance(t *testing.T) {
	dir := t.TempDir()
	lds := filepath.Join(dir, "lds.json")
	var listener map[string]any
	write := func(edit func(plugin map[string]any)) {
		t.Helper()
		var copied map[string]any
		data, err := json.Marshal(listener)
		must(t, err)
		must(t, json.Unmarshal(data, &copied))
		editPlugin(t, copied, edit)
		copied["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener"
		data, err = json.Marshal(map[string]any{"version_info": strconv.FormatInt(time.Now().UnixNano(), 10), "resources": []any{copied}})
		must(t, err)
		must(t, os.WriteFile(lds+".new", data, 0o600))
		must(t, os.Rename(lds+".new", lds)) // Envoy watches for moves
	}
	d := deploy(t, deployOptions{edit: func(bootstrap map[string]any) {
		static := bootstrap["static_resources"].(map[string]any)
		listener = static["listeners"].([]any)[0].(map[string]any)
		delete(static, "listeners")
		bootstrap["dynamic_resources"] = map[string]any{"lds_config": map[string]any{
			"resource_api_version": "V3", "path_config_source": map[string]any{"path": lds},
		}}
		write(func(map[string]any) {})
	}})
	d.putApp(maintenance.Spec{Name: "default"})
	d.on("default", maintenance.NoAccess, "closed")
	v := d.visitor("127.0.0.1")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	visitors := &poller{}
	var load sync.WaitGroup
	for range 3 {
		load.Go(func() { visitors.poll(ctx, d.visitor("127.0.0.1"), "/") })
	}
	for round := range 3 {
		path := fmt.Sprintf("/echo/round-%d", round)
		if a := v.get(path); a.Status != 503 {
			t.Errorf("%s before its round: %d, want 503", path, a.Status)
		}
		write(func(plugin map[string]any) {
			plugin["exempt"] = []any{map[string]any{"path": path}}
		})
		eventually(t, time.Minute, func() error {
			if a := v.get(path); a.Status != 200 {
				return fmt.Errorf("%s: %d, want the new exemption to hold", path, a.Status)
			}
			return nil
		})
	}
	// A configuration that does not parse is refused, and the old one goes on.
	rejected := d.stat(`^listener_manager\.lds\.update_rejected$`)
	write(func(plugin map[string]any) { plugin["unknwon"] = "deny" })
	eventually(t, time.Minute, func() error {
		if n := d.stat(`^listener_manager\.lds\.update_rejected$`); n == rejected {
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
	cancel()
	load.Wait()
	if len(visitors.answers) != 1 || visitors.answers[503] == 0 {
		t.Errorf("visitors got %v by status, want only 503", visitors.answers)
	}

	// And the new VMs follow the controller.
	d.off("default")
	if a := v.get("/"); a.Status != 200 {
		t.Errorf("off after reloads: %d, want 200", a.Status)
	}
}

// editPlugin changes the plugin's configuration within a listener.
func editPlugin(t *testing.T, node any, edit func(plugin map[string]any)) {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			editPlugin(t, child, edit)
		}
	case map[string]any:
		if text, ok := node["value"].(string); ok && node["@type"] == "type.googleapis.com/google.protobuf.StringValue" {
			var plugin map[string]any
			must(t, json.Unmarshal([]byte(text), &plugin))
			edit(plugin)
			data, err := json.Marshal(plugin)
			must(t, err)
			node["value"] = string(data)
		}
		for _, child := range node {
			editPlugin(t, child, edit)
		}
	}
}

// A hot restart hands the sockets to a new process in the middle of a maintenance.
func TestHotRestartDuringMaintenance(t *testing.T) {
	d := deploy(t, deployOptions{hotRestart: true})
	d.putApp(maintenance.Spec{Name: "default"})
	d.on("default", maintenance.NoAccess, "closed")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	visitors := &poller{}
	var load sync.WaitGroup
	for range 3 {
		load.Go(func() { visitors.poll(ctx, d.visitor("127.0.0.1"), "/") })
	}
	old := d.envoy
	options := d.envoyOptions()
	options.Restarts = old
	next, err := StartEnvoy(t.Context(), options)
	must(t, err)
	d.adoptEnvoy(next)
	select {
	case <-old.Done():
	case <-time.After(time.Minute):
		t.Fatal("the old Envoy is still there a minute after the new one is ready")
	}
	time.Sleep(time.Second)
	cancel()
	load.Wait()
	if visitors.answers[503] == 0 || visitors.answers[200] > 0 {
		t.Errorf("visitors got %v by status, want only 503", visitors.answers)
	}
	for status := range visitors.answers {
		// A connection that the old process accepted and never served is reset.
		if status != 503 && status != -1 {
			t.Errorf("visitors got %v by status, want only 503", visitors.answers)
		}
	}
	if n := d.app.Requests(); n != 0 {
		t.Errorf("%d requests reached the app", n)
	}
	d.awaitProxy()
	// Envoy adds the old process's gauges to the new one's for as long as it lives.
	var list struct{ Version maintenance.Version }
	must(t, json.Unmarshal(d.api("GET", "/api/v1/proxies", nil), &list))
	eventually(t, 10*time.Second, func() error {
		if n := d.stat(`wasmcustom.*\.revision$`); n != int64(list.Version.Revision) {
			return fmt.Errorf("the revision gauge is %d, the state's revision %d", n, list.Version.Revision)
		}
		return nil
	})
	d.off("default")
	if a := d.visitor("127.0.0.1").get("/"); a.Status != 200 {
		t.Errorf("off after the restart: %d, want 200", a.Status)
	}
	d.on("default", maintenance.NoAccess, "closed")
	if a := d.visitor("127.0.0.1").get("/"); a.Status != 503 {
		t.Errorf("on after the restart: %d, want 503", a.Status)
	}
}
