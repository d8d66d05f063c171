package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

// A claim finds an open breaker, and another process closes the breaker before the claim locks its lane. As a probe,
// that lane would block all others of the receiver until the end of its lease.
func TestClaimBeginsNoProbeAtAClosedBreaker(t *testing.T) {
	pgtest.PostgresOnly(t, "one process serves a file, by one writer")
	f := open(t)
	f.createLanes("12", 1, 8, crm)
	inFlight := f.claimOneLane()
	f.openBreaker()
	other, err := store.Open(f.ctx, store.Options{URL: f.url, Now: f.clock.Now, Log: f.log})
	f.check(err)
	defer func() { f.check(other.Close()) }()
	f.clock.add(5 * time.Second) // a probe is due
	closed := false
	f.WatchStatements(func(writes bool, statement string) {
		if closed || !writes || !strings.HasPrefix(statement, "SELECT id FROM lanes WHERE id IN") {
			return
		}
		closed = true // by the result of an earlier delivery
		success := answer(200)
		success.StartedAt = f.clock.Now()
		_, err := other.Record(f.ctx, inFlight, success, false)
		f.check(err)
	})
	early := f.claim()
	if !closed {
		t.Fatal("the claim locked no lanes")
	}
	waiting := f.count("SELECT count(*) FROM receivers WHERE failures > 0 OR probe IS NOT NULL OR waits IS NOT NULL")
	if waiting != 0 {
		t.Error("the receiver waits, although its breaker is closed")
	}
	if claimed := len(early) + len(f.claim()); claimed != 2 {
		t.Errorf("claimed %d lanes, want the two that have not failed", claimed)
	}
	f.verify()
}
