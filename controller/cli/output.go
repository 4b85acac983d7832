package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A result is what a command prints: with -o json its value, otherwise its text.
type result struct {
	value any
	text  func(w io.Writer)
}

// done returns the result of a command that only confirms what it did to a resource, such as
// "shop deleted".
func done(name, verb string) result {
	return result{map[string]string{verb: name}, func(w io.Writer) { fmt.Fprintln(w, name, verb) }}
}

func (r result) print(w io.Writer, format string) error {
	if format != "json" {
		r.text(w)
		return nil
	}

	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r.value)
}

// table writes rows with aligned columns.
func table(w io.Writer, rows ...[]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
}

// oneLine joins the lines of a text and cuts it at a number of characters.
func oneLine(s string, limit int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}

// orDash keeps an empty cell of a table visible.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
