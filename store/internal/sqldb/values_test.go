package sqldb_test

import (
	"fmt"
	"testing"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

func BenchmarkInsertAll(b *testing.B) {
	db := open(b)
	for _, n := range []int{1, 16, 256, 1000} {
		rows := make([]thing, n)
		for i := range rows {
			rows[i] = thing{Amount: int64(i), Name: fmt.Sprint("thing ", i)}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db.do(func(tx *sqldb.Tx) error {
				for b.Loop() {
					if _, err := sqldb.InsertAll(tx, "things", rows); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

func BenchmarkTable(b *testing.B) {
	db := open(b)
	db.write("INSERT INTO things (amount, name) VALUES (1, 'a')")
	for _, n := range []int{1, 16, 256} {
		rows := make([]thing, n)
		for i := range rows {
			rows[i] = thing{Amount: int64(i), Name: fmt.Sprint("thing ", i)}
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db.do(func(tx *sqldb.Tx) error {
				for b.Loop() {
					if err := tx.Exec("UPDATE things SET name = x.name FROM ? AS x WHERE things.id = x.amount", sqldb.Table(tx, rows)); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}
