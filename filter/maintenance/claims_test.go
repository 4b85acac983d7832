package maintenance_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests bypasses by the claims of a token. In Envoy, the filter jwt_authn verifies a
// token and puts its payload into the metadata of the request, as a google.protobuf.Value. An
// issuer, iss, is who made the token, and an audience, aud, is who it is for (RFC 7519 section
// 4.1).

// mustMarshalClaims returns the payload of a token as it is in Envoy's metadata.
func mustMarshalClaims(t testing.TB, payload any) maintenance.Claims {
	t.Helper()
	v, err := structpb.NewValue(payload)
	if err != nil {
		t.Fatal(err)
	}

	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}

	return maintenance.Claims(data)
}

// The following functions write protobuf by hand, to build payloads that no library writes. The
// numbers of fields are those in struct.proto, and in Envoy's Metadata: in a Value, 1 is null, 2 a
// number, 3 a string, 4 a boolean, 5 an object and 6 a list. In a list, 1 is an item. In an object,
// 1 is a member, whose name is 1 and whose value is 2.

// bytesField returns a field that has a length and as many bytes.
func bytesField(number protowire.Number, data string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), data))
}

// varintField returns a field whose data is a number.
func varintField(number protowire.Number, n uint64) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n))
}

// stringValue and objectValue return a serialised Value. mapItem returns a member of an object, or
// an entry of Envoy's Metadata.
func stringValue(s string) string          { return bytesField(3, s) }
func objectValue(members ...string) string { return bytesField(5, strings.Join(members, "")) }
func mapItem(name, value string) string {
	return bytesField(1, bytesField(1, name)+bytesField(2, value))
}

