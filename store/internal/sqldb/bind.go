package sqldb

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm/clause"
)

// Limit is the end of a query with a maximum number of rows. The CAST is for SQLite: if a parameter is the whole LIMIT,
// SQLite recompiles the statement at each binding, which takes longer than the execution.
const Limit = " LIMIT CAST(? AS BIGINT)"

// Padded repeats the first id until there are 1, 2, 4, 8 … ids, so that few different statements are enough for any
// number of ids.
func Padded(ids []int64) []int64 {
	ids = slices.Clip(ids) // the array behind them may belong to the caller
	for len(ids)&(len(ids)-1) != 0 {
		ids = append(ids, ids[0])
	}
	return ids
}

// bind expands a statement for an engine. Each ? stands for one argument. A list ([]int64, []string) becomes its
// parameters in brackets. A table (of Table) becomes its text. Any other argument becomes one parameter. If the only
// argument is a map, each @name stands for its value.
func bind(d Dialect, statement string, args []any) (text string, values []any) {
	if len(args) == 1 {
		if named, is := args[0].(map[string]any); is {
			statement, args = unname(statement, named)
		}
	}
	numbered := d == Postgres
	if !numbered && !slices.ContainsFunc(args, isComposite) {
		return statement, args
	}
	b := binding{numbered: numbered, values: make([]any, 0, countParameters(args))}
	b.text.Grow(2 * len(statement))
	b.write(statement, args)
	return b.text.String(), b.values
}

// mark matches a named parameter.
var mark = regexp.MustCompile(`@[a-z_]+`)

// unname replaces each @name by ?, and returns the arguments in that order.
func unname(statement string, named map[string]any) (text string, args []any) {
	text = mark.ReplaceAllStringFunc(statement, func(name string) string {
		value, is := named[name[1:]]
		if !is {
			return name
		}
		args = append(args, value)
		return "?"
	})
	return text, args
}

// isComposite reports whether an argument is a list or a table.
func isComposite(arg any) bool {
	switch arg.(type) {
	case []int64, []string, clause.Expr:
		return true
	}
	return false
}

// countParameters returns the number of parameters of arguments.
func countParameters(args []any) (n int) {
	for _, a := range args {
		switch a := a.(type) {
		case []int64:
			n += len(a)
		case []string:
			n += len(a)
		case clause.Expr:
			n += countParameters(a.Vars)
		default:
			n++
		}
	}
	return n
}

// binding is a statement during its expansion.
type binding struct {
	text     strings.Builder
	values   []any
	numbered bool // parameters are $1, $2 … and not ?
}

func (b *binding) write(statement string, args []any) {
	for _, a := range args {
		before, after, _ := strings.Cut(statement, "?")
		b.text.WriteString(before)
		statement = after
		switch a := a.(type) {
		case []int64:
			writeList(b, a)
		case []string:
			writeList(b, a)
		case clause.Expr:
			b.write(a.SQL, a.Vars)
		default:
			b.parameter(a)
		}
	}
	b.text.WriteString(statement)
}

func writeList[E any](b *binding, list []E) {
	if len(list) == 0 {
		b.text.WriteString("(NULL)")
		return
	}
	for i, e := range list {
		b.text.WriteByte("(,"[min(i, 1)])
		b.parameter(e)
	}
	b.text.WriteByte(')')
}

func (b *binding) parameter(value any) {
	b.values = append(b.values, value)
	if !b.numbered {
		b.text.WriteByte('?')
		return
	}
	b.text.WriteByte('$')
	b.text.WriteString(strconv.Itoa(len(b.values)))
}
