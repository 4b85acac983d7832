package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Two filters in one Envoy that follow different controllers: neither hears of the
// other's maintenance.
func TestTwoFiltersInOneEnvoyKeepApart(t *testing.T) {
	partners := struct{ edge, listen, sync *Port }{reserve(t), reserve(t), reserve(t)}
	r := newRig(t, rigOptions{bootstrap: "two-filters.yaml", withoutEnvoy: true, ports: map[int]string{
		8090: partners.edge.Addr(), 7171: partners.sync.Addr(),
	}})
	dir := t.TempDir()
	second, err := StartController(t.Context(), ControllerOptions{
		Binary: r.drydock, Data: filepath.Join(dir, "data"), Listen: partners.listen.Addr(), Proxy: partners.sync.Addr(),
		Token: operatorToken, Sync: syncToken, Log: filepath.Join(dir, "controller.log"),
	})
	must(t, err)
	t.Cleanup(func() { second.Kill() })
	r.startEnvoy()
	r.settled()
	// The second controller, with the helpers of the first.
	other := *r
	other.controller = second
	other.settled()
	public, partner := r.visitor("127.0.0.1"), newVisitor(t, "127.0.0.1", partners.edge.Addr())
	expect := func(when string, wantPublic, wantPartner int) {
		t.Helper()
		if a, b := public.get("/").Status, partner.get("/").Status; a != wantPublic || b != wantPartner {
			t.Errorf("%s: public %d, partners %d; want %d, %d", when, a, b, wantPublic, wantPartner)
		}
	}
	r.put(maintenance.Spec{Name: "default"})
	other.put(maintenance.Spec{Name: "default"})
	expect("off", 200, 200)
	other.on("default", maintenance.NoAccess, "partners closed")
	expect("partners on", 200, 503)
	r.on("default", maintenance.NoAccess, "closed")
	expect("both on", 503, 503)
	if a, b := public.get("/").Body, partner.get("/").Body; !strings.Contains(a, "closed") || strings.Contains(a, "partners") || !strings.Contains(b, "partners closed") {
		t.Errorf("public is told %q, partners %q", a, b)
	}
	other.off("default")
	expect("partners off", 503, 200)
	second.Kill()
	r.off("default")
	expect("public off, partners' controller dead", 200, 200)
	r.on("default", maintenance.NoAccess, "closed")
	expect("public on, partners' controller dead", 503, 200)
}

