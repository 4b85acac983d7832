package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A result is what a command prints after it has succeeded.
type result struct {
	value any               // printed as JSON with -o json
	text  func(w io.Writer) // prints the same for people, with -o text
}

// confirmation returns the result of a command that only confirms what it did to a resource, such
// as "shop deleted", or {"deleted": "shop"} as JSON. The verb is a past participle.
func confirmation(name, verb string) result {
	return result{map[string]string{verb: name}, func(w io.Writer) { fmt.Fprintln(w, name, verb) }}
}

// print writes the result as JSON if the format is json, and otherwise as text.
func (r result) print(w io.Writer, format string) error {
	if format != "json" {
		r.text(w)
		return nil
	}

	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // keep <, > and & readable: the output is not part of a page
	enc.SetIndent("", "  ")
	return enc.Encode(r.value)
}

// writeTable writes rows of cells with aligned columns, which are at least two spaces apart.
func writeTable(w io.Writer, rows ...[]string) {
	const minWidth, tabWidth, padding = 0, 0, 2 // tabWidth has no effect, since spaces are used
	t := tabwriter.NewWriter(w, minWidth, tabWidth, padding, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
}

// oneLine joins the lines of a text. A text of more than maxChars characters is cut there, and ends
// with an ellipsis.
func oneLine(s string, maxChars int) string {
	s = strings.Join(strings.Fields(s), " ")
	if chars := []rune(s); len(chars) > maxChars {
		return string(chars[:maxChars-1]) + "…"
	}
	return s
}

// orDash returns a cell of a table: s, or a dash in place of an empty cell.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
