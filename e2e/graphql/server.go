// Package graphql holds read-only against GraphQL servers as they are: fifteen of them run, each with a counter that
// only a mutation or a subscription raises, and what a generator makes of a corpus goes to each through a [Gate].
// No counter may ever rise.
package graphql

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a running GraphQL server.
type Server struct {
	Name string
	Addr string // host:port; GraphQL is at /graphql

	cmd    *exec.Cmd
	stderr bytes.Buffer
}

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
func Start(ctx context.Context) (servers []*Server, stop func(), err error) {
	out, err := exec.CommandContext(ctx, "./install.sh").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, nil, fmt.Errorf("installing the servers: %w", err)
	}
	dir := strings.TrimSpace(string(out))
	bin, err := os.MkdirTemp("", "drydock-graphql-")
	if err != nil {
		return nil, nil, err
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin+"/golang", "./servers/golang").CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("building the Go servers: %w: %s", err, out)
	}
	schema, err := filepath.Abs("servers/schema.graphql")
	if err != nil {
		return nil, nil, err
	}

	end := make(chan struct{})
	ended := make(chan struct{})
	started := make(chan error)
	stop = func() {
		close(end)
		<-ended
		os.RemoveAll(bin)
	}
	for _, c := range commands {
		servers = append(servers, &Server{Name: c.name})
	}
	go func() {
		// The kernel sends a Pdeathsig when the thread that started the process ends, so this one stays.
		runtime.LockOSThread()
		defer close(ended)
		var err error
		lines := make([]io.Reader, len(servers))
		for i, s := range servers {
			args := commands[i].args(dir, bin)
			s.cmd = exec.Command(args[0], args[1:]...)
			s.cmd.Env = append(os.Environ(), "SCHEMA="+schema)
			s.cmd.Stderr = &head{b: &s.stderr}
			s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			s.cmd.WaitDelay = time.Second
			if lines[i], err = s.cmd.StdoutPipe(); err == nil {
				err = s.cmd.Start()
			}
			if err != nil {
				err = fmt.Errorf("starting %s: %w", s.Name, err)
				break
			}
		}
		if err == nil {
			for i, s := range servers {
				if err = s.await(lines[i], time.Minute); err != nil {
					break
				}
			}
		}
		started <- err
		<-end
		for _, s := range servers {
			if s.cmd != nil && s.cmd.Process != nil {
				s.cmd.Process.Kill()
				s.cmd.Wait()
			}
		}
	}()
	if err := <-started; err != nil {
		stop()
		return nil, nil, err
	}
	return servers, stop, nil
}

// await reads the line by which a server announces where it listens, and lets it say the rest to nobody.
func (s *Server) await(stdout io.Reader, patience time.Duration) error {
	found := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if addr, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
				found <- addr
				break
			}
		}
		close(found)
		io.Copy(io.Discard, stdout)
	}()
	select {
	case s.Addr = <-found:
	case <-time.After(patience):
	}
	if s.Addr == "" {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		return fmt.Errorf("%s does not listen: %s", s.Name, s.stderr.Bytes())
	}
	return nil
}

// direct opens a connection each time: on a kept one a server that writes head and body apart waits for a delayed
// acknowledgement, 40 ms a time.
var direct = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Counter is how often the server has run a field of a mutation or a subscription.
func (s *Server) Counter() (int, error) {
	res, err := direct.Get("http://" + s.Addr + "/__counter")
	if err != nil {
		return 0, fmt.Errorf("reading the counter of %s: %w (stderr: %s)", s.Name, err, s.stderr.Bytes())
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, fmt.Errorf("reading the counter of %s: %w", s.Name, err)
	}
	n, err := strconv.Atoi(string(b))
	if err != nil {
		return 0, fmt.Errorf("reading the counter of %s: status %d: %w", s.Name, res.StatusCode, err)
	}
	return n, nil
}

// head keeps the beginning of what a server complains of: enough to see why it does not start.
type head struct{ b *bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.b.Write(p[:min(len(p), max(0, 4096-h.b.Len()))])
	return len(p), nil
}
