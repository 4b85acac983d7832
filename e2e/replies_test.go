package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/drydock-proxy/drydock/e2e/demo"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The filter itself answers the requests that it refuses. Pages, APIs, gRPC and scripts of other
// origins need different answers, and the filter chooses by the headers of the request.
//
// deploy starts a controller, an Envoy with the Drydock filter, and a demo app behind Envoy
// (deployment_test.go). enforce puts an app into a mode and returns once every worker of Envoy
// enforces the mode; enforceOff ends it. A visitor is a client of Envoy (clients_test.go). The app
// default applies to every request that no other app matches.

// A refusal has the format that the client accepts: a page for browsers, problem+json (RFC 9457)
// for JSON clients, plain text for others. All formats have the operator's message, and the headers
// Retry-After (3600 is the default, in seconds), Cache-Control and Vary.
func TestRepliesMatchTheClient(t *testing.T) {
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default", CORS: maintenance.CORS{Origins: []string{"https://app.example.com"}}})
	const message = `Back at <10:00> & "soon".`
	d.enforce("default", maintenance.NoAccess, message)
	v := d.visitorFrom("127.0.0.1")

	// What browsers send as Accept with the request for a page.
	const browserAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
	for _, tt := range []struct {
		name, method, path string
		headers            []string // of the request, as pairs of name and value
		contentType        string   // of the answer; any if ""
		body               []string // texts that the answer contains
	}{
		{"browser", "GET", "/", []string{"Accept", browserAccept, "Accept-Language", "de-CH,de;q=0.9"},
			"text/html; charset=utf-8", []string{"<html lang=\"de\"", "Back at &lt;10:00&gt; &amp; &#34;soon&#34;."}},
		{"browser that posts a form", "POST", "/api/orders", []string{"Accept", browserAccept, "Content-Type", "application/x-www-form-urlencoded"},
			"text/html; charset=utf-8", []string{"Back at &lt;10:00&gt;"}},
		{"JSON client", "GET", "/api/orders", []string{"Accept", "application/json"}, "application/problem+json", []string{`"status":503`}},
		{"problem client", "GET", "/api/orders", []string{"Accept", "application/problem+json"}, "application/problem+json", []string{`"status":503`}},
		{"JSON client that posts", "POST", "/api/orders", []string{"Content-Type", "application/json"}, "application/problem+json", []string{`"status":503`}},
		{"curl", "GET", "/", []string{"Accept", "*/*"}, "text/plain; charset=utf-8", []string{message}},
		{"no Accept", "GET", "/", nil, "text/plain; charset=utf-8", []string{message}},
		{"HEAD", "HEAD", "/", []string{"Accept", browserAccept}, "text/html; charset=utf-8", nil},
		{"malformed Accept", "GET", "/", []string{"Accept", ";;;q=x,/"}, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := v.do(tt.method, tt.path, "", tt.headers...)
			if a.Status != 503 || a.Header.Get("Retry-After") != "3600" || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Vary") == "" {
				t.Errorf("%d %v, want 503 with Retry-After, Cache-Control: no-store and Vary", a.Status, a.Header)
			}
			if got := a.Header.Get("Content-Type"); tt.contentType != "" && got != tt.contentType {
				t.Errorf("Content-Type: %s, want %s", got, tt.contentType)
			}
			for _, part := range tt.body {
				if !strings.Contains(a.Body, part) {
					t.Errorf("the body does not contain %s: %s", part, a.Body)
				}
			}
			if tt.method == "HEAD" && a.Body != "" {
				t.Errorf("the answer to HEAD has a body: %q", a.Body)
			}
			if tt.contentType == "application/problem+json" {
				checkProblem(t, a.Body, message)
			}
		})
	}

	t.Run("gRPC-Web", func(t *testing.T) { testGRPCWebReplies(t, v) })
	t.Run("fetch from a listed origin", func(t *testing.T) { testListedOrigin(t, v) })
	t.Run("fetch from an unlisted origin", func(t *testing.T) { testUnlistedOrigins(t, v) })
	if n := d.app.Requests(); n != 0 {
		t.Errorf("%d requests reached the app", n)
	}
}

