package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// TestAnyStatementMayFail runs a scenario with everything that the store ever writes. In each step, the first statement
// fails, then the second, and so on until the step succeeds. Each failure returns an error, changes no row, and keeps
// all invariants.
func TestAnyStatementMayFail(t *testing.T) {
	intact := &faultyFixture{fixture: openInMemory(t), idle: true}
	scenario(intact)
	for name, broken := range map[string]bool{"one statement": false, "and all after it": true} {
		t.Run(name, func(t *testing.T) {
			s := &faultyFixture{fixture: openInMemory(t), broken: broken}
			s.BeforeStatements(s.before)
			scenario(s)
			s.wantDrained()
			if got, want := s.states(), intact.states(); !maps.Equal(got, want) || s.failed < 100 {
				t.Errorf("in the end there are %v deliveries, want %v; %d statements failed", got, want, s.failed)
			}
			pruneAll(s)
			if got := s.states(); len(got) != 0 {
				t.Errorf("finished deliveries are never pruned: %v", got)
			}
			s.verify()
			t.Logf("%d statements failed", s.failed)
		})
	}
}

// faultyFixture makes the n-th statement of a store fail.
type faultyFixture struct {
	*fixture
	idle    bool // no statement fails
	broken  bool // all later statements fail as well, including those that undo a transaction
	fresh   bool // claims look only at lanes of changes
	unsound bool // the test has made the store inconsistent
	n, seen int  // 0 means no failure
	failed  int
	conn    *sql.DB // to read the rows; nil before the first time
}

func (s *faultyFixture) before() error {
	s.seen++
	if s.n > 0 && (s.seen == s.n || s.broken && s.seen > s.n) {
		return fmt.Errorf("statement %d: %w", s.seen, brokenDisk())
	}
	return nil
}

// try makes each statement of a step fail in turn.
func (s *faultyFixture) try(what string, step func() error) {
	s.t.Helper()
	s.attempt(what, step, s.rows)
}

// attempt compares a description of the rows before and after each failure.
func (s *faultyFixture) attempt(what string, step func() error, rows func() string) {
	s.t.Helper()
	before := rows()
	for n := 1; ; n++ {
		s.n, s.seen = n, 0
		err := step()
		s.n = 0
		if s.idle || s.seen < n {
			s.check(err)
			return
		}
		s.failed++
		var refused *store.Error
		if !errors.As(err, &refused) || refused.Kind != store.Unavailable {
			s.t.Fatalf("%s, statement %d fails: the error is %v", what, n, err)
		}
		if s.broken {
			_ = s.Write(s.ctx, func(*sqldb.Tx) error { return nil }) // records that the database is back
		}
		if after := rows(); after != before {
			s.t.Fatalf("%s, statement %d fails: the rows were\n%s\nand are\n%s", what, n, before, after)
		}
		// Unchanged rows stay consistent; on PostgreSQL, a check costs minutes.
		if !s.unsound && (before == "" || !pgtest.OnPostgres()) {
			s.verify()
		}
	}
}

// rows returns all rows of the store.
func (s *faultyFixture) rows() string {
	if s.conn == nil {
		s.conn = s.db()
		s.t.Cleanup(func() { s.check(s.conn.Close()) })
	}
	var all strings.Builder
	for _, table := range []string{
		"clients", "agents", "receivers", "secrets", "lanes", "agent_events", "status_changes", "deliveries",
		"attempts",
		"replays", "samples", "truncated", "applications", "idempotency_keys",
	} {
		fmt.Fprintln(&all, table)
		s.rowsOf(table, &all)
	}
	return all.String()
}

func (s *faultyFixture) rowsOf(table string, w io.Writer) {
	rows, err := s.conn.Query("SELECT * FROM " + table + " ORDER BY 1")
	s.check(err)
	defer rows.Close()
	columns, err := rows.Columns()
	s.check(err)
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(any)
	}
	for rows.Next() {
		s.check(rows.Scan(values...))
		for _, v := range values {
			fmt.Fprint(w, " ", *v.(*any))
		}
		fmt.Fprintln(w)
	}
	s.check(rows.Err())
}

// claim claims the due lanes, whose number is given.
func (s *faultyFixture) claim(what string, want int) []webhook.Delivery {
	s.t.Helper()
	claimed := s.claims(what)
	if len(claimed) != want {
		s.t.Fatalf("%s: %d are claimed, want %d", what, len(claimed), want)
	}
	return claimed
}

