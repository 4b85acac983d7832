//go:build !wasm

package main

import (
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file are about what Envoy knows about a request beside its headers (its
// "attributes"), which the filter reads as properties: the claims that jwt_authn has verified, the
// route, the cluster, and the identity of the peer. The SDK's emulator has no such properties.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays.
// rigOf returns the plugin in wasmhost, where the test gives a stream its properties.

// A claim of a verified token lets a request bypass the maintenance. A token that nothing has
// verified does not.
func TestVerifiedClaimsBypassCompiled(t *testing.T) {
	app := appIn(maintenance.NoAccess)
	app.Bypass.Claims = []maintenance.ClaimRule{{Issuer: "https://id.example.com", Claim: []string{"realm", "roles"}, Values: []any{"sre", 7, true}}}

	testCompiled(t, setup{config: `{"name": "edge", "jwt_metadata": ["envoy.filters.http.jwt_authn", "verified"]}`}, func(t *testing.T, w *world) {
		w.startWith(doc(1, app))
		const ours = "https://id.example.com" // the issuer that the app trusts

		// payload returns what jwt_authn stores for a token with a claim realm.roles.
		payload := func(issuer string, roles any) map[string]any {
			claims := map[string]any{"iss": issuer, "realm": map[string]any{"roles": roles}, "email": nil}
			return map[string]any{"verified": claims}
		}

		for _, c := range []struct {
			name   string
			jwt    map[string]any
			passes bool
		}{
			{"the role", payload(ours, []any{"dev", "sre"}), true},
			{"the role beside null", payload(ours, []any{nil, "sre"}), true},
			{"the number", payload(ours, 7), true},
			{"true", payload(ours, true), true},
			{"another role", payload(ours, []any{"dev"}), false},
			{"another issuer", payload("https://evil.example.com", []any{"sre"}), false},
			{"another key", map[string]any{"payload": payload(ours, "sre")["verified"]}, false},
			{"no claims", nil, false},
			// Envoy passes metadata as a protobuf, in which values have types. These strings look
			// like other values to a filter that ignores the types.
			{"the bytes of the number as a string", payload(ours, "\x00\x00\x00\x00\x00\x00\x1c@"), false},
			{"the byte of true as a string", payload(ours, "\x01"), false},
			{"the role as a key", payload(ours, map[string]any{"sre": ""}), false},
			{"a text with the bytes of a list", payload(ours, "\x01\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00sre\x00\x00"), false},
		} {
			metadata := map[string]any{
				"envoy.filters.http.jwt_authn": c.jwt,
				"other":                        map[string]any{"verified": nil},
			}
			s := rigOf(w).plugin.NewStream(wasmhost.StreamConfig{Properties: map[string]any{
				"source":   map[string]any{"address": clientAddress},
				"metadata": map[string]any{"filter_metadata": metadata},
			}})

			s.RequestHeaders(wasmhost.Headers{
				{":method", "GET"}, {":path", "/"}, {":authority", "x"}, {"authorization", "Bearer forged"},
			}, endOfStream)
			if got := s.Upstream().End; got != c.passes {
				t.Errorf("%s: passed: %v", c.name, got)
			}
			s.Abort()
		}

		w.wantMetric("bypassed", 4)
		w.wantMetric("blocked", 8)
	})
}

// Apps can be matched by the route and cluster that Envoy has chosen, and bypassed by the peer's
// identity in the mesh.
func TestRouteClusterAndPrincipalDecideCompiled(t *testing.T) {
	route, cluster := appIn(maintenance.NoAccess), appIn(maintenance.NoAccess)
	route.Name, route.Match.Routes = "by-route", []string{"admin"}
	route.Bypass.Principals = []string{"spiffe://cluster.local/ns/ops/*"}
	cluster.Name, cluster.Match.Clusters = "by-cluster", []string{"outbound|80||legacy"}

	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(docOf(1, 1, route, cluster))

		for _, c := range []struct {
			route, cluster, peer string // peer is the SPIFFE id in the client's certificate
			note                 string // the decision that the filter notes, empty if no app is on
		}{
			{"shop", "shop", "", ""},
			{"admin", "shop", "", "app=by-route mode=no-access rule=no-access"},
			{"admin", "shop", "spiffe://cluster.local/ns/ops/sa/ci", "app=by-route mode=no-access rule=bypass.principal"},
			{"admin", "shop", "spiffe://cluster.local/ns/opsx/sa/ci", "app=by-route mode=no-access rule=no-access"},
			{"shop", "outbound|80||legacy", "spiffe://cluster.local/ns/ops/sa/ci", "app=by-cluster mode=no-access rule=no-access"},
		} {
			s := rigOf(w).plugin.NewStream(wasmhost.StreamConfig{Properties: map[string]any{
				"source":     map[string]any{"address": clientAddress},
				"connection": map[string]any{"uri_san_peer_certificate": c.peer},
				"xds":        map[string]any{"route_name": c.route, "cluster_name": c.cluster},
			}})
			s.RequestHeaders(wasmhost.Headers{{":method", "GET"}, {":path", "/"}, {":authority", "x"}}, endOfStream)

			note, _ := s.FilterState("wasm.drydock.decision")
			if passes := !strings.HasSuffix(c.note, "=no-access"); string(note) != c.note || s.Upstream().End != passes {
				t.Errorf("%+v: passed: %v, %q", c, s.Upstream().End, note)
			}
			s.Abort()
		}
	})
}
