package webhook

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// Spellings of a host, and the one form in which it is checked, looked up and sent.
var hosts = []struct{ written, mapped string }{
	{"hook.test", "hook.test"},
	{"HOOK.Test", "hook.test"},
	{"ＨＯＯＫ.test", "hook.test"},
	{"hook。test", "hook.test"},
	{"hook．test", "hook.test"},
	{"a｡hook.test", "a.hook.test"},
	{"Бюро.hook.test", "xn--90a0af9c.hook.test"},
	{"бюро.hook.test", "xn--90a0af9c.hook.test"},
	{"%D0%91%D1%8E%D1%80%D0%BE.hook.test", "xn--90a0af9c.hook.test"},
	{"xn--90a0af9c.hook.test", "xn--90a0af9c.hook.test"},
	{"XN--90A0AF9C.hook.test", "xn--90a0af9c.hook.test"},
	{"faß.test", "xn--fa-hia.test"},
	{"bücher.test", "xn--bcher-kva.test"},
	{"bu\u0308cher.test", "xn--bcher-kva.test"}, // the mark by itself
	{"نامه\u200cای.test", "xn--mgba3gch31f060k.test"},
	{"r3---sn.test", "r3---sn.test"},
	{"my_host.Test", "my_host.test"},
	{"Bü_ro.test", "xn--b_ro-0ra.test"},
	{"hook.test.", "hook.test."}, // says that it is complete
	{"hook.test。", "hook.test."},
	{"8.8.8.8", "8.8.8.8"},
	{"８。８。８。８", "8.8.8.8"},
	{"[2606:4700:0:0:0:0:0:1111]", "2606:4700::1111"},
	{"[2606:4700::ABCD]", "2606:4700::abcd"},
}

func TestReceiverOfMapsHosts(t *testing.T) {
	for _, c := range hosts {
		for prefix, port := range map[string]int{"http://": 80, "HTTPS://u:p@": 443} {
			scheme, host, got, err := ReceiverOf(prefix + c.written + "/p?q#f")
			if want, _, _ := strings.Cut(strings.ToLower(prefix), ":"); err != nil || host != c.mapped ||
				scheme != want || got != port {
				t.Errorf("%s%s: %s, %s, %d, %v", prefix, c.written, scheme, host, got, err)
			}
		}
		if _, host, port, err := ReceiverOf("http://" + c.written + ":8080"); err != nil || host != c.mapped ||
			port != 8080 {
			t.Errorf("%s:8080: %s, %d, %v", c.written, host, port, err)
		}
	}
}

// The host is the same where it is checked, in the URL that is dialled, and in the Host header.
func TestNewRequestMapsHosts(t *testing.T) {
	for _, c := range hosts {
		raw := "https://" + c.written + ":8443/"
		if err := guardOf().CheckURL(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		req, err := NewRequest(t.Context(), Delivery{URL: raw}, "agentevents", time.Now())
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if want := net.JoinHostPort(c.mapped, "8443"); req.Host != want || req.URL.Host != want {
			t.Errorf("%s: Host %s, dialled %s, want %s", raw, req.Host, req.URL.Host, want)
		}
	}
}

func TestCheckURLRefusesHosts(t *testing.T) {
	g := guardOf()
	for _, host := range []string{
		// no Punycode, or of nothing
		"xn--a.test", "xn--.test", "xn--hook-.test", "xn--90a0af9c-.test", "xn--zzzzzzzzzzzzzzz.test", "XN--A.test",
		// map to what separates the parts of a URL
		"a／b.test", "a＠b.test", "a：80.test", "a？b.test", "a＃b.test", "a％41.test", "℀.test",
		"a\u200c.test", "\u200dhook.test", // joiners where there is nothing to join
		"\ufffd.test", "אa.test", "。.test", "a。。test",
		strings.Repeat("ы", 60) + ".test", strings.Repeat("a.", 127) + "test",
	} {
		err := g.CheckURL("http://" + host + "/")
		wantRefused(t, err)
		if err != nil && err.Error() != "must have a host that is a name or an IP address" {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"ｌｏｃａｌｈｏｓｔ", "LOCALHOST。", "a.localhost．", "１２７.0.0.1", "127。0。0。1", "①⓪.0.0.1"} {
		err := g.CheckURL("http://" + host + "/")
		if err == nil || !strings.Contains(err.Error(), "a receiver must have a public address") {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"１２７.1", "0ｘ7f.1", "2130706433．"} {
		err := g.CheckURL("http://" + host + "/")
		if err == nil || !strings.Contains(err.Error(), "four decimal numbers") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// A receiver by a name that is not ASCII sees the mapped name in the look-up, in SNI and in Host.
func TestSendMapsHosts(t *testing.T) {
	var sni, host string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		host = r.Host
	}))
	server.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		sni = hello.ServerName
		return nil, nil
	}}
	server.StartTLS()
	defer server.Close()
	resolver, asked := namingDNS(t, netip.MustParseAddr("127.0.0.1"))
	s := resolvingSender(t, guardOf("127.0.0.0/8"), resolver)
	anyName := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // no certificate is for these names
	s.transport.(*rotatingTransport).current().TLSClientConfig = anyName
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	const want = "xn--90a0af9c.hook.test"
	for _, written := range []string{"Бюро.hook.test", "бюро。ＨＯＯＫ．test", "xn--90A0AF9C.hook.test"} {
		sni, host = "", ""
		wantAttempt(t, s.Send(t.Context(), to("https://"+written+":"+port+"/", gen.RequestMethodPOST)), 200, Delivered,
			"")
		s.Close() // the next one is a handshake too
		if sni != want || host != want+":"+port || asked() != want+"." {
			t.Errorf("%s: SNI %q, Host %q, looked up %q", written, sni, host, asked())
		}
	}
}

