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

// client calls a controller's API. Whatever the command line does to a controller, it
// does through this.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// always is the If-Match of a change that does not look.
const always = "*"

// apiError is a problem that the API answered.
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
		return detail + "; set DRYDOCK_TOKEN, or give --token-file"
	case http.StatusPreconditionFailed:
		return detail + "; look at it again, then repeat the command"
	}
	return detail
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
			return nil, fmt.Errorf("reading the CA certificate: there is none in %s", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &client{base: u, token: token, http: &http.Client{
		Transport: transport,
		// The token goes where it was meant to go, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// call is one request. in is sent as JSON, or as it is when it is []byte; out is filled
// from JSON, or with the bytes when it is *[]byte. The ETag of the answer is returned.
func (c *client) call(ctx context.Context, method, path string, query url.Values, headers map[string]string, in, out any) (string, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	var body io.Reader
	contentType := "application/json"
	switch in := in.(type) {
	case nil:
	case []byte:
		body, contentType = bytes.NewReader(in), "text/html; charset=utf-8"
	default:
		data, err := json.Marshal(in)
		if err != nil {
			return "", fmt.Errorf("writing the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return "", fmt.Errorf("making the request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		var cause *url.Error
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return "", fmt.Errorf("cannot reach the controller at %s: %w; is drydock serve running there? DRYDOCK_URL says where it is", c.base, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return "", fmt.Errorf("reading the controller's answer: %w", err)
	}
	if res.StatusCode >= 300 {
		kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
		problem := &huma.ErrorModel{}
		if kind != "application/problem+json" || json.Unmarshal(data, problem) != nil {
			return "", fmt.Errorf("%s answered %s, which no Drydock controller does; check DRYDOCK_URL", c.base, res.Status)
		}
		return "", &apiError{problem}
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = data
	default:
		if err := json.Unmarshal(data, out); err != nil {
			return "", fmt.Errorf("reading the controller's answer: %w", err)
		}
	}
	return res.Header.Get("ETag"), nil
}

func appPath(app string, rest ...string) string {
	path := "/api/v1/apps/" + url.PathEscape(app)
	for _, r := range rest {
		path += "/" + r
	}
	return path
}

func ifMatch(etag string) map[string]string { return map[string]string{"If-Match": etag} }

func (c *client) apps(ctx context.Context) (set web.AppSet, etag string, err error) {
	etag, err = c.call(ctx, http.MethodGet, "/api/v1/apps", nil, nil, nil, &set)
	return set, etag, err
}

// apply replaces all apps by the set, as JSON.
func (c *client) apply(ctx context.Context, etag string, set json.RawMessage, dryRun bool) (out web.Applied, err error) {
	query := url.Values{}
	if dryRun {
		query.Set("dry_run", "true")
	}
	_, err = c.call(ctx, http.MethodPut, "/api/v1/apps", query, ifMatch(etag), set, &out)
	return out, err
}

func (c *client) app(ctx context.Context, name string) (spec maintenance.Spec, etag string, err error) {
	etag, err = c.call(ctx, http.MethodGet, appPath(name), nil, nil, nil, &spec)
	return spec, etag, err
}

// putApp writes an app that was read with the ETag, or a new one with none.
func (c *client) putApp(ctx context.Context, name, etag string, spec any) (out maintenance.Spec, err error) {
	headers := ifMatch(etag)
	if etag == "" {
		headers = map[string]string{"If-None-Match": "*"}
	}
	_, err = c.call(ctx, http.MethodPut, appPath(name), nil, headers, spec, &out)
	return out, err
}

func (c *client) deleteApp(ctx context.Context, name, etag string) error {
	_, err := c.call(ctx, http.MethodDelete, appPath(name), nil, ifMatch(etag), nil, nil)
	return err
}

func (c *client) on(ctx context.Context, app string, what web.On) (st keeper.AppStatus, err error) {
	_, err = c.call(ctx, http.MethodPost, appPath(app, "activations"), nil, ifMatch(always), what, &st)
	return st, err
}

func (c *client) off(ctx context.Context, app string) (st keeper.AppStatus, err error) {
	_, err = c.call(ctx, http.MethodDelete, appPath(app, "activations"), nil, ifMatch(always), nil, &st)
	return st, err
}

func (c *client) status(ctx context.Context) (st web.Status, err error) {
	_, err = c.call(ctx, http.MethodGet, "/api/v1/status", nil, nil, nil, &st)
	return st, err
}

// appStatus is an app's status, with wait when it stands as asked for or after the time.
func (c *client) appStatus(ctx context.Context, app, wait string, atMost time.Duration) (st keeper.AppStatus, err error) {
	query := url.Values{}
	if wait != "" {
		query.Set("wait", wait)
		query.Set("timeout", strconv.Itoa(int(max(0, atMost.Seconds()))))
	}
	_, err = c.call(ctx, http.MethodGet, appPath(app, "status"), query, nil, nil, &st)
	return st, err
}

func (c *client) ips(ctx context.Context, app string) (out web.IPs, err error) {
	_, err = c.call(ctx, http.MethodGet, appPath(app, "bypass/ips"), nil, nil, nil, &out)
	return out, err
}

func (c *client) allow(ctx context.Context, app string, ips []string) (out web.IPs, err error) {
	_, err = c.call(ctx, http.MethodPost, appPath(app, "bypass/ips"), nil, ifMatch(always), web.IPs{IPs: ips}, &out)
	return out, err
}

func (c *client) disallow(ctx context.Context, app string, ips []string) (out web.IPs, err error) {
	_, err = c.call(ctx, http.MethodDelete, appPath(app, "bypass/ips"), url.Values{"ip": ips}, ifMatch(always), nil, &out)
	return out, err
}

func (c *client) explain(ctx context.Context, r web.Request) (out web.Explanation, err error) {
	_, err = c.call(ctx, http.MethodPost, "/api/v1/explain", nil, nil, r, &out)
	return out, err
}

func (c *client) proxies(ctx context.Context) (out web.Proxies, err error) {
	_, err = c.call(ctx, http.MethodGet, "/api/v1/proxies", nil, nil, nil, &out)
	return out, err
}

func (c *client) forget(ctx context.Context, proxy string) error {
	_, err := c.call(ctx, http.MethodDelete, "/api/v1/proxies/"+url.PathEscape(proxy), nil, nil, nil, nil)
	return err
}

func (c *client) putPage(ctx context.Context, sha string, html []byte) error {
	_, err := c.call(ctx, http.MethodPut, "/api/v1/pages/"+sha, nil, nil, html, nil)
	return err
}

func (c *client) audit(ctx context.Context, app string, limit int) (out web.Audit, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if app != "" {
		query.Set("app", app)
	}
	_, err = c.call(ctx, http.MethodGet, "/api/v1/audit", query, nil, nil, &out)
	return out, err
}

func (c *client) tokens(ctx context.Context) (out web.Tokens, err error) {
	_, err = c.call(ctx, http.MethodGet, "/api/v1/tokens", nil, nil, nil, &out)
	return out, err
}

func (c *client) createToken(ctx context.Context, name, role string) (out web.NewToken, err error) {
	_, err = c.call(ctx, http.MethodPost, "/api/v1/tokens", nil, nil, map[string]string{"name": name, "role": role}, &out)
	return out, err
}

func (c *client) revokeToken(ctx context.Context, id string) error {
	_, err := c.call(ctx, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(id), nil, nil, nil, nil)
	return err
}

// isNotFound tells whether the API said that there is no such thing.
func isNotFound(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// readToken is the token of a file, without the line's end.
func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("reading the token: %s is empty", path)
	}
	return token, nil
}
