package web

import (
	"net/http"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// What the API accepts can be read by proxies and written back as it was read, also when lists and
// objects in it are empty or missing.
func TestSparseSpecsRoundTrip(t *testing.T) {
	r := startRig(t)
	for _, spec := range []string{
		`{"name":"default","graphql":{"paths":[]}}`,
		`{"name":"default","windows":[{"id":"w","mode":"read-only","occurrences":[]}]}`,
		`{"name":"default","windows":[{"id":"w","mode":"read-only"}]}`,
		`{"name":"default","bypass":{},"match":{},"exempt":[],"cors":{},"pages":{},"read_only":{}}`,
		`{"name":"default","bypass":{"ips":[],"claims":[],"principals":[]}}`,
		`{"name":"default"}`,
	} {
		if a := r.call("PUT /api/v1/apps/default", operatorToken, spec, anyState); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", spec, a.status, a.body)
		}

		a, _ := r.sync(maintenance.Version{}, 0)
		if _, err := maintenance.Parse([]byte(a.body)); err != nil {
			t.Errorf("%s: %v", spec, err)
		}

		a = r.call("GET /api/v1/apps/default", operatorToken, "")
		before := r.version()
		if a := r.call("PUT /api/v1/apps/default", operatorToken, a.body, "If-Match: "+a.header.Get("ETag")); a.status != http.StatusOK || r.version() != before {
			t.Errorf("%s: what was read cannot be written back unchanged: %d %s", spec, a.status, a.body)
		}
	}
}
