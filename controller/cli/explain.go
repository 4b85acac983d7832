package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/web"
)

// explainFlags are the values of the flags of the command explain, which describe a request.
type explainFlags struct {
	// request is the request that is sent to the API. Flags that need no parsing are stored in it
	// directly. parse completes it.
	request         web.Request
	headers, claims []string // --header and --claim, as given
	data, at        string   // --data and --at, as given
}

// explainCommand returns the command drydock explain, which says what the proxies would do with a
// request. Like every command that calls the API, it passes a function to callAPI (cli.go), which
// calls the function with a client (client.go) and prints the result (output.go).
func (c *commandLine) explainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain [URL]",
		Short: "Explain what would happen to a request, and which rule decides",
		Long: `Explain what would happen to a request, and which rule decides. The code that answers is
the same as in the proxies.

The request is described as it arrives at the filter. What happens before that is not
simulated: Envoy normalizes paths and removes headers that could mislead servers.
Exemptions in the filter's own configuration are not considered either. The body is the
value of --data, whatever the headers say.`,
		Example: `  drydock explain https://shop.example.com/cart --method POST --ip 192.0.2.7
  drydock explain --host shop.example.com --path /graphql --data @body.json --header "content-type: application/json"
  drydock explain --claim iss=https://idp.example.com --claim realm_access.roles=admin`,
		Args: checkArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.parse(cmd, args); err != nil {
				return err
			}

			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				e, err := api.explain(ctx, f.request)
				return result{e, func(w io.Writer) { printExplanation(w, e) }}, err
			})
		},
	}

	flags := cmd.Flags()
	flags.StringVar(&f.request.Method, "method", http.MethodGet, "HTTP method; with --data the default is POST")
	flags.StringVar(&f.request.Host, "host", "", "host name")
	flags.StringVar(&f.request.Path, "path", "/", "path, including the query")
	flags.StringVar(&f.data, "data", "", "body; @FILE reads it from a file, @- from standard input")
	flags.StringArrayVar(&f.headers, "header", nil, "header as \"name: value\"; may be repeated")
	flags.StringVar(&f.request.IP, "ip", "", "address of the client")
	flags.StringArrayVar(&f.claims, "claim", nil, "claim of a verified JWT as path.to.claim=value; a repeated claim is a list; iss=… is the issuer")
	flags.StringVar(&f.request.Principal, "principal", "", "mesh identity of the client")
	flags.StringVar(&f.request.Route, "route", "", "name of the Envoy route")
	flags.StringVar(&f.request.Cluster, "cluster", "", "name of the Envoy cluster")
	flags.StringVar(&f.at, "at", "", "when the request is made: RFC 3339, or HH:MM in local time (default: now)")
	return cmd
}

// parse completes the request by the flags that need parsing, and by the URL if the command has one
// as its argument.
func (f *explainFlags) parse(cmd *cobra.Command, args []string) (err error) {
	r := &f.request
	if len(args) > 0 {
		u, err := url.Parse(args[0])
		if err != nil || u.Host == "" {
			return usagef("%q must be a URL such as https://shop.example.com/cart", args[0])
		}
		if r.Host != "" || cmd.Flags().Changed("path") {
			return usagef("use either a URL, or --host and --path")
		}

		r.Host, r.Path = u.Host, u.RequestURI()
	}

	if r.Body, err = readData(f.data, cmd.InOrStdin()); err != nil {
		return err
	}
	if cmd.Flags().Changed("data") && !cmd.Flags().Changed("method") {
		r.Method = http.MethodPost
	}

	if r.Headers, err = parseHeaders(f.headers); err != nil {
		return err
	}
	if r.Claims, err = parseClaims(f.claims); err != nil {
		return err
	}
	if f.at != "" {
		if r.At, err = parseTime(f.at, time.Now()); err != nil {
			return usagef("--at %w", err)
		}
	}
	return nil
}

// printExplanation prints the verdict on the request as a sentence without its subject, and below
// it what led to the verdict and what the client would receive.
func printExplanation(w io.Writer, e web.Explanation) {
	verdict := map[string]string{"pass": "passes", "refuse": "is refused"}[e.Verdict]
	fmt.Fprintf(w, "%s: %s\n", verdict, e.Explanation)

	rows := [][]string{{"  rule", string(e.Rule)}, {"  app", fmt.Sprintf("%s (%s)", e.App, e.Mode)}}
	if e.Reply != nil {
		reply := fmt.Sprintf("%d %s", e.Reply.Status, e.Reply.Headers["content-type"])
		if e.Reply.GRPCStatus != nil {
			reply = fmt.Sprintf("gRPC status %d", *e.Reply.GRPCStatus)
		}
		rows = append(rows, []string{"  reply", reply})
	}
	writeTable(w, rows...)
}

// readData returns the body that --data gives. As with curl, @FILE is the content of a file, and @-
// that of standard input.
func readData(data string, stdin io.Reader) (string, error) {
	path, isFile := strings.CutPrefix(data, "@")
	if !isFile {
		return data, nil
	}

	if path == "-" {
		body, err := io.ReadAll(stdin)
		if err != nil {
			return "", fmt.Errorf("reading standard input: %w", err)
		}
		return string(body), nil
	}

	body, err := os.ReadFile(path)
	if err != nil {
		return "", usagef("--data: %w", err)
	}
	return string(body), nil
}

// parseHeaders returns the values of each header, by its name in lower case. headers are of the
// form "name: value".
func parseHeaders(headers []string) (map[string][]string, error) {
	parsed := map[string][]string{}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" {
			return nil, usagef("--header %q: must be like \"name: value\"", h)
		}

		parsed[name] = append(parsed[name], strings.TrimSpace(value))
	}
	return parsed, nil
}

// parseClaims returns the payload of a JWT that claims of the form path.to.claim=value describe:
// "realm.roles=admin" becomes {"realm": {"roles": "admin"}}. The payload is nil without
// claims: the request has no JWT then.
//
// A value that is valid JSON is taken as JSON, any other value as a string. A name with a slash is
// the name of one claim and is not split at dots: some issuers use URLs as names.
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
		if err := addClaim(payload, path, value); err != nil {
			return nil, usagef("--claim %q: %w", c, err)
		}
	}
	return payload, nil
}

// addClaim sets the value at a path in an object. Values that are added to the same path become a
// list.
func addClaim(object map[string]any, path []string, value any) error {
	// Go down to the object that has the last name of the path, and create the objects on the way.
	for _, name := range path[:len(path)-1] {
		inner, ok := object[name].(map[string]any)
		if !ok {
			if object[name] != nil {
				return fmt.Errorf("%s has a value already, and cannot contain other claims", name)
			}
			inner = map[string]any{}
			object[name] = inner
		}
		object = inner
	}

	last := path[len(path)-1]
	switch present := object[last].(type) {
	case nil:
		object[last] = value
	case []any:
		object[last] = append(present, value)
	default:
		object[last] = []any{present, value}
	}
	return nil
}
