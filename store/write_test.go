package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/internal/sqlite"
	"github.com/agentevents/agentevents/store/pgtest"
)

// watched is a store whose commits are counted and can be made to fail.
type watched struct {
	*Store
	t       testing.TB
	commits atomic.Int64
	refuse  atomic.Bool // the next commit
}

func openWatched(t testing.TB) *watched {
	t.Helper()
	pgtest.SQLiteOnly(t, "it is about the one writer, and watches SQLite's commits")
	s, err := Open(context.Background(), Options{
		URL: "sqlite:" + filepath.Join(t.TempDir(), "agentevents.db"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{Store: s, t: t}
	err = s.writes.(*sqlite.Writer).File().Conn().Raw(func(conn any) error {
		conn.(*sqlite3.SQLiteConn).RegisterCommitHook(func() int {
			if w.refuse.Swap(false) {
				return 1
			}
			w.commits.Add(1)
			return 0
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// put is a write that stores a row.
func put(id string) func(*sqldb.Tx) error {
	return func(tx *sqldb.Tx) error {
		return tx.Exec("INSERT INTO clients (id, created_at) VALUES (?, 0)", id)
	}
}

// errBefore is why a write fails that others wait for, which therefore do not join its transaction.
var errBefore = errors.New("the write before fails")

// together makes writes share a transaction: they wait in the queue, in this order, until all are there. It returns
// what each came to.
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
		err := w.write(context.Background(), func(*sqldb.Tx) error { close(held); <-hold; return errBefore })
		if !errors.Is(err, errBefore) {
			w.t.Errorf("the write before: %v", err)
		}
	})
	<-held
	for i, fn := range writes {
		all.Go(func() { results[i] = w.write(contexts[i], fn) })
		w.queued(i + 1)
	}
	close(hold)
	all.Wait()
	return results
}

// queued returns when so many writes wait.
func (w *watched) queued(n int) {
	for w.writes.(*sqlite.Writer).Waiting() < n {
		runtime.Gosched()
	}
}

// want checks which rows there are, on another connection.
func (w *watched) want(ids ...string) {
	w.t.Helper()
	var got []string
	if err := w.reader.Raw("SELECT id FROM clients ORDER BY id").Scan(&got).Error; err != nil {
		w.t.Fatal(err)
	}
	if !slices.Equal(got, ids) {
		w.t.Errorf("stored are %v, want %v", got, ids)
	}
}

func (w *watched) wantUnavailable(err error) {
	w.t.Helper()
	var known *Error
	if !errors.As(err, &known) || known.Kind != Unavailable {
		w.t.Errorf("error is %v, want one of kind Unavailable", err)
	}
}

// works checks that the writer goes on: with a write of its own, in a transaction of its own.
func (w *watched) works() {
	w.t.Helper()
	before := w.commits.Load()
	id := fmt.Sprint("later", before)
	if err := w.write(context.Background(), put(id)); err != nil {
		w.t.Errorf("a later write: %v", err)
	}
	if n := w.commits.Load() - before; n != 1 {
		w.t.Errorf("a later write took %d commits", n)
	}
	if err := w.write(context.Background(), func(tx *sqldb.Tx) error {
		return tx.Exec("DELETE FROM clients WHERE id = ?", id)
	}); err != nil {
		w.t.Errorf("a later write: %v", err)
	}
}

func (w *watched) done() {
	if err := w.Close(); err != nil {
		w.t.Error(err)
	}
}

func TestWritesShareACommit(t *testing.T) {
	w := openWatched(t)
	defer w.done()
	var writes []func(*sqldb.Tx) error
	var ids []string
	for i := range sqlite.MaxUnits {
		ids = append(ids, fmt.Sprintf("%03d", i))
		writes = append(writes, put(ids[i]))
	}
	if err := errors.Join(w.together(writes...)...); err != nil {
		t.Fatal(err)
	}
	if n := w.commits.Load(); n != 1 {
		t.Errorf("%d writes took %d commits, want 1", sqlite.MaxUnits, n)
	}
	w.want(ids...)
}

// What is asked for while a transaction is at work is part of it.
func TestWriteJoinsTheTransactionBefore(t *testing.T) {
	w := openWatched(t)
	defer w.done()
	hold, held := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	var first, second error
	all.Go(func() {
		first = w.write(t.Context(), func(tx *sqldb.Tx) error { close(held); <-hold; return put("a")(tx) })
	})
	<-held
	all.Go(func() { second = w.write(t.Context(), put("b")) })
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

func TestWriteReturnsAfterItsCommit(t *testing.T) {
	w := openWatched(t)
	defer w.done()
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			if err := w.write(context.Background(), put(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
			var n int
			if err := w.reader.Raw("SELECT count(*) FROM clients WHERE id = ?", fmt.Sprint(i)).Scan(
				&n,
			).Error; err != nil || n != 1 {
				t.Errorf("another connection sees %d rows of write %d (%v)", n, i, err)
			}
		})
	}
	all.Wait()
}

func TestWriteThatFailsTakesNothingWithIt(t *testing.T) {
	bad := errors.New("no")
	for name, fn := range map[string]func(*sqldb.Tx) error{
		"error":     func(*sqldb.Tx) error { return bad },
		"panic":     func(*sqldb.Tx) error { panic("no") },
		"statement": func(tx *sqldb.Tx) error { return tx.Exec("INSERT INTO nowhere VALUES ('no')") },
		"panic among rows": func(tx *sqldb.Tx) error {
			rows, err := tx.GORM().Raw("SELECT id FROM clients").Rows()
			if err != nil {
				return err
			}
			defer rows.Close()
			panic(fmt.Sprint("no, among rows: ", rows.Next(), rows.Err()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := openWatched(t)
			defer w.done()
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

func TestWriteSeesWhatWentBefore(t *testing.T) {
	w := openWatched(t)
	defer w.done()
	first, again := put("a"), put("a")
	results := w.together(first, again, put("b"))
	if results[0] != nil || !isDuplicate(results[1]) || results[2] != nil {
		t.Errorf("results are %v, want the second to find the first", results)
	}
	w.want("a", "b")
}

func TestWriteCancelledBeforeItsTurnDoesNothing(t *testing.T) {
	w := openWatched(t)
	defer w.done()
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

func TestWriteCancelledInItsTurnIsDone(t *testing.T) {
	w := openWatched(t)
	defer w.done()
	ctx, cancel := context.WithCancel(context.Background())
	err := w.write(ctx, func(tx *sqldb.Tx) error { cancel(); return put("a")(tx) })
	if err != nil {
		t.Errorf("write: %v", err)
	}
	w.want("a")
}

func TestCommitThatFailsTakesAll(t *testing.T) {
	orphan := func(tx *sqldb.Tx) error {
		if err := tx.Exec("PRAGMA defer_foreign_keys = 1"); err != nil {
			return err
		}
		return tx.Exec("INSERT INTO agent_events (agent, url, method, event_type, lane_id, since) " +
			"VALUES (7, 'http://a.example', 'GET', 'agent-login', 7, 0)")
	}
	for name, c := range map[string]struct {
		bad   func(*watched) func(*sqldb.Tx) error
		ended bool // so that what comes behind goes into the next transaction
	}{
		"foreign key": {bad: func(*watched) func(*sqldb.Tx) error { return orphan }},
		"disk": {bad: func(w *watched) func(*sqldb.Tx) error {
			return func(*sqldb.Tx) error { w.refuse.Store(true); return nil }
		}},
		"rolled back": {ended: true, bad: func(*watched) func(*sqldb.Tx) error {
			return func(tx *sqldb.Tx) error { return tx.Exec("ROLLBACK") }
		}},
		"and an error": {ended: true, bad: func(*watched) func(*sqldb.Tx) error {
			return func(tx *sqldb.Tx) error { tx.Exec("ROLLBACK"); return sqlite.ErrClosed }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := openWatched(t)
			defer w.done()
			results := w.together(put("a"), c.bad(w), put("b"))
			w.wantUnavailable(results[0])
			w.wantUnavailable(results[1])
			if c.ended {
				if results[2] != nil {
					t.Errorf("what came behind: %v", results[2])
				}
				w.want("b")
			} else {
				w.wantUnavailable(results[2])
				w.want()
			}
			w.works()
			if err := errors.Join(w.together(put("c"), put("d"))...); err != nil {
				t.Error(err)
			}
		})
	}
}

// A transaction that its first write has lost takes none with it, and nobody else's write becomes one.
func TestTransactionThatEndsByItself(t *testing.T) {
	w := openWatched(t)
	defer w.done()
	results := w.together(func(tx *sqldb.Tx) error { return tx.Exec("ROLLBACK") }, put("a"), put("b"))
	w.wantUnavailable(results[0])
	if err := errors.Join(results[1:]...); err != nil {
		t.Error(err)
	}
	if n := w.commits.Load(); n != 1 {
		t.Errorf("what was behind took %d commits, want 1", n)
	}
	w.want("a", "b")
	w.works()
}

// When somebody else has the file, all who wait are told so together. Who has given up is not waited for.
func TestTransactionThatDoesNotBegin(t *testing.T) {
	w := openWatched(t)
	defer w.done()
	begun := 0
	w.before(func(_ bool, statement string) error {
		if statement == "BEGIN IMMEDIATE" {
			if begun++; begun == 2 { // that of the writes that wait, after the one before
				return errors.New("database is locked")
			}
		}
		return nil
	})
	gone, end := context.WithCancel(t.Context())
	end()
	ctx := t.Context()
	results := w.togetherWith([]context.Context{ctx, ctx, ctx}, []func(*sqldb.Tx) error{put("a"), put("b"), put("c")})
	for _, err := range results {
		w.wantUnavailable(err)
	}
	if begun != 2 {
		t.Errorf("%d transactions were begun, want 2", begun)
	}
	if err := w.write(gone, put("d")); !errors.Is(err, context.Canceled) || begun != 2 {
		t.Errorf("a write whose caller has given up came to %v; %d transactions were begun", err, begun)
	}
	w.want()
	w.works()
}

// However many writes keep coming, a transaction takes no more than its share.
func TestTransactionEnds(t *testing.T) {
	w := openWatched(t)
	defer w.done()
	var all sync.WaitGroup
	var next func(left int) func(*sqldb.Tx) error
	next = func(left int) func(*sqldb.Tx) error {
		return func(tx *sqldb.Tx) error {
			if left > 0 {
				all.Go(func() { w.wantDone(w.write(context.Background(), next(left-1))) })
				w.queued(1)
			}
			return put(fmt.Sprintf("%04d", left))(tx)
		}
	}
	w.wantDone(w.write(context.Background(), next(2*sqlite.MaxUnits)))
	if n := w.commits.Load(); n == 0 {
		t.Error("no commit")
	}
	all.Wait()
	if n := w.commits.Load(); n != 3 {
		t.Errorf("%d writes took %d commits, want 3", 2*sqlite.MaxUnits+1, n)
	}
}

func (w *watched) wantDone(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Errorf("write: %v", err)
	}
}

func TestWriteAfterClose(t *testing.T) {
	w := openWatched(t)
	w.done()
	for range 2 * sqlite.MaxUnits { // a queue that is full as well
		w.wantUnavailable(w.write(context.Background(), put("a")))
	}
}

// What waits when the store is closed is either done or told so.
func TestWritesDuringClose(t *testing.T) {
	w := openWatched(t)
	hold, held := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		err := w.write(context.Background(), func(tx *sqldb.Tx) error { close(held); <-hold; return put("first")(tx) })
		if err != nil {
			t.Errorf("what was begun before Close: %v", err)
		}
	})
	<-held
	for i := range 2 * sqlite.MaxUnits {
		all.Go(func() {
			if err := w.write(context.Background(), put(fmt.Sprint(i))); err != nil {
				w.wantUnavailable(err)
			}
		})
	}
	w.queued(sqlite.MaxUnits)
	all.Go(w.done)
	<-w.writes.(*sqlite.Writer).Closing()
	close(hold)
	all.Wait()
}

// Whether the store is ready is said as long as somebody wants to know, also while a transaction hangs. What was asked
// in vain holds up nothing later.
func TestReadyWhileATransactionHangs(t *testing.T) {
	w := openWatched(t)
	defer w.done()
	hold, held, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- w.write(t.Context(), func(*sqldb.Tx) error { close(held); <-hold; return nil })
	}()
	<-held
	asked := make(chan error)
	ctx, end := context.WithCancel(t.Context())
	go func() { asked <- w.Ready(ctx) }()
	for w.writes.(*sqlite.Writer).Waiting() == 0 {
		select {
		case err := <-asked:
			t.Fatalf("it is not known yet: %v", err)
		default:
		}
	}
	end()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("the store is said to be ready: %v", err)
	}
	close(hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := w.Ready(t.Context()); err != nil {
		t.Errorf("when the transaction is over: %v", err)
	}
}
