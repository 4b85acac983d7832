package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/web"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A client calls a controller's API.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// anyState is the If-Match of a change that replaces whatever is there.
const anyState = "*"

// An apiError is a problem that the API answered with.
type apiError struct {
	*huma.ErrorModel
}

func (e *apiError) Error() string {
	detail := e.Detail
	if detail == "" {
		detail = e.Title
	}

	switch e.Status {
	case http.StatusUnauthorized:
		return detail + "; set DRYDOCK_TOKEN or --token-file"
	case http.StatusPreconditionFailed:
		return detail + "; check the new state, then repeat the command"
	}
	return detail
}

// isNotFound reports whether the API answered that a resource does not exist.
func isNotFound(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

func newClient(base, token, caFile string) (*client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usagef("the controller's address %q must be a URL such as http://127.0.0.1:7070", base)
	}

	transport := http.DefaultTransport.(*http.Transport).Clone()
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("reading the CA certificate: %w", err)
		}

		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading the CA certificate: %s contains none", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}

	return &client{base: u, token: token, http: &http.Client{
		Transport: transport,
		// A redirect must not send the token to another server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// A request is a call of the API.
type request struct {
	method, path string
	query        url.Values
	headers      map[string]string
	// body is sent as JSON or, if it is []byte, as HTML. Nil sends no body.
	body any
}

// call makes a request, decodes the JSON of the answer into out unless that is nil, and returns the
// answer's ETag. An error status is returned as an *apiError.
func (c *client) call(ctx context.Context, r request, out any) (etag string, err error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return "", fmt.Errorf("making the request: %w", err)
	}

	res, err := c.http.Do(req)
	if err != nil {
		return "", c.unreachable(ctx, err)
	}
	defer res.Body.Close()

	data, err := io.ReadAll(res.Body)
	if err != nil {
		return "", fmt.Errorf("reading the controller's answer: %w", err)
	}

	if res.StatusCode >= 300 {
		return "", c.problem(res, data)
	}

	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			return "", fmt.Errorf("reading the controller's answer: %w", err)
		}
	}
	return res.Header.Get("ETag"), nil
}

func (c *client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	var body io.Reader
	contentType := "application/json"
	switch b := r.body.(type) {
	case nil:
	case []byte:
		body, contentType = bytes.NewReader(b), "text/html; charset=utf-8"
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}

	u := c.base.JoinPath(r.path)
	u.RawQuery = r.query.Encode()

	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}

	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}

	req.Header.Set("Accept", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}

	for name, value := range r.headers {
		req.Header.Set(name, value)
	}
	return req, nil
}

// unreachable returns the error for a request without an answer.
func (c *client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// A *url.Error repeats the method and the URL.
	if cause := (*url.Error)(nil); errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("cannot reach the controller at %s: %w; check that drydock serve is running there, or set DRYDOCK_URL", c.base, err)
}

// problem returns the error for an answer with an error status.
func (c *client) problem(res *http.Response, data []byte) error {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	problem := &huma.ErrorModel{}
	if kind != "application/problem+json" || json.Unmarshal(data, problem) != nil {
		return fmt.Errorf("%s answered %s, unlike a Drydock controller; check DRYDOCK_URL", c.base, res.Status)
	}
	return &apiError{problem}
}

// appPath returns the path of an app, or of a resource below it.
func appPath(app string, below ...string) string {
	return strings.Join(append([]string{"/api/v1/apps", url.PathEscape(app)}, below...), "/")
}

func ifMatch(etag string) map[string]string { return map[string]string{"If-Match": etag} }

// apps returns the definitions of all apps.
func (c *client) apps(ctx context.Context) (set web.AppSet, etag string, err error) {
	etag, err = c.call(ctx, request{method: http.MethodGet, path: "/api/v1/apps"}, &set)
	return set, etag, err
}

// apply replaces the definitions of all apps by a set, which is JSON.
func (c *client) apply(ctx context.Context, etag string, set json.RawMessage, dryRun bool) (out web.Applied, err error) {
	query := url.Values{}
	if dryRun {
		query.Set("dry_run", "true")
	}
	_, err = c.call(ctx, request{method: http.MethodPut, path: "/api/v1/apps", query: query, headers: ifMatch(etag), body: set}, &out)
	return out, err
}

