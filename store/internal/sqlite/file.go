package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// The suffixes that SQLite and the process lock append to the path of a database.
const (
	walSuffix  = "-wal"
	shmSuffix  = "-shm"
	lockSuffix = ".lock"
)

// suffixes returns the suffixes of all files of a database. If one of the files is lost, other processes do not see the
// writes to it.
func suffixes() []string { return []string{"", walSuffix, shmSuffix, lockSuffix} }

// Path returns the path in a database URL, sqlite:PATH. It resolves links, so that a file has one name and one lock.
// The file need not exist yet, but its directory must.
func Path(databaseURL string) (string, error) {
	file, is := strings.CutPrefix(databaseURL, "sqlite:")
	if !is || file == "" || strings.HasPrefix(file, ":memory:") {
		return "", errors.New("the database URL must be sqlite:PATH, with the path of a file")
	}
	return resolve(file)
}

// ExistingPath is Path for a file that must exist.
func ExistingPath(databaseURL string) (string, error) {
	file, err := Path(databaseURL)
	if err != nil {
		return "", err
	}
	return file, checkExists(file)
}

// ErrMissing is the error for a file that must exist.
var ErrMissing = errors.New("`agentevents serve` creates it")

// checkExists returns ErrMissing, with the absolute path, for a file that does not exist.
func checkExists(file string) error {
	_, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if absolute, err := filepath.Abs(file); err == nil {
			file = absolute
		}
		return fmt.Errorf("there is no database yet at %s: %w", file, ErrMissing)
	case err != nil:
		return fmt.Errorf("open the database: %w", err)
	}
	return nil
}

// maxLinks is the maximum number of symbolic links in a path, as on Linux.
const maxLinks = 40

// resolve follows links, including a link to a file that does not exist yet: SQLite creates the file there.
func resolve(file string) (string, error) {
	if resolved, err := filepath.EvalSymlinks(file); err == nil {
		return resolved, nil
	}
	name := file
	for range maxLinks {
		dir, err := filepath.EvalSymlinks(filepath.Dir(name))
		if err != nil {
			return "", fmt.Errorf("open %s: %w", file, err)
		}
		name = filepath.Join(dir, filepath.Base(name))
		target, err := os.Readlink(name)
		if err != nil {
			return name, nil
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		name = target
	}
	return "", fmt.Errorf("open %s: too many links: at most %d may lead to the file", file, maxLinks)
}

// checkSingle refuses a file with several names. SQLite finds the write-ahead log by the name of the database, and
// would not find it by another name.
func checkSingle(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return nil //nolint:nilerr // the open fails, too
	}
	if n := links(info); n > 1 {
		return fmt.Errorf("%s has %d names (hard links): SQLite needs a file with one name; "+
			"remove the others, or copy the file", file, n)
	}
	return nil
}

const ownerOnly = 0o600

// create creates a file unless it exists. Only its owner may read a new file, since it holds secrets. An existing file
// is not opened, since to close it would end this process's locks on it.
func create(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, ownerOnly)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// restrict revokes the rights of other users to the files of a database, which hold secrets, and logs that. It returns
// an error for a file of another owner that stays readable for others.
func restrict(file string, log *slog.Logger) error {
	for _, suffix := range suffixes() {
		if err := restrictMode(file+suffix, log); err != nil {
			return err
		}
	}
	return nil
}

func restrictMode(name string, log *slog.Logger) error {
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm()&^ownerOnly == 0 {
		return nil //nolint:nilerr // it is created later, or the open fails
	}
	mode := fmt.Sprintf("%04o", info.Mode().Perm())
	if err := os.Chmod(name, info.Mode().Perm()&ownerOnly); err != nil {
		return fmt.Errorf("%s has mode %s, so that others may read its secrets, and belongs to another user: "+
			"let its owner `chmod 600` it: %w", name, mode, err)
	}
	log.Warn("database file mode restricted to its owner", "file", name, "mode", mode)
	return nil
}
