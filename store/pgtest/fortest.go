package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// OnPostgres reports whether this process is the one that Main started for the tests on PostgreSQL.
func OnPostgres() bool { return os.Getenv(templateVariable) != "" }

// SQLiteOnly skips the test on PostgreSQL, and logs the reason.
func SQLiteOnly(t testing.TB, reason string) {
	t.Helper()
	if OnPostgres() {
		t.Skip("on SQLite alone: " + reason)
	}
}

// PostgresOnly skips the test on SQLite, and logs the reason.
func PostgresOnly(t testing.TB, reason string) {
	t.Helper()
	if !OnPostgres() {
		t.Skip("on PostgreSQL alone: " + reason)
	}
}

// URL returns the URL of the test's own database: on PostgreSQL, or an SQLite file that does not exist yet.
func URL(t testing.TB) string {
	t.Helper()
	if OnPostgres() {
		return Database(t)
	}
	return "sqlite:" + filepath.Join(t.TempDir(), "agentevents.db")
}

// Numbered returns a statement with the engine's placeholders: each ? stays on SQLite, and becomes $1, $2, … on
// PostgreSQL.
func Numbered(statement string) string {
	if !OnPostgres() {
		return statement
	}
	parts := strings.Split(statement, "?")
	for i := range parts[1:] {
		parts[i] += fmt.Sprintf("$%d", i+1)
	}
	return strings.Join(parts, "")
}

// ForTest starts a cluster of the test's own. Without PostgreSQL, it skips the test, or fails it if CI is set in the
// environment.
func ForTest(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := Start(context.Background(), o)
	Need(t, err)
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Need ends the test if err is not nil. It skips the test for ErrNone, unless CI is set in the environment, and fails
// it for all other errors.
func Need(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrNone) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Database creates a copy of the template of Suite.Prepare on PostgreSQL for the test, and returns its URL.
func Database(t testing.TB) string {
	t.Helper()
	return CopyOf(t, os.Getenv(templateVariable))
}

// CopyOf copies a database on PostgreSQL for the test, and returns the copy's URL. The original must have no
// connections.
func CopyOf(t testing.TB, url string) string {
	t.Helper()
	return forTest(t, func(s *Server) (string, error) { return s.Copy(context.Background(), url) })
}

// Empty creates a database without tables on PostgreSQL for the test, and returns its URL.
func Empty(t testing.TB) string {
	t.Helper()
	return forTest(t, func(s *Server) (string, error) { return s.Create(context.Background()) })
}

func forTest(t testing.TB, create func(*Server) (string, error)) string {
	t.Helper()
	server := At(os.Getenv(ServerVariable))
	url, err := create(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Drop(context.Background(), url); err != nil {
			t.Error(err)
		}
	})
	return url
}
