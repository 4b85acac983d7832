// Package frameworks tests Drydock with servers of real web frameworks. Each server has resources
// that POST, PUT, PATCH and DELETE write, and a counter that every write raises. A generator
// combines the tricks of a corpus to requests that write without looking like it, and the tests
// send them to each server through a [differential.Gate], which must refuse them: no counter may
// ever rise.
//
// The corpus is in corpus.go, the generator in generate.go. invariant_test.go has the rule that no
// write reaches a server, attacks_test.go and disguises_test.go what once broke it, honest_test.go
// what must pass, and servers_test.go what the servers do without a gate.
package frameworks

import "github.com/drydock-proxy/drydock/e2e/differential"

// rig is the servers. Each is a program in servers/ (see [differential.Command]). README.md says
// what each of them must answer.
var rig = differential.Rig{Commands: []differential.Command{
	{Name: "express4", Args: differential.Node("node", "express", "4")},
	{Name: "express5", Args: differential.Node("node", "express", "5")},
	{Name: "koa", Args: differential.Node("node", "koa")},
	{Name: "fastify", Args: differential.Node("node", "fastify")},
	{Name: "node-http", Args: differential.Node("node", "http")},
	{Name: "flask", Args: differential.Python("flask")},
	{Name: "django", Args: differential.Python("django")},
	{Name: "fastapi", Args: differential.Python("fastapi")},
	{Name: "python-http", Args: differential.Python("http")},
	{Name: "net-http", Args: differential.Go("net-http")},
	{Name: "gin", Args: differential.Go("gin")},
	{Name: "rails", Args: differential.Ruby("rails")},
	{Name: "rack", Args: differential.Ruby("rack", "puma")},
	{Name: "rack-webrick", Args: differential.Ruby("rack", "webrick")},
	{Name: "slim", Args: php("builtin", "slim")},
	{Name: "slim-lighttpd", Args: php("lighttpd", "slim")},
	{Name: "laravel", Args: php("builtin", "laravel")},
	{Name: "flight", Args: php("builtin", "flight")},
	{Name: "spring", Args: differential.Java("Spring")},
	{Name: "nanohttpd", Args: differential.Java("Nano")},
}}

// php returns an application on PHP's own web server (builtin), or on lighttpd by CGI.
func php(server, application string) func(differential.Tools) []string {
	return func(differential.Tools) []string {
		return []string{"python3", "servers/php/serve.py", server, application}
	}
}
