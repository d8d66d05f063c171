package main

import (
	"net/http"
	"testing"
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
