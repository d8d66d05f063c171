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

// What SQLite, and the lock of the process, append to the path of a database.
const (
	walSuffix  = "-wal"
	shmSuffix  = "-shm"
	lockSuffix = ".lock"
)

// suffixes are those of all files of a database. A process that lacks one of them writes to files that no other process
// sees.
func suffixes() []string { return []string{"", walSuffix, shmSuffix, lockSuffix} }

// Path returns the file that a database URL names: sqlite:PATH. It follows links, so that a file has one name and one
// lock. The file need not exist yet, but its directory must.
func Path(databaseURL string) (string, error) {
	file, is := strings.CutPrefix(databaseURL, "sqlite:")
	if !is || file == "" || strings.HasPrefix(file, ":memory:") {
		return "", errors.New("the database URL must be sqlite:PATH, with the path of a file")
	}
	return resolve(file)
}

// ExistingPath is Path for a file that must be there.
func ExistingPath(databaseURL string) (string, error) {
	file, err := Path(databaseURL)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("open the database: %w", err)
	}
	return file, nil
}

// maxLinks is how many symbolic links may lead to a file, as on Linux.
const maxLinks = 40

// resolve follows links, also one that leads to no file yet: SQLite makes the file there.
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
	return "", fmt.Errorf("open %s: too many links", file)
}

// checkSingle refuses a file with several names: SQLite finds the log of a database by its name, and by another name
// finds none.
func checkSingle(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return nil //nolint:nilerr // to open it fails as well
	}
	if n := links(info); n > 1 {
		return fmt.Errorf("%s has %d names (hard links): SQLite needs a file with one name; "+
			"remove the others, or copy the file", file, n)
	}
	return nil
}

const ownerOnly = 0o600

// create makes a file unless it is there. A file that is new is its owner's alone, since it holds secrets. One that is
// there is not opened: to close it would end the locks that this process has on it.
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

// restrict takes the rights of other users from the files of a database, which hold secrets, and says so. It refuses
// files that stay open to others because they have another owner.
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
		return nil //nolint:nilerr // it is made later, or cannot be opened
	}
	mode := fmt.Sprintf("%04o", info.Mode().Perm())
	if err := os.Chmod(name, info.Mode().Perm()&ownerOnly); err != nil {
		return fmt.Errorf("%s has mode %s, so that others may read its secrets, and belongs to another user: "+
			"let its owner `chmod 600` it: %w", name, mode, err)
	}
	log.Warn("database file was open to others, and now is its owner's alone", "file", name, "mode", mode)
	return nil
}
