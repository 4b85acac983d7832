package keeper

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func TestSpecs(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		put(t, k, shop())
		on(t, k, "shop", ManualActivation{Mode: maintenance.NoAccess})

		// Edits keep activations.
		put(t, k, shop(func(s *maintenance.Spec) { s.RetryAfter = 60 }))
		expectStatus(t, k, "shop", "no-access pending manual:no-access")

		etag := ETag(shop(func(s *maintenance.Spec) { s.RetryAfter = 60 }))
		steps := []struct {
			name string
			on   Condition
			want error
		}{
			{"another etag", Condition{ETags: []string{`"x"`}}, ErrStale},
			{"must not exist", Condition{Absent: true}, ErrStale},
			{"one of several", Condition{ETags: []string{`"x"`, etag}}, nil},
			{"the etag of before", Condition{ETags: []string{etag}}, ErrStale},
		}
		for _, s := range steps {
			if _, err := k.PutSpec(ctx, alice, s.on, shop()); !errors.Is(err, s.want) {
				t.Errorf("%s: %v, want %v", s.name, err, s.want)
			}
		}
		if _, err := k.PutSpec(ctx, alice, Condition{ETags: []string{`"x"`}}, maintenance.Spec{Name: "new", Match: maintenance.Match{Paths: []string{"/new"}}}); !errors.Is(err, ErrStale) {
			t.Errorf("an etag of what is not there: %v", err)
		}

		if _, err := k.DeleteApp(ctx, alice, Always, "shop"); !errors.Is(err, ErrInMaintenance) {
			t.Errorf("deleting an app that is on: %v", err)
		}
		if _, _, err := k.PutAll(ctx, alice, Always, nil, false); !errors.Is(err, ErrInMaintenance) {
			t.Errorf("applying a set without an app that is on: %v", err)
		}
		off(t, k, "shop")
		if _, err := k.DeleteApp(ctx, alice, Always, "default"); !errors.Is(err, ErrDefaultApp) {
			t.Errorf("deleting the default app: %v", err)
		}
		if _, err := k.DeleteApp(ctx, alice, Always, "shop"); err != nil {
			t.Error(err)
		}
		if _, err := k.DeleteApp(ctx, alice, Always, "shop"); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleting it again: %v", err)
		}
	})
}

func TestPutAll(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		put(t, k, maintenance.Spec{Name: "old", Match: maintenance.Match{Paths: []string{"/old"}}})
		put(t, k, maintenance.Spec{Name: "default", RetryAfter: 5})
		on(t, k, "default", ManualActivation{Mode: maintenance.ReadOnly})
		set := []maintenance.Spec{shop(), {Name: "default", RetryAfter: 7, Bypass: maintenance.Bypass{IPs: []string{"192.0.2.1"}}}}

		etag := k.Current().SpecsETag()
		was := k.Current()
		_, changes, err := k.PutAll(ctx, alice, Condition{ETags: []string{etag}}, set, true)
		if err != nil || k.Current() != was {
			t.Fatal("a dry run failed or changed something: ", err)
		}
		var got []string
		for _, c := range changes {
			got = append(got, fmt.Sprintf("%s %s -> %s", c.App, c.Before, c.After))
		}
		want := []string{
			`default {"retry_after":5} -> {"bypass":{"ips":["192.0.2.1"]},"retry_after":7}`,
			`old {"match":{"paths":["/old"]},"name":"old"} -> `,
			`shop  -> {"match":{"hosts":["shop.example.com"]},"name":"shop"}`,
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("changes:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}

		s, _, err := k.PutAll(ctx, alice, Condition{ETags: []string{etag}}, set, false)
		if err != nil || s.Version().Revision != was.Version().Revision+1 {
			t.Fatal("one change, one revision: ", err, s.Version())
		}
		expectStatus(t, k, "default", "read-only pending manual:read-only")
		if _, _, err := k.PutAll(ctx, alice, Condition{ETags: []string{etag}}, set, false); !errors.Is(err, ErrStale) {
			t.Fatalf("stale: %v", err)
		}
		// The same set in another order is the same set.
		was = k.Current()
		if _, _, err := k.PutAll(ctx, alice, Always, []maintenance.Spec{set[1], set[0]}, false); err != nil || k.Current() != was {
			t.Fatal("the order made a revision: ", err)
		}
	})
}

func TestFieldErrorsAreTheCallers(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		put(t, k, maintenance.Spec{Name: "first", Match: maintenance.Match{Hosts: []string{"a.example.com"}}})
		check := func(err error, field string) {
			t.Helper()
			var fe *maintenance.FieldError
			if !errors.As(err, &fe) || fe.Field != field {
				t.Errorf("%v, want field %q", err, field)
			}
		}
		_, err := k.PutSpec(ctx, alice, Always, maintenance.Spec{Name: "second", Match: maintenance.Match{Hosts: []string{"a.example.com"}}})
		check(err, "match")
		_, err = k.PutSpec(ctx, alice, Always, shop(func(s *maintenance.Spec) { s.Pages = map[string]string{"en": strings.Repeat("0", 64)} }))
		check(err, "pages.en")
		_, _, err = k.PutAll(ctx, alice, Always, []maintenance.Spec{shop(), {Name: "x", Match: maintenance.Match{Hosts: []string{"shop.example.com"}}}}, false)
		check(err, "apps[1].match")
		_, err = k.Allow(ctx, alice, Always, "first", []string{"192.0.2.1", "192.0.2"})
		check(err, "ips[1]")
		if got := len(k.Current().Apps()); got != 2 {
			t.Errorf("%d apps", got)
		}
	})
}
