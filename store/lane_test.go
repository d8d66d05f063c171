package store_test

import (
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

func TestLaneKeepsOrder(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, "http://crm.example/hook", gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
	f.login(k)
	f.logout(k)
	f.login(k)

	first := f.claimOne()
	f.claimNone() // one in flight
	second := f.record(first, webhook.Delivered, true)
	if second == nil || second.Sequence <= first.Sequence {
		t.Fatalf("second: %+v", second)
	}
	if f.record(*second, webhook.Retry, true) != nil {
		t.Fatal("went on past a delivery that is to be tried again")
	}
	f.claimNone() // the head waits, and so does what is behind it
	f.clock.add(5e9)
	again := f.claimOne()
	if again.ID != second.ID || again.Attempt != 2 || again.WebhookID != second.WebhookID {
		t.Fatalf("again: %+v, want %+v", again, second)
	}
	third := f.record(again, webhook.Failed, true)
	if third == nil || third.Sequence <= second.Sequence {
		t.Fatalf("third: %+v", third)
	}
	f.record(*third, webhook.Delivered, true)
	f.claimNone()
}
