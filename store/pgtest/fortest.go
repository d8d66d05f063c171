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

// OnPostgres tells whether this process is the one that Main started for the tests on PostgreSQL.
func OnPostgres() bool { return os.Getenv(templateVariable) != "" }

// SQLiteOnly skips a test on PostgreSQL, and says why.
func SQLiteOnly(t testing.TB, why string) {
	t.Helper()
	if OnPostgres() {
		t.Skip("on SQLite alone: " + why)
	}
}

// PostgresOnly skips a test on SQLite, and says why.
func PostgresOnly(t testing.TB, why string) {
	t.Helper()
	if !OnPostgres() {
		t.Skip("on PostgreSQL alone: " + why)
	}
}

// URL is that of a database for a test alone: on PostgreSQL, or a file in a directory of the test's, which is not there yet.
func URL(t testing.TB) string {
	t.Helper()
	if OnPostgres() {
		return Database(t)
	}
	return "sqlite:" + filepath.Join(t.TempDir(), "agentevents.db")
}

// Numbered is a statement with the values as the engine wants them: each is a ? on SQLite, and has a number on PostgreSQL.
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

// ForTest starts a cluster that a test has to itself. Where there is no PostgreSQL the test is skipped, unless CI is set in
// the environment.
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

// Need ends a test for an error: without PostgreSQL it is skipped, unless CI is set in the environment, and else it fails.
func Need(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrNone) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Database makes a database for a test on PostgreSQL, as Prepare left the first one, and returns its URL.
func Database(t testing.TB) string {
	t.Helper()
	return CopyOf(t, os.Getenv(templateVariable))
}

// CopyOf makes a copy of a database that nobody is connected to, for a test on PostgreSQL, and returns the copy's URL.
func CopyOf(t testing.TB, url string) string {
	t.Helper()
	return forTest(t, func(s *Server) (string, error) { return s.Copy(context.Background(), url) })
}

// Empty makes a database without tables for a test on PostgreSQL, and returns its URL.
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
