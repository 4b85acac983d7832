package frameworks

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/differential"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file has requests in disguise, a test for each kind of disguise. Each request once got past
// Drydock. Drydock decides by the app to which a request belongs, and by whether the request only
// reads. A test sends each request to a server of rig (servers.go), each of which has a counter
// that every write raises: without a gate, and through gates that must refuse it. The gates are the
// rules of Drydock's filter alone, called the core, and Envoy with the filter.

// disguise is a request that a server takes for a write, or for a request to an app in maintenance,
// although it does not look like one.
type disguise struct {
	server  string // its name
	request *differential.Request
}

// request returns a request by its first line without the version, such as "POST /orders", and its
// further lines: headers and, after an empty line, a body.
func request(methodAndTarget string, lines ...string) *differential.Request {
	r := &differential.Request{}
	r.Method, r.Target, _ = strings.Cut(methodAndTarget, " ")
	if blank := slices.Index(lines, ""); blank >= 0 {
		r.Body = []byte(strings.Join(lines[blank+1:], "\n"))
		lines = lines[:blank]
	}

	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Headers = append(r.Headers, [2]string{name, value})
	}
	return r
}

// chunked sets that the body of a request is sent in chunks, and returns the request.
func chunked(r *differential.Request) *differential.Request {
	r.Framing = differential.Chunked
	return r
}

// expectRefused sends disguises to their servers, first without a gate and then through the core
// and through Envoy, which enforce the state of apps. Without a gate each disguise must write, so
// that the test can fail. Through a gate none may. The gates must let the request read pass, so
// that they do not just refuse everything.
func expectRefused(t *testing.T, apps []maintenance.App, read *differential.Request, disguises []disguise) {
	t.Helper()
	var names []string
	for _, d := range disguises {
		if !slices.Contains(names, d.server) {
			names = append(names, d.server)
		}
	}
	servers := rig.Named(t, names...)

	const slowWrite, noWait = time.Second, 0 // how long to wait for a write after the answer
	for _, d := range disguises {
		s := servers[slices.Index(names, d.server)]
		if !writes(t, s, s.Addr, d.request, slowWrite) {
			t.Errorf("%s does not write without a gate, so the test shows nothing:\n%s", d.server, d.request)
		}
	}

	for _, gate := range []struct {
		name  string
		start differential.Gate
	}{{"core", differential.CoreGate}, {"envoy", differential.EnvoyGate}} {
		t.Run(gate.name, func(t *testing.T) {
			addrs := gate.start(t, servers, differential.State(apps...))
			for i, s := range servers {
				if res, err := differential.Send(addrs[i], read); err != nil || res.Status != http.StatusOK {
					t.Fatalf("%s: a read is answered %d, %v", s.Name, res.Status, err)
				}
			}

			for i, s := range servers {
				for _, d := range disguises {
					if d.server != s.Name {
						continue
					}
					if writes(t, s, addrs[i], d.request, noWait) {
						t.Errorf("%s wrote:\n%s", s.Name, d.request)
					}
				}

				// All late writes of a server are awaited together.
				before := differential.Counter(t, s)
				time.Sleep(200 * time.Millisecond)
				if n := differential.Counter(t, s); n != before {
					t.Errorf("%s wrote %d times after it had answered", s.Name, n-before)
				}
			}
		})
	}
}

// writes sends a request to an address at which a server is reached, and reports whether the
// server's counter rises before the answer or within patience afterwards. A request that is
// smuggled in the body of another one is executed after the answer to that one.
func writes(t testing.TB, s *differential.Server, addr string, r *differential.Request, patience time.Duration) bool {
	t.Helper()

	before := differential.Counter(t, s)
	if _, err := differential.Send(addr, r); err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}

	for deadline := time.Now().Add(patience); differential.Counter(t, s) == before; time.Sleep(10 * time.Millisecond) {
		if !time.Now().Before(deadline) {
			return false
		}
	}
	return true
}

// closedOrders returns an app for /orders in no-access, and a default app that is open.
func closedOrders() []maintenance.App {
	return []maintenance.App{
		differential.InMode(maintenance.Spec{Name: "orders", Match: maintenance.Match{Paths: []string{"/orders"}}}, maintenance.NoAccess),
		{Spec: maintenance.Spec{Name: maintenance.DefaultApp}},
	}
}

