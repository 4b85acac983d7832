package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Who passes by a claim is who holds a token that Envoy verified, of the issuer that the
// rule names, with a claim of the very type and value. Everybody else is an ordinary user:
// the page in maintenance, the app otherwise, and never a 401.
func TestOnlyVerifiedClaimsOfThePinnedIssuerBypass(t *testing.T) {
	for _, version := range []string{OldestEnvoy, EnvoyVersion} {
		t.Run(version, func(t *testing.T) { testVerifiedClaims(t, version) })
	}
}

func testVerifiedClaims(t *testing.T, version string) {
	staff, customers, foreign := newIssuer(t, "https://sso.example.com"), newIssuer(t, "https://login.example.com"), newIssuer(t, "https://sso.example.com")
	keys := t.TempDir()
	d := deploy(t, deployOptions{bootstrap: "jwt.yaml", version: version, files: map[string]string{
		"envoy/jwks-staff.json": staff.jwks(keys), "envoy/jwks-customers.json": customers.jwks(keys),
	}})
	v := d.visitor("127.0.0.1")
	get := func(token string) int {
		t.Helper()
		if token == "" {
			return v.get("/").Status
		}
		return v.get("/", "Authorization", "Bearer "+token).Status
	}
	admin := claims{"roles": []string{"user", "admin"}}
	right := staff.token(admin)
	unsigned := segment(t, claims{"alg": "none", "typ": "JWT"}) + "." + segment(t, claims{"iss": staff.name, "roles": []string{"admin"}, "exp": time.Now().Add(time.Hour).Unix()}) + "."
	tampered := []byte(right)
	tampered[len(tampered)-10] ^= 1
	tokens := []struct {
		name, token string
		pass        bool
	}{
		{"no token", "", false},
		{"right claim", right, true},
		{"right claim alone", staff.token(claims{"roles": "admin"}), true},
		{"other claim", staff.token(claims{"roles": []string{"user"}}), false},
		{"claim as part of a word", staff.token(claims{"roles": []string{"administrator", "not-admin"}}), false},
		{"claim in one string", staff.token(claims{"roles": "user admin"}), false},
		{"claim deeper", staff.token(claims{"realm": claims{"roles": []string{"admin"}}}), false},
		{"claim as a key", staff.token(claims{"roles": claims{"admin": true}}), false},
		{"claim as a key without a value", staff.token(claims{"roles": claims{"admin": ""}}), false},
		{"claim as the bytes of a list in proxy-wasm", staff.token(claims{"roles": "\x01\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00admin\x00\x00"}), false},
		{"claim as the bytes of protobuf", staff.token(claims{"roles": "\x1a\x05admin"}), false},
		{"claim as the bytes of a list in protobuf", staff.token(claims{"roles": "2\t\n\x07\x1a\x05admin"}), false},
		{"claim in a list in a list", staff.token(claims{"roles": []any{[]string{"admin"}}}), false},
		{"claim twice", staff.sign(fmt.Sprintf(`{"iss":%q,"exp":%d,"roles":"user","roles":"admin"}`, staff.name, time.Now().Add(time.Hour).Unix())), false},
		{"claim beside null", staff.token(claims{"roles": []any{nil, "admin"}}), true},
		{"claim beside much else", staff.token(claims{"roles": []any{claims{"x": nil}, 1, "admin"}, "nothing": nil, "groups": make([]int, 5000)}), true},
		{"no claim", staff.token(nil), false},
		{"right claim, other issuer", customers.token(admin), false},
		{"right claim, other issuer that names ours", customers.token(claims{"iss": staff.name, "roles": []string{"admin"}}), false},
		{"right claim, foreign key", foreign.token(admin), false},
		{"expired", staff.token(claims{"roles": []string{"admin"}, "exp": time.Now().Add(-time.Hour).Unix()}), false},
		{"not yet valid", staff.token(claims{"roles": []string{"admin"}, "nbf": time.Now().Add(time.Hour).Unix()}), false},
		{"alg none", unsigned, false},
		{"tampered", string(tampered), false},
		{"garbage", "garbage", false},
		{"three garbage parts", "a.b.c", false},
	}

	d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{Claims: []maintenance.ClaimRule{
		{Issuer: staff.name, Claim: []string{"roles"}, Values: []any{"admin"}},
	}}})
	for _, tt := range tokens {
		if got := get(tt.token); got != 200 {
			t.Errorf("off, %s: %d, want 200", tt.name, got)
		}
	}
	d.on("default", maintenance.NoAccess, "closed")
	for _, tt := range tokens {
		want := 503
		if tt.pass {
			want = 200
		}
		if got := get(tt.token); got != want {
			t.Errorf("%s: %d, want %d", tt.name, got, want)
		}
	}
	// A token in the URL is not looked at: queries end up in logs.
	if a := v.get("/?access_token=" + right); a.Status != 503 {
		t.Errorf("token in the query: %d, want 503", a.Status)
	}

	// The kinds of claims, and what else a rule may say.
	for _, tt := range []struct {
		name string
		rule maintenance.ClaimRule
		pass []string
		stop []string
	}{
		{"string", maintenance.ClaimRule{Issuer: staff.name, Claim: []string{"dept"}, Values: []any{"ops", "sre"}},
			[]string{staff.token(claims{"dept": "sre"}), staff.token(claims{"dept": []string{"ops"}})},
			[]string{staff.token(claims{"dept": "sales"}), staff.token(claims{"dept": "OPS"}), staff.token(claims{"dept": ""})}},
		{"number", maintenance.ClaimRule{Issuer: staff.name, Claim: []string{"level"}, Values: []any{7}},
			[]string{staff.token(claims{"level": 7}), staff.token(claims{"level": 7.0}), staff.token(claims{"level": []any{nil, 7}})},
			[]string{staff.token(claims{"level": 8}), staff.token(claims{"level": 7.5}), staff.token(claims{"level": true}), staff.token(nil),
				staff.token(claims{"level": "\x00\x00\x00\x00\x00\x00\x1c@"}), staff.token(claims{"level": "7"}), staff.token(claims{"level": claims{"7": 7}}),
				staff.token(claims{"level": "\x01\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x1c@\x00\x00"})}},
		{"bool", maintenance.ClaimRule{Issuer: staff.name, Claim: []string{"oncall"}, Values: []any{true}},
			[]string{staff.token(claims{"oncall": true})},
			[]string{staff.token(claims{"oncall": false}), staff.token(nil), staff.token(claims{"oncall": "\x01"}), staff.token(claims{"oncall": 1}),
				staff.token(claims{"oncall": "true"}), staff.token(claims{"oncall": []string{"\x01"}}), staff.token(claims{"oncall": claims{"\x01": ""}})}},
		{"nested", maintenance.ClaimRule{Issuer: staff.name, Claim: []string{"realm_access", "roles"}, Values: []any{"admin"}},
			[]string{staff.token(claims{"realm_access": claims{"roles": []string{"x", "admin"}}})},
			[]string{staff.token(claims{"realm_access": "admin"}), staff.token(claims{"roles": []string{"admin"}})}},
		{"presence of a claim", maintenance.ClaimRule{Issuer: staff.name, Claim: []string{"badge"}},
			[]string{staff.token(claims{"badge": "x"}), staff.token(claims{"badge": 1}), staff.token(claims{"badge": false}), staff.token(claims{"badge": claims{"color": nil}})},
			[]string{staff.token(nil), staff.token(claims{"badge": nil}), customers.token(claims{"badge": "x"})}},
		{"any token of the issuer: who is signed in passes", maintenance.ClaimRule{Issuer: customers.name},
			[]string{customers.token(nil)},
			[]string{staff.token(nil), ""}},
		{"audience", maintenance.ClaimRule{Issuer: staff.name, Audience: "shop"},
			[]string{staff.token(claims{"aud": "shop"}), staff.token(claims{"aud": []string{"wiki", "shop"}})},
			[]string{staff.token(claims{"aud": "wiki"}), staff.token(nil), customers.token(claims{"aud": "shop"})}},
	} {
		d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{Claims: []maintenance.ClaimRule{tt.rule}}})
		d.awaitEnforced("default")
		for i, token := range tt.pass {
			if got := get(token); got != 200 {
				t.Errorf("%s, token %d that should pass: %d", tt.name, i, got)
			}
		}
		for i, token := range tt.stop {
			if got := get(token); got != 503 {
				t.Errorf("%s, token %d that should not pass: %d", tt.name, i, got)
			}
		}
	}

	// An admin can sign in during no-access: the token endpoint is exempt.
	d.putApp(maintenance.Spec{Name: "default",
		Bypass: maintenance.Bypass{Claims: []maintenance.ClaimRule{{Issuer: staff.name, Claim: []string{"roles"}, Values: []any{"admin"}}}},
		Exempt: []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/echo/token"}}})
	d.awaitEnforced("default")
	if a := v.do("POST", "/echo/token", "grant_type=password", "Content-Type", "application/x-www-form-urlencoded"); a.Status != 200 {
		t.Errorf("POST to the exempt token endpoint: %d, want 200", a.Status)
	}
	if e := v.echo("Authorization", "Bearer "+right); e.Headers.Get("Authorization") != "Bearer "+right || e.Headers.Get("X-Drydock-Bypass") == "" {
		t.Errorf("the app has to see the token and that it passed by it: %v", e.Headers)
	}
}

// A request that came before the first state is judged from another callback than its own.
// Its token counts there as well, by the types of its claims.
func TestClaimsCountInPausedRequests(t *testing.T) {
	staff := newIssuer(t, "https://sso.example.com")
	keys := t.TempDir()
	d := deploy(t, deployOptions{
		bootstrap: "jwt.yaml", withoutEnvoy: true,
		files: map[string]string{"envoy/jwks-staff.json": staff.jwks(keys), "envoy/jwks-customers.json": newIssuer(t, "https://login.example.com").jwks(keys)},
		edit: func(bootstrap map[string]any) {
			data, err := json.Marshal(bootstrap)
			must(t, err)
			patient := strings.Replace(string(data), `\"boot_wait\": 2,`, `\"boot_wait\": 60,`, 1)
			if patient == string(data) {
				t.Fatal("the bootstrap has another boot_wait")
			}
			must(t, json.Unmarshal([]byte(patient), &bootstrap))
		},
	})
	d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{Claims: []maintenance.ClaimRule{
		{Issuer: staff.name, Claim: []string{"oncall"}, Values: []any{true}},
	}}})
	d.api("POST", "/api/v1/apps/default/activations", map[string]any{"mode": maintenance.NoAccess, "message": "closed"}, "If-Match", "*")
	must(t, d.controller.Stop(10*time.Second))
	d.startEnvoy()

	var asked sync.WaitGroup
	var answered atomic.Bool
	for _, tt := range []struct {
		name   string
		oncall any
		want   int
	}{
		{"true", true, 200},
		{"the byte of true as a string", "\x01", 503},
		{"false", false, 503},
	} {
		asked.Go(func() {
			token := staff.token(claims{"oncall": tt.oncall, "email": nil})
			a, err := d.visitor("127.0.0.1").try(t.Context(), "GET", "/", "", "Authorization", "Bearer "+token)
			answered.Store(true)
			if err != nil || a.Status != tt.want {
				t.Errorf("%s: %d, %v, want %d", tt.name, a.Status, err, tt.want)
			}
		})
	}
	time.Sleep(time.Second)
	if answered.Load() {
		t.Error("a request was not held, so the scenario shows nothing")
	}
	d.startController()
	asked.Wait()
}

