package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// strange are texts with a meaning in SQL or JSON.
var strange = []string{
	"", "it's", `"quoted"`, `back\slash`, "?", "$1", "@name",
	"Zoë Müller", "日本語", "🙂", "line\nbreak\t", "</script>&", "null", "1",
}

// things returns n rows with different amounts.
func things(n int) (rows []thing) {
	for i := range n {
		row := thing{Amount: int64(n - i), Name: strange[i%len(strange)], Hidden: "not inserted"}
		if i%3 == 1 {
			row.Owner = new(int64(i))
		}
		if i%4 == 1 {
			row.Note = new(strange[i/4%len(strange)])
		}
		rows = append(rows, row)
	}
	return rows
}

// sizes are numbers of rows with different statements: padded to 1, 2, 4, 8 … tuples, or as one JSON value.
var sizes = []int{0, 1, 2, 3, 5, 64, 512, 513, 1500}

func TestTableHasTheRowsInOrder(t *testing.T) {
	db := open(t)
	for _, n := range sizes {
		rows := things(n)
		got, err := sqldb.Select[thing](db.read(),
			"SELECT x.amount, x.name, x.owner, x.note FROM ? AS x ORDER BY x.ordinal", sqldb.Table(db.read(), rows))
		check(t, err)
		wantThings(t, got, rows)
	}
	got, err := sqldb.Select[int64](db.read(), "SELECT x.amount FROM ? AS x", sqldb.Table(db.read(), []thing(nil)))
	if len(got) > 0 || err != nil {
		t.Errorf("without rows: %v, %v", got, err)
	}
}

func wantThings(t *testing.T, got, want []thing) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("there are %d rows, want %d", len(got), len(want))
	}
	for i := range want {
		w := want[i]
		if w.Hidden = got[i].Hidden; !reflect.DeepEqual(got[i], w) {
			t.Fatalf("row %d of %d is %+v, want %+v", i, len(want), got[i], w)
		}
	}
}

func TestTableIsJoinedInAnUpdateWithOtherArguments(t *testing.T) {
	db := open(t)
	for _, n := range sizes[1:] {
		db.do(func(tx *sqldb.Tx) error {
			rows := things(n)
			ids, err := sqldb.InsertAll(tx, "things", rows)
			check(t, err)
			type change struct {
				ID   int64 `json:"id"`
				Plus int64 `json:"plus"`
			}
			var changes []change
			for i, id := range ids {
				changes = append(changes, change{id, int64(i)})
			}
			changed, err := tx.ExecCount("UPDATE things SET amount = amount + x.plus + ? FROM ? AS x "+
				"WHERE things.id = x.id AND things.amount > ?", 1, sqldb.Table(tx, changes), 0)
			check(t, err)
			if changed != int64(n) {
				t.Errorf("%d of %d rows were changed", changed, n)
			}
			amounts, err := sqldb.Select[int64](tx, "SELECT DISTINCT amount FROM things")
			if want := []int64{int64(n) + 1}; !slices.Equal(amounts, want) {
				t.Errorf("the amounts are %v, want %v", amounts, want)
			}
			return errors.Join(err, tx.Exec("DELETE FROM things"))
		})
	}
}

// The order of RETURNING does not matter.
func TestInsertAllReturnsIDsInTheOrderOfRows(t *testing.T) {
	db := open(t)
	for name, prepare := range map[string]func(tx *sqldb.Tx){
		"as returned": func(*sqldb.Tx) {},
		"reversed": func(tx *sqldb.Tx) {
			tx.GORM().Statement.ConnPool = reversed{tx.GORM().Statement.ConnPool}
		},
	} {
		for _, n := range sizes {
			t.Run(fmt.Sprint(n, " ", name), func(t *testing.T) {
				rows := things(n)
				var ids []int64
				db.do(func(tx *sqldb.Tx) (err error) {
					prepare(tx)
					ids, err = sqldb.InsertAll(tx, "things", rows)
					return err
				})
				if len(ids) != n {
					t.Fatalf("there are %d ids of %d rows", len(ids), n)
				}
				var got []thing
				for _, id := range ids {
					row, _, err := sqldb.Get[thing](db.read(),
						"SELECT amount, name, owner, note, hidden FROM things WHERE id = ?", id)
					check(t, err)
					if row.Hidden != "default" {
						t.Fatalf("a column that is not inserted is %q", row.Hidden)
					}
					got = append(got, row)
				}
				wantThings(t, got, rows)
			})
		}
	}
}

// reversed is a transaction whose queries return their rows in reverse. It is a Queuer, so that the rows are its own.
type reversed struct{ gorm.ConnPool }

// Queue implements sqldb.Queuer.
func (r reversed) Queue(string, []any) { panic("nothing is queued") }

// Fetch implements sqldb.Queuer.
func (r reversed) Fetch(ctx context.Context, text string, values []any, read func(sqldb.Rows) error) error {
	rows, err := r.QueryContext(ctx, text, values...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	slices.Reverse(ids)
	return errors.Join(read(&idRows{ids: ids}), rows.Err())
}

// idRows are rows of ids.
type idRows struct {
	ids  []int64
	next int
}

func (r *idRows) Columns() ([]string, error) { return []string{"id"}, nil }
func (r *idRows) Next() bool                 { r.next++; return r.next <= len(r.ids) }
func (r *idRows) Values() ([]any, error)     { return []any{r.ids[r.next-1]}, nil }
func (r *idRows) Err() error                 { return nil }

func TestInsertAllInsertsAllRowsOrNone(t *testing.T) {
	db := open(t)
	db.write("CREATE UNIQUE INDEX unique_amounts ON things (amount)")
	rows := append(things(10), things(1)...)
	err := db.Do(t.Context(), func(tx *sqldb.Tx) error {
		_, err := sqldb.InsertAll(tx, "things", rows)
		return err
	})
	wantError(t, err, "amount")
	if n, err := sqldb.Value[int64](db.read(), "SELECT count(*) FROM things"); n != 0 || err != nil {
		t.Errorf("there are %d rows, %v", n, err)
	}
}

func BenchmarkInsertAll(b *testing.B) {
	db := open(b)
	for _, n := range []int{1, 16, 256} {
		rows := things(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				db.do(func(tx *sqldb.Tx) error {
					_, err := sqldb.InsertAll(tx, "things", rows)
					return err
				})
			}
		})
	}
}
