// Run is `make run`: the controller, a demo app and a real Envoy with the filter, all on
// loopback, until Ctrl-C or SIGTERM. It builds nothing; the Makefile does.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/drydock-proxy/drydock/e2e"
	"github.com/drydock-proxy/drydock/e2e/demo"
)

func main() {
	// make passes SIGTERM on; a Ctrl-C reaches the whole foreground group.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends this program at once, and the kernel its children
	dieWithMake()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "drydock:", err)
		os.Exit(1)
	}
}

// settings come from the environment; see the fixed points in the README.
type settings struct {
	proxyPort, controllerPort, syncPort, appPort int

	upstream string // host:port of a service to use instead of the demo app
	data     string // absolute
}

func readSettings() (s settings, err error) {
	for _, v := range []struct {
		name string
		port *int
		def  func() int
	}{
		{"PROXY_PORT", &s.proxyPort, func() int { return 8080 }},
		{"CONTROLLER_PORT", &s.controllerPort, func() int { return 7070 }},
		{"SYNC_PORT", &s.syncPort, func() int { return s.controllerPort + 1 }},
		{"APP_PORT", &s.appPort, func() int { return 8081 }},
	} {
		*v.port = v.def()
		if text := os.Getenv(v.name); text != "" {
			if *v.port, err = strconv.Atoi(text); err != nil || *v.port < 1 || *v.port > 65535 {
				return s, fmt.Errorf("%s must be a port from 1 to 65535, not %q", v.name, text)
			}
		}
	}
	if s.upstream = os.Getenv("UPSTREAM"); s.upstream != "" {
		host, port, err := net.SplitHostPort(s.upstream)
		if n, convErr := strconv.Atoi(port); err != nil || host == "" || convErr != nil || n < 1 || n > 65535 {
			return s, fmt.Errorf("UPSTREAM must be host:port, like localhost:3000, not %q", s.upstream)
		}
	}
	root, err := e2e.Root()
	if err != nil {
		return s, err
	}
	s.data = os.Getenv("DATA")
	if s.data == "" {
		s.data = filepath.Join(root, ".data")
	}
	s.data, err = filepath.Abs(s.data)
	return s, err
}

