package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/internal/sqlite"
	"github.com/agentevents/agentevents/store/pgtest"
)

var (
	errAway = errors.New("the database is away")
	errBad  = errors.New("a task is bad")
)

// job is a task. Its name says what the work of a test makes of it.
type job struct {
	key, name string
	ctx       context.Context

	mu      sync.Mutex
	ended   bool
	outcome error
}

// Context implements sqldb.Task.
func (j *job) Context() context.Context { return j.ctx }

// Key implements sqldb.Task.
func (j *job) Key() any { return j.key }

// End implements sqldb.Task.
func (j *job) End(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ended {
		panic(j.name + " has ended twice")
	}
	j.ended, j.outcome = true, err
}

// result is what became of a job, and whether that is known.
func (j *job) result() (err error, ended bool) { //nolint:revive // the second says whether the first counts
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.outcome, j.ended
}

// transaction is one that a fakeWriter was asked for.
type transaction struct {
	ctx  context.Context
	work sqldb.Work
	done chan error
}

// fakeWriter runs a transaction when the test says so. It implements sqldb.Writer as far as a Batcher needs it.
type fakeWriter struct {
	sqldb.Writer
	db    *gorm.DB
	asked chan transaction
}

// Do implements sqldb.Writer.
func (w *fakeWriter) Do(ctx context.Context, work sqldb.Work) error {
	tx := transaction{ctx, work, make(chan error, 1)}
	w.asked <- tx
	return <-tx.done
}

// batch is a Batcher with a fakeWriter in a bubble.
type batch struct {
	*sqldb.Batcher[*job]
	t      *testing.T
	writer *fakeWriter

	mu    sync.Mutex
	works []string                                           // the names of the tasks of each call of Work
	work  func(tx *sqldb.Tx, job *job) (locked, failed bool) // of one task; nil for one that does nothing
}

// inBubble runs a test with a Batcher whose transactions it scripts.
func inBubble(t *testing.T, test func(b *batch)) {
	pgtest.SQLiteOnly(t, "it is about the batcher alone")
	pool, err := sql.Open("sqlite3", ":memory:") // which no transaction of the test uses
	check(t, err)
	defer pool.Close()
	db, err := sqlite.ORM(pool, logger.Discard)
	check(t, err)
	synctest.Test(t, func(t *testing.T) {
		b := &batch{t: t, writer: &fakeWriter{db: db, asked: make(chan transaction, 64)}}
		b.Batcher = sqldb.NewBatcher(sqldb.BatcherOptions[*job]{
			Writer: b.writer, Work: b.doAll, Contended: 1,
			Outcome:     func(_ context.Context, err error) error { return err },
			Unavailable: func(err error) bool { return errors.Is(err, errAway) },
		})
		test(b)
		synctest.Wait()
		if n := len(b.writer.asked); n != 0 {
			t.Errorf("%d more transactions are begun", n)
		}
	})
}

// doAll is the work of the batcher. A contended call has a mark.
func (b *batch) doAll(tx *sqldb.Tx, jobs []*job, wait bool) (locked []*job, err error) {
	var names []string
	for _, j := range jobs {
		if j.name == blocker {
			return nil, nil
		}
		names = append(names, j.name)
		if b.work == nil {
			continue
		}
		isLocked, failed := b.work(tx, j)
		if isLocked && !wait {
			locked = append(locked, j)
		}
		if failed {
			err = errBad
		}
	}
	mark := ""
	if wait {
		mark = "!"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.works = append(b.works, mark+strings.Join(names, " "))
	return locked, err
}

// ask has jobs of these names done, each by a caller of its own. The first letter of a name is the key.
func (b *batch) ask(names ...string) []*job {
	var jobs []*job
	for _, name := range names {
		jobs = append(jobs, b.askWith(b.t.Context(), name))
	}
	return jobs
}

func (b *batch) askWith(ctx context.Context, name string) *job {
	j := &job{key: name[:1], name: name, ctx: ctx}
	go b.Do(j)
	synctest.Wait()
	return j
}

// blocker is a job that other jobs wait behind.
const blocker = "0"

// gather has jobs wait for one transaction, which is the next.
func (b *batch) gather(names ...string) []*job {
	b.ask(blocker)
	before := b.next()
	jobs := b.ask(names...)
	b.run(before)
	return jobs
}

// next is the transaction that was asked for and not run yet. There must be one.
func (b *batch) next() transaction {
	b.t.Helper()
	synctest.Wait()
	select {
	case tx := <-b.writer.asked:
		return tx
	default:
		b.t.Fatal("no transaction is begun")
		return transaction{}
	}
}

// run runs a transaction as a writer does.
func (b *batch) run(t transaction) {
	tx := sqldb.NewTx(t.ctx, b.writer.db)
	err := tx.Run(t.work)
	tx.End(err)
	if err == nil {
		tx.Committed()
	}
	t.done <- err
	synctest.Wait()
}

// want compares which tasks each call of Work had.
func (b *batch) want(works ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.works, works) {
		b.t.Errorf("work was called with %q, want %q", b.works, works)
	}
}

