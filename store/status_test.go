package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

func TestSimultaneousLoginsAreOneChange(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
	answers := make(chan gen.AgentStatus, 50)
	var all sync.WaitGroup
	for range cap(answers) {
		all.Go(func() {
			st, err := f.SetStatus(f.ctx, k, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
			if err != nil {
				t.Error(err)
			}
			answers <- st
		})
	}
	all.Wait()
	close(answers)
	changed, deliveries := 0, 0
	for st := range answers {
		if st.Changed {
			changed++
		}
		deliveries += st.Deliveries
	}
	if states := f.states(); changed != 1 || deliveries != 2 || states["pending"] != 2 {
		t.Errorf("%d changes, %d deliveries, %v; want 1, 2 and 2 pending", changed, deliveries, states)
	}
}

func TestStaleStatusIsIgnored(t *testing.T) {
	f := open(t)
	k := f.agent()
	at := func(d time.Duration) *time.Time { t := f.clock.Now().Add(d); return &t }
	for _, step := range []struct {
		name           string
		status         gen.AgentStatusValue
		at             *time.Time
		changed, stale bool
	}{
		{"any time before the first change", "available", at(-time.Hour), true, false},
		{"repeated", "available", at(-time.Hour), false, false},
		{"later", "logged_out", at(-time.Minute), true, false},
		{"overtaken", "available", at(-time.Hour), false, true},
		{"overtaken, the same status", "logged_out", at(-time.Hour), false, true},
		{"the same status, later: its time counts", "logged_out", at(-time.Second), false, false},
		{"overtaken by a repetition", "available", at(-30 * time.Second), false, true},
		{"without a time", "available", nil, true, false},
		{"older than that", "logged_out", at(-time.Millisecond), false, true},
		{"of the same time", "logged_out", at(0), true, false},
		{"a little ahead", "available", at(5 * time.Minute), true, false},
		{"without a time, after a time ahead", "logged_out", nil, true, false},
	} {
		st, err := f.SetStatus(f.ctx, k, gen.AgentStatusUpdate{AgentStatus: step.status, ChangedAt: step.at})
		if err != nil || st.Changed != step.changed || st.Stale != step.stale {
			t.Errorf("%s: changed %t, stale %t, %v", step.name, st.Changed, st.Stale, err)
		}
	}
	_, err := f.SetStatus(f.ctx, k,
		gen.AgentStatusUpdate{AgentStatus: "available", ChangedAt: at(5*time.Minute + time.Second)})
	var refused *store.Error
	if !errors.As(err, &refused) || refused.Kind != store.Invalid || refused.Fields[0].Field != "changed_at" {
		t.Errorf("far ahead: %v", err)
	}
}

func TestDeliveriesOfADeletedClientAreSent(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	f.check(f.DeleteClient(f.ctx, k.Client))
	if _, err := f.Client(f.ctx, k.Client); err == nil {
		t.Error("the client exists after its deletion")
	}
	d := f.claimOne()
	if d.URL != crm || d.Data.AgentStatus != "available" {
		t.Errorf("first: %+v", d)
	}
	f.finish(d)
	if states := f.states(); states["delivered"] != 2 {
		t.Errorf("states: %v, want the login and the logout delivered", states)
	}
	f.wantDrained()
}

// A status update that arrives during a commit is applied after it, even if the agent still has the new status.
func TestSettingsAreAppliedInOrderOfArrival(t *testing.T) {
	pgtest.SQLiteOnly(t, "the test observes SQLite's commit")
	f := open(t)
	k := f.agent()
	committing, commit := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.WatchStatements(func(writes bool, statement string) {
		if writes && statement == "COMMIT" {
			once.Do(func() { close(committing); <-commit })
		}
	})
	set := func(to gen.AgentStatusValue) (done chan struct{}) {
		done = make(chan struct{})
		go func() {
			defer close(done)
			if _, err := f.SetStatus(f.ctx, k, gen.AgentStatusUpdate{AgentStatus: to}); err != nil {
				t.Error(err)
			}
		}()
		return done
	}
	login := set(gen.AgentStatusValueAvailable)
	<-committing
	logout := set(gen.AgentStatusValueLoggedOut)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for waits := false; !waits; {
		select {
		case <-look.C:
			waits = f.StatusUpdatesWaiting() > 0
		case <-logout: // the defect: it did not wait
			waits = true
		}
	}
	close(commit)
	<-login
	<-logout
	if is, err := f.Status(f.ctx, k); err != nil || is.AgentStatus != gen.AgentStatusValueLoggedOut {
		t.Errorf("the last update was logged_out, the agent is %s (%v)", is.AgentStatus, err)
	}
}

// The agent is created between the two queries for it.
func TestStatusOfAConcurrentlyCreatedAgentIsSet(t *testing.T) {
	pgtest.PostgresOnly(t, "there is one writer")
	f := open(t)
	f.agent()
	k := store.AgentKey{Client: "12", Type: gen.AgentTypeRemote, ID: 777}
	other := f.of(f.url)
	other.open()
	defer func() { f.check(other.Close()) }()
	looks := 0
	f.WatchStatements(func(writes bool, statement string) {
		if writes && strings.Contains(statement, "FROM agents") {
			looks++
		}
		if looks == 2 { // after the query for agents without a lock
			looks++
			_, _, err := other.PutAgent(f.ctx, k, store.AgentUpdate{Name: new(string)})
			f.check(err)
		}
	})
	results, err := f.SetStatuses(f.ctx, "12", []gen.AgentStatusUpdateItem{
		{AgentType: k.Type, AgentID: k.ID, AgentStatus: gen.AgentStatusValueAvailable},
	})
	f.check(err)
	is, err := other.Status(f.ctx, k)
	f.check(err)
	if results[0].Status == nil || !results[0].Status.Changed || is.AgentStatus != gen.AgentStatusValueAvailable {
		t.Errorf("the answer is %+v, and the status %+v", results[0], is)
	}
}

// A missing agent in a bulk request affects no other entry.
func TestMissingAgentFailsOnlyItsEntry(t *testing.T) {
	f := open(t)
	k := f.agent()
	results, err := f.SetStatuses(f.ctx, "12", []gen.AgentStatusUpdateItem{
		{AgentType: gen.AgentTypeLocal, AgentID: 4711, AgentStatus: gen.AgentStatusValueAvailable},
		{AgentType: k.Type, AgentID: k.ID, AgentStatus: gen.AgentStatusValueAvailable},
	})
	f.check(err)
	if results[0].Error == nil || results[1].Status == nil || !results[1].Status.Changed {
		t.Errorf("got %s", fmt.Sprint(results))
	}
}

// The deliveries of a bulk request that the caller cancels are charged.
func TestInterruptedBulkIsCharged(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	f.Trace = func(context.Context) (string, func(int64, error)) { return "", func(int64, error) { cancel() } }
	entries := make([]gen.AgentStatusUpdateItem, 1000)
	for i := range entries {
		to := []gen.AgentStatusValue{gen.AgentStatusValueAvailable, gen.AgentStatusValueLoggedOut}[i%2]
		entries[i] = gen.AgentStatusUpdateItem{AgentType: k.Type, AgentID: k.ID, AgentStatus: to}
	}
	caller := store.Caller{Client: "12", RequestLimit: 1000, PendingLimit: store.NoLimit}
	_, err := f.SetStatuses(store.WithCaller(ctx, caller), "12", entries)
	committed, charged := f.count("SELECT count(*) FROM deliveries"), f.Requests(caller).Made
	if !errors.Is(err, context.Canceled) || committed == 0 || committed == len(entries)/2 ||
		charged != int64(committed) {
		t.Errorf("%d deliveries are committed, %d charged, %v", committed, charged, err)
	}
}
