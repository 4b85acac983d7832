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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Users of an app may prove who they are with a JSON Web Token (JWT, RFC 7519): claims, which are
// fields of a JSON object, signed by an issuer. In the bootstrap jwt.yaml, Envoy's filter jwt_authn
// verifies tokens and leaves the claims of a valid one as metadata, which the Drydock filter reads
// through proxy-wasm. A claim rule of an app lets requests bypass its maintenance if their token is
// of the rule's issuer and has a claim with one of the rule's values, or, in a list, one of them.
//
// proxy-wasm returns a part of the metadata as bytes without its type: a bool is one byte, a number
// is 8 bytes, a list or an object is serialized. The filter therefore reads the whole metadata,
// which Envoy returns as a protobuf message with types. A user who can choose the text of a claim
// must not be able to imitate a value of another type in either form. The cases with "\x" try it.
//
// deploy starts a controller, an Envoy with the Drydock filter, and a demo app behind Envoy
// (deployment_test.go). enforce puts an app into a mode and returns once every worker of Envoy
// enforces the mode; enforceOff ends it. In no-access, requests are refused with 503 unless they
// bypass. A visitor is a client of Envoy (clients_test.go). The app default applies to every
// request that no other app matches.

// Only a token that Envoy verified bypasses by a claim: a token of the issuer that the rule names,
// with a claim of the right type and value. A request with any other token is an ordinary one: in
// maintenance it is refused with 503, otherwise it reaches the app, and it is never answered 401.
func TestOnlyVerifiedClaimsOfThePinnedIssuerBypass(t *testing.T) {
	onOldestAndNewestEnvoy(t, func(t *testing.T, version string) {
		i := newIssuers(t)
		d := deploy(t, deployOptions{bootstrap: "jwt.yaml", version: version, files: i.keyFiles()})
		testTokens(t, d, i)
		testClaimRules(t, d, i)
		testSignInDuringMaintenance(t, d, i)
	})
}

// issuers are the two issuers that jwt.yaml names, staff and customers, and a forger: it puts the
// name of staff into its tokens, but has a key of its own.
type issuers struct {
	t                        *testing.T
	staff, customers, forger *issuer
}

func newIssuers(t *testing.T) *issuers {
	const staffName, customersName = "https://sso.example.com", "https://login.example.com"
	return &issuers{
		t:         t,
		staff:     newIssuer(t, staffName),
		customers: newIssuer(t, customersName),
		forger:    newIssuer(t, staffName),
	}
}

// keyFiles writes the public keys of staff and customers to files, and returns the paths for
// Substitution.Files: Envoy reads them in place of the files that jwt.yaml names.
func (i *issuers) keyFiles() map[string]string {
	dir := i.t.TempDir()
	return map[string]string{"envoy/jwks-staff.json": i.staff.jwks(dir), "envoy/jwks-customers.json": i.customers.jwks(dir)}
}

// statusWith returns the status of GET / with a bearer token, or without one if token is "".
func (d *deployment) statusWith(token string) int {
	d.t.Helper()
	if token == "" {
		return d.visitorFrom("127.0.0.1").get("/").Status
	}
	return d.visitorFrom("127.0.0.1").get("/", "Authorization", "Bearer "+token).Status
}

