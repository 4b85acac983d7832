// Package frameworks holds Drydock against web frameworks as they are: each runs with one resource that is written by
// POST, PUT, PATCH and DELETE and raises a counter, and what a generator makes of a corpus of attacks goes to each
// through a [differential.Gate]. No counter may ever rise.
package frameworks

import (
	"context"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// commands are the servers, each as it is started: dir is the folder of what install.sh installed, bin that of what
// Go built. README.md has what each must answer.
var commands = []struct {
	name string
	args func(dir, bin string) []string
}{
	{"express4", node("express", "4")},
	{"express5", node("express", "5")},
	{"koa", node("koa")},
	{"fastify", node("fastify")},
	{"node-http", node("http")},
	{"flask", python("flask")},
	{"django", python("django")},
	{"fastapi", python("fastapi")},
	{"python-http", python("http")},
	{"net-http", golang("net-http")},
	{"gin", golang("gin")},
	{"rails", ruby("rails")},
	{"rack", ruby("rack", "puma")},
	{"rack-webrick", ruby("rack", "webrick")},
	{"slim", php("builtin", "slim")},
	{"slim-lighttpd", php("lighttpd", "slim")},
	{"laravel", php("builtin", "laravel")},
	{"flight", php("builtin", "flight")},
	{"spring", java("Spring")},
	{"nanohttpd", java("Nano")},
}

func node(name string, args ...string) func(dir, bin string) []string {
	return func(dir, _ string) []string {
		return append([]string{"env", "NODE_PATH=" + dir + "/node/node_modules", "node", "servers/node/" + name + ".js"}, args...)
	}
}

func python(name string) func(dir, bin string) []string {
	return func(dir, _ string) []string {
		return []string{dir + "/python/bin/python", "-B", "servers/python/" + name + "_server.py"}
	}
}

func ruby(name string, args ...string) func(dir, bin string) []string {
	return func(string, string) []string {
		return append([]string{"ruby", "servers/ruby/" + name + ".rb"}, args...)
	}
}

// php is an application on PHP's own web server (builtin), or on lighttpd by CGI.
func php(server, application string) func(dir, bin string) []string {
	return func(string, string) []string {
		return []string{"python3", "servers/php/serve.py", server, application}
	}
}

func java(name string) func(dir, bin string) []string {
	return func(dir, _ string) []string {
		return []string{"java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", dir + "/java/*", "servers/java/" + name + ".java"}
	}
}

func golang(name string) func(dir, bin string) []string {
	return func(_, bin string) []string { return []string{bin + "/golang", name} }
}

// Start installs what is missing, which takes minutes on a fresh machine, and starts all servers. They end with stop,
// and with this process whatever ends it.
func Start(ctx context.Context) (servers []*differential.Server, stop func(), err error) {
	dir, err := differential.Install(ctx, "./install.sh")
	if err != nil {
		return nil, nil, err
	}
	bin, remove, err := differential.BuildGo(ctx)
	if err != nil {
		return nil, nil, err
	}

	var all []differential.Command
	for _, c := range commands {
		all = append(all, differential.Command{Name: c.name, Args: c.args(dir, bin)})
	}
	servers, end, err := differential.Start(all)
	if err != nil {
		remove()
		return nil, nil, err
	}
	return servers, func() { end(); remove() }, nil
}
