package telemetry

import (
	"database/sql"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver sqlite3
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

// A scrape omits metrics that cannot be read from the store, and has all others.
func TestMetricsOmitWhatCannotBeRead(t *testing.T) {
	st := openStore(t, pgtest.URL(t))
	m := NewMetrics(st, "test", "test")
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	got := scrape(t, m)
	for _, line := range []string{
		"agentevents_store_up 0", "agentevents_attempts_in_flight 0", `agentevents_deliveries_total{state="failed"} 0`,
	} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("%s is missing in\n%s", line, got)
		}
	}
	for _, name := range []string{
		"deliveries_pending", "lanes_due", "oldest_due_seconds", "breakers_open", "events_disabled",
	} {
		if regexp.MustCompile("(?m)^agentevents_" + name + `\b`).MatchString(got) {
			t.Errorf("%s is present after the store was closed:\n%s", name, got)
		}
	}
}

var (
	helpLine = regexp.MustCompile(`(?m)^# HELP agentevents_\w+ (.*)$`)
	mixed    = regexp.MustCompile(`\w*[a-z][A-Z]\w*`)
)

// Each metric has a help text without identifiers of the code.
func TestHelpTextsHaveNoIdentifiers(t *testing.T) {
	known := []string{"operationId", "PostgreSQL"}
	texts := helpLine.FindAllStringSubmatch(scrape(t, NewMetrics(openStore(t, pgtest.URL(t)), "test", "test")), -1)
	if len(texts) == 0 {
		t.Fatal("no metric has a help text")
	}
	for _, text := range texts {
		for _, word := range mixed.FindAllString(text[1], -1) {
			if !slices.Contains(known, word) {
				t.Errorf("%s has the identifier %s", text[0], word)
			}
		}
	}
}

// The collector of the store describes each of its metrics.
func TestStoreMetricsAreDescribed(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(storeCollector{openStore(t, pgtest.URL(t))})
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
}

// A scrape ends within its time limit even if nothing can be written.
func TestScrapeEndsAlthoughTheStoreHangs(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	st := openStore(t, url)
	db, err := sql.Open("sqlite3", strings.TrimPrefix(url, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	m, began := NewMetrics(st, "test", "test"), time.Now()
	got := scrape(t, m)
	for _, line := range []string{"agentevents_store_up 0", "agentevents_breakers_open 0"} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("%s is missing in\n%s", line, got)
		}
	}
	if took := time.Since(began); took >= 5*time.Second { // SQLite's own busy timeout
		t.Errorf("the scrape took %v", took)
	}
}

func openStore(t *testing.T, url string) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{URL: url, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}
