package keeper

import (
	"errors"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestPagesAreStoredByTheirHash(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		const html = "<h1>Back soon</h1>"
		sha, err := k.PutPage(t.Context(), alice, []byte(html))
		if err != nil {
			t.Fatal(err)
		}

		if stored, err := k.Page(t.Context(), sha); err != nil || string(stored) != html {
			t.Fatalf("%q, %v; want %q", stored, err, html)
		}
		notStored := strings.Repeat("0", 64)
		if _, err := k.Page(t.Context(), notStored); !errors.Is(err, ErrNotFound) {
			t.Fatalf("%v, want ErrNotFound for a page that is not stored", err)
		}
	})
}

// That a page which is not stored is refused is in TestErrorsNameTheFieldOfTheInput.
func TestSpecMayNameAStoredPage(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		sha, err := k.PutPage(t.Context(), alice, []byte("<h1>Back soon</h1>"))
		if err != nil {
			t.Fatal(err)
		}

		const anyLanguage = ""
		mustPut(t, k, shopSpec(func(s *maintenance.Spec) { s.Pages = map[string]string{anyLanguage: sha} }))
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
				t.Errorf("a page that is %s was accepted", name)
			}
		}
	})
}
