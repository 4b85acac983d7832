package maintenance

import (
	"fmt"
	"net/netip"
	"strings"
)

// networks is a set of addresses and CIDRs, grouped by family and prefix length. To look up an
// address, its prefix of each length that occurs is looked up in the group of this length. So the
// cost of a lookup does not grow with the number of CIDRs. A single address is a CIDR of all bits.
type networks map[prefixKind]map[netip.Prefix]struct{}

// prefixKind is the address family of a CIDR, and the number of bits in its prefix.
type prefixKind struct {
	v4   bool // IPv4; otherwise IPv6
	bits int
}

// add adds an address or a CIDR to the set. If s is neither, add returns what is wrong with s, as
// the rest of a sentence that begins with s; otherwise it returns "". An IPv4-mapped IPv6 address,
// such as ::ffff:192.0.2.7, stands for the IPv4 address in it (RFC 4291 section 2.5.5.2).
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
		bits -= mappedPrefixBits
		if bits < 0 {
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

// mappedPrefixBits is the length of ::ffff:0:0/96, the prefix of all IPv4-mapped addresses.
const mappedPrefixBits = 96

// contains reports whether the set contains an address, which is written as Envoy does: possibly
// with a port, brackets or a zone. Anything else is in no set.
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

// parseSource parses an address as Envoy writes it, without its port and its zone. An IPv4-mapped
// address becomes an IPv4 address.
func parseSource(address string) (ip netip.Addr, ok bool) {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}

	if n := len(address); n > 1 && address[0] == '[' && address[n-1] == ']' {
		address = address[1 : n-1]
	}

	ip, err := netip.ParseAddr(address)
	return ip.Unmap().WithZone(""), err == nil
}
