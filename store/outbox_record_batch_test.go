package store_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// A success between failures resets the count, even if all results are recorded in one transaction.
func TestSuccessInABatchResetsTheFailures(t *testing.T) {
	f := open(t)
	f.agent()
	var keys []store.AgentKey
	for id := range int64(24) {
		k := f.agentN(id + 1)
		f.createEvents(k, crm, gen.EventTypeAgentLogin)
		keys = append(keys, k)
	}
	for _, k := range keys {
		f.login(k)
	}
	claimed := f.claim()
	var all sync.WaitGroup
	for i, d := range claimed {
		o := webhook.Outcome{
			Attempt: webhook.Attempt{StartedAt: f.clock.Now(), Status: 200, Verdict: webhook.Delivered},
		}
		if i%4 == 3 {
			o = webhook.Outcome{
				Attempt: webhook.Attempt{StartedAt: f.clock.Now(), Status: 500, Verdict: webhook.Retry}, Delay: 1,
			}
		}
		all.Go(func() {
			if _, err := f.Record(f.ctx, d, o, true); err != nil {
				t.Error(err)
			}
		})
		if i%4 == 3 { // keeps the order of the batches
			all.Wait()
		}
	}
	all.Wait()
	if n := f.count("SELECT failures FROM receivers"); n > 1 {
		t.Errorf("%d failures in a row, with successes between any two", n)
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
