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

// maxTuples is the number of rows up to which each value is a parameter of its own.
const maxTuples = 512

// Table makes rows a table in a statement, as the argument for a ?.
//
// Its columns are the fields of the rows by their names in JSON, and ordinal, which numbers the rows in their order.
// The first field must never be nil. Fields are integers, strings, or pointers to them. On SQLite each value is a
// parameter, which is fastest, unless there are more than 512 rows. Otherwise all rows are one JSON parameter.
func Table[R any](q Querier, rows []R) clause.Expr {
	if q.Dialect() == SQLite && len(rows) <= maxTuples {
		return tuples(rows)
	}
	text, err := json.Marshal(rows)
	if err != nil {
		panic(err) // the types of rows contain only numbers and strings
	}
	if q.Dialect() == SQLite {
		list := strings.Join(jsonColumns[R](), ", ")
		return clause.Expr{SQL: "(SELECT key AS ordinal, " + list + " FROM json_each(?))", Vars: []any{string(text)}}
	}
	declared, names := strings.Join(declaredColumns[R](), ", "), strings.Join(jsonNames[R](), ", ")
	return clause.Expr{
		SQL: "(SELECT * FROM ROWS FROM (json_to_recordset(?::json) AS (" + declared + ")) " +
			"WITH ORDINALITY AS r (" + names + ", ordinal) LIMIT ?)", // else the planner expects 100
		Vars: []any{string(text), len(rows)},
	}
}

// tuples pads the rows to 1, 2, 4, 8 … tuples of parameters, so that few different statements are enough for any
// number of rows. The padding is NULL, which the statement filters out.
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

// parameterOf returns the value of a field as the database represents it.
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

// tuplesKey identifies the text of a table.
type tuplesKey struct {
	row reflect.Type
	n   int
}

// tuplesTexts caches the texts of tuplesSQL.
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
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf("(%d%s)", i, strings.Repeat(", ?", len(columns)-1))
	}
	text := "(SELECT " + strings.Join(columns, ", ") +
		" FROM (VALUES " + strings.Join(rows, ", ") + ") WHERE column2 IS NOT NULL)"
	tuplesTexts.Store(key, text)
	return text
}

// jsonNames returns the JSON names of the fields of a row.
func jsonNames[R any]() (names []string) {
	for _, f := range jsonFields[R]() {
		names = append(names, f.Tag.Get("json"))
	}
	return names
}

// jsonColumns returns the expressions by which SQLite extracts the columns from a JSON value.
func jsonColumns[R any]() (columns []string) {
	for _, f := range jsonFields[R]() {
		name := f.Tag.Get("json")
		columns = append(columns, fmt.Sprintf("value ->> '%s' AS %s", name, name))
	}
	return columns
}

// declaredColumns returns the column definitions of a row for PostgreSQL.
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

// jsonFieldsOf caches the fields of jsonFields.
var jsonFieldsOf sync.Map

// jsonFields returns the fields that have names in JSON.
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

// InsertAll inserts rows without ids, and returns their new ids in the order of the rows. Columns without a JSON name
// get their defaults.
//
// The database draws ids in the order of insertion, and each id is greater than the ids before it. SQL does not define
// the order of RETURNING, so InsertAll sorts the ids.
func InsertAll[R any](tx *Tx, table string, rows []R) (ids []int64, err error) {
	names := slices.DeleteFunc(jsonNames[R](), func(name string) bool { return name == "id" })
	list := strings.Join(names, ", ")
	ids, err = Select[int64](tx,
		"INSERT INTO "+table+" ("+list+") SELECT "+list+" FROM ? AS x ORDER BY x.ordinal RETURNING id", Table(tx, rows))
	slices.Sort(ids)
	return ids, err
}
