package postgres

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/pgtest"
)

// errUnknown is the error of a commit whose result is not known.
var errUnknown = errors.New("the result of the commit is not known")

// testWriter is a writer on a database of the test's own, whose table probes has one row.
type testWriter struct {
	*Writer
	t   *testing.T
	url string
}

func openWriter(t *testing.T) *testWriter {
	t.Helper()
	pgtest.PostgresOnly(t, "it is about its server")
	w := &testWriter{t: t, url: pgtest.Database(t)}
	db, err := Open(t.Context(), Options{URL: w.url})
	check(t, err)
	t.Cleanup(func() { check(t, db.Close()) })
	w.Writer = newWriter(t, db)
	return w
}

func newWriter(t *testing.T, db *DB) *Writer {
	t.Helper()
	orm, err := ORM(Queued(db.Writers()), logger.Discard)
	check(t, err)
	return NewWriter(orm, nil, func(err error) error { return errors.Join(errUnknown, err) })
}

// number queries a number in a transaction of its own.
func (w *testWriter) number(query string) (n int64) {
	w.t.Helper()
	check(w.t, w.Do(context.Background(), func(tx *sqldb.Tx) (err error) {
		n, err = sqldb.Value[int64](tx, query)
		return err
	}))
	return n
}

// add increments the number in probes.
func add(tx *sqldb.Tx) error { return tx.Queue("UPDATE probes SET at = coalesce(at, 0) + 1") }

// answerCode is the error of a server that refuses a statement.
func answerCode(code string) error { return &pgconn.PgError{Severity: "ERROR", Code: code} }

// The limit is five transactions. Each transaction calls its own hooks.
func TestWorkIsRetriedAfterAConflict(t *testing.T) {
	w := openWriter(t)
	check(t, w.Do(t.Context(), add))
	for _, c := range []struct {
		failures, works int
		code            string
	}{
		{0, 1, "40001"},
		{1, 2, "40001"},
		{4, 5, "40P01"},
		{5, 5, "23503"},
		{9, 5, "0A000"},
		{1, 1, "23505"},
		{1, 1, "55P03"},
	} {
		before, works := w.number("SELECT at FROM probes"), 0
		var ends []bool
		commits := 0
		err := w.Do(t.Context(), func(tx *sqldb.Tx) error {
			works++
			tx.WriterOnEnd(func(err error) { ends = append(ends, err == nil) })
			tx.CallerOnCommit(func() { commits++ })
			if err := add(tx); err != nil || works > c.failures {
				return err
			}
			return answerCode(c.code)
		})
		want, committed := slices.Repeat([]bool{false}, c.works), c.works > c.failures
		if committed {
			want[c.works-1] = true
		}
		if works != c.works || (err == nil) != committed || !slices.Equal(ends, want) || (commits == 1) != committed {
			t.Errorf("after %d errors %s: ran %d times, ended %v, %d commits, %v",
				c.failures, c.code, works, ends, commits, err)
		}
		after := w.number("SELECT at FROM probes")
		if (after == before+1) != committed || after > before+1 {
			t.Errorf("after %d errors %s: %d became %d", c.failures, c.code, before, after)
		}
	}
}

func TestRefusedCommitIsNotRetried(t *testing.T) {
	w := openWriter(t)
	works := 0
	err := w.Do(t.Context(), func(tx *sqldb.Tx) error {
		works++
		tx.GORM().Exec("SELECT 1 / 0")
		return nil
	})
	if works != 1 || err == nil || errors.Is(err, errUnknown) {
		t.Errorf("the work ran %d times, and the error is %v", works, err)
	}
	check(t, w.Do(t.Context(), add))
}

func TestTryRollsBackWhenItsContextEnds(t *testing.T) {
	w := openWriter(t)
	before := w.number("SELECT coalesce(at, 0) FROM probes")
	ctx, end := context.WithCancel(t.Context())
	err := w.Try(ctx, func(tx *sqldb.Tx) error {
		_, err := sqldb.Value[int64](tx, "UPDATE probes SET at = coalesce(at, 0) + 1 RETURNING at")
		end()
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if after := w.number("SELECT coalesce(at, 0) FROM probes"); after != before {
		t.Errorf("%d became %d", before, after)
	}
}

// The pool has eight connections.
func TestFailedTransactionsReleaseTheirConnections(t *testing.T) {
	w := openWriter(t)
	own := errors.New("its own")
	for range 2 * MaxWriters {
		for name, work := range map[string]sqldb.Work{
			"nothing sent": func(*sqldb.Tx) error { return own },
			"queued":       func(tx *sqldb.Tx) error { return errors.Join(add(tx), own) },
			"sent":         func(tx *sqldb.Tx) error { return errors.Join(tx.Exec("UPDATE probes SET at = 1"), own) },
			"a statement":  func(tx *sqldb.Tx) error { return tx.Exec("SELEKT 1") },
			"panic":        func(*sqldb.Tx) error { panic("no") },
			"commit":       func(tx *sqldb.Tx) error { return tx.Queue("SELECT 1 / 0") },
		} {
			if err := w.Do(t.Context(), work); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	}
	check(t, w.Do(t.Context(), add))
}

func TestClockIsReadInEachTransaction(t *testing.T) {
	w := openWriter(t)
	clock := &Clock{}
	w.clock = clock
	var database int64
	check(t, w.Do(t.Context(), func(tx *sqldb.Tx) (err error) {
		database, err = sqldb.Value[int64](tx, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
		return err
	}))
	if ahead := clock.Now().UnixMilli() - database; ahead < -ClockJitter.Milliseconds() || clock.at.IsZero() {
		t.Errorf("it is ahead by %d ms, and was last set at %v", ahead, clock.at)
	}
}
