package request

import "net/netip"

// NetworkOf is the network that counts as one address: an IPv4 address, or the /64 network of an IPv6 address. A single
// host has all addresses of such a network, and could use another one each time.
func NetworkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		return netip.PrefixFrom(a, 64).Masked()
	}
	return netip.PrefixFrom(a, a.BitLen())
}