func (s *faultyFixture) claims(what string) (claimed []webhook.Delivery) {
	s.t.Helper()
	s.try(what, func() (err error) {
		claimed, _, err = s.Claim(s.ctx, webhook.ClaimLimits{
			Fresh: s.fresh, Lanes: 100, PerReceiver: 10, Take: func(string, int64) bool { return true },
		})
		if err != nil && claimed != nil {
			s.t.Errorf("a claim that failed returned %+v", claimed)
		}
		return err
	})
	return claimed
}

func (s *faultyFixture) recordAs(
	what string, d webhook.Delivery, o webhook.Outcome, keepLane bool,
) (next *webhook.Delivery) {
	s.t.Helper()
	s.try(what, func() (err error) {
		next, err = s.Record(s.ctx, d, o, keepLane)
		return err
	})
	return next
}

func (s *faultyFixture) status(what string, k store.AgentKey, to gen.AgentStatusValue) {
	s.t.Helper()
	s.try(what, func() error {
		_, err := s.SetStatus(s.ctx, k, gen.AgentStatusUpdate{AgentStatus: to})
		return err
	})
}

func (s *faultyFixture) create(what string, k store.AgentKey, url string, typ gen.EventType) (id int64) {
	s.t.Helper()
	s.try(what, func() error {
		e, err := s.CreateEvent(s.ctx, k, gen.AgentEventCreate{URL: url, Method: gen.RequestMethodPOST, EventType: typ})
		id = e.ID
		return err
	})
	return id
}

func (s *faultyFixture) setState(what string, k store.AgentKey, event int64, to gen.AgentEventStateValue) {
	s.t.Helper()
	s.try(what, func() error {
		_, err := s.SetEventState(s.ctx, k, event, to)
		return err
	})
}

func (s *faultyFixture) moveTo(what string, k store.AgentKey, event int64, url string) {
	s.t.Helper()
	s.try(what, func() error {
		_, err := s.UpdateEvent(s.ctx, k, event, gen.AgentEventUpdate{URL: &url})
		return err
	})
}

// scenario runs everything at least once.
func scenario(s *faultyFixture) {
	k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136}
	name := "000*094@ringme.ru"
	s.try("client", func() error { _, _, err := s.PutClient(s.ctx, "12", gen.ClientUpdate{Name: &name}); return err })
	s.try("client again", func() error {
		_, _, err := s.PutClient(s.ctx, "12", gen.ClientUpdate{Name: &name})
		return err
	})
	s.try("agent", func() error { _, _, err := s.PutAgent(s.ctx, k, store.AgentUpdate{Name: &name}); return err })
	s.try("agent again", func() error { _, _, err := s.PutAgent(s.ctx, k, store.AgentUpdate{Name: &name}); return err })
	s.try("agent under a free id", func() error {
		_, err := s.CreateAgent(s.ctx, store.AgentKey{Client: "12", Type: gen.AgentTypeRemote},
			store.AgentUpdate{Name: &name})
		return err
	})
	s.try("secret", func() error { _, err := s.RotateSecret(s.ctx, "12"); return err })
	once := store.WithIdempotency(s.ctx, s.operator())
	for _, what := range []string{"another secret, once", "the same secret again"} {
		s.try(what, func() error { _, err := s.RotateSecret(once, "12"); return err })
	}
	login := s.create("login at the CRM", k, crm, gen.EventTypeAgentLogin)
	logout := s.create("logout at the CRM", k, crm, gen.EventTypeAgentLogout)
	board := s.create("login at the board", k, board, gen.EventTypeAgentLogin)
	deliver(s, k)
	move(s, k, login)
	pause(s, k, login, logout)
	openAndCloseBreaker(s, k)
	redeliverAndReplay(s, k, login)
	deleteAll(s, k, board)
}

// deliver makes deliveries succeed, wait, be released and fail.
func deliver(s *faultyFixture, k store.AgentKey) {
	s.status("login", k, gen.AgentStatusValueAvailable)
	s.status("login again", k, gen.AgentStatusValueAvailable)
	s.try("bulk", func() error {
		_, err := s.SetStatuses(s.ctx, "12", []gen.AgentStatusUpdateItem{
			{AgentType: k.Type, AgentID: k.ID, AgentStatus: gen.AgentStatusValueLoggedOut},
			{AgentType: k.Type, AgentID: 4711, AgentStatus: gen.AgentStatusValueLoggedOut},
			{AgentType: k.Type, AgentID: k.ID, AgentStatus: gen.AgentStatusValueAvailable},
		})
		return err
	})
	s.fresh = true
	claimed := s.claim("claim both lanes", 2)
	s.fresh = false
	next := s.recordAs("200, and keep the lane", claimed[0], answer(200), true)
	next = s.recordAs("404, and keep the lane", *next, answer(404), true)
	s.recordAs("503, and release the lane", *next, busy(503, time.Second), false)
	s.try("release", func() error { return s.Release(s.ctx, claimed[1]) })
}

