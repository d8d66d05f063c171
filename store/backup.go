package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/agentevents/agentevents/store/internal/schema"
)

// Saved is what Backup has made.
type Saved struct {
	Path     string
	Size     int64 // in bytes
	Sequence int64 // of the last status change that it knows of; 0 for none
}

// Backup copies a SQLite database, as it is at one moment, into a file that is not there yet. It may be served
// meanwhile: nobody waits. The copy has been read to its last page before it gets its name; when that fails, or ctx ends,
// nothing of it is left. Each time that it is put in a store's place, its first start gives it another epoch, and drops
// the leases that it has.
func Backup(ctx context.Context, o Options, to string) (Saved, error) {
	defer unmapped()()
	from, err := existing(o.URL)
	if err != nil {
		return Saved{}, err
	}
	if to, err = filepath.Abs(to); err == nil {
		err = vacant(to)
	}
	if err != nil {
		return Saved{}, err
	}
	c, err := backup(ctx, from, to)
	if err != nil {
		return Saved{}, fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	return c, nil
}

// existing returns the file of a SQLite database that is there.
func existing(databaseURL string) (string, error) {
	if isPostgres(databaseURL) {
		return "", errors.New("a backup of PostgreSQL is made by its own means, such as pg_dump; " +
			"after one was restored, `agentevents new-epoch` is to be run before anything else")
	}
	file, err := path(databaseURL)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("open the database: %w", err)
	}
	return file, single(file)
}

// vacant returns nil when there is nothing of a name, nor a log of a database that had it before: SQLite would take that
// for the copy's.
func vacant(file string) error {
	for _, name := range []string{file, file + "-wal", file + "-journal"} {
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

// backup works in a directory of its own beside the copy's place, so that whatever comes to be there goes with it.
func backup(ctx context.Context, from, to string) (c Saved, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(to), ".agentevents-backup-")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "copy")
	if err := vacuum(ctx, from, file); err != nil {
		return c, err
	}
	if c.Sequence, err = detach(ctx, file); err != nil {
		return c, err
	}
	c.Path = to
	c.Size, err = settle(file, to)
	return c, err
}

// vacuum writes a database into another file, without what was deleted from it. Its readers and its writer go on
// meanwhile; only its log grows.
func vacuum(ctx context.Context, from, to string) error {
	if err := create(to); err != nil {
		return err
	}
	return with(from, func(db *sql.DB) error {
		if err := schema.SQLite.Check(ctx, db); err != nil {
			return err
		}
		_, err := db.ExecContext(ctx, "VACUUM INTO ?", to)
		return err
	})
}

// detach takes the epoch off a copy, reads all of it, and returns its last sequence number.
func detach(ctx context.Context, file string) (sequence int64, err error) {
	var verdict string
	err = with(file, func(db *sql.DB) error {
		if _, err := db.ExecContext(ctx, epochSQL, ""); err != nil {
			return err
		}
		const last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'status_changes'"
		if err := db.QueryRowContext(ctx, last).Scan(&sequence); err != nil {
			return err
		}
		return db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict)
	})
	if err == nil && verdict != "ok" {
		err = fmt.Errorf("it is damaged: %s", verdict)
	}
	return sequence, err
}

// with opens a file that is there for a function, beside who may have it open.
func with(file string, fn func(*sql.DB) error) error {
	db, err := sql.Open("sqlite3", dsn(file, "mode=rw"))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	return errors.Join(fn(db), db.Close())
}

// settle puts a file that is complete in its place, for good, and returns its size.
func settle(file, to string) (int64, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(flush(file), vacant(to)); err != nil {
		return 0, err
	}
	if err := os.Rename(file, to); err != nil {
		return 0, err
	}
	return info.Size(), flush(filepath.Dir(to))
}

// flush returns when a file, or what a directory has, is on disk.
func flush(name string) error {
	f, err := os.Open(name) //nolint:gosec // the operator says which
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
