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

// Process is a child process in a process group of its own. What it prints goes to a
// file. It dies with the process that started it, even with one that is killed.
type Process struct {
	Name string
	Log  string // path of the file with what it printed
	PID  int

	done chan struct{}
	err  error // of Wait; read after done
}

// Start starts cmd with its standard error, and its standard output unless cmd has one,
// appended to the file log.
func Start(name string, cmd *exec.Cmd, log string) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
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

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exited is nil while the process runs, and afterwards says how it ended and what it
// printed last.
func (p *Process) Exited() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended (%s); the end of %s:\n%s", p.Name, how, p.Log, p.Tail(20))
}

// Stop asks the process to end and kills its group after the grace. It returns when
// the process is gone, with an error if it had to be killed.
func (p *Process) Stop(grace time.Duration) error {
	syscall.Kill(-p.PID, syscall.SIGTERM)
	select {
	case <-p.done:
		// What it may have left in its group goes too.
		syscall.Kill(-p.PID, syscall.SIGKILL)
		return nil
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.Name, grace)
	}
}

// Kill is kill -9 on the process and its group; it returns when the process is gone.
func (p *Process) Kill() {
	syscall.Kill(-p.PID, syscall.SIGKILL)
	<-p.done
}

// Tail is the last n lines of what the process printed.
func (p *Process) Tail(n int) string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.SplitAfter(bytes.TrimRight(data, "\n"), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], nil))
}

// RSS is the process's resident memory in bytes.
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

// waitFor calls ready every 20 ms until it returns nil, the process ends, or the
// timeout has passed.
func (p *Process) waitFor(ctx context.Context, timeout time.Duration, ready func() error) error {
	late := time.After(timeout)
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
		case <-late:
			return fmt.Errorf("%s is not ready after %v: %w; the end of %s:\n%s", p.Name, timeout, err, p.Log, p.Tail(20))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
