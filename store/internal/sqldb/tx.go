package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"gorm.io/gorm"
)

// Querier is a *Tx or a *Reader: a transaction or a pool that executes queries.
type Querier interface {
	Context() context.Context
	Dialect() Dialect
	// GORM returns the transaction or pool for GORM's own queries.
	GORM() *gorm.DB
	// ForUpdate is the end of a query that locks the rows that it finds. It is empty for a Reader and on SQLite. With
	// wait false, the query skips rows that another transaction has locked.
	ForUpdate(wait bool) string
}

// Reader is a transaction that only reads, or a pool on which each query is a transaction.
type Reader struct {
	db      *gorm.DB
	dialect Dialect
}

// Read returns a pool whose queries end with ctx.
func Read(ctx context.Context, db *gorm.DB) *Reader {
	return &Reader{db.WithContext(ctx), dialectOf(db)}
}

// Context is the context of the queries.
func (t *Reader) Context() context.Context { return t.db.Statement.Context }

// Dialect returns the SQL dialect.
func (t *Reader) Dialect() Dialect { return t.dialect }

// GORM returns the transaction for GORM's own queries.
func (t *Reader) GORM() *gorm.DB { return t.db }

// ForUpdate is empty: a reader locks no row.
func (t *Reader) ForUpdate(bool) string { return "" }

// Snapshot runs fn in a transaction that only reads, and that sees the database at one moment.
func Snapshot(ctx context.Context, db *gorm.DB, fn func(tx *Reader) error) error {
	var options []*sql.TxOptions
	if dialectOf(db) == Postgres {
		options = append(options, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	}
	read := func(tx *gorm.DB) error { return fn(&Reader{tx, dialectOf(db)}) }
	return db.WithContext(ctx).Transaction(read, options...)
}

// Tx is one unit of work in a transaction that writes. On SQLite, several units may share one transaction.
//
// It has three hooks for its end. The functions of WriterOnEnd and WriterOnCommit run before the writer takes other
// work, so they must not block. The functions of CallerOnCommit run in the goroutine that called Writer.Do or Try, and
// may block it. For a batch, that is a goroutine of the Batcher, whose next batch then waits. On PostgreSQL, the
// functions of WriterOnEnd and WriterOnCommit run in that goroutine, too.
type Tx struct {
	Reader
	Begun time.Time // by the local clock

	writerHooks []func(error)
	callerHooks []func()
}

// NewTx returns the Tx of a transaction that db is in. Its statements end with ctx.
func NewTx(ctx context.Context, db *gorm.DB) *Tx {
	return &Tx{Reader: *Read(ctx, db), Begun: time.Now()}
}

// Run runs a function in the transaction. It returns a panic as an error.
func (t *Tx) Run(fn func(tx *Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v", p)
		}
	}()
	return fn(t)
}

// ForUpdate implements Querier.
func (t *Tx) ForUpdate(wait bool) string {
	if t.dialect == SQLite {
		return ""
	}
	return " FOR " + rowLock + skipLocked(wait)
}

// Exec runs a statement.
func (t *Tx) Exec(text string, args ...any) error {
	_, err := t.ExecCount(text, args...)
	return err
}

// ExecCount runs a statement and returns the number of rows that it changed.
func (t *Tx) ExecCount(text string, args ...any) (rows int64, err error) {
	text, values := bind(t.dialect, text, args)
	began := time.Now()
	done, err := t.db.Statement.ConnPool.ExecContext(t.Context(), text, values...)
	if logFailed(t, began, text, err) != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// Queue queues a statement until the next statement that needs an answer, if the engine can queue. This saves a round
// trip to the server, which takes longer than most statements. An error of a queued statement is returned by the next
// statement, or by the commit.
func (t *Tx) Queue(text string, args ...any) error {
	q, is := t.db.Statement.ConnPool.(Queuer)
	if !is {
		return t.Exec(text, args...)
	}
	text, values := bind(t.dialect, text, args)
	q.Queue(text, values)
	return nil
}

// Queuer is a connection in a transaction that can queue statements.
type Queuer interface {
	// Queue queues a statement.
	Queue(text string, values []any)
	// Fetch sends the queued statements and then a query, and passes its rows to read.
	Fetch(ctx context.Context, text string, values []any, read func(Rows) error) error
}

// WriterOnEnd registers fn. The writer calls it when the transaction has ended, with nil if the unit is committed.
func (t *Tx) WriterOnEnd(fn func(error)) { t.writerHooks = append(t.writerHooks, fn) }

// WriterOnCommit registers fn. The writer calls it when the transaction is committed.
func (t *Tx) WriterOnCommit(fn func()) {
	t.WriterOnEnd(func(err error) {
		if err == nil {
			fn()
		}
	})
}

// CallerOnCommit registers fn. The goroutine that called the writer calls it after the commit, unless it has stopped
// waiting.
func (t *Tx) CallerOnCommit(fn func()) { t.callerHooks = append(t.callerHooks, fn) }

// RunWriterHooks calls the functions of WriterOnEnd and WriterOnCommit. err is the error of the transaction.
func (t *Tx) RunWriterHooks(err error) {
	for _, fn := range t.writerHooks {
		fn(err)
	}
}

// RunCallerHooks calls the functions of CallerOnCommit.
func (t *Tx) RunCallerHooks() {
	for _, fn := range t.callerHooks {
		fn()
	}
}
