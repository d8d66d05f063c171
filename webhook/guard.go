package webhook

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"unicode"

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
// documentation, multicast and reserved addresses are refused, and so is every IPv6 form that wraps an IPv4
// address: mapped, NAT64, 6to4. Any port may be used.
type Guard struct {
	addresses *ssrf.Guardian
}

// NewGuard returns a guard that lets the networks of allow pass in addition to public addresses. The mapped form of
// an allowed IPv4 network (::ffff:10.0.0.0/104 for 10.0.0.0/8) is the same network.
func NewGuard(allow []netip.Prefix) *Guard {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		switch a := p.Addr(); {
		case a.Is4():
			v4 = append(v4, p)
			v6 = append(v6, netip.PrefixFrom(netip.AddrFrom16(a.As16()), p.Bits()+96))
		case a.Is4In6() && p.Bits() >= 96:
			v4 = append(v4, netip.PrefixFrom(a.Unmap(), p.Bits()-96))
			v6 = append(v6, p)
		default:
			v6 = append(v6, p)
		}
	}
	return &Guard{ssrf.New(ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))}
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
	if g.addresses.SafeAddr(addr.WithZone("")) == nil {
		return nil
	}
	return refuse("the address " + addr.String())
}

func refuse(who string) error {
	return &RefusedError{Reason: who + " is not one that receivers may live at " +
		"(public addresses are, and networks that the operator of this server allows)"}
}

// CheckURL refuses what can never be sent to: anything but an absolute http or https URL with a host, and a host
// that is a forbidden address or this machine by name. Other names are looked up, and their addresses checked, at
// each attempt. Its error is a *RefusedError that reads on after "url:".
func (g *Guard) CheckURL(raw string) error {
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

// parseURL returns a URL that a request can be made of. Its error never quotes raw, which may hold secrets.
func parseURL(raw string) (*url.URL, error) {
	if strings.ContainsFunc(raw, isSpaceOrControl) {
		return nil, &RefusedError{Reason: "must not contain spaces or control characters (in a URL they are percent-encoded)"}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &RefusedError{Reason: "must be an absolute http or https URL with a host, such as https://example.com/path"}
	}
	if err := checkHost(u.Hostname()); err != nil {
		return nil, err
	}
	return u, checkPort(u.Port())
}

func isSpaceOrControl(r rune) bool { return r == ' ' || unicode.IsControl(r) }

// checkHost refuses the forms in which only some resolvers see an IPv4 address (2130706433, 0x7f.1, 127.1), and all
// else whose last label is a number: no name ends so.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if strings.ContainsFunc(host, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == ':' }) {
		return &RefusedError{Reason: "must have a host that is a name or an IP address"}
	}
	host = strings.TrimSuffix(host, ".")
	if isNumber(host[strings.LastIndexByte(host, '.')+1:]) {
		return &RefusedError{Reason: "must write an IPv4 address as four decimal numbers, such as 192.0.2.1"}
	}
	return nil
}

func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(strings.ToLower(label), "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// checkPort takes the empty port for the scheme's own.
func checkPort(port string) error {
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return &RefusedError{Reason: fmt.Sprintf("must have a port from 1 to %d, or none", 1<<16-1)}
	}
	return nil
}
