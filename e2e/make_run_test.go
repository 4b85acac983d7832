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

// `make run`: one command that serves, says what to try, names a port that is taken, and
// leaves nothing behind when make gets SIGTERM.
func TestMakeRun(t *testing.T) {
	must(t, buildOnce())
	root, err := Root()
	must(t, err)
	envoy, err := FindEnvoy(t.Context(), os.Stderr)
	must(t, err)
	proxy, controller, syncPort, app := reserve(t), reserve(t), reserve(t), reserve(t)
	data := filepath.Join(t.TempDir(), "data")
	start := func(extra ...string) (*exec.Cmd, *bytes.Buffer, *bufio.Scanner) {
		cmd := exec.Command("make", "-s", "run")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), append([]string{
			"ENVOY=" + envoy, "DATA=" + data,
			fmt.Sprint("PROXY_PORT=", proxy.Number), fmt.Sprint("CONTROLLER_PORT=", controller.Number),
			fmt.Sprint("SYNC_PORT=", syncPort.Number), fmt.Sprint("APP_PORT=", app.Number),
		}, extra...)...)
		cmd.SysProcAttr = childAttr()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		return cmd, &stderr, bufio.NewScanner(out)
	}

	cmd, stderr, out := start()
	var said strings.Builder
	for out.Scan() {
		fmt.Fprintln(&said, out.Text())
		if strings.HasPrefix(out.Text(), "Ctrl-C") {
			break
		}
	}
	text := said.String()
	for _, want := range []string{"Drydock is up", "http://" + proxy.Addr(), "http://" + controller.Addr(), "DRYDOCK_TOKEN=", "bin/drydock on", "bin/drydock off", "curl -i"} {
		if !strings.Contains(text, want) {
			t.Errorf("`make run` does not say %q:\n%s\n%s", want, text, stderr)
		}
	}
	token, err := os.ReadFile(filepath.Join(data, "operator-token"))
	must(t, err)
	if strings.Contains(text, strings.TrimSpace(string(token))) {
		t.Error("the token itself is printed")
	}
	if info, err := os.Stat(filepath.Join(data, "operator-token")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v %v, want mode 0600", info.Mode(), err)
	}

	// What it says to try works.
	drydock := func(args ...string) {
		t.Helper()
		cli := exec.Command(filepath.Join(root, "bin", "drydock"), args...)
		cli.Env = append(os.Environ(), "DRYDOCK_URL=http://"+controller.Addr(), "DRYDOCK_TOKEN="+strings.TrimSpace(string(token)))
		if out, err := cli.CombinedOutput(); err != nil {
			t.Fatalf("drydock %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	stranger, friend := newVisitor(t, "127.0.0.1", proxy.Addr()), newVisitor(t, "127.0.0.2", proxy.Addr())
	expect := func(when string, v *visitor, want int) {
		t.Helper()
		if a := v.get("/"); a.Status != want {
			t.Errorf("%s: %d %s, want %d", when, a.Status, a.Body, want)
		}
	}
	expect("at first", stranger, 200)
	drydock("on", "--wait=enforced", "We are back at ten")
	expect("on", stranger, 503)
	expect("on, nobody is allowed yet", friend, 503)
	drydock("allow", "127.0.0.2")
	eventually(t, 10*time.Second, func() error {
		if a := friend.get("/"); a.Status != 200 {
			return fmt.Errorf("allowed: %d", a.Status)
		}
		return nil
	})
	expect("another is allowed", stranger, 503)
	drydock("off")
	eventually(t, 10*time.Second, func() error {
		if a := stranger.get("/"); a.Status != 200 {
			return fmt.Errorf("off: %d", a.Status)
		}
		return nil
	})

	// A second one on the same ports says which and how to choose others.
	second, secondErr, secondOut := start()
	for secondOut.Scan() {
	}
	if err := second.Wait(); err == nil {
		t.Error("a second `make run` on the same ports succeeded")
	}
	if said := secondErr.String(); !strings.Contains(said, "PROXY_PORT=") || !strings.Contains(said, strconv.Itoa(proxy.Number)) {
		t.Errorf("a second `make run` says %q, want the port and its variable", said)
	}

	children := processesWith(t, data)
	if len(children) < 2 {
		t.Fatalf("found %v with the data directory in their command line, want controller and Envoy", children)
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	for out.Scan() {
	}
	cmd.Wait()
	eventually(t, 20*time.Second, func() error {
		if left := processesWith(t, data); len(left) > 0 {
			return fmt.Errorf("left behind: %v", left)
		}
		for _, p := range []*Port{proxy, controller, syncPort, app} {
			if c, err := net.Dial("tcp", p.Addr()); err == nil {
				c.Close()
				return fmt.Errorf("somebody still listens on %d", p.Number)
			}
		}
		return nil
	})

	// Wrong settings are named.
	for setting, want := range map[string]string{"PROXY_PORT=http": "PROXY_PORT", "UPSTREAM=3000": "UPSTREAM"} {
		bad, badErr, badOut := start(setting)
		for badOut.Scan() {
		}
		if err := bad.Wait(); err == nil || !strings.Contains(badErr.String(), want+" must be") {
			t.Errorf("%s: %v, says %q", setting, err, badErr)
		}
	}
}

// processesWith lists the processes with text in their command line.
func processesWith(t *testing.T, text string) (found []string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, path := range dirs {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte(text)) {
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}
