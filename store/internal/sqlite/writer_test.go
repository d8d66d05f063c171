package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// watched is a writer whose commits are counted and can be made to fail.
type watched struct {
	*Writer
	t       testing.TB
	commits atomic.Int64
	refuse  atomic.Bool // the next commit
	once    sync.Once   // closes the writer
}

// errFailed is the error of the units of a failed transaction.
var errFailed = errors.New("the transaction has failed")

func openWatched(t *testing.T) *watched {
	t.Helper()
	f := openTestFile(t)
	_, err := f.Conn().ExecContext(t.Context(), "CREATE TABLE things (id TEXT PRIMARY KEY, thing TEXT "+
		"REFERENCES things (id) DEFERRABLE INITIALLY DEFERRED)")
	check(t, err)
	w := &watched{t: t}
	check(t, f.Conn().Raw(func(conn any) error {
		conn.(*sqlite3.SQLiteConn).RegisterCommitHook(func() int {
			if w.refuse.Swap(false) {
				return 1
			}
			w.commits.Add(1)
			return 0
		})
		return nil
	}))
	w.Writer = NewWriter(f.DB, func(err error) error { return errors.Join(errFailed, err) })
	// However slow the machine is, no transaction exceeds maxWork.
	w.now = func() time.Time { return time.Time{} }
	f.close.Do(func() { // the writer is closed before the file
		t.Cleanup(func() {
			w.done()
			check(t, f.Close(), f.Unlock())
		})
	})
	return w
}

// done closes the writer once.
func (w *watched) done() { w.once.Do(func() { check(w.t, w.Close()) }) }

// write runs a unit of work without cancellation.
func (w *watched) write(work sqldb.Work) error { return w.Do(context.Background(), work) }

// put returns a unit of work that stores a row.
func put(id string) func(*sqldb.Tx) error {
	return func(tx *sqldb.Tx) error {
		return tx.Exec("INSERT INTO things (id) VALUES (?)", id)
	}
}

// errBefore is the error of a unit that others wait for. Since it fails, they do not join its transaction.
var errBefore = errors.New("the write before fails")

// together runs units in one transaction: they wait in the queue, in this order, until all are there. It returns their
// errors.
func (w *watched) together(writes ...func(*sqldb.Tx) error) []error {
	w.t.Helper()
	contexts := make([]context.Context, len(writes))
	for i := range contexts {
		contexts[i] = context.Background()
	}
	return w.togetherWith(contexts, writes)
}

func (w *watched) togetherWith(contexts []context.Context, writes []func(*sqldb.Tx) error) []error {
	w.t.Helper()
	hold, held := make(chan struct{}), make(chan struct{})
	results := make([]error, len(writes))
	var all sync.WaitGroup
	all.Go(func() {
		err := w.write(func(*sqldb.Tx) error { close(held); <-hold; return errBefore })
		if !errors.Is(err, errBefore) {
			w.t.Errorf("the write before: %v", err)
		}
	})
	<-held
	for i, fn := range writes {
		all.Go(func() { results[i] = w.Do(contexts[i], fn) })
		w.queued(i + 1)
	}
	close(hold)
	all.Wait()
	return results
}

// queued returns when n units wait.
func (w *watched) queued(n int) {
	for w.Waiting() < n {
		runtime.Gosched()
	}
}

// want compares the stored rows, on another connection.
func (w *watched) want(ids ...string) {
	w.t.Helper()
	var got []string
	if err := w.file.ReadORM().Raw("SELECT id FROM things ORDER BY id").Scan(&got).Error; err != nil {
		w.t.Fatal(err)
	}
	if !slices.Equal(got, ids) {
		w.t.Errorf("stored are %v, want %v", got, ids)
	}
}

func (w *watched) wantFailed(err error) {
	w.t.Helper()
	if !errors.Is(err, errFailed) {
		w.t.Errorf("error is %v, want that the transaction has failed", err)
	}
}

