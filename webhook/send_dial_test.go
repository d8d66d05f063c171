package webhook

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/agentevents/agentevents/gen"
)

// namingDNS answers each question with the addresses of its family. It returns a resolver, and a function that returns
// the last name that was asked for.
func namingDNS(t *testing.T, addrs ...netip.Addr) (*net.Resolver, func() string) {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Value
	done := make(chan struct{})
	go func() {
		defer close(done)
		for packet := make([]byte, 1500); ; {
			n, from, err := server.ReadFrom(packet)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(packet[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			asked.Store(m.Questions[0].Name.String())
			for _, a := range addrs {
				m.Answers = append(m.Answers, recordsOf(m.Questions[0], a)...)
			}
			reply, _ := m.Pack()
			_, _ = server.WriteTo(reply, from)
		}
	}()
	t.Cleanup(func() { server.Close(); <-done })
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}
	return &net.Resolver{PreferGo: true, Dial: dial}, func() string { name, _ := asked.Load().(string); return name }
}

// recordsOf is nothing for an address of the other family.
func recordsOf(q dnsmessage.Question, a netip.Addr) []dnsmessage.Resource {
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}
	switch {
	case q.Type == dnsmessage.TypeA && a.Is4():
		return []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: a.As4()}}}
	case q.Type == dnsmessage.TypeAAAA && a.Is6():
		return []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}}}
	}
	return nil
}

func addrsFrom(texts ...string) (addrs []netip.Addr) {
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs
}

// A name is refused only if all its addresses are, in any order. Then it looks as if it did not exist.
func TestSendJudgesANameByAllItsAddresses(t *testing.T) {
	const refused = "the receiver refused the connection"
	missing := unresolved("many.example")
	cases := []struct {
		name    string
		addrs   []string
		allow   []string
		verdict Verdict
		text    string
	}{
		{"one allowed, which is closed", []string{"::1", "127.0.0.1"}, []string{"127.0.0.0/8"}, Retry, refused},
		{"the other one allowed", []string{"::1", "127.0.0.1"}, []string{"::1/128"}, Retry, refused},
		{"the first of a family", []string{"127.0.0.1", "127.0.0.2"}, []string{"127.0.0.1/32"}, Retry, refused},
		{"the second of a family", []string{"127.0.0.1", "127.0.0.2"}, []string{"127.0.0.2/32"}, Retry, refused},
		{
			"the last of many",
			[]string{"10.0.0.1", "192.168.0.1", "fd00::1", "169.254.169.254", "127.0.0.9"},
			[]string{"127.0.0.9/32"},
			Retry, refused,
		},
		{"both", []string{"::1", "127.0.0.1"}, []string{"127.0.0.0/8", "::1/128"}, Retry, refused},
		{"none", []string{"127.0.0.1", "::1", "10.0.0.1"}, nil, Retry, missing},
		{"none, of one family", []string{"127.0.0.1", "127.0.0.2"}, []string{"127.0.0.3/32"}, Retry, missing},
		{"NAT64 of a private one", []string{"64:ff9b::10.0.0.1", "127.0.0.1"}, []string{"10.0.0.0/8"}, Retry, missing},
		{"no address", nil, []string{"10.0.0.0/8"}, Retry, missing},
	}
	closed := listen(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(closed.Addr().String())
	closed.Close()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			addrs := addrsFrom(c.addrs...)
			for range max(1, len(addrs)) {
				addrs = append(addrs[min(1, len(addrs)):], addrs[:min(1, len(addrs))]...)
				resolver, _ := namingDNS(t, addrs...)
				got := resolvingSender(t, guardOf(c.allow...), resolver).Send(t.Context(),
					to("http://many.example:"+port, gen.RequestMethodPOST))
				wantAttempt(t, got, 0, c.verdict, c.text)
			}
		})
	}
}

// A forbidden address is not dialled, and after a closed one the next is tried.
func TestSendReachesTheAddressThatItMay(t *testing.T) {
	port, first, second := twoReceivers(t)
	resolver, _ := namingDNS(t, addrsFrom("127.0.0.1", "127.0.0.2", "127.0.0.3", "::1")...)
	url := "http://many.example:" + port
	wantAttempt(
		t, resolvingSender(t, guardOf("127.0.0.2/32"), resolver).Send(t.Context(), to(url, gen.RequestMethodPOST)),
		204, Delivered, "",
	)
	if first.Load() != 0 || second.Load() != 1 {
		t.Errorf("%d and %d connections, want 0 and 1", first.Load(), second.Load())
	}
	wantAttempt(
		t, resolvingSender(t, guardOf("127.0.0.2/31", "::1/128"), resolver).Send(t.Context(),
			to(url, gen.RequestMethodPOST)), 204, Delivered, "",
	)
	if first.Load() != 0 || second.Load() != 2 {
		t.Errorf("%d and %d connections, want 0 and 2", first.Load(), second.Load())
	}
}