// testTokens sends tokens of every kind to an app whose only claim rule lets those of staff pass
// that have the role admin. While the app is off, all requests pass; in no-access, only those with
// a token that the rule covers do.
func testTokens(t *testing.T, d *deployment, i *issuers) {
	staff, customers := i.staff, i.customers
	admin := claims{"roles": []string{"user", "admin"}}
	right := staff.token(admin)
	inAnHour := time.Now().Add(time.Hour).Unix()
	unsigned := segment(t, claims{"alg": "none", "typ": "JWT"}) + "." +
		segment(t, claims{"iss": staff.name, "roles": []string{"admin"}, "exp": inAnHour}) + "."
	tampered := []byte(right)
	tampered[len(tampered)-10] ^= 1 // a bit of the signature

	// The list of "admin" as proxy-wasm gives it: the number of pairs, the lengths of a key and a
	// value, and these, each with a zero byte. The bytes of protobuf below are those of a Value.
	const bytesOfList = "\x01\x00\x00\x00" + "\x05\x00\x00\x00" + "\x00\x00\x00\x00" + "admin\x00" + "\x00"
	tokens := []struct {
		name, token string
		pass        bool // in no-access
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
		{"claim as the bytes of a list in proxy-wasm", staff.token(claims{"roles": bytesOfList}), false},
		{"claim as the bytes of protobuf", staff.token(claims{"roles": "\x1a\x05admin"}), false},
		{"claim as the bytes of a list in protobuf", staff.token(claims{"roles": "2\t\n\x07\x1a\x05admin"}), false},
		{"claim in a list in a list", staff.token(claims{"roles": []any{[]string{"admin"}}}), false},
		{"claim twice", staff.sign(fmt.Sprintf(`{"iss":%q,"exp":%d,"roles":"user","roles":"admin"}`, staff.name, inAnHour)), false},
		{"claim beside null", staff.token(claims{"roles": []any{nil, "admin"}}), true},
		{"claim beside much else", staff.token(claims{"roles": []any{claims{"x": nil}, 1, "admin"}, "nothing": nil, "groups": make([]int, 5000)}), true},
		{"no claim", staff.token(nil), false},
		{"right claim, other issuer", customers.token(admin), false},
		{"right claim, other issuer that names the right one", customers.token(claims{"iss": staff.name, "roles": []string{"admin"}}), false},
		{"right claim, forged key", i.forger.token(admin), false},
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
		if got := d.statusWith(tt.token); got != 200 {
			t.Errorf("off, %s: %d, want 200", tt.name, got)
		}
	}

	d.enforce("default", maintenance.NoAccess, "closed")
	for _, tt := range tokens {
		want := 503
		if tt.pass {
			want = 200
		}
		if got := d.statusWith(tt.token); got != want {
			t.Errorf("%s: %d, want %d", tt.name, got, want)
		}
	}

	// A token in the URL does not count: queries end up in logs.
	if a := d.visitorFrom("127.0.0.1").get("/?access_token=" + right); a.Status != 503 {
		t.Errorf("token in the query: %d, want 503", a.Status)
	}
}

// testClaimRules tries every kind of claim rule in no-access (testTokens has put the app into it),
// with tokens that the rule lets pass and tokens that it does not.
func testClaimRules(t *testing.T, d *deployment, i *issuers) {
	for _, tt := range claimRuleCases(i) {
		d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{Claims: []maintenance.ClaimRule{tt.rule}}})
		d.awaitEnforced("default")
		for n, token := range tt.pass {
			if got := d.statusWith(token); got != 200 {
				t.Errorf("%s, token %d that should pass: %d", tt.name, n, got)
			}
		}
		for n, token := range tt.refuse {
			if got := d.statusWith(token); got != 503 {
				t.Errorf("%s, token %d that should not pass: %d", tt.name, n, got)
			}
		}
	}
}

// claimRuleCase is a claim rule with tokens that it lets pass and tokens that it does not.
type claimRuleCase struct {
	name         string
	rule         maintenance.ClaimRule
	pass, refuse []string // tokens; "" is a request without one
}

