package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"gorm.io/gorm"
)

// Querier is a transaction or a pool that queries are asked of: a *Tx or a *ReadTx.
type Querier interface {
	Context() context.Context
	Dialect() Dialect
	// GORM is the same for GORM's own queries.
	GORM() *gorm.DB
	// ForUpdate is the end of a query that locks the rows that it finds, if it is of a transaction that writes and
	// others write beside it. Unless it waits, it does not find rows that another transaction has locked.
	ForUpdate(wait bool) string
}

// ReadTx is a transaction that only reads, or a pool of which each query is one.
type ReadTx struct {
	db      *gorm.DB
	dialect Dialect
}

// Read returns a database for reading by queries that end with ctx.
func Read(ctx context.Context, db *gorm.DB) *ReadTx {
	return &ReadTx{db.WithContext(ctx), dialectOf(db)}
}

// Context is what the queries end with.
func (t *ReadTx) Context() context.Context { return t.db.Statement.Context }

// Dialect is the engine.
func (t *ReadTx) Dialect() Dialect { return t.dialect }

// GORM is the transaction for GORM's own queries.
func (t *ReadTx) GORM() *gorm.DB { return t.db }

// ForUpdate is empty: what only reads locks nothing.
func (t *ReadTx) ForUpdate(bool) string { return "" }

// Snapshot runs fn in a transaction that only reads and sees one moment.
func Snapshot(ctx context.Context, db *gorm.DB, fn func(tx *ReadTx) error) error {
	var moment []*sql.TxOptions
	if dialectOf(db) == Postgres {
		moment = append(moment, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	}
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return fn(&ReadTx{tx, dialectOf(db)}) }, moment...)
}

// Tx is a transaction that writes, for one unit of work.
type Tx struct {
	ReadTx
	Begun time.Time // by the local clock

	ends    []func(error)
	commits []func()
}

// NewTx returns the transaction that db is in. Its statements end with ctx.
func NewTx(ctx context.Context, db *gorm.DB) *Tx {
	return &Tx{ReadTx: *Read(ctx, db), Begun: time.Now()}
}

// Run runs a function in the transaction. A panic of it is its error.
func (t *Tx) Run(fn func(tx *Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v", p)
		}
	}()
	return fn(t)
}

// ForUpdate is the end of a query that locks what it finds.
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

// ExecCount runs a statement and returns how many rows it has changed.
func (t *Tx) ExecCount(text string, args ...any) (rows int64, err error) {
	text, values := bind(t.dialect, text, args)
	began := time.Now()
	done, err := t.db.Statement.ConnPool.ExecContext(t.Context(), text, values...)
	if logFailed(t, began, text, err) != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// Queue runs a statement together with the next one whose answer is waited for, where the engine can do so: each time
// that a server is waited for takes longer than most statements. An error of it may be that of the next one, or of the
// commit.
func (t *Tx) Queue(text string, args ...any) error {
	q, is := t.db.Statement.ConnPool.(Queuer)
	if !is {
		return t.Exec(text, args...)
	}
	text, values := bind(t.dialect, text, args)
	q.Queue(text, values)
	return nil
}

// Queuer is a connection in a transaction that can keep statements until the next one.
type Queuer interface {
	// Queue keeps a statement.
	Queue(text string, values []any)
	// Fetch sends what was kept, and a query, whose rows read gets.
	Fetch(ctx context.Context, text string, values []any, read func(Rows) error) error
}

// OnEnd has fn called with what became of the transaction: nil when it is committed. Others wait meanwhile, so fn must
// not block.
func (t *Tx) OnEnd(fn func(error)) { t.ends = append(t.ends, fn) }

// OnCommit is OnEnd for a transaction that is committed.
func (t *Tx) OnCommit(fn func()) {
	t.OnEnd(func(err error) {
		if err == nil {
			fn()
		}
	})
}

// AfterCommit has fn called by the caller whom the transaction was for, when it is committed. It may block.
func (t *Tx) AfterCommit(fn func()) { t.commits = append(t.commits, fn) }

// End has the functions of OnEnd called.
func (t *Tx) End(err error) {
	for _, fn := range t.ends {
		fn(err)
	}
}

// Committed has the functions of AfterCommit called.
func (t *Tx) Committed() {
	for _, fn := range t.commits {
		fn()
	}
}
