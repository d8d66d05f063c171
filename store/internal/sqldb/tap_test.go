package sqldb_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// tapped records the statements of both connections, before and after each.
func tapped(db *testDB, refuse func(text string) error) *[]string {
	var seen []string
	note := func(when string) sqldb.Tap {
		return func(text string, values []any) error {
			if strings.Contains(text, "things") {
				seen = append(seen, strings.TrimSpace(fmt.Sprintln(when, strings.Fields(text)[0], values)))
			}
			return nil
		}
	}
	before := func(text string, values []any) error {
		if err := refuse(text); err != nil {
			return err
		}
		return note("before")(text, values)
	}
	sqldb.AddTap(db.DB(), before, note("after"))
	sqldb.AddTap(db.reader, nil, note("read"))
	return &seen
}

func none(string) error { return nil }

func TestTapObservesEachStatement(t *testing.T) {
	db := open(t)
	seen := tapped(db, none)
	db.do(func(tx *sqldb.Tx) error {
		_, err := sqldb.Value[int64](tx, "SELECT id FROM things WHERE id = ?", 4)
		return errors.Join(tx.Exec("DELETE FROM things WHERE id = ?", 1), tx.Queue("UPDATE things SET amount = ?", 2),
			tx.GORM().Exec("INSERT INTO things (amount, name) VALUES (?, 'a')", 3).Error, err)
	})
	_, err := sqldb.Value[int64](db.read(), "SELECT id FROM things WHERE id = ?", 5)
	check(t, err)
	want := []string{
		"before SELECT [4]", "after SELECT [4]", "before DELETE [1]", "after DELETE [1]",
		"before UPDATE [2]", "after UPDATE [2]",
		"before INSERT [3]", "after INSERT [3]", "read SELECT [5]",
	}
	if !slices.Equal(*seen, want) {
		t.Errorf("it has seen %q, want %q", *seen, want)
	}
}

func TestRefusedStatementIsNotSentAndNothingIsCommitted(t *testing.T) {
	errRefused := errors.New("refused")
	for name, statement := range map[string]func(tx *sqldb.Tx, text string) error{
		"a statement": func(tx *sqldb.Tx, text string) error { return tx.Exec(text) },
		"a queued statement": func(tx *sqldb.Tx, text string) error {
			return errors.Join(tx.Queue(text), tx.Queue("UPDATE things SET amount = 8"))
		},
		"a query": func(tx *sqldb.Tx, text string) error {
			_, err := sqldb.Select[int64](tx, text+" RETURNING id")
			return err
		},
		"a statement of GORM": func(tx *sqldb.Tx, text string) error { return tx.GORM().Exec(text).Error },
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			db.write("INSERT INTO things (amount, name) VALUES (1, 'a')")
			tapped(db, func(text string) error {
				if strings.HasPrefix(text, "DELETE") {
					return errRefused
				}
				return nil
			})
			err := db.Do(t.Context(), func(tx *sqldb.Tx) error {
				return errors.Join(tx.Exec("UPDATE things SET amount = 7"), statement(tx, "DELETE FROM things"))
			})
			if !errors.Is(err, errRefused) {
				t.Errorf("the error is %v", err)
			}
			if n, err := sqldb.Value[int64](db.read(), "SELECT amount FROM things"); n != 1 || err != nil {
				t.Errorf("the amount is %d, %v", n, err)
			}
		})
	}
}
