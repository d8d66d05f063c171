package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// queuePool begins transactions that are queues on the connections of a pool.
type queuePool struct{ *sql.DB }

// Queued is a pool whose transactions keep statements until one is waited for, for GORM to be put on top of.
func Queued(db *sql.DB) gorm.ConnPool { return queuePool{db} }

// BeginTx implements gorm.ConnPoolBeginner, without options.
func (p queuePool) BeginTx(ctx context.Context, o *sql.TxOptions) (gorm.ConnPool, error) {
	if o != nil && *o != (sql.TxOptions{}) {
		return nil, errors.New("a transaction that writes has no options")
	}
	conn, err := p.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tx := &queue{conn: conn, ctx: ctx}
	tx.Queue("begin", nil)
	return tx, nil
}

// queue is a transaction on a connection, which goes back to its pool at the end. It implements sqldb.Queuer, and
// gorm.ConnPool, whose statements are sent at once.
type queue struct {
	conn   *sql.Conn
	ctx    context.Context
	queued pgx.Batch
	begun  bool  // something was sent
	failed error // the first; nothing is sent or committed after it
}

// Queue implements sqldb.Queuer.
func (q *queue) Queue(text string, values []any) { q.queued.Queue(text, values...) }

// Fetch implements sqldb.Queuer.
func (q *queue) Fetch(ctx context.Context, text string, values []any, read func(sqldb.Rows) error) error {
	q.queued.Queue(text, values...)
	return q.send(ctx, read)
}

// send sends what is queued, and has the rows of the last statement read, unless read is nil.
func (q *queue) send(ctx context.Context, read func(sqldb.Rows) error) error {
	if q.failed != nil {
		return q.failed
	}
	batch := q.queued
	q.queued, q.begun = pgx.Batch{}, true
	q.failed = q.conn.Raw(func(raw any) error {
		conn := raw.(*stdlib.Conn).Conn()
		if conn.IsClosed() {
			return driver.ErrBadConn
		}
		err := answers(conn.SendBatch(ctx, &batch), batch.QueuedQueries, read)
		if pgconn.SafeToRetry(err) {
			return driver.ErrBadConn
		}
		return err
	})
	return q.failed
}

// answers reads what statements that were sent together are answered by.
func answers(results pgx.BatchResults, sent []*pgx.QueuedQuery, read func(sqldb.Rows) error) (err error) {
	if read != nil {
		sent = sent[:len(sent)-1]
	}
	committed := false
	for i := 0; err == nil && i < len(sent); i++ {
		committed, err = answer(results, sent[i].SQL)
	}
	if err == nil && read != nil {
		err = answerRows(results, read)
	}
	// After a commit, what has happened to the connection since does not matter.
	if closed := results.Close(); err == nil && !committed {
		err = closed
	}
	return err
}

// answer reads what one statement is answered by, and says whether that is that all is committed.
func answer(results pgx.BatchResults, text string) (committed bool, err error) {
	tag, err := results.Exec()
	switch {
	case err != nil:
		return false, fmt.Errorf("%s: %w", text, err)
	case tag.String() == "ROLLBACK" && text == "commit": // what it does after an error
		return false, pgx.ErrTxCommitRollback
	}
	return tag.String() == "COMMIT", nil
}

func answerRows(results pgx.BatchResults, read func(sqldb.Rows) error) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	return read(rowsOf{rows})
}

// flush sends what is queued, if anything is.
func (q *queue) flush(ctx context.Context) error {
	if q.queued.Len() == 0 {
		return q.failed
	}
	return q.send(ctx, nil)
}

// PrepareContext implements gorm.ConnPool, as the next three do.
func (q *queue) PrepareContext(ctx context.Context, text string) (*sql.Stmt, error) {
	if err := q.flush(ctx); err != nil {
		return nil, err
	}
	return q.conn.PrepareContext(ctx, text)
}

// ExecContext carries a statement out at once.
func (q *queue) ExecContext(ctx context.Context, text string, values ...any) (sql.Result, error) {
	if err := q.flush(ctx); err != nil {
		return nil, err
	}
	return q.conn.ExecContext(ctx, text, values...)
}

// QueryContext carries a query out at once.
func (q *queue) QueryContext(ctx context.Context, text string, values ...any) (*sql.Rows, error) {
	if err := q.flush(ctx); err != nil {
		return nil, err
	}
	return q.conn.QueryContext(ctx, text, values...)
}

// QueryRowContext is QueryContext for one row. After an error nothing is asked, and the commit says it.
func (q *queue) QueryRowContext(ctx context.Context, text string, values ...any) *sql.Row {
	if q.flush(ctx) != nil {
		ended, end := context.WithCancel(ctx)
		end()
		return q.conn.QueryRowContext(ended, text, values...)
	}
	return q.conn.QueryRowContext(ctx, text, values...)
}

// Commit implements gorm.TxCommitter. After an error nothing is committed, unless the error is that nothing has
// answered.
func (q *queue) Commit() error {
	q.Queue("commit", nil)
	if err := q.send(q.ctx, nil); err != nil {
		_ = q.Rollback()
		return err
	}
	return q.conn.Close()
}

// Rollback implements gorm.TxCommitter. A connection on which it cannot be done is of no use any more.
func (q *queue) Rollback() error {
	if q.begun {
		if _, err := q.conn.ExecContext(q.ctx, "rollback"); err != nil {
			_ = q.conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}
	return q.conn.Close()
}

// rowsOf implements sqldb.Rows as the driver has them.
type rowsOf struct{ pgx.Rows }

// Columns implements sqldb.Rows.
func (r rowsOf) Columns() (names []string, err error) {
	for _, f := range r.FieldDescriptions() {
		names = append(names, f.Name)
	}
	return names, nil
}
