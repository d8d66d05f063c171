package webhook

import (
	"net/netip"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// RefusedError means that nothing can be sent to a URL: it is invalid, or all its addresses are forbidden.
type RefusedError struct {
	Reason string // for the client to read; never has the URL's user info, path or query
}

// Error returns the reason.
func (e *RefusedError) Error() string { return e.Reason }

// Guard allows the addresses that receivers may have: public ones, by IANA's registries of special-purpose addresses,
// and those in networks that the operator allows. It refuses private, loopback, link-local, shared (CGNAT),
// documentation, multicast and reserved addresses. It allows every port.
//
// An IPv4-mapped IPv6 address (::ffff:0:0/96) counts as the IPv4 address inside, which the system dials. An address of
// NAT64's well-known prefix (64:ff9b::/96), as DNS64 makes them, is allowed if the IPv4 address inside is public: the
// prefix stands for no other (RFC 6052, section 3.1). The guard refuses all other forms with an IPv4 address inside.
// IPv4-compatible ones, 6to4 and Teredo are obsolete; the destination of NAT64's prefix for local use (64:ff9b:1::/48)
// is unknown here.
type Guard struct {
	addresses *ssrf.Guardian
	public    *ssrf.Guardian
}

// wellKnownNAT64 is the prefix that stands for the whole public IPv4 internet (RFC 6052, section 2.1).
var wellKnownNAT64 = netip.MustParsePrefix("64:ff9b::/96")

// NewGuard returns a guard that allows public addresses and the networks of allow. The mapped form of an IPv4 network
// (::ffff:10.0.0.0/104 for 10.0.0.0/8) is the same network.
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

// Control is for net.Dialer.Control, which calls it with the very address that it dials next. So a name that changes
// its addresses between check and dial gains nothing. Its error is a *RefusedError.
func (g *Guard) Control(network, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return &RefusedError{Reason: "a receiver must be reached by TCP"}
	}
	return g.check(addr.Addr())
}

// check ignores an IPv6 zone, which names an interface and is no part of the address.
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

// allowed returns the allowed addresses of a name. If there is none, its error is a *RefusedError.
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

func refuse(subject string) error {
	return &RefusedError{Reason: subject + " is not allowed: a receiver must have a public address, " +
		"or one in a network that the operator of this server allows"}
}

// CheckURL checks a URL before it is registered. It must be an absolute http or https URL, without invisible
// characters. Its host must not be a forbidden address, nor localhost if loopback is forbidden. Other names are
// resolved, and their addresses checked, at each attempt. Its error is a *RefusedError, for a message that begins with
// "url:".
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
