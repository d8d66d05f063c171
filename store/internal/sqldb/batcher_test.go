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
	errUnavailable = errors.New("the database is unavailable")
	errBad         = errors.New("a task is bad")
)

// job is a task. The Process function of a test reads its name.
type job struct {
	key, name string
	ctx       context.Context

	mu      sync.Mutex
	ended   bool
	outcome error
}

// Owner implements sqldb.Task. Each key has an owner of its own.
func (j *job) Owner() any { return j.key }

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

// result returns the result of a job, and reports whether it has ended.
func (j *job) result() (err error, ended bool) { //nolint:revive // err is valid only if the job has ended
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.outcome, j.ended
}

// transaction is a transaction that a fakeWriter was asked to run.
type transaction struct {
	ctx  context.Context
	work sqldb.Work
	done chan error
}

// fakeWriter runs a transaction when the test says so. It implements the part of sqldb.Writer that a Batcher needs.
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

// batch is a Batcher with a fakeWriter in a synctest bubble.
type batch struct {
	*sqldb.Batcher[*job]
	t      *testing.T
	writer *fakeWriter

	mu     sync.Mutex
	works  []string                                           // the names of the tasks in each call of Process
	work   func(tx *sqldb.Tx, job *job) (locked, failed bool) // for one task; nil does nothing
	budget int                                                // the number of tasks in a transaction; 0 is no bound
}

// inBubble runs a test with a Batcher, and the test runs each transaction itself.
func inBubble(t *testing.T, test func(b *batch)) {
	pgtest.SQLiteOnly(t, "it is about the batcher alone")
	pool, err := sql.Open("sqlite3", ":memory:") // no transaction of the test uses it
	check(t, err)
	defer pool.Close()
	db, err := sqlite.ORM(pool, logger.Discard)
	check(t, err)
	synctest.Test(t, func(t *testing.T) {
		b := &batch{t: t, writer: &fakeWriter{db: db, asked: make(chan transaction, 64)}}
		b.Batcher = sqldb.NewBatcher(sqldb.BatcherOptions[*job]{
			Writer: b.writer, Process: b.doAll, MaxContended: 1,
			MapError:    func(_ context.Context, err error) error { return err },
			Unavailable: func(err error) bool { return errors.Is(err, errUnavailable) },
		})
		test(b)
		synctest.Wait()
		if n := len(b.writer.asked); n != 0 {
			t.Errorf("%d more transactions are begun", n)
		}
	})
}

// doAll is the Process function of the batcher. It marks the calls with contended tasks, and puts | before the tasks
// that it defers.
func (b *batch) doAll(tx *sqldb.Tx, jobs []*job, wait bool) (skipped sqldb.Skipped[*job], err error) {
	var names []string
	for i, j := range jobs {
		if j.name == blocker {
			return skipped, nil
		}
		if b.budget > 0 && i == b.budget {
			names = append(names, "|")
		}
		names = append(names, j.name)
		if b.budget > 0 && i >= b.budget {
			skipped.Deferred = append(skipped.Deferred, j)
			continue
		}
		if b.work == nil {
			continue
		}
		isLocked, failed := b.work(tx, j)
		if isLocked && !wait {
			skipped.Locked = append(skipped.Locked, j)
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
	return skipped, err
}

// ask makes a caller of its own for each job. The first letter of a job's name is its key.
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

// blocker is a job that the other jobs wait for.
const blocker = "0"

// gather makes jobs wait for one transaction, which is the next.
func (b *batch) gather(names ...string) []*job {
	b.ask(blocker)
	before := b.next()
	jobs := b.ask(names...)
	b.run(before)
	return jobs
}

// next returns the transaction that must be waiting to run.
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
	tx.RunWriterHooks(err)
	if err == nil {
		tx.RunCallerHooks()
	}
	t.done <- err
	synctest.Wait()
}

// want compares the tasks of each call of Process.
func (b *batch) want(works ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.works, works) {
		b.t.Errorf("Process was called with %q, want %q", b.works, works)
	}
}

// wantEnded compares the results of jobs.
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

