package keeper

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestTokensAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		if k.HasTokens() {
			t.Fatal("a new store has a token")
		}

		secret := NewSecret()
		operator := createToken(t, k, Actor{Name: "bootstrap"}, "root", Operator, secret)
		createToken(t, k, alice, "dashboard", Viewer, "viewer-secret")
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

		expectNotStored(t, k, secret, "viewer-secret")
	})
}

// expectNotStored checks that neither the stored tokens nor the audit log have one of the secrets.
func expectNotStored(t *testing.T, k *Keeper, secrets ...string) {
	t.Helper()
	rec, err := k.store.Get(t.Context(), recordTokens)
	if err != nil {
		t.Fatal(err)
	}

	entries, err := k.Audit(t.Context(), "", 0, 10)
	if err != nil {
		t.Fatal(err)
	}

	for _, stored := range [][]byte{rec.Data, mustMarshal(entries)} {
		for _, secret := range secrets {
			if strings.Contains(string(stored), secret) {
				t.Fatalf("the secret %s is stored: %s", secret, stored)
			}
		}
	}
}

func TestRevokedTokensDoNotAuthenticate(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		operator := createToken(t, k, alice, "root", Operator, "operator-secret")
		viewer := createToken(t, k, alice, "dashboard", Viewer, "viewer-secret")

		if err := k.RevokeToken(t.Context(), alice, operator.ID); !errors.Is(err, ErrLastOperator) {
			t.Fatalf("%v, want ErrLastOperator", err)
		}

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

func TestCreateTokenRefusesBadNamesAndRoles(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		for _, c := range []struct {
			name  string
			role  Role
			field string
		}{
			{"", Viewer, "name"},
			{"two\nlines", Viewer, "name"},
			{"x", "admin", "role"},
		} {
			_, err := k.CreateToken(t.Context(), alice, c.name, c.role, "secret")
			expectFieldError(t, err, c.field)
		}
	})
}

func createToken(t *testing.T, k *Keeper, by Actor, name string, role Role, secret string) Token {
	t.Helper()
	token, err := k.CreateToken(t.Context(), by, name, role, secret)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
