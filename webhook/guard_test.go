package webhook

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/agentevents/agentevents/gen"
)

func guardOf(prefixes ...string) *Guard {
	return NewGuard(GuardOptions{Allow: prefixesOf(prefixes...)})
}

// dial calls the guard as net.Dialer does.
func dial(g *Guard, address string) error {
	network := "tcp6"
	if netip.MustParseAddr(address).Is4() {
		network = "tcp4"
	}
	return g.Control(network, net.JoinHostPort(address, "443"), nil)
}

func wantRefused(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[*RefusedError](err); !ok {
		t.Errorf("got %v, want a *RefusedError", err)
	}
}

func TestGuardRefusesAddresses(t *testing.T) {
	classes := map[string][]string{
		"unspecified":  {"0.0.0.0", "::"},
		"this network": {"0.0.0.1", "0.255.255.255"},
		"private": {
			"10.0.0.0", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255",
		},
		"shared (CGNAT)":     {"100.64.0.1", "100.127.255.255"},
		"loopback":           {"127.0.0.1", "127.0.0.2", "127.255.255.255", "::1"},
		"link-local":         {"169.254.0.1", "169.254.169.254", "fe80::1", "fe80::1%eth0", "febf::1"},
		"IETF protocol":      {"192.0.0.1", "192.0.0.170", "2001::1", "2001:1ff::1"},
		"documentation":      {"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"},
		"relays and AS112":   {"192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1", "2620:4f:8000::1"},
		"benchmarking":       {"198.18.0.1", "198.19.255.255", "2001:2::1"},
		"multicast":          {"224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"},
		"reserved":           {"240.0.0.1", "255.255.255.254"},
		"broadcast":          {"255.255.255.255"},
		"unique local (ULA)": {"fc00::1", "fd00::1", "fdff:ffff::1", "fd00:ec2::254"},
		"site-local":         {"fec0::1"},
		"IPv4-mapped":        {"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"},
		"IPv4-compatible":    {"::127.0.0.1", "::10.0.0.1", "::8.8.8.8"},
		"IPv4-translated":    {"::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"},
		"NAT64": {
			"64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::", "64:ff9b:0:0:0:1:808:808",
		},
		"NAT64, local use":       {"64:ff9b:1::10.0.0.1", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff::8.8.8.8"},
		"6to4":                   {"2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1"},
		"Teredo":                 {"2001:0:4136:e378:8000:63bf:3fff:fdd2"},
		"ORCHID":                 {"2001:20::1"},
		"discard":                {"100::1"},
		"segment routing":        {"5f00::1"},
		"outside global unicast": {"4000::1", "8000::1", "1fff::1"},
	}
	g := guardOf()
	for class, addresses := range classes {
		t.Run(class, func(t *testing.T) {
			for _, address := range addresses {
				wantRefused(t, dial(g, address))
			}
		})
	}
}

func TestGuardLetsPublicAddressesPass(t *testing.T) {
	g := guardOf()
	for _, address := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.215.14", "100.63.255.255", "100.128.0.0",
		"126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
		"192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
		"2001:4860:4860::8888", "2606:4700::1111", "2a00:1450:4001:80b::200e",
		"::ffff:8.8.8.8", "64:ff9b::808:808", "64:ff9b::1.1.1.1",
	} {
		if err := dial(g, address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestGuardAllowsNetworks(t *testing.T) {
	cases := []struct {
		allow     []string
		reached   []string
		neighbour []string
	}{
		{
			[]string{"10.1.0.0/16"}, []string{"10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3"}, []string{
				"10.0.255.255", "10.2.0.0", "::ffff:10.2.0.0", "::10.1.2.3", "64:ff9b::10.1.2.3", "2002:a01:203::",
			},
		},
		{[]string{"10.1.2.3/16"}, []string{"10.1.0.1"}, []string{"10.2.0.1"}}, // host bits do not matter
		{
			[]string{"127.0.0.1/32"},
			[]string{"127.0.0.1", "::ffff:127.0.0.1"},
			[]string{"127.0.0.0", "127.0.0.2", "::1"},
		},
		{[]string{"::1/128"}, []string{"::1"}, []string{"::", "::2", "127.0.0.1", "::ffff:127.0.0.1"}},
		{
			[]string{"::ffff:10.1.0.0/112"},
			[]string{"10.1.0.1", "::ffff:10.1.0.1"},
			[]string{"10.2.0.1", "::ffff:10.2.0.1"},
		},
		{
			[]string{"fd12::/16", "192.168.7.0/24"},
			[]string{"fd12::1", "192.168.7.9"},
			[]string{"fd13::1", "192.168.8.1"},
		},
		{[]string{"fe80::/10"}, []string{"fe80::1", "fe80::1%eth0"}, []string{"fec0::1", "169.254.0.1"}},
		{[]string{"64:ff9b::/96"}, []string{"64:ff9b::8.8.8.8"}, []string{"64:ff9b:1::1"}},
		{
			[]string{"0.0.0.0/0"},
			[]string{"10.0.0.1", "127.0.0.1", "::ffff:10.0.0.1"},
			[]string{"::1", "fd00::1", "64:ff9b::10.0.0.1"},
		},
	}
	for _, c := range cases {
		t.Run(strings.Join(c.allow, ","), func(t *testing.T) {
			g := guardOf(c.allow...)
			for _, address := range append(c.reached, "8.8.8.8", "2606:4700::1111") {
				if err := dial(g, address); err != nil {
					t.Errorf("%s: %v", address, err)
				}
			}
			for _, address := range c.neighbour {
				wantRefused(t, dial(g, address))
			}
		})
	}
}

// With any IPv4 network allowed, an IPv4 address passes exactly if it is in it or public.
func TestGuardAllowedNetworkAndNoMore(t *testing.T) {
	ipv4 := rapid.Custom(func(t *rapid.T) netip.Addr {
		b := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")
		return netip.AddrFrom4([4]byte(b))
	})
	rapid.Check(t, func(t *rapid.T) {
		prefix := netip.PrefixFrom(ipv4.Draw(t, "network"), rapid.IntRange(1, 32).Draw(t, "bits"))
		addr := ipv4.Draw(t, "address")
		if rapid.Bool().Draw(t, "near") { // the last address before or after the network is the likeliest mistake
			addr = rapid.SampledFrom([]netip.Addr{prefix.Masked().Addr(), prefix.Masked().Addr().Prev()}).Draw(t,
				"edge")
		}
		if !addr.IsValid() {
			return
		}
		to := netip.AddrPortFrom(addr, 443)
		got := NewGuard(GuardOptions{Allow: []netip.Prefix{prefix}}).check(to) == nil
		if want := prefix.Contains(addr) || NewGuard(GuardOptions{}).check(to) == nil; got != want {
			t.Fatalf("allowed %s: %s passes: %v, want %v", prefix, addr, got, want)
		}
	})
}

// ownGuard has an interface of the machine with two public addresses.
func ownGuard(o GuardOptions) *Guard {
	g := NewGuard(o)
	g.own.read = func() ([]net.Addr, error) {
		_, v6, _ := net.ParseCIDR("2606:4700::1111/64")
		v6.IP = net.ParseIP("2606:4700::1111")
		return []net.Addr{&net.IPNet{IP: net.IPv4(8, 8, 8, 8), Mask: net.CIDRMask(24, 32)}, v6}, nil
	}
	return g
}

func prefixesOf(texts ...string) (prefixes []netip.Prefix) {
	for _, text := range texts {
		prefixes = append(prefixes, netip.MustParsePrefix(text))
	}
	return prefixes
}

// The addresses of the interfaces are read at most once a second. If that fails, the last ones count.
func TestOwnAddressesAreReadOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, to, reads := NewGuard(GuardOptions{}), netip.MustParseAddrPort("8.8.8.8:443"), 0
		var own []net.Addr
		var failure error
		g.own.read = func() ([]net.Addr, error) {
			reads++
			return own, failure
		}
		want := func(why string, times int) {
			t.Helper()
			if got := g.forbids(to); got != why || reads != times {
				t.Errorf("got %q after %d reads, want %q after %d", got, reads, why, times)
			}
		}
		want("", 1)
		own = []net.Addr{&net.IPNet{IP: net.IPv4(8, 8, 8, 8), Mask: net.CIDRMask(24, 32)}}
		time.Sleep(ownAddressesAge - 1)
		want("", 1)
		time.Sleep(time.Nanosecond)
		want("is this machine", 2)
		want("is this machine", 2)
		own, failure = nil, errors.New("no socket is left")
		time.Sleep(ownAddressesAge)
		want("is this machine", 3)
		failure = nil
		want("", 4)
	})
}

