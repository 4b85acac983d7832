package cli

import (
	"reflect"
	"testing"
)

func TestParseClaimsBuildsAPayload(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want map[string]any
	}{
		{nil, nil},
		{[]string{"iss=https://idp.example.com", "admin=true", "level=3"}, map[string]any{"iss": "https://idp.example.com", "admin": true, "level": 3.0}},
		{[]string{"realm_access.roles=user", "realm_access.roles=admin"}, map[string]any{"realm_access": map[string]any{"roles": []any{"user", "admin"}}}},
		{[]string{`groups=["a","b"]`}, map[string]any{"groups": []any{"a", "b"}}},
		{[]string{"https://example.com/roles=x"}, map[string]any{"https://example.com/roles": "x"}},
		{[]string{"empty="}, map[string]any{"empty": ""}},
	} {
		if got, err := parseClaims(c.in); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %v, %v; want %v", c.in, got, err, c.want)
		}
	}

	for _, in := range [][]string{{"x"}, {"=x"}, {"a=1", "a.b=2"}} {
		if got, err := parseClaims(in); exitCode(err) != exitUsage {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}
