package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

func (f *fixture) feed(client string, after int64, limit int) (sequences []int64) {
	f.t.Helper()
	page, err := f.StatusChanges(f.ctx, client, &after, "", limit)
	f.check(err)
	for _, c := range page.Changes {
		sequences = append(sequences, c.Sequence)
	}
	return sequences
}

func TestFeedHasAClientsChangesInOrder(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createLanes("13", 1, 1, crm) // change 1 belongs to another client
	f.login(k)
	f.logout(k)
	f.login(k)
	for after, want := range map[int64]string{0: "[2 3]", 2: "[3 4]", 3: "[4]", 4: "[]", 99: "[]"} {
		if got := fmt.Sprint(f.feed("12", after, 2)); got != want {
			t.Errorf("after %d: %s, want %s", after, got, want)
		}
	}
	page, err := f.StatusChanges(f.ctx, "12", nil, "", 1)
	f.check(err)
	c := page.Changes[0]
	if c.Sequence != 2 || c.OldStatus != "logged_out" || c.AgentStatus != "available" || c.AgentID != 136 ||
		c.Name != "000*094@ringme.ru" {
		t.Errorf("change: %+v", c)
	}
}

// A request that calls NextChange at the deletion of the client does not wait for ever.
func TestDeletedClientNotifiesItsFeed(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.check(f.DeleteClient(f.ctx, k.Client))
	next := f.NextChange(k.Client)
	if _, err := f.StatusChanges(f.ctx, k.Client, nil, "", 9); err == nil {
		t.Error("a deleted client has changes")
	}
	select {
	case <-next:
	default:
		t.Error("the request still waits")
	}
}

func TestTruncatedFeedReturnsTheOldestNumber(t *testing.T) {
	f := open(t)
	k := f.agent()
	for range 3 {
		f.login(k)
		f.logout(k)
	}
	f.sql("DELETE FROM status_changes WHERE id <= 4")
	f.sql("INSERT INTO truncated VALUES ('12', 4)")
	var gone *store.Error
	if _, err := f.StatusChanges(f.ctx, "12", new(int64(3)), "", 9); !errors.As(err, &gone) ||
		gone.Kind != store.Truncated ||
		gone.Oldest != 5 || !strings.Contains(gone.Message, "the oldest one is 5") {
		t.Errorf("after 3: %+v", err)
	}
	if got := fmt.Sprint(f.feed("12", 4, 9)); got != "[5 6]" {
		t.Errorf("after 4: %s", got)
	}
	page, err := f.StatusChanges(f.ctx, "12", nil, "", 9)
	if err != nil || len(page.Changes) != 2 {
		t.Errorf("from the beginning: %+v, %v", page, err)
	}
}

// A caller that gets the channel before it reads the changes misses none.
func TestNextChangeIsClosedAtEachChange(t *testing.T) {
	f := open(t)
	k := f.agent()
	closed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	next, other := f.NextChange("12"), f.NextChange("13")
	f.logout(k)
	if closed(next) {
		t.Error("the channel was closed without a change")
	}
	f.login(k)
	if !closed(next) || closed(other) {
		t.Errorf("after a change: %t, and of another client: %t", closed(next), closed(other))
	}
	next = f.NextChange("12")
	f.check(f.DeleteAgent(f.ctx, k))
	if !closed(next) {
		t.Error("the deletion of an agent that was available is a change")
	}
}

