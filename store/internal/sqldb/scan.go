package sqldb

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"gorm.io/gorm/schema"
)

// fill assigns values to the fields of a row. With a nil index, the value is the row itself.
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

// assign assigns the value of a column to a field. NULL leaves the field unchanged.
func assign(field reflect.Value, value any) error {
	if value == nil {
		return nil
	}
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	switch v := value.(type) {
	case int32: // the type of an integer column in PostgreSQL's driver
		return assign(field, int64(v))
	case int64:
		if field.CanInt() {
			field.SetInt(v)
			return nil
		} else if field.Kind() == reflect.Bool {
			field.SetBool(v != 0)
			return nil
		}
	case string:
		if field.Kind() == reflect.String {
			field.SetString(v)
			return nil
		}
	case bool:
		if field.Kind() == reflect.Bool {
			field.SetBool(v)
			return nil
		}
	}
	return fmt.Errorf("a column of type %T cannot be read into %s", value, field.Type())
}

// scanKey identifies the result of fieldsFor.
type scanKey struct {
	text string
	row  reflect.Type
}

// scanFields caches the results of fieldsFor. It has one entry for each text of a statement.
var scanFields sync.Map

// fieldsFor returns the field of a type for each column of a statement.
func fieldsFor(row reflect.Type, rows Rows, text string) (fields [][]int, err error) {
	if known, is := scanFields.Load(scanKey{text, row}); is {
		return known.([][]int), nil
	}
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for _, c := range columns {
		index, is := fieldNamed(row, c)
		if !is {
			return nil, fmt.Errorf("%s has no field for the column %s", row, c)
		}
		fields = append(fields, index)
	}
	scanFields.Store(scanKey{text, row}, fields)
	return fields, nil
}

// fieldNamed returns the field for a column, by GORM's naming rule; nil if the value is the row itself.
func fieldNamed(row reflect.Type, column string) (index []int, is bool) {
	if row.Kind() != reflect.Struct {
		return nil, true
	}
	for _, f := range reflect.VisibleFields(row) {
		if columnOf(f) == column {
			return f.Index, true
		}
	}
	return nil, false
}

func columnOf(f reflect.StructField) string { return (schema.NamingStrategy{}).ColumnName("", f.Name) }

// Columns lists the columns of a row type, separated by commas.
func Columns[R any]() string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[R]()) {
		names = append(names, columnOf(f))
	}
	return strings.Join(names, ", ")
}
