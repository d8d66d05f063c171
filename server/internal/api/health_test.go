package api

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/store/pgtest"
)

func TestHealth(t *testing.T) {
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

	ls.loopAge.Store(int64(maxLoopTurn) + 1)
	probe("/readyz", http.StatusServiceUnavailable,
		`{"status":"unavailable","wrong":["the dispatcher's loop stands still"]}`)
	ls.closeStore()
	probe("/readyz", http.StatusServiceUnavailable,
		`{"status":"unavailable","wrong":["the store takes no write","the dispatcher's loop stands still"]}`)
	ls.loopAge.Store(0)
	probe("/readyz", http.StatusServiceUnavailable, `{"status":"unavailable","wrong":["the store takes no write"]}`)
	probe("/healthz", http.StatusOK, ok)
}

// If the database file is removed, nothing is stored, and the log has one error, however many requests fail.
func TestHealthWithoutAFile(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about the file")
	ls := newLiveServer(t)
	ls.expect(ls.send(ls.request("GET", "/readyz", nil)), http.StatusOK, `{"status":"ok"}`)
	if err := os.Remove(strings.TrimPrefix(ls.store.URL, "sqlite:")); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		g := ls.send(ls.request("GET", "/readyz", nil))
		ls.expect(g, http.StatusServiceUnavailable,
			`{"status":"unavailable","wrong":["the database's file is not as it was opened"]}`)
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