// readOnly returns the default app in read-only, with a write that passes, an exemption, and a GET
// that writes.
func readOnly() []maintenance.App {
	return []maintenance.App{differential.InMode(maintenance.Spec{
		Name:   maintenance.DefaultApp,
		Exempt: []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/login"}},
		ReadOnly: maintenance.ReadOnlyRules{
			WriteThrough: []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/search"}},
			GetWrites:    []maintenance.PathRule{{Path: "/logout"}},
		},
	}, maintenance.ReadOnly)}
}

// Rails and Spring serve /orders for /orders.json, too.
func TestFormatSuffixesReachTheSameApp(t *testing.T) {
	var all []disguise
	for server, paths := range map[string][]string{
		"rails":  {"/orders.json", "/orders.x", "/orders.json/", "/orders/1.json", "/orders.%0a"},
		"spring": {"/orders.json", "/orders.", "/orders..", "/orders.a.b", "/orders%2ejson", "/orders.json;x", "/orders;.json", "/orders.json%20", "/orders.%3b"},
	} {
		for _, path := range paths {
			all = append(all, disguise{server, request("POST "+path, "", "")})
		}
	}

	expectRefused(t, closedOrders(), request("GET /healthz"), all)
}

// PHP's web servers run a script that the path names, and the script takes the rest for the path.
func TestPathsBehindScriptsReachTheSameApp(t *testing.T) {
	var all []disguise
	for server, paths := range map[string][]string{
		"slim":          {"/index.php/orders", "/index.php//orders"},
		"slim-lighttpd": {"/index.php/orders", "/INDEX.PHP/orders", "/index.phporders", "/INDEX.PHPorders", "/index.phporders/1"},
		"laravel":       {"/index.php/orders", "/index%2ephp/orders", "/search/index.php/orders", "/index.phporders", "/index.ph%70orders"},
	} {
		for _, path := range paths {
			all = append(all, disguise{server, request("POST "+path, "", "")})
		}
	}

	expectRefused(t, closedOrders(), request("GET /healthz"), all)
}

func TestGETThatWritesIsRefusedInEverySpellingOfItsPath(t *testing.T) {
	var all []disguise
	for server, paths := range map[string][]string{
		"rails":         {"/logout.json", "/logout/", "/logout.%0a"},
		"spring":        {"/logout.json", "/logout.x", "/logout;x"},
		"slim":          {"/index.php/logout"},
		"slim-lighttpd": {"/index.phplogout"},
		"laravel":       {"/index.phplogout", "/search/index.php/logout"},
		"flight":        {"/logout%0a", "/logout%3fx", "/LOGOUT"},
	} {
		for _, path := range paths {
			all = append(all, disguise{server, request("GET " + path)})
		}
	}

	all = append(all, disguise{"rails", request("HEAD /logout")}, disguise{"spring", request("HEAD /logout")})
	expectRefused(t, readOnly(), request("GET /healthz"), all)
}

func TestGraphQLByURLIsJudgedInEverySpellingOfItsPath(t *testing.T) {
	const mutation = "mutation%7bb%7d"
	var all []disguise
	for _, target := range []string{
		"/graphql.json?query=" + mutation, "/graphql.x?query=" + mutation, "/graphql/?query=" + mutation, "/graphql.%0a?query=" + mutation,
		"/graphql?[query]=" + mutation, "/graphql?]query=" + mutation, "/graphql?query]=" + mutation, "/graphql?query=%7ba%7d&[query]=" + mutation,
	} {
		all = append(all,
			disguise{"rails", request("GET " + target)},
			disguise{"rails", request("POST "+target, "Content-Type: application/json", "", `{"query":"{a}"}`)})
	}

	expectRefused(t, readOnly(), request("GET /graphql?query=%7ba%7d"), all)
}

func TestMethodOverrideHeadersAreRecognizedInEverySpelling(t *testing.T) {
	var all []disguise
	for server, separators := range map[string]string{"slim": "-_.", "flight": "-_.", "slim-lighttpd": "-_.!~'^|`+#$%&*"} {
		for _, separator := range separators {
			name := strings.Join([]string{"x", "http", "method", "override"}, string(separator))
			all = append(all, disguise{server, request("GET /orders", name+": DELETE")})
		}
	}

	expectRefused(t, readOnly(), request("GET /orders"), all)
}

