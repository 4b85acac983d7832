package cli

import (
	"cmp"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (c *commandLine) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this command", Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// No API is called, so the result is printed here and not by callAPI.
			r := result{map[string]string{"version": version()}, func(w io.Writer) { fmt.Fprintln(w, "drydock", version()) }}
			return r.print(cmd.OutOrStdout(), c.output)
		},
	}
}

// version returns the version of the module that the command was built from. A command that was
// built in a working copy of the repository may have none, or "(devel)". Then version returns the
// commit, or "unknown" if that is not recorded either.
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
