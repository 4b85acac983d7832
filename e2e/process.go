package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a child process in a process group of its own, with its output in a file. On Linux the
// kernel kills it when the process that started it ends, even by SIGKILL.
type Process struct {
	Name string
	Log  string // path of the file with its output
	PID  int

	done chan struct{}
	err  error // result of Wait; may be read once done is closed
}

// Start starts cmd and appends its standard error to the file log. Its standard output goes there
// too, unless cmd has one.
func Start(name string, cmd *exec.Cmd, log string) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own descriptor

	cmd.Stderr = out
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	cmd.SysProcAttr = childAttr()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}

	p := &Process{Name: name, Log: log, PID: cmd.Process.Pid, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exited returns nil while the process runs, and then an error with its exit status and the end of
// its output.
func (p *Process) Exited() error {
	select {
	case <-p.done:
	default:
		return nil
	}

	status := "exit status 0"
	if p.err != nil {
		status = p.err.Error()
	}
	return fmt.Errorf("%s ended (%s); the end of %s:\n%s", p.Name, status, p.Log, p.Tail(20))
}

// Stop sends SIGTERM to the process group and waits until the process has ended. If that takes
// longer than grace, Stop kills the group and returns an error.
func (p *Process) Stop(grace time.Duration) error {
	syscall.Kill(-p.PID, syscall.SIGTERM)

	select {
	case <-p.done:
		// Children that it left behind in its group must end too.
		syscall.Kill(-p.PID, syscall.SIGKILL)
		return nil
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.Name, grace)
	}
}

// Kill sends SIGKILL to the process group and waits until the process has ended.
func (p *Process) Kill() {
	syscall.Kill(-p.PID, syscall.SIGKILL)
	<-p.done
}

// Tail returns the last n lines of the output.
func (p *Process) Tail(n int) string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}

	lines := bytes.SplitAfter(bytes.TrimRight(data, "\n"), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], nil))
}

// RSS returns the resident memory of the process in bytes. It needs Linux.
func (p *Process) RSS() (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return 0, err
	}

	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10, err
		}
	}

	return 0, errors.New("no VmRSS: the process is a zombie")
}

// waitFor calls ready every 20 ms until it returns nil. It returns an error if the process ends,
// ctx is done or the timeout passes first.
func (p *Process) waitFor(ctx context.Context, timeout time.Duration, ready func() error) error {
	expired := time.After(timeout)
	for {
		err := ready()
		if err == nil {
			return nil
		}

		select {
		case <-p.done:
			return p.Exited()
		case <-ctx.Done():
			return ctx.Err()
		case <-expired:
			return fmt.Errorf("%s is not ready after %v: %w; the end of %s:\n%s", p.Name, timeout, err, p.Log, p.Tail(20))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
