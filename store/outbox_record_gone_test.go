package store_test

import (
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// The receivers of a client answer many deliveries with 410. These results take turns with those of another client, and
// only one of them is with the writer at a time, so that other writes do not wait for all of them.
func TestClientsTakeTurnsWithGone(t *testing.T) {
	f := open(t)
	many, quiet := f.agentsWith("12", 1, 1, 1, 1), f.agentsWith("13", 1)
	for _, k := range append(many, quiet...) {
		f.login(k)
	}
	claimed := map[string][]webhook.Delivery{}
	for _, d := range f.claim() {
		claimed[d.Client] = append(claimed[d.Client], d)
	}
	if len(claimed["12"]) != 4 || len(claimed["13"]) != 1 {
		t.Fatalf("claimed: %+v", claimed)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	var first sync.Once
	f.WatchStatements(func(writes bool, statement string) {
		if writes && strings.Contains(statement, "INSERT INTO attempts") {
			first.Do(func() { close(entered); <-leave })
		}
	})
	var all sync.WaitGroup
	record := func(d webhook.Delivery) {
		o := webhook.Outcome{Attempt: webhook.Attempt{StartedAt: f.clock.Now(), Status: 410, Verdict: webhook.Gone}}
		all.Go(func() {
			if _, err := f.Record(f.ctx, d, o, false); err != nil {
				t.Error(err)
			}
		})
	}
	record(claimed["12"][0])
	<-entered
	for i, d := range append(claimed["12"][1:], claimed["13"]...) {
		record(d)
		for f.GoneWaiting() != i+1 {
			runtime.Gosched()
		}
	}
	close(leave)
	all.Wait()
	if n := f.count("SELECT count(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id " +
		"WHERE d.client_id = '13' AND a.id = (SELECT min(id) + 1 FROM attempts)"); n != 1 {
		t.Error("the result of the other client is not the second one")
	}
	for _, k := range append(many, quiet...) {
		f.wantAllDisabled(k)
	}
}

// wantAllDisabled checks that each event of an agent is disabled.
func (f *fixture) wantAllDisabled(k store.AgentKey) {
	f.t.Helper()
	events, err := f.Events(f.ctx, k, 0, 0)
	f.check(err)
	for _, e := range events {
		if st, err := f.EventState(f.ctx, k, e.ID); err != nil || st.State != gen.AgentEventStateValueDisabled {
			f.t.Errorf("event %d: %+v, %v", e.ID, st, err)
		}
	}
}
