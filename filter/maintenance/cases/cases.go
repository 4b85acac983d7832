// Package cases is a table of requests to the GraphQL path of an app in the mode read-only, with
// the verdict on each. Tests run the same table against the GraphQL rules (package graphql), the
// whole decision (package maintenance), the compiled module and a real Envoy, so that these cannot
// come to differ.
//
// The app has the GraphQL path /graphql, and every other setting at its default. The default of an
// app allows batches. The table is cases.json, a JSON array with one [Case] on each line. The
// prefix of a name groups the cases, for example "doc: " for those about the document.
package cases

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"testing"
)

// Case is one request and the verdict on it.
type Case struct {
	Name    string      `json:"name"`
	Method  string      `json:"method"`
	Path    string      `json:"path"` // with the query
	Headers [][2]string `json:"headers"`
	Text    string      `json:"body"`
	Binary  []byte      `json:"body_base64"` // instead of Text where the body is not UTF-8
	Verdict string      `json:"verdict"`     // "pass" or "refuse"
	Rule    string      `json:"rule"`        // the rule that refuses the request, "graphql.…"; "" if it passes
}

// Body returns the body of the request, empty if it has none.
func (c *Case) Body() []byte { return append([]byte(c.Text), c.Binary...) }

// Header returns the values of every header with exactly this name.
func (c *Case) Header(name string) (values []string) {
	for _, h := range c.Headers {
		if h[0] == name {
			values = append(values, h[1])
		}
	}
	return values
}

//go:embed cases.json
var table []byte

// minCases is the number of cases that the table must have at least, so that no test passes because
// the table was lost. It is well below the number that there are.
const minCases = 150

// Load returns the table. It fails the test if the table cannot be read.
func Load(t testing.TB) (all []Case) {
	t.Helper()

	in := json.NewDecoder(bytes.NewReader(table))
	in.DisallowUnknownFields() // a misspelled field
	if err := in.Decode(&all); err != nil {
		t.Fatalf("cases.json: %v", err)
	}

	if len(all) < minCases {
		t.Fatalf("cases.json has %d cases, want at least %d", len(all), minCases)
	}
	return all
}
