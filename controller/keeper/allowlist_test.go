package keeper

// This file tests the allowlist of an app, which has IP addresses and CIDRs. Allow and Disallow
// treat all spellings of a network alike, as the filter does.

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestAllowAndDisallow(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		// Each step begins with the allowlist that the step before left.
		for _, step := range []struct {
			edit     func(context.Context, Actor, Condition, string, []string) (*Snapshot, error)
			ips      []string
			wantList string // afterwards
			wantErr  error
		}{
			{k.Allow, []string{"192.0.2.1", "10.0.0.0/8"}, "192.0.2.1 10.0.0.0/8", nil},
			// The first two are other spellings of an entry, and are not added.
			{k.Allow, []string{"192.0.2.1/32", "::ffff:192.0.2.1", "2001:db8::/32"}, "192.0.2.1 10.0.0.0/8 2001:db8::/32", nil},
			// The entry 10.0.0.0/8 covers this address, but is another network.
			{k.Disallow, []string{"10.1.2.3"}, "192.0.2.1 10.0.0.0/8 2001:db8::/32", ErrNotFound},
			// One of these is an entry and the other is not, so neither is removed.
			{k.Disallow, []string{"2001:db8::/32", "203.0.113.1"}, "192.0.2.1 10.0.0.0/8 2001:db8::/32", ErrNotFound},
			{k.Disallow, []string{"192.0.2.1/32", "2001:DB8::/32"}, "10.0.0.0/8", nil},
		} {
			_, err := step.edit(t.Context(), alice, Always, "default", step.ips)
			a, _ := k.Current().App("default")
			if got := strings.Join(AllowedIPs(a), " "); !errors.Is(err, step.wantErr) || got != step.wantList {
				t.Errorf("%v: %v, and now %q; want %v and %q", step.ips, err, got, step.wantErr, step.wantList)
			}
		}

		// The audit log has the entries as they were listed.
		entries, _ := k.Audit(t.Context(), "default", fromNewest, 1)
		if e := entries[0]; e.Action != "disallow" || string(e.Before) != `{"bypass":{"ips":["192.0.2.1","2001:db8::/32"]}}` || e.After != nil {
			t.Errorf("audit: %s %s -> %s", e.Action, e.Before, e.After)
		}
	})
}

func TestDisallowNamesTheEntryThatCoversAnAddress(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		if _, err := k.Allow(t.Context(), alice, Always, "default", []string{"10.0.0.0/8"}); err != nil {
			t.Fatal(err)
		}

		_, err := k.Disallow(t.Context(), alice, Always, "default", []string{"10.1.2.3"})
		if err == nil || !strings.Contains(err.Error(), "its entry 10.0.0.0/8 covers it") {
			t.Errorf("%v does not say that 10.0.0.0/8 covers the address", err)
		}
	})
}
