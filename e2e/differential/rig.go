// Package differential tests Drydock with real servers. A rig starts servers of many projects, each
// with a counter that rises with every write, and nothing else. A generator makes requests, most of
// which some server takes for a write, and sends them to each server through a [Gate] that must
// refuse all writes: no counter may ever rise. The rigs themselves, with their generators, are
// e2e/graphql and e2e/frameworks. This package is what they share.
//
// rig.go, install.sh and server.go install, start and end the servers. request.go and encode.go
// write requests over HTTP/1 byte by byte and read the answers, http2.go and exchange.go do so over
// HTTP/2. gate.go and envoy.go have the gates. run.go sends many requests and watches the counters,
// and minimize.go reduces a request that raises one. compare.go compares servers with one another
// and with golden files. dice.go has the random choices of generators. agreement_test.go compares
// Envoy's decisions with those of the rules alone.
package differential

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Rig is a set of servers that are installed and started together. It belongs to a test package,
// whose folder holds the sources of the servers in servers/, and the script install.sh that
// installs what they need. Paths are relative to that folder, where the tests run. TestMain of the
// package must call [Rig.Main].
type Rig struct {
	Commands []Command
	Env      []string // of all servers, NAME=value, beside the environment of the test

	once    sync.Once // for what follows
	servers []*Server
	stop    func()
	err     error
}

// Command describes how a server is started. The server prints "listening HOST:PORT" once it
// serves, answers GET /__counter with its counter in decimal, and serves until it is killed.
type Command struct {
	Name string // of the server
	// Args returns the program and its arguments. It is the result of Node, Python, Ruby, Java or
	// Go, or a function of the rig.
	Args func(Tools) []string
}

// Tools are the folders with the programs and packages that servers need.
type Tools struct {
	Dir string // what install.sh has installed
	Bin string // the program "golang", which [Rig.Servers] builds from servers/golang
}

// Node starts servers/FOLDER/NAME.js with the packages that install.sh installed for that folder.
func Node(folder, name string, args ...string) func(Tools) []string {
	return func(tools Tools) []string {
		path := "NODE_PATH=" + tools.Dir + "/" + folder + "/node_modules"
		return append([]string{"env", path, "node", "servers/" + folder + "/" + name + ".js"}, args...)
	}
}

// Python starts servers/python/NAME_server.py.
func Python(name string) func(Tools) []string {
	return func(tools Tools) []string {
		return []string{tools.Dir + "/python/bin/python", "-B", "servers/python/" + name + "_server.py"}
	}
}

// Ruby starts servers/ruby/NAME.rb.
func Ruby(name string, args ...string) func(Tools) []string {
	return func(Tools) []string { return append([]string{"ruby", "servers/ruby/" + name + ".rb"}, args...) }
}

// Java starts servers/java/NAME.java, which Java compiles first, with options of the virtual
// machine. Small memory and the fast compiler alone suit a server that answers simple requests.
func Java(name string, options ...string) func(Tools) []string {
	return func(tools Tools) []string {
		args := append([]string{"java"}, options...)
		return append(args, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", tools.Dir+"/java/*", "servers/java/"+name+".java")
	}
}

// Go starts the server that the program in servers/golang knows by this name.
func Go(name string) func(Tools) []string {
	return func(tools Tools) []string { return []string{tools.Bin + "/golang", name} }
}

// Main runs the tests of a package, ends the servers that they started, and exits.
func (r *Rig) Main(m *testing.M) {
	code := m.Run()
	if r.stop != nil {
		r.stop()
	}
	os.Exit(code)
}

// Servers returns the running servers. The first call installs what is missing, which takes minutes
// on a fresh machine, and starts them.
func (r *Rig) Servers(t testing.TB) []*Server {
	t.Helper()
	r.once.Do(func() { r.servers, r.stop, r.err = r.start(context.Background()) })
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.servers
}

// Named returns the running servers of these names, in their order.
func (r *Rig) Named(t testing.TB, names ...string) (servers []*Server) {
	t.Helper()
	all := r.Servers(t)

	for _, name := range names {
		i := slices.IndexFunc(all, func(s *Server) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("no server is called %s", name)
		}
		servers = append(servers, all[i])
	}
	return servers
}

// start installs and starts the servers. stop ends them and removes what was built. Without stop,
// the servers end with this process.
func (r *Rig) start(ctx context.Context) (servers []*Server, stop func(), err error) {
	dir, err := Install(ctx)
	if err != nil {
		return nil, nil, err
	}

	bin, err := os.MkdirTemp("", "drydock-rig-")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { os.RemoveAll(bin) }
	build := exec.CommandContext(ctx, "go", "build", "-o", bin+"/golang", "./servers/golang")
	if out, err := build.CombinedOutput(); err != nil {
		remove()
		return nil, nil, fmt.Errorf("building the Go servers: %w: %s", err, out)
	}

	servers, stopServers, err := startServers(r.Commands, Tools{Dir: dir, Bin: bin}, r.Env)
	if err != nil {
		remove()
		return nil, nil, err
	}
	return servers, func() { stopServers(); remove() }, nil
}

// Install runs ./install.sh of the working directory, which installs what is missing and prints the
// folder with all that it has installed. Install returns that folder.
func Install(ctx context.Context) (dir string, err error) {
	out, err := exec.CommandContext(ctx, "./install.sh").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("installing the servers: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
