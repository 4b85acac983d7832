// Package graphql holds read-only against GraphQL servers as they are: sixteen of them run, each with a counter that
// only a mutation or a subscription raises, and what a generator makes of a corpus goes to each through a
// [differential.Gate]. No counter may ever rise.
package graphql

import (
	"context"
	"path/filepath"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// commands are the servers, each as it is started: dir is the folder of what install.sh installed, bin that of what
// Go built.
var commands = []struct {
	name string
	args func(dir, bin string) []string
}{
	{"apollo", node("node", "apollo")},
	{"apollo2", node("node15", "apollo2")},
	{"yoga", node("node", "yoga")},
	{"graphql-http", node("node", "graphql-http")},
	{"mercurius", node("node", "mercurius")},
	{"express-graphql", node("node15", "express-graphql")},
	{"helix", node("node15", "helix")},
	{"strawberry", python("strawberry")},
	{"ariadne", python("ariadne")},
	{"graphene-django", python("graphene_django")},
	{"core-flask", python("core_flask")},
	{"gophers", golang("gophers")},
	{"graphql-go", golang("graphql-go")},
	{"graphql-java", func(dir, _ string) []string {
		return []string{"java", "-Xss4m", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", dir + "/java/*", "servers/java/Server.java"}
	}},
	{"graphql-ruby", func(string, string) []string { return []string{"ruby", "servers/ruby/server.rb"} }},
	{"rails", func(string, string) []string { return []string{"ruby", "servers/ruby/rails.rb"} }},
}

func node(set, name string) func(dir, bin string) []string {
	return func(dir, _ string) []string {
		return []string{"env", "NODE_PATH=" + dir + "/" + set + "/node_modules", "node", "servers/" + set + "/" + name + ".js"}
	}
}

func python(name string) func(dir, bin string) []string {
	return func(dir, _ string) []string {
		return []string{dir + "/python/bin/python", "-B", "servers/python/" + name + "_server.py"}
	}
}

func golang(name string) func(dir, bin string) []string {
	return func(_, bin string) []string { return []string{bin + "/golang", name} }
}

// Start installs what is missing, which takes a minute or two on a fresh machine, and starts all servers. They end
// with stop, and with this process whatever ends it.
func Start(ctx context.Context) (servers []*differential.Server, stop func(), err error) {
	dir, err := differential.Install(ctx, "./install.sh")
	if err != nil {
		return nil, nil, err
	}
	bin, remove, err := differential.BuildGo(ctx)
	if err != nil {
		return nil, nil, err
	}
	schema, err := filepath.Abs("servers/schema.graphql")
	if err != nil {
		return nil, nil, err
	}

	var all []differential.Command
	for _, c := range commands {
		all = append(all, differential.Command{Name: c.name, Args: c.args(dir, bin), Env: []string{"SCHEMA=" + schema}})
	}
	servers, end, err := differential.Start(all)
	if err != nil {
		remove()
		return nil, nil, err
	}
	return servers, func() { end(); remove() }, nil
}