// wantEnded compares what became of jobs.
func (b *batch) wantEnded(want error, jobs ...*job) {
	b.t.Helper()
	for _, j := range jobs {
		if err, ended := j.result(); !ended || !errors.Is(err, want) {
			b.t.Errorf("%s: ended is %t, with %v, want %v", j.name, ended, err, want)
		}
	}
}

func (b *batch) wantWaiting(jobs ...*job) {
	b.t.Helper()
	for _, j := range jobs {
		if err, ended := j.result(); ended {
			b.t.Errorf("%s has ended with %v", j.name, err)
		}
	}
}

// What is asked for while a transaction is at work is done by the next one.
func TestTasksShareATransaction(t *testing.T) {
	inBubble(t, func(b *batch) {
		first := b.ask("a")
		tx := b.next()
		later := b.ask("b", "a2", "c")
		b.wantWaiting(append(first, later...)...)
		b.run(tx)
		b.wantEnded(nil, first...)
		b.wantWaiting(later...)
		b.run(b.next())
		b.wantEnded(nil, later...)
		b.want("a", "b a2 c")
		b.wantEnded(nil, b.askAndRun("e")...)
	})
}

// askAndRun has jobs done by the next transaction.
func (b *batch) askAndRun(names ...string) []*job {
	jobs := b.ask(names...)
	b.run(b.next())
	return jobs
}

func TestTransactionTakesNoMoreThanItsShare(t *testing.T) {
	inBubble(t, func(b *batch) {
		var names []string
		for i := range 300 {
			names = append(names, fmt.Sprintf("a%d", i))
		}
		jobs := b.gather(names...)
		tx := b.next()
		if n := b.Waiting(); n != 44 {
			t.Errorf("%d tasks wait", n)
		}
		b.run(tx)
		b.wantEnded(nil, jobs[:256]...)
		b.wantWaiting(jobs[256:]...)
		b.run(b.next())
		b.wantEnded(nil, jobs...)
	})
}

// One task that fails takes no others with it: those of each key are tried on their own.
func TestTasksThatFailTogether(t *testing.T) {
	inBubble(t, func(b *batch) {
		b.work = func(_ *sqldb.Tx, j *job) (locked, failed bool) { return false, j.name == "bad" }
		jobs := b.gather("a", "bad", "c")
		b.run(b.next())
		b.wantWaiting(jobs...)
		for range jobs {
			b.run(b.next())
		}
		b.wantEnded(nil, jobs[0], jobs[2])
		b.wantEnded(errBad, jobs[1])
		if b.works[0] != "a bad c" {
			t.Errorf("first were tried %q", b.works[0])
		}
		slices.Sort(b.works[1:]) // in any order
		b.want("a bad c", "!a", "!bad", "!c")
	})
}

func TestTaskThatFailsAlone(t *testing.T) {
	inBubble(t, func(b *batch) {
		b.work = func(_ *sqldb.Tx, j *job) (locked, failed bool) { return false, j.name == "bad" }
		b.wantEnded(errBad, b.askAndRun("bad")...)
		b.want("bad")
	})
}

