package webhook

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// RefusedError means that nothing can be sent to a URL: it is invalid, or its host is a forbidden address.
type RefusedError struct {
	Reason string // for the client to read; never has the URL's user info, path or query
	detail string // for the operator alone
}

// Error returns the reason.
func (e *RefusedError) Error() string { return e.Reason }

// GuardOptions are the networks of a guard. The zero value allows public addresses that are not this machine's.
type GuardOptions struct {
	Allow    []netip.Prefix // allowed in addition
	Deny     []netip.Prefix // forbidden, even if Allow has them
	OwnPorts []uint16       // forbidden at the machine's own addresses, even if Allow has these
}

// Guard allows the addresses that receivers may have: public ones, by IANA's registries of special-purpose addresses,
// and those in networks that the operator allows. It refuses private, loopback, link-local, shared (CGNAT),
// documentation, multicast and reserved addresses, and those of the machine's own network interfaces. It allows every
// port, except those of the program itself.
//
// An IPv4-mapped IPv6 address (::ffff:0:0/96) counts as the IPv4 address inside, which the system dials. An address of
// NAT64's well-known prefix (64:ff9b::/96), as DNS64 makes them, is allowed if the IPv4 address inside is public: the
// prefix stands for no other (RFC 6052, section 3.1). The guard refuses all other forms with an IPv4 address inside.
// IPv4-compatible ones, 6to4 and Teredo are obsolete; the destination of NAT64's prefix for local use (64:ff9b:1::/48)
// is unknown here.
type Guard struct {
	allow, deny []netip.Prefix
	ownPorts    []uint16
	public      *ssrf.Guardian
	own         ownAddresses
}

// wellKnownNAT64 is the prefix that stands for the whole public IPv4 internet (RFC 6052, section 2.1).
var wellKnownNAT64 = netip.MustParsePrefix("64:ff9b::/96")

// NewGuard returns a guard. The mapped form of an IPv4 network (::ffff:10.0.0.0/104 for 10.0.0.0/8) is the same
// network.
func NewGuard(o GuardOptions) *Guard {
	return &Guard{
		allow: unmapped(o.Allow), deny: unmapped(o.Deny), ownPorts: o.OwnPorts, public: ssrf.New(),
		own: ownAddresses{read: net.InterfaceAddrs},
	}
}

func unmapped(prefixes []netip.Prefix) []netip.Prefix {
	networks := slices.Clone(prefixes)
	for i, p := range networks {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			networks[i] = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
	}
	return networks
}

// Control is for net.Dialer.Control, which calls it with the very address that it dials next. So a name that changes
// its addresses between check and dial gains nothing. Its error is a *RefusedError.
func (g *Guard) Control(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return &RefusedError{Reason: "a receiver must be reached by TCP"}
	}
	return g.check(to)
}

// allowedAddresses is the end of each refusal.
const allowedAddresses = "a receiver must have a public address, or one in a network that the operator of this " +
	"server allows"

// check refuses every forbidden address with the same text: another one would describe the inner network.
func (g *Guard) check(to netip.AddrPort) error {
	if why := g.forbids(to); why != "" {
		return &RefusedError{
			Reason: "the receiver's address is not allowed: " + allowedAddresses, detail: to.String() + " " + why,
		}
	}
	return nil
}

// forbids returns why an address is forbidden, or "". An IPv6 zone is ignored: it names an interface and is no part of
// the address.
func (g *Guard) forbids(to netip.AddrPort) (why string) {
	a := to.Addr().WithZone("").Unmap()
	inside := a
	if wellKnownNAT64.Contains(a) {
		inside = insideOf(a)
	}
	switch {
	case slices.Contains(g.ownPorts, to.Port()) && g.isOwn(inside):
		return "is a port of this program"
	case within(g.deny, a), within(g.deny, inside):
		return "is in a denied network"
	case within(g.allow, a):
		return ""
	case g.public.SafeAddr(inside) != nil:
		return "is not public"
	case g.isOwn(inside):
		return "is this machine"
	}
	return ""
}

// insideOf is the IPv4 address in the last 32 bits.
func insideOf(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

func within(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// isOwn reports whether an address is the machine's own. An address that a router translates to the machine's is
// unknown here.
func (g *Guard) isOwn(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() || g.own.has(a) }

// ownAddressesAge is the longest time for which the addresses of the interfaces are not read again.
const ownAddressesAge = time.Second

// ownAddresses are the addresses of the machine's interfaces, which may change. To read them takes some 10 µs, and
// more with many interfaces; each dial of a public address checks it twice.
type ownAddresses struct {
	read func() ([]net.Addr, error)

	mu    sync.Mutex
	until time.Time // from then on addrs are read again
	addrs []netip.Addr
}

// has reports whether an address is one of them. If they cannot be read, the last ones count.
func (o *ownAddresses) has(a netip.Addr) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); !now.Before(o.until) {
		if interfaces, err := o.read(); err == nil {
			o.addrs, o.until = addrsOfInterfaces(interfaces), now.Add(ownAddressesAge)
		}
	}
	return slices.Contains(o.addrs, a)
}

func addrsOfInterfaces(interfaces []net.Addr) (addrs []netip.Addr) {
	for _, i := range interfaces {
		if own, err := netip.ParsePrefix(i.String()); err == nil {
			addrs = append(addrs, own.Addr().WithZone("").Unmap())
		}
	}
	return addrs
}

// allowed returns the allowed addresses of a name. If there is none, its error is the *RefusedError of the first.
func (g *Guard) allowed(addrs []netip.Addr, port uint16) (allowed []netip.Addr, refused error) {
	for _, a := range addrs {
		if err := g.check(netip.AddrPortFrom(a, port)); err == nil {
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

// CheckURL checks a URL before it is registered. It must be an absolute http or https URL, without invisible
// characters. Its host must not be a forbidden address, nor localhost if loopback is forbidden. Other names are
// resolved, and their addresses checked, at each attempt. Its error is a *RefusedError, for a message that begins with
// "url:".
func (g *Guard) CheckURL(raw string) error {
	if err := checkVisible(raw); err != nil {
		return err
	}
	_, host, port, err := ReceiverOf(raw)
	if err != nil {
		return err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return g.check(netip.AddrPortFrom(addr, uint16(port))) //nolint:gosec // parseURL has checked the port
	}
	if isLocalhost(host) {
		_, err := g.allowed(loopback, uint16(port)) //nolint:gosec // parseURL has checked the port
		return err
	}
	return nil
}

var loopback = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

func isLocalhost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