// The machine's own addresses are forbidden unless they are allowed, denied networks are forbidden in any case, and the
// program's own ports are at any address of the machine.
func TestGuardForbids(t *testing.T) {
	everything := prefixesOf("0.0.0.0/0", "::/0")
	cases := []struct {
		options GuardOptions
		to, why string
	}{
		{GuardOptions{}, "8.8.8.8:443", "is this machine"},
		{GuardOptions{}, "[::ffff:8.8.8.8]:443", "is this machine"},
		{GuardOptions{}, "[64:ff9b::808:808]:443", "is this machine"},
		{GuardOptions{}, "[2606:4700::1111]:443", "is this machine"},
		{GuardOptions{}, "8.8.8.9:443", ""},
		{GuardOptions{Allow: prefixesOf("8.8.8.8/32")}, "8.8.8.8:443", ""},
		{GuardOptions{Deny: prefixesOf("1.1.0.0/16")}, "1.1.1.1:443", "is in a denied network"},
		{GuardOptions{Deny: prefixesOf("::ffff:1.1.0.0/112")}, "1.1.1.1:443", "is in a denied network"},
		{GuardOptions{Deny: prefixesOf("1.1.0.0/16")}, "[64:ff9b::101:101]:443", "is in a denied network"},
		{GuardOptions{Deny: prefixesOf("1.1.0.0/16")}, "1.2.1.1:443", ""},
		{GuardOptions{Allow: everything, Deny: prefixesOf("10.1.0.0/16")}, "10.1.0.1:443", "is in a denied network"},
		{GuardOptions{Allow: everything, OwnPorts: []uint16{9090}}, "8.8.8.8:9090", "is a port of this program"},
		{GuardOptions{Allow: everything, OwnPorts: []uint16{9090}}, "127.0.0.2:9090", "is a port of this program"},
		{GuardOptions{Allow: everything, OwnPorts: []uint16{9090}}, "[::]:9090", "is a port of this program"},
		{GuardOptions{Allow: everything, OwnPorts: []uint16{9090}}, "0.0.0.0:9090", "is a port of this program"},
		{GuardOptions{Allow: everything, OwnPorts: []uint16{9090}}, "8.8.8.8:8080", ""},
		{GuardOptions{Allow: everything, OwnPorts: []uint16{9090}}, "10.0.0.1:9090", ""},
	}
	for _, c := range cases {
		if why := ownGuard(c.options).forbids(netip.MustParseAddrPort(c.to)); why != c.why {
			t.Errorf("%+v, %s: got %q, want %q", c.options, c.to, why, c.why)
		}
	}
}

