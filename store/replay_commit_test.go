package store_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// A transaction of a replay has at most 10 redeliveries, because other writes wait for it.
func TestReplayIsCommittedInSmallParts(t *testing.T) {
	f := open(t)
	k := f.agentsWith("12", 25)[0]
	f.login(k)
	for {
		claimed := f.claim()
		if len(claimed) == 0 {
			break
		}
		f.record(claimed[0], webhook.Failed, false)
	}
	_, _, err := f.CreateReplay(f.ctx, "12", store.DeliveryFilter{State: gen.DeliveryStateFailed})
	f.check(err)
	var mu sync.Mutex
	var parts []int
	f.WatchStatements(func(writes bool, statement string) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case !writes:
		case strings.HasPrefix(statement, "UPDATE deliveries SET state = 'parked'"):
			parts[len(parts)-1]++
		case strings.Contains(statement, "AND EXISTS (SELECT 1 FROM replays"):
			parts = append(parts, 0)
		}
	})
	f.work(func() bool { return f.replay(1).State == "finished" })
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(parts, []int{10, 10, 5}) {
		t.Errorf("redeliveries of the transactions: %v", parts)
	}
}