func TestCheckURLRefusesWhatCannotBeSeen(t *testing.T) {
	g := guardOf("0.0.0.0/0")
	for name, r := range map[string]rune{
		"no-break space": '\u00a0', "soft hyphen": '\u00ad', "zero-width space": '\u200b', "byte order mark": '\ufeff',
		"word joiner": '\u2060', "narrow no-break space": '\u202f', "ideographic space": '\u3000', "em space": '\u2003',
		"line separator": '\u2028', "paragraph separator": '\u2029', "left-to-right mark": '\u200e',
		"right-to-left override": '\u202e', "isolate": '\u2066', "combining grapheme joiner": '\u034f',
		"Hangul filler": '\u3164', "tag": '\U000e0041', "Mongolian vowel separator": '\u180e',
		"Ogham space": '\u1680', "function application": '\u2061',
	} {
		for _, raw := range []string{
			"X" + "http://example.com/p?q", "http://example.com/p?qX", "http://example.com/pX",
			"http://example.com/pX/r?q", "http://example.com/?qX=1",
			"http://example.comX", "http://exaXmple.com/", "http://Xexample.com/", "http://usXer:pw@example.com/",
			"http://example.com:80X/",
			"http://example.com/#fX", "hXttp://example.com/", "http:X//example.com/",
		} {
			err := g.CheckURL(strings.ReplaceAll(raw, "X", string(r)))
			wantRefused(t, err)
			want := "must not contain the invisible character " + fmt.Sprintf("%U", r) +
				" (delete it, or percent-encode it in a path or query)"
			if err == nil || err.Error() != want {
				t.Errorf("%s in %s: %v\nwant %s", name, raw, err, want)
			}
		}
	}
	for _, raw := range []string{
		"http://example.com/%C2%A0%E2%80%8B?%EF%BB%BF", // as it is to be written
		"http://example.com/❤\ufe0f",                   // selects the form of a glyph
		"http://example.com/\u0600",                    // a sign that can be seen
		"http://example.com/имя?é=株#😀",
	} {
		if err := g.CheckURL(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	// has to be encoded: in a path nothing says that it belongs there
	wantRefused(t, g.CheckURL("http://example.com/می\u200cخواهم"))
}

// URLs that were registered before the check are still sent to, with their bytes encoded.
func TestNewRequestEncodesWhatCannotBeSeen(t *testing.T) {
	req, err := NewRequest(t.Context(), Delivery{URL: "http://h/a\u200b?b\u00a0", Method: gen.RequestMethodPOST},
		"agentevents", time.Now())
	if err != nil || req.URL.RequestURI() != "/a%E2%80%8B?b%C2%A0" {
		t.Errorf("asks for %v, %v", req, err)
	}
}

// The signature is of the encoded query.
func TestSendSignsTheEncodedQuery(t *testing.T) {
	s := loopbackSender(t, ample)
	verified := make(chan error, 1)
	secret := NewSecret()
	server := httpReceiver(t, func(_ http.ResponseWriter, r *http.Request) {
		verified <- Verify(r.Header, r.URL.RawQuery, secret)
	})
	d := to(server.URL+"/a|b?{c}=^`\\\"<>&100%&d[]=é", gen.RequestMethodGET)
	d.Secrets = []string{secret}
	wantAttempt(t, s.Send(t.Context(), d), 200, Delivered, "")
	if err := <-verified; err != nil {
		t.Error(err)
	}
}
