package keeper

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestPutSpecKeepsActivations(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		put(t, k, shopSpec())
		on(t, k, "shop", ManualActivation{Mode: maintenance.NoAccess})

		put(t, k, shopSpec(func(s *maintenance.Spec) { s.RetryAfter = 60 }))
		expectStatus(t, k, "shop", "no-access pending manual:no-access")
	})
}

func TestPutSpecChecksItsCondition(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		spec := shopSpec(func(s *maintenance.Spec) { s.RetryAfter = 60 })
		put(t, k, spec)
		etag := ETag(spec)

		// In this order: the third put changes the ETag.
		for _, c := range []struct {
			name string
			on   Condition
			want error
		}{
			{"another ETag", Condition{ETags: []string{`"x"`}}, ErrStale},
			{"absent", Condition{Absent: true}, ErrStale},
			{"one of several ETags", Condition{ETags: []string{`"x"`, etag}}, nil},
			{"the ETag before the change", Condition{ETags: []string{etag}}, ErrStale},
		} {
			if _, err := k.PutSpec(t.Context(), alice, c.on, shopSpec()); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}

		missing := maintenance.Spec{Name: "new", Match: maintenance.Match{Paths: []string{"/new"}}}
		if _, err := k.PutSpec(t.Context(), alice, Condition{ETags: []string{`"x"`}}, missing); !errors.Is(err, ErrStale) {
			t.Errorf("%v, want ErrStale for the ETag of an app that does not exist", err)
		}
	})
}

func TestDeleteApp(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		put(t, k, shopSpec())
		on(t, k, "shop", ManualActivation{Mode: maintenance.NoAccess})

		if _, err := k.DeleteApp(ctx, alice, Always, "shop"); !errors.Is(err, ErrInMaintenance) {
			t.Errorf("%v, want ErrInMaintenance for an app that is on", err)
		}
		if _, _, err := k.PutAll(ctx, alice, Always, nil, false); !errors.Is(err, ErrInMaintenance) {
			t.Errorf("%v, want ErrInMaintenance for a set without an app that is on", err)
		}
		if _, err := k.DeleteApp(ctx, alice, Always, "default"); !errors.Is(err, ErrDefaultApp) {
			t.Errorf("%v, want ErrDefaultApp", err)
		}

		off(t, k, "shop")
		if _, err := k.DeleteApp(ctx, alice, Always, "shop"); err != nil {
			t.Error(err)
		}
		if _, err := k.DeleteApp(ctx, alice, Always, "shop"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v, want ErrNotFound for an app that was deleted", err)
		}
	})
}

func TestErrorsHaveThePathsOfTheCallersInput(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		put(t, k, maintenance.Spec{Name: "first", Match: maintenance.Match{Hosts: []string{"a.example.com"}}})

		_, err := k.PutSpec(ctx, alice, Always, maintenance.Spec{Name: "second", Match: maintenance.Match{Hosts: []string{"a.example.com"}}})
		expectFieldError(t, err, "match")

		_, err = k.PutSpec(ctx, alice, Always, shopSpec(func(s *maintenance.Spec) { s.Pages = map[string]string{"en": strings.Repeat("0", 64)} }))
		expectFieldError(t, err, "pages.en")

		other := maintenance.Spec{Name: "x", Match: maintenance.Match{Hosts: []string{"shop.example.com"}}}
		_, _, err = k.PutAll(ctx, alice, Always, []maintenance.Spec{shopSpec(), other}, false)
		expectFieldError(t, err, "apps[1].match")

		_, err = k.Allow(ctx, alice, Always, "first", []string{"192.0.2.1", "192.0.2"})
		expectFieldError(t, err, "ips[1]")

		if got := len(k.Current().Apps()); got != 2 {
			t.Errorf("%d apps, want the default app and first", got)
		}
	})
}

func TestPutAllReplacesTheSet(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		put(t, k, maintenance.Spec{Name: "old", Match: maintenance.Match{Paths: []string{"/old"}}})
		put(t, k, maintenance.Spec{Name: "default", RetryAfter: 5})
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		set := []maintenance.Spec{shopSpec(), {Name: "default", RetryAfter: 7, Bypass: maintenance.Bypass{IPs: []string{"192.0.2.1"}}}}
		before := k.Current()
		unchanged := Condition{ETags: []string{before.SpecsETag()}}

		_, changes, err := k.PutAll(t.Context(), alice, unchanged, set, true)
		if err != nil || k.Current() != before {
			t.Fatalf("a dry run returned %v or changed something", err)
		}
		expectChanges(t, changes,
			`default {"retry_after":5} -> {"bypass":{"ips":["192.0.2.1"]},"retry_after":7}`,
			`old {"match":{"paths":["/old"]},"name":"old"} -> `,
			`shop  -> {"match":{"hosts":["shop.example.com"]},"name":"shop"}`,
		)

		s, _, err := k.PutAll(t.Context(), alice, unchanged, set, false)
		if err != nil || s.Version().Revision != before.Version().Revision+1 {
			t.Fatalf("%v, want all changes in one revision", err)
		}
		expectStatus(t, k, "default", "read-only pending manual:read-only")
		if _, _, err := k.PutAll(t.Context(), alice, unchanged, set, false); !errors.Is(err, ErrStale) {
			t.Fatalf("%v, want ErrStale", err)
		}
	})
}

func TestPutAllIgnoresTheOrder(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		set := []maintenance.Spec{shopSpec(), {Name: "default", RetryAfter: 7}}
		if _, _, err := k.PutAll(t.Context(), alice, Always, set, false); err != nil {
			t.Fatal(err)
		}

		before := k.Current()
		_, _, err := k.PutAll(t.Context(), alice, Always, []maintenance.Spec{set[1], set[0]}, false)
		if err != nil || k.Current() != before {
			t.Fatalf("%v, want no new revision for another order", err)
		}
	})
}

func expectChanges(t *testing.T, changes []Change, want ...string) {
	t.Helper()
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprintf("%s %s -> %s", c.App, c.Before, c.After))
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Fatalf("changes:\n%s\nwant:\n%s", g, w)
	}
}
