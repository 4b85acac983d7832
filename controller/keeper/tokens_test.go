package keeper

// This file tests API tokens. A secret authenticates its bearer, and has the rights of the role of
// its token. Only the hash of a secret is stored.

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestTokensSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		if k.HasTokens() {
			t.Fatal("a new store has a token")
		}

		secret := NewSecret()
		operator := mustCreateToken(t, k, Actor{Name: "bootstrap"}, "root", Operator, secret)
		mustCreateToken(t, k, alice, "dashboard", Viewer, "viewer-secret")
		stop()

		k, stop = open(t, dir)
		defer stop()
		if !k.HasTokens() {
			t.Fatal("no token after a restart")
		}
		if got, ok := k.Authenticate(secret); !ok || got != operator {
			t.Fatalf("%+v, %t; want %+v", got, ok, operator)
		}
		if got, ok := k.Authenticate("viewer-secret"); !ok || got.Role != Viewer || got.CreatedBy != "alice" {
			t.Fatalf("%+v, %t; want the viewer that alice created", got, ok)
		}
		if _, ok := k.Authenticate(""); ok {
			t.Fatal("an empty secret authenticates")
		}
	})
}

func TestSecretsAreNotStored(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		secret := NewSecret()
		mustCreateToken(t, k, alice, "root", Operator, secret)

		rec, err := k.store.Get(t.Context(), recordTokens)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := k.Audit(t.Context(), anyApp, fromNewest, 10)
		if err != nil {
			t.Fatal(err)
		}

		for _, stored := range [][]byte{rec.Data, mustMarshal(entries)} {
			if !strings.Contains(string(stored), "root") {
				t.Fatalf("the token is not stored: %s", stored)
			}
			if strings.Contains(string(stored), secret) {
				t.Fatalf("the secret %s is stored: %s", secret, stored)
			}
		}
	})
}

func TestRevokedTokensDoNotAuthenticate(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustCreateToken(t, k, alice, "root", Operator, "operator-secret")
		viewer := mustCreateToken(t, k, alice, "dashboard", Viewer, "viewer-secret")

		if err := k.RevokeToken(t.Context(), alice, viewer.ID); err != nil {
			t.Fatal(err)
		}
		if _, ok := k.Authenticate("viewer-secret"); ok {
			t.Fatal("a revoked token authenticates")
		}
		if err := k.RevokeToken(t.Context(), alice, viewer.ID); !errors.Is(err, ErrNotFound) {
			t.Fatalf("%v, want ErrNotFound for a token that was revoked", err)
		}
	})
}

func TestLastOperatorTokenIsNotRevoked(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		operator := mustCreateToken(t, k, alice, "root", Operator, "operator-secret")
		mustCreateToken(t, k, alice, "dashboard", Viewer, "viewer-secret")

		if err := k.RevokeToken(t.Context(), alice, operator.ID); !errors.Is(err, ErrLastOperator) {
			t.Fatalf("%v, want ErrLastOperator", err)
		}
		if _, ok := k.Authenticate("operator-secret"); !ok {
			t.Fatal("the last operator token no longer authenticates")
		}
	})
}

func TestCreateTokenRefusesBadNamesAndRoles(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		for _, c := range []struct {
			name     string
			role     Role
			badField string
		}{
			{"", Viewer, "name"},
			{"two\nlines", Viewer, "name"},
			{strings.Repeat("x", maxTokenName+1), Viewer, "name"},
			{"x", "admin", "role"},
		} {
			_, err := k.CreateToken(t.Context(), alice, c.name, c.role, "secret")
			expectFieldError(t, err, c.badField)
		}
	})
}

func mustCreateToken(t *testing.T, k *Keeper, by Actor, name string, role Role, secret string) Token {
	t.Helper()
	token, err := k.CreateToken(t.Context(), by, name, role, secret)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
