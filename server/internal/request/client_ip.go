package request

import (
	"net"
	"net/netip"

	"github.com/labstack/echo/v4"
)

// ClientIP returns the function by which Echo finds the address of a client. The address is that of the connection. If
// the connection is from a trusted proxy, it is the last address in X-Forwarded-For that is not a trusted proxy.
func ClientIP(trusted []netip.Prefix) echo.IPExtractor {
	if len(trusted) == 0 {
		return echo.ExtractIPDirect()
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, network := range trusted {
		first := network.Addr()
		options = append(options, echo.TrustIPRange(&net.IPNet{
			IP: first.AsSlice(), Mask: net.CIDRMask(network.Bits(), first.BitLen()),
		}))
	}
	return echo.ExtractIPFromXFFHeader(options...)
}
