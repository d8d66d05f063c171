package sqldb

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm/clause"
)

// Limit is the end of a query for some rows. SQLite compiles a statement again whenever a parameter that is its whole
// LIMIT is bound, which takes longer than to carry it out.
const Limit = " LIMIT CAST(? AS BIGINT)"

// Padded repeats the first of some ids until there are 1, 2, 4, 8 … of them, so that a statement about any number of
// them is one of few statements.
func Padded(ids []int64) []int64 {
	ids = slices.Clip(ids) // what is behind them may be another's
	for len(ids)&(len(ids)-1) != 0 {
		ids = append(ids, ids[0])
	}
	return ids
}

// bind writes a statement out for an engine. Each ? stands for one argument: a list ([]int64, []string) becomes as many
// parameters in brackets, a table (of Table) its text, anything else one parameter. With a map as the only argument,
// each @name stands for its value.
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

// mark is a parameter with a name.
var mark = regexp.MustCompile(`@[a-z_]+`)

// unname returns a statement with ? for each @name, and the arguments in this order.
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

// isComposite says whether an argument is a list or a table.
func isComposite(arg any) bool {
	switch arg.(type) {
	case []int64, []string, clause.Expr:
		return true
	}
	return false
}

// countParameters is how many parameters arguments become.
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

// binding is a statement while it is written out.
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