func TestChangeExplainsItsEvents(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.login(k)
	ids := f.createEvents(k, crm, both...)
	f.state(k, f.createEvents(k, board, gen.EventTypeAgentLogout)[0], gen.AgentEventStateValueDisabled)
	f.logout(k)
	f.logout(k)
	f.logout(k)
	f.check(f.DeleteEvent(f.ctx, k, ids[0]))
	explained := func() (lines []string) {
		list, _, err := f.AgentStatusChanges(f.ctx, k, 0, 10)
		f.check(err)
		for _, c := range list {
			line := fmt.Sprint(c.Change.Sequence, " ", c.Change.AgentStatus)
			for _, e := range c.Events {
				line += fmt.Sprintf("; %d %s %d %s", e.EventID, e.Outcome, e.DeliveryID, e.DeliveryState)
			}
			if c.Repeated != nil {
				line += fmt.Sprint("; repeated ", c.Repeated.Times)
			}
			lines = append(lines, line)
		}
		return lines
	}
	want := []string{"2 logged_out; 2 fired 1 pending; 3 parked 2 parked; 1 not_fired 0 ; repeated 2", "1 available"}
	if got := explained(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", got, want)
	}
	f.work(func() bool { return f.count("SELECT sum(repeated) FROM status_changes") == 2 })
	f.restart()
	f.logout(k)
	want[0] = strings.Replace(want[0], "repeated 2", "repeated 3", 1)
	if got := explained(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after a restart: %q, want %q", got, want)
	}
}

// The explanation lasts as long as the change, even after its deliveries are pruned.
func TestExplanationOutlivesDeliveries(t *testing.T) {
	f := open(t)
	f.keepRows = 1
	f.restart()
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	disabled := f.createEvents(k, board, gen.EventTypeAgentLogin)[0]
	f.state(k, disabled, gen.AgentEventStateValueDisabled)
	f.createEvents(k, "http://wages.example/hook", both...)
	f.login(k)
	f.state(k, disabled, gen.AgentEventStateValueEnabled)
	for _, d := range f.claim() {
		f.finish(d)
	}
	f.clock.add(time.Minute)
	f.work(func() bool { return f.count("SELECT count(*) FROM deliveries") == 1 })
	list, _, err := f.AgentStatusChanges(f.ctx, k, 0, 10)
	f.check(err)
	const fired, lost = "fired: the event is for this type, agent-login", "; its delivery is no longer kept"
	want := map[int64]string{
		1: fired + lost, 2: fired + ", but was disabled then" + lost, 3: fired,
		4: "not_fired: the event is for the other type, agent-logout",
	}
	for i, e := range list[0].Events {
		if got := fmt.Sprintf("%s: %s", e.Outcome, e.Reason); e.EventID != int64(i+1) || got != want[e.EventID] ||
			(e.DeliveryID == 0) != (e.EventID != 3) {
			t.Errorf("event %d: %s, delivery %d; want %s", e.EventID, got, e.DeliveryID, want[e.EventID])
		}
	}
	if len(list[0].Events) != len(want) {
		t.Errorf("%d events are explained, want %d", len(list[0].Events), len(want))
	}
	f.verify()
}

// Small commits do not block the writer for long.
func TestRepeatsAreWrittenInParts(t *testing.T) {
	f := open(t)
	f.agent()
	const n = 350
	var login, again []gen.AgentStatusUpdateItem
	for id := int64(1); id <= n; id++ {
		f.agentN(id)
		login = append(login, gen.AgentStatusUpdateItem{
			AgentType: gen.AgentTypeLocal, AgentID: id, AgentStatus: gen.AgentStatusValueAvailable,
		})
		again = append(again, login[id-1])
	}
	for _, items := range [][]gen.AgentStatusUpdateItem{login, again} {
		_, err := f.SetStatuses(f.ctx, "12", items)
		f.check(err)
	}
	left := 200
	f.BeforeStatements(func() error {
		if left--; left == 0 {
			return errors.New("disk I/O error")
		}
		return nil
	})
	if err := f.WriteRepeats(f.ctx); err == nil {
		t.Fatal("no error")
	}
	if written := f.count("SELECT sum(repeated) FROM status_changes"); written == 0 || written > 200 {
		t.Errorf("%d of %d repeats were written before the failure", written, n)
	}
	f.check(f.WriteRepeats(f.ctx))
	if written := f.count("SELECT sum(repeated) FROM status_changes"); written != n ||
		f.count("SELECT max(repeated) FROM status_changes") != 1 {
		t.Errorf("%d of %d repeats are written in the end", written, n)
	}
}

// count queries a number.
func (f *fixture) count(query string) (n int) {
	f.t.Helper()
	db := f.db()
	defer db.Close()
	f.check(db.QueryRow(query).Scan(&n))
	return n
}
