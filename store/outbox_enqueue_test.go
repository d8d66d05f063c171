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

// offered notes what is handed out by changes, as long as it has room.
type offered struct {
	room      int
	delivered []webhook.Delivery
	released  atomic.Int64
}

func (f *fixture) offer(room int) *offered {
	o := &offered{room: room}
	f.SetHandoff(&webhook.Handoff{
		Take: func(int64) bool {
			o.room--
			return o.room >= 0
		},
		Deliver: func(d webhook.Delivery) { o.delivered = append(o.delivered, d) },
		Release: func(int64) { o.released.Add(1) },
	})
	return o
}

// What a change hands out is what a claim would.
func TestHandedOutByAChange(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogin)
	o := f.offer(1)
	f.login(k)
	if len(o.delivered) != 1 {
		t.Fatalf("%d were handed out, want 1", len(o.delivered))
	}
	got := o.delivered[0]
	if !got.More || time.Until(got.Lease) > leaseTime {
		t.Errorf("handed out was %+v", got)
	}
	f.claimNone()
	f.check(f.Release(f.ctx, got))
	want := f.claimOne()
	if want.Claim != got.Claim+1 {
		t.Errorf("claim %d follows %d", want.Claim, got.Claim)
	}
	got.Claim, got.Lease = want.Claim, want.Lease
	if !equalInt64(got, want) {
		t.Errorf("handed out was %+v, and by a claim %+v", got, want)
	}
	next := f.record(want, webhook.Delivered, true)
	if next == nil || next.More {
		t.Fatalf("next is %+v", next)
	}
	f.finish(*next)
	f.drained()
}

func equalInt64(a, b webhook.Delivery) bool {
	secrets := slices.Equal(a.Secrets, b.Secrets)
	a.Secrets, b.Secrets = nil, nil
	return secrets && a.ID == b.ID && a.WebhookID == b.WebhookID && a.Lane == b.Lane && a.Receiver == b.Receiver &&
		a.URL == b.URL &&
		a.Method == b.Method && a.EventType == b.EventType && a.Sequence == b.Sequence && a.Epoch == b.Epoch &&
		a.Epoch != "" &&
		a.ChangedAt.Equal(b.ChangedAt) && a.CreatedAt.Equal(b.CreatedAt) && a.Attempt == b.Attempt &&
		a.Replay == b.Replay &&
		a.Replays == b.Replays && a.More == b.More && a.Data == b.Data && a.Traceparent == b.Traceparent
}

// What must not go out yet, or not before others, is left to a claim.
func TestNotHandedOutByAChange(t *testing.T) {
	for name, before := range map[string]func(*fixture, store.AgentKey) *offered{
		"no room": func(f *fixture, _ store.AgentKey) *offered { return f.offer(0) },
		"one is pending before": func(f *fixture, k store.AgentKey) *offered {
			f.login(k)
			f.logout(k)
			return f.offer(9)
		},
		"one is in flight before": func(f *fixture, k store.AgentKey) *offered {
			f.login(k)
			f.claimOne()
			f.logout(k)
			return f.offer(9)
		},
		"another is due there": func(f *fixture, _ store.AgentKey) *offered {
			other := f.agentN(4711)
			f.register(other, crm, gen.EventTypeAgentLogin)
			f.login(other)
			return f.offer(9)
		},
		"the receiver waits": func(f *fixture, k store.AgentKey) *offered {
			f.login(k)
			_, err := f.Record(f.ctx, f.claimOne(), webhook.Outcome{
				Attempt: webhook.Attempt{StartedAt: f.clock.Now(), Status: 429, Verdict: webhook.Failed},
				Delay:   time.Hour,
			}, false)
			f.check(err)
			f.logout(k)
			return f.offer(9)
		},
		"its event is disabled": func(f *fixture, k store.AgentKey) *offered {
			f.state(k, 1, gen.AgentEventStateValueDisabled)
			return f.offer(9)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			k := f.agent()
			f.register(k, crm, gen.EventTypeAgentLogin)
			o := before(f, k)
			f.login(k)
			if len(o.delivered) > 0 || o.released.Load() > 0 {
				t.Errorf("handed out was %+v", o.delivered)
			}
		})
	}
}

// What fails hands out nothing, and gives back the room.
func TestNotHandedOutWhenItFails(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	o := f.offer(1)
	taken := false
	f.BeforeStatements(func() error {
		if o.room == 0 && !taken {
			taken = true
			return brokenDisk()
		}
		return nil
	})
	_, err := f.SetStatus(f.ctx, k, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	var trouble *store.Error
	if !errors.As(err, &trouble) || trouble.Kind != store.Unavailable {
		t.Fatalf("the error is %v", err)
	}
	if len(o.delivered) != 0 || o.released.Load() != 1 {
		t.Errorf("%d were handed out, %d given back", len(o.delivered), o.released.Load())
	}
	if n := f.count("SELECT count(*) FROM lanes WHERE claim > 0 OR pending > 0"); n != 0 {
		t.Errorf("%d lanes have changed", n)
	}
}
