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
	Binary    string
	Bootstrap []byte   // JSON, from Bootstrap
	Dir       string   // receives its log, access log and bootstrap
	Env       []string // added to this process's environment, such as DRYDOCK_SYNC_TOKEN=…
	Workers   int      // threads that serve requests; 0 means one for each core

	// HotRestart allows another Envoy to take over from this one.
	HotRestart bool

	// Restarts is the Envoy to take over from by a hot restart, if any. It must have been started
	// with HotRestart.
	Restarts *Envoy
}

// Envoy is a running Envoy.
type Envoy struct {
	*Process
	Admin     string            // http://host:port of the admin interface
	Listeners map[string]string // first address (host:port) of each listener, by the listener's name
	AccessLog string            // path of the file; each line is a JSON object

	epoch, baseID int // Envoy's restart epoch, and the id that the processes of a hot restart share
}

// StartEnvoy starts an Envoy and waits until it serves, which takes seconds because it compiles the
// module. If it does not start, the error contains the end of its log.
func StartEnvoy(ctx context.Context, opts EnvoyOptions) (*Envoy, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, err
	}
	e := &Envoy{AccessLog: filepath.Join(opts.Dir, "access.log"), Listeners: map[string]string{}}
	if opts.Restarts != nil {
		e.epoch, e.baseID = opts.Restarts.epoch+1, opts.Restarts.baseID
	}

	if err := os.WriteFile(opts.configFile(), opts.Bootstrap, 0o600); err != nil {
		return nil, err
	}
	access, err := os.OpenFile(e.AccessLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer access.Close()
	os.Remove(opts.adminFile())

	cmd := exec.Command(opts.Binary, opts.arguments(e)...)
	cmd.Dir, cmd.Stdout, cmd.Env = root, access, append(os.Environ(), opts.Env...)
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

func (o EnvoyOptions) configFile() string { return filepath.Join(o.Dir, "bootstrap.json") }
func (o EnvoyOptions) adminFile() string  { return filepath.Join(o.Dir, "admin") }
func (o EnvoyOptions) baseIDFile() string { return filepath.Join(o.Dir, "base-id") }

// arguments returns Envoy's command line.
func (o EnvoyOptions) arguments(e *Envoy) []string {
	args := []string{"-c", o.configFile(), "--admin-address-path", o.adminFile(), "--service-node", "e2e", "--service-cluster", "e2e",
		// On the level info, Envoy lists every extension that it has.
		"--log-level", "warning", "--component-log-level", "wasm:info"}
	if o.Workers > 0 {
		args = append(args, "--concurrency", strconv.Itoa(o.Workers))
	}

	// The old process of a hot restart drains for --drain-time-s and exits after the other time.
	times := []string{"--drain-time-s", "1", "--parent-shutdown-time-s", "3"}
	switch {
	case o.Restarts != nil:
		args = append(args, "--base-id", strconv.Itoa(e.baseID), "--restart-epoch", strconv.Itoa(e.epoch))
		return append(args, times...)
	case o.HotRestart:
		args = append(args, "--use-dynamic-base-id", "--base-id-path", o.baseIDFile())
		return append(args, times...)
	default:
		// Otherwise several Envoys on one machine would claim the same base id.
		return append(args, "--disable-hot-restart")
	}
}

// awaitReady waits until Envoy serves, and reads what it has chosen itself: its addresses and, for
// a hot restart, its base id.
func (e *Envoy) awaitReady(ctx context.Context, opts EnvoyOptions) error {
	// Two minutes, because a busy machine compiles the module slowly, and in a hot restart the old
	// Envoy has to hand over first.
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
	if opts.HotRestart && opts.Restarts == nil {
		id, err := os.ReadFile(opts.baseIDFile())
		if err != nil {
			return err
		}
		e.baseID, err = strconv.Atoi(strings.TrimSpace(string(id)))
		return err
	}

	return nil
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

// Stats returns the counters and gauges whose full names match a regular expression, by name. The
// names of the filter's own metrics begin with "wasmcustom.".
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
