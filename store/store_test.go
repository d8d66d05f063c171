package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// patience is the time limit for an expected event. Only a defect exceeds it, however slow the machine is.
const patience = 3 * time.Minute

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2017, 5, 30, 15, 7, 50, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is a store on a database of its own with a clock that the test sets, and short helpers for the tests.
type fixture struct {
	*store.Store
	t     testing.TB
	ctx   context.Context
	clock *clock
	url   string

	longest  time.Duration // the longest delay
	keepRows int
	key      []byte
	log      *slog.Logger // nil means the test's output, which a failed test shows
}

func open(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: context.Background(), clock: newClock(), url: pgtest.URL(t)}
	f.open()
	t.Cleanup(func() { f.check(f.Close()) })
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	if f.log == nil {
		f.log = slog.New(slog.NewTextHandler(f.t.Output(), nil))
	}
	s, err := store.Open(f.ctx,
		store.Options{URL: f.url, Now: f.clock.Now, Longest: f.longest, KeepRows: f.keepRows, Key: f.key, Log: f.log})
	f.check(err)
	f.Store = s
}

// restart closes the store and opens it again. It releases no lane.
func (f *fixture) restart() {
	f.t.Helper()
	f.check(f.Close())
	f.open()
}

func (f *fixture) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// agent creates client 12 with local agent 136 and returns its key.
func (f *fixture) agent() store.AgentKey {
	f.t.Helper()
	k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136}
	_, _, err := f.PutClient(f.ctx, k.Client, gen.ClientUpdate{})
	f.check(err)
	name := "000*094@ringme.ru"
	_, _, err = f.PutAgent(f.ctx, k, store.AgentUpdate{Name: &name})
	f.check(err)
	return k
}

func (f *fixture) createEvents(k store.AgentKey, url string, types ...gen.EventType) (ids []int64) {
	f.t.Helper()
	for _, typ := range types {
		e, err := f.CreateEvent(f.ctx, k, gen.AgentEventCreate{URL: url, Method: gen.RequestMethodPOST, EventType: typ})
		f.check(err)
		ids = append(ids, e.ID)
	}
	return ids
}

func (f *fixture) set(k store.AgentKey, status gen.AgentStatusValue) gen.AgentStatus {
	f.t.Helper()
	st, err := f.SetStatus(f.ctx, k, gen.AgentStatusUpdate{AgentStatus: status})
	f.check(err)
	return st
}

func (f *fixture) login(k store.AgentKey) gen.AgentStatus {
	f.t.Helper()
	return f.set(k, gen.AgentStatusValueAvailable)
}

func (f *fixture) logout(k store.AgentKey) gen.AgentStatus {
	f.t.Helper()
	return f.set(k, gen.AgentStatusValueLoggedOut)
}

// claim claims all lanes that are due.
func (f *fixture) claim() []webhook.Delivery {
	f.t.Helper()
	claimed, _, err := f.Claim(f.ctx, webhook.ClaimLimits{
		Lanes: 1000, PerReceiver: 100, Take: func(string, int64) bool { return true },
	})
	f.check(err)
	return claimed
}

// claimOne claims the only lane that is due.
func (f *fixture) claimOne() webhook.Delivery {
	f.t.Helper()
	claimed := f.claim()
	if len(claimed) != 1 {
		f.t.Fatalf("claimed %d deliveries, want 1: %+v", len(claimed), claimed)
	}
	return claimed[0]
}

func (f *fixture) claimNone() {
	f.t.Helper()
	if claimed := f.claim(); len(claimed) != 0 {
		f.t.Fatalf("claimed %+v, want none", claimed)
	}
}

// record records a verdict and returns the next delivery of the lane.
func (f *fixture) record(d webhook.Delivery, v webhook.Verdict, keepLane bool) *webhook.Delivery {
	f.t.Helper()
	o := webhook.Outcome{Attempt: webhook.Attempt{StartedAt: time.Now(), Verdict: v}}
	if v == webhook.Retry {
		o.Delay = 5 * time.Second
	}
	next, err := f.Record(f.ctx, d, o, keepLane)
	f.check(err)
	return next
}

// agentN creates a local agent of client 12 with an id.
func (f *fixture) agentN(id int64) store.AgentKey {
	f.t.Helper()
	k := f.agent()
	name := "x"
	k.ID = id
	_, _, err := f.PutAgent(f.ctx, k, store.AgentUpdate{Name: &name})
	f.check(err)
	return k
}