// move moves deliveries in flight and waiting ones to another receiver, and back.
func move(s *faultyFixture, k store.AgentKey, event int64) {
	s.clock.add(2 * time.Second)
	claimed := s.claim("claim again", 2)
	s.moveTo("to another receiver, in flight", k, event, board)
	s.recordAs("500 from the old one", to(crm, claimed), answer(500), true)
	s.recordAs("200", to(board, claimed), answer(200), true)
	lost := s.recordAs("200 of the moved delivery", s.claim("the moved delivery", 1)[0], answer(200), true)
	s.clock.add(16 * time.Second)
	s.claim("after a lost lease", 1)
	s.recordAs("too late", *lost, answer(200), true)
	s.moveTo("back", k, event, crm)
	s.clock.add(16 * time.Second)
	s.recordAs("200 after a lost lease", s.claim("the delivery that moved back", 1)[0], answer(200), true)
}

// to returns the delivery for a URL.
func to(url string, of []webhook.Delivery) webhook.Delivery {
	return of[slices.IndexFunc(of, func(d webhook.Delivery) bool { return d.URL == url })]
}

// pause parks deliveries by a request and by a 410, and enables their events again.
func pause(s *faultyFixture, k store.AgentKey, login, logout int64) {
	s.status("logout", k, gen.AgentStatusValueLoggedOut)
	s.setState("disable", k, logout, gen.AgentEventStateValueDisabled)
	s.status("login, the logout event disabled", k, gen.AgentStatusValueAvailable)
	s.setState("enable", k, logout, gen.AgentEventStateValueEnabled)
	claimed := s.claim("the parked deliveries", 2)
	next := s.recordAs("200", claimed[0], answer(200), true)
	s.recordAs("410", *next, answer(410), true)
	s.recordAs("200 of the board", claimed[1], answer(200), true)
	s.setState("enable after a 410", k, login, gen.AgentEventStateValueEnabled)
}

// openAndCloseBreaker opens a breaker, probes, and closes it.
func openAndCloseBreaker(s *faultyFixture, k store.AgentKey) {
	s.status("logout to a dead receiver", k, gen.AgentStatusValueLoggedOut)
	for range webhook.BreakerThreshold {
		s.recordAs("nothing answers", s.claim("attempt", 1)[0], answer(0), true)
		s.clock.add(time.Hour)
	}
	s.recordAs("a probe is in vain", s.claim("probe", 1)[0], answer(0), true)
	s.clock.add(time.Hour)
	d := s.claim("probe again", 1)[0]
	s.try("release a probe", func() error { return s.Release(s.ctx, d) })
	s.recordAs("the receiver is back", s.claim("probe", 1)[0], answer(200), true)
}

// redeliverAndReplay redelivers one delivery and many, and tests an event.
func redeliverAndReplay(s *faultyFixture, k store.AgentKey, event int64) {
	first := int64(s.count("SELECT min(id) FROM deliveries")) // failed statements have used up ids
	s.try("redeliver", func() error { _, err := s.Redeliver(s.ctx, k.Client, first); return err })
	s.recordAs("200 once more", s.claim("redelivered", 1)[0], answer(200), true)
	s.moveTo("away from the finished deliveries", k, event, board)
	s.try("replay", func() error {
		_, _, err := s.CreateReplay(s.ctx, k.Client, store.DeliveryFilter{State: gen.DeliveryStateDelivered})
		return err
	})
	s.clock.add(time.Second)
	s.attempt("work at a replay", func() error { return s.ReplayAll(s.ctx) }, func() string { return "" })
	for claimed := s.claims("replayed"); len(claimed) > 0; claimed = s.claims("replayed") {
		s.recordAs("200 of a replay", claimed[0], answer(200), false)
	}
	s.try("test", func() error {
		_, err := s.SaveTestDelivery(s.ctx, event, k.Type, webhook.Delivery{URL: crm},
			webhook.Attempt{Verdict: webhook.Failed})
		return err
	})
}

// pruneAll prunes everything that is prunable.
func pruneAll(s *faultyFixture) {
	s.clock.add(31 * 24 * time.Hour)
	s.attempt("prune", func() error {
		s.clock.add(time.Minute)
		return s.PruneAll(s.ctx)
	}, func() string { return "" })
}