// A listener that arrives anew by LDS brings new VMs in the middle of a maintenance: not
// one request slips through while they take over, and the new configuration holds.
func TestConfigReloadInTheMiddleOfAMaintenance(t *testing.T) {
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
	r := newRig(t, rigOptions{edit: func(bootstrap map[string]any) {
		static := bootstrap["static_resources"].(map[string]any)
		listener = static["listeners"].([]any)[0].(map[string]any)
		delete(static, "listeners")
		bootstrap["dynamic_resources"] = map[string]any{"lds_config": map[string]any{
			"resource_api_version": "V3", "path_config_source": map[string]any{"path": lds},
		}}
		write(func(map[string]any) {})
	}})
	r.put(maintenance.Spec{Name: "default"})
	r.on("default", maintenance.NoAccess, "closed")
	v := r.visitor("127.0.0.1")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	visitors := &crowd{}
	var load sync.WaitGroup
	for range 3 {
		load.Go(func() { visitors.keepAsking(ctx, r.visitor("127.0.0.1"), "/") })
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
	rejected := r.stat(`^listener_manager\.lds\.update_rejected$`)
	write(func(plugin map[string]any) { plugin["unknwon"] = "deny" })
	eventually(t, time.Minute, func() error {
		if n := r.stat(`^listener_manager\.lds\.update_rejected$`); n == rejected {
			return fmt.Errorf("the bad configuration was not rejected")
		}
		return nil
	})
	if log := r.envoy.Tail(50); !strings.Contains(log, "unknwon") {
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
	r.off("default")
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
func TestHotRestartInTheMiddleOfAMaintenance(t *testing.T) {
	r := newRig(t, rigOptions{hotRestart: true})
	r.put(maintenance.Spec{Name: "default"})
	r.on("default", maintenance.NoAccess, "closed")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	visitors := &crowd{}
	var load sync.WaitGroup
	for range 3 {
		load.Go(func() { visitors.keepAsking(ctx, r.visitor("127.0.0.1"), "/") })
	}
	old := r.envoy
	options := r.envoyOptions()
	options.Restarts = old
	next, err := StartEnvoy(t.Context(), options)
	must(t, err)
	r.adoptEnvoy(next)
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
	if n := r.app.Requests(); n != 0 {
		t.Errorf("%d requests reached the app", n)
	}
	r.settled()
	// Envoy adds the old process's gauges to the new one's for as long as it lives.
	var list struct{ Version maintenance.Version }
	must(t, json.Unmarshal(r.api("GET", "/api/v1/proxies", nil), &list))
	eventually(t, 10*time.Second, func() error {
		if n := r.stat(`wasmcustom.*\.revision$`); n != int64(list.Version.Revision) {
			return fmt.Errorf("the revision gauge is %d, the state's revision %d", n, list.Version.Revision)
		}
		return nil
	})
	r.off("default")
	if a := r.visitor("127.0.0.1").get("/"); a.Status != 200 {
		t.Errorf("off after the restart: %d, want 200", a.Status)
	}
	r.on("default", maintenance.NoAccess, "closed")
	if a := r.visitor("127.0.0.1").get("/"); a.Status != 503 {
		t.Errorf("on after the restart: %d, want 503", a.Status)
	}
}

// `make run`: one command that serves, says what to try, names a port that is taken, and
// leaves nothing behind when make gets SIGTERM.
func TestMakeRun(t *testing.T) {
	must(t, built())
	root, err := Root()
	must(t, err)
	envoy, err := FindEnvoy(t.Context(), os.Stderr)
	must(t, err)
	proxy, controller, syncPort, app := reserve(t), reserve(t), reserve(t), reserve(t)
	data := filepath.Join(t.TempDir(), "data")
	start := func(extra ...string) (*exec.Cmd, *bytes.Buffer, *bufio.Scanner) {
		cmd := exec.Command("make", "-s", "run")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), append([]string{
			"ENVOY=" + envoy, "DATA=" + data,
			fmt.Sprint("PROXY_PORT=", proxy.Number), fmt.Sprint("CONTROLLER_PORT=", controller.Number),
			fmt.Sprint("SYNC_PORT=", syncPort.Number), fmt.Sprint("APP_PORT=", app.Number),
		}, extra...)...)
		cmd.SysProcAttr = childAttr()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		return cmd, &stderr, bufio.NewScanner(out)
	}

	cmd, stderr, out := start()
	var said strings.Builder
	for out.Scan() {
		fmt.Fprintln(&said, out.Text())
		if strings.HasPrefix(out.Text(), "Ctrl-C") {
			break
		}
	}
	text := said.String()
	for _, want := range []string{"Drydock is up", "http://" + proxy.Addr(), "http://" + controller.Addr(), "DRYDOCK_TOKEN=", "bin/drydock on", "bin/drydock off", "curl -i"} {
		if !strings.Contains(text, want) {
			t.Errorf("`make run` does not say %q:\n%s\n%s", want, text, stderr)
		}
	}
	token, err := os.ReadFile(filepath.Join(data, "operator-token"))
	must(t, err)
	if strings.Contains(text, strings.TrimSpace(string(token))) {
		t.Error("the token itself is printed")
	}
	if info, err := os.Stat(filepath.Join(data, "operator-token")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v %v, want mode 0600", info.Mode(), err)
	}

	// What it says to try works.
	drydock := func(args ...string) {
		t.Helper()
		cli := exec.Command(filepath.Join(root, "bin", "drydock"), args...)
		cli.Env = append(os.Environ(), "DRYDOCK_URL=http://"+controller.Addr(), "DRYDOCK_TOKEN="+strings.TrimSpace(string(token)))
		if out, err := cli.CombinedOutput(); err != nil {
			t.Fatalf("drydock %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	stranger, friend := newVisitor(t, "127.0.0.1", proxy.Addr()), newVisitor(t, "127.0.0.2", proxy.Addr())
	expect := func(when string, v *visitor, want int) {
		t.Helper()
		if a := v.get("/"); a.Status != want {
			t.Errorf("%s: %d %s, want %d", when, a.Status, a.Body, want)
		}
	}
	expect("at first", stranger, 200)
	drydock("on", "--wait=enforced", "We are back at ten")
	expect("on", stranger, 503)
	expect("on, nobody is allowed yet", friend, 503)
	drydock("allow", "127.0.0.2")
	eventually(t, 10*time.Second, func() error {
		if a := friend.get("/"); a.Status != 200 {
			return fmt.Errorf("allowed: %d", a.Status)
		}
		return nil
	})
	expect("another is allowed", stranger, 503)
	drydock("off")
	eventually(t, 10*time.Second, func() error {
		if a := stranger.get("/"); a.Status != 200 {
			return fmt.Errorf("off: %d", a.Status)
		}
		return nil
	})

	// A second one on the same ports says which and how to choose others.
	second, secondErr, secondOut := start()
	for secondOut.Scan() {
	}
	if err := second.Wait(); err == nil {
		t.Error("a second `make run` on the same ports succeeded")
	}
	if said := secondErr.String(); !strings.Contains(said, "PROXY_PORT=") || !strings.Contains(said, strconv.Itoa(proxy.Number)) {
		t.Errorf("a second `make run` says %q, want the port and its variable", said)
	}

	children := processesWith(t, data)
	if len(children) < 2 {
		t.Fatalf("found %v with the data directory in their command line, want controller and Envoy", children)
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	for out.Scan() {
	}
	cmd.Wait()
	eventually(t, 20*time.Second, func() error {
		if left := processesWith(t, data); len(left) > 0 {
			return fmt.Errorf("left behind: %v", left)
		}
		for _, p := range []*Port{proxy, controller, syncPort, app} {
			if c, err := net.Dial("tcp", p.Addr()); err == nil {
				c.Close()
				return fmt.Errorf("somebody still listens on %d", p.Number)
			}
		}
		return nil
	})

	// Wrong settings are named.
	for setting, want := range map[string]string{"PROXY_PORT=http": "PROXY_PORT", "UPSTREAM=3000": "UPSTREAM"} {
		bad, badErr, badOut := start(setting)
		for badOut.Scan() {
		}
		if err := bad.Wait(); err == nil || !strings.Contains(badErr.String(), want+" must be") {
			t.Errorf("%s: %v, says %q", setting, err, badErr)
		}
	}
}

// processesWith lists the processes with text in their command line.
func processesWith(t *testing.T, text string) (found []string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, path := range dirs {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte(text)) {
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// A reserved port is this process's alone, between the starts of a server too.
func TestReservedPortsStayFree(t *testing.T) {
	p := reserve(t)
	for range 200 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		if l.Addr().String() == p.Addr() {
			t.Fatal("somebody who asked for any port got the reserved one")
		}
		defer l.Close()
	}
	for range 2 { // a server may come, go and come again
		l, err := net.Listen("tcp", p.Addr())
		must(t, err)
		go http.Serve(l, http.NotFoundHandler())
		resp, err := http.Get("http://" + p.Addr())
		must(t, err)
		resp.Body.Close()
		l.Close()
	}
}
