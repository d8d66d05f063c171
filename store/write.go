package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"gorm.io/gorm"
)

// most is how many writes one commit takes.
const most = 256

var (
	errClosed = errors.New("the store is closed")
	errEnded  = errors.New("the database has ended the transaction by itself")
)

// writer is the one goroutine that writes. It takes all writes that wait into one transaction, and those that come before
// its end: simultaneous requests share one fsync, which is what bounds a durable SQLite.
type writer struct {
	db     *gorm.DB // on one connection, which only work uses
	conn   *sql.Conn
	pool   gorm.ConnPool // of the statements that are prepared on it
	queue  chan *write
	quit   chan struct{}
	closed chan struct{}
	once   sync.Once
	total  total

	errands chan func() // between two transactions
	keeper  *keeper     // of the file; nil for a process that does not own it
	commits int         // since the log was looked at
}

// write is a function that waits for its transaction.
type write struct {
	ctx    context.Context
	fn     func(tx *gorm.DB) error
	done   chan error
	began  time.Time
	counts Counts
	after  []func(error) // are told what became of it
	lines  []line        // are logged if it is committed
}

type writeKey struct{}

// ownWrite is the write that a transaction is for, nil for one that only reads.
func ownWrite(tx *gorm.DB) *write {
	w, _ := tx.Statement.Context.Value(writeKey{}).(*write)
	return w
}

// afterwards has a function told whether a write is committed. It must not block.
func afterwards(tx *gorm.DB, fn func(error)) {
	w := ownWrite(tx)
	w.after = append(w.after, fn)
}

func newWriter(db *gorm.DB, conn *sql.Conn, k *keeper) *writer {
	w := &writer{
		db: db, conn: conn, pool: db.ConnPool, keeper: k,
		queue: make(chan *write, most), quit: make(chan struct{}), closed: make(chan struct{}), errands: make(chan func()),
	}
	go w.work()
	return w
}

// do runs fn in a transaction and returns when that is committed. Once fn is queued, the end of ctx keeps it from being
// begun, and once it has begun changes nothing: others share the transaction.
func (w *writer) do(ctx context.Context, fn func(tx *gorm.DB) error) error {
	j, err := w.enqueue(ctx, fn)
	if err != nil {
		return err
	}
	return w.wait(context.WithoutCancel(ctx), j)
}

// try is do for who does not want to know any more when ctx ends. What fn does may come later, and is nobody's then.
func (w *writer) try(ctx context.Context, fn func(tx *gorm.DB) error) error {
	j, err := w.enqueue(ctx, fn)
	if err != nil {
		return err
	}
	return w.wait(ctx, j)
}

func (w *writer) enqueue(ctx context.Context, fn func(tx *gorm.DB) error) (*write, error) {
	j := &write{ctx: ctx, fn: fn, done: make(chan error, 1)}
	select {
	case w.queue <- j:
		return j, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.closed:
		return nil, errClosed
	}
}

func (w *writer) wait(ctx context.Context, j *write) error {
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-w.closed:
		return j.outcome()
	}
}

// outcome is what became of a write when the writer has ended.
func (j *write) outcome() error {
	select {
	case err := <-j.done:
		return err
	default:
		return errClosed
	}
}

func (w *writer) handle() *gorm.DB { return w.db }
func (w *writer) counted() Counts  { return w.total.get() }

func (w *writer) close() error {
	w.once.Do(func() { close(w.quit) })
	<-w.closed
	// What is committed is in the file itself then, for whoever copies that alone; but nobody who reads is waited for.
	return errors.Join(w.db.Exec("PRAGMA busy_timeout = 500").Error, w.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)").Error, closeStatements(w.pool), w.conn.Close())
}

// closeStatements closes the statements that were prepared on one connection, which would keep it open.
func closeStatements(pool gorm.ConnPool) (err error) {
	if p, ok := pool.(*gorm.PreparedStmtDB); ok {
		for _, key := range p.Stmts.Keys() {
			if statement, ok := p.Stmts.Get(key); ok {
				err = errors.Join(err, statement.Close())
			}
		}
	}
	return err
}

func (w *writer) work() {
	defer close(w.closed)
	// One thread finds what SQLite works with in the caches of its processor: a delivery takes a fifth less processor time
	// (0.20 ms instead of 0.25; go test -bench Delivery ./store, with TMPDIR in memory).
	runtime.LockOSThread()
	for {
		select {
		case <-w.quit:
			return
		case j := <-w.queue:
			w.commit(j)
			w.carry()
		case fn := <-w.errands:
			fn()
		}
	}
}

