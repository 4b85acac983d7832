package keeper

// This file edits the allowlist of an app: the IP addresses and CIDRs (such as 10.0.0.0/8) whose
// clients bypass its maintenance. Both are called networks here, because an address means the
// network of that one address. An entry is a network as it was written.

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Allow adds IP addresses and CIDRs to the allowlist of an app. Networks that are listed already,
// in any spelling, are not added again. The condition is on the ETag of [AllowedIPs]. Field paths
// in errors are those of the list, such as ips[1].
func (k *Keeper) Allow(ctx context.Context, by Actor, cond Condition, app string, ips []string) (*Snapshot, error) {
	return k.editAllowlist(ctx, by, "allow", cond, app, ips, func(listed []string) ([]string, error) {
		for _, ip := range ips {
			if !slices.ContainsFunc(listed, sameNetwork(ip)) {
				listed = append(slices.Clip(listed), ip)
			}
		}
		return listed, nil
	})
}

// Disallow removes IP addresses and CIDRs from the allowlist of an app. It returns [ErrNotFound]
// and removes none if one of them is not an entry of the list: an address that another entry covers
// would still bypass the maintenance. The condition is on the ETag of [AllowedIPs].
func (k *Keeper) Disallow(ctx context.Context, by Actor, cond Condition, app string, ips []string) (*Snapshot, error) {
	return k.editAllowlist(ctx, by, "disallow", cond, app, ips, func(listed []string) ([]string, error) {
		for _, ip := range ips {
			rest := slices.DeleteFunc(slices.Clone(listed), sameNetwork(ip))
			if len(rest) < len(listed) {
				listed = rest
				continue
			}

			if wider, found := widerEntry(listed, ip); found {
				return nil, fmt.Errorf("%s is not on the allowlist of app %q, but its entry %s covers it: %w", ip, app, wider, ErrNotFound)
			}
			return nil, fmt.Errorf("%s is not on the allowlist of app %q: %w", ip, app, ErrNotFound)
		}
		return listed, nil
	})
}

// editAllowlist replaces the allowlist of an app by what edit returns for it. ips are what the
// caller gave. edit gets a list that it must not write into.
func (k *Keeper) editAllowlist(ctx context.Context, by Actor, action string, cond Condition, app string, ips []string, edit func([]string) ([]string, error)) (*Snapshot, error) {
	if err := checkIPs(ips); err != nil {
		return nil, err
	}

	s, _, err := k.update(ctx, by, action, func(d *draft) error {
		a, err := d.app(app)
		if err != nil {
			return err
		}
		const exists = true // every app has an allowlist, which may be empty
		if err := cond.check(exists, func() string { return ETag(AllowedIPs(a)) }); err != nil {
			return fmt.Errorf("the allowlist of app %q %w", app, err)
		}

		a.Bypass.IPs, err = edit(a.Bypass.IPs)
		d.setInput(app, "bypass")
		return err
	})
	return s, err
}

// checkIPs returns an error if one of ips is not an IP address or CIDR. It compiles a document with
// only these entries, so that the path in the error, such as ips[1], has the index in ips and not
// that in the allowlist of the app.
func checkIPs(ips []string) error {
	app := maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp, Bypass: maintenance.Bypass{IPs: ips}}}
	if _, err := maintenance.Compile(maintenance.Document{Apps: []maintenance.App{app}}); err != nil {
		return (&draft{input: "apps[0].bypass"}).relativeError(err)
	}
	return nil
}

// sameNetwork returns a function that reports whether an entry means the same network as ip. Both
// were checked before, so neither can fail to parse.
func sameNetwork(ip string) func(entry string) bool {
	want, _ := parseNetwork(ip)
	return func(entry string) bool {
		network, _ := parseNetwork(entry)
		return network == want
	}
}

// widerEntry returns the first entry whose network is wider than ip and contains it.
func widerEntry(listed []string, ip string) (entry string, found bool) {
	inner, _ := parseNetwork(ip)
	for _, entry := range listed {
		outer, err := parseNetwork(entry)
		if err == nil && outer.Bits() < inner.Bits() && outer.Contains(inner.Addr()) {
			return entry, true
		}
	}
	return "", false
}

// ipv4MappedBits is the length of ::ffff:0:0/96, the IPv6 network that maps IPv4 (RFC 4291 section
// 2.5.5.2).
const ipv4MappedBits = 96

// parseNetwork returns the network of an IP address or CIDR. All spellings of a network give the
// same value, and IPv4-mapped IPv6 addresses such as ::ffff:192.0.2.1 become IPv4, as
// they do in the filter (filter/maintenance/networks.go).
func parseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		p = netip.PrefixFrom(ip, ip.BitLen())
	}

	if p.Addr().Is4In6() {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-ipv4MappedBits)
	}
	return p, nil
}

// AllowedIPs returns the IP addresses and CIDRs whose clients bypass the maintenance of an app. It
// is never nil.
func AllowedIPs(a *maintenance.App) []string { return append([]string{}, a.Bypass.IPs...) }
