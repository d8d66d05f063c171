package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// agentOf creates an agent of a client, with an event for each type, and returns its key.
func (f *fixture) agentOf(client string) store.AgentKey {
	f.t.Helper()
	k := store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: 136}
	_, _, err := f.PutClient(f.ctx, client, gen.ClientUpdate{})
	f.check(err)
	_, _, err = f.PutAgent(f.ctx, k, store.AgentUpdate{Name: &client})
	f.check(err)
	f.createEvents(k, crm, both...)
	return k
}

// pruneNow prunes a minute later.
func (f *fixture) pruneNow() {
	f.t.Helper()
	f.clock.add(time.Minute)
	f.check(f.PruneAll(f.ctx))
}

// wantKept checks the numbers of changes and of deliveries of a client.
func (f *fixture) wantKept(client string, changes, deliveries int) {
	f.t.Helper()
	for table, want := range map[string]int{"status_changes": changes, "deliveries": deliveries} {
		n := f.count(fmt.Sprintf("SELECT count(*) FROM %s WHERE client_id = '%s'", table, client))
		if n != want {
			f.t.Errorf("client %s has %d rows of %s, want %d", client, n, table, want)
		}
	}
}

// wantFeed checks that a client's feed begins at its first change, or that changes are no longer kept.
func (f *fixture) wantFeed(client string, truncated bool) {
	f.t.Helper()
	_, err := f.StatusChanges(f.ctx, client, new(int64(0)), "", 9)
	var refused *store.Error
	if is := errors.As(err, &refused) && refused.Kind == store.Truncated; is != truncated || !is && err != nil {
		f.t.Errorf("the feed of client %s from its begin: %v; want it truncated: %t", client, err, truncated)
	}
}

// A client that makes many changes shortens its own log and feed.
func TestClientDoesNotShortenTheLogOfAnother(t *testing.T) {
	f := open(t)
	f.keepRows = 100
	f.restart()
	quiet, busy := f.agentOf("12"), f.agentOf("13")
	f.changeStatus(quiet, 20)
	f.clock.add(time.Minute)
	f.changeStatus(busy, 300)
	f.pruneNow()
	f.wantKept("12", 20, 20)
	f.wantKept("13", 80, 80)
	f.wantFeed("12", false)
	f.wantFeed("13", true)
	f.verify()
}