// When the database is away, all that waits ends, and nothing is tried on its own.
func TestDatabaseIsAway(t *testing.T) {
	for name, fail := range map[string]func(tx transaction) error{
		"before the work": func(transaction) error { return nil },
		"at the commit":   func(tx transaction) error { return tx.work(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *batch) {
				jobs := b.gather("a", "b", "c")
				tx := b.next()
				check(b.t, fail(tx))
				tx.done <- errAway
				synctest.Wait()
				b.wantEnded(errAway, jobs...)
				b.wantEnded(nil, b.askAndRun("d")...)
			})
		})
	}
}

// A task whose caller has gone while it waits is not done.
func TestCallerHasGone(t *testing.T) {
	inBubble(t, func(b *batch) {
		ctx, end := context.WithCancel(b.t.Context())
		first := b.ask("a")
		tx := b.next()
		gone, stays := b.askWith(ctx, "b"), b.ask("c")
		end()
		b.run(tx)
		b.wantEnded(nil, first...)
		b.wantEnded(context.Canceled, gone)
		b.run(b.next())
		b.wantEnded(nil, stays...)
		b.wantEnded(context.Canceled, b.askWith(ctx, "d"))
		b.want("a", "c")
	})
}

// A task that needs what is locked is tried with others three times, and then on its own, while others are done.
func TestContendedTasks(t *testing.T) {
	inBubble(t, func(b *batch) {
		b.work = func(_ *sqldb.Tx, j *job) (locked, failed bool) { return j.key == "l", false }
		jobs := b.gather("l", "a")
		locked := jobs[:1]
		for _, name := range []string{"b", "c"} {
			tx := b.next()
			jobs = append(jobs, b.ask(name)...)
			b.run(tx)
		}
		b.run(b.next())
		b.wantEnded(nil, jobs[1:]...)
		contended := b.next()
		locked = append(locked, b.ask("l2")...) // joins it, and begins no transaction
		b.wantEnded(nil, b.askAndRun("d")...)
		b.wantWaiting(locked...)
		b.run(contended)
		b.wantEnded(nil, locked[0])
		b.run(b.next())
		b.wantEnded(nil, locked...)
		b.want("l a", "b l", "c l", "d", "!l", "!l2")
		b.work = nil
		b.askAndRun("l3") // is not contended any more
		b.want("l a", "b l", "c l", "d", "!l", "!l2", "l3")
	})
}

// A contended key with very many tasks has no transaction do them all, and another key has its turn in between.
func TestContendedTasksTakeTurns(t *testing.T) {
	inBubble(t, func(b *batch) {
		b.work = func(_ *sqldb.Tx, j *job) (locked, failed bool) { return true, false }
		jobs := b.gather("a", "c")
		for range 3 {
			b.run(b.next())
		}
		held := b.next()
		var names []string
		for i := range 300 {
			names = append(names, fmt.Sprintf("a%d", i), fmt.Sprintf("c%d", i))
		}
		jobs = append(jobs, b.ask(names...)...)
		b.works = nil
		for tx := held; ; tx = b.next() {
			b.run(tx)
			if _, ended := jobs[len(jobs)-1].result(); ended && len(b.writer.asked) == 0 {
				break
			}
		}
		b.wantEnded(nil, jobs...)
		for i, names := range b.works {
			if n := len(strings.Fields(names)); n > 256 || i > 0 && i < 4 && names[1] == b.works[i-1][1] {
				t.Errorf("transaction %d has %d tasks of %c, after one of %c", i, n, names[1], b.works[max(i-1, 0)][1])
			}
		}
	})
}

// There are no more transactions with contended tasks than there may be. What has ended is not done when it is their
// turn.
func TestContendedTasksWaitForATurn(t *testing.T) {
	inBubble(t, func(b *batch) {
		b.work = func(_ *sqldb.Tx, j *job) (locked, failed bool) { return false, true }
		ctx, end := context.WithCancel(b.t.Context())
		b.ask(blocker)
		before := b.next()
		jobs := []*job{b.askWith(ctx, "a"), b.askWith(ctx, "c")}
		b.run(before)
		b.run(b.next())
		first := b.next() // of either
		if n := len(b.writer.asked); n != 0 {
			t.Errorf("%d more transactions are begun", n)
		}
		end()
		b.run(first)
		if jobs[0].outcome == context.Canceled { //nolint:errorlint // it is compared to put them in order
			slices.Reverse(jobs)
		}
		b.wantEnded(errBad, jobs[0])
		b.wantEnded(context.Canceled, jobs[1])
	})
}

