package keeper

// This file tests how operators configure apps: PutSpec and DeleteApp for one app, PutAll for all
// of them. "shop" is the app of shopSpec, and "default" the app that always exists and must not
// have a match, because it gets what no other app matches.

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestPutSpecKeepsActivations(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustPut(t, k, shopSpec())
		mustTurnOn(t, k, "shop", ManualActivation{Mode: maintenance.NoAccess})

		mustPut(t, k, shopSpec(func(s *maintenance.Spec) { s.RetryAfter = 60 }))
		expectStatus(t, k, "shop", "no-access pending manual:no-access")
	})
}

func TestPutSpecChecksItsCondition(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		stored := shopSpec(func(s *maintenance.Spec) { s.RetryAfter = 60 })
		mustPut(t, k, stored)
		etag := ETag(stored)

		// Each case puts another spec than the stored one. The order matters: the third case is the
		// first whose put succeeds, and so the ETag that the fourth one expects is an old one.
		for _, c := range []struct {
			name      string
			condition Condition
			want      error
		}{
			{"the ETag must be another one", Condition{ETags: []string{`"x"`}}, ErrStale},
			{"the app must not exist", Condition{Absent: true}, ErrStale},
			{"the ETag must be one of two, and is the second", Condition{ETags: []string{`"x"`, etag}}, nil},
			{"the ETag must be that before the last put", Condition{ETags: []string{etag}}, ErrStale},
		} {
			if _, err := k.PutSpec(t.Context(), alice, c.condition, shopSpec()); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
	})
}

func TestAppThatDoesNotExistHasNoETag(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		missing := shopSpec()
		if _, err := k.PutSpec(t.Context(), alice, Condition{ETags: []string{ETag(missing)}}, missing); !errors.Is(err, ErrStale) {
			t.Errorf("%v, want ErrStale", err)
		}
	})
}

func TestAppThatIsOnIsNotDeleted(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustPut(t, k, shopSpec())
		mustTurnOn(t, k, "shop", ManualActivation{Mode: maintenance.NoAccess})

		if _, err := k.DeleteApp(t.Context(), alice, Always, "shop"); !errors.Is(err, ErrInMaintenance) {
			t.Errorf("DeleteApp: %v, want ErrInMaintenance", err)
		}
		// PutAll deletes the apps that the set does not have.
		var emptySet []maintenance.Spec
		if _, _, err := k.PutAll(t.Context(), alice, Always, emptySet, changeNow); !errors.Is(err, ErrInMaintenance) {
			t.Errorf("PutAll: %v, want ErrInMaintenance", err)
		}
	})
}

func TestDeleteApp(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		mustPut(t, k, shopSpec())

		if _, err := k.DeleteApp(t.Context(), alice, Always, "default"); !errors.Is(err, ErrDefaultApp) {
			t.Errorf("the default app: %v, want ErrDefaultApp", err)
		}
		if _, err := k.DeleteApp(t.Context(), alice, Always, "shop"); err != nil {
			t.Error(err)
		}
		if _, err := k.DeleteApp(t.Context(), alice, Always, "shop"); !errors.Is(err, ErrNotFound) {
			t.Errorf("an app that was deleted: %v, want ErrNotFound", err)
		}
	})
}

// A caller gives a spec or a list, which becomes part of a larger document. The path in an error
// must be the path in what the caller gave.
func TestErrorsNameTheFieldOfTheInput(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		ofHost := func(name, host string) maintenance.Spec {
			return maintenance.Spec{Name: name, Match: maintenance.Match{Hosts: []string{host}}}
		}
		mustPut(t, k, ofHost("first", "a.example.com"))

		// Two apps must not match the same host.
		_, err := k.PutSpec(ctx, alice, Always, ofHost("second", "a.example.com"))
		expectFieldError(t, err, "match")
		_, _, err = k.PutAll(ctx, alice, Always, []maintenance.Spec{ofHost("x", "b.example.com"), ofHost("y", "b.example.com")}, changeNow)
		expectFieldError(t, err, "apps[1].match")

		// No page with this SHA-256 is stored.
		_, err = k.PutSpec(ctx, alice, Always, shopSpec(func(s *maintenance.Spec) {
			s.Pages = map[string]string{"en": strings.Repeat("0", 64)}
		}))
		expectFieldError(t, err, "pages.en")

		// An address of three numbers is not an IP address.
		_, err = k.Allow(ctx, alice, Always, "first", []string{"192.0.2.1", "192.0.2"})
		expectFieldError(t, err, "ips[1]")

		if got := len(k.Current().Apps()); got != 2 {
			t.Errorf("%d apps, want only the default app and first", got)
		}
	})
}

