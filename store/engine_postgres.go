package store

import (
	"context"
	"database/sql"
	"errors"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/schema"
)

// postgresEngine is a database that any number of processes share.
type postgresEngine struct {
	store            *Store
	writers, readers *sql.DB
}

func (e *postgresEngine) open(ctx context.Context, s *Store) (err error) {
	e.store = s
	if e.writers, err = openPgWriters(s.URL); err != nil {
		return err
	}
	if e.readers, err = openPgReaders(s.URL); err != nil {
		return err
	}
	if err := e.prepare(ctx); err != nil {
		return err
	}
	db, err := pgORM(pgPool{e.writers}, newTroubleLog(s.Log))
	if err != nil {
		return err
	}
	if err := writable(db); err != nil {
		return err
	}
	clock := s.databaseClock()
	s.writes = newPgWriter(db, clock)
	if s.reader, err = pgORM(e.readers, newTroubleLog(s.Log)); err != nil {
		return err
	}
	if err := readClock(s.read(ctx), clock); err != nil {
		return err
	}
	if !s.beside {
		s.join()
	}
	if s.copying {
		return nil
	}
	return complete(s.read(ctx)) // and no copy can begin any more
}

// prepare looks whether the database is there, and brings its schema up to date.
func (e *postgresEngine) prepare(ctx context.Context) error {
	if e.store.beside {
		return e.checkSchema(ctx, e.writers)
	}
	if err := reach(ctx, e.writers); err != nil {
		return err
	}
	return migratePostgres(ctx, e.store.URL)
}

func (e *postgresEngine) close() error {
	var errs []error
	for _, pool := range []*sql.DB{e.readers, e.writers} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

func (e *postgresEngine) unlock() error { return nil }

// openVerifier implements engine. The server may be a standby.
func (e *postgresEngine) openVerifier(databaseURL string) (*sql.DB, error) {
	return openPgVerifier(databaseURL)
}

func (e *postgresEngine) checkSchema(ctx context.Context, db *sql.DB) error {
	if err := reach(ctx, db); err != nil {
		return err
	}
	return schema.Postgres.Check(ctx, db)
}

func reach(ctx context.Context, pool *sql.DB) error {
	if err := pool.PingContext(ctx); err != nil {
		return unreachable(err)
	}
	return nil
}

func (e *postgresEngine) orm(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error) {
	return pgORM(pool, log)
}

func (e *postgresEngine) rules() []rule                    { return rules }
func (e *postgresEngine) servesAlone() bool                { return false }
func (e *postgresEngine) checkWritable() error             { return nil }
func (e *postgresEngine) checkFiles(context.Context) error { return nil }
func (e *postgresEngine) fileStats() FileStats             { return FileStats{} }
func (e *postgresEngine) maintain(context.Context) error   { return nil }
func (e *postgresEngine) shrink(context.Context) error     { return nil } // it does so itself

// allocate implements engine. It needs new pages, and the commit that follows needs the log, although the rows are rolled
// back. It holds no lock that a reader or another process waits for. Rows of a rolled back savepoint are removed by vacuum
// whatever others still read.
func (e *postgresEngine) allocate(tx *gorm.DB, _ int64) error {
	return errors.Join(execute(tx, "SAVEPOINT room"),
		execute(tx, "INSERT INTO probe_room (filler) SELECT repeat('x', 7000) FROM generate_series(1, 2)"),
		execute(tx, "ROLLBACK TO SAVEPOINT room"))
}

func (e *postgresEngine) eraseOverwritten(context.Context) error { return nil }

func (e *postgresEngine) snapshot() []*sql.TxOptions {
	return []*sql.TxOptions{{Isolation: sql.LevelRepeatableRead, ReadOnly: true}}
}
