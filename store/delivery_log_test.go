package store_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// listDeliveries lists a client's deliveries of a filter as "id state".
func (f *fixture) listDeliveries(filter store.DeliveryFilter, before int64, limit int) (found []string) {
	f.t.Helper()
	list, err := f.Deliveries(f.ctx, "12", filter, before, limit)
	f.check(err)
	for _, d := range list {
		found = append(found, fmt.Sprint(d.ID, " ", d.State))
	}
	return found
}

func TestDeliveriesAreFiltered(t *testing.T) {
	f := openWithEverything(t) // 1 delivered, 2 and 3 pending, 4 in flight, 5 failed, 6 parked
	other := f.agentN(7)
	f.clock.add(time.Hour)
	f.createEvents(other, crm, gen.EventTypeAgentLogin)
	f.login(other) // 7
	morning, noon := newClock().now, newClock().now.Add(time.Hour)
	for name, c := range map[string]struct {
		filter store.DeliveryFilter
		before int64
		limit  int
		want   string
	}{
		"all": {
			store.DeliveryFilter{}, 0, 100, "7 pending,6 parked,5 failed,4 pending,3 pending,2 pending,1 delivered",
		},
		"a page": {store.DeliveryFilter{}, 6, 2, "5 failed,4 pending"},
		"pending": {
			store.DeliveryFilter{State: gen.DeliveryStatePending}, 0, 3, "7 pending,4 pending,3 pending",
		},
		"parked":           {store.DeliveryFilter{State: gen.DeliveryStateParked}, 0, 9, "6 parked"},
		"failed":           {store.DeliveryFilter{State: gen.DeliveryStateFailed}, 0, 9, "5 failed"},
		"cancelled":        {store.DeliveryFilter{State: gen.DeliveryStateCancelled}, 0, 9, ""},
		"delivered":        {store.DeliveryFilter{State: gen.DeliveryStateDelivered}, 0, 9, "1 delivered"},
		"of an event":      {store.DeliveryFilter{EventID: 1}, 0, 9, "3 pending,1 delivered"},
		"of an agent":      {store.DeliveryFilter{AgentType: gen.AgentTypeLocal, AgentID: 7}, 0, 9, "7 pending"},
		"of another kind":  {store.DeliveryFilter{AgentType: gen.AgentTypeRemote, AgentID: 136}, 0, 9, ""},
		"since":            {store.DeliveryFilter{Since: noon}, 0, 9, "7 pending"},
		"since just after": {store.DeliveryFilter{Since: noon.Add(time.Millisecond)}, 0, 9, ""},
		"until":            {store.DeliveryFilter{Until: noon}, 0, 2, "6 parked,5 failed"},
		"between": {
			store.DeliveryFilter{Since: morning, Until: morning.Add(time.Millisecond)}, 3, 9, "2 pending,1 delivered",
		},
		"before all": {store.DeliveryFilter{Until: morning}, 0, 9, ""},
		"everything at once": {
			store.DeliveryFilter{
				State: gen.DeliveryStateFailed, AgentType: gen.AgentTypeLocal, AgentID: 136, EventID: 4,
				Since: morning, Until: noon,
			}, 6, 9, "5 failed",
		},
	} {
		if c.filter.EventID == 4 {
			c.filter.EventID = f.eventOf(5)
		}
		if got := strings.Join(f.listDeliveries(c.filter, c.before, c.limit), ","); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func (f *fixture) eventOf(delivery int64) int64 {
	f.t.Helper()
	l, err := f.Delivery(f.ctx, "12", delivery)
	f.check(err)
	return l.EventID
}

// A filter by time tolerates a small step back of the clock.
func TestFilterByTimeMissesNothingAfterAClockStep(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	start := f.clock.Now()
	for i, step := range []time.Duration{0, time.Minute, -4 * time.Minute, time.Minute, time.Minute, time.Minute} {
		f.clock.add(step)
		f.set(k, []gen.AgentStatusValue{gen.AgentStatusValueAvailable, gen.AgentStatusValueLoggedOut}[i%2])
	}
	got := f.listDeliveries(store.DeliveryFilter{Since: start}, 0, 9)
	if want := []string{"6 pending", "2 pending", "1 pending"}; !slices.Equal(got, want) {
		t.Errorf("since the start: %q, want %q", got, want)
	}
	got = f.listDeliveries(store.DeliveryFilter{Until: start}, 0, 9)
	if want := []string{"5 pending", "4 pending", "3 pending"}; !slices.Equal(got, want) {
		t.Errorf("until the start: %q, want %q", got, want)
	}
}

func TestUnfinishedDeliveryHasAReasonToWait(t *testing.T) {
	f := openWithEverything(t)
	for id, want := range map[int64]string{
		1: "", 2: "the next one is due then", 3: "an earlier one", 4: "under way", 5: "", 6: "disabled by a request",
	} {
		l, err := f.Delivery(f.ctx, "12", id)
		f.check(err)
		switch {
		case (l.Waiting == nil) != (want == ""), want != "" && !strings.Contains(l.Waiting.Reason, want):
			t.Errorf("delivery %d waits: %+v, want %s", id, l.Waiting, want)
		case id == 3 && l.Waiting.DeliveryID != 2:
			t.Errorf("delivery 3 waits for %d", l.Waiting.DeliveryID)
		case id == 2 && !l.Waiting.Until.Equal(f.clock.Now().Add(5*time.Second)):
			t.Errorf("delivery 2 waits until %v", l.Waiting.Until)
		}
	}
	f.clock.add(5 * time.Second)
	f.waitsFor(2, "as soon as there is room")
	f.sql("UPDATE receivers SET waits = 1e15 WHERE id = 1")
	f.waitsFor(2, "429")
	f.sql("UPDATE receivers SET failures = 5 WHERE id = 1")
	f.waitsFor(2, "failed too often")
	f.sql("UPDATE receivers SET failures = 0, waits = NULL WHERE id = 1")
	f.record(f.claimOne(), webhook.Delivered, true)
}

func (f *fixture) waitsFor(id int64, reason string) {
	f.t.Helper()
	l, err := f.Delivery(f.ctx, "12", id)
	f.check(err)
	if l.Waiting == nil || !strings.Contains(l.Waiting.Reason, reason) {
		f.t.Errorf("delivery %d waits: %+v, want %s", id, l.Waiting, reason)
	}
}

// Each attempt shows the URL that it was sent to, if that is not the delivery's.
func TestAttemptsKeepTheirURL(t *testing.T) {
	f := open(t)
	k := f.agent()
	event := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.login(k)
	f.record(f.claimOne(), webhook.Retry, false)
	f.redirect(k, event, board)
	flying := f.claimOne()
	f.redirect(k, event, crm)
	f.record(flying, webhook.Retry, false)
	last := f.claimOne()
	f.record(last, webhook.Delivered, false)
	f.redirect(k, event, board) // a finished delivery does not change
	l, err := f.Delivery(f.ctx, "12", 1)
	f.check(err)
	var urls []string
	for _, a := range l.Attempts {
		urls = append(urls, a.URL)
	}
	if want := []string{"", board, ""}; !slices.Equal(urls, want) || l.URL != crm {
		t.Errorf("sent to %q, and the delivery is for %s; want %q", urls, l.URL, want)
	}
}

// A late result may be recorded last.
func TestLastAttemptIsTheLastRecordedOne(t *testing.T) {
	f := open(t)
	f.createEvents(f.agent(), crm, gen.EventTypeAgentLogin)
	f.login(store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136})
	late := f.claimOne()
	f.clock.add(leaseTime)
	f.finish(f.claimOne())
	f.lastIs(webhook.Delivered)
	f.record(late, webhook.Failed, false)
	f.lastIs(webhook.Failed)
	f.redeliver(1)
	f.lastIs(webhook.Failed) // until the next attempt
	f.finish(f.claimOne())
	f.lastIs(webhook.Delivered)
	f.verify()
}

// lastIs checks the last attempt of the newest delivery.
func (f *fixture) lastIs(want webhook.Verdict) {
	f.t.Helper()
	list, err := f.Deliveries(f.ctx, "12", store.DeliveryFilter{}, 0, 1)
	f.check(err)
	if a := list[0].LastAttempt; a == nil || webhook.Verdict(a.Verdict) != want {
		f.t.Errorf("the last attempt is %+v, want one with the verdict %s", a, want)
	}
}

func TestMigrationKeepsTheDeliveryLog(t *testing.T) {
	pgtest.SQLiteOnly(t, "PostgreSQL had these columns from the start")
	f := openWithEverything(t)
	want, err := f.Deliveries(f.ctx, "12", store.DeliveryFilter{}, 0, 100)
	f.check(err)
	f.check(f.Close())
	db := f.db()
	older, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("internal/schema/migrations/sqlite"))
	f.check(err)
	_, err = older.DownTo(f.ctx, 9) // the version before 00010_shown.sql
	f.check(err)
	f.check(db.Close())
	f.open()
	got, err := f.Deliveries(f.ctx, "12", store.DeliveryFilter{}, 0, 100)
	f.check(err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the log has %+v, want %+v", got, want)
	}
	f.verify()
}

