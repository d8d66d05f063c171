package store

import (
	"context"
	"database/sql"
	"errors"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// postgresEngine is a database that any number of processes share.
type postgresEngine struct {
	store *Store
	db    *postgres.DB // nil until it is open
}

func (e *postgresEngine) open(ctx context.Context, s *Store) (err error) {
	e.store = s
	if e.db, err = postgres.Open(ctx, postgres.Options{URL: s.URL, Alongside: s.beside}); err != nil {
		return err
	}
	log := newTroubleLog(s.Log)
	writers, err := postgres.ORM(postgres.Queued(e.db.Writers()), log)
	if err != nil {
		return err
	}
	clock := s.databaseClock()
	s.writes = postgres.NewWriter(writers, clock, notAvailable)
	if s.reader, err = postgres.ORM(e.db.Readers(), log); err != nil {
		return err
	}
	if err := clock.Read(s.read(ctx)); err != nil {
		return err
	}
	if !s.beside {
		s.joinPeers(e.db)
	}
	if s.copying {
		return nil
	}
	return complete(s.read(ctx)) // and no copy can begin any more
}

// databaseClock has all times come from the database's clock, unless the store was given one.
func (s *Store) databaseClock() *postgres.Clock {
	if s.Now != nil {
		return nil
	}
	c := &postgres.Clock{}
	s.Now = c.Now
	return c
}

func (e *postgresEngine) close() error {
	if e.db == nil {
		return nil
	}
	return e.db.Close()
}

func (e *postgresEngine) unlock() error { return nil }

// openVerifier implements engine. The server may be a standby.
func (e *postgresEngine) openVerifier(databaseURL string) (*sql.DB, error) {
	return postgres.OpenVerifier(databaseURL)
}

func (e *postgresEngine) checkSchema(ctx context.Context, db *sql.DB) error {
	return postgres.CheckSchema(ctx, db)
}

func (e *postgresEngine) orm(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error) {
	return postgres.ORM(pool, log)
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
func (e *postgresEngine) allocate(tx *sqldb.Tx, _ int64) error {
	return errors.Join(tx.Queue("SAVEPOINT room"),
		tx.Queue("INSERT INTO probe_room (filler) SELECT repeat('x', 7000) FROM generate_series(1, 2)"),
		tx.Queue("ROLLBACK TO SAVEPOINT room"))
}

func (e *postgresEngine) eraseOverwritten(context.Context) error { return nil }

// changeNumbers are the sequence numbers of status changes.
const changeNumbers = postgres.Sequence("status_changes_id_seq")

func (e *postgresEngine) announceNumbers(tx *sqldb.Tx) error {
	return tx.Queue(changeNumbers.AnnounceSQL())
}

func (e *postgresEngine) visibleUpTo(ctx context.Context) (int64, error) {
	return changeNumbers.VisibleUpTo(e.store.read(ctx))
}
