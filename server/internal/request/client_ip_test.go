package request

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestClientIPTrustsOnlyTrustedProxies(t *testing.T) {
	for name, c := range map[string]struct {
		proxies, remote string
		forwarded       []string
		want            string
	}{
		"no trusted proxy":                 {"", "127.0.0.1:1", []string{"1.2.3.4"}, "127.0.0.1"},
		"a trusted proxy":                  {"127.0.0.0/8", "127.0.0.1:1", []string{"1.2.3.4"}, "1.2.3.4"},
		"another trusted proxy":            {"10.0.0.0/8", "127.0.0.1:1", []string{"1.2.3.4"}, "127.0.0.1"},
		"private networks are not trusted": {"127.0.0.0/8", "192.168.0.1:1", []string{"1.2.3.4"}, "192.168.0.1"},
		"a header that the client sent":    {"127.0.0.0/8", "127.0.0.1:1", []string{"6.6.6.6, 1.2.3.4"}, "1.2.3.4"},
		"the header twice":                 {"127.0.0.0/8", "127.0.0.1:1", []string{"6.6.6.6", "1.2.3.4"}, "1.2.3.4"},
		"two proxies": {
			"127.0.0.0/8,10.0.0.0/8", "127.0.0.1:1", []string{"1.2.3.4, 10.9.8.7"}, "1.2.3.4",
		},
		"a proxy without the header": {"127.0.0.0/8", "127.0.0.1:1", nil, "127.0.0.1"},
		"not an address":             {"127.0.0.0/8", "127.0.0.1:1", []string{"x\" level=ERROR"}, "127.0.0.1"},
		"a proxy of IPv6":            {"fd00::/8", "[fd00::1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		"IPv4 in IPv6":               {"10.0.0.0/8", "[::ffff:10.1.2.3]:1", []string{"1.2.3.4"}, "1.2.3.4"},
	} {
		var networks []netip.Prefix
		for network := range strings.SplitSeq(c.proxies, ",") {
			if network != "" {
				networks = append(networks, netip.MustParsePrefix(network))
			}
		}
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": c.forwarded}}
		if got := ClientIP(networks)(r); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
