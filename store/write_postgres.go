package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/postgres"
)

// tries is how often a transaction is begun that was rolled back because others were in its way.
const tries = 5

// pgWriter makes a transaction of each write. Many run side by side and share the server's fsync; whoever comes second at
// a row waits for the first.
type pgWriter struct {
	db    *gorm.DB
	clock *databaseClock // nil when the store was given another
	total total
}

func newPgWriter(db *gorm.DB, clock *databaseClock) *pgWriter { return &pgWriter{db: db, clock: clock} }

func (w *pgWriter) handle() *gorm.DB { return w.db }
func (w *pgWriter) counted() Counts  { return w.total.get() }
func (w *pgWriter) close() error     { return nil }

// do runs fn in a transaction and returns when that is committed. The end of ctx keeps it from being begun, and once it
// has begun changes nothing.
func (w *pgWriter) do(ctx context.Context, fn func(tx *gorm.DB) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.try(context.WithoutCancel(ctx), fn)
}

// try is do, but gives up when ctx ends.
func (w *pgWriter) try(ctx context.Context, fn func(tx *gorm.DB) error) error {
	ctx, cancel := context.WithTimeout(ctx, postgres.TransactionTimeout)
	defer cancel()
	j := &write{ctx: ctx, fn: fn}
	err := w.once(j)
	for n := 1; n < tries && err != nil && postgres.IsRetryable(err); n++ {
		j.tell(err)
		err = w.once(j)
	}
	if err == nil {
		w.total.add(j.counts)
	}
	j.tell(err)
	return err
}

func (w *pgWriter) once(j *write) error {
	j.counts, j.after, j.lines, j.began = Counts{}, nil, nil, time.Now()
	tx := w.db.WithContext(context.WithValue(j.ctx, writeKey{}, j)).Begin()
	if tx.Error != nil {
		return tx.Error
	}
	err := readClock(tx, w.clock)
	if err == nil {
		err = j.protect(tx)
	}
	if err == nil {
		return w.commit(tx)
	}
	tx.Rollback() // an error here means that the connection is gone, and the transaction with it
	return err
}

// commit does not say again: whether a commit that nobody has answered was carried out is not known.
func (w *pgWriter) commit(tx *gorm.DB) error {
	err := tx.Commit().Error
	if err != nil && !postgres.IsRetryable(err) && !refused(err) {
		err = notAvailable(err)
	}
	return err
}

// refused says whether the database has answered that it does not commit.
func refused(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) || errors.Is(err, pgx.ErrTxCommitRollback)
}

// readClock sets a clock, unless it is nil, by the database's.
func readClock(tx *gorm.DB, clock *databaseClock) error {
	if clock == nil {
		return nil
	}
	now, _, err := first[int64](tx, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
	if err == nil {
		clock.set(now)
	}
	return err
}
