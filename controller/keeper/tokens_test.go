package keeper

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k, stop := open(t, dir)
		ctx := t.Context()
		if k.HasTokens() {
			t.Fatal("a new store has a token")
		}
		secret := NewSecret()
		op, err := k.CreateToken(ctx, Actor{Name: "bootstrap"}, "root", Operator, secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.CreateToken(ctx, alice, "dashboard", Viewer, "viewer-secret"); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name string
			role Role
		}{{"", Viewer}, {"two\nlines", Viewer}, {"x", "admin"}} {
			if _, err := k.CreateToken(ctx, alice, c.name, c.role, "x"); err == nil {
				t.Errorf("%+v was taken", c)
			}
		}
		stop()
		k, stop = open(t, dir)
		defer stop()
		if got, ok := k.Authenticate(secret); !ok || got != op {
			t.Fatalf("%+v, %v", got, ok)
		}
		viewer, ok := k.Authenticate("viewer-secret")
		if !ok || viewer.Role != Viewer || viewer.CreatedBy != "alice" {
			t.Fatalf("%+v", viewer)
		}
		if _, ok := k.Authenticate(""); ok {
			t.Fatal("no secret is one")
		}
		if err := k.RevokeToken(ctx, alice, op.ID); !errors.Is(err, ErrLastOperator) {
			t.Fatal(err)
		}
		if err := k.RevokeToken(ctx, alice, viewer.ID); err != nil {
			t.Fatal(err)
		}
		if _, ok := k.Authenticate("viewer-secret"); ok {
			t.Fatal("still good after being revoked")
		}
		if err := k.RevokeToken(ctx, alice, viewer.ID); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		rec, err := k.store.Get(ctx, recordTokens)
		if err != nil {
			t.Fatal(err)
		}
		entries, _ := k.Audit(ctx, "", 0, 10)
		for _, kept := range [][]byte{rec.Data, mustMarshal(entries)} {
			if strings.Contains(string(kept), secret) || strings.Contains(string(kept), "viewer-secret") {
				t.Fatalf("a secret is stored: %s", kept)
			}
		}
	})
}