func claimRuleCases(i *issuers) []claimRuleCase {
	staff, customers := i.staff, i.customers

	// The number 7 as proxy-wasm gives it, in the 8 bytes of a little-endian double, and a list of
	// it: the number of pairs, the lengths of a key and a value, and these, each with a zero byte.
	const (
		bytesOf7       = "\x00\x00\x00\x00\x00\x00\x1c@"
		bytesOfListOf7 = "\x01\x00\x00\x00" + "\x08\x00\x00\x00" + "\x00\x00\x00\x00" + bytesOf7 + "\x00" + "\x00"
		byteOfTrue     = "\x01"
	)

	return []claimRuleCase{
		{
			name: "string",
			rule: maintenance.ClaimRule{Issuer: staff.name, Claim: []string{"dept"}, Values: []any{"ops", "sre"}},
			pass: []string{
				staff.token(claims{"dept": "sre"}),
				staff.token(claims{"dept": []string{"ops"}}),
			},
			refuse: []string{
				staff.token(claims{"dept": "sales"}),
				staff.token(claims{"dept": "OPS"}),
				staff.token(claims{"dept": ""}),
			},
		},
		{
			name: "number",
			rule: maintenance.ClaimRule{Issuer: staff.name, Claim: []string{"level"}, Values: []any{7}},
			pass: []string{
				staff.token(claims{"level": 7}),
				staff.token(claims{"level": 7.0}),
				staff.token(claims{"level": []any{nil, 7}}),
			},
			refuse: []string{
				staff.token(claims{"level": 8}),
				staff.token(claims{"level": 7.5}),
				staff.token(claims{"level": true}),
				staff.token(nil),
				staff.token(claims{"level": bytesOf7}),
				staff.token(claims{"level": "7"}),
				staff.token(claims{"level": claims{"7": 7}}),
				staff.token(claims{"level": bytesOfListOf7}),
			},
		},
		{
			name: "bool",
			rule: maintenance.ClaimRule{Issuer: staff.name, Claim: []string{"oncall"}, Values: []any{true}},
			pass: []string{staff.token(claims{"oncall": true})},
			refuse: []string{
				staff.token(claims{"oncall": false}),
				staff.token(nil),
				staff.token(claims{"oncall": byteOfTrue}),
				staff.token(claims{"oncall": 1}),
				staff.token(claims{"oncall": "true"}),
				staff.token(claims{"oncall": []string{byteOfTrue}}),
				staff.token(claims{"oncall": claims{byteOfTrue: ""}}),
			},
		},
		{
			name: "nested",
			rule: maintenance.ClaimRule{Issuer: staff.name, Claim: []string{"realm_access", "roles"}, Values: []any{"admin"}},
			pass: []string{staff.token(claims{"realm_access": claims{"roles": []string{"x", "admin"}}})},
			refuse: []string{
				staff.token(claims{"realm_access": "admin"}),
				staff.token(claims{"roles": []string{"admin"}}),
			},
		},
		{
			name: "presence of a claim",
			rule: maintenance.ClaimRule{Issuer: staff.name, Claim: []string{"badge"}},
			pass: []string{
				staff.token(claims{"badge": "x"}),
				staff.token(claims{"badge": 1}),
				staff.token(claims{"badge": false}),
				staff.token(claims{"badge": claims{"color": nil}}),
			},
			refuse: []string{
				staff.token(nil),
				staff.token(claims{"badge": nil}),
				customers.token(claims{"badge": "x"}),
			},
		},
		{
			name:   "any token of the issuer: everyone signed in passes",
			rule:   maintenance.ClaimRule{Issuer: customers.name},
			pass:   []string{customers.token(nil)},
			refuse: []string{staff.token(nil), ""},
		},
		{
			name: "audience",
			rule: maintenance.ClaimRule{Issuer: staff.name, Audience: "shop"},
			pass: []string{
				staff.token(claims{"aud": "shop"}),
				staff.token(claims{"aud": []string{"wiki", "shop"}}),
			},
			refuse: []string{
				staff.token(claims{"aud": "wiki"}),
				staff.token(nil),
				customers.token(claims{"aud": "shop"}),
			},
		},
	}
}

