package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/agentevents/agentevents/store/internal/schema"
)

// Saved describes a file that Backup made.
type Saved struct {
	Path string
	Size int64 // in bytes
}

// prepareFunc modifies a copy before it gets its name.
type prepareFunc = func(ctx context.Context, copied *sql.DB) error

// Backup copies a file, as it is at one moment, to a path that does not exist yet. A process may serve the file
// meanwhile: neither its readers nor its writer wait, only its write-ahead log grows.
//
// prepare may modify the copy. Backup then reads the copy to its last page before the copy gets its name. After an
// error, or if ctx ends, Backup removes the copy. Only if the final sync of its directory fails does the copy stay.
func Backup(ctx context.Context, from, to string, prepare prepareFunc) (Saved, error) {
	err := checkSingle(from)
	if err == nil {
		to, err = filepath.Abs(to)
	}
	if err == nil {
		err = checkVacant(to)
	}
	if err != nil {
		return Saved{}, err
	}
	size, err := backup(ctx, from, to, prepare)
	if err != nil {
		return Saved{}, fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	return Saved{Path: to, Size: size}, nil
}

// checkVacant returns nil if a path is free. It also refuses a log of an earlier database at that path, which SQLite
// would take for the log of the copy.
func checkVacant(file string) error {
	for _, name := range []string{file, file + walSuffix, file + "-journal"} {
		_, err := os.Lstat(name)
		if err == nil {
			return fmt.Errorf("%s is there already", name)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// backup uses a temporary directory next to the copy's path, so that all files of SQLite are removed with it.
func backup(ctx context.Context, from, to string, prepare prepareFunc) (size int64, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(to), ".agentevents-backup-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "copy")
	if err := vacuumInto(ctx, from, file); err != nil {
		return 0, err
	}
	err = Use(file, func(db *sql.DB) error {
		if err := prepare(ctx, db); err != nil {
			return err
		}
		return checkIntegrity(ctx, db)
	})
	if err != nil {
		return 0, err
	}
	return place(file, to)
}

// vacuumInto copies a database into another file, without deleted data.
func vacuumInto(ctx context.Context, from, to string) error {
	if err := create(to); err != nil {
		return err
	}
	return Use(from, func(db *sql.DB) error {
		if err := schema.SQLite.Check(ctx, db); err != nil {
			return err
		}
		_, err := db.ExecContext(ctx, "VACUUM INTO ?", to)
		return err
	})
}

// checkIntegrity reads a whole database.
func checkIntegrity(ctx context.Context, db *sql.DB) error {
	var verdict string
	err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict)
	if err == nil && verdict != "ok" {
		err = fmt.Errorf("the copy is damaged: %s", verdict)
	}
	return err
}

// place moves a complete file to its path, durably, and returns its size.
func place(file, to string) (int64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(syncFile(file), checkVacant(to)); err != nil {
		return 0, err
	}
	if err := os.Rename(file, to); err != nil {
		return 0, err
	}
	return info.Size(), syncFile(filepath.Dir(to))
}

// syncFile returns when a file, or the entries of a directory, are on disk.
func syncFile(name string) error {
	f, err := os.Open(name) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
