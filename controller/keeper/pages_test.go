package keeper

import (
	"errors"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestPages(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		sha, err := k.PutPage(ctx, alice, []byte("<h1>Back soon</h1>"))
		if err != nil {
			t.Fatal(err)
		}
		put(t, k, shop(func(s *maintenance.Spec) { s.Pages = map[string]string{"": sha} }))
		if html, err := k.Page(ctx, sha); err != nil || string(html) != "<h1>Back soon</h1>" {
			t.Fatal(html, err)
		}
		if _, err := k.Page(ctx, strings.Repeat("0", 64)); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		for name, html := range map[string]string{"empty": "", "too long": strings.Repeat("x", maintenance.MaxPageBytes+1), "no text": "\xff\xfe"} {
			if _, err := k.PutPage(ctx, alice, []byte(html)); err == nil {
				t.Errorf("%s was taken", name)
			}
		}
	})
}
