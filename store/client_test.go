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

// deletedClient creates a client with a failed delivery, a pending one and an unfinished replay, and deletes it.
func (f *fixture) deletedClient() store.AgentKey {
	f.t.Helper()
	k := f.agent()
	f.createEvents(k, "http://user:s3cret@crm.example/?token=t0ken", both...)
	f.login(k)
	f.record(f.claimOne(), webhook.Failed, false)
	_, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
	f.check(err)
	f.check(f.DeleteClient(f.ctx, "12"))
	return k
}

// wantNotFound checks that a resource does not exist.
func (f *fixture) wantNotFound(what string, err error) {
	f.t.Helper()
	var missing *store.Error
	if !errors.As(err, &missing) || missing.Kind != store.NotFound {
		f.t.Errorf("%s: %v", what, err)
	}
}

// Its pending deliveries are sent, and its replays end.
func TestDeletedClientShowsNothing(t *testing.T) {
	f := open(t)
	k := f.deletedClient()
	_, err := f.Delivery(f.ctx, "12", 1)
	f.wantNotFound("a delivery", err)
	_, err = f.Redeliver(f.ctx, "12", 1)
	f.wantNotFound("a redelivery", err)
	_, err = f.Deliveries(f.ctx, "12", store.DeliveryFilter{}, 0, 9)
	f.wantNotFound("the deliveries", err)
	_, err = f.Replay(f.ctx, "12", 1)
	f.wantNotFound("a replay", err)
	_, err = f.StatusChanges(f.ctx, "12", nil, "", 9)
	f.wantNotFound("the feed", err)
	_, _, err = f.AgentStatusChanges(f.ctx, k, 0, 9)
	f.wantNotFound("an agent's changes", err)
	f.check(f.ReplayAll(f.ctx))
	if d := f.claimOne(); d.ID != 2 {
		t.Errorf("delivery %d is claimed", d.ID)
	} else {
		f.finish(d)
	}
	f.wantDrained()
	f.clock.add(31 * 24 * time.Hour)
	f.check(f.PruneAll(f.ctx))
	for _, table := range []string{"secrets", "truncated", "status_changes", "deliveries", "attempts", "replays"} {
		if n := f.count("SELECT count(*) FROM " + table); n != 0 {
			t.Errorf("%d %s are left", n, table)
		}
	}
}

func TestNewClientSeesNothingOfAnEarlierOne(t *testing.T) {
	f := open(t)
	k := f.deletedClient()
	f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	for _, filter := range []store.DeliveryFilter{
		{}, {State: gen.DeliveryStateFailed}, {AgentType: k.Type, AgentID: k.ID}, {EventID: 1}, {Since: f.clock.Now()},
	} {
		if seen := f.listDeliveries(filter, 0, 9); len(seen) > 0 {
			t.Errorf("%+v: %q", filter, seen)
		}
	}
	_, err := f.Delivery(f.ctx, "12", 1)
	f.wantNotFound("an earlier delivery", err)
	_, err = f.Redeliver(f.ctx, "12", 1)
	f.wantNotFound("a redelivery", err)
	replays, err := f.Replays(f.ctx, "12", 0, 9)
	f.check(err)
	feed, err := f.StatusChanges(f.ctx, "12", nil, "", 9)
	f.check(err)
	explained, _, err := f.AgentStatusChanges(f.ctx, k, 0, 9)
	f.check(err)
	if len(replays)+len(feed.Changes)+len(explained) > 0 {
		t.Errorf("of the earlier client: %+v, %+v, %+v", replays, feed, explained)
	}
	var truncated *store.Error
	if _, err := f.StatusChanges(f.ctx, "12", new(int64(1)), "", 9); !errors.As(err, &truncated) ||
		truncated.Kind != store.Truncated {
		t.Errorf("the feed after an earlier change: %v", err)
	}
	r, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
	f.check(err)
	f.check(f.ReplayAll(f.ctx))
	if r = f.replay(r.ID); r.Total != 0 || r.Redelivered != 0 {
		t.Errorf("a replay: %+v", r)
	}
	f.login(k)
	for _, d := range f.claim() { // a pending delivery of the earlier client, and a new one
		f.finish(d)
	}
	f.wantDrained()
	if seen := f.listDeliveries(store.DeliveryFilter{}, 0, 9); len(seen) != 1 || len(f.feed("12", 2, 9)) != 1 {
		t.Errorf("its own: %q", seen)
	}
}

// The agents take more than one transaction. Each available agent is logged out once.
func TestClientWithManyAgentsIsDeletedCompletely(t *testing.T) {
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
	f.wantNotFound("a second deletion", f.DeleteClient(f.ctx, client))
}
