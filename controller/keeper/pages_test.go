package keeper

import (
	"errors"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestPagesAreStoredByTheirHash(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		sha, err := k.PutPage(t.Context(), alice, []byte("<h1>Back soon</h1>"))
		if err != nil {
			t.Fatal(err)
		}
		put(t, k, shopSpec(func(s *maintenance.Spec) { s.Pages = map[string]string{"": sha} }))

		if html, err := k.Page(t.Context(), sha); err != nil || string(html) != "<h1>Back soon</h1>" {
			t.Fatalf("%q, %v", html, err)
		}
		if _, err := k.Page(t.Context(), strings.Repeat("0", 64)); !errors.Is(err, ErrNotFound) {
			t.Fatalf("%v, want ErrNotFound", err)
		}
	})
}

func TestPutPageRefusesBadPages(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		for name, html := range map[string]string{
			"empty":     "",
			"too long":  strings.Repeat("x", maintenance.MaxPageBytes+1),
			"not UTF-8": "\xff\xfe",
		} {
			if _, err := k.PutPage(t.Context(), alice, []byte(html)); err == nil {
				t.Errorf("a page that is %s was stored", name)
			}
		}
	})
}
