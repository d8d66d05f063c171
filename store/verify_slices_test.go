package store_test

import (
	"testing"

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

// The write-ahead log can be truncated between two checks.
func TestVerifyDoesNotBlockTheLog(t *testing.T) {
	pgtest.SQLiteOnly(t, "a server maintains its log itself")
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	db := f.db()
	defer db.Close()
	checks := 0
	f.check(store.Verify(f.ctx, store.Options{URL: f.url, Now: f.clock.Now}, func(c store.Check) {
		if f.login(k); c.Count > 0 {
			t.Errorf("%s: %q", c.Name, c.Faults)
		}
		f.logout(k)
		var busy, pages, carried int
		f.check(db.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &carried))
		if checks++; busy != 0 {
			t.Errorf("after %q a transaction still reads", c.Name)
		}
	}))
	if checks < 10 {
		t.Errorf("only %d checks", checks)
	}
}

func TestVerifyFindsNoFaultInABusyStore(t *testing.T) {
	f := open(t)
	b := f.startLoad()
	for range 5 {
		b.wait(50)
		f.verify()
	}
	b.stop()
	b.group.Wait()
	f.verify()
}