// between runs fn on the writer's connection, between two transactions.
func (w *writer) between(ctx context.Context, fn func(conn *sql.Conn) error) error {
	done := make(chan error, 1)
	select {
	case w.errands <- func() { done <- fn(w.conn) }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	case <-w.closed:
		return errClosed
	}
}

// carry looks now and then whether the log is to be carried over to the file. Much of it, as after a reader has held
// it up, it leaves to who tends the file, on another connection: writes need not wait for that.
func (w *writer) carry() {
	if w.commits++; w.keeper == nil || w.commits < carryLook {
		return
	}
	w.commits = 0
	p, err := checkpoint(w.conn, "NOOP")
	if left := p.Log - p.Checkpointed; err == nil && p.Log >= carryPages && left > 0 && left <= writerPages {
		_, _ = w.keeper.carry(w.conn) // which notes an error
	}
}

// commit works a write, and those that are asked for before it is done, in one transaction. A write that fails takes nothing
// with it; if the transaction fails, all do.
func (w *writer) commit(first *write) {
	batch, results, err := w.transaction(first)
	for i, j := range batch {
		if err != nil {
			results[i] = notAvailable(err)
		}
		if results[i] == nil {
			w.total.add(j.counts)
		}
		j.tell(results[i])
		j.done <- results[i]
	}
}

// transaction runs writes and commits. If it does not begin, nor would it for those that wait; if the first write fails,
// nothing has come of it yet that is to be kept.
func (w *writer) transaction(first *write) (batch []*write, results []error, err error) {
	batch, results = []*write{first}, []error{first.ctx.Err()}
	if results[0] != nil {
		return batch, results, nil
	}
	if err = w.beginTransaction(); err != nil {
		batch = w.waiting(first)
		results = make([]error, len(batch))
	} else if results[0] = w.begin(first); results[0] == nil {
		if batch, results, err = w.others(batch, results); err == nil {
			return batch, results, w.keeper.confirm()
		}
	}
	if !w.ended() {
		_ = w.run("ROLLBACK") // an error here means that the one before was in vain
	}
	return batch, results, err
}

// beginTransaction refuses to write to a file that is known to be lost.
func (w *writer) beginTransaction() error {
	if err := w.keeper.lost(); err != nil {
		return err
	}
	return w.run("BEGIN IMMEDIATE")
}

// run runs a statement of the transaction itself.
func (w *writer) run(statement string) error {
	return execute(w.db, statement)
}

// next is a write that waits, nil if none does.
func (w *writer) next() *write {
	select {
	case j := <-w.queue:
		return j
	default:
		return nil
	}
}

// waiting is the first write and those behind it.
func (w *writer) waiting(first *write) (batch []*write) {
	for j := first; j != nil; j = w.next() {
		batch = append(batch, j)
	}
	return batch
}

// others runs the writes that wait, also those that come while it does so, and commits.
func (w *writer) others(batch []*write, results []error) ([]*write, []error, error) {
	if w.ended() {
		return batch, results, errEnded
	}
	for len(batch) < most {
		j := w.next()
		if j == nil {
			break
		}
		own, err := w.step(j)
		batch, results = append(batch, j), append(results, own)
		if err != nil {
			return batch, results, err
		}
	}
	return batch, results, w.run("COMMIT")
}

// tell tells those who want to know what became of a write.
func (j *write) tell(result error) {
	for _, fn := range j.after {
		fn(result)
	}
}

// begin runs a write, unless nobody wants it any more.
func (w *writer) begin(j *write) error {
	if err := j.ctx.Err(); err != nil {
		return err
	}
	j.began = time.Now()
	return w.protect(j)
}

// step runs one write between savepoints. The first error is the write's own; the second ends the transaction.
func (w *writer) step(j *write) (own, fatal error) {
	if err := w.run("SAVEPOINT step"); err != nil {
		return nil, err
	}
	own = w.begin(j)
	if own != nil {
		if w.ended() { // there is no savepoint any more
			return nil, errors.Join(own, errEnded)
		}
		if err := w.run("ROLLBACK TO step"); err != nil {
			return nil, errors.Join(own, err)
		}
	}
	return own, w.run("RELEASE step")
}

// protect is for the sake of the others. What the write's context holds is there in the transaction, but not its end.
func (w *writer) protect(j *write) error {
	return j.protect(w.db.WithContext(context.WithValue(context.WithoutCancel(j.ctx), writeKey{}, j)))
}

// protect turns a panic of a write into its error.
func (j *write) protect(tx *gorm.DB) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v", p)
		}
	}()
	return j.fn(tx)
}
