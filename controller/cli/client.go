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

// A client calls the HTTP API of a controller (package web). It has a method for each operation of
// the API that a command needs.
type client struct {
	base       *url.URL // address of the controller
	token      string   // of the API; if it is empty, none is sent
	httpClient *http.Client
}

// A change is only made if the resource is in the state that the header If-Match names: either by
// the ETag that the resource had when it was read or, with anyState, whatever it is.
const anyState = "*"

// An apiError is the error with which the API answered. It is a problem as in RFC 9457, of which
// [huma.ErrorModel] is the Go type.
type apiError struct {
	*huma.ErrorModel
}

// Error returns the detail of the problem, and what the user can do if that is known.
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

// newClient returns a client of the controller at an address, which must be a URL. If caFile is not
// empty, only the CAs in this file are trusted, instead of those of the system.
func newClient(address, token, caFile string) (*client, error) {
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, usagef("the controller's address %q must be a URL such as %s", address, defaultURL)
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

	return &client{base: base, token: token, httpClient: &http.Client{
		Transport: transport,
		// A redirect is not followed, because that could send the token to another server. The
		// redirect itself becomes the answer, which call returns as an error.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// A request is a call of the API.
type request struct {
	method, path string // path begins with a slash and follows the client's base
	query        url.Values
	headers      map[string]string // in addition to those that all requests have
	// body is sent as JSON or, if it is []byte, as HTML. Nil sends no body.
	body any
}

// call makes a request. It decodes the JSON of the answer into out, unless out is nil, and returns
// the answer's ETag, which is empty if the answer has none. If the API answers with a problem, the
// error is an *apiError.
func (c *client) call(ctx context.Context, r request, out any) (etag string, err error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return "", fmt.Errorf("making the request: %w", err)
	}

	res, err := c.httpClient.Do(req)
	if err != nil {
		return "", c.connectionError(ctx, err)
	}
	defer res.Body.Close()

	data, err := io.ReadAll(res.Body)
	if err != nil {
		return "", fmt.Errorf("reading the controller's answer: %w", err)
	}

	// Redirects are not followed, so they are errors too.
	if res.StatusCode >= 300 {
		return "", c.answerError(res, data)
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

// connectionError returns the error for a request that got no answer, given the error of the HTTP
// client. If ctx is done, it returns the error of ctx.
func (c *client) connectionError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}

	// The text of a *url.Error begins with the method and the URL. The message below names the
	// address itself, so it takes only the cause.
	if withURL := (*url.Error)(nil); errors.As(err, &withURL) {
		err = withURL.Err
	}
	return fmt.Errorf("cannot reach the controller at %s: %w; "+
		"check that drydock serve is running there, or set DRYDOCK_URL", c.base, err)
}

// answerError returns the error for an answer that is not a success, whose body is data: an
// *apiError, or another error if some other server answered instead of a Drydock controller.
func (c *client) answerError(res *http.Response, data []byte) error {
	mediaType, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	problem := &huma.ErrorModel{}
	if mediaType != "application/problem+json" || json.Unmarshal(data, problem) != nil {
		return fmt.Errorf("%s answered %s, unlike a Drydock controller; check DRYDOCK_URL", c.base, res.Status)
	}
	return &apiError{problem}
}

// appPath returns the API's path of an app or, with a path below it such as "status", the path of
// that part of the app.
func appPath(app string, below ...string) string {
	return strings.Join(append([]string{"/api/v1/apps", url.PathEscape(app)}, below...), "/")
}

// ifMatch returns the headers of a change that requires the resource to have an ETag, or anyState.
func ifMatch(etag string) map[string]string { return map[string]string{"If-Match": etag} }

// listApps returns the definitions of all apps.
func (c *client) listApps(ctx context.Context) (set web.AppSet, etag string, err error) {
	etag, err = c.call(ctx, request{method: http.MethodGet, path: "/api/v1/apps"}, &set)
	return set, etag, err
}

// applyApps replaces the definitions of all apps, whose ETag must be etag, by those in set, which
// is the JSON of a [web.AppSet]. A dry run only returns what would change.
func (c *client) applyApps(ctx context.Context, etag string, set json.RawMessage, dryRun bool) (out web.Applied, err error) {
	query := url.Values{}
	if dryRun {
		query.Set("dry_run", "true")
	}
	_, err = c.call(ctx, request{
		method: http.MethodPut, path: "/api/v1/apps", query: query,
		headers: ifMatch(etag), body: set,
	}, &out)
	return out, err
}

// getApp returns the definition of an app, and its ETag. The error of an app that does not exist
// satisfies isNotFound.
func (c *client) getApp(ctx context.Context, name string) (spec maintenance.Spec, etag string, err error) {
	etag, err = c.call(ctx, request{method: http.MethodGet, path: appPath(name)}, &spec)
	return spec, etag, err
}

// putApp stores a definition, spec, of an app, and returns it as the controller stored it. If etag
// is empty, the app must not exist yet; otherwise its definition must still have this ETag.
func (c *client) putApp(ctx context.Context, name, etag string, spec any) (out maintenance.Spec, err error) {
	headers := ifMatch(etag)
	if etag == "" {
		headers = map[string]string{"If-None-Match": "*"}
	}
	_, err = c.call(ctx, request{
		method: http.MethodPut, path: appPath(name),
		headers: headers, body: spec,
	}, &out)
	return out, err
}

func (c *client) deleteApp(ctx context.Context, name string) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: appPath(name), headers: ifMatch(anyState)}, nil)
	return err
}

