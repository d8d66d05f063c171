package store_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// handoffs records the deliveries that changes hand off, as long as there is room.
type handoffs struct {
	room      int
	delivered []webhook.Delivery
	released  atomic.Int64
}

func (f *fixture) acceptHandoffs(room int) *handoffs {
	o := &handoffs{room: room}
	f.SetHandoff(&webhook.HandoffFuncs{
		Take: func(string, int64) bool {
			o.room--
			return o.room >= 0
		},
		Deliver:     func(d webhook.Delivery) { o.delivered = append(o.delivered, d) },
		ReleaseSlot: func(int64) { o.released.Add(1) },
	})
	return o
}

func TestHandoffEqualsAClaim(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogin)
	o := f.acceptHandoffs(1)
	f.login(k)
	if len(o.delivered) != 1 {
		t.Fatalf("%d were handed off, want 1", len(o.delivered))
	}
	got := o.delivered[0]
	if !got.HasSuccessor || time.Until(got.Lease) > leaseTime {
		t.Errorf("the handoff is %+v", got)
	}
	f.claimNone()
	f.check(f.Release(f.ctx, got))
	want := f.claimOne()
	if want.Claim != got.Claim+1 {
		t.Errorf("claim %d follows %d", want.Claim, got.Claim)
	}
	got.Claim, got.Lease = want.Claim, want.Lease
	if !equalDelivery(got, want) {
		t.Errorf("the handoff is %+v, and the claim %+v", got, want)
	}
	next := f.record(want, webhook.Delivered, true)
	if next == nil || next.HasSuccessor {
		t.Fatalf("next is %+v", next)
	}
	f.finish(*next)
	f.wantDrained()
}

func equalDelivery(a, b webhook.Delivery) bool {
	secrets := slices.Equal(a.Secrets, b.Secrets)
	a.Secrets, b.Secrets = nil, nil
	return secrets && a.ID == b.ID && a.WebhookID == b.WebhookID && a.Lane == b.Lane && a.Receiver == b.Receiver &&
		a.URL == b.URL &&
		a.Method == b.Method && a.EventType == b.EventType && a.Sequence == b.Sequence && a.Epoch == b.Epoch &&
		a.Epoch != "" &&
		a.ChangedAt.Equal(b.ChangedAt) && a.CreatedAt.Equal(b.CreatedAt) && a.Attempt == b.Attempt &&
		a.Redelivery == b.Redelivery &&
		a.Redeliveries == b.Redeliveries && a.HasSuccessor == b.HasSuccessor &&
		a.Data == b.Data && a.Traceparent == b.Traceparent
}

// A delivery that must wait, or be sent after others, is not handed off.
func TestDeliveryThatMustWaitIsNotHandedOff(t *testing.T) {
	for name, before := range map[string]func(*fixture, store.AgentKey) *handoffs{
		"no room": func(f *fixture, _ store.AgentKey) *handoffs { return f.acceptHandoffs(0) },
		"an earlier delivery is pending": func(f *fixture, k store.AgentKey) *handoffs {
			f.login(k)
			f.logout(k)
			return f.acceptHandoffs(9)
		},
		"an earlier delivery is in flight": func(f *fixture, k store.AgentKey) *handoffs {
			f.login(k)
			f.claimOne()
			f.logout(k)
			return f.acceptHandoffs(9)
		},
		"another lane is due at the receiver": func(f *fixture, _ store.AgentKey) *handoffs {
			other := f.agentN(4711)
			f.createEvents(other, crm, gen.EventTypeAgentLogin)
			f.login(other)
			return f.acceptHandoffs(9)
		},
		"the receiver waits": func(f *fixture, k store.AgentKey) *handoffs {
			f.login(k)
			_, err := f.Record(f.ctx, f.claimOne(), webhook.Outcome{
				Attempt: webhook.Attempt{StartedAt: f.clock.Now(), Status: 429, Verdict: webhook.Failed},
				Delay:   time.Hour,
			}, false)
			f.check(err)
			f.logout(k)
			return f.acceptHandoffs(9)
		},
		"its event is disabled": func(f *fixture, k store.AgentKey) *handoffs {
			f.state(k, 1, gen.AgentEventStateValueDisabled)
			return f.acceptHandoffs(9)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			k := f.agent()
			f.createEvents(k, crm, gen.EventTypeAgentLogin)
			o := before(f, k)
			f.login(k)
			if len(o.delivered) > 0 || o.released.Load() > 0 {
				t.Errorf("handed off: %+v", o.delivered)
			}
		})
	}
}

// After a failed commit, the slot of the dispatcher is released.
func TestFailedChangeHandsNothingOff(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	o := f.acceptHandoffs(1)
	taken := false
	f.BeforeStatements(func() error {
		if o.room == 0 && !taken {
			taken = true
			return brokenDisk()
		}
		return nil
	})
	_, err := f.SetStatus(f.ctx, k, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	var failure *store.Error
	if !errors.As(err, &failure) || failure.Kind != store.Unavailable {
		t.Fatalf("the error is %v", err)
	}
	if len(o.delivered) != 0 || o.released.Load() != 1 {
		t.Errorf("%d were handed off, %d released", len(o.delivered), o.released.Load())
	}
	if n := f.count("SELECT count(*) FROM lanes WHERE claim > 0 OR pending > 0"); n != 0 {
		t.Errorf("%d lanes have changed", n)
	}
}
