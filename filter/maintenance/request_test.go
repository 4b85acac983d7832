package maintenance_test

import (
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The method, the host and the path come from the pseudo-headers, and not from a header host.
func TestNewRequestReadsPseudoHeaders(t *testing.T) {
	headers := [][2]string{{":method", "POST"}, {":authority", "shop.example.com"}, {":path", "/orders?x"}, {"host", "other"}}
	client := &attributes{}
	r := maintenance.NewRequest(headers, true, client)
	if r.Method != "POST" || r.Authority != "shop.example.com" || r.Path != "/orders?x" || !r.EndStream || r.Attributes != client || len(r.Headers) != len(headers) {
		t.Errorf("%+v", r)
	}
}

// Before there is a state, the filter only reads a body that the decision is likely to need: of a
// POST whose body may be GraphQL or name another method, or of a method with which a body has no
// meaning. A body of more than 1 MiB would not be read anyway.
func TestLikelyNeededBodies(t *testing.T) {
	const json, form, upload = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
	for _, c := range []struct {
		method, contentType, length string
		endStream                   bool // there is no body
		want                        bool
	}{
		{"POST", json, "", false, true},
		{"POST", form, "", false, true},
		{"POST", "application/graphql-response+JSON", "", false, true},
		{"POST", json, "1048576", false, true},
		{"POST", json, "1048577", false, false},
		{"POST", json, "x", false, true},
		{"POST", upload, "", false, false},
		{"POST", "", "", false, false},
		{"PUT", json, "", false, false},
		{"GET", "", "", false, true},
		{"GET", "", "", true, false},
		{"HEAD", "", "2", false, true},
	} {
		r := request(c.method, "h", "/", "content-type", c.contentType, "content-length", c.length)
		r.EndStream = c.endStream

		if got := r.LikelyNeedsBody(); got != c.want {
			t.Errorf("%s of %q, %q bytes: %v, want %v", c.method, c.contentType, c.length, got, c.want)
		}
	}
}
