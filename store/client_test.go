package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/benchfill"
	"github.com/agentevents/agentevents/webhook"
)

// withPast makes a client with a delivery that has failed, one that is pending, and an open replay, and deletes it.
func (f *fixture) withPast() store.AgentKey {
	f.t.Helper()
	k := f.agent()
	f.register(k, "http://user:s3cret@crm.example/?token=t0ken", both...)
	f.login(k)
	f.record(f.claimOne(), webhook.Failed, false)
	_, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
	f.check(err)
	f.check(f.DeleteClient(f.ctx, "12"))
	return k
}

// missing checks that something is not there.
func (f *fixture) missing(what string, err error) {
	f.t.Helper()
	var missing *store.Error
	if !errors.As(err, &missing) || missing.Kind != store.NotFound {
		f.t.Errorf("%s: %v", what, err)
	}
}

// Of a client that is deleted nothing is shown, and its replays end; what is owed is carried out.
func TestDeletedClient(t *testing.T) {
	f := open(t)
	k := f.withPast()
	_, err := f.Delivery(f.ctx, "12", 1)
	f.missing("a delivery", err)
	_, err = f.Redeliver(f.ctx, "12", 1)
	f.missing("to send it again", err)
	_, err = f.Deliveries(f.ctx, "12", store.DeliveryFilter{}, 0, 9)
	f.missing("the deliveries", err)
	_, err = f.Replay(f.ctx, "12", 1)
	f.missing("a replay", err)
	_, err = f.StatusChanges(f.ctx, "12", nil, "", 9)
	f.missing("the feed", err)
	_, err = f.AgentStatusChanges(f.ctx, k, 0, 9)
	f.missing("an agent's changes", err)
	f.check(f.ReplayAll(f.ctx))
	if d := f.claimOne(); d.ID != 2 {
		t.Errorf("owed is delivery %d", d.ID)
	} else {
		f.finish(d)
	}
	f.drained()
	f.clock.add(31 * 24 * time.Hour)
	f.check(f.PruneAll(f.ctx))
	for _, table := range []string{"secrets", "truncated", "status_changes", "deliveries", "attempts", "replays"} {
		if n := f.count("SELECT count(*) FROM " + table); n != 0 {
			t.Errorf("%d %s are left", n, table)
		}
	}
}

// A client sees nothing of one that had its id before.
func TestNewClientUnderAnOldID(t *testing.T) {
	f := open(t)
	k := f.withPast()
	f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	for _, filter := range []store.DeliveryFilter{
		{}, {State: gen.DeliveryStateFailed}, {AgentType: k.Type, AgentID: k.ID}, {EventID: 1}, {Since: f.clock.Now()},
	} {
		if seen := f.logged(filter, 0, 9); len(seen) > 0 {
			t.Errorf("%+v: %q", filter, seen)
		}
	}
	_, err := f.Delivery(f.ctx, "12", 1)
	f.missing("a delivery of before", err)
	_, err = f.Redeliver(f.ctx, "12", 1)
	f.missing("to send it again", err)
	replays, err := f.Replays(f.ctx, "12", 0, 9)
	f.check(err)
	feed, err := f.StatusChanges(f.ctx, "12", nil, "", 9)
	f.check(err)
	explained, err := f.AgentStatusChanges(f.ctx, k, 0, 9)
	f.check(err)
	if len(replays)+len(feed.Changes)+len(explained) > 0 {
		t.Errorf("of before: %+v, %+v, %+v", replays, feed, explained)
	}
	var truncated *store.Error
	if _, err := f.StatusChanges(f.ctx, "12", new(int64(1)), "", 9); !errors.As(err, &truncated) ||
		truncated.Kind != store.Truncated {
		t.Errorf("the feed after a change of before: %v", err)
	}
	r, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
	f.check(err)
	f.check(f.ReplayAll(f.ctx))
	if r = f.replay(r.ID); r.Total != 0 || r.Redelivered != 0 {
		t.Errorf("a replay: %+v", r)
	}
	f.login(k)
	for _, d := range f.claim() { // what the earlier client has pending, and what is new
		f.finish(d)
	}
	f.drained()
	if seen := f.logged(store.DeliveryFilter{}, 0, 9); len(seen) != 1 || len(f.feed("12", 2, 9)) != 1 {
		t.Errorf("its own: %q", seen)
	}
}

// A client with more agents than one transaction deletes: each that is available is logged out, once, and nothing is
// left.
func TestDeletedClientOfManyAgents(t *testing.T) {
	f := open(t)
	url := f.url
	f.check(f.Close())
	f.check(
		benchfill.Fill(f.ctx, url, benchfill.Size{Agents: 1000, Events: 1000, Deliveries: 1000}, f.clock.Now(),
			func(int, int) {}),
	)
	f.open()
	client := benchfill.Client(0)
	for id := range int64(400) {
		f.login(store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: id + 1})
	}
	f.check(f.DeleteClient(f.ctx, client))
	for table, want := range map[string]int{
		"clients": 0, "agents": 0, "agent_events": 0,
		"status_changes": 1000 + 400 + 400, "deliveries WHERE state = 'pending'": 400 + 400,
	} {
		if n := f.count("SELECT count(*) FROM " + table); n != want {
			t.Errorf("%d %s, want %d", n, table, want)
		}
	}
	f.missing("the client again", f.DeleteClient(f.ctx, client))
}
