package sqldb

import (
	"fmt"
	"slices"
	"testing"

	"gorm.io/gorm/clause"
)

func TestBindExpandsArguments(t *testing.T) {
	table := clause.Expr{SQL: "(SELECT ? AS a, ? AS b)", Vars: []any{1, "one"}}
	for name, c := range map[string]struct {
		text             string
		args             []any
		sqlite, postgres string
		values           []any
	}{
		"no arguments": {"SELECT 1", nil, "SELECT 1", "SELECT 1", nil},
		"arguments": {
			"SELECT ?, ?",
			[]any{1, "one"},
			"SELECT ?, ?", "SELECT $1, $2",
			[]any{1, "one"},
		},
		"a list of ids": {
			"x = ? AND id IN ? AND y = ?",
			[]any{"x", []int64{7, 8, 9}, nil},
			"x = ? AND id IN (?,?,?) AND y = ?", "x = $1 AND id IN ($2,$3,$4) AND y = $5",
			[]any{"x", int64(7), int64(8), int64(9), nil},
		},
		"a list of names": {"n IN ?", []any{[]string{"a", "?"}}, "n IN (?,?)", "n IN ($1,$2)", []any{"a", "?"}},
		"an empty list":   {"id IN ?", []any{[]int64{}}, "id IN (NULL)", "id IN (NULL)", []any{}},
		"bytes are one":   {"key = ?", []any{[]byte("ab")}, "key = ?", "key = $1", []any{[]byte("ab")}},
		"a ? in a value": {
			"a = ? AND b = ?",
			[]any{"a?b$1", 2},
			"a = ? AND b = ?", "a = $1 AND b = $2",
			[]any{"a?b$1", 2},
		},
		"a ? without argument": {"a = ? AND b = '?'", []any{1}, "a = ? AND b = '?'", "a = $1 AND b = '?'", []any{1}},
		"a table": {
			"UPDATE t SET c = ? FROM ? AS x WHERE id IN ?",
			[]any{0, table, []int64{5}},
			"UPDATE t SET c = ? FROM (SELECT ? AS a, ? AS b) AS x WHERE id IN (?)",
			"UPDATE t SET c = $1 FROM (SELECT $2 AS a, $3 AS b) AS x WHERE id IN ($4)",
			[]any{0, 1, "one", int64(5)},
		},
		"names": {
			"a = @now OR b IN @ids OR c = @now",
			[]any{map[string]any{"now": 3, "ids": []int64{1, 2}}},
			"a = ? OR b IN (?,?) OR c = ?", "a = $1 OR b IN ($2,$3) OR c = $4",
			[]any{3, int64(1), int64(2), 3},
		},
		"a name that is the prefix of another": {
			"a = @now AND b = @now_and_then",
			[]any{map[string]any{"now": 1, "now_and_then": 2}},
			"a = ? AND b = ?", "a = $1 AND b = $2",
			[]any{1, 2},
		},
		"a name without a value": {
			"a = @now AND b = 'x@example'",
			[]any{map[string]any{"now": 1}},
			"a = ? AND b = 'x@example'", "a = $1 AND b = 'x@example'",
			[]any{1},
		},
	} {
		for dialect, want := range map[Dialect]string{SQLite: c.sqlite, Postgres: c.postgres} {
			text, values := bind(dialect, c.text, c.args)
			if text != want || fmt.Sprintf("%#v", values) != fmt.Sprintf("%#v", c.values) {
				if len(values)+len(c.values) > 0 || text != want {
					t.Errorf("%s: got %q with %#v, want %q with %#v", name, text, values, want, c.values)
				}
			}
		}
	}
}

func TestPaddedRoundsUpToAPowerOfTwo(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 9: 16, 64: 64, 65: 128} {
		ids := make([]int64, n)
		for i := range ids {
			ids[i] = int64(i + 1)
		}
		padded := Padded(slices.Clone(ids))
		if len(padded) != want || !slices.Equal(padded[:n], ids) {
			t.Errorf("%d ids are padded to %d, want %d", n, len(padded), want)
		}
		for _, id := range padded[n:] {
			if id != ids[0] {
				t.Errorf("%d ids are padded by %d", n, id)
			}
		}
	}
}