func TestMethodOverrideCookiesAreRecognized(t *testing.T) {
	var all []disguise
	for _, cookie := range []string{"_method=DELETE", ".method=DELETE", "a=1; _method=DELETE", "a=1;;_method=DELETE", `a="; _method=DELETE;"`, "_method=%44ELETE", "_method=DELETE; _method=GET"} {
		all = append(all, disguise{"flight", request("GET /orders", "Cookie: "+cookie)})
	}

	expectRefused(t, readOnly(), request("GET /orders", "Cookie: method=a; session=b"), all)
}

func TestMethodOverrideParametersAreRecognizedInEverySpelling(t *testing.T) {
	var all []disguise
	for _, name := range []string{"_method", ".method", "+_method", "%20%20_method", "%2emethod", "%20.method", "_method%00x", "%5fmethod"} {
		all = append(all, disguise{"flight", request("GET /orders?" + name + "=DELETE")})
	}

	expectRefused(t, readOnly(), request("GET /orders?method=a&sort=b"), all)
}

// A body in chunks has no Content-Length. Rack takes a header such as "content_length: 0" for one,
// and Rails still reads the body.
func TestMisspeltContentLengthDoesNotHideABody(t *testing.T) {
	const mutation = `{"query":"mutation{b}"}`
	var all []disguise

	for _, method := range []string{"GET", "OPTIONS"} {
		for _, header := range []string{"content_length: 0", "content.length: 0", "a: b"} {
			all = append(all, disguise{"rails", chunked(request(method+" /graphql", header, "Content-Type: application/json", "", mutation))})
		}
	}

	all = append(all, disguise{"rails", request("GET /graphql", "Content-Type: application/x-www-form-urlencoded", "", "query=mutation{b}")})
	expectRefused(t, readOnly(), request("GET /graphql?query=%7ba%7d"), all)
}

// NanoHTTPD leaves the body of a GET on the connection, and takes it for the next request.
func TestBodiesOfGETDoNotBecomeRequests(t *testing.T) {
	const smuggled = "POST /orders HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\na=1"
	var all []disguise
	for _, target := range []string{"GET /orders", "GET /healthz", "HEAD /healthz", "OPTIONS /healthz"} {
		all = append(all, disguise{"nanohttpd", request(target, "Connection: keep-alive", "", smuggled)})
	}

	closed := []maintenance.App{differential.InMode(maintenance.Spec{
		Name: maintenance.DefaultApp, Exempt: []maintenance.PathRule{{Path: "/healthz"}},
	}, maintenance.NoAccess)}
	elsewhere := all[1:] // without GET /orders, which is refused in any case
	t.Run("no-access", func(t *testing.T) { expectRefused(t, closed, request("GET /healthz"), elsewhere) })
	t.Run("another app in no-access", func(t *testing.T) { expectRefused(t, closedOrders(), request("GET /healthz"), elsewhere) })
	t.Run("read-only", func(t *testing.T) { expectRefused(t, readOnly(), request("GET /orders"), all) })
}