// issuer signs tokens with ES256 (RFC 7518 section 3.4).
type issuer struct {
	t    *testing.T
	name string
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T, name string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return &issuer{t, name, key}
}

// jwks writes the issuer's public key as a file (RFC 7517).
func (i *issuer) jwks(dir string) string {
	i.t.Helper()
	point, err := i.key.PublicKey.Bytes() // 4, x, y
	must(i.t, err)
	path := filepath.Join(dir, b64([]byte(i.name))+".json")
	set := fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"k","x":%q,"y":%q}]}`, b64(point[1:33]), b64(point[33:]))
	must(i.t, os.WriteFile(path, []byte(set), 0o600))
	return path
}

type claims map[string]any

// token signs the claims; iss, exp and iat are set unless the claims do.
func (i *issuer) token(c claims) string {
	i.t.Helper()
	all := claims{"iss": i.name, "sub": "somebody", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, c)
	payload, err := json.Marshal(all)
	must(i.t, err)
	return i.sign(string(payload))
}

// sign makes a token of a payload as it is.
func (i *issuer) sign(payload string) string {
	i.t.Helper()
	body := segment(i.t, claims{"alg": "ES256", "typ": "JWT", "kid": "k"}) + "." + b64([]byte(payload))
	digest := sha256.Sum256([]byte(body))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	must(i.t, err)
	return body + "." + b64(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

func segment(t *testing.T, v any) string {
	data, err := json.Marshal(v)
	must(t, err)
	return b64(data)
}

var b64 = base64.RawURLEncoding.EncodeToString
