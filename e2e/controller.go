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

// ControllerOptions describe how to run a controller: `drydock serve`, which keeps the state in its
// data directory. It has two listeners, because the API must not be reachable through a proxy: one
// for the API, which operators and the CLI use, and one for the proxies, from which the filter in
// Envoy fetches the state.
type ControllerOptions struct {
	Binary string // path of the program drydock
	Data   string // data directory
	Listen string // host:port of the API
	Proxy  string // host:port of the listener for proxies
	Token  string // the operator's token for the API; a new data directory is created with it
	Sync   string // the token with which proxies fetch the state
	Log    string // path of the file that receives the controller's output
}

// Controller is a running controller. It must not be used by several goroutines during Restart.
type Controller struct {
	*Process        // of `drydock serve`; has Stop and Kill
	URL      string // http://host:port of the API
	Proxy    string // host:port of the listener for proxies

	opts ControllerOptions
}

// readyTimeout is generous: a controller is ready within a second, but not on a busy machine.
const readyTimeout = time.Minute

// StartController starts a controller and waits until /readyz is answered with 200. If that does
// not happen within a minute, it kills the controller and returns an error with the end of the log.
func StartController(ctx context.Context, opts ControllerOptions) (*Controller, error) {
	cmd := exec.Command(opts.Binary, "serve", "--data", opts.Data, "--listen", opts.Listen, "--proxy-listen", opts.Proxy)
	cmd.Env = append(os.Environ(), "DRYDOCK_BOOTSTRAP_TOKEN="+opts.Token, "DRYDOCK_SYNC_TOKEN="+opts.Sync)
	p, err := Start("drydock serve", cmd, opts.Log)
	if err != nil {
		return nil, err
	}

	c := &Controller{Process: p, URL: "http://" + opts.Listen, Proxy: opts.Proxy, opts: opts}
	err = c.waitFor(ctx, readyTimeout, func() error {
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

// Restart starts the controller again after Stop or Kill, with the same options, and makes c the
// new process. The caller must have ended the old one.
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

// Do sends a request to the API with the operator's token. body is encoded as JSON; with nil, the
// request has no body. headers are pairs of name and value. A status of 400 or more is not an
// error: Do returns an error if the request could not be sent or its answer did not arrive whole.
func (c *Controller) Do(ctx context.Context, method, path string, body any, headers ...string) (status int, answer []byte, err error) {
	var encoded io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		encoded = bytes.NewReader(data)
	}

	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, encoded)
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
