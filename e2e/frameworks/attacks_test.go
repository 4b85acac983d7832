package frameworks

import (
	"slices"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// attack is a request that once wrote through a gate, on the server for which it was made.
type attack struct {
	state, server, name string
	request             *differential.Request
}

// attacks collects attacks.
type attacks []attack

func (all *attacks) add(state, server, name, method, target string, change func(r *differential.Request)) {
	r := &differential.Request{Method: method, Target: target}
	change(r)
	*all = append(*all, attack{state, server, name, r})
}

// knownAttacks returns all attacks.
func knownAttacks() []attack {
	var all attacks
	all.byPath()
	all.bySmuggling()
	all.byBody()
	all.byHost()
	all.byUpgrade()
	return all
}

// byPath adds attacks that disguise the path.
func (all *attacks) byPath() {
	for _, name := range []string{"SCRIPT_NAME", "X-Script-Name"} {
		all.add("no-access", "flask", name+" cuts an exempt prefix", "POST", exemptPrefix+"/orders", header(name, exemptPrefix))
		all.add("one-app", "flask", name+" cuts what hides a closed path", "POST", "/x/orders", header(name, "/x"))
		all.add("read-only", "flask", name+" cuts what hides a path whose GET writes", "GET", "/x/logout", header(name, "/x"))
	}
	all.add("one-app", "fastapi", "X-Forwarded-Prefix cuts what hides a closed path", "POST", "/x/orders", header("X-Forwarded-Prefix", "/x"))

	for _, server := range []string{"express4", "express5", "django", "fastapi"} {
		all.add("one-app", server, "a format suffix hides a closed path", "POST", "/orders.json", plain)
	}
	all.add("one-app", "fastapi", "a line feed hides a closed path", "POST", "/orders%0a", plain)
	all.add("read-only", "fastapi", "a line feed hides a path whose GET writes", "GET", "/logout%0a", plain)

	all.add("read-only", "flask", "__METHOD_OVERRIDE__ names the method", "GET", "/orders/1?__METHOD_OVERRIDE__=DELETE", plain)
}

// bySmuggling adds attacks that hide a request in the body of another.
func (all *attacks) bySmuggling() {
	smuggles := func(r *differential.Request) {
		r.Body = smuggled(differential.AnyHost)
		r.Set("Connection", "keep-alive")
		r.Patience = time.Second
	}

	all.add("no-access", "python-http", "the body of an exempt GET is a request", "GET", "/healthz", smuggles)
	all.add("read-only", "python-http", "the body of a GET is a request", "GET", "/orders", smuggles)
	all.add("read-only", "python-http", "the body of an OPTIONS is a request", "OPTIONS", "/orders", smuggles)
	all.add("one-app", "python-http", "the body of a GET beside the closed app is a request", "GET", "/healthz", smuggles)
}

// byBody adds attacks whose body names another method.
func (all *attacks) byBody() {
	const asJSON, asForm = `{"_method":"DELETE"}`, "_method=DELETE"

	for _, server := range []string{"express4", "express5"} {
		for _, place := range [][2]string{{"read-only", "/search"}, {"no-access", "/login"}} {
			state, path := place[0], place[1]

			for _, coding := range []string{"gzip", "deflate"} {
				all.add(state, server, "a form in "+coding+" names the method", "POST", path, withBody(form, asForm, coding, ""))
				all.add(state, server, "JSON in "+coding+" names the method", "POST", path, withBody("application/json", asJSON, coding, ""))
			}

			for _, charset := range []string{"utf-16", "utf-7"} {
				mark := ""
				if charset == "utf-16" {
					mark = "\ufeff"
				}
				all.add(state, server, "JSON in "+charset+" names the method", "POST", path, withBody("application/json; charset="+charset, mark+asJSON, "", charset))
			}

			all.add(state, server, "a multipart form names the method", "POST", path, withBody("multipart/form-data; boundary=x", part(`form-data; name="_method"`, "DELETE"), "", ""))
		}
	}
}

// byHost adds attacks that disguise the host.
func (all *attacks) byHost() {
	for _, host := range []string{"%6frders.test", "orders%2etest", "%EF%BD%8Frders.test", "app.test@orders.test", "orders.test/x?"} {
		all.add("one-app", "node-http", "the host is written as "+host, "POST", "/tenant", func(r *differential.Request) { r.Host = host })
	}

	all.add("one-app", "node-http", "the target names the host", "POST", "//orders.test/tenant", plain)
	for _, server := range []string{"express4", "express5", "koa", "fastify", "flask", "django", "net-http"} {
		all.add("one-app", server, "X-Forwarded-Host names the host", "POST", "/tenant", header("X-Forwarded-Host", closedHost))
	}

	all.add("one-app", "django", "Forwarded names the host", "POST", "/tenant", header("Forwarded", "host="+closedHost))
}

// byUpgrade adds attacks that write after an upgrade.
func (all *attacks) byUpgrade() {
	for _, state := range []string{"no-access", "read-only"} {
		all.add(state, "express5", "an exempt GET becomes a WebSocket", "GET", "/healthz", as(upgradeTricks()[0], ""))
	}
}

// What attacks change about a request.

func plain(*differential.Request) {}

func header(name, value string) func(r *differential.Request) {
	return func(r *differential.Request) { r.Set(name, value) }
}

func as(t trick, value string) func(r *differential.Request) {
	return func(r *differential.Request) { t.do(r, value) }
}

// withBody gives a request a body in a charset and a coding.
func withBody(contentType, text, coding, charset string) func(r *differential.Request) {
	return func(r *differential.Request) {
		r.Body = differential.Compress(coding, differential.Transcode(charset, text))
		r.Set("Content-Type", contentType)
		if coding != "" {
			r.Set("Content-Encoding", coding)
		}
	}
}

// attacksWriteNothing sends the attacks of a state to the servers on which they wrote: first
// without a gate, where they must still write, and then through the gate.
func attacksWriteNothing(t *testing.T, servers []*differential.Server, addrs []string, under state) {
	for _, a := range knownAttacks() {
		if a.state != under.name {
			continue
		}
		t.Run(a.server+" "+a.name, func(t *testing.T) {
			i := slices.IndexFunc(servers, func(s *differential.Server) bool { return s.Name == a.server })
			if !writes(t, servers[i], servers[i].Addr, ungated(a.request), 5*time.Second) {
				t.Fatalf("it writes nothing without a gate either:\n%s", a.request)
			}

			// A smuggled request may be lost if the connection is closed first, so each attack is
			// sent three times.
			for range 3 {
				if writes(t, servers[i], addrs[i], a.request, 50*time.Millisecond) {
					t.Fatalf("it wrote:\n%s", a.request)
				}
			}
		})
	}
}
