package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

// What happens with every status change, delivery and request is not put together and read by GORM, which takes as long as
// the database takes for it: these statements are there in full, and go over GORM's connections as they are. The values
// of a list are ids; a table is one of tableOf.

// pipelined is a transaction that keeps statements, as pipeline is.
type pipelined interface {
	later(text string, values []any)
	fetch(ctx context.Context, text string, values []any, read func(cursor) error) error
}

// execute runs a statement. In a transaction that is pipelined, an error of it is that of the next statement or of the commit.
func execute(tx *gorm.DB, statement string, args ...any) error {
	text, values := spell(tx, statement, args)
	began, ctx := time.Now(), tx.Statement.Context
	return traced(ctx, tx, began, text, run(ctx, tx.Statement.ConnPool, text, values))
}

func run(ctx context.Context, pool gorm.ConnPool, text string, values []any) error {
	if p, is := pool.(pipelined); is {
		p.later(text, values)
		return nil
	}
	_, err := pool.ExecContext(ctx, text, values...)
	return err
}

// query returns the rows of a query. A column goes to the field of its name, or is the row.
func query[R any](tx *gorm.DB, statement string, args ...any) ([]R, error) {
	return some[R](tx, math.MaxInt, statement, args)
}

// some is query, but looks at no more rows than are wanted.
func some[R any](tx *gorm.DB, most int, statement string, args []any) (found []R, err error) {
	text, values := spell(tx, statement, args)
	began, ctx := time.Now(), tx.Statement.Context
	err = ask(ctx, tx.Statement.ConnPool, text, values, func(rows cursor) error {
		found, err = read[R](rows, most, text)
		return err
	})
	return found, traced(ctx, tx, began, text, err)
}

// ask carries a query out and has its rows read.
func ask(ctx context.Context, pool gorm.ConnPool, text string, values []any, read func(cursor) error) error {
	if p, is := pool.(pipelined); is {
		return p.fetch(ctx, text, values, read)
	}
	rows, err := pool.QueryContext(ctx, text, values...) //nolint:rowserrcheck // read does so
	if err != nil {
		return err
	}
	defer rows.Close()
	return read(&sqlRows{Rows: rows})
}

// first returns the first row of a query, and whether there is one.
func first[R any](tx *gorm.DB, statement string, args ...any) (row R, is bool, err error) {
	rows, err := some[R](tx, 1, statement, args)
	if err != nil || len(rows) == 0 {
		return row, false, err
	}
	return rows[0], true, nil
}

// traced logs a statement that has failed, as those of GORM are.
func traced(ctx context.Context, tx *gorm.DB, began time.Time, text string, err error) error {
	if err != nil {
		tx.Logger.Trace(ctx, began, func() (string, int64) { return text, -1 }, err)
	}
	return err
}

// spell writes a statement out: each list as so many marks, each table as what it is.
func spell(tx *gorm.DB, statement string, args []any) (text string, values []any) {
	numbered := onPostgres(tx)
	if !numbered && !isLong(args) {
		return statement, args
	}
	w := spelling{numbered: numbered, values: make([]any, 0, count(args))}
	w.text.Grow(2 * len(statement))
	w.write(statement, args)
	return w.text.String(), w.values
}

// limitSQL is the end of a query for some rows. SQLite compiles a statement anew whenever a parameter that is its whole LIMIT is
// bound, which takes longer than to carry it out.
const limitSQL = " LIMIT CAST(? AS BIGINT)"

// isLong says whether there is a list or a table among the values.
func isLong(args []any) bool {
	return slices.ContainsFunc(args, func(a any) bool {
		switch a.(type) {
		case []int64, clause.Expr:
			return true
		}
		return false
	})
}

// count is how many marks values take.
func count(args []any) (n int) {
	for _, a := range args {
		switch a := a.(type) {
		case []int64:
			n += len(a)
		case clause.Expr:
			n += count(a.Vars)
		default:
			n++
		}
	}
	return n
}

type spelling struct {
	text     strings.Builder
	values   []any
	numbered bool // marks have numbers
}

