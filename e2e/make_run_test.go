package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// `make run` (the program e2e/run) starts a controller, an Envoy and a demo app for somebody who
// wants to try Drydock, and prints commands to try. The commands work. If a port is taken or a
// setting is wrong, the message names its variable. When make gets SIGTERM, no process stays.
func TestMakeRun(t *testing.T) {
	m := newMakeRun(t)
	first := m.start()
	m.checkGreeting(first)
	m.checkSuggestions()

	second := m.start() // on the same ports
	if err := second.wait(); err == nil {
		t.Error("a second `make run` on the same ports succeeded")
	}
	if text := second.stderr.String(); !strings.Contains(text, "PROXY_PORT=") || !strings.Contains(text, strconv.Itoa(m.proxy.Number)) {
		t.Errorf("a second `make run` prints %q, want the port and its variable", text)
	}

	if running := processesWith(t, m.data); len(running) < 2 {
		t.Fatalf("the processes with the data directory on their command line are %v, want controller and Envoy", running)
	}
	must(t, first.cmd.Process.Signal(syscall.SIGTERM))
	first.wait()
	m.awaitNothingLeft()

	for setting, variable := range map[string]string{"PROXY_PORT=http": "PROXY_PORT", "UPSTREAM=3000": "UPSTREAM"} {
		bad := m.start(setting)
		if err := bad.wait(); err == nil || !strings.Contains(bad.stderr.String(), variable+" must be") {
			t.Errorf("%s: %v, prints %q", setting, err, &bad.stderr)
		}
	}
}

// checkGreeting waits until a `make run` has started everything, and checks what it prints and the
// file with the operator's token.
func (m *makeRun) checkGreeting(run *runningMake) {
	m.t.Helper()
	text := run.awaitGreeting()
	for _, want := range []string{
		"Drydock is running", "http://" + m.proxy.Addr(), "http://" + m.controller.Addr(),
		"DRYDOCK_TOKEN=", "bin/drydock on", "bin/drydock off", "curl -i",
	} {
		if !strings.Contains(text, want) {
			m.t.Errorf("`make run` does not print %q:\n%s\n%s", want, text, &run.stderr)
		}
	}

	if strings.Contains(text, m.token()) {
		m.t.Error("`make run` prints the token itself")
	}
	info, err := os.Stat(m.tokenFile())
	must(m.t, err)
	if info.Mode().Perm() != 0o600 {
		m.t.Errorf("the token's file has mode %v, want 0600", info.Mode())
	}
}

// makeRun holds the settings with which a test runs `make run`.
type makeRun struct {
	t                            *testing.T
	root                         string // of the repository
	envoy                        string // path of the program
	data                         string // data directory, which has nothing at first
	proxy, controller, sync, app *Port
}

func newMakeRun(t *testing.T) *makeRun {
	t.Helper()
	must(t, buildOnce())
	root, err := Root()
	must(t, err)
	envoy, err := FindEnvoy(t.Context(), os.Stderr)
	must(t, err)
	return &makeRun{
		t: t, root: root, envoy: envoy, data: filepath.Join(t.TempDir(), "data"),
		proxy: reservePort(t), controller: reservePort(t), sync: reservePort(t), app: reservePort(t),
	}
}

func (m *makeRun) tokenFile() string { return filepath.Join(m.data, "operator-token") }

// token returns the operator's token, which `make run` writes to a file.
func (m *makeRun) token() string {
	m.t.Helper()
	token, err := os.ReadFile(m.tokenFile())
	must(m.t, err)
	return strings.TrimSpace(string(token))
}

// runningMake is a `make run` that has been started.
type runningMake struct {
	cmd    *exec.Cmd
	stdout *bufio.Scanner // by lines
	stderr bytes.Buffer   // complete once wait has returned
}

