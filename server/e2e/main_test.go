package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "github.com/mattn/go-sqlite3"    // the driver sqlite3

	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

// patience is the time limit for a condition. Even on a slow machine, only a fault takes so long.
const patience = 2 * time.Minute

// version is the version of the binary under test.
const version = "v1.2.3-e2e"

// The programs under test. They are built once, before the first test on either engine.
const (
	serverBinary = "agentevents"
	demoBinary   = "demo"
)

// binariesVariable is the variable with the directory of the binaries, for the process that runs the tests on
// PostgreSQL.
const binariesVariable = "AGENTEVENTS_E2E_BINARIES"

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if !pgtest.OnPostgres() {
		dir, err := os.MkdirTemp("", "agentevents-e2e-")
		if err == nil {
			defer os.RemoveAll(dir)
			err = errors.Join(build(dir, serverBinary, "..", "-X main.version="+version),
				build(dir, demoBinary, "../demo", ""))
		}
		if err == nil {
			err = os.Setenv(binariesVariable, dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return pgtest.Main(m, pgtest.Suite{Prepare: prepare})
}

// build builds a binary, with the race detector if the tests have it.
func build(dir, name, source, ldflags string) error {
	args := []string{"build", "-buildvcs=false", "-ldflags", ldflags, "-o", filepath.Join(dir, name)}
	if underRace() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, source)...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", source, err, out)
	}
	return nil
}

// binary returns the path of a program under test.
func binary(name string) string { return filepath.Join(os.Getenv(binariesVariable), name) }

// underRace reports whether the tests were built with the race detector.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// prepare creates the tables of the template database. Each test on PostgreSQL gets a copy of it.
func prepare(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	return s.Close()
}

// newStore returns the URL of a new database.
func newStore(t *testing.T) string {
	t.Helper()
	return pgtest.URL(t)
}

// newFile returns the path of a database that does not exist.
func newFile(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "agentevents.db")
}

// open opens a direct connection to a database.
func open(t testing.TB, url string) *sql.DB {
	t.Helper()
	driver, name := "sqlite3", strings.TrimPrefix(url, "sqlite:")+"?_busy_timeout=5000"
	if pgtest.OnPostgres() {
		driver, name = "pgx", url
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// environment returns the environment of this process without settings of a server.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "AGENTEVENTS_") })
}

// eventually ends the test unless a condition becomes true in time.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	if !becomesTrue(condition) {
		t.Fatalf("%s: not within %v", what, patience)
	}
}

// becomesTrue waits for a condition, and reports whether it became true in time.
func becomesTrue(condition func() bool) bool {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	end := time.NewTimer(patience)
	defer end.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-end.C:
			return false
		}
	}
	return true
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func contains(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("the %s lacks %q:\n%s", what, part, text)
		}
	}
}

// must ends the test unless the server answered with a status.
func must(t testing.TB, want int, resp interface {
	StatusCode() int
	GetBody() []byte
}, err error,
) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode() != want {
		t.Fatal(&lab.StatusError{Status: resp.StatusCode(), Want: want, Body: string(resp.GetBody())})
	}
}
