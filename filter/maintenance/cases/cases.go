// Package cases is the table of requests to a GraphQL path in read-only, with the verdict
// on each. Tests run the same table against the GraphQL rules, the whole decision, the
// compiled module and a real Envoy, so that they cannot come to differ.
//
// The app has the GraphQL path /graphql, and every other setting at its default.
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
	Rule    string      `json:"rule"`        // that refuses the request; "" if it passes
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

// fewest is how many cases the table must have, so that a test does not pass because the
// table was lost.
const fewest = 150

// Load returns the table.
func Load(t testing.TB) (all []Case) {
	t.Helper()
	in := json.NewDecoder(bytes.NewReader(table))
	in.DisallowUnknownFields()
	if err := in.Decode(&all); err != nil {
		t.Fatalf("cases.json: %v", err)
	}
	if len(all) < fewest {
		t.Fatalf("cases.json has %d cases, want at least %d", len(all), fewest)
	}
	return all
}
