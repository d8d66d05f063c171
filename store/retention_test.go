package store_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// flip changes an agent's status n times, and has each delivery delivered.
func (f *fixture) flip(k store.AgentKey, n int) {
	f.t.Helper()
	for range n / 2 {
		f.login(k)
		f.logout(k)
		for _, d := range f.claim() {
			f.finish(d)
		}
	}
}

// Retention by age: what has ended goes, what is pending or parked stays, and of each agent the last change.
func TestRetentionByAge(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
	parked := f.agentN(7)
	f.state(parked, f.register(parked, board, gen.EventTypeAgentLogin)[0], gen.AgentEventStateValueDisabled)
	f.login(parked)
	f.flip(k, 500)
	f.clock.add(20 * 24 * time.Hour)
	f.flip(k, 2)
	f.login(k)
	waits := f.claimOne()
	f.record(waits, webhook.Retry, false)
	f.clock.add(10*24*time.Hour - time.Second)
	f.work(func() bool { return true })
	if n := f.count("SELECT count(*) FROM deliveries"); n != 504 {
		t.Errorf("a second before its time %d deliveries are there", n)
	}
	f.clock.add(time.Minute)
	f.work(func() bool { return f.count("SELECT count(*) FROM status_changes") == 4 })
	for what, want := range map[string]int{
		"deliveries WHERE state = 'parked'": 1, "deliveries WHERE state = 'pending'": 1, "deliveries WHERE state = 'delivered'": 2,
		"attempts": 3, "status_changes": 4,
	} {
		if n := f.count("SELECT count(*) FROM " + what); n != want {
			t.Errorf("%s: %d, want %d", what, n, want)
		}
	}
	f.verify()
	if _, err := f.StatusChanges(f.ctx, "12", new(int64(1)), 9); err == nil || !strings.Contains(err.Error(), "the oldest one is 502") {
		t.Errorf("the feed after change 1: %v", err)
	}
}

// Retention by rows.
func TestRetentionByRows(t *testing.T) {
	f := open(t)
	f.keepRows = 100
	f.restart()
	k := f.agent()
	f.register(k, crm, both...)
	f.flip(k, 500)
	f.clock.add(time.Minute)
	f.work(func() bool { return f.count("SELECT count(*) FROM status_changes") == 100 })
	if n := f.count("SELECT count(*) FROM deliveries"); n != 100 {
		t.Errorf("%d deliveries are left", n)
	}
	if n := f.count("SELECT min(id) FROM deliveries"); n != 401 {
		t.Errorf("the oldest one is %d", n)
	}
	f.verify()
	f.flip(k, 10)
	f.drained()
}

// A change that had to stay for its deliveries goes with the last of them, and not an hour later.
func TestRetentionOfAChangeThatStayed(t *testing.T) {
	f := open(t)
	f.keepRows = 100
	f.restart()
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	prune := func() {
		f.clock.add(time.Minute)
		f.check(f.PruneAll(f.ctx))
	}
	f.flip(k, 200)
	prune()
	if n := f.count("SELECT count(*) FROM status_changes WHERE id <= 100"); n != 50 {
		t.Errorf("%d changes stay for their deliveries, want 50", n)
	}
	f.flip(k, 200)
	prune()
	if n := f.count("SELECT count(*) FROM status_changes WHERE id <= 200"); n != 0 {
		t.Errorf("%d changes are left of which no delivery is", n)
	}
	if n := f.count("SELECT sequence FROM truncated WHERE client_id = '12'"); n != 299 && n != 300 {
		t.Errorf("the feed is truncated up to %d", n)
	}
	f.verify()
}

// A file that was large becomes small again.
func TestRetentionShrinksTheFile(t *testing.T) {
	f := openInMemory(t)
	k := f.agent()
	f.register(k, "http://crm.example/"+strings.Repeat("x", 2000), both...)
	f.flip(k, 4000)
	size := func() int64 {
		info, err := os.Stat(strings.TrimPrefix(f.url, "sqlite:"))
		f.check(err)
		return info.Size()
	}
	f.restart() // the log of what was written is in the file now
	before := size()
	f.clock.add(31 * 24 * time.Hour)
	f.work(func() bool {
		return f.count("SELECT count(*) FROM status_changes") == 1 && f.count("PRAGMA freelist_count") <= 1000
	})
	f.work(func() bool { return size() <= before*3/4 }) // without anybody who writes, or a restart
	f.restart()
	if after := size(); after > before*3/4 {
		t.Errorf("the file had %d bytes and has %d", before, after)
	}
	f.verify()
}