// A name that leads to the machine itself, to a forbidden network or to nothing looks the same to the client. The
// operator sees the addresses.
func TestSendTellsNothingOfTheInnerNetwork(t *testing.T) {
	for addr, detail := range map[string]string{
		"10.0.0.1": "10.0.0.1:80 is not public", "8.8.8.8": "8.8.8.8:80 is this machine", "": "lookup db. on ",
	} {
		var addrs []netip.Addr
		if addr != "" {
			addrs = addrsFrom(addr)
		}
		resolver, asked := namingDNS(t, addrs...)
		got := resolvingSender(t, ownGuard(GuardOptions{}), resolver).Send(t.Context(),
			to("http://db/", gen.RequestMethodPOST))
		wantAttempt(t, got, 0, Retry, unresolved("db"))
		if !strings.Contains(got.Detail, detail) || asked() != "db." {
			t.Errorf("%q was asked for, the detail is %q, want %q", asked(), got.Detail, detail)
		}
	}
}

// No search domain is tried.
func TestNamesAreAbsolute(t *testing.T) {
	for host, want := range map[string]string{
		"db": "db.", "db.": "db.", "somehost.com": "somehost.com.", "10.0.0.1": "10.0.0.1", "::1": "::1",
	} {
		if got := absolute(host); got != want {
			t.Errorf("%s is looked up as %s, want %s", host, got, want)
		}
	}
}