type callerKey struct{}

// A transaction for one task has the values of its caller's context, such as for the log; one for several has none.
func TestTransactionActsForItsCaller(t *testing.T) {
	inBubble(t, func(b *batch) {
		var got []any
		b.work = func(tx *sqldb.Tx, _ *job) (locked, failed bool) {
			got = append(got, tx.Context().Value(callerKey{}))
			return false, false
		}
		ctx := context.WithValue(b.t.Context(), callerKey{}, "caller")
		b.askWith(ctx, "a")
		tx := b.next()
		b.askWith(ctx, "a")
		b.askWith(ctx, "b")
		b.run(tx)
		b.run(b.next())
		if want := []any{"caller", nil, nil}; !slices.Equal(got, want) {
			t.Errorf("the values are %v, want %v", got, want)
		}
	})
}

// On a real database, each of many tasks takes effect once, and its caller sees it.
func TestBatcher(t *testing.T) {
	db := open(t)
	b := sqldb.NewBatcher(sqldb.BatcherOptions[*job]{
		Writer: db, Contended: 2,
		Work: func(tx *sqldb.Tx, jobs []*job, _ bool) ([]*job, error) {
			var rows []thing
			for _, j := range jobs {
				rows = append(rows, thing{Amount: 1, Name: j.name})
			}
			_, err := sqldb.InsertAll(tx, "things", rows)
			return nil, err
		},
		Outcome:     func(_ context.Context, err error) error { return err },
		Unavailable: func(error) bool { return false },
	})
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			j := &job{key: fmt.Sprint(i % 7), name: fmt.Sprint("job ", i), ctx: t.Context()}
			b.Do(j)
			n, err := sqldb.Value[int64](db.read(), "SELECT count(*) FROM things WHERE name = ?", j.name)
			if err != nil || n != 1 || j.outcome != nil {
				t.Errorf("%s: %v; there are %d rows of it: %v", j.name, j.outcome, n, err)
			}
		})
	}
	all.Wait()
}

// When the writer is closed, tasks end with its error, whether it is of the database or not.
func TestBatcherOfAClosedWriter(t *testing.T) {
	pgtest.SQLiteOnly(t, "it closes a file's writer")
	for _, away := range []bool{true, false} {
		file := openFile(t)
		writer := sqlite.NewWriter(file, asIs)
		b := sqldb.NewBatcher(sqldb.BatcherOptions[*job]{
			Writer: writer, Contended: 1,
			Work:        func(*sqldb.Tx, []*job, bool) ([]*job, error) { return nil, nil },
			Outcome:     func(_ context.Context, err error) error { return err },
			Unavailable: func(error) bool { return away },
		})
		check(t, writer.Close(), file.Close(), file.Unlock())
		var all sync.WaitGroup
		for range 2 * 256 {
			all.Go(func() {
				j := &job{key: "a", name: "a", ctx: t.Context()}
				if b.Do(j); !errors.Is(j.outcome, sqlite.ErrClosed) {
					t.Errorf("the outcome is %v", j.outcome)
				}
			})
		}
		all.Wait()
	}
}

func TestWaves(t *testing.T) {
	for tasks, want := range map[string][]string{
		"":        nil,
		"a":       {"a"},
		"a b c":   {"a b c"},
		"a a a":   {"a", "a", "a"},
		"a b a c": {"a b c", "a"},
		"a a b b": {"a b", "a b"},
	} {
		var got []string
		for _, w := range sqldb.Waves(strings.Fields(tasks), func(s string) string { return s }) {
			got = append(got, strings.Join(w, " "))
		}
		if !slices.Equal(got, want) {
			t.Errorf("the waves of %q are %q, want %q", tasks, got, want)
		}
	}
	pairs := []string{"a1", "b1", "a2", "a3", "b2"}
	got := fmt.Sprint(sqldb.Waves(pairs, func(s string) byte { return s[0] }))
	if want := "[[a1 b1] [a2 b2] [a3]]"; got != want {
		t.Errorf("the waves of %v are %s, want %s: the tasks of one key in their order", pairs, got, want)
	}
}