// pipe is a connection that a test can distinguish from others.
type pipe struct {
	net.Conn
	to     netip.Addr
	closed chan struct{}
}

func (p *pipe) Close() error { close(p.closed); return nil }

var errDown = errors.New("down")

// world is the behaviour of each address when it is dialled.
type world map[string]func(ctx context.Context, p *pipe) (net.Conn, error)

func (w world) connect(ctx context.Context, a netip.Addr) (net.Conn, error) {
	return w[a.String()](ctx, &pipe{to: a, closed: make(chan struct{})})
}

func up(_ context.Context, p *pipe) (net.Conn, error) { return p, nil }
func down(_ context.Context, p *pipe) (net.Conn, error) {
	return nil, errors.Join(errDown, errors.New(p.to.String()))
}
func silent(ctx context.Context, _ *pipe) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }

// raceOf dials two families with a head start, within a minute.
func raceOf(t *testing.T, w world, headStart time.Duration, preferred, others []string) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), ample)
	defer cancel()
	d := &guarded{headStart: headStart}
	return d.race(ctx, addrsFrom(preferred...), addrsFrom(others...), w.connect)
}

func TestDialRace(t *testing.T) {
	w := world{"::1": up, "::2": down, "::3": silent, "10.0.0.1": up, "10.0.0.2": down, "10.0.0.3": silent}
	cases := []struct {
		name              string
		preferred, others []string
		headStart         time.Duration
		want              string // an address, or of which the error is
	}{
		{"one family", []string{"::1"}, nil, ample, "::1"},
		{"one family, the second address", []string{"::2", "::1"}, nil, ample, "::1"},
		{"one family, none", []string{"::2"}, nil, ample, "down\n::2"},
		{"the preferred one is up", []string{"::1"}, []string{"10.0.0.1"}, ample, "::1"},
		{"the preferred one is down", []string{"::2"}, []string{"10.0.0.1"}, ample, "10.0.0.1"},
		{"the preferred one is silent", []string{"::3"}, []string{"10.0.0.1"}, time.Millisecond, "10.0.0.1"},
		{"both are down", []string{"::2"}, []string{"10.0.0.2"}, ample, "down\n::2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			conn, err := raceOf(t, w, c.headStart, c.preferred, c.others)
			if err != nil {
				if err.Error() != c.want {
					t.Errorf("the error is %q, want %q", err, c.want)
				}
				return
			}
			if got := conn.(*pipe).to.String(); got != c.want {
				t.Errorf("connected to %s, want %s", got, c.want)
			}
		})
	}
}

// Of two connections the later one is closed, whichever that is.
func TestDialRaceClosesTheSlower(t *testing.T) {
	for _, fastest := range []string{"::1", "10.0.0.1"} {
		synctest.Test(t, func(t *testing.T) {
			made, proceed := make(chan *pipe, 1), make(chan struct{})
			slow := func(_ context.Context, p *pipe) (net.Conn, error) {
				<-proceed
				made <- p
				return p, nil
			}
			w := world{"::1": slow, "10.0.0.1": slow}
			w[fastest] = func(_ context.Context, p *pipe) (net.Conn, error) { <-time.After(brief); return p, nil }
			conn, err := raceOf(t, w, time.Millisecond, []string{"::1"}, []string{"10.0.0.1"})
			if err != nil || conn.(*pipe).to.String() != fastest {
				t.Fatalf("connected to %v, %v", conn, err)
			}
			close(proceed)
			<-(<-made).closed
		})
	}
}

// If all fail, the error is that of the preferred family, whichever fails last.
func TestDialRaceFails(t *testing.T) {
	for _, last := range []string{"::1", "10.0.0.1"} {
		synctest.Test(t, func(t *testing.T) {
			w := world{"::1": down, "10.0.0.1": down}
			w[last] = func(ctx context.Context, p *pipe) (net.Conn, error) { <-time.After(brief); return down(ctx, p) }
			_, err := raceOf(t, w, time.Millisecond, []string{"::1"}, []string{"10.0.0.1"})
			if err == nil || err.Error() != "down\n::1" {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// A silent address leaves time for the next one, and a dial that has ended tries no other.
func TestDialSharesTheTime(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for addrs, want := range map[int]time.Duration{1: 30 * time.Second, 3: 10 * time.Second, 30: 2 * time.Second} {
		if got := shareOf(ctx, addrs); got > want || got < want-time.Second {
			t.Errorf("one of %d has %s, want %s", addrs, got, want)
		}
	}
	over, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	w := world{"::3": silent, "::1": up}
	if conn, err := inTurn(over, addrsFrom("::3", "::1"), w.connect); conn != nil ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connected to %v, %v", conn, err)
	}
}
