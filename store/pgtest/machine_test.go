package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The order is that of numbers, not of texts. An incomplete directory does not count.
func TestBinariesAreOfTheNewestCompleteVersion(t *testing.T) {
	root := t.TempDir()
	t.Setenv("PATH", filepath.Join(root, "path"))
	pattern := filepath.Join(root, "*", "bin")
	for _, c := range []struct{ install, want string }{
		{"", ""},
		{"path", "path"},
		{"9/bin", "9/bin"},
		{"15/bin", "15/bin"},
		{"13/bin", "15/bin"},
		{"devel/bin", "15/bin"},
	} {
		install(t, filepath.Join(root, c.install))
		dir, err := binaries(pattern)
		if c.want == "" {
			if !errors.Is(err, ErrNone) {
				t.Errorf("without any: %q, %v", dir, err)
			}
			continue
		}
		if want := filepath.Join(root, c.want); dir != want || err != nil {
			t.Errorf("after %s: %q, %v, want %q", c.install, dir, err, want)
		}
	}
	if err := os.Remove(filepath.Join(root, "15", "bin", "postgres")); err != nil {
		t.Fatal(err)
	}
	if dir, err := binaries(pattern); dir != filepath.Join(root, "13", "bin") || err != nil {
		t.Errorf("with the newest incomplete: %q, %v", dir, err)
	}
}

// install creates empty programs with the right names in a directory.
func install(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMissingPostgresFailsOnlyInCI(t *testing.T) {
	none := fmt.Errorf("start: %w", ErrNone)
	for _, c := range []struct {
		err  error
		ci   bool
		code int
		says string
	}{
		{nil, false, 0, ""},
		{nil, true, 0, ""},
		{none, false, 0, "SKIPPED the tests on PostgreSQL: start: no PostgreSQL on this machine"},
		{none, true, 1, "FAIL: the tests on PostgreSQL: start: no PostgreSQL on this machine"},
		{errors.New("exit status 1"), false, 1, "FAIL: the tests on PostgreSQL: exit status 1"},
	} {
		var output bytes.Buffer
		code := verdict(c.err, c.ci, &output)
		if code != c.code || !strings.HasPrefix(output.String(), c.says) || strings.Count(output.String(), "\n") > 1 {
			t.Errorf("%v, CI %t: exit code %d and %q, want %d and %q", c.err, c.ci, code, output.String(), c.code,
				c.says)
		}
	}
}
