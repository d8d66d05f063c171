package webhook

import (
	"net/netip"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// RefusedError says that something can never be sent: the URL is of no use, or it leads to an address that
// receivers may not live at.
type RefusedError struct {
	Reason string // fit for a client; never holds the URL's user info, path or query
}

func (e *RefusedError) Error() string { return e.Reason }

// Guard knows which addresses receivers may live at: public ones, as IANA's registries of special-purpose addresses
// have it, and networks that the operator allows besides. So private, loopback, link-local, shared (CGNAT),
// documentation, multicast and reserved addresses are refused. Any port may be used.
//
// An IPv4-mapped IPv6 address (::ffff:0:0/96) is the IPv4 address inside, which is what the system dials. One of
// NAT64's well-known prefix (64:ff9b::/96), as DNS64 makes them, passes if the IPv4 address inside is public: RFC
// 6052, section 3.1, has the prefix stand for no other. The other forms with an IPv4 address inside are refused:
// IPv4-compatible ones, 6to4 and Teredo have been given up, and what the prefix of NAT64 for local use
// (64:ff9b:1::/48) leads to is not known here.
type Guard struct {
	addresses *ssrf.Guardian
	public    *ssrf.Guardian
}

// wellKnownNAT64 is the prefix that stands for the whole public IPv4 internet (RFC 6052, section 2.1).
var wellKnownNAT64 = netip.MustParsePrefix("64:ff9b::/96")

// NewGuard returns a guard that lets the networks of allow pass in addition to public addresses. The mapped form of
// an allowed IPv4 network (::ffff:10.0.0.0/104 for 10.0.0.0/8) is the same network.
func NewGuard(allow []netip.Prefix) *Guard {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		switch a := p.Addr(); {
		case a.Is4():
			v4 = append(v4, p)
		case a.Is4In6() && p.Bits() >= 96:
			v4 = append(v4, netip.PrefixFrom(a.Unmap(), p.Bits()-96))
		default:
			v6 = append(v6, p)
		}
	}
	return &Guard{ssrf.New(ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)), ssrf.New()}
}

// Control is for net.Dialer.Control, which calls it with the very address that is dialled next: what a name
// resolved to a moment ago, or will a moment later, does not matter. Its error is a *RefusedError.
func (g *Guard) Control(network, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return &RefusedError{Reason: "receivers are reached by TCP only"}
	}
	return g.check(addr.Addr())
}

// check leaves an IPv6 zone aside: it picks an interface and says nothing of the address.
func (g *Guard) check(addr netip.Addr) error {
	a := addr.WithZone("").Unmap()
	if g.addresses.SafeAddr(a) == nil || wellKnownNAT64.Contains(a) && g.public.SafeAddr(insideOf(a)) == nil {
		return nil
	}
	return refuse("the address " + addr.String())
}

// insideOf is the IPv4 address in the last 32 bits.
func insideOf(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// allowed returns those of a name's addresses that receivers may live at. If every one is refused, its error is a
// *RefusedError.
func (g *Guard) allowed(addrs []netip.Addr) (allowed []netip.Addr, refused error) {
	for _, a := range addrs {
		if err := g.check(a); err == nil {
			allowed = append(allowed, a)
		} else if refused == nil {
			refused = err
		}
	}
	if len(allowed) > 0 {
		return allowed, nil
	}
	return nil, refused
}

func refuse(who string) error {
	return &RefusedError{Reason: who + " is not one that receivers may live at " +
		"(public addresses are, and networks that the operator of this server allows)"}
}

// CheckURL refuses what can never be sent to: anything but an absolute http or https URL with a host, and a host that
// is a forbidden address or this machine by name. Other names are looked up, and their addresses checked, at each
// attempt. It also refuses characters that cannot be seen. Its error is a *RefusedError that reads on after "url:".
func (g *Guard) CheckURL(raw string) error {
	if err := checkVisible(raw); err != nil {
		return err
	}
	u, err := parseURL(raw)
	if err != nil {
		return err
	}
	host := u.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		return g.check(addr)
	}
	if isLocalhost(host) && !g.allowsLoopback() {
		return refuse("the host localhost")
	}
	return nil
}

func isLocalhost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func (g *Guard) allowsLoopback() bool {
	return g.check(netip.AddrFrom4([4]byte{127, 0, 0, 1})) == nil || g.check(netip.IPv6Loopback()) == nil
}
