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

// TestAnyStatementMayFail tells a story of everything that is ever written. Each of its steps is tried with its first
// statement failing, then with its second, and so on until it gets through: whenever it fails, the error says so, not
// one row has changed, and all invariants hold.
func TestAnyStatementMayFail(t *testing.T) {
	sound := &saboteur{fixture: openInMemory(t), idle: true}
	story(sound)
	for name, broken := range map[string]bool{"one statement": false, "and all after it": true} {
		t.Run(name, func(t *testing.T) {
			s := &saboteur{fixture: openInMemory(t), broken: broken}
			s.BeforeStatements(s.before)
			story(s)
			s.drained()
			if got, want := s.states(), sound.states(); !maps.Equal(got, want) || s.failed < 100 {
				t.Errorf("in the end there are %v deliveries, want %v; %d statements failed", got, want, s.failed)
			}
			forget(s)
			if got := s.states(); len(got) != 0 {
				t.Errorf("what has ended is kept for ever: %v", got)
			}
			s.verify()
			t.Logf("%d statements failed", s.failed)
		})
	}
}

// saboteur makes the n-th statement of a store fail.
type saboteur struct {
	*fixture
	idle    bool // nothing fails
	broken  bool // all statements after it fail as well, those that undo a transaction included
	fresh   bool // claims look only at what has changed
	unsound bool // there is a fault in the store on purpose
	n, seen int  // 0 means none
	failed  int
	conn    *sql.DB // to look at the rows; nil before the first look
}

func (s *saboteur) before() error {
	s.seen++
	if s.n > 0 && (s.seen == s.n || s.broken && s.seen > s.n) {
		return fmt.Errorf("statement %d: %w", s.seen, brokenDisk())
	}
	return nil
}

// try makes each statement of a step fail in turn, until none is left.
func (s *saboteur) try(what string, step func() error) {
	s.t.Helper()
	s.attempt(what, step, s.rows)
}

// attempt compares what rows tells before and after a failure.
func (s *saboteur) attempt(what string, step func() error, rows func() string) {
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
			_ = s.Write(s.ctx, func(*sqldb.Tx) error { return nil }) // takes note that the database is back
		}
		if after := rows(); after != before {
			s.t.Fatalf("%s, statement %d fails: the rows were\n%s\nand are\n%s", what, n, before, after)
		}
		// What is as it was is as sound as it was; on PostgreSQL the look at that costs minutes.
		if !s.unsound && (before == "" || !pgtest.OnPostgres()) {
			s.verify()
		}
	}
}