// oldSet puts the apps old and default, and turns the default app on.
func oldSet(t *testing.T, k *Keeper) {
	t.Helper()
	mustPut(t, k, maintenance.Spec{Name: "old", Match: maintenance.Match{Paths: []string{"/old"}}})
	mustPut(t, k, maintenance.Spec{Name: "default", RetryAfter: 5})
	mustTurnOn(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
}

// newSet replaces that of oldSet: it has shop, has default with another spec, and does not have
// old.
func newSet() []maintenance.Spec {
	return []maintenance.Spec{
		shopSpec(),
		{Name: "default", RetryAfter: 7, Bypass: maintenance.Bypass{IPs: []string{"192.0.2.1"}}},
	}
}

func TestDryRunReturnsTheChangesAndMakesNone(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		oldSet(t, k)
		before := k.Current()

		s, changes, err := k.PutAll(t.Context(), alice, Always, newSet(), dryRun)
		if err != nil || s != before || k.Current() != before {
			t.Fatalf("%v, want no error and the same state", err)
		}
		// The name of default is in neither side, because only what differs is.
		expectChanges(t, changes,
			`default {"retry_after":5} -> {"bypass":{"ips":["192.0.2.1"]},"retry_after":7}`,
			`old {"match":{"paths":["/old"]},"name":"old"} -> `,
			`shop  -> {"match":{"hosts":["shop.example.com"]},"name":"shop"}`,
		)
	})
}

func TestPutAllReplacesTheSetInOneRevision(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		oldSet(t, k)
		before := k.Current().Version()

		s, _, err := k.PutAll(t.Context(), alice, Always, newSet(), changeNow)
		if err != nil || s.Version().Revision != before.Revision+1 {
			t.Fatalf("%v, want all changes in one revision", err)
		}

		var names []string
		for _, spec := range s.Specs() {
			names = append(names, spec.Name)
		}
		if got, want := strings.Join(names, " "), "shop default"; got != want {
			t.Errorf("apps %q, want %q", got, want)
		}
		expectStatus(t, k, "default", "read-only pending manual:read-only") // the activation stays
	})
}

func TestPutAllChecksItsCondition(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		oldSet(t, k)
		ifUnchanged := Condition{ETags: []string{k.Current().SpecsETag()}}

		if _, _, err := k.PutAll(t.Context(), alice, ifUnchanged, newSet(), changeNow); err != nil {
			t.Fatal(err)
		}
		if _, _, err := k.PutAll(t.Context(), alice, ifUnchanged, newSet(), changeNow); !errors.Is(err, ErrStale) {
			t.Fatalf("%v, want ErrStale, since the set was changed", err)
		}
	})
}

// The order of apps has no meaning.
func TestPutAllIgnoresTheOrder(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		set := newSet()
		if _, _, err := k.PutAll(t.Context(), alice, Always, set, changeNow); err != nil {
			t.Fatal(err)
		}

		before := k.Current()
		_, _, err := k.PutAll(t.Context(), alice, Always, []maintenance.Spec{set[1], set[0]}, changeNow)
		if err != nil || k.Current() != before {
			t.Fatalf("%v, want no new revision for another order", err)
		}
	})
}

// expectChanges compares changes with "APP BEFORE -> AFTER", each. BEFORE and AFTER are JSON, and
// empty if nothing was removed or added.
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
