package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/drydock-proxy/drydock/controller"
)

// stopTime bounds the time that running requests have to finish when the controller stops.
const stopTime = 3 * time.Second

// storeBolt is the only store there is: a bbolt database file.
const storeBolt = "bolt"

// serveFlags are the values of the flags of the command serve. Flags that need no parsing are
// stored in the controller's options directly.
type serveFlags struct {
	controller controller.Options
	store      string
	logFormat  string
	logLevel   slog.Level
}

// serveCommand returns the command drydock serve, which runs a controller (package controller) in
// this process.
func (c *commandLine) serveCommand() *cobra.Command {
	f := serveFlags{controller: controller.Options{Version: version()}}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the controller",
		Long: `Run the controller. It serves the API for people and scripts on --listen, and the state
for proxies on --proxy-listen.

The first start creates an operator token: DRYDOCK_BOOTSTRAP_TOKEN if that is set, and
otherwise a random one, which is printed once to the terminal or, without a terminal,
written to bootstrap-token in the data directory.

Proxies authenticate with DRYDOCK_SYNC_TOKEN. If that is not set, a random token is kept
in sync-token in the data directory.`,
		Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options(cmd.OutOrStdout(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), o)
		},
	}

	flags := cmd.Flags()
	flags.StringVar(&f.controller.Data, "data", ".data", "data directory")
	flags.StringVar(&f.store, "store", storeBolt, "bolt: a file in the data directory")
	flags.StringVar(&f.controller.Listen, "listen", controller.DefaultListen, "address of the API")
	flags.StringVar(&f.controller.ProxyListen, "proxy-listen", controller.DefaultProxyListen, "address for proxies")
	flags.StringVar(&f.controller.TLSCert, "tls-cert", "", "PEM file with the certificate for both addresses")
	flags.StringVar(&f.controller.TLSKey, "tls-key", "", "PEM file with the key of the certificate")
	flags.BoolVar(&f.controller.InsecureHTTP, "insecure-http", false, "allow plain HTTP on addresses that other machines can reach")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	return cmd
}

// options returns the controller's options as the flags and the environment say. The controller
// logs to stderr. A new operator token is shown on stdout, but only if that is a terminal:
// otherwise it could end up in a log, and the controller writes the token to a file instead.
func (f *serveFlags) options(stdout, stderr io.Writer) (o controller.Options, err error) {
	o = f.controller
	if f.store != storeBolt {
		return o, usagef("--store %s: must be bolt", f.store)
	}

	logOptions := &slog.HandlerOptions{Level: f.logLevel}
	switch f.logFormat {
	case "text":
		o.Log = slog.New(slog.NewTextHandler(stderr, logOptions))
	case "json":
		o.Log = slog.New(slog.NewJSONHandler(stderr, logOptions))
	default:
		return o, usagef("--log-format %s: must be text or json", f.logFormat)
	}

	o.BootstrapToken, o.SyncToken = os.Getenv("DRYDOCK_BOOTSTRAP_TOKEN"), os.Getenv("DRYDOCK_SYNC_TOKEN")
	if out, ok := stdout.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
		o.ShowToken = func(token string) error {
			const text = "The first operator token, which is not shown again:\n\n  export DRYDOCK_TOKEN=%s\n\n"
			_, err := fmt.Fprintf(out, text, token)
			return err
		}
	}
	return o, nil
}

// serve runs a controller until ctx is done, after which it returns nil, or until a listener fails,
// whose error it returns.
func serve(ctx context.Context, o controller.Options) error {
	ctl, err := controller.New(ctx, o)
	if err != nil {
		return err
	}
	ctl.Start()

	var listenerErr error
	select {
	case <-ctx.Done():
	case listenerErr = <-ctl.Failed():
	}

	// Not derived from ctx, which may be done.
	stopCtx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	ctl.Stop(stopCtx)
	return listenerErr
}
