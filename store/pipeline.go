package store

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"
)

// pipelined is a transaction that keeps statements that nobody waits for, and sends them with the next that somebody does:
// each time that a server is waited for takes longer than most statements.
type pipelined interface {
	// later has a statement be carried out before the next. An error of it is the next one's.
	later(text string, values []any)
	// fetch carries a query out and has its rows read.
	fetch(ctx context.Context, text string, values []any, read func(cursor) error) error
}

// pgPool begins such transactions on the connections of a pool.
type pgPool struct{ *sql.DB }

// BeginTx implements gorm.ConnPoolBeginner.
func (p pgPool) BeginTx(ctx context.Context, _ *sql.TxOptions) (gorm.ConnPool, error) {
	conn, err := p.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tx := &pipeline{Conn: conn, ctx: ctx}
	tx.queued.Queue("begin")
	return tx, nil
}

// pipeline is a transaction on a connection, which goes back to its pool at the end. GORM's own statements are sent at once.
type pipeline struct {
	*sql.Conn
	ctx    context.Context
	queued pgx.Batch
	begun  bool // something was sent
}

func (p *pipeline) later(text string, values []any) { p.queued.Queue(text, values...) }

func (p *pipeline) fetch(ctx context.Context, text string, values []any, read func(cursor) error) error {
	p.queued.Queue(text, values...)
	return p.send(ctx, read)
}

// send sends what is queued, and has the rows of the last statement read, unless read is nil.
func (p *pipeline) send(ctx context.Context, read func(cursor) error) error {
	batch := p.queued
	p.queued, p.begun = pgx.Batch{}, true
	return p.Raw(func(raw any) error {
		conn := raw.(*stdlib.Conn).Conn()
		if conn.IsClosed() {
			return driver.ErrBadConn
		}
		err := answers(conn.SendBatch(ctx, &batch), batch.Len(), read)
		if pgconn.SafeToRetry(err) {
			return driver.ErrBadConn
		}
		return err
	})
}

// answers reads what a batch of n statements is answered by.
func answers(results pgx.BatchResults, n int, read func(cursor) error) (err error) {
	if read != nil {
		n--
	}
	for i := 0; err == nil && i < n; i++ {
		_, err = results.Exec()
	}
	if err == nil && read != nil {
		var rows pgx.Rows
		if rows, err = results.Query(); err == nil {
			err = read(pgRows{rows})
			rows.Close()
		}
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	return err
}

// flush sends what is queued, if anything is.
func (p *pipeline) flush(ctx context.Context) error {
	if p.queued.Len() == 0 {
		return nil
	}
	return p.send(ctx, nil)
}

// PrepareContext implements gorm.ConnPool, as the others do.
func (p *pipeline) PrepareContext(ctx context.Context, text string) (*sql.Stmt, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p.Conn.PrepareContext(ctx, text)
}

func (p *pipeline) ExecContext(ctx context.Context, text string, values ...any) (sql.Result, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p.Conn.ExecContext(ctx, text, values...)
}

func (p *pipeline) QueryContext(ctx context.Context, text string, values ...any) (*sql.Rows, error) {
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p.Conn.QueryContext(ctx, text, values...)
}

func (p *pipeline) QueryRowContext(ctx context.Context, text string, values ...any) *sql.Row {
	if err := p.flush(ctx); err != nil {
		failed, cancel := context.WithCancelCause(ctx) // a row has no other way to say it
		cancel(err)
		ctx = failed
	}
	return p.Conn.QueryRowContext(ctx, text, values...)
}

// Commit implements gorm.TxCommitter.
func (p *pipeline) Commit() error {
	p.queued.Queue("commit")
	if err := p.send(p.ctx, nil); err != nil {
		_ = p.Rollback()
		return err
	}
	return p.Close()
}

// Rollback implements gorm.TxCommitter. A connection on which it cannot be done is of no use any more.
func (p *pipeline) Rollback() error {
	if p.begun {
		if _, err := p.Conn.ExecContext(p.ctx, "rollback"); err != nil {
			_ = p.Raw(func(any) error { return driver.ErrBadConn })
		}
	}
	return p.Close()
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
