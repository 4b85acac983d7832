// Package cli is the drydock command, which is built with cobra. Each of its subcommands has a file
// of its own, named after it. The subcommand serve runs a controller, and version prints a version;
// all others call the HTTP API of a controller that runs elsewhere (package web) and print what it
// answers.
//
// The other files are for all subcommands: cli.go has the root command and its flags, exit.go the
// exit codes, client.go the client of the API, output.go what commands print, times.go how times
// are read and printed, wait.go the flag --wait, and files.go how files with apps are read.
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

// defaultURL is where a controller on the same machine serves its API by default.
const defaultURL = "http://127.0.0.1:7070"

// Main runs the command line of this process and exits with its exit code. SIGINT and SIGTERM
// cancel the command.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal, signals have their usual effect again: a second one ends the process
	// at once, in case the command does not react to the first.
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Run runs a command line, whose args do not include the name of the program, and returns its exit
// code. An error is printed to stderr as one line. When ctx is cancelled, the command is too.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &commandLine{}
	root := c.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)

	err := root.ExecuteContext(ctx)
	if errors.Is(err, context.Canceled) {
		// The user cancelled, so what the command was doing at that moment is not reported.
		err = errCancelled
	}
	if err != nil {
		// The text of an error may have several lines, such as that of the YAML parser.
		oneLine := strings.Join(strings.Fields(err.Error()), " ")
		fmt.Fprintln(stderr, "drydock: "+oneLine)
	}
	return exitCode(err)
}

// commandLine is one run of the drydock command. It holds the values of the flags that all
// subcommands share, and makes the subcommands.
type commandLine struct {
	url, tokenFile, caFile string // empty if the flag is not given
	output                 string // text or json
}

func (c *commandLine) rootCommand() *cobra.Command {
	root := commandGroup("drydock", "Put services behind Envoy into maintenance, and let through the people who work on them",
		c.onCommand(), c.offCommand(), c.statusCommand(),
		c.appCommand(), c.allowCommand(), c.applyCommand(),
		c.explainCommand(), c.proxiesCommand(), c.auditCommand(), c.tokenCommand(),
		c.serveCommand(), c.versionCommand(),
	)
	root.Long = `Put services behind Envoy into maintenance, and let through the people who work on them.

  drydock on "Database migration"    put the default app into maintenance
  drydock status                     show what is on, and how many proxies enforce it
  drydock off                        end the maintenance

DRYDOCK_URL is the address of the controller, and DRYDOCK_TOKEN is your API token.

Exit codes: 0 ok, 1 failed, 2 cancelled, 3 usage or invalid input, 4 not allowed,
5 conflict, 6 not found, 8 timed out.`

	root.Version = version()
	// Run prints errors, in one line. Cobra would print them in its own way, with the whole usage.
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})

	flags := root.PersistentFlags()
	flags.StringVar(&c.url, "url", "", "address of the controller (default: DRYDOCK_URL, or "+defaultURL+")")
	flags.StringVar(&c.tokenFile, "token-file", "", "file with the API token (default: the token in DRYDOCK_TOKEN)")
	flags.StringVar(&c.caFile, "ca-file", "", "PEM file with the CA of the controller's certificate (default: DRYDOCK_CA_FILE, or the system's CAs)")
	flags.StringVarP(&c.output, "output", "o", "text", "output format: text or json")
	return root
}

// commandGroup returns a command that only has subcommands. Without one of them it prints its help.
func commandGroup(use, short string, subcommands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		// Cobra has run a subcommand if the first argument names one, so any argument is an error.
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; see %s --help", args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}

	cmd.AddCommand(subcommands...)
	return cmd
}

// checkArgs returns a check of a command's arguments whose errors are usage errors with the
// command's usage. The check itself is one of cobra's, such as [cobra.NoArgs].
func checkArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%w; usage: %s", err, cmd.UseLine())
		}
		return nil
	}
}

// callAPI is the common part of all commands that use the API: it makes a client, passes it to
// call, and prints the result that call returns. If call returns an error, the result is ignored.
func (c *commandLine) callAPI(cmd *cobra.Command, call func(ctx context.Context, api *client) (result, error)) error {
	// Check this first, so that a change is not made and then not printed.
	if c.output != "text" && c.output != "json" {
		return usagef("-o %q: must be text or json", c.output)
	}

	api, err := c.newAPIClient()
	if err != nil {
		return err
	}

	r, err := call(cmd.Context(), api)
	if err != nil {
		return err
	}
	return r.print(cmd.OutOrStdout(), c.output)
}

// newAPIClient returns a client that is configured by the flags and, where a flag is not given, by
// the environment. A token is not required here: without one, the API says that it needs one.
func (c *commandLine) newAPIClient() (*client, error) {
	address := cmp.Or(c.url, os.Getenv("DRYDOCK_URL"), defaultURL)
	caFile := cmp.Or(c.caFile, os.Getenv("DRYDOCK_CA_FILE"))

	token := os.Getenv("DRYDOCK_TOKEN")
	if c.tokenFile != "" {
		var err error
		if token, err = readToken(c.tokenFile); err != nil {
			return nil, err
		}
	}
	return newClient(address, token, caFile)
}

// readToken returns the token in a file, without the white space around it, such as the end of the
// line. A file without a token is an error.
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
