package store_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// agentsWith creates local agents 1, 2, … of a client, each with a number of events that a login fires.
func (f *fixture) agentsWith(client string, events ...int) (keys []store.AgentKey) {
	f.t.Helper()
	_, _, err := f.PutClient(f.ctx, client, gen.ClientUpdate{})
	f.check(err)
	_, err = f.SetLimits(f.ctx, client, gen.ClientLimitsUpdate{EventsPerAgent: limitOf(1000)})
	f.check(err)
	for i, n := range events {
		k := store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: int64(i + 1)}
		name := "x"
		_, _, err := f.PutAgent(f.ctx, k, store.AgentUpdate{Name: &name})
		f.check(err)
		f.createEvents(k, crm, slices.Repeat([]gen.EventType{gen.EventTypeAgentLogin}, n)...)
		keys = append(keys, k)
	}
	return keys
}

// watchCommits returns a function that returns how many changes each later transaction has stored, such as "2 1".
func (f *fixture) watchCommits() (commits func() string) {
	var mu sync.Mutex
	var all []string
	before := f.count("SELECT count(*) FROM status_changes")
	f.WatchStatements(func(writes bool, statement string) {
		if !writes || !strings.Contains(statement, "INSERT INTO status_changes") {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		n := f.count("SELECT count(*) FROM status_changes")
		all, before = append(all, fmt.Sprint(n-before)), n
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		n := f.count("SELECT count(*) FROM status_changes")
		return strings.Join(append(all, fmt.Sprint(n-before))[1:], " ")
	}
}

func logins(keys ...store.AgentKey) []gen.AgentStatusUpdateItem {
	var items []gen.AgentStatusUpdateItem
	for _, k := range keys {
		items = append(items, gen.AgentStatusUpdateItem{
			AgentType: k.Type, AgentID: k.ID, AgentStatus: gen.AgentStatusValueAvailable,
		})
	}
	return items
}

// A transaction has up to 128 events. A change with more than 32 is its first, and may exceed the bound by itself. A
// repeated status costs nothing.
func TestBulkIsCommittedByItsEvents(t *testing.T) {
	for name, c := range map[string]struct {
		events  []int
		repeats int
		commits string
	}{
		"few events":          {[]int{1, 0, 2, 1, 3}, 0, "5"},
		"the bound":           {[]int{32, 32, 32, 32, 1}, 0, "4 1"},
		"beyond the bound":    {[]int{30, 30, 30, 30, 9, 30}, 0, "4 2"},
		"large":               {[]int{1, 33, 32, 33}, 0, "1 2 1"},
		"larger than a bound": {[]int{1, 130, 1}, 0, "1 1 1"},
		"repeated":            {[]int{32, 28, 100, 1}, 1, "1 2"},
		"many":                {make([]int, 300), 0, "128 128 44"},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			keys := f.agentsWith("12", c.events...)
			for _, k := range keys[:c.repeats] {
				f.login(k)
			}
			commits := f.watchCommits()
			results, err := f.SetStatuses(f.ctx, "12", logins(keys...))
			f.check(err)
			if got := commits(); got != c.commits {
				t.Errorf("the transactions have %s changes, want %s", got, c.commits)
			}
			for i, r := range results[c.repeats:] {
				n := c.repeats + i
				if st := r.Status; r.AgentID != int64(n+1) || !st.Changed || st.Sequence != int64(n+1) ||
					st.Deliveries != c.events[n] {
					t.Errorf("entry %d: agent %d, %+v", n, r.AgentID, st)
				}
			}
		})
	}
}

// An agent that is in a bulk request several times gets its statuses in their order, also in several transactions.
func TestBulkKeepsTheOrderOfAnAgent(t *testing.T) {
	f := open(t)
	keys := f.agentsWith("12", 100, 100)
	items := logins(keys[0], keys[1], keys[0], keys[0])
	items[2].AgentStatus = gen.AgentStatusValueLoggedOut
	commits := f.watchCommits()
	results, err := f.SetStatuses(f.ctx, "12", items)
	f.check(err)
	var deliveries []int
	for _, r := range results {
		deliveries = append(deliveries, r.Status.Deliveries)
	}
	if !slices.Equal(deliveries, []int{100, 100, 0, 100}) || commits() != "1 1 1 1" {
		t.Errorf("the entries have %v deliveries, and the transactions %s changes", deliveries, commits())
	}
	if is, err := f.Status(f.ctx, keys[0]); err != nil || is.AgentStatus != gen.AgentStatusValueAvailable {
		t.Errorf("the agent is %s (%v)", is.AgentStatus, err)
	}
}

// A client has many changes with many events, in a bulk request or in single ones. The change of another client is in
// the next transaction, and does not wait for more of them.
func TestClientsTakeTurns(t *testing.T) {
	for name, bulk := range map[string]bool{"bulk": true, "single": false} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			many, quiet := f.agentsWith("12", 100, 100, 100, 100), f.agentsWith("13", 1)
			commits := f.watchCommits()
			inFirst, leave := f.holdFirstCommit()
			var all sync.WaitGroup
			if bulk {
				all.Go(func() { f.mustSet(many...) })
			}
			for i, k := range many {
				if !bulk {
					all.Go(func() { f.mustSet(k) })
				}
				if i == 0 {
					<-inFirst
				}
			}
			waiting := 3 // or none, if all of the bulk request are in the first batch
			if bulk {
				waiting = 0
			}
			f.wantWaiting(waiting)
			var sequence int64
			all.Go(func() { sequence = f.mustSet(quiet...) })
			f.wantWaiting(waiting + 1)
			close(leave)
			all.Wait()
			if sequence != 2 || commits() != "1 1 1 1 1" {
				t.Errorf("the other client's change has number %d, in commits of %s", sequence, commits())
			}
		})
	}
}

// mustSet logs agents of a client in by one request, and returns the number of the last change.
func (f *fixture) mustSet(keys ...store.AgentKey) (sequence int64) {
	if len(keys) == 1 {
		st, err := f.SetStatus(f.ctx, keys[0], gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
		if err != nil {
			f.t.Error(err)
		}
		return st.Sequence
	}
	results, err := f.SetStatuses(f.ctx, keys[0].Client, logins(keys...))
	if err != nil {
		f.t.Error(err)
		return 0
	}
	return results[len(results)-1].Status.Sequence
}

// holdFirstCommit holds the transaction of the first change, from the time that inside is closed until leave is closed.
func (f *fixture) holdFirstCommit() (inside <-chan struct{}, leave chan struct{}) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var first sync.Once
	f.WatchStatements(func(writes bool, statement string) {
		if writes && strings.Contains(statement, "INSERT INTO status_changes") {
			first.Do(func() { close(entered); <-leave })
		}
	})
	return entered, leave
}

// wantWaiting returns when n status updates wait for a transaction.
func (f *fixture) wantWaiting(n int) {
	for f.StatusUpdatesWaiting() != n {
		runtime.Gosched()
	}
}
