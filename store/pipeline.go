package store

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
)

// pgPool begins transactions on the connections of a pool.
type pgPool struct{ *sql.DB }

// BeginTx implements gorm.ConnPoolBeginner, without options.
func (p pgPool) BeginTx(ctx context.Context, o *sql.TxOptions) (gorm.ConnPool, error) {
	if o != nil && *o != (sql.TxOptions{}) {
		return nil, errors.New("a transaction that writes has no options")
	}
	conn, err := p.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tx := &pipeline{conn: conn, ctx: ctx}
	tx.later("begin", nil)
	return tx, nil
}

// pipeline is a transaction on a connection, which goes back to its pool at the end. It keeps statements that nobody waits
// for, and sends them with the next that somebody does: each time that the server is waited for takes longer than most
// statements. GORM's own are sent at once.
type pipeline struct {
	conn   *sql.Conn
	ctx    context.Context
	queued pgx.Batch
	begun  bool  // something was sent
	failed error // the first; nothing is sent or committed after it
}

// later has a statement be carried out before the next. An error of it is the next one's.
func (p *pipeline) later(text string, values []any) { p.queued.Queue(text, values...) }

// fetch carries a query out and has its rows read.
func (p *pipeline) fetch(ctx context.Context, text string, values []any, read func(cursor) error) error {
	p.queued.Queue(text, values...)
	return p.send(ctx, read)
}

// send sends what is queued, and has the rows of the last statement read, unless read is nil.
func (p *pipeline) send(ctx context.Context, read func(cursor) error) error {
	if p.failed != nil {
		return p.failed
	}
	batch := p.queued
	p.queued, p.begun = pgx.Batch{}, true
	p.failed = p.conn.Raw(func(raw any) error {
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
	return p.failed
}

// answers reads what statements that were sent together are answered by.
func answers(results pgx.BatchResults, sent []*pgx.QueuedQuery, read func(cursor) error) (err error) {
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
	if closed := results.Close(); err == nil && !committed { // what has happened to the connection since does not matter
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

func answerRows(results pgx.BatchResults, read func(cursor) error) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	return read(pgRows{rows})
}

// flush sends what is queued, if anything is.
func (p *pipeline) flush(ctx context.Context) error {
	if p.queued.Len() == 0 {
		return p.failed
	}
	return p.send(ctx, nil)
}

// PrepareContext implements gorm.ConnPool, as the next three do.
func (p *pipeline) PrepareContext(ctx context.Context, text string) (*sql.Stmt, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p.conn.PrepareContext(ctx, text)
}

// ExecContext carries a statement out at once.
func (p *pipeline) ExecContext(ctx context.Context, text string, values ...any) (sql.Result, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p.conn.ExecContext(ctx, text, values...)
}

// QueryContext carries a query out at once.
func (p *pipeline) QueryContext(ctx context.Context, text string, values ...any) (*sql.Rows, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p.conn.QueryContext(ctx, text, values...)
}

// QueryRowContext is QueryContext for one row. After an error nothing is asked, and the commit says it.
func (p *pipeline) QueryRowContext(ctx context.Context, text string, values ...any) *sql.Row {
	if p.flush(ctx) != nil {
		ended, end := context.WithCancel(ctx)
		end()
		return p.conn.QueryRowContext(ended, text, values...)
	}
	return p.conn.QueryRowContext(ctx, text, values...)
}

// Commit implements gorm.TxCommitter. After an error nothing is committed, unless the error is that nobody has answered.
func (p *pipeline) Commit() error {
	p.later("commit", nil)
	if err := p.send(p.ctx, nil); err != nil {
		_ = p.Rollback()
		return err
	}
	return p.conn.Close()
}

// Rollback implements gorm.TxCommitter. A connection on which it cannot be done is of no use any more.
func (p *pipeline) Rollback() error {
	if p.begun {
		if _, err := p.conn.ExecContext(p.ctx, "rollback"); err != nil {
			_ = p.conn.Raw(func(any) error { return driver.ErrBadConn })
		}
	}
	return p.conn.Close()
}

// pgRows are rows as the driver has them.
type pgRows struct{ pgx.Rows }

func (r pgRows) Columns() (names []string, err error) {
	for _, f := range r.FieldDescriptions() {
		names = append(names, f.Name)
	}
	return names, nil
}

func (r pgRows) values() ([]any, error) { return r.Values() }
