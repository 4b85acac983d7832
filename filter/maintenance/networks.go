package maintenance

import (
	"fmt"
	"net/netip"
	"strings"
)

// networks is a set of prefixes by family and length: a lookup probes the few lengths
// that occur, however many prefixes there are.
type networks map[family]map[netip.Prefix]struct{}

type family struct {
	v4   bool
	bits int
}

// add takes an address or a CIDR, and tells what is wrong with another text.
// IPv4-mapped IPv6 counts as the IPv4 that it means.
func (n networks) add(s string) (problem string) {
	addr, _, cidr := strings.Cut(s, "/")
	ip, err := netip.ParseAddr(addr)
	if err != nil || ip.Zone() != "" {
		return "is no address or CIDR; write like 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"
	}
	bits := ip.BitLen()
	if cidr {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Sprintf("must have a prefix length of 0 to %d behind the /", ip.BitLen())
		}
		bits = p.Bits()
	}
	if ip.Is4In6() {
		if bits -= 96; bits < 0 {
			return "spans more than the IPv4-mapped addresses; write IPv4 CIDRs as IPv4"
		}
		ip = ip.Unmap()
	}
	prefix, _ := ip.Prefix(bits)
	if prefix.Addr() != ip {
		return fmt.Sprintf("has address bits beyond its prefix; write %s, or %s for the one address", prefix, ip)
	}
	at := family{ip.Is4(), bits}
	if n[at] == nil {
		n[at] = make(map[netip.Prefix]struct{})
	}
	n[at][prefix] = struct{}{}
	return ""
}

// contain takes an address as Envoy writes it: with a port, brackets or a zone.
func (n networks) contain(address string) bool {
	if len(n) == 0 {
		return false
	}
	ip, ok := parseSource(address)
	if !ok {
		return false
	}
	for at, set := range n {
		if at.v4 != ip.Is4() {
			continue
		}
		if prefix, err := ip.Prefix(at.bits); err == nil {
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
