// Command run is the program behind `make run`: it starts the controller, a demo app and a real
// Envoy with the filter, all on loopback, prints what to try, and stops them on Ctrl-C or SIGTERM.
// The Makefile builds the controller and the filter first. The package e2e finds Envoy, and starts
// and stops the processes.
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
	// Ctrl-C sends SIGINT to make and to this program, and a closed terminal SIGHUP. A SIGTERM
	// comes from make, which passes on its own.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// After the first signal, signals have their usual effect again: a second Ctrl-C ends this
	// program at once, and the kernel then kills its children.
	context.AfterFunc(ctx, stop)
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
	if err := os.RemoveAll(s.logs()); err != nil { // the logs of an earlier run
		return err
	}
	return s.serve(ctx, programs, tokens)
}

// stopTimeout is how long a program may take to stop before it is killed.
const stopTimeout = 10 * time.Second

// serve starts everything, prints what to try, and returns when ctx is done or a program has ended.
// It stops what it has started, in reverse order, and returns their errors too. That ctx is done is
// not an error.
func (s settings) serve(ctx context.Context, p programs, t tokens) (err error) {
	controller, err := s.startController(ctx, p, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, controller.Stop(stopTimeout)) }()

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
	defer func() { err = errors.Join(err, envoy.Stop(stopTimeout)) }()

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
	operator     string // for the API, which the commands of drydock use
	operatorFile string // from which operator was read; empty if it comes from the environment
	sync         string // with which Envoy fetches the state from the controller
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

// programs are the paths of the programs that a run starts.
type programs struct{ drydock, envoy string }

// findPrograms returns the paths of the programs. It installs Envoy if the machine has none.
func findPrograms(ctx context.Context) (p programs, err error) {
	if p.drydock, err = e2e.Binary("drydock"); err != nil {
		return p, err
	}
	p.envoy, err = e2e.FindEnvoy(ctx, os.Stderr)
	return p, err
}

// startController starts the controller and checks that it knows the operator token. A controller
// takes this token only when its data directory is new.
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
		return nil, errors.Join(err, controller.Stop(stopTimeout))
	}
	return controller, nil
}

// startEnvoy starts Envoy with the filter in front of upstream, which is host:port. The keys of
// Ports are the ports in the file envoy/drydock.yaml: 8080 is Envoy's, 8081 that of the app, 7071
// the controller's listener for proxies and 9901 Envoy's admin interface.
func (s settings) startEnvoy(ctx context.Context, p programs, upstream string, t tokens) (*e2e.Envoy, error) {
	bootstrap, err := e2e.Bootstrap("drydock.yaml", e2e.Substitution{Ports: map[int]string{
		8080: loopback(s.proxyPort), 8081: upstream, 7071: loopback(s.syncPort),
		9901: ":0", // Envoy chooses a free port
	}})
	if err != nil {
		return nil, err
	}

	return e2e.StartEnvoy(ctx, e2e.EnvoyOptions{
		Binary: p.envoy, Bootstrap: bootstrap, Dir: s.logs(), Env: []string{"DRYDOCK_SYNC_TOKEN=" + t.sync},
		Workers: min(runtime.NumCPU(), 4), // each takes memory, and this is a demonstration
	})
}

// greet prints the addresses, and commands to try.
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

// relative returns an absolute path relative to the working directory if it is below that
// directory, and otherwise the path itself.
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

// shellQuote returns a path as one word of a shell command. It adds quotes only if the path has
// characters that mean something to a shell. Between single quotes nothing does, except for the
// single quote, which is written between two quoted parts as \'.
func shellQuote(path string) string {
	if strings.ContainsAny(path, " '\"\\$`!*?[](){}<>|&;#~") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
