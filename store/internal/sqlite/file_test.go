package sqlite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFileIsServedOnceWhateverItsName(t *testing.T) {
	for name, link := range map[string]func(old, new string) error{"symbolic": os.Symlink, "hard": os.Link} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file, other := filepath.Join(dir, "agentevents.db"), filepath.Join(dir, "other.db")
			first := file
			if name == "symbolic" { // a link to a link to a file that does not exist yet
				between := filepath.Join(dir, "between.db")
				check(t, os.Symlink("agentevents.db", between), os.Symlink(between, other))
				first = other
			}
			openTestFileAt(t, first)
			if name == "hard" {
				check(t, link(file, other))
			}
			for _, second := range []string{file, other} {
				_, err := tryOpen(t, second)
				if err == nil || !strings.Contains(err.Error(), "another process serves this database") &&
					!strings.Contains(err.Error(), "2 names") {
					t.Errorf("%s can be opened, too: %v", second, err)
				}
			}
			if _, err := os.Lstat(other + ".lock"); err == nil {
				t.Error("the lock file is that of the link")
			}
		})
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	f := openTestFile(t)
	link := filepath.Join(t.TempDir(), "link.db")
	check(t, os.Symlink(f.path, link))
	for _, second := range []string{f.path, link} {
		_, err := tryOpen(t, second)
		if err == nil || !strings.Contains(err.Error(), "another process serves this database") {
			t.Errorf("second open of %s: %v", second, err)
		}
	}
}

func TestLinkToItselfIsAnError(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	check(t, os.Symlink(a, b), os.Symlink(b, a))
	_, err := tryOpen(t, a)
	if err == nil || !strings.Contains(err.Error(), "too many links") {
		t.Errorf("the error is %v", err)
	}
}

func TestOpenRevokesTheRightsOfOtherUsers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agentevents.db")
	loose := []string{file, file + ".lock", file + "-wal"}
	for _, name := range loose {
		check(t, os.WriteFile(name, nil, 0o600), os.Chmod(name, 0o644))
	}
	f := openTestFileAt(t, file)
	for _, name := range append(loose, file+"-shm") {
		if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		want := "file=" + name + " mode=0644"
		if (name != file+"-shm") != strings.Contains(f.log.String(), want) {
			t.Errorf("the log: %s", &f.log)
		}
	}
	f.closeAll()
	f, err := tryOpen(t, file)
	check(t, err)
	if f.log.String() != "" {
		t.Errorf("the next open logs %s", &f.log)
	}
	f.closeAll()
}
