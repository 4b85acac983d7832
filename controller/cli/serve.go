package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/drydock-proxy/drydock/controller"
)

// stopTime is what requests under way have to finish when the controller stops.
const stopTime = 3 * time.Second

func (c *cli) serveCommand() *cobra.Command {
	o := controller.Options{Version: version()}
	var store, logFormat string
	var level slog.Level
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the controller",
		Long: `Run the controller: the API for people and scripts on --listen, the proxies' sync on
--proxy-listen.

At the first start DRYDOCK_BOOTSTRAP_TOKEN becomes the first operator token; without it
one is made, and printed once to a terminal or else written to bootstrap-token in the
data directory. DRYDOCK_SYNC_TOKEN is what proxies prove themselves with; without it
one is made, in sync-token in the data directory.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if store != "bolt" {
				return usagef("--store %s: only bolt is known", store)
			}
			handler := slog.Handler(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			switch logFormat {
			case "text":
			case "json":
				handler = slog.NewJSONHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level})
			default:
				return usagef("--log-format %s: must be text or json", logFormat)
			}
			o.Log = slog.New(handler)
			o.BootstrapToken, o.SyncToken = os.Getenv("DRYDOCK_BOOTSTRAP_TOKEN"), os.Getenv("DRYDOCK_SYNC_TOKEN")
			if out, ok := cmd.OutOrStdout().(*os.File); ok && term.IsTerminal(int(out.Fd())) {
				o.ShowToken = func(token string) error {
					_, err := fmt.Fprintf(out, "The first operator token, shown this once:\n\n  export DRYDOCK_TOKEN=%s\n\n", token)
					return err
				}
			}
			ctl, err := controller.New(cmd.Context(), o)
			if err != nil {
				return err
			}
			ctl.Start()
			var failed error
			select {
			case <-cmd.Context().Done():
			case failed = <-ctl.Failed():
			}
			ctx, cancel := context.WithTimeout(context.Background(), stopTime)
			defer cancel()
			ctl.Stop(ctx)
			return failed
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Data, "data", ".data", "folder of the store")
	flags.StringVar(&store, "store", "bolt", "bolt: one file in the data folder")
	flags.StringVar(&o.Listen, "listen", controller.DefaultListen, "address of the API")
	flags.StringVar(&o.ProxyListen, "proxy-listen", controller.DefaultProxyListen, "address of the proxies' sync")
	flags.StringVar(&o.TLSCert, "tls-cert", "", "PEM file with the certificate, for both addresses")
	flags.StringVar(&o.TLSKey, "tls-key", "", "PEM file with its key")
	flags.BoolVar(&o.InsecureHTTP, "insecure-http", false, "plain HTTP on addresses that other machines reach")
	flags.StringVar(&logFormat, "log-format", "text", "text or json")
	flags.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	return cmd
}
