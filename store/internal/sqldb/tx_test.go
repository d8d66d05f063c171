package sqldb_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// Each hook is called once, before Do returns.
func TestHooksRunOnceAtTheEndOfATransaction(t *testing.T) {
	for name, work := range map[string]func(tx *sqldb.Tx) error{
		"committed": func(*sqldb.Tx) error { return nil },
		"failed":    func(*sqldb.Tx) error { return errBad },
		"panicked":  func(*sqldb.Tx) error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			var calls []string
			err := db.Do(t.Context(), func(tx *sqldb.Tx) error {
				tx.WriterOnEnd(func(err error) {
					calls = append(calls, "end")
					if (err == nil) != (name == "committed") {
						t.Errorf("it ends with %v", err)
					}
				})
				tx.WriterOnCommit(func() { calls = append(calls, "commit") })
				tx.CallerOnCommit(func() { calls = append(calls, "after") })
				return errors.Join(tx.Exec("INSERT INTO things (amount, name) VALUES (1, 'a')"), work(tx))
			})
			n, failed := sqldb.Value[int64](db.read(), "SELECT count(*) FROM things")
			check(t, failed)
			if name == "committed" {
				if !slices.Equal(calls, []string{"end", "commit", "after"}) || n != 1 || err != nil {
					t.Errorf("called were %v; there are %d rows, %v", calls, n, err)
				}
			} else if !slices.Equal(calls, []string{"end"}) || n != 0 || err == nil {
				t.Errorf("called were %v; there are %d rows, %v", calls, n, err)
			}
			if name == "panicked" && !strings.Contains(err.Error(), "panic in a transaction: no") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// A cancelled context prevents the work. The end of the context during the work has no effect.
func TestWorkThatHasBegunIsNotCancelled(t *testing.T) {
	db := open(t)
	ctx, end := context.WithCancel(context.WithValue(t.Context(), callerKey{}, "caller"))
	check(t, db.Do(ctx, func(tx *sqldb.Tx) error {
		end()
		if got := tx.Context().Value(callerKey{}); got != "caller" {
			t.Errorf("the value of its context is %v", got)
		}
		return tx.Exec("INSERT INTO things (amount, name) VALUES (1, 'a')")
	}))
	for name, do := range map[string]func(context.Context, sqldb.Work) error{"Do": db.Do, "Try": db.Try} {
		err := do(ctx, func(*sqldb.Tx) error {
			t.Error(name, ": the work has begun")
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	if n, err := sqldb.Value[int64](db.read(), "SELECT count(*) FROM things"); n != 1 || err != nil {
		t.Errorf("there are %d rows, %v", n, err)
	}
}

// Queued statements and others take effect in the order of their calls.
func TestStatementsTakeEffectInOrder(t *testing.T) {
	db := open(t)
	db.write("INSERT INTO things (amount, name) VALUES (0, 'a')")
	db.do(func(tx *sqldb.Tx) error {
		errs := []error{
			tx.Queue("UPDATE things SET amount = 1"), tx.Exec("UPDATE things SET amount = amount * 10 + 2"),
			tx.Queue("UPDATE things SET amount = amount * 10 + 3"),
			tx.Queue("UPDATE things SET amount = amount * 10 + 4"),
		}
		n, err := sqldb.Value[int64](tx, "SELECT amount FROM things")
		if n != 1234 {
			t.Errorf("found %d", n)
		}
		return errors.Join(append(errs, err, tx.Queue("UPDATE things SET amount = amount * 10 + 5"))...)
	})
	if n, err := sqldb.Value[int64](db.read(), "SELECT amount FROM things"); n != 12345 {
		t.Errorf("stored is %d, %v", n, err)
	}
}
