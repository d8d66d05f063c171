package store_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

func limitOf(n int64) gen.ClientLimitUpdate { return gen.ClientLimitUpdate{Limit: &n} }

// limits compares a client's limits and their use: events, agents, requests.
func (f *fixture) limits(client string, want ...int64) {
	f.t.Helper()
	m, err := f.Limits(f.ctx, client)
	f.check(err)
	got := []int64{
		m.AgentEvent.Limit, m.AgentEvent.Used, m.Agent.Limit, m.Agent.Used, m.RequestsPerHour.Limit,
		m.RequestsPerHour.Used,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Errorf("limits of client %s (-want +got):\n%s", client, diff)
	}
	f.verify()
}

func TestLimitsRefuseFurtherRows(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.limits("12", 1000, 0, 10_000, 1, 100_000, 0)
	_, err := f.SetLimits(f.ctx, "12",
		gen.ClientLimitsUpdate{AgentEvent: limitOf(2), RequestsPerHour: limitOf(store.NoLimit)})
	f.check(err)
	first := f.createEvents(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)[0]
	f.limits("12", 2, 2, 10_000, 1, store.NoLimit, 0)

	_, err = f.CreateEvent(f.ctx, k,
		gen.AgentEventCreate{URL: board, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin})
	f.wantConflict(err, "agent_event_limit_exceeded",
		"client 12 may have 2 events and has 2; GET /api/ver1.0/client/12/limit/ shows its limits")
	f.check(f.DeleteEvent(f.ctx, k, first))
	f.limits("12", 2, 1, 10_000, 1, store.NoLimit, 0)
	f.createEvents(k, board, gen.EventTypeAgentLogin)

	_, err = f.SetLimits(f.ctx, "12", gen.ClientLimitsUpdate{AgentEvent: limitOf(0), Agent: limitOf(0)})
	f.check(err)
	f.limits("12", 0, 2, 0, 1, store.NoLimit, 0)
	f.agent() // exists already
	name, other := "x", k
	other.ID = 137
	_, _, err = f.PutAgent(f.ctx, other, store.AgentUpdate{Name: &name})
	f.wantConflict(err, "agent_limit_exceeded",
		"client 12 may have 0 agents and has 1; GET /api/ver1.0/client/12/limit/ shows its limits")
	other.ID = 0
	_, err = f.CreateAgent(f.ctx, other, store.AgentUpdate{Name: &name})
	f.wantConflict(err, "agent_limit_exceeded",
		"client 12 may have 0 agents and has 1; GET /api/ver1.0/client/12/limit/ shows its limits")
	f.limits("12", 0, 2, 0, 1, store.NoLimit, 0)
}

