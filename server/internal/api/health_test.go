package api

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/store/pgtest"
)

func TestReadinessReportsProblems(t *testing.T) {
	ls := newLiveServer(t)
	probe := func(path string, status int, body string) {
		t.Helper()
		g := ls.send(ls.request("GET", path, nil))
		ls.expect(g, status, body)
		if typ := g.header.Get("Content-Type"); typ != "application/json" {
			t.Errorf("Content-Type %q", typ)
		}
	}
	const ok = `{"status":"ok"}`
	probe("/healthz", http.StatusOK, ok)
	probe("/readyz", http.StatusOK, ok)

	ls.heartbeatAge.Store(int64(maxHeartbeatAge) + 1)
	probe("/readyz", http.StatusServiceUnavailable,
		`{"status":"unavailable","wrong":["the dispatcher has stalled"]}`)
	ls.closeStore()
	probe("/readyz", http.StatusServiceUnavailable,
		`{"status":"unavailable","wrong":["the store does not accept writes","the dispatcher has stalled"]}`)
	ls.heartbeatAge.Store(0)
	probe("/readyz", http.StatusServiceUnavailable,
		`{"status":"unavailable","wrong":["the store does not accept writes"]}`)
	probe("/healthz", http.StatusOK, ok)
}

// After the database file is removed, the server stores nothing. The log has one error, however many requests fail.
func TestServerIsNotReadyWithoutItsFile(t *testing.T) {
	pgtest.SQLiteOnly(t, "PostgreSQL has no file")
	ls := newLiveServer(t)
	ls.expect(ls.send(ls.request("GET", "/readyz", nil)), http.StatusOK, `{"status":"ok"}`)
	if err := os.Remove(strings.TrimPrefix(ls.store.URL, "sqlite:")); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		g := ls.send(ls.request("GET", "/readyz", nil))
		ls.expect(g, http.StatusServiceUnavailable,
			`{"status":"unavailable","wrong":["the database file was removed, replaced or truncated"]}`)
		r := ls.request("PUT", contract.BasePath+"/client/12", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		if g := ls.send(r); g.status != http.StatusServiceUnavailable {
			t.Errorf("a client is stored: %d %s", g.status, g.body)
		}
	}
	if n := strings.Count(ls.log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors in the log: %s", n, ls.log)
	}
}
