package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// erasedID is a number that nothing else in a store has.
const erasedID = 2718281828

// erasedName is the name of the agent to erase.
const erasedName = "Ada Lovelace 000*094@ringme.ru"

// statusOf is the status of an error of the store.
func statusOf(err error) string {
	if known, ok := errors.AsType[*store.Error](err); ok {
		return known.Status
	}
	return fmt.Sprint(err)
}

// agentToErase creates an agent whose name and number are unique, with an event of each type at two receivers.
func (f *fixture) agentToErase(kind gen.AgentType) store.AgentKey {
	f.t.Helper()
	_, _, err := f.PutClient(f.ctx, "12", gen.ClientUpdate{})
	f.check(err)
	k := store.AgentKey{Client: "12", Type: kind, ID: erasedID}
	for _, name := range []string{"renamed " + erasedName, erasedName} {
		_, _, err = f.PutAgent(f.ctx, k, store.AgentUpdate{Name: &name})
		f.check(err)
	}
	f.createEvents(k, crm, both...)
	f.createEvents(k, fmt.Sprint("https://other.example/hook?agent=", erasedID), both...)
	return k
}

// leaveTraces gives an agent deliveries in every state, with attempts whose answer has its name, a replay, a test
// delivery and a lane of an earlier client.
func (f *fixture) leaveTraces(k store.AgentKey) {
	f.t.Helper()
	f.login(k)
	f.check(f.DeleteClient(f.ctx, k.Client))
	f.agentToErase(k.Type)
	events := f.createEvents(k, "https://third.example/", both...)
	f.login(k)
	for i, verdict := range []webhook.Verdict{webhook.Delivered, webhook.Failed, webhook.Retry} {
		for j, d := range f.claim() {
			answer := webhook.Outcome{Attempt: webhook.Attempt{
				StartedAt: time.Now(), Verdict: verdict, Excerpt: "hello " + erasedName, Error: d.Data.AgentID,
			}}
			_, err := f.Record(f.ctx, d, answer, false)
			f.check(err)
			if i == 0 && j == 0 {
				f.login(k) // a repetition
			}
		}
		f.logout(k)
		f.login(k)
	}
	f.state(k, events[0], gen.AgentEventStateValueDisabled)
	f.check(f.DeleteEvent(f.ctx, k, events[1]))
	_, err := f.SaveTestDelivery(f.ctx, events[0], k.Type, webhook.Delivery{URL: crm}, webhook.Attempt{
		StartedAt: time.Now(), Verdict: webhook.Failed, Excerpt: erasedName,
	})
	f.check(err)
	_, _, err = f.CreateReplay(f.ctx, k.Client,
		store.DeliveryFilter{State: gen.DeliveryStateFailed, AgentType: k.Type, AgentID: k.ID})
	f.check(err)
	f.clock.add(leaseTime)
}

// wantNoTrace checks that neither the rows nor, on SQLite, the files have the agent's name or number.
func (f *fixture) wantNoTrace() {
	f.t.Helper()
	data := f.data()
	for _, text := range []string{"Ada Lovelace", fmt.Sprint(erasedID)} {
		if i := strings.Index(data, text); i >= 0 {
			f.t.Errorf("%q is in a row: %s", text, data[max(i-200, 0):i+50])
		}
	}
	if pgtest.OnPostgres() {
		return
	}
	for _, suffix := range []string{"", "-wal"} {
		file, err := os.ReadFile(strings.TrimPrefix(f.url, "sqlite:") + suffix)
		f.check(err)
		for what, trace := range map[string][]byte{
			"name": []byte("Ada Lovelace"), "number": binary.BigEndian.AppendUint32(nil, erasedID),
		} {
			if bytes.Contains(file, trace) {
				f.t.Errorf("the %s is in the file %q", what, suffix)
			}
		}
	}
}

// After an erasure nothing has the agent's name or number, and the rows of other agents are as before.
func TestErasureLeavesNoTrace(t *testing.T) {
	for _, kind := range []gen.AgentType{gen.AgentTypeLocal, gen.AgentTypeRemote} {
		t.Run(string(kind), func(t *testing.T) {
			f := open(t)
			other := f.agentOf("12")
			k := f.agentToErase(kind)
			f.leaveTraces(k)
			f.agentOf("12")
			f.login(other)
			f.check(f.DeleteAgent(f.ctx, k))
			before := f.count("SELECT count(*) FROM status_changes")
			erased, err := f.EraseAgent(f.ctx, k)
			f.check(err)
			f.wantNoTrace()
			f.wantKept("12", before-int(erased.StatusChanges), 1)
			if erased.StatusChanges != 10 || erased.Deliveries != 27 {
				t.Errorf("erased: %+v", erased)
			}
			f.verify()
			f.check(f.PruneAll(f.ctx))
			f.verify()
			if _, err := f.EraseAgent(f.ctx, k); statusOf(err) != "agent_not_found" {
				t.Errorf("again: %v", err)
			}
			f.agentToErase(kind)
			f.login(k)
			f.verify()
		})
	}
}