func TestTasksOfARunningTransactionShareTheNext(t *testing.T) {
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
		b.want("a", "b c a2")
		b.wantEnded(nil, b.askAndRun("e")...)
	})
}

// askAndRun runs jobs in the next transaction.
func (b *batch) askAndRun(names ...string) []*job {
	jobs := b.ask(names...)
	b.run(b.next())
	return jobs
}

func TestTransactionHasNoMoreThan256Tasks(t *testing.T) {
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

func TestOwnersTakeTurns(t *testing.T) {
	inBubble(t, func(b *batch) {
		jobs := b.gather("a1", "a2", "a3", "a4", "b1", "c1", "b2")
		b.run(b.next())
		b.wantEnded(nil, jobs...)
		b.want("a1 b1 c1 a2 b2 a3 a4")
	})
}

// With 256 tasks of one owner and more before it, the task of another owner is in the next transaction.
func TestManyTasksOfAnOwnerDelayNoOther(t *testing.T) {
	inBubble(t, func(b *batch) {
		var names []string
		for i := range 600 {
			names = append(names, fmt.Sprintf("a%d", i))
		}
		jobs := b.gather(append(names, "b")...)
		b.run(b.next())
		b.wantEnded(nil, jobs[600])
		b.wantWaiting(jobs[255:600]...)
		for range 2 {
			b.run(b.next())
		}
		b.wantEnded(nil, jobs...)
	})
}

// A caller of several tasks waits for all of them.
func TestTasksOfOneCall(t *testing.T) {
	inBubble(t, func(b *batch) {
		b.budget = 1
		jobs := []*job{{key: "a", name: "a1", ctx: t.Context()}, {key: "a", name: "a2", ctx: t.Context()}}
		returned := make(chan struct{})
		go func() { b.Do(jobs...); close(returned) }()
		b.run(b.next())
		select {
		case <-returned:
			t.Error("Do has returned before the second task has ended")
		default:
		}
		b.run(b.next())
		<-returned
		b.wantEnded(nil, jobs...)
		b.want("a1 | a2", "a2")
		b.Do() // of no task
	})
}

// Deferred tasks stay in order and are never contended. An owner whose task was processed has its next turn after the
// others, also after those that came later.
func TestDeferredTasksKeepTheirTurn(t *testing.T) {
	inBubble(t, func(b *batch) {
		b.budget = 2
		jobs := b.gather("a1", "a2", "a3", "b1", "c1")
		tx := b.next()
		jobs = append(jobs, b.ask("d1", "a4")...)
		if n := b.Waiting(); n != 2 {
			t.Errorf("%d tasks wait for a shared transaction", n)
		}
		b.run(tx)
		b.wantEnded(nil, jobs[0], jobs[3])
		b.wantWaiting(jobs[1], jobs[2], jobs[4], jobs[5], jobs[6])
		for range 3 {
			b.run(b.next())
		}
		b.wantEnded(nil, jobs...)
		b.want("a1 b1 | c1 a2 a3", "c1 d1 | a2 a3 a4", "a2 a3 | a4", "a4")
	})
}

// Also among contended tasks, which become contended together.
func TestTasksOfAKeyKeepTheirOrder(t *testing.T) {
	inBubble(t, func(b *batch) {
		b.work = func(_ *sqldb.Tx, j *job) (locked, failed bool) { return j.name == "l1", false }
		b.budget = 1
		jobs := b.gather("l1", "l2", "l3")
		for range 6 {
			b.run(b.next())
		}
		b.wantEnded(nil, jobs...)
		b.want("l1 | l2 l3", "l1 | l2 l3", "l1 | l2 l3", "!l1 | l2 l3", "!l2 | l3", "!l3")
	})
}

func TestFailedTaskFailsNoOther(t *testing.T) {
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

func TestFailedTaskAloneIsNotRetried(t *testing.T) {
	inBubble(t, func(b *batch) {
		b.work = func(_ *sqldb.Tx, j *job) (locked, failed bool) { return false, j.name == "bad" }
		b.wantEnded(errBad, b.askAndRun("bad")...)
		b.want("bad")
	})
}

// All waiting tasks end, and none is retried.
func TestUnavailableDatabaseEndsAllTasks(t *testing.T) {
	for name, fail := range map[string]func(tx transaction) error{
		"before the work": func(transaction) error { return nil },
		"at the commit":   func(tx transaction) error { return tx.work(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *batch) {
				jobs := b.gather("a", "b", "c")
				tx := b.next()
				check(b.t, fail(tx))
				tx.done <- errUnavailable
				synctest.Wait()
				b.wantEnded(errUnavailable, jobs...)
				b.wantEnded(nil, b.askAndRun("d")...)
			})
		})
	}
}

