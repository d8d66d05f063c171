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

// queuePool is a pool whose transactions are queues.
type queuePool struct{ *sql.DB }

// Queued returns a pool for GORM whose transactions queue statements until an answer is needed.
func Queued(db *sql.DB) gorm.ConnPool { return queuePool{db} }

// BeginTx implements gorm.ConnPoolBeginner. It accepts no options.
func (p queuePool) BeginTx(ctx context.Context, o *sql.TxOptions) (gorm.ConnPool, error) {
	if o != nil && *o != (sql.TxOptions{}) {
		return nil, errors.New("the options of a transaction that writes must be empty")
	}
	conn, err := p.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tx := &queue{conn: conn, ctx: ctx}
	tx.Queue("begin", nil)
	return tx, nil
}

// queue is a transaction on a connection, which returns to its pool at the end. It implements sqldb.Queuer. It also
// implements gorm.ConnPool, whose statements are sent at once, after the queued ones.
type queue struct {
	conn   *sql.Conn
	ctx    context.Context
	queued pgx.Batch
	begun  bool  // BEGIN was sent
	failed error // the first error; nothing is sent or committed after it
}

// Queue implements sqldb.Queuer.
func (q *queue) Queue(text string, values []any) { q.queued.Queue(text, values...) }

// Fetch implements sqldb.Queuer.
func (q *queue) Fetch(ctx context.Context, text string, values []any, read func(sqldb.Rows) error) error {
	q.queued.Queue(text, values...)
	return q.send(ctx, read)
}

// send sends the queued statements. If read is not nil, it passes the rows of the last statement to read.
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
		err := readResults(conn.SendBatch(ctx, &batch), batch.QueuedQueries, read)
		if pgconn.SafeToRetry(err) {
			return driver.ErrBadConn
		}
		return err
	})
	return q.failed
}

// readResults reads the results of statements that were sent together.
func readResults(results pgx.BatchResults, sent []*pgx.QueuedQuery, read func(sqldb.Rows) error) (err error) {
	if read != nil {
		sent = sent[:len(sent)-1]
	}
	committed := false
	for i := 0; err == nil && i < len(sent); i++ {
		committed, err = readResult(results, sent[i].SQL)
	}
	if err == nil && read != nil {
		err = readRows(results, read)
	}
	// A connection failure after the commit does not undo the commit.
	if closed := results.Close(); err == nil && !committed {
		err = closed
	}
	return err
}

// readResult reads the result of one statement, and reports whether it is a successful commit.
func readResult(results pgx.BatchResults, text string) (committed bool, err error) {
	tag, err := results.Exec()
	switch {
	case err != nil:
		return false, fmt.Errorf("%s: %w", text, err)
	case tag.String() == "ROLLBACK" && text == "commit": // the result of a commit after an error
		return false, pgx.ErrTxCommitRollback
	}
	return tag.String() == "COMMIT", nil
}

func readRows(results pgx.BatchResults, read func(sqldb.Rows) error) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	return read(pgxRows{rows})
}

// flush sends the queued statements, if there are any.
func (q *queue) flush(ctx context.Context) error {
	if q.queued.Len() == 0 {
		return q.failed
	}
	return q.send(ctx, nil)
}

// PrepareContext implements gorm.ConnPool.
func (q *queue) PrepareContext(ctx context.Context, text string) (*sql.Stmt, error) {
	if err := q.flush(ctx); err != nil {
		return nil, err
	}
	return q.conn.PrepareContext(ctx, text)
}

// ExecContext executes a statement at once.
func (q *queue) ExecContext(ctx context.Context, text string, values ...any) (sql.Result, error) {
	if err := q.flush(ctx); err != nil {
		return nil, err
	}
	return q.conn.ExecContext(ctx, text, values...)
}

// QueryContext executes a query at once.
func (q *queue) QueryContext(ctx context.Context, text string, values ...any) (*sql.Rows, error) {
	if err := q.flush(ctx); err != nil {
		return nil, err
	}
	return q.conn.QueryContext(ctx, text, values...)
}

// QueryRowContext executes a query for one row. After an error it sends nothing, and the commit returns the error.
func (q *queue) QueryRowContext(ctx context.Context, text string, values ...any) *sql.Row {
	if q.flush(ctx) != nil {
		ended, end := context.WithCancel(ctx)
		end()
		return q.conn.QueryRowContext(ended, text, values...)
	}
	return q.conn.QueryRowContext(ctx, text, values...)
}

// Commit implements gorm.TxCommitter. After an error nothing is committed, unless the commit itself got no answer.
func (q *queue) Commit() error {
	q.Queue("commit", nil)
	if err := q.send(q.ctx, nil); err != nil {
		_ = q.Rollback()
		return err
	}
	return q.conn.Close()
}

// Rollback implements gorm.TxCommitter. If it fails, the connection is discarded.
func (q *queue) Rollback() error {
	if q.begun {
		if _, err := q.conn.ExecContext(q.ctx, "rollback"); err != nil {
			_ = q.conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}
	return q.conn.Close()
}

// pgxRows implements sqldb.Rows for pgx.
type pgxRows struct{ pgx.Rows }

// Columns implements sqldb.Rows.
func (r pgxRows) Columns() (names []string, err error) {
	for _, f := range r.FieldDescriptions() {
		names = append(names, f.Name)
	}
	return names, nil
}