func TestGuardAnyPort(t *testing.T) {
	for _, address := range []string{"8.8.8.8:1", "8.8.8.8:8443", "8.8.8.8:65535", "[2606:4700::1111]:8080"} {
		network := "tcp4"
		if address[0] == '[' {
			network = "tcp6"
		}
		if err := guardOf().Control(network, address, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestGuardRefusesWhatIsNoTCPAddress(t *testing.T) {
	g := guardOf("0.0.0.0/0", "::/0")
	wantRefused(t, g.Control("udp4", "8.8.8.8:53", nil))
	wantRefused(t, g.Control("unix", "/run/docker.sock", nil))
	wantRefused(t, g.Control("tcp4", "example.com:80", nil))
	wantRefused(t, g.Control("tcp4", "", nil))
}

func TestGuardSpeaksPlainly(t *testing.T) {
	err := dial(guardOf(), "10.0.0.1")
	const want = "the receiver's address is not allowed: a receiver must have a public address, " +
		"or one in a network that the operator of this server allows"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestCheckURLAccepts(t *testing.T) {
	g := guardOf()
	for _, raw := range []string{
		"https://somehost.com/fordel/show.php",
		"http://example.com",
		"HTTP://EXAMPLE.COM:80/",
		"https://example.com:1/", "https://example.com:65535/", "https://example.com:/",
		"https://user:s3cret@example.com/", "https://user@example.com/",
		"https://example.com/?a=1&b=%20#top",
		"https://example.com?",
		"https://example.com./", "https://localhost.example.com/", "https://notlocalhost/",
		"https://münchen.example/", "https://xn--mnchen-3ya.example/",
		"https://my_host/", "https://8.8.8.8.example.com/", "https://1password.com", "https://a.0xyz",
		"http://8.8.8.8/", "http://8.8.8.8:8080/", "http://[2606:4700::1111]:8080/", "http://[64:ff9b::808:808]/",
		"http://[::ffff:8.8.8.8]/",
	} {
		if err := g.CheckURL(raw); err != nil {
			t.Errorf("CheckURL(%q): %v", raw, err)
		}
	}
}

func TestCheckURLRefuses(t *testing.T) {
	cases := []struct {
		says string // part of the message
		urls []string
	}{
		{"absolute http or https URL with a host", []string{
			"", "x", "/path", "//example.com/", "example.com", "example.com:80/x", "http:", "http:/", "http://",
			"https:///path",
			"http:example.com", "http://:80/", "http://user@/", "http://user:pw@:80", "http://?a=1", "http://#x",
			"ftp://example.com/", "file:///etc/passwd", "gopher://example.com", "javascript:alert(1)", "unix:///run/x",
			"://",
			"http://exa%zzmple.com/", "http://[::1", "http://::1/", "http://[]/", "http://[example.com]/",
			"http://[127.0.0.1]/",
			"http://[v1.x]/", "http://[fe80::1%25]/", "http://a\\b/", "http://example.com:http/",
			"http://example.com:-1/", "http://exam%20ple.com",
		}},
		{"spaces or control characters", []string{
			" http://example.com", "http://example.com ", "http://exam ple.com/", "http://example.com/a b",
			"http://example.com/?a=b c",
			"http://example.com/\r\nHost: x", "http://exa\tmple.com", "http://example.com/\x00",
			"http://example.com/\x7f", "http://example.com/\u0085",
		}},
		{
			"a name or an IP address", []string{
				"http://exam%C2%A0ple.com/", "http://a..b/", "http://.a/", "http://*.a/",
				"http://" + strings.Repeat("a", 64) + "/",
			},
		},
		{
			"a port from 1 to 65535", []string{
				"http://example.com:0/", "http://example.com:65536/", "http://example.com:99999999999999999999/",
			},
		},
		{"four decimal numbers", []string{
			"http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://127.1/", "http://127.0.1/",
			"http://0x7f.1/",
			"http://0177.0.0.1/", "http://127.0.0.01/", "http://127.0.0.0x1/", "http://127.0.0.1./", "http://0/",
			"http://8.8.8.8./",
			"http://1.2.3.4.5/", "http://256.0.0.1/", "http://host.1/", "http://0x/", "http://0X7F.1:80/",
		}},
		{
			"the receiver's address is not allowed: a receiver must have a public address",
			[]string{"http://127.0.0.1/", "https://user:pw@127.0.0.1:8443/x?y"},
		},
		{"is not allowed", []string{
			"http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/", "http://0.0.0.0/",
			"http://255.255.255.255/", "http://224.0.0.1/",
			"http://[::1]/", "http://[::]:80/", "http://[2002:808:808::1]/", "http://[::ffff:127.0.0.1]/",
			"http://[::ffff:7f00:1]/", "http://[64:ff9b:1::808:808]/",
			"http://[64:ff9b::10.0.0.1]/", "http://[2002:7f00:1::]/", "http://[fe80::1%25eth0]/", "http://[fd00::1]/",
			"http://[0:0:0:0:0:0:0:1]/", "http://localhost/", "http://LOCALHOST:8080/", "http://localhost./",
			"http://a.localhost/", "http://a.b.LocalHost./",
		}},
	}
	g := guardOf()
	for _, c := range cases {
		for _, raw := range c.urls {
			err := g.CheckURL(raw)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("CheckURL(%q) = %v, want a message with %q", raw, err, c.says)
				continue
			}
			wantRefused(t, err)
		}
	}
}

func TestCheckURLWithAllowedNetworks(t *testing.T) {
	g := guardOf("127.0.0.1/32", "10.1.0.0/16")
	for _, raw := range []string{
		"http://127.0.0.1:8080/", "http://localhost:8080/", "http://a.localhost/", "http://10.1.2.3/",
		"http://[::ffff:10.1.2.3]/",
	} {
		if err := g.CheckURL(raw); err != nil {
			t.Errorf("CheckURL(%q): %v", raw, err)
		}
	}
	for _, raw := range []string{
		"http://127.0.0.2/", "http://10.2.0.1/", "http://[::1]/", "http://2130706433/", "http://127.1/",
	} {
		wantRefused(t, g.CheckURL(raw))
	}
	if err := guardOf("::1/128").CheckURL("http://localhost/"); err != nil {
		t.Errorf("localhost with ::1 allowed: %v", err)
	}
	wantRefused(t, g.CheckURL("ftp://127.0.0.1/"))
}

func FuzzCheckURL(f *testing.F) {
	f.Add("http://us3r:s3cret@example.com:80/p?s3cret#f")
	f.Add("http://2130706433/")
	f.Add("http://[fe80::1%25eth0]:0/")
	g := guardOf()
	f.Fuzz(func(t *testing.T, raw string) {
		err := g.CheckURL(raw)
		if err == nil {
			if _, err := NewRequest(t.Context(), Delivery{URL: raw}, "", time.Now()); err != nil {
				t.Errorf("CheckURL(%q) passed what no request can be made of: %v", raw, err)
			}
			return
		}
		wantRefused(t, err)
		if err := g.CheckURL(raw + "s3cret"); err != nil && strings.Contains(raw, "?") &&
			strings.Contains(err.Error(), "s3cret") {
			t.Errorf("CheckURL(%q) leaks the query: %v", raw, err)
		}
	})
}
