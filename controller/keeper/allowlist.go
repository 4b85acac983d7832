package keeper

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Allow adds addresses and CIDRs to those that pass. Those that are listed already, in
// whatever spelling, are not added again.
func (k *Keeper) Allow(ctx context.Context, by Actor, on Condition, app string, ips []string) (*Snapshot, error) {
	return k.editIPs(ctx, by, "allow", on, app, ips, func(listed []string) ([]string, error) {
		for _, ip := range ips {
			if p, _ := prefix(ip); !slices.ContainsFunc(listed, func(s string) bool { q, _ := prefix(s); return q == p }) {
				listed = append(slices.Clip(listed), ip)
			}
		}
		return listed, nil
	})
}

// Disallow takes addresses and CIDRs away from those that pass. One that is not listed
// is ErrNotFound: whoever takes an address away must not believe that it no longer
// passes when it does.
func (k *Keeper) Disallow(ctx context.Context, by Actor, on Condition, app string, ips []string) (*Snapshot, error) {
	return k.editIPs(ctx, by, "disallow", on, app, ips, func(listed []string) ([]string, error) {
		for _, ip := range ips {
			p, _ := prefix(ip)
			rest := slices.DeleteFunc(slices.Clone(listed), func(s string) bool { q, _ := prefix(s); return q == p })
			if len(rest) == len(listed) {
				for _, s := range listed {
					if q, err := prefix(s); err == nil && q.Bits() < p.Bits() && q.Contains(p.Addr()) {
						return nil, fmt.Errorf("%s is not on the allowlist of app %q, but its entry %s covers it: %w", ip, app, s, ErrNotFound)
					}
				}
				return nil, fmt.Errorf("%s is not on the allowlist of app %q: %w", ip, app, ErrNotFound)
			}
			listed = rest
		}
		return listed, nil
	})
}

func (k *Keeper) editIPs(ctx context.Context, by Actor, action string, on Condition, app string, ips []string, edit func([]string) ([]string, error)) (*Snapshot, error) {
	// By themselves first, so that an error names the caller's entry.
	alone := maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp, Bypass: maintenance.Bypass{IPs: ips}}}
	if _, err := maintenance.Compile(maintenance.Document{Apps: []maintenance.App{alone}}); err != nil {
		return nil, (&draft{field: "apps[0].bypass"}).relative(err)
	}
	return k.change(ctx, by, action, func(d *draft) error {
		a, err := d.app(app)
		if err != nil {
			return err
		}
		if err := on.check(true, func() string { return ETag(AllowedIPs(a)) }); err != nil {
			return fmt.Errorf("the allowlist of app %q %w", app, err)
		}
		a.Bypass.IPs, err = edit(a.Bypass.IPs)
		d.at(app, "bypass")
		return err
	})
}

// prefix is the network that an entry means, however it is written.
func prefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		p = netip.PrefixFrom(ip, ip.BitLen())
	}
	if p.Addr().Is4In6() {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, nil
}

// AllowedIPs are the addresses of an app that pass, as a resource of its own: never null.
func AllowedIPs(a *maintenance.App) []string { return append([]string{}, a.Bypass.IPs...) }
