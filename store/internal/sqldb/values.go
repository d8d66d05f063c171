package sqldb

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm/clause"
)

// maxTuples is how many rows go as parameters of their own.
const maxTuples = 512

// Table is rows as a table in a statement, by an argument for a ?. Its columns are the fields of the rows by their
// names in JSON, the first of which is never NULL, and ordinal, by which they are in the order of the rows; fields are
// integers, strings, or pointers to them. On SQLite, as long as the rows are not very many, each value is a parameter,
// which is quickest; else all rows are one parameter.
func Table[R any](q Querier, rows []R) clause.Expr {
	if q.Dialect() == SQLite && len(rows) <= maxTuples {
		return tuples(rows)
	}
	text, err := json.Marshal(rows)
	if err != nil {
		panic(err) // no type of rows has anything but numbers and strings
	}
	if q.Dialect() == SQLite {
		list := strings.Join(jsonColumns[R](), ", ")
		return clause.Expr{SQL: "(SELECT key AS ordinal, " + list + " FROM json_each(?))", Vars: []any{string(text)}}
	}
	declared, names := strings.Join(declaredColumns[R](), ", "), strings.Join(jsonNames[R](), ", ")
	return clause.Expr{
		SQL: "(SELECT * FROM ROWS FROM (json_to_recordset(?::json) AS (" + declared + ")) " +
			"WITH ORDINALITY AS r (" + names + ", ordinal) LIMIT ?)", // or it would expect a hundred
		Vars: []any{string(text), len(rows)},
	}
}

// tuples is rows as 1, 2, 4, 8 … rows of parameters, so that a statement about any number of them is one of few
// statements. Those that are too many are NULL and left out.
func tuples[R any](rows []R) clause.Expr {
	fields, n := jsonFields[R](), 1<<bits.Len(uint(max(len(rows), 1)-1))
	vars := make([]any, n*len(fields))
	for i := range rows {
		row := reflect.ValueOf(&rows[i]).Elem()
		for j, f := range fields {
			vars[i*len(fields)+j] = parameterOf(row.FieldByIndex(f.Index))
		}
	}
	return clause.Expr{SQL: tuplesSQL[R](n), Vars: vars}
}

// parameterOf is what a field has, as the database knows it.
func parameterOf(field reflect.Value) any {
	switch field.Kind() {
	case reflect.Pointer:
		if field.IsNil() {
			return nil
		}
		return parameterOf(field.Elem())
	case reflect.String:
		return field.String()
	}
	return field.Int()
}

// tuplesKey is what the text of a table depends on.
type tuplesKey struct {
	row reflect.Type
	n   int
}

// tuplesTexts are those that tuplesSQL was asked for.
var tuplesTexts sync.Map

func tuplesSQL[R any](n int) string {
	key := tuplesKey{reflect.TypeFor[R](), n}
	if text, is := tuplesTexts.Load(key); is {
		return text.(string)
	}
	columns := []string{"column1 AS ordinal"}
	for i, name := range jsonNames[R]() {
		columns = append(columns, fmt.Sprintf("column%d AS %s", i+2, name))
	}
	tuples := make([]string, n)
	for i := range tuples {
		tuples[i] = fmt.Sprintf("(%d%s)", i, strings.Repeat(", ?", len(columns)-1))
	}
	text := "(SELECT " + strings.Join(columns, ", ") +
		" FROM (VALUES " + strings.Join(tuples, ", ") + ") WHERE column2 IS NOT NULL)"
	tuplesTexts.Store(key, text)
	return text
}

// jsonNames are the names of the fields of a row in JSON.
func jsonNames[R any]() (names []string) {
	for _, f := range jsonFields[R]() {
		names = append(names, f.Tag.Get("json"))
	}
	return names
}

// jsonColumns are the columns of a row as SQLite takes them out of a JSON value.
func jsonColumns[R any]() (columns []string) {
	for _, f := range jsonFields[R]() {
		name := f.Tag.Get("json")
		columns = append(columns, fmt.Sprintf("value ->> '%s' AS %s", name, name))
	}
	return columns
}

// declaredColumns are the columns of a row as PostgreSQL declares them.
func declaredColumns[R any]() (columns []string) {
	for _, f := range jsonFields[R]() {
		kind, of := " bigint", f.Type
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if of.Kind() == reflect.String {
			kind = " text"
		}
		columns = append(columns, f.Tag.Get("json")+kind)
	}
	return columns
}

// jsonFieldsOf are the fields of types that jsonFields was asked for.
var jsonFieldsOf sync.Map

// jsonFields are the fields that have names in JSON.
func jsonFields[R any]() []reflect.StructField {
	row := reflect.TypeFor[R]()
	if fields, is := jsonFieldsOf.Load(row); is {
		return fields.([]reflect.StructField)
	}
	fields := slices.DeleteFunc(reflect.VisibleFields(row), func(f reflect.StructField) bool {
		return f.Tag.Get("json") == "-"
	})
	jsonFieldsOf.Store(row, fields)
	return fields
}

// InsertAll inserts rows, which are without ids, and returns the ids that they got, in their order. Columns that have
// no names in JSON get their defaults.
//
// Ids are drawn in the order in which rows are inserted, which is that of the query for them, and each is greater than
// those before. In which order RETURNING has them, SQL does not say.
func InsertAll[R any](tx *Tx, table string, rows []R) (ids []int64, err error) {
	names := slices.DeleteFunc(jsonNames[R](), func(name string) bool { return name == "id" })
	list := strings.Join(names, ", ")
	ids, err = Select[int64](tx,
		"INSERT INTO "+table+" ("+list+") SELECT "+list+" FROM ? AS x ORDER BY x.ordinal RETURNING id", Table(tx, rows))
	slices.Sort(ids)
	return ids, err
}