// turnOn puts an app into maintenance, and returns its status after that.
func (c *client) turnOn(ctx context.Context, app string, activation web.On) (st keeper.AppStatus, err error) {
	_, err = c.call(ctx, request{
		method: http.MethodPost, path: appPath(app, "activations"),
		headers: ifMatch(anyState), body: activation,
	}, &st)
	return st, err
}

// turnOff ends the maintenance of an app, and returns its status after that.
func (c *client) turnOff(ctx context.Context, app string) (st keeper.AppStatus, err error) {
	_, err = c.call(ctx, request{
		method: http.MethodDelete, path: appPath(app, "activations"),
		headers: ifMatch(anyState),
	}, &st)
	return st, err
}

// getStatus returns the status of all apps and proxies.
func (c *client) getStatus(ctx context.Context) (st web.Status, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: "/api/v1/status"}, &st)
	return st, err
}

// getAppStatus returns the status of an app. If wait is empty, it does so at once and ignores
// timeout. If wait is waitEnforced or waitActive, the API answers as soon as the app has reached
// that or its mode changes, and at the latest after the timeout, which is cut to whole seconds.
func (c *client) getAppStatus(ctx context.Context, app, wait string, timeout time.Duration) (st keeper.AppStatus, err error) {
	query := url.Values{}
	if wait != "" {
		query.Set("wait", wait)
		query.Set("timeout", strconv.Itoa(int(max(0, timeout.Seconds()))))
	}
	_, err = c.call(ctx, request{method: http.MethodGet, path: appPath(app, "status"), query: query}, &st)
	return st, err
}

// listIPs returns the allowlist of an app: the addresses and CIDRs that bypass maintenance. allow
// and disallow change it, and return the list after that.
func (c *client) listIPs(ctx context.Context, app string) (out web.IPs, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: appPath(app, "bypass/ips")}, &out)
	return out, err
}

func (c *client) allow(ctx context.Context, app string, ips []string) (out web.IPs, err error) {
	_, err = c.call(ctx, request{
		method: http.MethodPost, path: appPath(app, "bypass/ips"),
		headers: ifMatch(anyState), body: web.IPs{IPs: ips},
	}, &out)
	return out, err
}

func (c *client) disallow(ctx context.Context, app string, ips []string) (out web.IPs, err error) {
	_, err = c.call(ctx, request{
		method: http.MethodDelete, path: appPath(app, "bypass/ips"),
		query: url.Values{"ip": ips}, headers: ifMatch(anyState),
	}, &out)
	return out, err
}

// explain returns the decision that a proxy would make about a request.
func (c *client) explain(ctx context.Context, r web.Request) (out web.Explanation, err error) {
	_, err = c.call(ctx, request{method: http.MethodPost, path: "/api/v1/explain", body: r}, &out)
	return out, err
}

func (c *client) listProxies(ctx context.Context) (out web.Proxies, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: "/api/v1/proxies"}, &out)
	return out, err
}

// forgetProxy makes the controller forget a proxy until the proxy reports again.
func (c *client) forgetProxy(ctx context.Context, id string) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: "/api/v1/proxies/" + url.PathEscape(id)}, nil)
	return err
}

// putPage stores an HTML page, whose SHA-256 must be given in hex.
func (c *client) putPage(ctx context.Context, sha256 string, html []byte) error {
	_, err := c.call(ctx, request{method: http.MethodPut, path: "/api/v1/pages/" + sha256, body: html}, nil)
	return err
}

// listAudit returns at most limit of the newest entries of the audit log. If app is not empty, they
// are only those about this app.
func (c *client) listAudit(ctx context.Context, app string, limit int) (out web.Audit, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if app != "" {
		query.Set("app", app)
	}
	_, err = c.call(ctx, request{method: http.MethodGet, path: "/api/v1/audit", query: query}, &out)
	return out, err
}

func (c *client) listTokens(ctx context.Context) (out web.Tokens, err error) {
	_, err = c.call(ctx, request{method: http.MethodGet, path: "/api/v1/tokens"}, &out)
	return out, err
}

// createToken creates an API token. Only its answer contains the token's secret.
func (c *client) createToken(ctx context.Context, name, role string) (out web.NewToken, err error) {
	body := map[string]string{"name": name, "role": role}
	_, err = c.call(ctx, request{method: http.MethodPost, path: "/api/v1/tokens", body: body}, &out)
	return out, err
}

func (c *client) revokeToken(ctx context.Context, id string) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: "/api/v1/tokens/" + url.PathEscape(id)}, nil)
	return err
}