// works checks that the writer still runs, by a unit in a transaction of its own.
func (w *watched) works() {
	w.t.Helper()
	before := w.commits.Load()
	id := fmt.Sprint("later", before)
	if err := w.write(put(id)); err != nil {
		w.t.Errorf("a later write: %v", err)
	}
	if n := w.commits.Load() - before; n != 1 {
		w.t.Errorf("a later write took %d commits", n)
	}
	if err := w.write(func(tx *sqldb.Tx) error {
		return tx.Exec("DELETE FROM things WHERE id = ?", id)
	}); err != nil {
		w.t.Errorf("a later write: %v", err)
	}
}

func TestWaitingUnitsShareACommit(t *testing.T) {
	w := openWatched(t)
	var writes []func(*sqldb.Tx) error
	var ids []string
	for i := range maxUnits {
		ids = append(ids, fmt.Sprintf("%03d", i))
		writes = append(writes, put(ids[i]))
	}
	if err := errors.Join(w.together(writes...)...); err != nil {
		t.Fatal(err)
	}
	if n := w.commits.Load(); n != 1 {
		t.Errorf("%d writes took %d commits, want 1", maxUnits, n)
	}
	w.want(ids...)
}

func TestUnitJoinsTheRunningTransaction(t *testing.T) {
	w := openWatched(t)
	hold, held := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	var first, second error
	all.Go(func() {
		first = w.write(func(tx *sqldb.Tx) error { close(held); <-hold; return put("a")(tx) })
	})
	<-held
	all.Go(func() { second = w.write(put("b")) })
	w.queued(1)
	close(hold)
	all.Wait()
	if err := errors.Join(first, second); err != nil {
		t.Error(err)
	}
	if n := w.commits.Load(); n != 1 {
		t.Errorf("two writes took %d commits, want 1", n)
	}
	w.want("a", "b")
}

func TestDoReturnsAfterTheCommit(t *testing.T) {
	w := openWatched(t)
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			if err := w.write(put(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
			var n int
			err := w.file.ReadORM().Raw("SELECT count(*) FROM things WHERE id = ?", fmt.Sprint(i)).Scan(&n).Error
			if err != nil || n != 1 {
				t.Errorf("another connection sees %d rows of write %d (%v)", n, i, err)
			}
		})
	}
	all.Wait()
}