func TestEventsOfOneAgentAreLimited(t *testing.T) {
	f := open(t)
	k, other, name := f.agent(), store.AgentKey{Client: "12", Type: gen.AgentTypeRemote, ID: 7}, "+7"
	_, _, err := f.PutAgent(f.ctx, other, store.AgentUpdate{Name: &name})
	f.check(err)
	f.limitEvents(100, 0)
	f.setEventsPerAgent(2)
	events := f.createEvents(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
	f.createEvents(other, crm, gen.EventTypeAgentLogin)
	f.limitEvents(2, 2)

	_, err = f.CreateEvent(f.ctx, k,
		gen.AgentEventCreate{URL: board, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin})
	f.wantConflict(err, "events_per_agent_limit_exceeded", "local agent 136 of client 12 may have 2 events and has 2; "+
		"GET /api/ver1.0/client/12/limit/ shows its limits")
	f.limits("12", 1000, 3, 10_000, 2, 100_000, 0)
	f.createEvents(other, board, gen.EventTypeAgentLogin)

	f.setEventsPerAgent(1) // the events beyond it stay
	f.limitEvents(1, 2)
	_, err = f.UpdateEvent(f.ctx, k, events[0], gen.AgentEventUpdate{URL: new(board)})
	f.check(err)
	f.check(f.DeleteEvent(f.ctx, k, events[0]))
	_, err = f.CreateEvent(f.ctx, k,
		gen.AgentEventCreate{URL: board, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin})
	f.wantConflict(err, "events_per_agent_limit_exceeded", "local agent 136 of client 12 may have 1 events and has 1; "+
		"GET /api/ver1.0/client/12/limit/ shows its limits")
	f.check(f.DeleteEvent(f.ctx, k, events[1]))
	f.createEvents(k, board, gen.EventTypeAgentLogin)
}

func (f *fixture) setEventsPerAgent(n int64) {
	f.t.Helper()
	_, err := f.SetLimits(f.ctx, "12", gen.ClientLimitsUpdate{EventsPerAgent: limitOf(n)})
	f.check(err)
}

// limitEvents compares client 12's limit on the events of an agent, and its use.
func (f *fixture) limitEvents(limit, used int64) {
	f.t.Helper()
	m, err := f.Limits(f.ctx, "12")
	f.check(err)
	if want := (gen.ClientLimit{Limit: limit, Used: used}); m.EventsPerAgent != want {
		f.t.Errorf("events per agent: %+v, want %+v", m.EventsPerAgent, want)
	}
}

func (f *fixture) wantConflict(err error, status, message string) {
	f.t.Helper()
	var refused *store.Error
	if !errors.As(err, &refused) || refused.Kind != store.Conflict || refused.Status != status ||
		refused.Message != message {
		f.t.Errorf("%#v, want %s: %s", err, status, message)
	}
}

func TestDeletedRowsDoNotCount(t *testing.T) {
	f := open(t)
	k := f.agent()
	other := store.AgentKey{Client: "12", Type: gen.AgentTypeRemote, ID: 7}
	name := "+7"
	_, _, err := f.PutAgent(f.ctx, other, store.AgentUpdate{Name: &name})
	f.check(err)
	f.createEvents(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
	f.createEvents(other, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.limits("12", 1000, 3, 10_000, 2, 100_000, 0)
	f.check(f.DeleteAgent(f.ctx, k))
	f.limits("12", 1000, 1, 10_000, 1, 100_000, 0)
	f.check(f.DeleteClient(f.ctx, "12"))
	f.agent()
	f.limits("12", 1000, 0, 10_000, 1, 100_000, 0)
}

func TestConcurrentRequestsDoNotExceedLimits(t *testing.T) {
	f := open(t)
	k := f.agent()
	_, err := f.SetLimits(f.ctx, "12", gen.ClientLimitsUpdate{AgentEvent: limitOf(10), Agent: limitOf(20)})
	f.check(err)
	var group sync.WaitGroup
	var events, agents, others atomic.Int64
	count := func(n *atomic.Int64, err error) {
		switch {
		case err == nil:
			n.Add(1)
		case !strings.Contains(err.Error(), " may have "):
			others.Add(1)
		}
	}
	for range 50 {
		group.Go(func() {
			_, err := f.CreateEvent(f.ctx, k,
				gen.AgentEventCreate{URL: crm, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin})
			count(&events, err)
		})
		group.Go(func() {
			name := "x"
			_, err := f.CreateAgent(f.ctx, store.AgentKey{Client: "12", Type: gen.AgentTypeRemote},
				store.AgentUpdate{Name: &name})
			count(&agents, err)
		})
	}
	group.Wait()
	if events.Load() != 10 || agents.Load() != 19 || others.Load() != 0 {
		t.Errorf("%d events and %d agents more were made; %d other errors", events.Load(), agents.Load(), others.Load())
	}
	f.limits("12", 10, 10, 20, 20, 100_000, 0)
}

func TestConcurrentRequestsDoNotExceedTheLimitOfAnAgent(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.setEventsPerAgent(10)
	var group sync.WaitGroup
	var events, others atomic.Int64
	for range 50 {
		group.Go(func() {
			_, err := f.CreateEvent(f.ctx, k,
				gen.AgentEventCreate{URL: crm, Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin})
			switch {
			case err == nil:
				events.Add(1)
			case !strings.Contains(err.Error(), "local agent 136 of client 12 may have 10 events"):
				others.Add(1)
			}
		})
	}
	group.Wait()
	if events.Load() != 10 || others.Load() != 0 {
		t.Errorf("%d events were made; %d other errors", events.Load(), others.Load())
	}
	f.limitEvents(10, 10)
}

func TestMigrationCountsAgentsAndEvents(t *testing.T) {
	pgtest.SQLiteOnly(t, "PostgreSQL had these columns from the start")
	f := open(t)
	f.createEvents(f.agent(), crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
	_, _, err := f.PutClient(f.ctx, "13", gen.ClientUpdate{})
	f.check(err)
	f.check(f.Close())
	db := f.db()
	older, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("internal/schema/migrations/sqlite"))
	f.check(err)
	_, err = older.DownTo(f.ctx, 6) // the version before 00007_limit.sql
	f.check(err)
	f.check(db.Close())
	f.open()
	f.limits("12", 1000, 2, 10_000, 1, 100_000, 0)
	f.limits("13", 1000, 0, 10_000, 0, 100_000, 0)
}
