package webhook

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// ReceiverOf returns scheme, host and port of a URL, in one form for all spellings. An IPv6 address is without
// brackets. If the URL is invalid, the error is a *RefusedError.
func ReceiverOf(rawURL string) (scheme, host string, port int, err error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return "", "", 0, err
	}
	port = 80
	if u.Scheme == "https" {
		port = 443
	}
	if p := u.Port(); p != "" {
		port, err = strconv.Atoi(p)
	}
	return u.Scheme, u.Hostname(), port, err
}

// parseURL returns the URL for a request. Its host has the form in which it is looked up; its fragment is dropped. Path
// and query are as registered, except that bytes that RFC 3986 does not allow there are percent-encoded. Its error
// never quotes raw, which may have secrets.
func parseURL(raw string) (*url.URL, error) {
	if strings.ContainsFunc(raw, isSpaceOrControl) {
		return nil, &RefusedError{
			Reason: "must not contain spaces or control characters (in a URL they are percent-encoded)",
		}
	}
	head, path, query := split(raw)
	u, err := url.Parse(head + encodeInvalid(path) + encodeInvalid(query))
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &RefusedError{
			Reason: "must be an absolute http or https URL with a host, such as https://example.com/path",
		}
	}
	host, err := mapHost(u.Hostname())
	if err != nil {
		return nil, err
	}
	u.Host = hostPort(host, u.Port())
	return u, checkPort(u.Port())
}

// split splits a URL into scheme and authority, path, and query with its question mark.
func split(raw string) (head, path, query string) {
	rest, _, _ := strings.Cut(raw, "#")
	if i := strings.IndexByte(rest, '?'); i >= 0 {
		rest, query = rest[:i], rest[i:]
	}
	head = rest
	if i := strings.Index(rest, "://"); i >= 0 {
		i += len("://")
		if slash := strings.IndexByte(rest[i:], '/'); slash >= 0 {
			head, path = rest[:i+slash], rest[i+slash:]
		}
	}
	return head, path, query
}

func isSpaceOrControl(r rune) bool { return r == ' ' || unicode.IsControl(r) }

// checkVisible refuses invisible characters, which are in a URL by mistake. A host may have joiners, which some
// languages need; its mapping checks their places.
func checkVisible(raw string) error {
	head, _, _ := split(raw)
	for i, r := range raw {
		if isInvisible(r) && (i >= len(head) || !isJoiner(r)) {
			return &RefusedError{Reason: fmt.Sprintf(
				"must not contain the invisible character %U (delete it, or percent-encode it in a path or query)", r)}
		}
	}
	return nil
}

// isInvisible reports spaces of all kinds and characters without a glyph, except selectors of a glyph's form.
func isInvisible(r rune) bool {
	return r > unicode.MaxASCII && unicode.In(r, unicode.Z, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point) &&
		!unicode.Is(unicode.Prepended_Concatenation_Mark, r)
}

// isJoiner reports the zero-width joiner and non-joiner.
func isJoiner(r rune) bool { return unicode.Is(unicode.Join_Control, r) }

// encodeInvalid percent-encodes the bytes that RFC 3986 allows in neither a path nor a query, and a percent sign that
// encodes nothing.
func encodeInvalid(s string) string {
	first := firstInvalid(s)
	if first == len(s) {
		return s
	}
	var b strings.Builder
	for first < len(s) {
		b.WriteString(s[:first])
		fmt.Fprintf(&b, "%%%02X", s[first])
		s = s[first+1:]
		first = firstInvalid(s)
	}
	b.WriteString(s)
	return b.String()
}

// firstInvalid returns the index of the first byte to be encoded, or the length.
func firstInvalid(s string) int {
	for i := range len(s) {
		if !isAllowed(s[i]) && !isEncoded(s[i:]) {
			return i
		}
	}
	return len(s)
}

// isEncoded reports whether s begins with a percent-encoded byte.
func isEncoded(s string) bool { return len(s) > 2 && s[0] == '%' && isHex(s[1]) && isHex(s[2]) }

// isAllowed reports the characters of pchar (RFC 3986, section 3.3), and the separators / and ?.
func isAllowed(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("-._~!$&'()*+,;=:@/?", c) >= 0
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

// lookup maps names for a look-up by UTS 46, nontransitional. It allows underscores and hyphens everywhere, as DNS
// does.
var lookup = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(),
	idna.StrictDomainName(false), idna.CheckHyphens(false))

// mapHost returns the form of a host in which it is checked, looked up and sent: a name in lower-case ASCII, an IPv6
// address by RFC 5952.
func mapHost(host string) (string, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String(), nil
	}
	name := host
	if !isPlain(host) {
		var err error
		if name, err = lookup.ToASCII(host); err != nil {
			return "", errHost
		}
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.String(), nil
	}
	return name, checkName(name)
}

var errHost = &RefusedError{Reason: "must have a host that is a name or an IP address"}

// isPlain reports whether a name is mapped to itself: lower-case ASCII without an encoded label.
func isPlain(name string) bool {
	return !strings.Contains(name, "xn--") && strings.IndexFunc(name, func(r rune) bool {
		return r > unicode.MaxASCII || 'A' <= r && r <= 'Z'
	}) < 0
}

// checkName refuses names that DNS cannot have. It also refuses forms that only some resolvers read as an IPv4 address
// (2130706433, 0x7f.1, 127.1), and any other name whose last label is a number: no name ends so.
func checkName(name string) error {
	name = strings.TrimSuffix(name, ".")
	if len(name) > 253 {
		return errHost
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, isNotOfName) {
			return errHost
		}
	}
	if isNumber(name[strings.LastIndexByte(name, '.')+1:]) {
		return &RefusedError{Reason: "must write an IPv4 address as four decimal numbers, such as 192.0.2.1"}
	}
	return nil
}

func isNotOfName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// hostPort joins a host with a port, which may be empty.
func hostPort(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" {
		return host
	}
	return host + ":" + port
}

// checkPort accepts the empty port, which is the scheme's own.
func checkPort(port string) error {
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return &RefusedError{Reason: fmt.Sprintf("must have a port from 1 to %d, or none", 1<<16-1)}
	}
	return nil
}
