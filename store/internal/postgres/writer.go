package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// maxAttempts is how often a transaction is begun that was rolled back because others were in its way.
const maxAttempts = 5

// Writer implements sqldb.Writer by a transaction for each unit of work. Many run side by side and share the server's
// fsync; the second at a row waits for the first.
type Writer struct {
	db    *gorm.DB
	clock *Clock                // nil when times come from elsewhere
	fails func(err error) error // what a caller gets when it is not known whether a commit was carried out
}

// NewWriter returns a writer on a pool that GORM is on top of. It sets clock, unless that is nil, in each transaction.
func NewWriter(db *gorm.DB, clock *Clock, fails func(error) error) *Writer {
	return &Writer{db: db, clock: clock, fails: fails}
}

// DB implements sqldb.Writer.
func (w *Writer) DB() *gorm.DB { return w.db }

// Close implements sqldb.Writer. The connections belong to who has opened them.
func (w *Writer) Close() error { return nil }

// Do implements sqldb.Writer.
func (w *Writer) Do(ctx context.Context, work sqldb.Work) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.Try(context.WithoutCancel(ctx), work)
}

// Try implements sqldb.Writer. The transaction is given up when ctx ends, and begun again when others were in its way.
func (w *Writer) Try(ctx context.Context, work sqldb.Work) (err error) {
	ctx, cancel := context.WithTimeout(ctx, TransactionTimeout)
	defer cancel()
	for range maxAttempts {
		var tx *sqldb.Tx
		if tx, err = w.attempt(ctx, work); err == nil {
			tx.Committed()
			return nil
		}
		if !IsRetryable(err) {
			break
		}
	}
	return err
}

// attempt does work in one transaction. Its error tells whether to try again.
func (w *Writer) attempt(ctx context.Context, work sqldb.Work) (tx *sqldb.Tx, err error) {
	begun := w.db.WithContext(ctx).Begin()
	if begun.Error != nil {
		return nil, begun.Error
	}
	tx = sqldb.NewTx(ctx, begun)
	defer func() { tx.End(err) }()
	err = w.clock.Read(tx)
	if err == nil {
		err = tx.Run(work)
	}
	if err == nil {
		return tx, w.commit(begun)
	}
	begun.Rollback() // an error here means that the connection is gone, and the transaction with it
	return tx, err
}

// commit commits. When nothing has answered it, it may have been carried out: the error then is not one to try again
// for.
func (w *Writer) commit(tx *gorm.DB) error {
	err := tx.Commit().Error
	if err != nil && !IsRetryable(err) && !refused(err) {
		err = w.fails(err)
	}
	return err
}

// refused says whether the database has answered that it does not commit.
func refused(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) || errors.Is(err, pgx.ErrTxCommitRollback)
}
