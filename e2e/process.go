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

// Process is a child process with its output in a file. It leads a process group of its own, so
// that a signal reaches its children too, and Ctrl-C in a terminal does not reach it. On Linux the
// kernel kills it when the process that started it ends, even if that was killed.
type Process struct {
	Name string // for messages
	Log  string // path of the file with the output
	PID  int    // also the id of the process group

	done chan struct{} // closed when the process has ended
	err  error         // result of cmd.Wait; may be read once done is closed
}

// Start starts cmd and appends its standard error to the file log. The standard output goes there
// too, unless cmd.Stdout is set.
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

// Exited returns nil while the process runs. Once it has ended, even with exit status 0, Exited
// returns an error with the exit status and the end of the output.
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
// longer than grace, Stop kills the group and returns an error. It may be called for a process that
// has ended.
func (p *Process) Stop(grace time.Duration) error {
	syscall.Kill(-p.PID, syscall.SIGTERM) // a negative id names the process group: see kill(2)

	select {
	case <-p.done:
		syscall.Kill(-p.PID, syscall.SIGKILL) // children that the process left behind
		return nil
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.Name, grace)
	}
}

// Kill sends SIGKILL to the process group and waits until the process has ended. It may be called
// for a process that has ended.
func (p *Process) Kill() {
	syscall.Kill(-p.PID, syscall.SIGKILL)
	<-p.done
}

// Tail returns the last n lines of the output, for messages.
func (p *Process) Tail(n int) string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error() // a reader of the message learns why the lines are missing
	}

	lines := bytes.SplitAfter(bytes.TrimRight(data, "\n"), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], nil))
}

// RSS returns the resident memory of the process in bytes, without that of its children. It needs
// Linux, whose file /proc/PID/status has a line such as "VmRSS:     1234 kB".
func (p *Process) RSS() (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return 0, err
	}

	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			number := strings.TrimSuffix(strings.TrimSpace(rest), " kB")
			kib, err := strconv.ParseInt(number, 10, 64)
			return kib << 10, err
		}
	}

	return 0, errors.New("no VmRSS: the process is a zombie")
}

// waitFor calls ready every 20 ms until ready returns nil. It returns an error if the process ends,
// ctx is done or the timeout passes first. After the timeout, the error contains the last one of
// ready.
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
