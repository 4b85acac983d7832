package web

import (
	"net/http"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Lists and objects in a definition may be empty or missing, and each way of that has its own JSON.
// A definition that the API accepts must also be one that a proxy accepts as a part of the state.
// And if a client writes back what it has read, this must not count as a change.
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

		state, _ := r.sync(maintenance.Version{}, 0)
		if _, err := maintenance.Parse([]byte(state.body)); err != nil {
			t.Errorf("%s: a proxy cannot read the state: %v", spec, err)
		}

		read := r.call("GET /api/v1/apps/default", operatorToken, "")
		before := r.version()
		written := r.call("PUT /api/v1/apps/default", operatorToken, read.body, "If-Match: "+read.header.Get("ETag"))
		if written.status != http.StatusOK || r.version() != before {
			t.Errorf("%s: what was read cannot be written back unchanged: %d %s", spec, written.status, written.body)
		}
	}
}

// Weak ETags are valid, but never equal one of ours: If-Match compares strongly (RFC 9110 section
// 13.1.1).
func TestWeakETagsMatchNothing(t *testing.T) {
	r := startRig(t)
	etag := r.call("GET /api/v1/apps/default/bypass/ips", viewerToken, "").header.Get("ETag")

	a := r.call("POST /api/v1/apps/default/bypass/ips", operatorToken, `{"ips":["192.0.2.7"]}`, "If-Match: W/"+etag)
	if a.status != http.StatusPreconditionFailed {
		t.Errorf("a weak ETag: %d, want 412", a.status)
	}
	a = r.call("POST /api/v1/apps/default/bypass/ips", operatorToken, `{"ips":["192.0.2.7"]}`, "If-Match: "+etag)
	if a.status != http.StatusOK {
		t.Errorf("a strong ETag: %d, want 200", a.status)
	}
}
