package request

import (
	"net/netip"
	"testing"
)

func TestNetworkOf(t *testing.T) {
	for address, want := range map[string]string{
		"1.2.3.4":          "1.2.3.4/32",
		"::ffff:1.2.3.4":   "1.2.3.4/32",
		"2001:db8:1:2::3":  "2001:db8:1:2::/64",
		"fe80::1%loopback": "fe80::/64",
	} {
		if got := NetworkOf(netip.MustParseAddr(address)); got != netip.MustParsePrefix(want) {
			t.Errorf("the network of %s is %v, want %s", address, got, want)
		}
	}
}
