package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqlite"
)

// Saved is what Backup has made.
type Saved struct {
	Path     string
	Size     int64 // in bytes
	Sequence int64 // of the last status change that it knows of; 0 for none
}

// Backup copies a SQLite database, as it is at one moment, into a file that does not exist yet. The database may be
// served meanwhile, and no request waits for the copy. The copy has been read to its last page before it gets its name;
// when that fails, or ctx ends, nothing of it is left. Each time that the copy is put in a store's place, its first
// start gives it another epoch and drops its leases.
func Backup(ctx context.Context, o Options, to string) (Saved, error) {
	if postgres.IsURL(o.URL) {
		return Saved{}, errors.New("a backup of PostgreSQL is made by its own means, such as pg_dump; " +
			"after one was restored, `agentevents new-epoch` is to be run before anything else")
	}
	from, err := sqlite.ExistingPath(o.URL)
	if err != nil {
		return Saved{}, err
	}
	var sequence int64
	made, err := sqlite.Backup(ctx, from, to, func(ctx context.Context, db *sql.DB) error {
		sequence, err = detach(ctx, db)
		return err
	})
	if err != nil {
		return Saved{}, err
	}
	return Saved{made.Path, made.Size, sequence}, nil
}

// detach removes the epoch from a copy, and returns its last sequence number.
func detach(ctx context.Context, db *sql.DB) (sequence int64, err error) {
	if _, err := db.ExecContext(ctx, epochSQL, ""); err != nil {
		return 0, err
	}
	const last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'status_changes'"
	err = db.QueryRowContext(ctx, last).Scan(&sequence)
	return sequence, err
}
