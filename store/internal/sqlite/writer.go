package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"sync"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// MaxUnits is how many units of work one commit takes.
const MaxUnits = 256

var (
	// ErrClosed is what work comes to when the writer is closed.
	ErrClosed = errors.New("the store is closed")

	errEnded = errors.New("the database has ended the transaction by itself")
)

// Guard looks after the file while the writer writes.
type Guard interface {
	// Lost says why nothing is to be written to the file any more.
	Lost() error
	// Confirm says why what is committed cannot be relied on.
	Confirm() error
	// Committed is called between two transactions, with the connection that writes.
	Committed(conn *sql.Conn)
}

// Writer implements sqldb.Writer by one goroutine. It takes all units of work that wait into one transaction, and those that
// come before its end: simultaneous requests share one fsync, which is what bounds a durable SQLite.
type Writer struct {
	db    *gorm.DB // on one connection, which only run uses
	conn  *sql.Conn
	guard Guard
	fails func(error) error // what a unit gets whose transaction has failed

	mu      sync.Mutex
	waiting []*unit
	refuses bool // what comes from now on

	begin   chan struct{} // something waits
	errands chan func()   // between two transactions
	quit    chan struct{}
	closed  chan struct{}
	once    sync.Once
}

// unit is the work that waits for its transaction.
type unit struct {
	ctx  context.Context
	work sqldb.Work
	done func(tx *sqldb.Tx, err error)
	tx   *sqldb.Tx
}

// NewWriter returns a writer on a connection that GORM is on top of. fails makes the error of a transaction that of its
// units.
func NewWriter(db *gorm.DB, conn *sql.Conn, guard Guard, fails func(error) error) *Writer {
	w := &Writer{
		db: db, conn: conn, guard: guard, fails: fails,
		begin: make(chan struct{}, 1), errands: make(chan func()), quit: make(chan struct{}), closed: make(chan struct{}),
	}
	go w.run()
	return w
}

// DB implements sqldb.Writer.
func (w *Writer) DB() *gorm.DB { return w.db }

// Conn is the connection that writes.
func (w *Writer) Conn() *sql.Conn { return w.conn }

// Waiting is how many units of work wait for a transaction.
func (w *Writer) Waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)
}

// Do implements sqldb.Writer.
func (w *Writer) Do(ctx context.Context, work sqldb.Work) error {
	return w.wait(ctx, context.WithoutCancel(ctx), work)
}

// Try implements sqldb.Writer. What work does may come later, when nothing waits for it any more.
func (w *Writer) Try(ctx context.Context, work sqldb.Work) error { return w.wait(ctx, ctx, work) }

// wait returns when work is done, or when the second context ends.
func (w *Writer) wait(ctx, patience context.Context, work sqldb.Work) error {
	type outcome struct {
		tx  *sqldb.Tx
		err error
	}
	done := make(chan outcome, 1)
	w.enqueue(&unit{ctx: ctx, work: work, done: func(tx *sqldb.Tx, err error) { done <- outcome{tx, err} }})
	select {
	case o := <-done:
		if o.err == nil {
			o.tx.Committed()
		}
		return o.err
	case <-patience.Done():
		return patience.Err()
	}
}

// Submit implements sqldb.Writer.
func (w *Writer) Submit(work sqldb.Work, done func(tx *sqldb.Tx, err error)) {
	w.enqueue(&unit{ctx: context.Background(), work: work, done: done})
}

func (w *Writer) enqueue(u *unit) {
	if !w.add(u) {
		u.done(nil, ErrClosed)
		return
	}
	w.signal()
}

// signal has run look whether something waits.
func (w *Writer) signal() {
	select {
	case w.begin <- struct{}{}:
	default:
	}
}

func (w *Writer) add(u *unit) (added bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.refuses {
		w.waiting = append(w.waiting, u)
	}
	return !w.refuses
}

// next is a unit that waits, nil if none does.
func (w *Writer) next() *unit {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.waiting = nil
		return nil
	}
	u := w.waiting[0]
	w.waiting = w.waiting[1:]
	return u
}

// Between runs fn on the writer's connection, between two transactions.
func (w *Writer) Between(ctx context.Context, fn func(conn *sql.Conn) error) error {
	done := make(chan error, 1)
	select {
	case w.errands <- func() { done <- fn(w.conn) }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	case <-w.closed:
		return ErrClosed
	}
}

// Close implements sqldb.Writer. It carries what is committed over to the file, for those who copy that alone, unless a
// reader is in the way.
func (w *Writer) Close() error {
	w.once.Do(func() { close(w.quit) })
	<-w.closed
	return errors.Join(
		w.db.Exec("PRAGMA busy_timeout = 500").Error, w.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)").Error,
		w.closeStatements(), w.conn.Close())
}

// closeStatements closes the statements that were prepared on the connection, which would keep it open.
func (w *Writer) closeStatements() (err error) {
	if p, ok := w.db.ConnPool.(*gorm.PreparedStmtDB); ok {
		for _, key := range p.Stmts.Keys() {
			if statement, ok := p.Stmts.Get(key); ok {
				err = errors.Join(err, statement.Close())
			}
		}
	}
	return err
}

// run commits what waits, until the writer is closed. A statement on another thread than the one before finds nothing of it
// in the caches near, so it keeps to one.
func (w *Writer) run() {
	defer close(w.closed)
	runtime.LockOSThread()
	for {
		select {
		case <-w.quit:
			w.refuse()
			return
		case <-w.begin:
			if u := w.next(); u != nil {
				w.commit(u)
				w.guard.Committed(w.conn)
				w.signal()
			}
		case fn := <-w.errands:
			fn()
		}
	}
}

// refuse ends the units that wait, and has none wait from now on.
func (w *Writer) refuse() {
	w.mu.Lock()
	w.refuses = true
	w.mu.Unlock()
	for u := w.next(); u != nil; u = w.next() {
		u.done(nil, ErrClosed)
	}
}

// Closing is closed when the writer is about to close.
func (w *Writer) Closing() <-chan struct{} { return w.quit }
