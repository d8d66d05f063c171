package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// ErrFile is the reason of Unavailable when SQLite's file is not the one that was opened, or only a part of it.
var ErrFile = errors.New("the database's file is not as it was opened")

// The files of a database, by what is behind the path of the first. A process that lacks one of them writes to what
// no other process sees.
const (
	mainPart = ""
	walPart  = "-wal"
	shmPart  = "-shm"
	lockPart = ".lock"
)

// mostLinks is how many symbolic links may lead to a file, as on Linux.
const mostLinks = 40

// resolve follows links, so that a file has one name, and one lock. The file need not exist yet, but its directory
// must: also a link that leads to no file yet is followed, as SQLite makes the file there.
func resolve(file string) (string, error) {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		return real, nil
	}
	name := file
	for range mostLinks {
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

// single refuses a file with several names: SQLite finds the log of a database by its name, and by another name finds
// none.
func single(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return nil //nolint:nilerr // who opens it says so
	}
	if n := links(info); n > 1 {
		return fmt.Errorf("%s has %d names (hard links): SQLite needs a file with one name; remove the others, or copy the file", file, n)
	}
	return nil
}

// private takes the rights of others from the files of a database, which hold secrets, and says so. It refuses files
// that stay open to others because they have another owner.
func private(file string, log *slog.Logger) error {
	for _, end := range []string{mainPart, walPart, shmPart, lockPart} {
		if err := mendMode(file+end, log); err != nil {
			return err
		}
	}
	return nil
}

const ownersAlone = 0o600

func mendMode(name string, log *slog.Logger) error {
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm()&^ownersAlone == 0 {
		return nil //nolint:nilerr // it is made later, or cannot be opened
	}
	mode := fmt.Sprintf("%04o", info.Mode().Perm())
	if err := os.Chmod(name, info.Mode().Perm()&ownersAlone); err != nil {
		return fmt.Errorf("%s has mode %s, so that others may read its secrets, and belongs to another user: let its owner `chmod 600` it: %w",
			name, mode, err)
	}
	log.Warn("database file was open to others, and now is its owner's alone", "file", name, "mode", mode)
	return nil
}

// part is a file as it was opened.
type part struct {
	name   string
	opened fs.FileInfo
}

// lost returns what has become of the file, nil if it is where it was.
func (p part) lost() error {
	now, err := os.Stat(p.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s was removed", ErrFile, p.name)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrFile, err)
	case !os.SameFile(p.opened, now):
		return fmt.Errorf("%w: %s was replaced", ErrFile, p.name)
	}
	return nil
}

// partsOf are the files of a database that is open.
func partsOf(file string) (all []part, err error) {
	for _, end := range []string{mainPart, walPart, shmPart, lockPart} {
		info, err := os.Stat(file + end)
		if err != nil {
			return nil, err
		}
		all = append(all, part{file + end, info})
	}
	return all, nil
}
