package keeper

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestAllow(t *testing.T) {
	withFakeTime(t, func(t *testing.T, k *Keeper) {
		ctx := t.Context()
		ips := func() string {
			a, _ := k.Current().App("default")
			return strings.Join(AllowedIPs(a), " ")
		}
		for _, step := range []struct {
			do   func(context.Context, Actor, Condition, string, []string) (*Snapshot, error)
			ips  []string
			want string
			err  error
		}{
			{k.Allow, []string{"192.0.2.1", "10.0.0.0/8"}, "192.0.2.1 10.0.0.0/8", nil},
			{k.Allow, []string{"192.0.2.1/32", "::ffff:192.0.2.1", "2001:db8::/32"}, "192.0.2.1 10.0.0.0/8 2001:db8::/32", nil},
			{k.Disallow, []string{"10.1.2.3"}, "192.0.2.1 10.0.0.0/8 2001:db8::/32", ErrNotFound},
			{k.Disallow, []string{"2001:db8::/32", "203.0.113.1"}, "192.0.2.1 10.0.0.0/8 2001:db8::/32", ErrNotFound},
			{k.Disallow, []string{"192.0.2.1/32", "2001:DB8::/32"}, "10.0.0.0/8", nil},
		} {
			if _, err := step.do(ctx, alice, Always, "default", step.ips); !errors.Is(err, step.err) || ips() != step.want {
				t.Errorf("%v: %v, and now %q; want %v and %q", step.ips, err, ips(), step.err, step.want)
			}
		}
		_, err := k.Disallow(ctx, alice, Always, "default", []string{"10.1.2.3"})
		if err == nil || !strings.Contains(err.Error(), "its entry 10.0.0.0/8 covers it") {
			t.Errorf("%v must say that the address still passes", err)
		}
		entries, _ := k.Audit(ctx, "default", 0, 1)
		if e := entries[0]; e.Action != "disallow" || string(e.Before) != `{"bypass":{"ips":["192.0.2.1","2001:db8::/32"]}}` || e.After != nil {
			t.Errorf("audit: %s %s -> %s", e.Action, e.Before, e.After)
		}
	})
}
