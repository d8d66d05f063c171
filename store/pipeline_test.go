package store_test

import (
	"errors"
	"testing"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/cluster"
)

// On PostgreSQL, where statements wait for others, nothing of a transaction is committed in which one has failed, whether
// anybody has looked or not, and the next transaction knows nothing of it.
func TestNothingIsCommittedAfterAnError(t *testing.T) {
	if !cluster.OnPostgres() {
		t.Skip("a statement that fails is undone alone there")
	}
	f := open(t)
	at := func() int { return f.count("SELECT at FROM probes") }
	set := func(tx *gorm.DB) { _ = store.Execute(tx, "UPDATE probes SET at = at + 1") }
	fail := func(tx *gorm.DB) { _ = store.Execute(tx, "UPDATE probes SET at = 1 / 0") }
	ask := func(tx *gorm.DB) { _, _ = store.Number(tx, "SELECT 1") }
	for name, steps := range map[string][]func(tx *gorm.DB){
		"kept, and then the commit":       {set, fail},
		"kept, and then a query":          {set, fail, ask},
		"a query":                         {set, func(tx *gorm.DB) { _, _ = store.Number(tx, "SELECT 1 / 0") }},
		"one that cannot be prepared":     {set, func(tx *gorm.DB) { _, _ = store.Number(tx, "SELEKT 1") }, set},
		"of which a value cannot be sent": {set, func(tx *gorm.DB) { _ = store.Execute(tx, "UPDATE probes SET at = ?", func() {}) }, set, ask},
		"of GORM":                         {set, func(tx *gorm.DB) { tx.Exec("SELECT 1 / 0") }},
		"before one of GORM":              {fail, func(tx *gorm.DB) { tx.Exec("SELECT 1") }, set},
		"before a row of GORM":            {fail, func(tx *gorm.DB) { _ = tx.Raw("SELECT 1").Row().Err() }, set},
		"before all, and a row of GORM": {
			func(tx *gorm.DB) { _ = store.Execute(tx, "SELEKT 1") },
			func(tx *gorm.DB) { _ = tx.Raw("UPDATE probes SET at = at + 1 RETURNING at").Row().Err() },
		},
		"a row that cannot be read": {set, func(tx *gorm.DB) { _, _ = store.Number(tx, "SELECT 'x'") }},
	} {
		t.Run(name, func(t *testing.T) {
			before := at()
			err := f.Write(t.Context(), func(tx *gorm.DB) error {
				for _, step := range steps {
					step(tx)
				}
				return nil
			})
			if after := at(); err == nil || after != before {
				t.Errorf("committed: %d, before %d; %v", after, before, err)
			}
			f.check(f.Write(t.Context(), func(tx *gorm.DB) error { set(tx); return nil }))
			if after := at(); after != before+1 {
				t.Errorf("the next transaction makes %d of %d", after, before)
			}
		})
	}
}

// Statements take effect in the order in which they are given, whichever way they go.
func TestStatementsInOrder(t *testing.T) {
	f := open(t)
	f.check(f.Write(f.ctx, func(tx *gorm.DB) error {
		errs := []error{
			store.Execute(tx, "UPDATE probes SET at = 1"), tx.Exec("UPDATE probes SET at = at * 10 + 2").Error,
			store.Execute(tx, "UPDATE probes SET at = at * 10 + 3"), store.Execute(tx, "UPDATE probes SET at = at * 10 + 4"),
		}
		n, err := store.Number(tx, "SELECT at FROM probes")
		if n != 1234 {
			t.Errorf("found %d", n)
		}
		return errors.Join(append(errs, err, store.Execute(tx, "UPDATE probes SET at = at * 10 + 5"))...)
	}))
	if n := f.count("SELECT at FROM probes"); n != 12345 {
		t.Errorf("stored is %d", n)
	}
	if err := f.Write(f.ctx, func(*gorm.DB) error { return errTrouble }); !errors.Is(err, errTrouble) {
		t.Error(err)
	}
	f.check(f.Ready(f.ctx))
}

var errTrouble = errors.New("trouble")
