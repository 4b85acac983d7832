// Package cli is the drydock command. Each command has a file of its own, named after it; all of
// them except serve and version call a controller's API.
//
// The other files are for all commands: cli.go has the root command and its flags, exit.go the exit
// codes, client.go the API's client, output.go what commands print, times.go how times are read and
// printed, wait.go the flag --wait, and files.go how files with apps are read.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Main runs the command line of this process and exits.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once, in case it does not react to the first.
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
		// An error is one line, also when it wraps one of several lines.
		fmt.Fprintln(stderr, "drydock: "+strings.Join(strings.Fields(err.Error()), " "))
	}
	return exitCode(err)
}

// cli holds the flags that all commands have.
type cli struct {
	url, tokenFile, caFile string
	output                 string
}

func (c *cli) root() *cobra.Command {
	root := group("drydock", "Take services behind Envoy out of service, and keep them open for the people who work on them",
		c.onCommand(), c.offCommand(), c.statusCommand(),
		c.appCommand(), c.allowCommand(), c.applyCommand(),
		c.explainCommand(), c.proxiesCommand(), c.auditCommand(), c.tokenCommand(),
		c.serveCommand(), c.versionCommand(),
	)
	root.Long = `Take services behind Envoy out of service, and keep them open for the people who work
on them.

  drydock on "Database migration"    put the default app into maintenance
  drydock status                     show what is on, and how many proxies enforce it
  drydock off                        end the maintenance

DRYDOCK_URL is the address of the controller, and DRYDOCK_TOKEN is your API token.

Exit codes: 0 ok, 1 failed, 2 cancelled, 3 usage or invalid input, 4 not allowed,
5 conflict, 6 not found, 8 timed out.`

	root.Version = version()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})

	flags := root.PersistentFlags()
	flags.StringVar(&c.url, "url", "", "address of the controller (default: DRYDOCK_URL, or http://127.0.0.1:7070)")
	flags.StringVar(&c.tokenFile, "token-file", "", "file with the API token (default: the token in DRYDOCK_TOKEN)")
	flags.StringVar(&c.caFile, "ca-file", "", "PEM file with the CA of the controller's certificate (default: DRYDOCK_CA_FILE, or the system's CAs)")
	flags.StringVarP(&c.output, "output", "o", "text", "output format: text or json")
	return root
}

// group returns a command that only has subcommands.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; see %s --help", args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}

	cmd.AddCommand(commands...)
	return cmd
}

// arguments makes a usage error of what cobra finds wrong with arguments.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%w; usage: %s", err, cmd.UseLine())
		}
		return nil
	}
}

// run calls the API with a function and prints its result.
func (c *cli) run(cmd *cobra.Command, call func(ctx context.Context, api *client) (result, error)) error {
	if c.output != "text" && c.output != "json" {
		return usagef("-o %q: must be text or json", c.output)
	}

	api, err := c.client()
	if err != nil {
		return err
	}

	r, err := call(cmd.Context(), api)
	if err != nil {
		return err
	}
	return r.print(cmd.OutOrStdout(), c.output)
}

// client returns a client that is configured by the flags and the environment.
func (c *cli) client() (*client, error) {
	token := os.Getenv("DRYDOCK_TOKEN")
	if c.tokenFile != "" {
		var err error
		if token, err = readToken(c.tokenFile); err != nil {
			return nil, err
		}
	}
	return newClient(cmp.Or(c.url, os.Getenv("DRYDOCK_URL"), "http://127.0.0.1:7070"), token, cmp.Or(c.caFile, os.Getenv("DRYDOCK_CA_FILE")))
}

// readToken returns the token in a file, without the end of the line.
func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}

	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("reading the token: %s is empty", path)
	}
	return token, nil
}
