// Package cli is the drydock command. Each command has a file of its own; all of them
// but serve speak to a controller's API.
package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK        = 0
	exitFailed    = 1
	exitCancelled = 2 // by a signal
	exitUsage     = 3 // the command or what it was given is wrong
	exitAuth      = 4 // no token, or one that may not
	exitConflict  = 5 // changed in between, or held
	exitNotFound  = 6
	exitTimedOut  = 8 // --wait
)

// codeError is an error with an exit code of its own.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &codeError{exitUsage, fmt.Errorf(format, args...)}
}

func exitCode(err error) int {
	var code *codeError
	var api *apiError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return code.code
	case errors.Is(err, context.Canceled):
		return exitCancelled
	case errors.As(err, &api):
		switch api.Status {
		case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
			return exitUsage
		case http.StatusUnauthorized, http.StatusForbidden:
			return exitAuth
		case http.StatusNotFound:
			return exitNotFound
		case http.StatusConflict, http.StatusPreconditionFailed:
			return exitConflict
		}
	}
	return exitFailed
}

// Main runs the command line of this process and exits.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal kills what does not heed the first.
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Run runs a command line and returns its exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("cancelled: %w", context.Canceled)
	}
	if err != nil {
		// One line, whatever the error is made of.
		fmt.Fprintln(stderr, "drydock: "+strings.Join(strings.Fields(err.Error()), " "))
	}
	return exitCode(err)
}

// cli is what the flags of all commands say.
type cli struct {
	url, tokenFile, caFile string
	output                 string
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "drydock",
		Short: "Take services behind Envoy out of service, and keep them open for those who work on them",
		Long: `Take services behind Envoy out of service, and keep them open for those who work on them.

  drydock on "Database migration"    close the default app
  drydock status                     what is on, and is it enforced
  drydock off                        open it again

DRYDOCK_URL says where the controller is, DRYDOCK_TOKEN who you are.

Exit codes: 0 ok, 1 failed, 2 cancelled, 3 usage or bad input, 4 not allowed,
5 conflict, 6 not found, 8 waited in vain.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q; see drydock --help", args[0])
			}
			return nil
		},
		RunE:    func(cmd *cobra.Command, args []string) error { return cmd.Help() },
		Version: version(),
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&c.url, "url", "", "the controller (default: DRYDOCK_URL, else http://127.0.0.1:7070)")
	flags.StringVar(&c.tokenFile, "token-file", "", "file with the API token (default: the token in DRYDOCK_TOKEN)")
	flags.StringVar(&c.caFile, "ca-file", "", "PEM file with the CA of the controller's certificate (default: DRYDOCK_CA_FILE, else the system's)")
	flags.StringVarP(&c.output, "output", "o", "text", "text or json")
	root.AddCommand(
		c.onCommand(), c.offCommand(), c.statusCommand(),
		c.appCommand(), c.allowCommand(), c.applyCommand(),
		c.explainCommand(), c.proxiesCommand(), c.auditCommand(), c.tokenCommand(),
		c.serveCommand(), c.versionCommand(),
	)
	return root
}

// args makes what cobra says of arguments a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return usagef("%w; usage: %s", err, cmd.UseLine())
		}
		return nil
	}
}

// group is a command that only has others below it.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q; see %s --help", args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// client is the API as the flags and the environment say.
func (c *cli) client() (*client, error) {
	if c.output != "text" && c.output != "json" {
		return nil, usagef("-o %q: must be text or json", c.output)
	}
	token := os.Getenv("DRYDOCK_TOKEN")
	if c.tokenFile != "" {
		var err error
		if token, err = readToken(c.tokenFile); err != nil {
			return nil, err
		}
	}
	return newClient(cmp.Or(c.url, os.Getenv("DRYDOCK_URL"), "http://127.0.0.1:7070"), token, cmp.Or(c.caFile, os.Getenv("DRYDOCK_CA_FILE")))
}

// print writes a result: as JSON, or as text for people.
func (c *cli) print(cmd *cobra.Command, result any, text func(w io.Writer)) error {
	w := cmd.OutOrStdout()
	if c.output == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(result)
	}
	text(w)
	return nil
}

// table lines columns up.
func table(w io.Writer, rows ...[]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	return cmp.Or(v, "unknown")
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := map[string]string{"version": version()}
			return c.print(cmd, v, func(w io.Writer) { fmt.Fprintln(w, "drydock", v["version"]) })
		},
	}
}
