package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/schema"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/internal/sqlite"
)

// sqliteEngine is a database in one file, which one process serves.
type sqliteEngine struct {
	store *Store
	file  *sqlite.DB // nil until it is open
}

func (e *sqliteEngine) open(ctx context.Context, s *Store) error {
	path, err := sqlite.Path(s.URL)
	if err != nil {
		return err
	}
	e.store = s
	e.file, err = sqlite.Open(ctx, sqlite.Options{
		File: path, Alongside: s.alongside, ORMLog: newStatementLog(s.Log),
		Log: slog.New(s.asyncLog), Now: func() time.Time { return s.monotonic() },
	})
	if err != nil {
		return err
	}
	s.writes, s.reader = sqlite.NewWriter(e.file, unavailableError), e.file.ReadORM()
	return nil
}

func (e *sqliteEngine) close() error {
	if e.file == nil {
		return nil
	}
	return e.file.Close()
}

func (e *sqliteEngine) unlock() error {
	if e.file == nil {
		return nil
	}
	return e.file.Unlock()
}

// openVerifier implements engine. The file must be there.
func (e *sqliteEngine) openVerifier(databaseURL string) (*sql.DB, error) {
	path, err := sqlite.ExistingPath(databaseURL)
	if err != nil {
		return nil, err
	}
	return sqlite.OpenReaders(path)
}

func (e *sqliteEngine) checkSchema(ctx context.Context, db *sql.DB) error {
	return schema.SQLite.Check(ctx, db)
}

func (e *sqliteEngine) orm(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error) {
	return sqlite.ORM(pool, log)
}

func (e *sqliteEngine) invariants() []invariant { return slices.Concat(sqliteInvariants, invariants) }

func (e *sqliteEngine) servesAlone() bool                    { return true }
func (e *sqliteEngine) checkWritable() error                 { return e.file.CheckWritable() }
func (e *sqliteEngine) checkFiles(ctx context.Context) error { return e.file.CheckFiles(ctx) }
func (e *sqliteEngine) fileStats() FileStats                 { return FileStats(e.file.Stats()) }

func (e *sqliteEngine) maintain(ctx context.Context) error {
	return e.file.Maintain(ctx, e.store.writes.(*sqlite.Writer).Between)
}

func (e *sqliteEngine) shrink(ctx context.Context) error { return e.file.Shrink(ctx, e.store.write) }

func (e *sqliteEngine) writeUnsynced(ctx context.Context, work sqldb.Work) error {
	return e.store.noteWrite(ctx, e.store.writes.(*sqlite.Writer).DoUnsynced(ctx, work))
}

// allocateBytes is the size that allocate writes: more pages than a status change needs, so that the readiness check
// fails first on a full disk.
const allocateBytes = 48 << 10

func (e *sqliteEngine) allocate(tx *sqldb.Tx, now int64) error {
	return tx.Queue("UPDATE probes SET at = ?, room = randomblob(?) WHERE id = 1", now, allocateBytes)
}

// eraseOverwritten implements engine. The write-ahead log may hold the values that were overwritten in the file.
func (e *sqliteEngine) eraseOverwritten(ctx context.Context) (erased bool, err error) {
	return e.file.TruncateWAL(ctx, e.store.writes.(*sqlite.Writer).Between)
}

func (e *sqliteEngine) eraseDeleted(ctx context.Context) (erased bool, err error) {
	if err := e.file.ReleasePages(ctx, e.store.write); err != nil {
		return false, err
	}
	return e.eraseOverwritten(ctx)
}

// overwrite implements engine. Without it, SQLite overwrites what it deletes in a page, but not a page that it frees.
func (e *sqliteEngine) overwrite(tx *sqldb.Tx, fn func() error) error {
	if err := tx.Exec("PRAGMA secure_delete = ON"); err != nil {
		return err
	}
	return errors.Join(fn(), tx.Exec("PRAGMA secure_delete = FAST"))
}

func (e *sqliteEngine) readers() int { return sqlite.MaxReaders }

func (e *sqliteEngine) dueLanesSQL() string { return sqliteDueLanesSQL }

func (e *sqliteEngine) announceNumbers(*sqldb.Tx) error            { return nil } // one writer draws in order
func (e *sqliteEngine) visibleUpTo(context.Context) (int64, error) { return math.MaxInt64, nil }

// Saved describes a file that Backup made.
type Saved struct {
	Path     string
	Size     int64 // in bytes
	Sequence int64 // of its last status change; 0 for none
}

// Backup copies an SQLite database, as it is at one moment, into a file that does not exist yet. The database may be
// served meanwhile, and no request waits for the copy.
//
// The copy gets its name after its last page was read. If that fails, or if ctx ends, Backup removes the copy. Each
// time that the copy is restored, its first start gives it a new epoch and drops its leases.
func Backup(ctx context.Context, o Options, to string) (Saved, error) {
	if postgres.IsURL(o.URL) {
		return Saved{}, errors.New("the store must be SQLite; for PostgreSQL use pg_dump, and after a restore run " +
			"`agentevents new-epoch` before `agentevents serve`")
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

// detach removes the epoch from a copy, and returns the copy's last sequence number.
func detach(ctx context.Context, db *sql.DB) (sequence int64, err error) {
	if _, err := db.ExecContext(ctx, epochSQL, ""); err != nil {
		return 0, err
	}
	const last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'status_changes'"
	err = db.QueryRowContext(ctx, last).Scan(&sequence)
	return sequence, err
}
