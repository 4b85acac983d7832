package cli

import (
	"reflect"
	"testing"
)

// Each value of the flag --claim of the command explain is one element of claims. Together they
// describe the payload of a JWT.
func TestParseClaimsBuildsAPayload(t *testing.T) {
	type object = map[string]any
	for _, c := range []struct {
		name   string
		claims []string
		want   object
	}{
		{"no claims, no token", nil, nil},
		{"values are JSON or strings", []string{"iss=https://idp.example.com", "admin=true", "level=3"},
			object{"iss": "https://idp.example.com", "admin": true, "level": 3.0}},
		{"a dot leads into an object, and a repeated claim is a list", []string{"realm_access.roles=user", "realm_access.roles=admin"},
			object{"realm_access": object{"roles": []any{"user", "admin"}}}},
		{"a list as JSON", []string{`groups=["a","b"]`}, object{"groups": []any{"a", "b"}}},
		{"a name with a slash is not split", []string{"https://example.com/roles=x"}, object{"https://example.com/roles": "x"}},
		{"an empty string", []string{"empty="}, object{"empty": ""}},
	} {
		if got, err := parseClaims(c.claims); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q: %v, %v; want %v", c.name, c.claims, got, err, c.want)
		}
	}
}

func TestParseClaimsRefusesInvalidClaims(t *testing.T) {
	for _, c := range []struct {
		name   string
		claims []string
	}{
		{"no value", []string{"x"}},
		{"no name", []string{"=x"}},
		{"a claim both with a value and with claims in it", []string{"a=1", "a.b=2"}},
	} {
		if got, err := parseClaims(c.claims); exitCode(err) != exitUsage {
			t.Errorf("%s: %q: %v, %v; want a usage error", c.name, c.claims, got, err)
		}
	}
}