func TestFailedUnitFailsNoOther(t *testing.T) {
	bad := errors.New("no")
	for name, fn := range map[string]func(*sqldb.Tx) error{
		"error":     func(*sqldb.Tx) error { return bad },
		"panic":     func(*sqldb.Tx) error { panic("no") },
		"statement": func(tx *sqldb.Tx) error { return tx.Exec("INSERT INTO nowhere VALUES ('no')") },
		"panic among rows": func(tx *sqldb.Tx) error {
			rows, err := tx.GORM().Raw("SELECT id FROM things").Rows()
			if err != nil {
				return err
			}
			defer rows.Close()
			panic(fmt.Sprint("no, among rows: ", rows.Next(), rows.Err()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := openWatched(t)
			results := w.together(put("a"), func(tx *sqldb.Tx) error {
				return errors.Join(put("b")(tx), fn(tx))
			}, put("c"), func(tx *sqldb.Tx) error { return errors.Join(put("d")(tx), fn(tx)) })
			if results[0] != nil || results[2] != nil || results[1] == nil ||
				!strings.Contains(results[3].Error(), "no") {
				t.Errorf("results are %v, want the second's and the fourth's own errors", results)
			}
			if n := w.commits.Load(); n != 1 {
				t.Errorf("%d commits, want 1", n)
			}
			w.want("a", "c")
			w.works()
		})
	}
}

func TestUnitSeesEarlierUnits(t *testing.T) {
	w := openWatched(t)
	first, again := put("a"), put("a")
	results := w.together(first, again, put("b"))
	if results[0] != nil || !IsDuplicate(results[1]) || results[2] != nil {
		t.Errorf("results are %v, want the second to find the first", results)
	}
	w.want("a", "b")
}

func TestUnitCancelledInTheQueueDoesNotRun(t *testing.T) {
	w := openWatched(t)
	ctx, cancel := context.WithCancel(context.Background())
	background := context.Background()
	results := w.togetherWith([]context.Context{background, ctx, background}, []func(*sqldb.Tx) error{
		func(tx *sqldb.Tx) error { cancel(); return put("a")(tx) }, put("b"), put("c"),
	})
	if results[0] != nil || !errors.Is(results[1], context.Canceled) || results[2] != nil {
		t.Errorf("results are %v, want the second cancelled", results)
	}
	w.want("a", "c")
	w.works()
}

func TestUnitCancelledWhileItRunsIsCommitted(t *testing.T) {
	w := openWatched(t)
	ctx, cancel := context.WithCancel(context.Background())
	err := w.Do(ctx, func(tx *sqldb.Tx) error { cancel(); return put("a")(tx) })
	if err != nil {
		t.Errorf("write: %v", err)
	}
	w.want("a")
}

func TestFailedCommitFailsAllUnits(t *testing.T) {
	orphan := func(tx *sqldb.Tx) error { return tx.Exec("INSERT INTO things (id, thing) VALUES ('x', 'nowhere')") }
	for name, c := range map[string]struct {
		bad   func(*watched) func(*sqldb.Tx) error
		ended bool // the units behind it are in the next transaction
	}{
		"foreign key": {bad: func(*watched) func(*sqldb.Tx) error { return orphan }},
		"disk": {bad: func(w *watched) func(*sqldb.Tx) error {
			return func(*sqldb.Tx) error { w.refuse.Store(true); return nil }
		}},
		"rolled back": {ended: true, bad: func(*watched) func(*sqldb.Tx) error {
			return func(tx *sqldb.Tx) error { return tx.Exec("ROLLBACK") }
		}},
		"and an error": {ended: true, bad: func(*watched) func(*sqldb.Tx) error {
			return func(tx *sqldb.Tx) error { return errors.Join(tx.Exec("ROLLBACK"), ErrClosed) }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := openWatched(t)
			results := w.together(put("a"), c.bad(w), put("b"))
			w.wantFailed(results[0])
			w.wantFailed(results[1])
			if c.ended {
				if results[2] != nil {
					t.Errorf("the unit behind it: %v", results[2])
				}
				w.want("b")
			} else {
				w.wantFailed(results[2])
				w.want()
			}
			w.works()
			if err := errors.Join(w.together(put("c"), put("d"))...); err != nil {
				t.Error(err)
			}
		})
	}
}

// The units behind it run in the next transaction, and no statement begins one by itself.
func TestUnitsSurviveATransactionThatTheirFirstEnded(t *testing.T) {
	w := openWatched(t)
	results := w.together(func(tx *sqldb.Tx) error { return tx.Exec("ROLLBACK") }, put("a"), put("b"))
	w.wantFailed(results[0])
	if err := errors.Join(results[1:]...); err != nil {
		t.Error(err)
	}
	if n := w.commits.Load(); n != 1 {
		t.Errorf("the units behind it took %d commits, want 1", n)
	}
	w.want("a", "b")
	w.works()
}

// A cancelled unit begins no transaction.
func TestFailedBeginFailsAllWaitingUnits(t *testing.T) {
	w := openWatched(t)
	begun := 0
	sqldb.AddTap(w.ORM(), func(statement string, _ []any) error {
		if statement == "BEGIN IMMEDIATE" {
			if begun++; begun == 2 { // the transaction of the waiting units
				return errors.New("database is locked")
			}
		}
		return nil
	}, nil)
	gone, end := context.WithCancel(t.Context())
	end()
	ctx := t.Context()
	results := w.togetherWith([]context.Context{ctx, ctx, ctx}, []func(*sqldb.Tx) error{put("a"), put("b"), put("c")})
	for _, err := range results {
		w.wantFailed(err)
	}
	if begun != 2 {
		t.Errorf("%d transactions were begun, want 2", begun)
	}
	if err := w.Do(gone, put("d")); !errors.Is(err, context.Canceled) || begun != 2 {
		t.Errorf("the error of a cancelled unit is %v; %d transactions were begun", err, begun)
	}
	w.want()
	w.works()
}

func TestTransactionHasNoMoreThanMaxUnits(t *testing.T) {
	w := openWatched(t)
	var all sync.WaitGroup
	var next func(left int) func(*sqldb.Tx) error
	next = func(left int) func(*sqldb.Tx) error {
		return func(tx *sqldb.Tx) error {
			if left > 0 {
				all.Go(func() { w.wantDone(w.write(next(left - 1))) })
				w.queued(1)
			}
			return put(fmt.Sprintf("%04d", left))(tx)
		}
	}
	w.wantDone(w.write(next(2 * maxUnits)))
	if n := w.commits.Load(); n == 0 {
		t.Error("no commit")
	}
	all.Wait()
	if n := w.commits.Load(); n != 3 {
		t.Errorf("%d writes took %d commits, want 3", 2*maxUnits+1, n)
	}
}

// A transaction takes no further unit after maxWork, which its first unit alone may exceed.
func TestTransactionTakesNoUnitAfterMaxWork(t *testing.T) {
	w := openWatched(t)
	now := time.Now()
	w.now = func() time.Time { return now }
	var commits []int64
	lasts := func(id string, d time.Duration) func(*sqldb.Tx) error {
		return func(tx *sqldb.Tx) error {
			now = now.Add(d)
			commits = append(commits, w.commits.Load())
			return put(id)(tx)
		}
	}
	results := w.together(lasts("a", maxWork-1), lasts("b", 1), lasts("c", 2*maxWork), lasts("d", 0),
		lasts("e", maxWork-1), lasts("f", 0))
	if err := errors.Join(results...); err != nil {
		t.Fatal(err)
	}
	if want := []int64{0, 0, 1, 2, 2, 2}; !slices.Equal(commits, want) {
		t.Errorf("the units began after %v commits, want %v", commits, want)
	}
	w.want("a", "b", "c", "d", "e", "f")
}

func (w *watched) wantDone(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Errorf("write: %v", err)
	}
}

