package request

import (
	"net"
	"net/netip"

	"github.com/labstack/echo/v4"
)

// ClientIP returns what a request's address is found by: that of its connection or, where that is a trusted proxy's,
// the last one in X-Forwarded-For that is none's.
func ClientIP(proxies []netip.Prefix) echo.IPExtractor {
	if len(proxies) == 0 {
		return echo.ExtractIPDirect()
	}
	trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, p := range proxies {
		address := p.Addr()
		trust = append(trust, echo.TrustIPRange(&net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(p.Bits(), address.BitLen())}))
	}
	return echo.ExtractIPFromXFFHeader(trust...)
}