func (w *spelling) write(statement string, args []any) {
	for _, a := range args {
		before, after, _ := strings.Cut(statement, "?")
		w.text.WriteString(before)
		statement = after
		switch a := a.(type) {
		case []int64:
			w.list(a)
		case clause.Expr:
			w.write(a.SQL, a.Vars)
		default:
			w.mark(a)
		}
	}
	w.text.WriteString(statement)
}

func (w *spelling) list(ids []int64) {
	if len(ids) == 0 {
		w.text.WriteString("(NULL)")
		return
	}
	for i, id := range ids {
		w.text.WriteByte("(,"[min(i, 1)])
		w.mark(id)
	}
	w.text.WriteByte(')')
}

func (w *spelling) mark(value any) {
	w.values = append(w.values, value)
	if !w.numbered {
		w.text.WriteByte('?')
		return
	}
	w.text.WriteByte('$')
	w.text.WriteString(strconv.Itoa(len(w.values)))
}

// cursor goes through the rows of a query.
type cursor interface {
	Columns() ([]string, error)
	Next() bool
	values() ([]any, error) // of a row, until the next
	Err() error
}

type sqlRows struct {
	*sql.Rows
	row, into []any
}

func (r *sqlRows) values() ([]any, error) {
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

// read reads rows of a statement.
func read[R any](rows cursor, most int, text string) (found []R, err error) {
	fields, err := fieldsFor[R](rows, text)
	if err != nil {
		return nil, err
	}
	for len(found) < most && rows.Next() {
		values, err := rows.values()
		if err != nil {
			return nil, err
		}
		found = append(found, *new(R))
		if err := fill(reflect.ValueOf(&found[len(found)-1]).Elem(), fields, values); err != nil {
			return nil, err
		}
	}
	return found, rows.Err()
}

// fill gives fields of a row their values.
func fill(row reflect.Value, fields [][]int, values []any) error {
	for i, index := range fields {
		field := row
		if index != nil {
			field = row.FieldByIndex(index)
		}
		if err := assign(field, values[i]); err != nil {
			return err
		}
	}
	return nil
}

// assign gives a field the value of a column. What is NULL leaves it as it is.
func assign(field reflect.Value, value any) error {
	if value != nil && field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	kind := field.Kind()
	switch v := value.(type) {
	case nil:
		return nil
	case int32: // as PostgreSQL's driver has it
		return assign(field, int64(v))
	case int64:
		if field.CanInt() {
			field.SetInt(v)
			return nil
		} else if kind == reflect.Bool {
			field.SetBool(v != 0)
			return nil
		}
	case string:
		if kind == reflect.String {
			field.SetString(v)
			return nil
		}
	case bool:
		if kind == reflect.Bool {
			field.SetBool(v)
			return nil
		}
	}
	return fmt.Errorf("a column of type %T cannot be read into %s", value, field.Type())
}

// planned is what fieldsFor has found out for a statement and a type.
type planned struct {
	text string
	row  reflect.Type
}

// plans are those that are known, of as many texts as there are statements.
var plans sync.Map

// fieldsFor says which field of a row each column of a statement goes to.
func fieldsFor[R any](rows cursor, text string) (fields [][]int, err error) {
	of := reflect.TypeFor[R]()
	if known, is := plans.Load(planned{text, of}); is {
		return known.([][]int), nil
	}
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for _, c := range columns {
		index, is := fieldNamed(of, c)
		if !is {
			return nil, fmt.Errorf("%s has no field for the column %s", of, c)
		}
		fields = append(fields, index)
	}
	plans.Store(planned{text, of}, fields)
	return fields, nil
}

// fieldNamed is the field that a column goes to, by GORM's rule; nil if that is the row.
func fieldNamed(of reflect.Type, column string) (index []int, is bool) {
	if of.Kind() != reflect.Struct {
		return nil, true
	}
	for _, f := range reflect.VisibleFields(of) {
		if (schema.NamingStrategy{}).ColumnName("", f.Name) == column {
			return f.Index, true
		}
	}
	return nil, false
}

// columns are all columns of a row.
func columns[R any]() string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[R]()) {
		names = append(names, (schema.NamingStrategy{}).ColumnName("", f.Name))
	}
	return strings.Join(names, ", ")
}
