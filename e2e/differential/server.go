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

// Server is a running server.
type Server struct {
	Name string
	Addr string // host:port
	// OneRequest keeps Envoy from using a connection twice. It is for a server that leaves bytes in
	// a connection that do not belong to the next answer or the next request (docs/read-only.md).
	OneRequest bool

	cmd    *exec.Cmd
	stderr bytes.Buffer
}

// startServers starts the servers and returns when all of them listen. If one does not listen
// within a minute, it returns an error with what that server printed. The servers end with stop,
// and with this process in any case.
func startServers(commands []Command, tools Tools, env []string) (servers []*Server, stop func(), err error) {
	for _, c := range commands {
		servers = append(servers, &Server{Name: c.Name})
	}

	end, ended, started := make(chan struct{}), make(chan struct{}), make(chan error)
	stop = func() {
		close(end)
		<-ended
	}
	go func() {
		// The kernel sends the signal of Pdeathsig when the thread that started the process ends,
		// so this thread stays.
		runtime.LockOSThread()
		defer close(ended)

		started <- startAll(servers, commands, tools, env)
		<-end
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

func startAll(servers []*Server, commands []Command, tools Tools, env []string) error {
	lines := make([]io.Reader, len(servers))
	for i, s := range servers {
		args := commands[i].Args(tools)
		s.cmd = exec.Command(args[0], args[1:]...)
		s.cmd.Env = append(os.Environ(), env...)
		s.cmd.Stderr = &head{b: &s.stderr}
		// Servers such as gunicorn have worker processes, which end with the process group.
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

		s.cmd.WaitDelay = time.Second
		var err error
		if lines[i], err = s.cmd.StdoutPipe(); err == nil {
			err = s.cmd.Start()
		}
		if err != nil {
			return fmt.Errorf("starting %s: %w", s.Name, err)
		}
	}

	for i, s := range servers {
		if err := s.await(lines[i], time.Minute); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		s.cmd.Wait()
	}
}

// await reads the line with the address at which a server listens, and discards what follows it.
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
		s.kill()
		return fmt.Errorf("%s does not listen: %s", s.Name, s.stderr.Bytes())
	}
	return nil
}

// direct opens a connection for every request. On a kept one, a server that writes head and body
// apart waits for a delayed acknowledgement, 40 ms each time.
var direct = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Counter returns how many writes the server has made.
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

// head keeps the first 4 KiB that a server writes to stderr, which is enough to see why it does not
// start.
type head struct{ b *bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.b.Write(p[:min(len(p), max(0, 4096-h.b.Len()))])
	return len(p), nil
}