func TestClosedWriterRefusesWork(t *testing.T) {
	w := openWatched(t)
	w.done()
	for range 2 * maxUnits {
		w.wantClosed(w.write(put("a")))
	}
	w.wantClosed(w.Try(t.Context(), put("a")))
	w.wantClosed(w.Between(t.Context(), func(*sql.Conn) error { return nil }))
}

func (w *watched) wantClosed(err error) {
	w.t.Helper()
	if !errors.Is(err, ErrClosed) {
		w.t.Errorf("error is %v, want that the writer is closed", err)
	}
}

func TestUnitsDuringCloseAreCommittedOrRefused(t *testing.T) {
	w := openWatched(t)
	hold, held := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		err := w.write(func(tx *sqldb.Tx) error { close(held); <-hold; return put("first")(tx) })
		if err != nil {
			t.Errorf("a unit that began before Close: %v", err)
		}
	})
	<-held
	var stored atomic.Int64
	for i := range 3 * maxUnits { // more than one transaction has
		all.Go(func() {
			err := w.write(put(fmt.Sprint(i)))
			if err == nil {
				stored.Add(1)
			} else {
				w.wantClosed(err)
			}
		})
	}
	w.queued(3 * maxUnits)
	all.Go(w.done)
	<-w.quit
	close(hold)
	all.Wait()
	var n int64
	check(t, w.file.ReadORM().Raw("SELECT count(*) FROM things WHERE id <> 'first'").Scan(&n).Error)
	if n != stored.Load() {
		t.Errorf("%d writes were done, and %d rows are stored", stored.Load(), n)
	}
}

