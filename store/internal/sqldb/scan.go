package sqldb

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"gorm.io/gorm/schema"
)

// fill gives the fields of a row their values. Without an index, the value is the row.
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
	if value == nil {
		return nil
	}
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	switch v := value.(type) {
	case int32: // as PostgreSQL's driver has it
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

// scanKey is what the fields for columns depend on.
type scanKey struct {
	text string
	row  reflect.Type
}

// scanFields are the fields that are known, of as many texts as there are statements.
var scanFields sync.Map

// fieldsFor says which field of a type each column of a statement goes to.
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

// fieldNamed is the field that a column goes to, by GORM's rule; nil if that is the row.
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

// Columns are all columns of a type of rows, separated by commas.
func Columns[R any]() string {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[R]()) {
		names = append(names, columnOf(f))
	}
	return strings.Join(names, ", ")
}
