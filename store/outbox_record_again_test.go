package store_test

import (
	"testing"

	"github.com/agentevents/agentevents/webhook"
)

// A commit without an answer is repeated. Whether the first commit succeeded or not, the attempt is stored once and
// counts as one failure.
func TestRepeatedRecordCountsOnce(t *testing.T) {
	for name, keepLane := range map[string]bool{"keeps the lane": true, "releases the lane": false} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			f.createEvents(f.agent(), "http://receiver.example/", "agent-login", "agent-logout")
			k := f.agentN(136)
			f.login(k)
			f.logout(k)
			d := f.claimOne()
			o := webhook.Outcome{
				Attempt: webhook.Attempt{StartedAt: f.clock.Now(), Status: 500, Verdict: webhook.Retry}, Delay: 1,
			}
			for range 3 {
				_, err := f.Record(f.ctx, d, o, keepLane)
				f.check(err)
			}
			equalCount(f, "SELECT count(*) FROM attempts", 1)
			equalCount(f, "SELECT failures FROM receivers", 1)
			f.clock.add(o.Delay)
			d = f.claimOne()
			if d.Attempt != 2 {
				t.Errorf("it is attempt %d", d.Attempt)
			}
			o = webhook.Outcome{
				Attempt: webhook.Attempt{StartedAt: f.clock.Now(), Status: 200, Verdict: webhook.Delivered},
			}
			for range 3 {
				_, err := f.Record(f.ctx, d, o, keepLane)
				f.check(err)
			}
			equalCount(f, "SELECT count(*) FROM attempts", 2)
			f.finish(f.claimOne())
			f.wantDrained()
			f.verify()
		})
	}
}

func equalCount(f *fixture, query string, want int) {
	f.t.Helper()
	if n := f.count(query); n != want {
		f.t.Errorf("%s: %d, want %d", query, n, want)
	}
}
