package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// EnvoyOptions describe how to run an Envoy.
type EnvoyOptions struct {
	Binary    string   // path of envoy, from FindEnvoy or InstallEnvoy
	Bootstrap []byte   // Envoy's configuration as JSON, from Bootstrap
	Dir       string   // folder that receives Envoy's log, access log and bootstrap
	Env       []string // added to this process's environment, such as DRYDOCK_SYNC_TOKEN=…
	Workers   int      // threads that serve requests; 0 means one for each core

	// HotRestart allows another Envoy to take over from the new one later. In a hot restart, a new
	// process takes the listening sockets from the old one, which finishes its requests and exits.
	HotRestart bool

	// TakeOverFrom is the running Envoy from which the new one takes over by a hot restart, or nil.
	// It must have been started with HotRestart, and with the same Dir.
	TakeOverFrom *Envoy
}

// Envoy is a running Envoy.
type Envoy struct {
	*Process                    // of envoy; has Stop and Kill
	Admin     string            // http://host:port of the admin interface
	Listeners map[string]string // first address (host:port) of each listener, by the listener's name
	AccessLog string            // path of the file; each line is a JSON object

	// The processes of a hot restart share a base id, from which Envoy derives the names of its
	// shared memory and sockets. The epoch is 0 in the first of them and 1 more in each next one.
	epoch, baseID int
}

// StartEnvoy starts an Envoy and waits until it serves, which takes seconds because Envoy compiles
// the filter's WebAssembly module. If Envoy does not start, the error contains the end of its log.
func StartEnvoy(ctx context.Context, opts EnvoyOptions) (*Envoy, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, err
	}
	e := &Envoy{AccessLog: filepath.Join(opts.Dir, "access.log"), Listeners: map[string]string{}}
	if opts.TakeOverFrom != nil {
		e.epoch, e.baseID = opts.TakeOverFrom.epoch+1, opts.TakeOverFrom.baseID
	}

	if err := os.WriteFile(opts.bootstrapFile(), opts.Bootstrap, 0o600); err != nil {
		return nil, err
	}
	access, err := os.OpenFile(e.AccessLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer access.Close()        // Envoy has its own descriptor
	os.Remove(opts.adminFile()) // awaitReady must not read the address of an earlier Envoy

	// The bootstraps write the access log to the standard output, and Envoy's own log goes to the
	// standard error.
	cmd := exec.Command(opts.Binary, opts.arguments(e)...)
	cmd.Dir = root
	cmd.Stdout = access
	cmd.Env = append(os.Environ(), opts.Env...)
	e.Process, err = Start("Envoy", cmd, filepath.Join(opts.Dir, fmt.Sprintf("envoy-%d.log", e.epoch)))
	if err != nil {
		return nil, err
	}
	if err := e.awaitReady(ctx, opts); err != nil {
		e.Kill()
		return nil, err
	}
	return e, nil
}

func (o EnvoyOptions) bootstrapFile() string { return filepath.Join(o.Dir, "bootstrap.json") }

// Envoy writes the address of its admin interface to adminFile, and the base id that it chose to
// baseIDFile.
func (o EnvoyOptions) adminFile() string  { return filepath.Join(o.Dir, "admin") }
func (o EnvoyOptions) baseIDFile() string { return filepath.Join(o.Dir, "base-id") }

// arguments returns the command line of the Envoy e, whose epoch and base id are known if it takes
// over from another Envoy.
func (o EnvoyOptions) arguments(e *Envoy) []string {
	args := []string{
		"-c", o.bootstrapFile(),
		"--admin-address-path", o.adminFile(),
		"--service-node", "e2e", "--service-cluster", "e2e",
		// On the level info, Envoy lists every extension that it has. The filter's own messages of
		// that level belong to the component wasm.
		"--log-level", "warning", "--component-log-level", "wasm:info",
	}
	if o.Workers > 0 {
		args = append(args, "--concurrency", strconv.Itoa(o.Workers))
	}

	// In a hot restart, the old process drains its connections for the first of these times, in
	// seconds, and exits after the second. Envoy's defaults are 10 and 15 minutes.
	times := []string{"--drain-time-s", "1", "--parent-shutdown-time-s", "3"}
	switch {
	case o.TakeOverFrom != nil:
		args = append(args, "--base-id", strconv.Itoa(e.baseID), "--restart-epoch", strconv.Itoa(e.epoch))
		return append(args, times...)
	case o.HotRestart:
		args = append(args, "--use-dynamic-base-id", "--base-id-path", o.baseIDFile())
		return append(args, times...)
	default:
		// With hot restarts enabled, several Envoys on one machine would all claim base id 0.
		return append(args, "--disable-hot-restart")
	}
}

// awaitReady waits until Envoy serves, and reads what Envoy itself has chosen: the address of the
// admin interface, the addresses of the listeners and, with HotRestart, the base id.
func (e *Envoy) awaitReady(ctx context.Context, opts EnvoyOptions) error {
	// Two minutes, because a busy machine compiles the module slowly, and in a hot restart the old
	// Envoy must hand over its sockets first.
	err := e.waitFor(ctx, 2*time.Minute, func() error {
		addr, err := os.ReadFile(opts.adminFile())
		if err != nil {
			return err
		}
		e.Admin = "http://" + strings.TrimSpace(string(addr))
		_, err = e.AdminGet("/ready")
		return err
	})
	if err != nil {
		return err
	}

	if err := e.readListeners(); err != nil {
		return err
	}
	choseBaseID := opts.HotRestart && opts.TakeOverFrom == nil
	if choseBaseID {
		id, err := os.ReadFile(opts.baseIDFile())
		if err != nil {
			return err
		}
		e.baseID, err = strconv.Atoi(strings.TrimSpace(string(id)))
		return err
	}

	return nil
}

// readListeners fills e.Listeners from the admin interface. A listener with port 0 in the bootstrap
// has its real port there.
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

// AdminGet requests a path of the admin interface and returns the body. A status other than 200 is
// an error.
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

// Stats returns the counters and gauges whose names contain a match of a regular expression, by
// name. Envoy puts "wasmcustom." before the names of the metrics that a proxy-wasm module defines.
func (e *Envoy) Stats(pattern string) (map[string]int64, error) {
	if _, err := regexp.Compile(pattern); err != nil {
		return nil, err
	}
	body, err := e.AdminGet("/stats?format=json&filter=" + url.QueryEscape(pattern))
	if err != nil {
		return nil, err
	}

	var list struct {
		Stats []struct {
			Name  string       `json:"name"`
			Value *json.Number `json:"value"` // nil for histograms
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
