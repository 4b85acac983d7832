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
