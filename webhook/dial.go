package webhook

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// guarded connects to one of the allowed addresses of a name.
type guarded struct {
	net.Dialer // of one address, which its Control checks again
	guard      *Guard
	headStart  time.Duration // of the addresses of the family that the resolver prefers
}

func newGuarded(dialer *net.Dialer, guard *Guard) *guarded {
	d := &guarded{Dialer: *dialer, guard: guard, headStart: 300 * time.Millisecond} // as net.Dialer has it
	d.Control = guard.Control
	return d
}

// unresolvedError means that a name has no allowed address. Whether it has forbidden ones is for the operator alone:
// that would tell which names of the inner network exist.
type unresolvedError struct {
	name   string
	detail string // for the operator alone
}

func (e *unresolvedError) Error() string {
	return "the host name " + e.name + " could not be resolved to an allowed address: " + allowedAddresses
}

// dial connects to an address of the form host:port. Addresses that are not allowed are left out. If none is left, its
// error is a *RefusedError for an address or localhost, and an *unresolvedError for another name. Otherwise it is the
// error of the first allowed address.
func (d *guarded) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	allowed, err := d.resolve(ctx, host, port)
	if err != nil {
		return nil, err
	}
	preferred, others := byFamily(allowed)
	return d.race(ctx, preferred, others, func(ctx context.Context, a netip.Addr) (net.Conn, error) {
		return d.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
	})
}

// resolve returns the allowed addresses of a host.
func (d *guarded) resolve(ctx context.Context, host, port string) ([]netip.Addr, error) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	if isLocalhost(host) {
		return d.guard.allowed(loopback, uint16(number)) // needs no resolver (RFC 6761, section 6.3)
	}
	found, err := d.Resolver.LookupIPAddr(ctx, absolute(host))
	if err != nil {
		return nil, &unresolvedError{name: host, detail: err.Error()}
	}
	allowed, err := d.guard.allowed(addrsOf(found), uint16(number))
	if refused, ok := errors.AsType[*RefusedError](err); ok && !isAddress(host) {
		return nil, &unresolvedError{name: host, detail: refused.detail}
	}
	if len(allowed) == 0 && err == nil {
		return nil, &unresolvedError{name: host, detail: "no address"}
	}
	return allowed, err
}

// absolute is a host as it is looked up. A name is absolute, with a dot at its end: otherwise the resolver would search
// the domains of the inner network for it.
func absolute(host string) string {
	if isAddress(host) || strings.HasSuffix(host, ".") {
		return host
	}
	return host + "."
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func addrsOf(found []net.IPAddr) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(found))
	for _, f := range found {
		if a, ok := netip.AddrFromSlice(f.IP); ok {
			addrs = append(addrs, a.Unmap().WithZone(f.Zone)) // an IPv4 address has no zone
		}
	}
	return addrs
}

// byFamily splits addresses into those of the first one's family and the others.
func byFamily(addrs []netip.Addr) (preferred, others []netip.Addr) {
	for _, a := range addrs {
		if a.Is4() == addrs[0].Is4() {
			preferred = append(preferred, a)
		} else {
			others = append(others, a)
		}
	}
	return preferred, others
}

// connect opens a connection to one address.
type connect func(context.Context, netip.Addr) (net.Conn, error)

// dialled is the result of connect.
type dialled struct {
	conn net.Conn
	err  error
}

// race returns the first connection of two families (RFC 8305). The others start when the preferred ones have failed,
// or have not connected within the head start. If all fail, the error is that of the preferred ones.
func (d *guarded) race(ctx context.Context, preferred, others []netip.Addr, to connect) (net.Conn, error) {
	if len(others) == 0 {
		return inTurn(ctx, preferred, to)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := start(ctx, preferred, to)
	timer := time.NewTimer(d.headStart)
	defer timer.Stop()
	select {
	case got := <-first:
		if got.err == nil {
			return got.conn, nil
		}
		conn, err := inTurn(ctx, others, to)
		return conn, orFirst(got.err, err)
	case <-timer.C:
	}
	return faster(first, start(ctx, others, to))
}

// start connects in the background. Its channel gets one value.
func start(ctx context.Context, addrs []netip.Addr, to connect) <-chan dialled {
	got := make(chan dialled, 1)
	go func() {
		conn, err := inTurn(ctx, addrs, to)
		got <- dialled{conn, err}
	}()
	return got
}

// faster returns the first connection of two, and closes the other one.
func faster(preferred, others <-chan dialled) (net.Conn, error) {
	var got dialled
	slower := others
	select {
	case got = <-preferred:
	case got = <-others:
		slower = preferred
	}
	if got.err == nil {
		go func() {
			if late := <-slower; late.err == nil {
				late.conn.Close()
			}
		}()
		return got.conn, nil
	}
	last := <-slower
	if slower == others {
		return last.conn, orFirst(got.err, last.err)
	}
	return last.conn, last.err
}

// orFirst returns the first error of two, or nil if the second is nil.
func orFirst(first, second error) error {
	if second == nil {
		return nil
	}
	return first
}

// inTurn tries one address after the other, each for its share of the time that is left.
func inTurn(ctx context.Context, addrs []netip.Addr, to connect) (conn net.Conn, first error) {
	for i, a := range addrs {
		share, cancel := context.WithTimeout(ctx, shareOf(ctx, len(addrs)-i))
		conn, err := to(share, a)
		cancel()
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// shareOf is the time for one of so many addresses: an equal part of the time left, but at least 2 s, as with
// net.Dialer.
func shareOf(ctx context.Context, addrs int) time.Duration {
	deadline, _ := ctx.Deadline() // dial sets one
	left := time.Until(deadline)
	return min(left, max(left/time.Duration(addrs), 2*time.Second))
}