// testSignInDuringMaintenance exempts the path from which users get their tokens, so that an admin
// can sign in during no-access. It also checks that the app receives the token of a request that
// bypassed, and is told so by the header X-Drydock-Bypass.
func testSignInDuringMaintenance(t *testing.T, d *deployment, i *issuers) {
	d.putApp(maintenance.Spec{Name: "default",
		Bypass: maintenance.Bypass{Claims: []maintenance.ClaimRule{{Issuer: i.staff.name, Claim: []string{"roles"}, Values: []any{"admin"}}}},
		Exempt: []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/echo/token"}}})
	d.awaitEnforced("default")
	v := d.visitorFrom("127.0.0.1")
	if a := v.do("POST", "/echo/token", "grant_type=password", "Content-Type", "application/x-www-form-urlencoded"); a.Status != 200 {
		t.Errorf("POST to the exempt token endpoint: %d, want 200", a.Status)
	}

	bearer := "Bearer " + i.staff.token(claims{"roles": "admin"})
	if e := v.echo("Authorization", bearer); e.Headers.Get("Authorization") != bearer || e.Headers.Get("X-Drydock-Bypass") == "" {
		t.Errorf("the app must receive the token, and that the request passed by it: %v", e.Headers)
	}
}

// In a new Envoy, requests are paused until the first state comes from the controller. The filter
// then decides them in a callback that belongs to none of them, and switches to the context of each
// (proxy_set_effective_context) to read its metadata. Claims count there too, with their types.
func TestClaimsCountInPausedRequests(t *testing.T) {
	i := newIssuers(t)
	const bootWait = 60 // seconds for which requests are paused: longer than the test takes
	d := deploy(t, deployOptions{bootstrap: "jwt.yaml", withoutEnvoy: true, files: i.keyFiles(), edit: setBootWait(t, bootWait)})
	d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{Claims: []maintenance.ClaimRule{
		{Issuer: i.staff.name, Claim: []string{"oncall"}, Values: []any{true}},
	}}})
	d.activate("default", maintenance.NoAccess, "closed")
	must(t, d.controller.Stop(10*time.Second))
	d.startEnvoy()

	// The controller has the state but does not run, so these requests stay paused.
	var running sync.WaitGroup
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
		running.Go(func() {
			token := i.staff.token(claims{"oncall": tt.oncall, "email": nil})
			a, err := d.visitorFrom("127.0.0.1").try(t.Context(), "GET", "/", "", "Authorization", "Bearer "+token)
			answered.Store(true)
			if err != nil || a.Status != tt.want {
				t.Errorf("%s: %d, %v, want %d", tt.name, a.Status, err, tt.want)
			}
		})
	}

	time.Sleep(time.Second) // the requests arrive at Envoy
	if answered.Load() {
		t.Error("a request was not paused, so the scenario proves nothing")
	}
	d.startController()
	running.Wait()
}

// issuer signs JSON Web Tokens with ES256: ECDSA over the curve P-256 (RFC 7518 section 3.4).
type issuer struct {
	t    *testing.T
	name string // claim iss of its tokens
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T, name string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return &issuer{t, name, key}
}

// jwks writes the public key to a file in dir as a JWK set (RFC 7517) and returns the path.
func (i *issuer) jwks(dir string) string {
	i.t.Helper()
	point, err := i.key.PublicKey.Bytes() // the byte 4, x and y with 32 bytes each (SEC 1, 2.3.3)
	must(i.t, err)
	x, y := b64(point[1:33]), b64(point[33:])

	path := filepath.Join(dir, b64([]byte(i.name))+".json")
	set := fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"k","x":%q,"y":%q}]}`, x, y)
	must(i.t, os.WriteFile(path, []byte(set), 0o600))
	return path
}

// claims are the fields of a token's JSON object, and also of objects in it.
type claims map[string]any

// token returns a signed token that is valid for an hour. c adds claims to iss, sub, iat and exp,
// or replaces these.
func (i *issuer) token(c claims) string {
	i.t.Helper()
	all := claims{"iss": i.name, "sub": "somebody", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, c)
	payload, err := json.Marshal(all)
	must(i.t, err)
	return i.sign(string(payload))
}

// sign returns a signed token with exactly this payload. A token has three parts with dots between
// them: a header, the payload and the signature, each in base64 (RFC 7515 section 7.1).
func (i *issuer) sign(payload string) string {
	i.t.Helper()
	signed := segment(i.t, claims{"alg": "ES256", "typ": "JWT", "kid": "k"}) + "." + b64([]byte(payload))
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	must(i.t, err)

	// The signature is r and s with 32 bytes each, from the most significant byte on.
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + b64(signature)
}

// segment returns v as one part of a token: JSON in base64.
func segment(t *testing.T, v any) string {
	data, err := json.Marshal(v)
	must(t, err)
	return b64(data)
}

// b64 encodes bytes in the base64 of tokens, which is for URLs and has no padding.
var b64 = base64.RawURLEncoding.EncodeToString