func (f *fixture) redirect(k store.AgentKey, event int64, url string) {
	f.t.Helper()
	_, err := f.UpdateEvent(f.ctx, k, event, gen.AgentEventUpdate{URL: &url})
	f.check(err)
}

// finish records a delivery, and all that follow in its lane, as delivered. It checks their order.
func (f *fixture) finish(d webhook.Delivery) {
	f.t.Helper()
	for next := &d; next != nil; {
		id, sequence := next.ID, next.Sequence
		next = f.record(*next, webhook.Delivered, true)
		if next != nil && next.ID == id {
			f.t.Fatalf("delivery %d is sent again after its result", id)
		}
		if next != nil && next.Sequence < sequence {
			f.t.Errorf("sequence %d after %d", next.Sequence, sequence)
		}
	}
}

// sql changes rows directly.
func (f *fixture) sql(statement string) {
	f.t.Helper()
	db := f.db()
	defer db.Close()
	_, err := db.Exec(statement)
	f.check(err)
}

// states counts the deliveries in each state.
func (f *fixture) states() map[string]int {
	f.t.Helper()
	db := f.db()
	defer db.Close()
	rows, err := db.Query("SELECT state, count(*) FROM deliveries GROUP BY state")
	f.check(err)
	defer rows.Close()
	states := map[string]int{}
	for rows.Next() {
		var state string
		var n int
		f.check(rows.Scan(&state, &n))
		states[state] = n
	}
	f.check(rows.Err())
	return states
}

// verify checks all invariants of the rows.
func (f *fixture) verify() {
	f.t.Helper()
	err := store.Verify(f.ctx, store.Options{URL: f.url, Now: f.clock.Now, Longest: f.longest}, func(c store.Check) {
		if c.Count > 0 {
			f.t.Errorf("%s: %d faults: %q", c.Name, c.Count, c.Violations)
		}
	})
	f.check(err)
}

// wantDrained checks that no delivery is pending, that all lanes are empty, and that none needs a repair.
func (f *fixture) wantDrained() {
	f.t.Helper()
	db := f.db()
	defer db.Close()
	var pending, lanes int
	f.check(db.QueryRow("SELECT count(*) FROM deliveries WHERE state = 'pending'").Scan(&pending))
	f.check(db.QueryRow("SELECT count(*) FROM lanes WHERE pending <> 0 OR due_at IS NOT NULL").Scan(&lanes))
	if pending != 0 || lanes != 0 {
		f.t.Errorf("%d deliveries are pending, %d lanes are not empty", pending, lanes)
	}
	f.verify()
	if n, err := f.RepairLanes(f.ctx); err != nil || n != 0 {
		f.t.Errorf("repaired %d lanes, %v", n, err)
	}
}

// A cancellation, by a client or by a stop, is no error of the store.
func TestCancelledQueriesAreNotLogged(t *testing.T) {
	f := open(t)
	var log bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.restart()
	f.agent()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Clients(ctx, "", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := f.RepairLanes(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if log.Len() > 0 {
		t.Errorf("the log says %s", log.String())
	}
	f.sql("ALTER TABLE clients RENAME TO gone")
	if _, err := f.Clients(t.Context(), "", 0); err == nil || !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("error %v, and the log says %q", err, log.String())
	}
	if _, err := f.Client(t.Context(), "s3cret"); err == nil || strings.Contains(log.String(), "s3cret") {
		t.Errorf("error %v, and the log holds a value: %s", err, log.String())
	}
	f.sql("ALTER TABLE gone RENAME TO clients")
}

// The values of a failed statement may be signatures and URLs.
func TestValuesAreNotLogged(t *testing.T) {
	f := open(t)
	var log bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.restart()
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	d := f.claimOne()
	f.sql("ALTER TABLE attempts RENAME TO gone")
	o := webhook.Outcome{
		Attempt: webhook.Attempt{StartedAt: f.clock.Now(), Verdict: webhook.Delivered, Signature: "s3cret"},
	}
	if _, err := f.Record(f.ctx, d, o, false); err == nil {
		t.Error("an attempt was recorded without its table")
	}
	f.sql("ALTER TABLE gone RENAME TO attempts")
	if text := log.String(); !strings.Contains(text, "INSERT INTO attempts") || strings.Contains(text, "s3cret") {
		t.Errorf("the log says %s", text)
	}
}
