package maintenance

import (
	"fmt"
	"net/netip"
	"strings"
)

// networks is a set of addresses and CIDRs, by family and prefix length. A lookup probes each
// length that occurs, so its cost does not grow with the number of CIDRs.
type networks map[prefixKind]map[netip.Prefix]struct{}

type prefixKind struct {
	v4   bool
	bits int
}

// add adds an address or a CIDR, and returns what is wrong with it, or "". IPv4-mapped IPv6 means
// the IPv4 addresses.
func (n networks) add(s string) (problem string) {
	addr, _, isCIDR := strings.Cut(s, "/")
	ip, err := netip.ParseAddr(addr)
	if err != nil || ip.Zone() != "" {
		return "must be an address or CIDR, such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"
	}

	bits := ip.BitLen()
	if isCIDR {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Sprintf("must have a prefix length of 0 to %d after the /", ip.BitLen())
		}

		bits = p.Bits()
	}

	if ip.Is4In6() {
		if bits -= 96; bits < 0 {
			return "must not contain more than the IPv4-mapped addresses; write an IPv4 CIDR"
		}
		ip = ip.Unmap()
	}

	prefix, _ := ip.Prefix(bits)
	if prefix.Addr() != ip {
		return fmt.Sprintf("must not have bits set after its prefix; write %s, or %s for the one address", prefix, ip)
	}

	key := prefixKind{ip.Is4(), bits}
	if n[key] == nil {
		n[key] = make(map[netip.Prefix]struct{})
	}

	n[key][prefix] = struct{}{}
	return ""
}

// contains reports whether the set contains an address as Envoy writes it: possibly with a port,
// brackets or a zone.
func (n networks) contains(address string) bool {
	if len(n) == 0 {
		return false
	}

	ip, ok := parseSource(address)
	if !ok {
		return false
	}

	for key, set := range n {
		if key.v4 != ip.Is4() {
			continue
		}
		if prefix, err := ip.Prefix(key.bits); err == nil {
			if _, ok := set[prefix]; ok {
				return true
			}
		}
	}

	return false
}

func parseSource(address string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}

	if n := len(address); n > 1 && address[0] == '[' && address[n-1] == ']' {
		address = address[1 : n-1]
	}

	ip, err := netip.ParseAddr(address)
	return ip.Unmap().WithZone(""), err == nil
}