// The unit of Try has not begun, and never runs.
func TestTryReturnsWhenItsContextEnds(t *testing.T) {
	w := openWatched(t)
	hold, held := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		w.wantDone(w.write(func(tx *sqldb.Tx) error { close(held); <-hold; return put("a")(tx) }))
	})
	<-held
	ctx, end := context.WithCancel(t.Context())
	tried := make(chan error, 1)
	go func() { tried <- w.Try(ctx, put("b")) }()
	w.queued(1)
	end()
	if err := <-tried; !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	close(hold)
	all.Wait()
	w.works()
	w.want("a")
}

// The function begins when the running transaction has ended.
func TestBetweenRunsOutsideTransactions(t *testing.T) {
	w := openWatched(t)
	hold, held := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		w.wantDone(w.write(func(tx *sqldb.Tx) error { close(held); <-hold; return put("a")(tx) }))
	})
	<-held
	gone, end := context.WithCancel(t.Context())
	end()
	err := w.Between(gone, func(*sql.Conn) error { return errors.New("it has run") })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
	own := errors.New("its own")
	all.Go(func() {
		err := w.Between(t.Context(), func(conn *sql.Conn) error {
			if !w.file.TransactionEnded() || w.commits.Load() != 1 {
				t.Error("it runs in a transaction")
			}
			return own
		})
		if !errors.Is(err, own) {
			t.Errorf("its error is %v", err)
		}
	})
	close(hold)
	all.Wait()
	w.works()
}

// A transaction that is not synced has only units that need no sync. Units that need a sync may be joined by any.
func TestUnsyncedUnitsShareNoTransactionWithOthers(t *testing.T) {
	w := openWatched(t)
	var modes []string
	begun, end := make(chan struct{}, 1), make(chan struct{})
	work := func(name int) sqldb.Work {
		return func(tx *sqldb.Tx) error {
			if name == 0 {
				begun <- struct{}{}
				<-end
			}
			mode, err := sqldb.Value[int](tx, "PRAGMA synchronous")
			modes = append(modes, fmt.Sprintf("%d: %d after %d", name, mode, w.commits.Load()))
			return err
		}
	}
	var calls sync.WaitGroup
	for i, do := range []func(context.Context, sqldb.Work) error{
		w.DoUnsynced, w.DoUnsynced, w.Do, w.DoUnsynced, w.Do,
	} {
		calls.Go(func() { check(t, do(t.Context(), work(i))) })
		if i == 0 {
			<-begun
		}
		w.queued(i)
	}
	close(end)
	calls.Wait()
	const want = "0: 1 after 0, 1: 1 after 0, 2: 2 after 1, 3: 2 after 1, 4: 2 after 1"
	if got := strings.Join(modes, ", "); got != want {
		t.Errorf("modes are %s, want %s", got, want)
	}
}

// A transaction that needs a sync does not begin before commits are synced again, although setting that has failed.
func TestFailedSettingOfSyncIsRepeated(t *testing.T) {
	w := openWatched(t)
	fail := true
	sqldb.AddTap(w.ORM(), func(text string, _ []any) error {
		if fail && strings.HasSuffix(text, "= FULL") {
			return errBefore
		}
		return nil
	}, nil)
	check(t, w.DoUnsynced(t.Context(), put("a")))
	if err := w.write(put("b")); !errors.Is(err, errBefore) {
		t.Errorf("with commits that are not synced: %v", err)
	}
	check(t, w.DoUnsynced(t.Context(), put("c")))
	fail = false
	check(t, w.write(func(tx *sqldb.Tx) error {
		mode, err := sqldb.Value[int](tx, "PRAGMA synchronous")
		if mode != 2 {
			t.Errorf("the mode is %d", mode)
		}
		return err
	}))
	w.want("a", "c")
}
