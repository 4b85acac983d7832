package differential

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// This file starts, watches and ends the servers of a rig. A server is a process with a counter,
// which rises with every write that the server executes.

// Server is a running server.
type Server struct {
	Name string
	Addr string // host:port, for requests without a gate
	// OneRequest keeps Envoy from using a connection twice. It is for a server that leaves bytes in
	// a connection that do not belong to the next answer or the next request (docs/read-only.md).
	OneRequest bool

	cmd    *exec.Cmd
	stderr bytes.Buffer // its start, by firstBytes
}

// startPatience is how long a server may take to listen, once the servers before it listen. All of
// them start at once.
const startPatience = time.Minute

// startServers starts the servers and returns when all of them listen. If one does not listen
// within startPatience, startServers returns an error with what that server printed. stop ends the
// servers and returns when they have ended. Without stop, they end with this process.
func startServers(commands []Command, tools Tools, env []string) (servers []*Server, stop func(), err error) {
	for _, c := range commands {
		servers = append(servers, &Server{Name: c.Name})
	}

	started, stopping, stopped := make(chan error), make(chan struct{}), make(chan struct{})
	stop = func() {
		close(stopping)
		<-stopped
	}
	go func() {
		// startAll sets Pdeathsig: the kernel kills a server when the thread that started it ends.
		// So this goroutine keeps its thread, and lives as long as the servers.
		runtime.LockOSThread()
		defer close(stopped)

		started <- startAll(servers, commands, tools, env)
		<-stopping
		for _, s := range servers {
			s.kill()
		}
	}()

	if err := <-started; err != nil {
		stop()
		return nil, nil, err
	}
	return servers, stop, nil
}

// startAll starts the process of each server by the command of the same index, and then waits until
// all of them listen. After an error, the caller must kill those that have started.
func startAll(servers []*Server, commands []Command, tools Tools, env []string) error {
	outputs := make([]io.Reader, len(servers)) // the servers' stdout
	for i, s := range servers {
		args := commands[i].Args(tools)
		s.cmd = exec.Command(args[0], args[1:]...)
		s.cmd.Env = append(os.Environ(), env...)
		s.cmd.Stderr = &firstBytes{&s.stderr}
		// Servers such as gunicorn start worker processes. kill ends all processes of the group.
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		// A worker that outlives its server may keep stderr open. Wait must not wait for it.
		s.cmd.WaitDelay = time.Second

		stdout, err := s.cmd.StdoutPipe()
		if err == nil {
			err = s.cmd.Start()
		}
		if err != nil {
			return fmt.Errorf("starting %s: %w", s.Name, err)
		}
		outputs[i] = stdout
	}

	for i, s := range servers {
		if err := s.awaitAddr(outputs[i], startPatience); err != nil {
			return err
		}
	}
	return nil
}

// kill ends the process of a server, if it has started, and the processes that it has started.
func (s *Server) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		processGroup := -s.cmd.Process.Pid // as kill(2) writes it
		syscall.Kill(processGroup, syscall.SIGKILL)
		s.cmd.Wait()
	}
}

// awaitAddr sets Addr from the line "listening HOST:PORT" that the server prints, and discards all
// other lines. If the line does not come in time, it kills the server and returns an error.
func (s *Server) awaitAddr(stdout io.Reader, patience time.Duration) error {
	found := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if addr, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
				found <- addr
				break
			}
		}
		close(found)                // if the server has ended, without an address
		io.Copy(io.Discard, stdout) // a server must not block because its output is not read
	}()

	select {
	case s.Addr = <-found:
	case <-time.After(patience):
	}

	if s.Addr == "" {
		s.kill()
		return fmt.Errorf("%s does not listen: %s", s.Name, s.stderr.Bytes())
	}
	return nil
}

// counterClient reads counters, each on a connection of its own. On a kept connection, a server
// that writes the headers and the body of an answer apart would wait each time for the
// acknowledgement of the headers, which TCP delays by 40 ms.
var counterClient = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Counter returns how many writes the server has executed since its start.
func (s *Server) Counter() (int, error) {
	res, err := counterClient.Get("http://" + s.Addr + "/__counter")
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

// firstBytes keeps the first 4 KiB that a server writes to stderr, which is enough to see why it
// does not start, and discards the rest.
type firstBytes struct{ kept *bytes.Buffer }

func (w *firstBytes) Write(p []byte) (int, error) {
	free := max(0, 4<<10-w.kept.Len())
	w.kept.Write(p[:min(len(p), free)])
	return len(p), nil
}