// checkProblem checks that a body is problem+json (RFC 9457) whose detail is the message.
func checkProblem(t *testing.T, body, message string) {
	t.Helper()
	var p struct {
		Title, Detail string
		Status        int
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil || p.Title == "" || p.Detail != message || p.Status != 503 {
		t.Errorf("not a problem with the message: %s (%v)", body, err)
	}
}

// testGRPCWebReplies checks the refusal of gRPC-Web, which scripts in browsers use for gRPC. As in
// gRPC, the HTTP status is always 200, and the header grpc-status has the real one.
func testGRPCWebReplies(t *testing.T, v *visitor) {
	const emptyMessage = "\x00\x00\x00\x00\x00" // not compressed, and a length of 0 in four bytes
	const unavailable = "14"                    // the number of the status UNAVAILABLE
	for _, contentType := range []string{"application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"} {
		a := v.do("POST", demo.RPCList, emptyMessage, "Content-Type", contentType, "X-Grpc-Web", "1")
		// Some clients (connect-es) reject an answer that does not have the content type of their
		// request, whatever its status.
		if a.Status != 200 || a.Header.Get("Grpc-Status") != unavailable || a.Header.Get("Content-Type") != contentType {
			t.Errorf("%s: %d %v %q, want UNAVAILABLE in the headers", contentType, a.Status, a.Header, a.Body)
		}
	}
}

// corsAllows reports whether a browser lets a script from the given origin read an answer, with
// credentials (CORS protocol of the Fetch standard). If a script requests something from another
// origin than its own, the browser first asks by a preflight, a request OPTIONS, and the script can
// read the answer to its request only if both answers name its origin.
func corsAllows(a answer, origin string) bool {
	return a.Header.Get("Access-Control-Allow-Origin") == origin && a.Header.Get("Access-Control-Allow-Credentials") == "true"
}

// testListedOrigin checks that a script from an origin that the app's rules list can read the
// refusal and its Retry-After. The browser must not cache the preflight (Max-Age 0), because the
// app's own answer replaces it after the maintenance.
func testListedOrigin(t *testing.T, v *visitor) {
	const origin = "https://app.example.com"
	a := v.do("OPTIONS", "/api/orders", "", "Origin", origin,
		"Access-Control-Request-Method", "DELETE", "Access-Control-Request-Headers", "content-type,x-csrf")
	if a.Status/100 != 2 || !corsAllows(a, origin) || a.Header.Get("Access-Control-Max-Age") != "0" ||
		!strings.Contains(a.Header.Get("Access-Control-Allow-Methods"), "DELETE") ||
		!strings.Contains(a.Header.Get("Access-Control-Allow-Headers"), "x-csrf") {
		t.Errorf("preflight: %d %v", a.Status, a.Header)
	}

	a = v.do("DELETE", "/api/orders/1", "", "Origin", origin, "Accept", "application/json")
	if a.Status != 503 || !corsAllows(a, origin) ||
		!strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), "Retry-After") || !strings.Contains(a.Header.Get("Vary"), "Origin") {
		t.Errorf("request: %d %v", a.Status, a.Header)
	}
}

// testUnlistedOrigins checks that scripts from other origins cannot read the refusal, even if the
// origin resembles a listed one.
func testUnlistedOrigins(t *testing.T, v *visitor) {
	for _, origin := range []string{
		"https://evil.example.com", "https://app.example.com.evil.example", "http://app.example.com", "https://app.example.com:8443", "null",
	} {
		a := v.do("OPTIONS", "/api/orders", "", "Origin", origin, "Access-Control-Request-Method", "DELETE")
		if a.Status/100 == 2 || len(a.Header.Values("Access-Control-Allow-Origin")) > 0 {
			t.Errorf("preflight from %s: %d %v", origin, a.Status, a.Header)
		}

		a = v.get("/api/orders", "Origin", origin)
		if a.Status != 503 || len(a.Header.Values("Access-Control-Allow-Origin")) > 0 {
			t.Errorf("request from %s: %d %v", origin, a.Status, a.Header)
		}
	}
}

// gRPC clients get the status UNAVAILABLE and the operator's message when a call is refused. In
// read-only, a call passes only if the app's rules list its method as safe: every gRPC call is a
// POST, so the filter cannot tell which calls write. The client is gRPC's own, over HTTP/2 from end
// to end.
func TestGRPCClientsGetUnavailable(t *testing.T) {
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default", ReadOnly: maintenance.ReadOnlyRules{SafeRPCs: []string{demo.RPCList}}})
	conn, err := grpc.NewClient(d.envoyPort.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	const message = "closed, sørry" // the header grpc-message encodes what is not ASCII

	// List reads the orders and is listed as safe, Place writes one, and Watch is a stream of them.
	calls := map[string]func() error{
		"List": func() error { return conn.Invoke(ctx, demo.RPCList, &emptypb.Empty{}, new(wrapperspb.StringValue)) },
		"Place": func() error {
			return conn.Invoke(ctx, demo.RPCPlace, wrapperspb.String("anchor"), new(wrapperspb.StringValue))
		},
		"Watch": func() error { return watchOneOrder(ctx, conn, d.app) },
	}

	expect := func(when string, want map[string]codes.Code) {
		t.Helper()
		for name, code := range want {
			err := calls[name]()
			if status.Code(err) != code {
				t.Errorf("%s, %s: %v, want %v", when, name, err, code)
			}
			if got := status.Convert(err).Message(); code == codes.Unavailable && got != message {
				t.Errorf("%s, %s: the message is %q, want %q", when, name, got, message)
			}
		}
	}

	expect("off", map[string]codes.Code{"List": codes.OK, "Place": codes.OK, "Watch": codes.OK})
	d.enforce("default", maintenance.NoAccess, message)
	writes := d.app.Writes()
	expect("no-access", map[string]codes.Code{"List": codes.Unavailable, "Place": codes.Unavailable, "Watch": codes.Unavailable})
	d.enforceOff("default")
	d.enforce("default", maintenance.ReadOnly, message)
	expect("read-only", map[string]codes.Code{"List": codes.OK, "Place": codes.Unavailable, "Watch": codes.Unavailable})
	if n := d.app.Writes() - writes; n != 0 {
		t.Errorf("%d writes reached the app", n)
	}
	d.enforceOff("default")
	expect("off again", map[string]codes.Code{"List": codes.OK, "Place": codes.OK})
}

// watchOneOrder opens a stream of orders and returns nil once it has received one, or the error
// with which the stream ended. Meanwhile it makes the app announce an order again and again, since
// a stream only gets the orders that are announced while it is open.
func watchOneOrder(ctx context.Context, conn *grpc.ClientConn, app *demo.App) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, demo.RPCWatch)
	if err != nil {
		return err
	}
	if err := s.SendMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}

	go func() {
		for ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			app.Announce()
		}
	}()

	return s.RecvMsg(new(wrapperspb.StringValue))
}