// start starts `make run`. extra are further variables of its environment, as NAME=value.
func (m *makeRun) start(extra ...string) *runningMake {
	m.t.Helper()
	r := &runningMake{cmd: exec.Command("make", "-s", "run")}
	r.cmd.Dir = m.root
	r.cmd.Env = append(os.Environ(), append([]string{
		"ENVOY=" + m.envoy, "DATA=" + m.data,
		fmt.Sprint("PROXY_PORT=", m.proxy.Number), fmt.Sprint("CONTROLLER_PORT=", m.controller.Number),
		fmt.Sprint("SYNC_PORT=", m.sync.Number), fmt.Sprint("APP_PORT=", m.app.Number),
	}, extra...)...)
	r.cmd.SysProcAttr = childAttr()
	r.cmd.Stderr = &r.stderr
	out, err := r.cmd.StdoutPipe()
	must(m.t, err)
	r.stdout = bufio.NewScanner(out)

	must(m.t, r.cmd.Start())
	m.t.Cleanup(func() { syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL) })
	return r
}

// awaitGreeting returns what is printed up to the line about Ctrl-C, which is the last one before
// `make run` waits to be stopped.
func (r *runningMake) awaitGreeting() string {
	var text strings.Builder
	for r.stdout.Scan() {
		fmt.Fprintln(&text, r.stdout.Text())
		if strings.HasPrefix(r.stdout.Text(), "Ctrl-C") {
			break
		}
	}

	return text.String()
}

// wait waits until make has ended. It returns an error if the exit status is not 0.
func (r *runningMake) wait() error {
	for r.stdout.Scan() { // exec.Cmd.Wait must not be called before the pipe is read to its end
	}
	return r.cmd.Wait()
}

// checkSuggestions runs the commands that `make run` suggests, and checks their effect on two
// visitors with different addresses.
func (m *makeRun) checkSuggestions() {
	m.t.Helper()
	drydock := func(args ...string) {
		m.t.Helper()
		cli := exec.Command(filepath.Join(m.root, "bin", "drydock"), args...)
		cli.Env = append(os.Environ(), "DRYDOCK_URL=http://"+m.controller.Addr(), "DRYDOCK_TOKEN="+m.token())
		if out, err := cli.CombinedOutput(); err != nil {
			m.t.Fatalf("drydock %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}

	stranger, allowed := newVisitor(m.t, "127.0.0.1", m.proxy.Addr()), newVisitor(m.t, "127.0.0.2", m.proxy.Addr())
	expect := func(when string, v *visitor, want int) {
		m.t.Helper()
		eventually(m.t, 10*time.Second, func() error {
			if a := v.get("/"); a.Status != want {
				return fmt.Errorf("%s: %d %s, want %d", when, a.Status, a.Body, want)
			}
			return nil
		})
	}

	expectRefused := func(when string, v *visitor) { // at once: nobody may pass for a moment
		m.t.Helper()
		if a := v.get("/"); a.Status != 503 {
			m.t.Errorf("%s: %d %s, want 503", when, a.Status, a.Body)
		}
	}

	expect("at first", stranger, 200)
	drydock("on", "--wait=enforced", "We are back at ten")
	expectRefused("on and enforced", stranger)
	expectRefused("on, before the address is allowed", allowed)
	drydock("allow", "127.0.0.2")
	expect("on, the address is allowed", allowed, 200)
	expectRefused("on, another address is allowed", stranger)
	drydock("off")
	expect("off", stranger, 200)
}

// awaitNothingLeft waits until all processes of a `make run` have ended and nothing listens on
// their ports.
func (m *makeRun) awaitNothingLeft() {
	m.t.Helper()
	eventually(m.t, 20*time.Second, func() error {
		if left := processesWith(m.t, m.data); len(left) > 0 {
			return fmt.Errorf("left behind: %v", left)
		}
		for _, p := range []*Port{m.proxy, m.controller, m.sync, m.app} {
			if c, err := net.Dial("tcp", p.Addr()); err == nil {
				c.Close()
				return fmt.Errorf("a process still listens on port %d", p.Number)
			}
		}
		return nil
	})
}

// processesWith returns the command lines of all processes on this machine that contain a text. It
// needs Linux.
func processesWith(t *testing.T, text string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)

	for _, file := range files {
		line, err := os.ReadFile(file) // the arguments, each with a zero byte after it
		if err == nil && bytes.Contains(line, []byte(text)) {
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}

	return found
}