// An agent that exists is not erased: its deletion is a request of its own, whose logout receivers get.
func TestErasureNeedsADeletedAgent(t *testing.T) {
	f := open(t)
	k := f.agentToErase(gen.AgentTypeLocal)
	f.login(k)
	before := f.data()
	if _, err := f.EraseAgent(f.ctx, k); statusOf(err) != "agent_exists" {
		t.Errorf("the agent exists: %v", err)
	}
	k.Client = "13"
	if _, err := f.EraseAgent(f.ctx, k); statusOf(err) != "client_not_found" {
		t.Errorf("no client: %v", err)
	}
	if f.data() != before {
		t.Error("rows have changed")
	}
}

// A delivery in flight is cancelled, and its row stays until its result or the end of its lease.
func TestErasureWaitsForADeliveryInFlight(t *testing.T) {
	f := open(t)
	k := f.agentToErase(gen.AgentTypeLocal)
	f.login(k)
	flying := f.claim()
	f.check(f.DeleteAgent(f.ctx, k))
	if _, err := f.EraseAgent(f.ctx, k); statusOf(err) != "not_ended" {
		t.Fatalf("in flight: %v", err)
	}
	f.verify()
	f.record(flying[0], webhook.Delivered, true)
	if _, err := f.EraseAgent(f.ctx, k); statusOf(err) != "not_ended" {
		t.Fatalf("one in flight: %v", err)
	}
	f.clock.add(leaseTime)
	_, err := f.EraseAgent(f.ctx, k)
	f.check(err)
	f.wantNoTrace()
	f.record(flying[1], webhook.Delivered, true) // too late
	f.claimNone()
	f.wantDrained()
	f.wantNoTrace()
}

// Before the erasure has its lock, a delivery may be redelivered into another lane, and be in flight there.
func TestErasureFindsADeliveryThatMovesBeforeTheLock(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has one writer")
	f := open(t)
	k := f.agentToErase(gen.AgentTypeLocal)
	third := f.createEvents(k, "https://third.example/", gen.EventTypeAgentLogin)[0]
	lane := f.count("SELECT lane_id FROM agent_events WHERE id = " + fmt.Sprint(third))
	f.check(f.DeleteEvent(f.ctx, k, third))
	f.login(k)
	claimed := f.claim()
	moves := claimed[0]
	for _, d := range claimed {
		f.record(d, webhook.Failed, false)
	}
	f.check(f.DeleteAgent(f.ctx, k))
	f.WatchStatements(func(_ bool, text string) {
		if strings.HasPrefix(text, "SELECT id FROM lanes WHERE") && lane > 0 {
			f.exec(fmt.Sprintf("UPDATE deliveries SET state = 'pending', finished_at = NULL, lane_id = %d "+
				"WHERE id = %d; UPDATE lanes SET pending = 1, claim = claim + 1, lease_until = %d, due_at = %[3]d, "+
				"delivery_id = %[2]d WHERE id = %[1]d", lane, moves.ID, f.clock.Now().Add(leaseTime).UnixMilli()))
			lane = 0
		}
	})
	if _, err := f.EraseAgent(f.ctx, k); statusOf(err) != "not_ended" {
		t.Errorf("in flight in another lane: %v", err)
	}
	f.clock.add(leaseTime)
	_, err := f.EraseAgent(f.ctx, k)
	f.check(err)
	f.verify()
}

// The changes of an agent may name more events than a statement has parameters.
func TestErasureOfManyEvents(t *testing.T) {
	f := open(t)
	k := f.agentToErase(gen.AgentTypeLocal)
	f.login(k)
	f.check(f.DeleteAgent(f.ctx, k))
	var events strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&events, "%d,", i+1000)
	}
	f.exec("UPDATE status_changes SET skipped = '" + events.String() + "1'")
	_, err := f.EraseAgent(f.ctx, k)
	f.check(err)
	f.wantNoTrace()
}

// An erasure that was interrupted is completed by the next one.
func TestErasureIsRepeatable(t *testing.T) {
	f := open(t)
	k := f.agentToErase(gen.AgentTypeLocal)
	f.changeStatus(k, 150)
	f.check(f.DeleteAgent(f.ctx, k))
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	commits := 0
	f.WatchStatements(func(_ bool, text string) {
		if strings.HasPrefix(text, "DELETE FROM deliveries") {
			if commits++; commits == 1 {
				cancel()
			}
		}
	})
	if _, err := f.EraseAgent(ctx, k); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	f.verify()
	if n := f.count("SELECT count(*) FROM deliveries"); n != 100 {
		t.Errorf("%d deliveries are left, want those beyond one commit", n)
	}
	f.crash()
	erased, err := f.EraseAgent(f.ctx, k)
	f.check(err)
	if erased.StatusChanges != 150 || erased.Deliveries != 100 {
		t.Errorf("the second call has erased %+v", erased)
	}
	f.wantNoTrace()
	f.verify()
}
