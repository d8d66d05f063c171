package api

import (
	"net/netip"
	"strings"
	"testing"
)

func TestClientIPIsLogged(t *testing.T) {
	ls := newLiveServer(t)
	r := ls.request("GET", "/healthz", nil)
	r.Header.Set("X-Forwarded-For", "1.2.3.4")
	ls.send(r)
	if log := ls.log.String(); !strings.Contains(log, "path=/healthz ") || strings.Contains(log, "1.2.3.4") {
		t.Errorf("without a trusted proxy the log has %s", log)
	}
	ls = newLiveServer(t, netip.MustParsePrefix("127.0.0.0/8"))
	r = ls.request("GET", "/healthz", nil)
	r.Header.Set("X-Forwarded-For", "6.6.6.6, 1.2.3.4")
	ls.send(r)
	if log := ls.log.String(); !strings.Contains(log, " address=1.2.3.4 ") {
		t.Errorf("logged %s", log)
	}
}