// Deliveries that were never sent have a reason, too.
func TestFinishedDeliveryHasAReason(t *testing.T) {
	f := open(t)
	k := f.agent()
	event := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.state(k, event, gen.AgentEventStateValueDisabled)
	f.login(k) // parked until its window ends
	f.logout(k)
	f.clock.add(25 * time.Hour)
	_, err := f.RepairLanes(f.ctx)
	f.check(err)
	f.state(k, event, gen.AgentEventStateValueEnabled)
	f.login(k) // retried until its window ends
	d := f.claimOne()
	f.record(d, webhook.Retry, false)
	f.clock.add(25 * time.Hour)
	_, err = f.RepairLanes(f.ctx)
	f.check(err)
	f.logout(k)
	f.login(k) // is refused
	f.record(f.claimOne(), webhook.Failed, false)
	f.logout(k)
	f.login(k) // its event is deleted before it is sent
	f.check(f.DeleteEvent(f.ctx, k, event))
	all, err := f.Deliveries(f.ctx, k.Client, store.DeliveryFilter{}, 0, 10)
	f.check(err)
	var got []string
	for _, d := range all {
		got = append(got, fmt.Sprintf("%s: %s", d.State, d.Reason))
	}
	want := []string{
		"cancelled: its event was deleted", "failed: ", "failed: its window ended before an attempt succeeded",
		"failed: its window ended before its first attempt",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	changes, _, err := f.AgentStatusChanges(f.ctx, k, 2, 1)
	f.check(err)
	const why = "the event is for this type, agent-login, but was disabled then; its window ended " +
		"before its first attempt"
	if e := changes[0].Events; len(e) != 1 || e[0].Reason != why {
		t.Errorf("explained as %+v, want %s", e, why)
	}
}

// The newest rows are deleted during the bisection.
func TestFilterByTimeEndsWhileRowsAreDeleted(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.changeStatus(k, 20)
	n := 0
	f.BeforeStatements(func() error {
		if n++; n == 3 {
			f.sql("DELETE FROM attempts; DELETE FROM deliveries WHERE id > 5")
		}
		if n > 200 {
			return errors.New("the search does not end")
		}
		return nil
	})
	if _, err := f.Deliveries(f.ctx, "12", store.DeliveryFilter{Since: f.clock.Now().Add(time.Hour)}, 0,
		10); err != nil {
		t.Error(err)
	}
	n = -1000
}
