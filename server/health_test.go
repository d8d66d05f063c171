package main

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/pgtest"
)

func TestHealth(t *testing.T) {
	s := newSite(t)
	probe := func(path string, status int, body string) {
		t.Helper()
		g := s.send(s.request("GET", path, nil))
		s.expect(g, status, body)
		if typ := g.header.Get("Content-Type"); typ != "application/json" {
			t.Errorf("Content-Type %q", typ)
		}
	}
	const ok = `{"status":"ok"}`
	probe("/healthz", http.StatusOK, ok)
	probe("/readyz", http.StatusOK, ok)

	s.lag.Store(int64(longestTurn) + 1)
	probe("/readyz", http.StatusServiceUnavailable, `{"status":"unavailable","wrong":["the dispatcher's loop stands still"]}`)
	s.closeStore()
	probe("/readyz", http.StatusServiceUnavailable,
		`{"status":"unavailable","wrong":["the store takes no write","the dispatcher's loop stands still"]}`)
	s.lag.Store(0)
	probe("/readyz", http.StatusServiceUnavailable, `{"status":"unavailable","wrong":["the store takes no write"]}`)
	probe("/healthz", http.StatusOK, ok)
}

// When the database's file is removed nothing is stored any more, and the log has one line of it, however much fails.
func TestHealthWithoutAFile(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about the file")
	s := newSite(t)
	s.expect(s.send(s.request("GET", "/readyz", nil)), http.StatusOK, `{"status":"ok"}`)
	if err := os.Remove(strings.TrimPrefix(s.store.URL, "sqlite:")); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		g := s.send(s.request("GET", "/readyz", nil))
		s.expect(g, http.StatusServiceUnavailable, `{"status":"unavailable","wrong":["the database's file is not as it was opened"]}`)
		r := s.request("PUT", basePath+"/client/12", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		if g := s.send(r); g.status != http.StatusServiceUnavailable {
			t.Errorf("a client is stored: %d %s", g.status, g.body)
		}
	}
	if n := strings.Count(s.log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors in the log: %s", n, s.log)
	}
}
