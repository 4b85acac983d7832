// Command run is the program behind `make run`: it starts the controller, a demo app and a real
// Envoy with the filter, all on loopback, prints what to try, and stops them on Ctrl-C or SIGTERM.
// The Makefile builds the programs first.
//
// settings.go reads the environment, and parent_linux.go ends this program when make is killed.
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
	"strings"
	"syscall"
	"time"

	"github.com/drydock-proxy/drydock/e2e"
	"github.com/drydock-proxy/drydock/e2e/demo"
)

func main() {
	// SIGTERM comes from make, which passes it on. Ctrl-C goes to the whole foreground process
	// group.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends this program at once, and the kernel then kills its children
	dieWithMake()

	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "drydock:", err)
		os.Exit(1)
	}
}

// run prepares a run and serves until ctx is done or a server has ended.
func run(ctx context.Context) error {
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

	tokens, err := readTokens(s.data)
	if err != nil {
		return err
	}
	programs, err := findPrograms(ctx)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(s.logs()); err != nil { // those of an earlier run
		return err
	}
	return s.serve(ctx, programs, tokens)
}

// serve starts everything, prints what to try, and returns when ctx is done or a server has ended.
// It stops what it has started, in reverse order.
func (s settings) serve(ctx context.Context, p programs, t tokens) (err error) {
	controller, err := s.startController(ctx, p, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, controller.Stop(10*time.Second)) }()

	upstream := s.upstream
	if upstream == "" {
		upstream = loopback(s.appPort)
		var l net.Listener
		if l, err = net.Listen("tcp", upstream); err != nil {
			return fmt.Errorf("the demo app (APP_PORT): %w", err)
		}
		stop := demo.New().Serve(l)
		defer func() { err = errors.Join(err, stop()) }()
	}

	envoy, err := s.startEnvoy(ctx, p, upstream, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, envoy.Stop(10*time.Second)) }()

	s.greet(t, envoy)
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

// tokens are the secrets of a run.
type tokens struct {
	operator     string
	operatorFile string // empty if the token comes from the environment
	sync         string // with which Envoy fetches the state
}

// readTokens takes each token from the environment or otherwise from a file in the data directory.
// It creates the file on the first run.
func readTokens(data string) (t tokens, err error) {
	t.operator, t.operatorFile, err = readToken("DRYDOCK_BOOTSTRAP_TOKEN", filepath.Join(data, "operator-token"))
	if err != nil {
		return t, fmt.Errorf("the operator token: %w", err)
	}

	t.sync, _, err = readToken("DRYDOCK_SYNC_TOKEN", filepath.Join(data, "sync-token"))
	if err != nil {
		return t, fmt.Errorf("the proxies' token: %w", err)
	}
	return t, nil
}

// readToken returns a token and the file it comes from, which is empty if it comes from the
// environment.
func readToken(variable, file string) (token, from string, err error) {
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

// programs are the paths of what a run starts.
type programs struct{ drydock, envoy string }

// findPrograms installs Envoy if the machine has none.
func findPrograms(ctx context.Context) (p programs, err error) {
	if p.drydock, err = e2e.Binary("drydock"); err != nil {
		return p, err
	}
	p.envoy, err = e2e.FindEnvoy(ctx, os.Stderr)
	return p, err
}

// startController starts the controller and checks that it knows the operator token.
func (s settings) startController(ctx context.Context, p programs, t tokens) (*e2e.Controller, error) {
	controller, err := e2e.StartController(ctx, e2e.ControllerOptions{
		Binary: p.drydock, Data: s.data, Listen: loopback(s.controllerPort), Proxy: loopback(s.syncPort),
		Token: t.operator, Sync: t.sync, Log: filepath.Join(s.logs(), "controller.log"),
	})
	if err != nil {
		return nil, err
	}

	status, _, err := controller.Do(ctx, http.MethodGet, "/api/v1/apps", nil)
	if err == nil && status == http.StatusUnauthorized {
		source := "DRYDOCK_BOOTSTRAP_TOKEN"
		if t.operatorFile != "" {
			source = t.operatorFile
		}
		err = fmt.Errorf("the controller does not know the token in %s: the data in %s was first used with another token; use that one, or another DATA",
			source, s.data)
	}
	if err != nil {
		return nil, errors.Join(err, controller.Stop(10*time.Second))
	}
	return controller, nil
}

// startEnvoy starts Envoy in front of upstream.
func (s settings) startEnvoy(ctx context.Context, p programs, upstream string, t tokens) (*e2e.Envoy, error) {
	bootstrap, err := e2e.Bootstrap("drydock.yaml", e2e.Substitution{Ports: map[int]string{
		8080: loopback(s.proxyPort), 8081: upstream, 7071: loopback(s.syncPort),
		9901: ":0", // Envoy chooses the admin port, so it is never taken
	}})
	if err != nil {
		return nil, err
	}

	return e2e.StartEnvoy(ctx, e2e.EnvoyOptions{
		Binary: p.envoy, Bootstrap: bootstrap, Dir: s.logs(), Env: []string{"DRYDOCK_SYNC_TOKEN=" + t.sync},
		Workers: min(runtime.NumCPU(), 4), // each takes memory, and this is a demonstration
	})
}

// greet prints the addresses and what to try.
func (s settings) greet(t tokens, envoy *e2e.Envoy) {
	proxy, api := "http://"+loopback(s.proxyPort), "http://"+loopback(s.controllerPort)
	service := "the demo shop, through Envoy"
	if s.upstream != "" {
		service = s.upstream + ", through Envoy"
	}

	logs := relative(s.logs())
	token := "$DRYDOCK_BOOTSTRAP_TOKEN"
	if t.operatorFile != "" {
		token = fmt.Sprintf(`"$(cat %s)"`, shellQuote(relative(t.operatorFile)))
	}

	fmt.Printf(`
Drydock is running.

  %-28s %s
  %-28s %s
  %-28s %s
  %-28s %s

Try this in another terminal, in this folder:

  export DRYDOCK_URL=%s DRYDOCK_TOKEN=%s

  curl -i %s/                            # passes
  bin/drydock on "We are back at ten"
  curl -i %s/                            # 503 and the message
  bin/drydock allow 127.0.0.2
  curl -i --interface 127.0.0.2 %s/      # passes from this address
  bin/drydock status
  bin/drydock off

Ctrl-C stops everything.
`, proxy+"/", service, api+"/", "the controller's API", envoy.Admin+"/", "Envoy's admin interface", logs+"/", "the logs",
		api, token, proxy, proxy, proxy)
}

// relative returns a path relative to the working directory if it lies below it.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}

	if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return path
}

// shellQuote quotes a path for a shell if necessary.
func shellQuote(s string) string {
	if strings.ContainsAny(s, " '\"\\$`!*?[](){}<>|&;#~") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
