package frameworks

import (
	"slices"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// This file has requests that once got past Drydock. A gate is what refuses writes in front of the
// servers of rig (servers.go). It enforces one of several states, such as read-only
// (invariant_test.go), and each server has a counter that every write raises.

// attack is a request that once wrote through a gate on one of the servers. It must not any more.
type attack struct {
	state, server string // the names of the state and of the server
	name          string // what the attack does
	request       *differential.Request
}

// attacks is a list of attacks. Its methods add to it.
type attacks []attack

// add adds an attack by this method and target. change changes the rest of the request.
func (all *attacks) add(state, server, name, method, target string, change func(r *differential.Request)) {
	r := &differential.Request{Method: method, Target: target}
	change(r)
	*all = append(*all, attack{state, server, name, r})
}

// knownAttacks returns all attacks.
func knownAttacks() []attack {
	var all attacks
	all.addPathAttacks()
	all.addSmugglingAttacks()
	all.addBodyAttacks()
	all.addHostAttacks()
	all.addUpgradeAttacks()
	return all
}

// addPathAttacks adds attacks that disguise the path.
func (all *attacks) addPathAttacks() {
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

// addSmugglingAttacks adds attacks that hide a request in the body of another.
func (all *attacks) addSmugglingAttacks() {
	smuggle := func(r *differential.Request) {
		r.Body = smuggled(differential.AnyHost)
		r.Set("Connection", "keep-alive")
		r.Patience = time.Second
	}

	all.add("no-access", "python-http", "the body of an exempt GET is a request", "GET", "/healthz", smuggle)
	all.add("read-only", "python-http", "the body of a GET is a request", "GET", "/orders", smuggle)
	all.add("read-only", "python-http", "the body of an OPTIONS is a request", "OPTIONS", "/orders", smuggle)
	all.add("one-app", "python-http", "the body of a GET beside the closed app is a request", "GET", "/healthz", smuggle)
}

// addBodyAttacks adds attacks whose body names another method.
func (all *attacks) addBodyAttacks() {
	const asJSON, asForm = `{"_method":"DELETE"}`, "_method=DELETE"

	for _, server := range []string{"express4", "express5"} {
		for _, place := range [][2]string{{"read-only", "/search"}, {"no-access", "/login"}} {
			state, path := place[0], place[1]

			for _, coding := range []string{"gzip", "deflate"} {
				all.add(state, server, "a form in "+coding+" names the method", "POST", path, withBody(form, asForm, coding, ""))
				all.add(state, server, "JSON in "+coding+" names the method", "POST", path, withBody("application/json", asJSON, coding, ""))
			}

			for _, charset := range []string{"utf-16", "utf-7"} {
				byteOrderMark := ""
				if charset == "utf-16" {
					byteOrderMark = "\ufeff"
				}
				all.add(state, server, "JSON in "+charset+" names the method", "POST", path, withBody("application/json; charset="+charset, byteOrderMark+asJSON, "", charset))
			}

			all.add(state, server, "a multipart form names the method", "POST", path, withBody("multipart/form-data; boundary=x", part(`form-data; name="_method"`, "DELETE"), "", ""))
		}
	}
}

// addHostAttacks adds attacks that disguise the host.
func (all *attacks) addHostAttacks() {
	for _, host := range []string{"%6frders.test", "orders%2etest", "%EF%BD%8Frders.test", "app.test@orders.test", "orders.test/x?"} {
		all.add("one-app", "node-http", "the host is written as "+host, "POST", "/tenant", func(r *differential.Request) { r.Host = host })
	}

	all.add("one-app", "node-http", "the target names the host", "POST", "//orders.test/tenant", plain)
	for _, server := range []string{"express4", "express5", "koa", "fastify", "flask", "django", "net-http"} {
		all.add("one-app", server, "X-Forwarded-Host names the host", "POST", "/tenant", header("X-Forwarded-Host", closedHost))
	}

	all.add("one-app", "django", "Forwarded names the host", "POST", "/tenant", header("Forwarded", "host="+closedHost))
}

// addUpgradeAttacks adds attacks that write after an upgrade.
func (all *attacks) addUpgradeAttacks() {
	for _, state := range []string{"no-access", "read-only"} {
		webSocket := upgradeTricks()[0]
		all.add(state, "express5", "an exempt GET becomes a WebSocket", "GET", "/healthz", func(r *differential.Request) {
			webSocket.do(r, "")
		})
	}
}

// The functions below are or return what attacks change about a request.

// plain changes nothing.
func plain(*differential.Request) {}

// header sets a header.
func header(name, value string) func(r *differential.Request) {
	return func(r *differential.Request) { r.Set(name, value) }
}

// withBody sets a body in a charset, which contentType must name, and a content coding. "" is
// UTF-8, or no coding.
func withBody(contentType, text, coding, charset string) func(r *differential.Request) {
	return func(r *differential.Request) {
		r.Body = differential.Compress(coding, differential.Transcode(charset, text))
		r.Set("Content-Type", contentType)
		if coding != "" {
			r.Set("Content-Encoding", coding)
		}
	}
}

// attacksWriteNothing sends each attack on a state to the server on which it wrote: first without a
// gate, where it must still write, and then through the gate that enforces the state. addrs are the
// addresses of the servers behind the gate.
func attacksWriteNothing(t *testing.T, servers []*differential.Server, addrs []string, under state) {
	for _, a := range knownAttacks() {
		if a.state != under.name {
			continue
		}
		t.Run(a.server+" "+a.name, func(t *testing.T) {
			i := slices.IndexFunc(servers, func(s *differential.Server) bool { return s.Name == a.server })
			const slowWrite = 5 * time.Second // a smuggled request may be executed after the answer
			if !writes(t, servers[i], servers[i].Addr, ungated(a.request), slowWrite) {
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
