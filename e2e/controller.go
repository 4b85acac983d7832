package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"
)

// ControllerOptions describe how to run a controller.
type ControllerOptions struct {
	Binary string // path of drydock
	Data   string // data directory
	Listen string // host:port of the API
	Proxy  string // host:port of the listener for proxies
	Token  string // operator token; becomes the first one of a new store
	Sync   string // token with which proxies fetch the state
	Log    string // path of the file that receives its output
}

// Controller is a running `drydock serve`.
type Controller struct {
	*Process
	URL   string // http://host:port of the API
	Proxy string // host:port of the listener for proxies

	opts ControllerOptions
}

// StartController starts a controller and waits until it is ready. If it does not start, the error
// contains the end of its log.
func StartController(ctx context.Context, opts ControllerOptions) (*Controller, error) {
	cmd := exec.Command(opts.Binary, "serve", "--data", opts.Data, "--listen", opts.Listen, "--proxy-listen", opts.Proxy)
	cmd.Env = append(os.Environ(), "DRYDOCK_BOOTSTRAP_TOKEN="+opts.Token, "DRYDOCK_SYNC_TOKEN="+opts.Sync)
	p, err := Start("drydock serve", cmd, opts.Log)
	if err != nil {
		return nil, err
	}

	c := &Controller{Process: p, URL: "http://" + opts.Listen, Proxy: opts.Proxy, opts: opts}
	err = c.waitFor(ctx, time.Minute, func() error {
		status, body, err := c.Do(ctx, http.MethodGet, "/readyz", nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("GET /readyz: %d: %s", status, body)
		}
		return err
	})
	if err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// Restart starts the controller again after Stop or Kill, with the same data and ports.
func (c *Controller) Restart(ctx context.Context) error {
	next, err := StartController(ctx, c.opts)
	if err != nil {
		return err
	}
	*c = *next
	return nil
}

// apiClient opens a connection for each request. A kept connection to a controller that was killed
// would make the next request fail, although the controller is back.
var apiClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}

// Do sends a request to the API as the operator, with body as JSON unless it is nil. headers are
// pairs of name and value. Do returns an error only if the whole answer did not arrive.
func (c *Controller) Do(ctx context.Context, method, path string, body any, headers ...string) (status int, answer []byte, err error) {
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(data)
	}

	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, in)
	if err != nil {
		return 0, nil, err
	}

	req.Header.Set("Authorization", "Bearer "+c.opts.Token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}

	resp, err := apiClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// CLI runs a command of the CLI against this controller, as the operator. A failing command is not
// an error: it returns the exit status.
func (c *Controller) CLI(ctx context.Context, args ...string) (stdout, stderr string, exit int, err error) {
	cmd := exec.CommandContext(ctx, c.opts.Binary, args...)
	cmd.Env = append(os.Environ(), "DRYDOCK_URL="+c.URL, "DRYDOCK_TOKEN="+c.opts.Token)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut

	err = cmd.Run()
	if cmd.ProcessState != nil {
		exit, err = cmd.ProcessState.ExitCode(), ctx.Err()
	}
	return out.String(), errOut.String(), exit, err
}
