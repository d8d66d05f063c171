package sqldb

import (
	"context"
	"database/sql"
	"math"
	"reflect"
	"time"

	"gorm.io/gorm"
)

// Select returns the rows of a query. R is a struct, whose fields get the columns with their names in snake case, or
// the type of the only column.
func Select[R any](q Querier, text string, args ...any) ([]R, error) {
	return selectUpTo[R](q, math.MaxInt, text, args)
}

// Get returns the first row of a query, and reports whether there is one.
func Get[R any](q Querier, text string, args ...any) (row R, found bool, err error) {
	rows, err := selectUpTo[R](q, 1, text, args)
	if err != nil || len(rows) == 0 {
		return row, false, err
	}
	return rows[0], true, nil
}

// Value returns the first row of a query that always has one. Without a row, it returns the zero value.
func Value[R any](q Querier, text string, args ...any) (R, error) {
	row, _, err := Get[R](q, text, args...)
	return row, err
}

// Each calls fn for each row of a query, without keeping the rows. It stops at the first error.
func Each[R any](q Querier, fn func(row R) error, text string, args ...any) error {
	var own error
	err := readRows(q, text, args, func(row *R) bool {
		own = fn(*row)
		return own == nil
	})
	if own != nil {
		return own
	}
	return err
}

// selectUpTo returns no more rows than maxRows.
func selectUpTo[R any](q Querier, maxRows int, text string, args []any) (found []R, err error) {
	err = readRows(q, text, args, func(row *R) bool {
		found = append(found, *row)
		return len(found) < maxRows
	})
	return found, err
}

// readRows executes a query and calls fn for its rows, as long as fn wants more. fn must not keep the row.
func readRows[R any](q Querier, statement string, args []any, fn func(row *R) (more bool)) error {
	text, values := bind(q.Dialect(), statement, args)
	began, pool := time.Now(), q.GORM().Statement.ConnPool
	err := fetch(q.Context(), pool, text, values, func(rows Rows) error { return scanEach(rows, text, fn) })
	return logFailed(q, began, text, err)
}

// fetch executes a query and passes its rows to read.
func fetch(ctx context.Context, pool gorm.ConnPool, text string, values []any, read func(Rows) error) error {
	if p, is := pool.(Queuer); is {
		return p.Fetch(ctx, text, values, read)
	}
	rows, err := pool.QueryContext(ctx, text, values...) //nolint:rowserrcheck // read checks it
	if err != nil {
		return err
	}
	defer rows.Close()
	return read(&sqlRows{Rows: rows})
}

// logFailed logs a failed statement as GORM logs its own, and returns the error.
func logFailed(q Querier, began time.Time, text string, err error) error {
	if err != nil {
		q.GORM().Logger.Trace(q.Context(), began, func() (string, int64) { return text, -1 }, err)
	}
	return err
}

// Rows are the rows of a query, one after another.
type Rows interface {
	Columns() ([]string, error)
	Next() bool
	Values() ([]any, error) // of the current row; valid until Next
	Err() error
}

// sqlRows implements Rows for database/sql.
type sqlRows struct {
	*sql.Rows
	row, into []any
}

// Values implements Rows.
func (r *sqlRows) Values() ([]any, error) {
	if r.row == nil {
		columns, err := r.Columns()
		if err != nil {
			return nil, err
		}
		r.row, r.into = make([]any, len(columns)), make([]any, len(columns))
		for i := range r.row {
			r.into[i] = &r.row[i]
		}
	}
	return r.row, r.Scan(r.into...)
}

// scanEach scans the rows of a statement, as long as fn wants more.
func scanEach[R any](rows Rows, text string, fn func(row *R) (more bool)) error {
	fields, err := fieldsFor(reflect.TypeFor[R](), rows, text)
	if err != nil {
		return err
	}
	var none R
	for row := new(R); rows.Next(); *row = none {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		if err := fill(reflect.ValueOf(row).Elem(), fields, values); err != nil {
			return err
		}
		if !fn(row) {
			break
		}
	}
	return rows.Err()
}
