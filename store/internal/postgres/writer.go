package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// maxTries is the number of transactions for one unit of work, if conflicts with other transactions end them.
const maxTries = 5

// Writer implements sqldb.Writer with a transaction for each unit of work. Transactions run concurrently and share the
// server's fsync. A transaction that needs a locked row waits for the other one.
type Writer struct {
	db       *gorm.DB
	clock    *Clock            // nil if the store has another clock
	mapError func(error) error // maps the error of a commit whose result is not known
}

// NewWriter returns a writer on a pool that GORM wraps. It reads the clock in each transaction, unless clock is nil.
func NewWriter(db *gorm.DB, clock *Clock, mapError func(error) error) *Writer {
	return &Writer{db: db, clock: clock, mapError: mapError}
}

// DB implements sqldb.Writer.
func (w *Writer) DB() *gorm.DB { return w.db }

// Close implements sqldb.Writer. The owner of the pool closes the connections.
func (w *Writer) Close() error { return nil }

// Do implements sqldb.Writer.
func (w *Writer) Do(ctx context.Context, work sqldb.Work) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.Try(context.WithoutCancel(ctx), work)
}

// Try implements sqldb.Writer. The end of ctx rolls the transaction back. A conflict with another transaction repeats
// it.
func (w *Writer) Try(ctx context.Context, work sqldb.Work) (err error) {
	ctx, cancel := context.WithTimeout(ctx, TransactionTimeout)
	defer cancel()
	for range maxTries {
		var tx *sqldb.Tx
		if tx, err = w.try(ctx, work); err == nil {
			tx.RunCallerHooks()
			return nil
		}
		if !IsRetryable(err) {
			break
		}
	}
	return err
}

// try runs work in one transaction. Its error decides whether Try repeats it.
func (w *Writer) try(ctx context.Context, work sqldb.Work) (tx *sqldb.Tx, err error) {
	begun := w.db.WithContext(ctx).Begin()
	if begun.Error != nil {
		return nil, begun.Error
	}
	tx = sqldb.NewTx(ctx, begun)
	defer func() { tx.RunWriterHooks(err) }()
	err = w.clock.Read(tx)
	if err == nil {
		err = tx.Run(work)
	}
	if err == nil {
		return tx, w.commit(begun)
	}
	begun.Rollback() // after an error, the connection and its transaction have ended
	return tx, err
}

// commit commits. If no answer comes, the commit may have succeeded, so its error must not lead to a retry.
func (w *Writer) commit(tx *gorm.DB) error {
	err := tx.Commit().Error
	if err != nil && !IsRetryable(err) && !refused(err) {
		err = w.mapError(err)
	}
	return err
}

// refused reports whether the database has answered that it does not commit.
func refused(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) || errors.Is(err, pgx.ErrTxCommitRollback)
}