// checkPorts finds out before anything starts. It matters most for Envoy's port: two
// Envoys of one user share a port without a word, and each gets half of the requests.
func (s settings) checkPorts() error {
	ports := []struct {
		name string
		port int
	}{{"PROXY_PORT", s.proxyPort}, {"CONTROLLER_PORT", s.controllerPort}, {"SYNC_PORT", s.syncPort}, {"APP_PORT", s.appPort}}
	if s.upstream != "" {
		ports = ports[:3]
	}
	used := map[int]string{}
	for _, p := range ports {
		if other := used[p.port]; other != "" {
			return fmt.Errorf("%s and %s are both %d: give one of them another port", other, p.name, p.port)
		}
		used[p.port] = p.name
		l, err := net.Listen("tcp", loopback(p.port))
		if err != nil {
			return fmt.Errorf("port %d cannot be used (%w): choose another by %s, like %s=%d make run",
				p.port, err, p.name, p.name, (p.port+100)%65536)
		}
		l.Close()
	}
	return nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// token is the secret in the environment, else in the file, which is made if need be. The
// second result is the file, or empty.
func token(variable, file string) (string, string, error) {
	if t := os.Getenv(variable); t != "" {
		return t, "", nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		data = []byte(rand.Text() + "\n")
		err = os.WriteFile(file, data, 0o600)
	}
	return strings.TrimSpace(string(data)), file, err
}

func run(ctx context.Context) (err error) {
	s, err := readSettings()
	if err != nil {
		return err
	}
	if err := s.checkPorts(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return fmt.Errorf("making the data directory (DATA): %w", err)
	}
	operator, operatorFile, err := token("DRYDOCK_BOOTSTRAP_TOKEN", filepath.Join(s.data, "operator-token"))
	if err != nil {
		return fmt.Errorf("the operator token: %w", err)
	}
	sync, _, err := token("DRYDOCK_SYNC_TOKEN", filepath.Join(s.data, "sync-token"))
	if err != nil {
		return fmt.Errorf("the proxies' token: %w", err)
	}
	drydock, err := e2e.Binary("drydock")
	if err != nil {
		return err
	}
	envoyBinary, err := e2e.FindEnvoy(ctx, os.Stderr)
	if err != nil {
		return err
	}

	logs := filepath.Join(s.data, "log") // of this run only
	if err := os.RemoveAll(logs); err != nil {
		return err
	}
	controller, err := e2e.StartController(ctx, e2e.ControllerOptions{
		Binary: drydock, Data: s.data, Listen: loopback(s.controllerPort), Proxy: loopback(s.syncPort),
		Token: operator, Sync: sync, Log: filepath.Join(logs, "controller.log"),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, controller.Stop(10*time.Second)) }()
	if status, _, err := controller.Do(ctx, http.MethodGet, "/api/v1/apps", nil); err != nil {
		return err
	} else if status == http.StatusUnauthorized {
		source := "DRYDOCK_BOOTSTRAP_TOKEN"
		if operatorFile != "" {
			source = operatorFile
		}
		return fmt.Errorf("the controller does not know the token of %s: the store in %s was first started with another; use that one, or another DATA", source, s.data)
	}

	upstream := s.upstream
	if upstream == "" {
		upstream = loopback(s.appPort)
		l, err := net.Listen("tcp", upstream)
		if err != nil {
			return fmt.Errorf("the demo app (APP_PORT): %w", err)
		}
		stop := demo.New().Serve(l)
		defer func() { err = errors.Join(err, stop()) }()
	}

	bootstrap, err := e2e.Bootstrap("drydock.yaml", e2e.Substitution{Ports: map[int]string{
		8080: loopback(s.proxyPort), 8081: upstream, 7071: loopback(s.syncPort),
		9901: ":0", // nobody has to know the admin port beforehand, so it cannot be taken
	}})
	if err != nil {
		return err
	}
	envoy, err := e2e.StartEnvoy(ctx, e2e.EnvoyOptions{
		Binary: envoyBinary, Bootstrap: bootstrap, Dir: logs, Env: []string{"DRYDOCK_SYNC_TOKEN=" + sync},
		Workers: min(runtime.NumCPU(), 4), // each costs memory, and this is a demonstration
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, envoy.Stop(10*time.Second)) }()

	s.greet(operatorFile, envoy)
	select {
	case <-ctx.Done():
		fmt.Println("\nstopping")
		return nil
	case <-controller.Done():
		return controller.Exited()
	case <-envoy.Done():
		return envoy.Exited()
	}
}

func (s settings) greet(operatorFile string, envoy *e2e.Envoy) {
	proxy, api := "http://"+loopback(s.proxyPort), "http://"+loopback(s.controllerPort)
	what := "the demo shop, through Envoy"
	if s.upstream != "" {
		what = s.upstream + ", through Envoy"
	}
	dir := s.data
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, dir); err == nil && !strings.HasPrefix(rel, "..") {
			dir = rel
		}
	}
	secret := "$DRYDOCK_BOOTSTRAP_TOKEN"
	if operatorFile != "" {
		secret = fmt.Sprintf(`"$(cat %s)"`, shellQuote(filepath.Join(dir, filepath.Base(operatorFile))))
	}
	fmt.Printf(`
Drydock is up.

  %-28s %s
  %-28s %s
  %-28s %s
  %-28s %s

Try it in another terminal, in this folder:

  export DRYDOCK_URL=%s DRYDOCK_TOKEN=%s

  curl -i %s/                            # open
  bin/drydock on "We are back at ten"
  curl -i %s/                            # 503 and the message
  bin/drydock allow 127.0.0.2
  curl -i --interface 127.0.0.2 %s/      # who is let through
  bin/drydock status
  bin/drydock off

Ctrl-C stops everything.
`, proxy+"/", what, api+"/", "the controller", envoy.Admin+"/", "Envoy's admin", filepath.Join(dir, "log")+"/", "logs",
		api, secret, proxy, proxy, proxy)
}

func shellQuote(s string) string {
	if strings.ContainsAny(s, " '\"\\$`!*?[](){}<>|&;#~") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