// rows is all that is in the store.
func (s *saboteur) rows() string {
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

func (s *saboteur) rowsOf(table string, w io.Writer) {
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

// claim takes what is due, which is so many.
func (s *saboteur) claim(what string, want int) []webhook.Delivery {
	s.t.Helper()
	claimed := s.claims(what)
	if len(claimed) != want {
		s.t.Fatalf("%s: %d are claimed, want %d", what, len(claimed), want)
	}
	return claimed
}

func (s *saboteur) claims(what string) (claimed []webhook.Delivery) {
	s.t.Helper()
	s.try(what, func() (err error) {
		claimed, _, err = s.Claim(s.ctx, webhook.ClaimLimits{
			Fresh: s.fresh, Lanes: 100, PerReceiver: 10, Take: func(int64) bool { return true },
		})
		if err != nil && claimed != nil {
			s.t.Errorf("a claim that failed returned %+v", claimed)
		}
		return err
	})
	return claimed
}

func (s *saboteur) recordAs(
	what string, d webhook.Delivery, o webhook.Outcome, keepLane bool,
) (next *webhook.Delivery) {
	s.t.Helper()
	s.try(what, func() (err error) {
		next, err = s.Record(s.ctx, d, o, keepLane)
		return err
	})
	return next
}

func (s *saboteur) status(what string, k store.AgentKey, to gen.AgentStatusValue) {
	s.t.Helper()
	s.try(what, func() error {
		_, err := s.SetStatus(s.ctx, k, gen.AgentStatusUpdate{AgentStatus: to})
		return err
	})
}

func (s *saboteur) create(what string, k store.AgentKey, url string, typ gen.EventType) (id int64) {
	s.t.Helper()
	s.try(what, func() error {
		e, err := s.CreateEvent(s.ctx, k, gen.AgentEventCreate{URL: url, Method: gen.RequestMethodPOST, EventType: typ})
		id = e.ID
		return err
	})
	return id
}

func (s *saboteur) setState(what string, k store.AgentKey, event int64, to gen.AgentEventStateValue) {
	s.t.Helper()
	s.try(what, func() error {
		_, err := s.SetEventState(s.ctx, k, event, to)
		return err
	})
}

func (s *saboteur) moveTo(what string, k store.AgentKey, event int64, url string) {
	s.t.Helper()
	s.try(what, func() error {
		_, err := s.UpdateEvent(s.ctx, k, event, gen.AgentEventUpdate{URL: &url})
		return err
	})
}

// story does everything once at least.
func story(s *saboteur) {
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
	readinessProbe(s, k)
	again(s, k, login)
	end(s, k, board)
}

// deliver has deliveries succeed, wait, be released and fail.
func deliver(s *saboteur, k store.AgentKey) {
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
	next := s.recordAs("200, and go on", claimed[0], answer(200), true)
	next = s.recordAs("404, and go on", *next, answer(404), true)
	s.recordAs("503, and let go", *next, busy(503, time.Second), false)
	s.try("release", func() error { return s.Release(s.ctx, claimed[1]) })
}

// move corrects what is in flight and what waits, and comes back.
func move(s *saboteur, k store.AgentKey, event int64) {
	s.clock.add(2 * time.Second)
	claimed := s.claim("claim again", 2)
	s.moveTo("to another receiver, in flight", k, event, board)
	s.recordAs("500 from the old one", to(crm, claimed), answer(500), true)
	s.recordAs("200", to(board, claimed), answer(200), true)
	lost := s.recordAs("200 of what has followed", s.claim("what has followed", 1)[0], answer(200), true)
	s.clock.add(16 * time.Second)
	s.claim("after a lost lease", 1)
	s.recordAs("too late", *lost, answer(200), true)
	s.moveTo("back", k, event, crm)
	s.clock.add(16 * time.Second)
	s.recordAs("200 after a lost lease", s.claim("what is back", 1)[0], answer(200), true)
}

// to is the delivery that goes to a URL.
func to(url string, of []webhook.Delivery) webhook.Delivery {
	return of[slices.IndexFunc(of, func(d webhook.Delivery) bool { return d.URL == url })]
}

// pause parks and brings back, by request and by a 410.
func pause(s *saboteur, k store.AgentKey, login, logout int64) {
	s.status("logout", k, gen.AgentStatusValueLoggedOut)
	s.setState("disable", k, logout, gen.AgentEventStateValueDisabled)
	s.status("login to what is left", k, gen.AgentStatusValueAvailable)
	s.setState("enable", k, logout, gen.AgentEventStateValueEnabled)
	claimed := s.claim("what was parked", 2)
	next := s.recordAs("200", claimed[0], answer(200), true)
	s.recordAs("410", *next, answer(410), true)
	s.recordAs("200 of the board", claimed[1], answer(200), true)
	s.setState("enable after a 410", k, login, gen.AgentEventStateValueEnabled)
}

// readinessProbe opens a breaker and closes it.
func readinessProbe(s *saboteur, k store.AgentKey) {
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

// again sends what has ended once more, one and many, and tests an event.
func again(s *saboteur, k store.AgentKey, event int64) {
	first := int64(s.count("SELECT min(id) FROM deliveries")) // statements that failed have taken ids
	s.try("redeliver", func() error { _, err := s.Redeliver(s.ctx, k.Client, first); return err })
	s.recordAs("200 once more", s.claim("redelivered", 1)[0], answer(200), true)
	s.moveTo("away from what has ended", k, event, board)
	s.try("replay", func() error {
		_, err := s.CreateReplay(s.ctx, k.Client, store.DeliveryFilter{State: gen.DeliveryStateDelivered})
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

// forget prunes all that may go.
func forget(s *saboteur) {
	s.clock.add(31 * 24 * time.Hour)
	s.attempt("prune", func() error {
		s.clock.add(time.Minute)
		return s.PruneAll(s.ctx)
	}, func() string { return "" })
}

// end deletes, lets a window end, and mends.
func end(s *saboteur, k store.AgentKey, board int64) {
	s.status("last login", k, gen.AgentStatusValueAvailable)
	s.try("delete an event", func() error { return s.DeleteEvent(s.ctx, k, board) })
	s.recordAs("a failure", s.claim("the last login", 1)[0], busy(425, time.Hour), true)
	s.clock.add(25 * time.Hour)
	none := func() string { return "" } // it does its work in several transactions
	s.attempt("sweep", func() error { _, err := s.RepairLanes(s.ctx); return err }, none)
	s.sql("UPDATE lanes SET pending = 7 WHERE id = (SELECT min(id) FROM lanes)")
	s.unsound = true
	s.try("mend", func() error { _, err := s.RepairLanes(s.ctx); return err })
	s.unsound = false
	s.try("delete an agent", func() error { return s.DeleteAgent(s.ctx, k) })
	for next := &s.claim("what is over and was not tried", 1)[0]; next != nil; { // and then its logout
		next = s.recordAs("200 of what is left", *next, answer(200), true)
	}
	s.try("delete a client", func() error { return s.DeleteClient(s.ctx, "12") })
}

// What the database refuses is refused, whether it is waited for at once or not, and leaves nothing.
func TestRefusedByTheDatabase(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
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
			t.Errorf("what cannot be written to %s leaves %v, before %v", table, after, before)
		}
		f.beside(others, func() {
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

// beside does something while others log in, who then log out.
func (f *fixture) beside(others []store.AgentKey, fn func()) {
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

// wantRefused holds that an error is none that goes away by itself.
func (f *fixture) wantRefused(err error) {
	f.t.Helper()
	var known *store.Error
	if err == nil || errors.As(err, &known) {
		f.t.Errorf("what the database refuses is answered by %v", err)
	}
}

// tally is how many rows there are of what a change makes, and what agents have.
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

// refuse has the database refuse changes of an agent's rows in a table until the function that it returns is called.
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