// TestAllowlistedClaimsBypass checks which tokens a claim rule lets pass. A value of a rule is
// compared with the claim, and with the elements of a claim that is a list, and must be of the same
// type.
func TestAllowlistedClaimsBypass(t *testing.T) {
	const idp = "https://idp.example.com"
	for _, c := range []struct {
		name   string
		rule   string         // JSON; in some cases two rules
		claims map[string]any // nil for a request without a token
		passes bool
	}{
		{"the string that the rule lists", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "role": "admin"}, true},
		{"another string", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "role": "user"}, false},
		{"the string in other letter case", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "role": "Admin"}, false},
		{"a string that begins with the listed one", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "role": "administrator"}, false},
		{"a string of several words, one of which is listed", `{"issuer":"https://idp.example.com","claim":["scope"],"values":["ops"]}`, map[string]any{"iss": idp, "scope": "read ops"}, false},
		{"a list that contains the listed string", `{"issuer":"https://idp.example.com","claim":["roles"],"values":["admin"]}`, map[string]any{"iss": idp, "roles": []any{"user", "admin"}}, true},
		{"a list of only the listed string", `{"issuer":"https://idp.example.com","claim":["roles"],"values":["admin"]}`, map[string]any{"iss": idp, "roles": []any{"admin"}}, true},
		{"a list without the listed string", `{"issuer":"https://idp.example.com","claim":["roles"],"values":["admin"]}`, map[string]any{"iss": idp, "roles": []any{"user", "adm", "in"}}, false},
		{"empty list", `{"issuer":"https://idp.example.com","claim":["roles"],"values":["admin"]}`, map[string]any{"iss": idp, "roles": []any{}}, false},
		{"the second of two listed strings", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin","ops"]}`, map[string]any{"iss": idp, "role": "ops"}, true},
		{"the second of two listed strings, in a list", `{"issuer":"https://idp.example.com","claim":["roles"],"values":["admin","ops"]}`, map[string]any{"iss": idp, "roles": []any{"x", "ops"}}, true},
		{"a claim inside an object", `{"issuer":"https://idp.example.com","claim":["realm_access","roles"],"values":["admin"]}`, map[string]any{"iss": idp, "realm_access": map[string]any{"roles": []any{"x", "admin"}}}, true},
		{"a claim that should be inside an object, at the top", `{"issuer":"https://idp.example.com","claim":["realm_access","roles"],"values":["admin"]}`, map[string]any{"iss": idp, "roles": []any{"admin"}}, false},
		{"the listed number", `{"issuer":"https://idp.example.com","claim":["level"],"values":[3]}`, map[string]any{"iss": idp, "level": 3}, true},
		{"another number", `{"issuer":"https://idp.example.com","claim":["level"],"values":[3]}`, map[string]any{"iss": idp, "level": 30}, false},
		{"number in a list", `{"issuer":"https://idp.example.com","claim":["levels"],"values":[1.5]}`, map[string]any{"iss": idp, "levels": []any{1, 1.5}}, true},
		{"the listed number as a string", `{"issuer":"https://idp.example.com","claim":["level"],"values":[3]}`, map[string]any{"iss": idp, "level": "3"}, false},
		{"the listed string as a number", `{"issuer":"https://idp.example.com","claim":["level"],"values":["3"]}`, map[string]any{"iss": idp, "level": 3}, false},
		{"true, which is listed", `{"issuer":"https://idp.example.com","claim":["staff"],"values":[true]}`, map[string]any{"iss": idp, "staff": true}, true},
		{"false, where true is listed", `{"issuer":"https://idp.example.com","claim":["staff"],"values":[true]}`, map[string]any{"iss": idp, "staff": false}, false},
		{"true as a string", `{"issuer":"https://idp.example.com","claim":["staff"],"values":[true]}`, map[string]any{"iss": idp, "staff": "true"}, false},
		{"true wanted as a string", `{"issuer":"https://idp.example.com","claim":["staff"],"values":["true"]}`, map[string]any{"iss": idp, "staff": true}, false},
		{"list of bools", `{"issuer":"https://idp.example.com","claim":["flags"],"values":[true]}`, map[string]any{"iss": idp, "flags": []any{false, true}}, true},
		{"true, and the byte of it as a string", `{"issuer":"https://idp.example.com","claim":["c"],"values":[true]}`, map[string]any{"iss": idp, "c": "\x01"}, false},
		{"false, and the byte of it as a string", `{"issuer":"https://idp.example.com","claim":["c"],"values":[false]}`, map[string]any{"iss": idp, "c": "\x00"}, false},
		{"false, which is listed", `{"issuer":"https://idp.example.com","claim":["c"],"values":[false]}`, map[string]any{"iss": idp, "c": false}, true},
		{"true, and 1", `{"issuer":"https://idp.example.com","claim":["c"],"values":[true]}`, map[string]any{"iss": idp, "c": 1}, false},
		{"1, and true", `{"issuer":"https://idp.example.com","claim":["c"],"values":[1]}`, map[string]any{"iss": idp, "c": true}, false},
		{"a number, and its bytes as a string", `{"issuer":"https://idp.example.com","claim":["c"],"values":[7]}`, map[string]any{"iss": idp, "c": "\x00\x00\x00\x00\x00\x00\x1c\x40"}, false},
		{"a number, and its text", `{"issuer":"https://idp.example.com","claim":["c"],"values":[7]}`, map[string]any{"iss": idp, "c": "7"}, false},
		{"a number, and one beside it", `{"issuer":"https://idp.example.com","claim":["c"],"values":[7]}`, map[string]any{"iss": idp, "c": 7.000000000000001}, false},
		{"a number, and none", `{"issuer":"https://idp.example.com","claim":["c"],"values":[0]}`, map[string]any{"iss": idp, "c": ""}, false},
		{"zero, and minus zero", `{"issuer":"https://idp.example.com","claim":["c"],"values":[0]}`, map[string]any{"iss": idp, "c": math.Copysign(0, -1)}, true},
		{"minus zero, and zero", `{"issuer":"https://idp.example.com","claim":["c"],"values":[-0]}`, map[string]any{"iss": idp, "c": 0}, true},
		{"a negative number", `{"issuer":"https://idp.example.com","claim":["c"],"values":[-7]}`, map[string]any{"iss": idp, "c": -7}, true},
		{"the largest exact number", `{"issuer":"https://idp.example.com","claim":["c"],"values":[9007199254740991]}`, map[string]any{"iss": idp, "c": 9007199254740991}, true},
		{"a string, and an object with it as a key", `{"issuer":"https://idp.example.com","claim":["c"],"values":["admin"]}`, map[string]any{"iss": idp, "c": map[string]any{"admin": ""}}, false},
		{"a string, and an object with it as a value", `{"issuer":"https://idp.example.com","claim":["c"],"values":["admin"]}`, map[string]any{"iss": idp, "c": map[string]any{"x": "admin"}}, false},
		{"a string, and a text that looks like a list in proxy-wasm", `{"issuer":"https://idp.example.com","claim":["c"],"values":["admin"]}`, map[string]any{"iss": idp, "c": "\x01\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00admin\x00\x00"}, false},
		{"a string, and a text that looks like it in protobuf", `{"issuer":"https://idp.example.com","claim":["c"],"values":["admin"]}`, map[string]any{"iss": idp, "c": "\x1a\x05admin"}, false},
		{"a string, and a text that looks like a list in protobuf", `{"issuer":"https://idp.example.com","claim":["c"],"values":["admin"]}`, map[string]any{"iss": idp, "c": "2\t\n\x07\x1a\x05admin"}, false},
		{"a string, and a text that goes on behind a NUL", `{"issuer":"https://idp.example.com","claim":["c"],"values":["admin"]}`, map[string]any{"iss": idp, "c": "admin\x00"}, false},
		{"null", `{"issuer":"https://idp.example.com","claim":["c"],"values":["null",false,0,""]}`, map[string]any{"iss": idp, "c": nil}, false},
		{"null in a list", `{"issuer":"https://idp.example.com","claim":["c"],"values":["null",false,0,""]}`, map[string]any{"iss": idp, "c": []any{nil}}, false},
		{"a value beside null in a list", `{"issuer":"https://idp.example.com","claim":["c"],"values":["admin"]}`, map[string]any{"iss": idp, "c": []any{nil, "admin"}}, true},
		{"a value beside an object in a list", `{"issuer":"https://idp.example.com","claim":["c"],"values":["admin"]}`, map[string]any{"iss": idp, "c": []any{map[string]any{"admin": true}, []any{}, "admin"}}, true},
		{"an object in a list", `{"issuer":"https://idp.example.com","claim":["c"],"values":["admin"]}`, map[string]any{"iss": idp, "c": []any{map[string]any{"admin": "admin"}}}, false},
		{"a list in a list", `{"issuer":"https://idp.example.com","claim":["c"],"values":["admin"]}`, map[string]any{"iss": idp, "c": []any{[]any{"admin"}}}, false},
		{"list of bools, and a byte as a string", `{"issuer":"https://idp.example.com","claim":["c"],"values":[true]}`, map[string]any{"iss": idp, "c": []any{"\x01", 1}}, false},
		{"a string beyond ASCII", `{"issuer":"https://idp.example.com","claim":["c"],"values":["é€😀"]}`, map[string]any{"iss": idp, "c": "é€😀"}, true},
		{"a long string", `{"issuer":"https://idp.example.com","claim":["c"],"values":["` + strings.Repeat("x", 300) + `"]}`, map[string]any{"iss": idp, "c": strings.Repeat("x", 300)}, true},
		{"a long string, and a longer one", `{"issuer":"https://idp.example.com","claim":["c"],"values":["` + strings.Repeat("x", 300) + `"]}`, map[string]any{"iss": idp, "c": strings.Repeat("x", 301)}, false},

		{"presence", `{"issuer":"https://idp.example.com","claim":["staff"]}`, map[string]any{"iss": idp, "staff": "x"}, true},
		{"presence of what is false", `{"issuer":"https://idp.example.com","claim":["staff"]}`, map[string]any{"iss": idp, "staff": false}, true},
		{"presence of an empty string", `{"issuer":"https://idp.example.com","claim":["staff"]}`, map[string]any{"iss": idp, "staff": ""}, true},
		{"presence of an empty list", `{"issuer":"https://idp.example.com","claim":["staff"]}`, map[string]any{"iss": idp, "staff": []any{}}, true},
		{"presence of an object", `{"issuer":"https://idp.example.com","claim":["staff"]}`, map[string]any{"iss": idp, "staff": map[string]any{"x": nil}}, true},
		{"presence of null", `{"issuer":"https://idp.example.com","claim":["staff"]}`, map[string]any{"iss": idp, "staff": nil}, false},
		{"a path through a list", `{"issuer":"https://idp.example.com","claim":["staff","0"]}`, map[string]any{"iss": idp, "staff": []any{"x"}}, false},
		{"a path through a list of objects", `{"issuer":"https://idp.example.com","claim":["staff","x"]}`, map[string]any{"iss": idp, "staff": []any{map[string]any{"x": 1}}}, false},
		{"a path through a string", `{"issuer":"https://idp.example.com","claim":["staff","x"]}`, map[string]any{"iss": idp, "staff": "x"}, false},
		{"a path through null", `{"issuer":"https://idp.example.com","claim":["staff","x"]}`, map[string]any{"iss": idp, "staff": nil}, false},
		{"a path through nothing", `{"issuer":"https://idp.example.com","claim":["staff","iss"]}`, map[string]any{"iss": idp}, false},
		{"a name with a dot", `{"issuer":"https://idp.example.com","claim":["https://example.com/roles"],"values":["admin"]}`, map[string]any{"iss": idp, "https://example.com/roles": "admin"}, true},
		{"a name with a dot is not a path", `{"issuer":"https://idp.example.com","claim":["a","b"]}`, map[string]any{"iss": idp, "a.b": "x"}, false},
		{"a name with a NUL", `{"issuer":"https://idp.example.com","claim":["a","b"]}`, map[string]any{"iss": idp, "a\x00b": "x"}, false},
		{"absence", `{"issuer":"https://idp.example.com","claim":["staff"]}`, map[string]any{"iss": idp}, false},
		{"any token of the issuer", `{"issuer":"https://idp.example.com"}`, map[string]any{"iss": idp}, true},
		{"empty string", `{"issuer":"https://idp.example.com","claim":["role"],"values":[""]}`, map[string]any{"iss": idp, "role": ""}, true},

		{"no token", `{"issuer":"https://idp.example.com"}`, nil, false},
		{"another issuer", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": "https://evil.example.com", "role": "admin"}, false},
		{"an issuer that begins alike", `{"issuer":"https://idp.example.com"}`, map[string]any{"iss": idp + ".evil.example.com"}, false},
		{"issuers in a list", `{"issuer":"https://idp.example.com"}`, map[string]any{"iss": []any{idp}}, false},
		{"an issuer in an object", `{"issuer":"https://idp.example.com"}`, map[string]any{"iss": map[string]any{idp: ""}}, false},
		{"an issuer that is null", `{"issuer":"https://idp.example.com"}`, map[string]any{"iss": nil}, false},
		{"no issuer", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"role": "admin"}, false},

		{"audience", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": "shop"}, true},
		{"one of the audiences", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": []any{"other", "shop"}}, true},
		{"another audience", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": "shop2"}, false},
		{"audiences that are not all strings", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": []any{"shop", 7}}, false},
		{"an audience beside null", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": []any{nil, "shop"}}, false},
		{"an audience as a key", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": map[string]any{"shop": ""}}, false},
		{"an audience in a list in a list", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": []any{[]any{"shop"}}}, false},
		{"a number for an audience", `{"issuer":"https://idp.example.com","audience":"7"}`, map[string]any{"iss": idp, "aud": 7}, false},
		{"no audiences", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": []any{}}, false},
		{"no audience", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp}, false},
		{"audience, but not the claim", `{"issuer":"https://idp.example.com","audience":"shop","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "aud": "shop", "role": "user"}, false},

		{"the second rule", `{"issuer":"https://other.example.com"},{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "role": "admin"}, true},
		{"half of one rule and half of another", `{"issuer":"https://other.example.com","claim":["role"],"values":["admin"]},{"issuer":"https://idp.example.com","claim":["role"],"values":["root"]}`, map[string]any{"iss": idp, "role": "admin"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := noAccessState(t, `"bypass":{"claims":[`+c.rule+`]}`)
			r := get("h", "/")
			if c.claims != nil {
				r.Attributes = &attributes{claims: mustMarshalClaims(t, c.claims)}
			}

			d := s.Decide(r, noon)
			if c.passes != (d.Verdict == maintenance.Pass && d.Rule == maintenance.RuleBypassClaim) {
				t.Errorf("%v by %s", d.Verdict, d.Rule)
			}
		})
	}
}

// TestMalformedClaimsGrantNothing checks that no claim of a payload counts if Envoy could not have
// written the payload, wherever in it the fault is. The rules ask for the claim role, and for the
// mere presence of the claim here.
func TestMalformedClaimsGrantNothing(t *testing.T) {
	s := noAccessState(t, `"bypass":{"claims":[{"issuer":"i","claim":["role"],"values":["admin",true,7]},{"issuer":"i","claim":["here"]}]}`)
	iss, role := mapItem("iss", stringValue("i")), mapItem("role", stringValue("admin"))
	good := objectValue(iss, role)
	// nested returns a payload with a null inside as many lists. The payload itself, an object, is
	// one more level. The core reads payloads of up to 128 levels.
	nested := func(depth int) string {
		v := varintField(1, 0)
		for range depth {
			v = bytesField(6, bytesField(1, v))
		}

		return objectValue(iss, role, mapItem("x", v))
	}
	// overlong writes the length of a field, which must fit in one byte, in two.
	overlong := func(s string) string { return s[:1] + string([]byte{s[1] | 0x80, 0}) + s[2:] }

	for _, c := range []struct {
		name, payload string
		passes        bool
	}{
		{"well formed", good, true},
		{"well formed, the other way round", objectValue(role, iss), true},
		{"well formed, with everything", objectValue(iss, role, mapItem("n", varintField(1, 0)), mapItem("d", "\x11\x00\x00\x00\x00\x00\x00\xf0\x7f"),
			mapItem("b", varintField(4, 0)), mapItem("o", objectValue()), mapItem("l", bytesField(6, "")), mapItem("", stringValue(""))), true},
		{"nested as deep as is read", nested(127), true},

		{"empty", "", false},
		{"a string", stringValue("admin"), false},
		{"a list", bytesField(6, bytesField(1, good)), false},
		{"a Struct that is not in a Value", iss + role, false},
		{"the last byte is missing", good[:len(good)-1], false},
		{"a byte behind the payload", good + "\x00", false},
		{"two objects", good + good, false},
		{"an object behind a null", varintField(1, 0) + good, false},
		{"nested too deep", nested(128), false},
		{"nested far too deep", nested(5000), false},

		{"the issuer twice", objectValue(iss, iss, role), false},
		{"another issuer before", objectValue(mapItem("iss", stringValue("j")), iss, role), false},
		{"another issuer behind", objectValue(iss, role, mapItem("iss", stringValue("j"))), false},
		{"the claim twice", objectValue(iss, role, role), false},
		{"another claim before", objectValue(iss, mapItem("role", stringValue("user")), role), false},
		{"another claim behind", objectValue(iss, role, mapItem("role", stringValue("user"))), false},
		{"the claim twice, once as null", objectValue(iss, role, mapItem("role", varintField(1, 0))), false},

		{"a value of two kinds", objectValue(iss, mapItem("role", stringValue("user")+stringValue("admin"))), false},
		{"a value of no kind", objectValue(iss, role, mapItem("x", "")), false},
		{"presence of a value of no kind", objectValue(iss, mapItem("here", "")), false},
		{"a value of an unknown kind", objectValue(iss, role, mapItem("x", bytesField(7, "x"))), false},
		{"a string as a varint", objectValue(iss, role, mapItem("x", varintField(3, 5))), false},
		{"a string as 8 bytes", objectValue(iss, role, mapItem("x", "\x19admin\x00\x00\x00")), false},
		{"a number of 7 bytes", objectValue(iss, role, mapItem("x", "\x11\x00\x00\x00\x00\x00\x1c\x40")), false},
		{"a number of 9 bytes", objectValue(iss, role, mapItem("x", "\x11\x00\x00\x00\x00\x00\x00\x1c\x40\x00")), false},
		{"a number as a varint", objectValue(iss, mapItem("role", varintField(2, 7))), false},
		{"a number as text", objectValue(iss, role, mapItem("x", bytesField(2, "7"))), false},
		{"a bool of 2", objectValue(iss, mapItem("role", varintField(4, 2))), false},
		{"an overlong bool", objectValue(iss, mapItem("role", "\x20\x81\x00")), false},
		{"a bool as text", objectValue(iss, role, mapItem("x", bytesField(4, "\x01"))), false},
		{"a null of 1", objectValue(iss, role, mapItem("x", varintField(1, 1))), false},
		{"an overlong length", objectValue(iss, mapItem("role", overlong(stringValue("admin")))), false},
		{"a length that never ends", objectValue(iss, role, mapItem("x", "\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x")), false},
		{"a length past the end", objectValue(iss, role, mapItem("x", "\x1a\x06admin")), false},
		{"the largest length", objectValue(iss, role, mapItem("x", "\x1a\xff\xff\xff\xff\x0fadmin")), false},
		{"an overlong tag", objectValue(iss, role, mapItem("x", "\x9a\x00\x05admin")), false},
		{"a group", objectValue(iss, role, "\x0b\x0c"), false},

		{"a string that is not UTF-8", objectValue(iss, role, mapItem("x", stringValue("\xff"))), false},
		{"presence of a string that is not UTF-8", objectValue(iss, mapItem("here", stringValue("a\xc0\xaf"))), false},
		{"a surrogate", objectValue(iss, role, mapItem("x", stringValue("\xed\xa0\x80"))), false},
		{"a name that is not UTF-8", objectValue(iss, role, mapItem("\xff", stringValue("x"))), false},
		{"deep in a list, a string that is not UTF-8", objectValue(iss, role, mapItem("x", bytesField(6, bytesField(1, objectValue(mapItem("y", stringValue("\xff"))))))), false},

		{"a member without a name", objectValue(iss, role, bytesField(1, bytesField(2, stringValue("x")))), false},
		{"a member without a value", objectValue(iss, role, bytesField(1, bytesField(1, "x"))), false},
		{"a member with two names", objectValue(iss, bytesField(1, bytesField(1, "x")+bytesField(1, "role")+bytesField(2, stringValue("admin")))), false},
		{"a member with two values", objectValue(iss, bytesField(1, bytesField(1, "role")+bytesField(2, stringValue("user"))+bytesField(2, stringValue("admin")))), false},
		{"a member with more", objectValue(iss, bytesField(1, bytesField(1, "role")+bytesField(2, stringValue("admin"))+bytesField(3, "x"))), false},
		{"an object with another field", objectValue(iss, role, bytesField(2, "x")), false},
		{"a list with another field", objectValue(iss, role, mapItem("x", bytesField(6, bytesField(2, stringValue("x"))))), false},
		{"a list that is cut", objectValue(iss, role, mapItem("x", bytesField(6, "\x0a\x07\x1a\x05admi"))), false},
		{"an item of no kind", objectValue(iss, role, mapItem("x", bytesField(6, bytesField(1, "")))), false},
	} {
		r := get("h", "/")
		r.Attributes = &attributes{claims: maintenance.Claims(c.payload)}
		if d := s.Decide(r, noon); c.passes != (d.Verdict == maintenance.Pass) {
			t.Errorf("%s (%q): %v", c.name, c.payload, d.Verdict)
		}
	}
}

// TestClaimsAreFoundInTheMetadata checks that claims are found among the metadata of all filters,
// by a path: the namespace of a filter, and keys below it. The plugin configuration has this path.
func TestClaimsAreFoundInTheMetadata(t *testing.T) {
	payload := objectValue(mapItem("iss", stringValue("i")))
	other := bytesField(1, bytesField(1, "other")+bytesField(2, mapItem("payload", objectValue(mapItem("iss", stringValue("j"))))))
	jwt := bytesField(1, bytesField(1, "jwt")+bytesField(2, mapItem("header", stringValue("x"))+mapItem("payload", payload)))
	// Metadata has a second map, of typed metadata, which must not be taken for the first.
	typed := bytesField(2, bytesField(1, "jwt")+bytesField(2, "any"))

	for _, c := range []struct {
		name     string
		metadata string
		path     string // with blanks between its parts
		want     string // "" if there are no claims
	}{
		{"no other metadata", jwt, "jwt payload", payload},
		{"metadata of other filters", other + typed + jwt + other + typed, "jwt payload", payload},
		{"beside a field of a later Envoy", bytesField(3, "x") + jwt, "jwt payload", payload},
		{"claims one level deeper", bytesField(1, bytesField(1, "jwt")+bytesField(2, mapItem("a", objectValue(mapItem("b", payload))))), "jwt a b", payload},
		{"a string, in which no claim will be found", jwt, "jwt header", stringValue("x")},

		{"no metadata", "", "jwt payload", ""},
		{"no such namespace", other + typed, "jwt payload", ""},
		{"no such key", jwt, "jwt claims", ""},
		{"a key below a string", jwt, "jwt header x", ""},
		{"a key below the claims that is not there", jwt, "jwt payload x", ""},
		{"the namespace twice", jwt + jwt, "jwt payload", ""},
		{"the namespace twice, once empty", bytesField(1, bytesField(1, "jwt")+bytesField(2, "")) + jwt, "jwt payload", ""},
		{"the key twice", bytesField(1, bytesField(1, "jwt")+bytesField(2, mapItem("payload", payload)+mapItem("payload", payload))), "jwt payload", ""},
		{"a key twice on the way", bytesField(1, bytesField(1, "jwt")+bytesField(2, mapItem("a", objectValue())+mapItem("a", objectValue(mapItem("b", payload))))), "jwt a b", ""},
		{"the last byte is missing", jwt[:len(jwt)-1], "jwt payload", ""},
		{"a byte behind the metadata", jwt + "\x0a", "jwt payload", ""},
		{"an entry as a varint", varintField(1, 7) + jwt, "jwt payload", ""},
	} {
		if got := maintenance.MetadataClaims([]byte(c.metadata), strings.Fields(c.path)); string(got) != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// In the filter, reading the claims is a host call that copies the token, so it happens at most
// once for a request, and only if a rule needs the claims.
func TestClaimsAreReadAtMostOnce(t *testing.T) {
	rules := `"bypass":{"ips":["192.0.2.1"],"claims":[{"issuer":"i","claim":["a"]},{"issuer":"i","claim":["b"]},{"issuer":"j"}]}`
	s := mustParse(t, `{"apps":[{"name":"default",`+rules+`,`+activationJSON(maintenance.ReadOnly)+`},{"name":"a","match":{"paths":["/a"]},`+rules+`,`+activationJSON(maintenance.ReadOnly)+`},{"name":"b","match":{"paths":["/b"]},`+activationJSON(maintenance.NoAccess)+`}]}`)

	for _, c := range []struct {
		name   string
		r      *maintenance.Request
		source string
		reads  int
	}{
		{"no claim rule", get("h", "/b"), "", 0},
		{"the address is enough", get("h", "/"), "192.0.2.1:1", 0},
		{"three rules", get("h", "/"), "", 1},
		{"two apps with three rules each", get("h", "/a%2f..%2f"), "", 1},
		{"once by the headers and once by the body", request("POST", "h", "/graphql", "content-type", "application/json"), "", 1},
	} {
		attributes := &attributes{source: c.source, claims: mustMarshalClaims(t, map[string]any{"iss": "i"})}
		c.r.Attributes = attributes
		if c.r.Method == "POST" {
			c.r.EndStream, c.r.Body = false, []byte(`{"query":"{a}"}`)
		}

		decideWithBody(t, s, c.r)

		if attributes.claimsCalls != c.reads {
			t.Errorf("%s: the claims are read %d times, want %d", c.name, attributes.claimsCalls, c.reads)
		}
	}
}

// A paused request keeps the claims that were read, and counts their bytes.
func TestCompactCountsTheClaims(t *testing.T) {
	s := mustParse(t, `{"apps":[{"name":"default","bypass":{"claims":[{"issuer":"i","claim":["a"],"values":[1]}]},`+activationJSON(maintenance.ReadOnly)+`}]}`)
	// pause decides on a request, compacts it, and decides again. It returns the number of bytes
	// that the paused request keeps, and how often its claims were read.
	pause := func(claims maintenance.Claims) (bytes, reads int) {
		attributes := &attributes{claims: claims}
		r := request("POST", "h", "/graphql", "content-type", "application/json")
		r.EndStream, r.Attributes = false, attributes

		if d := s.Decide(r, noon); d.Verdict != maintenance.NeedBody {
			t.Fatalf("%v by %s", d.Verdict, d.Rule)
		}

		bytes = r.Compact()

		r.Body, r.BodyRead = []byte(`{"query":"{a}"}`), true
		if d := s.Decide(r, noon); d.Verdict != maintenance.Pass {
			t.Fatalf("%v by %s", d.Verdict, d.Rule)
		}

		return bytes, attributes.claimsCalls
	}

	without, _ := pause("")
	with, reads := pause(mustMarshalClaims(t, map[string]any{"iss": "i", "a": strings.Repeat("x", 1000)}))
	if with < without+1000 || reads != 1 {
		t.Errorf("%d bytes are kept with claims and %d without; they were read %d times", with, without, reads)
	}
}

// claimRules are the rules of the tests below, which compare the reader of claims with the protobuf
// library.
const claimRules = `"bypass":{"claims":[{"issuer":"i","audience":"a","claim":["o","c"],"values":["admin",true,7,0]},{"issuer":"j","claim":["p"]}]}`

// satisfiesClaimRules reports whether a payload satisfies claimRules. It shares no code with the
// core, and takes the payload as encoding/json would decode it.
func satisfiesClaimRules(payload any) bool {
	all, _ := payload.(map[string]any)
	switch all["iss"] {
	case "i":
		audiences, isList := all["aud"].([]any)
		if isList {
			for _, a := range audiences {
				if _, isString := a.(string); !isString {
					return false
				}
			}
		}

		if all["aud"] != "a" && !slices.Contains(audiences, "a") {
			return false
		}

		o, _ := all["o"].(map[string]any)
		items, isList := o["c"].([]any)
		if !isList {
			items = []any{o["c"]}
		}

		return slices.ContainsFunc(items, func(v any) bool { return v == "admin" || v == true || v == 7.0 || v == 0.0 })
	case "j":
		return all["p"] != nil
	}

	return false
}

// checkMetadataPasses reports whether metadata let a request pass the state s, which has
// claimRules. It checks the result by means of the protobuf library: metadata that pass must be
// valid protobuf and satisfy claimRules, and what the library makes of them must pass exactly if it
// satisfies claimRules.
func checkMetadataPasses(t *testing.T, s *maintenance.State, metadata []byte) (passes bool) {
	t.Helper()
	passesWith := func(claims maintenance.Claims) bool {
		r := get("h", "/")
		r.Attributes = &attributes{claims: claims}
		return s.Decide(r, noon).Verdict == maintenance.Pass
	}

	payload := maintenance.MetadataClaims(metadata, []string{"jwt", "payload"})
	passes = passesWith(payload)

	var v structpb.Value

	if err := proto.Unmarshal([]byte(payload), &v); err != nil {
		if passes {
			t.Fatalf("%q passes: %v", metadata, err)
		}
		return false
	}

	holds := satisfiesClaimRules(v.AsInterface())
	if passes && !holds {
		t.Fatalf("%q passes, but %v does not satisfy the rules", metadata, &v)
	}
	if passes && !bytes.Contains(metadata, []byte(payload)) {
		t.Fatalf("%q passes by the payload %q, which it does not contain", metadata, payload)
	}
	if isReadable(&v) {
		if got := passesWith(mustMarshalClaims(t, v.AsInterface())); got != holds {
			t.Fatalf("%v passes: %v, want %v", &v, got, holds)
		}
	}

	return passes
}

// isReadable reports whether every value in v has a kind, and none is nested more deeply than the
// core surely reads.
func isReadable(v *structpb.Value) bool { return isReadableTo(v, 100) }

func isReadableTo(v *structpb.Value, depth int) bool {
	if depth == 0 || v.GetKind() == nil {
		return false
	}

	for _, m := range v.GetStructValue().GetFields() {
		if !isReadableTo(m, depth-1) {
			return false
		}
	}

	for _, item := range v.GetListValue().GetValues() {
		if !isReadableTo(item, depth-1) {
			return false
		}
	}

	return true
}

// metadataSeeds returns metadata that pass, and others that nearly pass.
func metadataSeeds(t testing.TB) (seeds [][]byte) {
	for _, payload := range []map[string]any{
		{"iss": "i", "aud": "a", "o": map[string]any{"c": "admin"}},
		{"iss": "i", "aud": []any{"b", "a"}, "o": map[string]any{"c": []any{nil, map[string]any{}, "admin"}}},
		{"iss": "i", "aud": "a", "o": map[string]any{"c": true}},
		{"iss": "i", "aud": "a", "o": map[string]any{"c": 7}},
		{"iss": "i", "aud": "a", "o": map[string]any{"c": []any{0}}},
		{"iss": "j", "p": false},
		{"iss": "i", "aud": "a", "o": map[string]any{"c": "\x01"}},
		{"iss": "i", "aud": "a", "o": map[string]any{"c": "\x00\x00\x00\x00\x00\x00\x1c\x40"}},
		{"iss": "i", "aud": "a", "o": map[string]any{"c": map[string]any{"admin": ""}}},
		{"iss": "i", "aud": map[string]any{"a": ""}, "o": map[string]any{"c": true}},
		{"iss": "j", "p": nil},
	} {
		jwt := bytesField(1, bytesField(1, "jwt")+bytesField(2, mapItem("payload", string(mustMarshalClaims(t, payload)))))
		seeds = append(seeds, []byte(jwt+bytesField(2, bytesField(1, "jwt")+bytesField(2, ""))))
	}

	return seeds
}

// FuzzMetadataClaims runs checkMetadataPasses on any metadata.
func FuzzMetadataClaims(f *testing.F) {
	for _, seed := range metadataSeeds(f) {
		f.Add(seed)
	}
	s := noAccessState(f, claimRules)
	f.Fuzz(func(t *testing.T, metadata []byte) { checkMetadataPasses(t, s, metadata) })
}

// TestDamagedMetadataGrantNothingNew runs checkMetadataPasses on metadata in which bytes were
// changed, dropped, or doubled elsewhere, at random.
func TestDamagedMetadataGrantNothingNew(t *testing.T) {
	s := noAccessState(t, claimRules)
	random := rand.New(rand.NewPCG(1, 2))
	seeds, passed := metadataSeeds(t), 0

	for range 100_000 {
		data := slices.Clone(seeds[random.IntN(len(seeds))])
		for range 1 + random.IntN(3) {
			i := random.IntN(len(data))
			j := i + random.IntN(min(len(data)-i, 16))
			switch random.IntN(4) {
			case 0:
				data[i] = byte(random.IntN(256))
			case 1:
				data[i] ^= 1 << random.IntN(8)
			case 2:
				data = slices.Delete(data, i, j)
			case 3:
				data = slices.Insert(data, random.IntN(len(data)), slices.Clone(data[i:j])...)
			}
		}

		if checkMetadataPasses(t, s, data) {
			passed++
		}
	}

	if passed < 1000 {
		t.Errorf("only %d damaged metadata passed, so the test tried too little", passed)
	}
}