// The POSTs to /search and /login only read, and pass. Frameworks take another method from a field
// "_method" (Slim: "_METHOD") of a body, in every spelling and type of body below.
func TestBodiesThatNameAnotherMethodAreRefused(t *testing.T) {
	const (
		form      = "Content-Type: application/x-www-form-urlencoded"
		json      = "Content-Type: application/json"
		multipart = "Content-Type: multipart/form-data; boundary=b"
	)
	// part returns a multipart body whose one part has this header; named, one with this name.
	part := func(header string) string { return "--b\r\n" + header + "\r\n\r\nDELETE\r\n--b--\r\n" }
	named := func(name string) string { return part("Content-Disposition: form-data; " + name) }
	var all []disguise
	add := func(server string, lines ...string) {
		all = append(all, disguise{server, request("POST /search", lines...)}, disguise{server, request("POST /login", lines...)})
	}

	for _, server := range []string{"rails", "rack"} {
		for _, kind := range []string{"form-data", "mixed", "related"} {
			add(server, "Content-Type: multipart/"+kind+"; boundary=b", "", named(`name="_method"`))
		}
		add(server, multipart, "", named(`name="\_method"`))
		add(server, multipart, "", named(`name="x"; name="_method"`))
		add(server, multipart, "", part("Content-ID: _method"))
		add(server, "", "_method=DELETE") // Rack takes a body without a type for a form
		add(server, form+",text/plain", "", "_method=DELETE")
		for _, body := range []string{"[_method]=DELETE", "[[_method=DELETE", "]_method=DELETE", "_method]=DELETE", "a=1& _method=DELETE", "_method=DELETE\x00"} {
			add(server, form, "", body)
		}
	}

	add("spring", multipart, "", named("name*=utf-8''%5fm%65thod"))
	add("spring", multipart, "", named("name*=utf-16''%00%5f%00m%00e%00t%00h%00o%00d"))
	add("spring", multipart, "", named(`name="=?utf-8?B?X21ldGhvZA==?="`))
	add("spring", form+"; charset=utf-16", "", "%00%5f%00%6d%00%65%00%74%00%68%00%6f%00%64=%00%44%00%45%00%4c%00%45%00%54%00%45")
	add("spring", form+"; charset=IBM037", "", "%6d%94%85%a3%88%96%84=%c4%c5%d3%c5%e3%c5") // EBCDIC

	add("slim", json, "", `{"\u005fMETHOD":"DELETE"}`)
	add("slim", "Content-Type: x/y+json", "", `{"_METHOD":"DELETE"}`)
	add("slim", json, "Content_Type: x/y+x-www-form-urlencoded", "", `{"a":"&_METHOD=DELETE&"}`)
	add("slim", form, "Content.Type: application/json", "", `{"_METHOD":"DELETE"}`)
	add("laravel", form, "Content_Type: application/json", "", `{"_method":"DELETE"}`)
	add("laravel", form+";x=/json", "", `{"_method":"DELETE"}`)
	add("laravel", "Content-Type: text/plain; x=+json", "", `{"_method":"DELETE"}`)
	for _, body := range []string{".method=DELETE", "%20.method=DELETE", "_method%00x=DELETE"} {
		add("laravel", form, "", body)
	}

	expectRefused(t, readOnly(), request("POST /search", form, "", "a=1&method=b"), all)
}

func TestForwardedHostsReachTheSameApp(t *testing.T) {
	var all []disguise
	for server, headers := range map[string][]string{
		"rails":   {"X-Forwarded-Host: orders.test", "X_Forwarded_Host: orders.test", "X-Forwarded_Host: orders.test", "X-Forwarded-Host: www.test, orders.test"},
		"laravel": {"X-Forwarded-Host: orders.test", "X_Forwarded_Host: orders.test", "X.Forwarded.Host: orders.test", "X-Forwarded-Host: orders.test, www.test"},
	} {
		for _, header := range headers {
			all = append(all, disguise{server, request("POST /tenant", header, "", "")})
		}
	}

	expectRefused(t, []maintenance.App{
		differential.InMode(maintenance.Spec{Name: "tenant", Match: maintenance.Match{Hosts: []string{"orders.test"}}}, maintenance.NoAccess),
		{Spec: maintenance.Spec{Name: maintenance.DefaultApp}},
	}, request("GET /healthz"), all)
}

// TestClientsCannotForgeTheBypassHeader sends x-drydock-bypass: ip. With this header, Drydock tells
// a server that a request passes because of the client's address. If a client sends the header, in
// any spelling that a server takes for it, Envoy must remove it. GET /bypass answers with the value
// that the server got.
func TestClientsCannotForgeTheBypassHeader(t *testing.T) {
	servers := rig.Named(t, "slim", "slim-lighttpd")
	forge := func(separator string) *differential.Request {
		return request("GET /bypass", strings.Join([]string{"x", "drydock", "bypass"}, separator)+": ip")
	}
	bypassSeenBy := func(addr string, r *differential.Request) string {
		t.Helper()
		res, err := differential.Send(addr, r)
		if err != nil || res.Status != http.StatusOK {
			t.Fatalf("%s is answered %d, %v", r, res.Status, err)
		}
		return string(res.Body)
	}

	separators := map[string]string{"slim": "-_.", "slim-lighttpd": "-_.!~'^|`+#$%&*"}
	for _, s := range servers {
		for _, separator := range separators[s.Name] {
			if got := bypassSeenBy(s.Addr, forge(string(separator))); got != "ip" {
				t.Errorf("%s is told %q by %q without a gate, so the test shows nothing", s.Name, got, separator)
			}
		}
	}

	addrs := differential.EnvoyGate(t, servers, differential.State(maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp}}))
	for i, s := range servers {
		for _, separator := range separators[s.Name] {
			if got := bypassSeenBy(addrs[i], forge(string(separator))); got != "" {
				t.Errorf("%s is told %q by %q", s.Name, got, separator)
			}
		}
	}
}