// deleteAll deletes, lets a window end, and repairs a lane.
func deleteAll(s *faultyFixture, k store.AgentKey, board int64) {
	s.status("last login", k, gen.AgentStatusValueAvailable)
	s.try("delete an event", func() error { return s.DeleteEvent(s.ctx, k, board) })
	s.recordAs("a failure", s.claim("the last login", 1)[0], busy(425, time.Hour), true)
	s.clock.add(25 * time.Hour)
	none := func() string { return "" } // it uses several transactions
	s.attempt("expire", func() error { _, err := s.RepairLanes(s.ctx); return err }, none)
	s.sql("UPDATE lanes SET pending = 7 WHERE id = (SELECT min(id) FROM lanes)")
	s.unsound = true
	s.try("repair", func() error { _, err := s.RepairLanes(s.ctx); return err })
	s.unsound = false
	s.try("delete an agent", func() error { return s.DeleteAgent(s.ctx, k) })
	for next := &s.claim("an expired delivery without an attempt", 1)[0]; next != nil; { // and then the agent's logout
		next = s.recordAs("200 of the remaining delivery", *next, answer(200), true)
	}
	s.try("delete a client", func() error { return s.DeleteClient(s.ctx, "12") })
}

// A refused statement fails its request and stores nothing, whether it was queued or not.
func TestStatementThatTheDatabaseRefusesStoresNothing(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	var others []store.AgentKey
	for id := range int64(20) {
		others = append(others, f.agentN(200+id))
	}
	available := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}
	for _, table := range []string{"agents", "lanes"} {
		before := f.tally()
		allow := f.refuse(table, k)
		_, err := f.SetStatus(f.ctx, k, available)
		f.wantRefused(err)
		if after := f.tally(); !maps.Equal(after, before) {
			t.Errorf("a refused write to %s leaves %v, before %v", table, after, before)
		}
		f.duringLogins(others, func() {
			_, err := f.SetStatus(f.ctx, k, available)
			f.wantRefused(err)
		})
		allow()
	}
	f.login(k)
	d := f.claimOne()
	allow := f.refuse("deliveries", k)
	_, err := f.Record(f.ctx, d, webhook.Outcome{Attempt: webhook.Attempt{Verdict: webhook.Delivered}}, true)
	f.wantRefused(err)
	allow()
	if n := f.count("SELECT count(*) FROM attempts"); n != 0 {
		t.Errorf("%d attempts are left", n)
	}
	f.finish(d)
	f.verify()
}

// duringLogins runs a function while other agents log in. Then it logs them out.
func (f *fixture) duringLogins(others []store.AgentKey, fn func()) {
	var all sync.WaitGroup
	all.Go(fn)
	for _, k := range others {
		all.Go(func() {
			if _, err := f.SetStatus(f.ctx, k,
				gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}); err != nil {
				f.t.Error(err)
			}
		})
	}
	all.Wait()
	for _, k := range others {
		f.logout(k)
	}
}

// wantRefused checks that an error does not permit a retry.
func (f *fixture) wantRefused(err error) {
	f.t.Helper()
	var known *store.Error
	if err == nil || errors.As(err, &known) {
		f.t.Errorf("the error of a refused statement is %v", err)
	}
}

// tally counts the rows of changes, and sums up the columns that a change updates.
func (f *fixture) tally() map[string]int {
	n := map[string]int{}
	for name, query := range map[string]string{
		"changes": "SELECT count(*) FROM status_changes", "deliveries": "SELECT count(*) FROM deliveries",
		"pending": "SELECT coalesce(sum(pending), 0) FROM lanes",
		"changed": "SELECT coalesce(max(sequence), 0) FROM agents",
	} {
		n[name] = f.count(query)
	}
	return n
}

// refuse makes the database refuse updates of an agent's rows in a table until allow is called.
func (f *fixture) refuse(table string, of store.AgentKey) (allow func()) {
	f.t.Helper()
	when := fmt.Sprintf("BEFORE UPDATE ON %s FOR EACH ROW WHEN (new.kind = '%s' AND new.agent_id = %d) ", table,
		of.Type, of.ID)
	if !pgtest.OnPostgres() {
		f.sql("CREATE TRIGGER refused " + when + "BEGIN SELECT RAISE(ABORT, 'refused'); END")
		return func() { f.sql("DROP TRIGGER refused") }
	}
	f.sql("CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''refused''; END'")
	f.sql("CREATE TRIGGER refused " + when + "EXECUTE FUNCTION refused()")
	return func() { f.sql("DROP FUNCTION refused() CASCADE") }
}