func TestCancelledTaskIsNotProcessed(t *testing.T) {
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

// A task that needs a locked row is retried twice with others, and then alone. Other tasks are processed meanwhile.
func TestContendedTaskRunsApartFromOthers(t *testing.T) {
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
		locked = append(locked, b.ask("l2")...) // joins the contended tasks, and begins no transaction
		b.wantEnded(nil, b.askAndRun("d")...)
		b.wantWaiting(locked...)
		b.run(contended)
		b.wantEnded(nil, locked[0])
		b.run(b.next())
		b.wantEnded(nil, locked...)
		b.want("l a", "l b", "l c", "d", "!l", "!l2")
		b.work = nil
		b.askAndRun("l3") // no longer contended
		b.want("l a", "l b", "l c", "d", "!l", "!l2", "l3")
	})
}

// Many tasks of one contended key take several transactions, and another key has its turn in between.
func TestContendedKeysTakeTurns(t *testing.T) {
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

// The number of transactions with contended tasks is limited. A task that was cancelled meanwhile is not processed.
func TestContendedTransactionsAreLimited(t *testing.T) {
	inBubble(t, func(b *batch) {
		b.work = func(_ *sqldb.Tx, j *job) (locked, failed bool) { return false, true }
		ctx, end := context.WithCancel(b.t.Context())
		b.ask(blocker)
		before := b.next()
		jobs := []*job{b.askWith(ctx, "a"), b.askWith(ctx, "c")}
		b.run(before)
		b.run(b.next())
		first := b.next() // of one of the two
		if n := len(b.writer.asked); n != 0 {
			t.Errorf("%d more transactions are begun", n)
		}
		end()
		b.run(first)
		if jobs[0].outcome == context.Canceled { //nolint:errorlint // the comparison only orders the jobs
			slices.Reverse(jobs)
		}
		b.wantEnded(errBad, jobs[0])
		b.wantEnded(context.Canceled, jobs[1])
	})
}

type callerKey struct{}

// A transaction for one task has the values of the caller's context, for example for the log. One for several tasks has
// none.
func TestTransactionOfOneTaskHasItsCallersContext(t *testing.T) {
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

func TestEachTaskTakesEffectOnce(t *testing.T) {
	db := open(t)
	b := sqldb.NewBatcher(sqldb.BatcherOptions[*job]{
		Writer: db, MaxContended: 2,
		Process: func(tx *sqldb.Tx, jobs []*job, _ bool) (none sqldb.Skipped[*job], err error) {
			var rows []thing
			for _, j := range jobs {
				rows = append(rows, thing{Amount: 1, Name: j.name})
			}
			_, err = sqldb.InsertAll(tx, "things", rows)
			return none, err
		},
		MapError:    func(_ context.Context, err error) error { return err },
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

func TestClosedWriterEndsTasksWithItsError(t *testing.T) {
	pgtest.SQLiteOnly(t, "it closes a file's writer")
	for _, away := range []bool{true, false} {
		file := openFile(t)
		writer := sqlite.NewWriter(file, asIs)
		b := sqldb.NewBatcher(sqldb.BatcherOptions[*job]{
			Writer: writer, MaxContended: 1,
			Process:     func(*sqldb.Tx, []*job, bool) (none sqldb.Skipped[*job], err error) { return none, nil },
			MapError:    func(_ context.Context, err error) error { return err },
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

func TestWavesHaveEachKeyOnceInOrder(t *testing.T) {
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
