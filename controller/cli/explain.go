package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/web"
)

func (c *cli) explainCommand() *cobra.Command {
	var r web.Request
	var headers, claims []string
	var data, at string
	cmd := &cobra.Command{
		Use:   "explain [URL]",
		Short: "What would happen to a request, and by which rule",
		Long: `What would happen to a request, and by which rule: the same code answers that decides
in the proxies.

The request is taken as it reaches the filter. What Envoy does before that is not
followed: it normalizes paths, removes headers that mislead servers, and answers what the
filter's own configuration exempts. A body is what --data says, not what a header announces.`,
		Example: `  drydock explain https://shop.example.com/cart --method POST --ip 192.0.2.7
  drydock explain --host shop.example.com --path /graphql --data @body.json --header "content-type: application/json"
  drydock explain --claim iss=https://idp.example.com --claim realm_access.roles=admin`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				u, err := url.Parse(args[0])
				if err != nil || u.Host == "" {
					return usagef("%q must be a URL such as https://shop.example.com/cart", args[0])
				}
				if r.Host != "" || cmd.Flags().Changed("path") {
					return usagef("give either a URL, or --host and --path")
				}
				r.Host, r.Path = u.Host, u.RequestURI()
			}
			if err := readData(cmd, data, &r.Body); err != nil {
				return err
			}
			if cmd.Flags().Changed("data") && !cmd.Flags().Changed("method") {
				r.Method = "POST"
			}
			r.Headers = map[string][]string{}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if name = strings.ToLower(strings.TrimSpace(name)); !ok || name == "" {
					return usagef("--header %q: must be like \"name: value\"", h)
				}
				r.Headers[name] = append(r.Headers[name], strings.TrimSpace(value))
			}
			var err error
			if r.Claims, err = parseClaims(claims); err != nil {
				return err
			}
			if at != "" {
				if r.At, err = parseTime(at, time.Now()); err != nil {
					return usagef("--at %w", err)
				}
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			out, err := api.explain(cmd.Context(), r)
			if err != nil {
				return err
			}
			return c.print(cmd, out, func(w io.Writer) {
				verdict := map[string]string{"pass": "passes", "refuse": "is refused"}[out.Verdict]
				fmt.Fprintf(w, "%s: %s\n", verdict, out.Explanation)
				rows := [][]string{{"  rule", string(out.Rule)}, {"  app", fmt.Sprintf("%s (%s)", out.App, out.Mode)}}
				if out.Reply != nil {
					reply := fmt.Sprintf("%d %s", out.Reply.Status, out.Reply.Headers["content-type"])
					if out.Reply.GRPCStatus != nil {
						reply = fmt.Sprintf("gRPC status %d", *out.Reply.GRPCStatus)
					}
					rows = append(rows, []string{"  reply", reply})
				}
				table(w, rows...)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&r.Method, "method", "GET", "method; POST with --data")
	flags.StringVar(&r.Host, "host", "", "host name")
	flags.StringVar(&r.Path, "path", "/", "path, with the query")
	flags.StringVar(&data, "data", "", "body; @FILE for that of a file, @- for standard input")
	flags.StringArrayVar(&headers, "header", nil, "header as \"name: value\"; may be repeated")
	flags.StringVar(&r.IP, "ip", "", "the client's address")
	flags.StringArrayVar(&claims, "claim", nil, "claim of a verified JWT as path.to.claim=value; repeated for a list; iss=… is its issuer")
	flags.StringVar(&r.Principal, "principal", "", "the peer's mesh identity")
	flags.StringVar(&r.Route, "route", "", "Envoy's route name")
	flags.StringVar(&r.Cluster, "cluster", "", "Envoy's cluster name")
	flags.StringVar(&at, "at", "", "at which time: RFC 3339, or HH:MM of local time; default now")
	return cmd
}

func readData(cmd *cobra.Command, data string, body *string) error {
	path, isFile := strings.CutPrefix(data, "@")
	switch {
	case !isFile:
		*body = data
	case path == "-":
		b, err := io.ReadAll(cmd.InOrStdin())
		if err != nil {
			return fmt.Errorf("reading standard input: %w", err)
		}
		*body = string(b)
	default:
		b, err := os.ReadFile(path)
		if err != nil {
			return usagef("--data: %w", err)
		}
		*body = string(b)
	}
	return nil
}

// parseClaims makes a payload of path.to.claim=value. A value that is JSON is what it
// says, any other one is a string. A name with a / in it is a URL, whose dots part nothing.
func parseClaims(claims []string) (map[string]any, error) {
	if len(claims) == 0 {
		return nil, nil
	}
	payload := map[string]any{}
	for _, c := range claims {
		name, text, ok := strings.Cut(c, "=")
		if !ok || name == "" {
			return nil, usagef("--claim %q: must be like role=admin", c)
		}
		path := []string{name}
		if !strings.Contains(name, "/") {
			path = strings.Split(name, ".")
		}
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		at := payload
		for _, step := range path[:len(path)-1] {
			inner, ok := at[step].(map[string]any)
			if !ok {
				if at[step] != nil {
					return nil, usagef("--claim %q: %s is a value already", c, step)
				}
				inner = map[string]any{}
				at[step] = inner
			}
			at = inner
		}
		last := path[len(path)-1]
		switch was := at[last].(type) {
		case nil:
			at[last] = value
		case []any:
			at[last] = append(was, value)
		default:
			at[last] = []any{was, value}
		}
	}
	return payload, nil
}