// app returns the definition of an app.
func (c *client) app(ctx context.Context, name string) (spec maintenance.Spec, etag string, err error) {
	etag, err = c.call(ctx, request{method: http.MethodGet, path: appPath(name)}, &spec)
	return spec, etag, err
}

// putApp writes the definition of an app that was read with an ETag or, without one, of a new app.
func (c *client) putApp(ctx context.Context, name, etag string, spec any) (out maintenance.Spec, err error) {
	headers := ifMatch(etag)
	if etag == "" {
		headers = map[string]string{"If-None-Match": "*"}
	}
	_, err = c.call(ctx, request{method: http.MethodPut, path: appPath(name), headers: headers, body: spec}, &out)
	return out, err
}

func (c *client) deleteApp(ctx context.Context, name string) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: appPath(name), headers: ifMatch(anyState)}, nil)
	return err
}

func (c *client) on(ctx context.Context, app string, activation web.On) (st keeper.AppStatus, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: appPath(app, "activations"), headers: ifMatch(anyState), body: activation}, &st)
	return st, err
}

func (c *client) off(ctx context.Context, app string) (st keeper.AppStatus, err error) {
	_, err = c.call(ctx, request{method: http.MethodDelete, path: appPath(app, "activations"), headers: ifMatch(anyState)}, &st)
	return st, err
}

func (c *client) status(ctx context.Context) (st web.Status, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: "/api/v1/status"}, &st)
	return st, err
}

// appStatus returns the status of an app. With wait, enforced or active, it returns when the app is
// that, when its mode changes, or after the time in atMost.
func (c *client) appStatus(ctx context.Context, app, wait string, atMost time.Duration) (st keeper.AppStatus, err error) {
	query := url.Values{}
	if wait != "" {
		query.Set("wait", wait)
		query.Set("timeout", strconv.Itoa(int(max(0, atMost.Seconds()))))
	}
	_, err = c.call(ctx, request{method: http.MethodGet, path: appPath(app, "status"), query: query}, &st)
	return st, err
}

func (c *client) allowlist(ctx context.Context, app string) (out web.IPs, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: appPath(app, "bypass/ips")}, &out)
	return out, err
}

func (c *client) allow(ctx context.Context, app string, ips []string) (out web.IPs, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: appPath(app, "bypass/ips"), headers: ifMatch(anyState), body: web.IPs{IPs: ips}}, &out)
	return out, err
}

func (c *client) disallow(ctx context.Context, app string, ips []string) (out web.IPs, err error) {
	_, err = c.call(ctx, request{method: http.MethodDelete, path: appPath(app, "bypass/ips"), query: url.Values{"ip": ips}, headers: ifMatch(anyState)}, &out)
	return out, err
}

func (c *client) explain(ctx context.Context, r web.Request) (out web.Explanation, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: "/api/v1/explain", body: r}, &out)
	return out, err
}

func (c *client) proxies(ctx context.Context) (out web.Proxies, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: "/api/v1/proxies"}, &out)
	return out, err
}

func (c *client) forgetProxy(ctx context.Context, id string) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: "/api/v1/proxies/" + url.PathEscape(id)}, nil)
	return err
}

func (c *client) putPage(ctx context.Context, sha256 string, html []byte) error {
	_, err := c.call(ctx, request{method: http.MethodPut, path: "/api/v1/pages/" + sha256, body: html}, nil)
	return err
}

// audit returns the newest entries of the audit log, of one app unless that is empty.
func (c *client) audit(ctx context.Context, app string, limit int) (out web.Audit, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if app != "" {
		query.Set("app", app)
	}
	_, err = c.call(ctx, request{method: http.MethodGet, path: "/api/v1/audit", query: query}, &out)
	return out, err
}

func (c *client) tokens(ctx context.Context) (out web.Tokens, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: "/api/v1/tokens"}, &out)
	return out, err
}

func (c *client) createToken(ctx context.Context, name, role string) (out web.NewToken, err error) {
	body := map[string]string{"name": name, "role": role}
	_, err = c.call(ctx, request{method: http.MethodPost, path: "/api/v1/tokens", body: body}, &out)
	return out, err
}

func (c *client) revokeToken(ctx context.Context, id string) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: "/api/v1/tokens/" + url.PathEscape(id)}, nil)
	return err
}
