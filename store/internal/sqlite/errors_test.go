package sqlite

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mattn/go-sqlite3"
)

// The class of an error decides whether a request is answered with 503, is retried, or is logged as a defect.
func TestErrorsAreClassified(t *testing.T) {
	for _, c := range []struct {
		err                                        error
		unavailable, contended, duplicate, damaged bool
	}{
		{err: sqlite3.Error{Code: sqlite3.ErrBusy}, unavailable: true, contended: true},
		{err: sqlite3.Error{Code: sqlite3.ErrLocked}, unavailable: true, contended: true},
		{err: sqlite3.Error{Code: sqlite3.ErrInterrupt}, unavailable: true, contended: true},
		{err: sqlite3.Error{Code: sqlite3.ErrFull}, unavailable: true},
		{err: sqlite3.Error{Code: sqlite3.ErrReadonly}, unavailable: true},
		{err: sqlite3.Error{Code: sqlite3.ErrIoErr}, unavailable: true, damaged: true},
		{err: sqlite3.Error{Code: sqlite3.ErrCorrupt}, unavailable: true, damaged: true},
		{err: sqlite3.Error{Code: sqlite3.ErrNotADB}, unavailable: true, damaged: true},
		{err: constraint(sqlite3.ErrConstraintUnique), duplicate: true},
		{err: constraint(sqlite3.ErrConstraintPrimaryKey), duplicate: true},
		{err: constraint(sqlite3.ErrConstraintCheck)},
		{err: sqlite3.Error{Code: sqlite3.ErrError}}, // syntax error
		{err: errors.New("a defect of the program")},
	} {
		for _, err := range []error{c.err, fmt.Errorf("status: %w", c.err)} {
			got := []bool{IsUnavailable(err), IsContended(err), IsDuplicate(err), isDamaged(err)}
			want := []bool{c.unavailable, c.contended, c.duplicate, c.damaged}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%q: %v, want %v", err, got, want)
			}
		}
	}
	if reason, is := Reason(constraint(sqlite3.ErrConstraintUnique)); !is || reason != "constraint failed" {
		t.Errorf("the reason is %q", reason)
	}
	if _, is := Reason(errors.New("another")); is {
		t.Error("an error that is not SQLite's has a reason")
	}
}

func constraint(code sqlite3.ErrNoExtended) error {
	return sqlite3.Error{Code: sqlite3.ErrConstraint, ExtendedCode: code}
}
