package store_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// TestPostgresFaults has a PostgreSQL server do to the store what servers do: nothing of it is ever half done, and what
// fails says that it may be tried again.
func TestPostgresFaults(t *testing.T) {
	if pgtest.OnPostgres() {
		t.Skip("it has a server of its own, and ran on it already")
	}
	c := pgtest.ForTest(t, pgtest.Options{Settings: map[string]string{
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "deadlock_timeout": "50ms",
	}})
	for name, test := range map[string]func(*shared){
		"a change that commits late":      testLateCommit,
		"a change that never commits":     testNoCommit,
		"a deadlock, whoever has to go":   testDeadlock,
		"a deadlock, and we have to go":   testDeadlockOurs,
		"a change that came in between":   testSerialization,
		"a lock that is not let go":       testHeldLock,
		"a statement that takes too long": testStatementTimeout,
		"many wait for one agent":         testCrowd,
		"connections end in every place":  testConnectionsEnd,
		"a lane that somebody holds":      testHeldLane,
		"what nobody has heard of":        testUnheard,
		"who needs what is held, alone":   testHeldAlone,
		"results that need what is held":  testHeldResults,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newShared(t, c))
		})
	}
}

// shared is a database that several stores may have open.
type shared struct {
	*fixture
	server *pgtest.Cluster
}

// newShared makes a database with an agent that has a login at a receiver, 136.
func newShared(t *testing.T, c *pgtest.Cluster) *shared {
	url, err := c.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s := &shared{&fixture{t: t, ctx: context.Background(), url: url}, c}
	s.Store = s.another()
	s.register(s.agent(), "http://receiver.example/", gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
	return s
}

// another opens the database as another process would, with further settings of connections.
func (s *shared) another(settings ...string) *store.Store {
	s.t.Helper()
	st, err := store.Open(s.ctx, store.Options{
		URL: strings.Join(append([]string{s.url}, settings...), "&"), Log: slog.New(slog.DiscardHandler),
	})
	s.check(err)
	s.t.Cleanup(func() {
		if err := st.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return st
}

// connect is a connection of somebody else.
func (s *shared) connect() *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(s.ctx, s.url+"&application_name=somebody")
	s.check(err)
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// exec is a statement of somebody else.
func (s *shared) exec(conn *pgx.Conn, statement string) {
	s.t.Helper()
	_, err := conn.Exec(s.ctx, statement)
	s.check(err)
}

// number asks for a number.
func (s *shared) number(query string) (n int) {
	s.t.Helper()
	conn := s.connect()
	defer conn.Close(s.ctx)
	s.check(conn.QueryRow(s.ctx, query).Scan(&n))
	return n
}

// until waits for a number to be another one than 0.
func (s *shared) until(what, query string) {
	s.t.Helper()
	conn := s.connect()
	defer conn.Close(s.ctx)
	limit := time.Now().Add(patience)
	for n := 0; n == 0; {
		s.check(conn.QueryRow(s.ctx, query).Scan(&n))
		if time.Now().After(limit) {
			s.t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// waiting counts who waits for a lock in this database.
const waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

// held has the first statement of a store that begins with some words wait for the end of hold.
type held struct {
	reached chan struct{} // is closed when it waits
	release func()
}

func (s *shared) hold(st *store.Store, words string) held {
	s.t.Helper()
	reached, released := make(chan struct{}), make(chan struct{})
	var first, end sync.Once
	release := func() { end.Do(func() { close(released) }) }
	s.t.Cleanup(release)
	st.WatchStatements(func(_ bool, statement string) {
		if strings.HasPrefix(statement, words) {
			first.Do(func() {
				close(reached)
				<-released
			})
		}
	})
	return held{reached, release}
}

// drawn is the first statement of a change that comes after its number was drawn.
const drawn = "UPDATE agents SET status"

func (s *shared) key(id int64) store.AgentKey {
	return store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: id}
}

func login(ctx context.Context, st *store.Store, k store.AgentKey) (gen.AgentStatus, error) {
	return st.SetStatus(ctx, k, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
}

// result is what becomes of a change that goes on beside the test.
type result struct {
	gen.AgentStatus
	err error
}

func (s *shared) begin(st *store.Store, k store.AgentKey) <-chan result {
	c := make(chan result, 1)
	go func() {
		status, err := login(s.ctx, st, k)
		c <- result{status, err}
	}()
	return c
}

// unavailable looks whether an error says that the same may be tried again.
func (s *shared) unavailable(err error) {
	s.t.Helper()
	var known *store.Error
	if !errors.As(err, &known) || known.Kind != store.Unavailable {
		s.t.Fatalf("the error is %v", err)
	}
}

// changes are the numbers that a store's feed shows.
func (s *shared) changes(st *store.Store) (sequences []int64) {
	s.t.Helper()
	feed, err := st.StatusChanges(s.ctx, "12", nil, "", 100)
	s.check(err)
	for _, c := range feed.Changes {
		sequences = append(sequences, c.Sequence)
	}
	return sequences
}

func (s *shared) wantChanges(st *store.Store, want ...int64) {
	s.t.Helper()
	if got := s.changes(st); !slices.Equal(got, want) {
		s.t.Errorf("the feed has %v, want %v", got, want)
	}
}

func (s *shared) verify() {
	s.t.Helper()
	s.check(store.Verify(s.ctx, store.Options{URL: s.url}, func(c store.Check) {
		if c.Count > 0 {
			s.t.Errorf("%s: %d faults: %q", c.Name, c.Count, c.Faults)
		}
	}))
}

// sound looks whether all invariants hold, and whether there are as many changes and deliveries as there should be.
func (s *shared) sound(changes, deliveries int) {
	s.t.Helper()
	if n := s.number("SELECT count(*) FROM status_changes"); n != changes {
		s.t.Errorf("%d changes are stored, want %d", n, changes)
	}
	if n := s.number("SELECT count(*) FROM deliveries"); n != deliveries {
		s.t.Errorf("%d deliveries are stored, want %d", n, deliveries)
	}
	s.verify()
}

// The feed does not pass the place of a change whose transaction has its number and is not committed, whoever reads it.
func testLateCommit(s *shared) {
	other := s.another()
	s.check(errors.Join(s.put(137), s.put(138)))
	late := s.hold(s.Store, drawn)
	first := s.begin(s.Store, s.key(136))
	<-late.reached
	st, err := login(s.ctx, other, s.key(137))
	s.check(err)
	if st.Sequence != 2 {
		s.t.Fatalf("its number is %d", st.Sequence)
	}
	s.wantChanges(s.Store)
	s.wantChanges(other)
	news := other.NextChange("12")
	late.release()
	r := <-first
	s.check(r.err)
	s.wantChanges(other, 1, 2)
	select {
	case <-news:
	case <-time.After(patience):
		s.t.Error("nobody was told that there are changes")
	}
	s.wantChanges(s.Store, 1, 2, s.login(s.key(138)).Sequence)
	s.sound(3, 1)
}

func (s *shared) put(id int64) error {
	_, _, err := s.PutAgent(s.ctx, s.key(id), store.AgentUpdate{Name: new(string)})
	return err
}

// A number whose transaction ends without a commit leaves a gap, and holds up nobody for longer than it lasts.
func testNoCommit(s *shared) {
	other := s.another()
	s.check(s.put(137))
	late := s.hold(s.Store, drawn)
	first := s.begin(s.Store, s.key(136))
	<-late.reached
	st, err := login(s.ctx, other, s.key(137))
	s.check(err)
	s.wantChanges(other)
	conn := s.connect()
	s.exec(conn, "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() "+
		"AND state = 'idle in transaction'")
	s.wantChanges(other, st.Sequence)
	late.release()
	s.unavailable((<-first).err)
	s.sound(1, 0)
	again := s.login(s.key(136))
	s.wantChanges(other, st.Sequence, again.Sequence)
	s.sound(2, 1)
}

// beginBulk is begin for a request that waits for what others hold, whatever else there is to do.
func (s *shared) beginBulk(st *store.Store, k store.AgentKey) <-chan result {
	c := make(chan result, 1)
	go func() {
		results, err := st.SetStatuses(s.ctx, k.Client, []gen.AgentStatusUpdateItem{
			{AgentType: k.Type, AgentID: k.ID, AgentStatus: gen.AgentStatusValueAvailable},
		})
		if err != nil {
			c <- result{err: err}
		} else {
			c <- result{AgentStatus: *results[0].Status}
		}
	}()
	return c
}

// tangle has a change hold its agent, and somebody else hold its lane and then wait for the agent.
func tangle(s *shared, settings string) (change <-chan result, conn *pgx.Conn, got <-chan error, late held) {
	conn = s.connect()
	s.exec(conn, settings)
	s.exec(conn, "BEGIN")
	s.exec(conn, "SELECT id FROM lanes FOR UPDATE")
	late = s.hold(s.Store, "SELECT id FROM lanes")
	change = s.beginBulk(s.Store, s.key(136))
	<-late.reached
	end := make(chan error, 1)
	go func() {
		_, err := conn.Exec(s.ctx, "UPDATE agents SET name = name")
		end <- err
	}()
	s.until("somebody waits for the agent", waiting)
	return change, conn, end, late
}

// The server ends one of the transactions, mostly the other. The change is made once.
func testDeadlock(s *shared) {
	change, conn, end, late := tangle(s, "SELECT 1")
	late.release()
	if err := <-end; err != nil { // or it has won
		var victim *pgconn.PgError
		if !errors.As(err, &victim) || victim.Code != "40P01" {
			s.t.Errorf("the other transaction: %v", err)
		}
	}
	s.exec(conn, "ROLLBACK")
	s.check((<-change).err)
	s.sound(1, 1)
}

// The server ends the change's transaction: it is begun anew, and made once.
func testDeadlockOurs(s *shared) {
	change, conn, end, late := tangle(s, "SET deadlock_timeout = '10min'")
	late.release()
	s.check(<-end) // only the end of the other can have let it go on
	s.exec(conn, "COMMIT")
	r := <-change
	s.check(r.err)
	if !r.Changed || r.Deliveries != 1 {
		s.t.Errorf("the answer is %+v", r.AgentStatus)
	}
	s.sound(1, 1)
}

// A server whose transactions must fit into an order refuses one that another came before. It is begun anew.
func testSerialization(s *shared) {
	strict := s.another("default_transaction_isolation=serializable")
	statements, before := 0, sync.Mutex{}
	strict.BeforeStatements(func() error {
		before.Lock()
		defer before.Unlock()
		if statements++; statements == 2 { // the first has seen what there is
			s.login(s.key(136))
		}
		return nil
	})
	st, err := login(s.ctx, strict, s.key(136))
	s.check(err)
	if st.Changed || st.AgentStatus != gen.AgentStatusValueAvailable {
		s.t.Errorf("the answer is %+v", st)
	}
	s.sound(1, 1)
}

// Somebody holds an agent and does not let go: the request gives up meanwhile, and nothing of it is stored.
func testHeldLock(s *shared) {
	conn := s.connect()
	s.exec(conn, "BEGIN")
	s.exec(conn, "SELECT id FROM agents FOR UPDATE")
	_, err := login(s.ctx, s.Store, s.key(136))
	s.unavailable(err)
	s.exec(conn, "ROLLBACK")
	s.sound(0, 0)
	s.login(s.key(136))
	s.sound(1, 1)
}

func testStatementTimeout(s *shared) {
	hasty := s.another("statement_timeout=2000", "lock_timeout=0")
	conn := s.connect()
	s.exec(conn, "BEGIN")
	s.exec(conn, "SELECT id FROM lanes FOR UPDATE") // so that the agent is changed already
	_, err := login(s.ctx, hasty, s.key(136))
	s.unavailable(err)
	s.exec(conn, "ROLLBACK")
	s.sound(0, 0)
	_, err = login(s.ctx, hasty, s.key(136))
	s.check(err)
	s.sound(1, 1)
}

// More requests wait for an agent that somebody holds than there are connections.
func testCrowd(s *shared) {
	hasty := s.another("lock_timeout=200")
	conn := s.connect()
	s.exec(conn, "BEGIN")
	s.exec(conn, "SELECT id FROM agents FOR UPDATE")
	var all []<-chan result
	for range 50 {
		all = append(all, s.begin(hasty, s.key(136)))
	}
	for _, one := range all {
		s.unavailable((<-one).err)
	}
	s.exec(conn, "ROLLBACK")
	_, err := login(s.ctx, hasty, s.key(136))
	s.check(err)
	s.sound(1, 1)
}

// testConnectionsEnd ends all connections of a store before each statement of each step in turn. The step fails in a
// way that may be tried again, or succeeds, and is done wholly or not at all.
func testConnectionsEnd(s *shared) {
	v := &victim{shared: s, conn: s.connect(), Store: s.another("application_name=victim")}
	v.WatchStatements(v.before)
	v.try("a change", func() error {
		_, err := login(s.ctx, v.Store, s.key(136))
		return err
	})
	s.sound(1, 1)
	var claimed []webhook.Delivery
	v.try("a claim", func() (err error) {
		claimed, _, err = v.Claim(s.ctx, anyRoom)
		return err
	})
	if len(claimed) != 1 {
		s.t.Fatalf("%d deliveries were claimed", len(claimed))
	}
	v.try("a result", func() error {
		_, err := v.Record(s.ctx, claimed[0], confirmed(), true)
		return err
	})
	if n := s.number("SELECT count(*) FROM deliveries WHERE state = 'delivered' AND attempts = 1"); n != 1 {
		s.t.Errorf("%d deliveries are delivered", n)
	}
	if n := s.number("SELECT count(*) FROM attempts"); n != 1 {
		s.t.Errorf("%d attempts are stored", n)
	}
	if v.failed == 0 {
		s.t.Error("nothing failed")
	}
	s.t.Logf("%d steps failed", v.failed)
}

// anyRoom has room for whatever is due.
var anyRoom = webhook.ClaimLimits{Lanes: 10, PerReceiver: 10, Take: func(int64) bool { return true }}

func confirmed() webhook.Outcome {
	return webhook.Outcome{Attempt: webhook.Attempt{StartedAt: time.Now(), Status: 200, Verdict: webhook.Delivered}}
}

// victim is a store whose connections end before the n-th statement of a step.
type victim struct {
	*shared
	*store.Store
	conn    *pgx.Conn
	mu      sync.Mutex
	n, seen int
	failed  int
}

// before comes before each statement. What others are told is no part of a step.
func (v *victim) before(_ bool, statement string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if strings.Contains(statement, "pg_notify") {
		return
	}
	if v.seen++; v.seen == v.n {
		v.exec(v.conn,
			"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'victim' "+
				"AND datname = current_database()")
	}
}

// from begins to count statements.
func (v *victim) from(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.n, v.seen = n, 0
}

// try has a step meet its end at each of its statements, until it succeeds.
func (v *victim) try(what string, step func() error) {
	v.t.Helper()
	for n := 1; ; n++ {
		v.from(n)
		err := step()
		v.from(0)
		if v.verify(); v.t.Failed() {
			v.t.Fatalf("%s, statement %d: %v", what, n, err)
		}
		if err == nil {
			return
		}
		v.failed++
		v.unavailable(err)
	}
}

// A claim goes round a lane that somebody holds, and takes the others.
func testHeldLane(s *shared) {
	s.check(s.put(137))
	s.register(s.key(137), "http://receiver.example/", gen.EventTypeAgentLogin)
	s.login(s.key(136))
	conn := s.connect()
	s.exec(conn, "BEGIN")
	s.exec(conn, "SELECT id FROM lanes FOR UPDATE")
	s.exec(conn, "SAVEPOINT all_of_them")
	s.check(s.put(138))
	s.register(s.key(138), "http://other.example/", gen.EventTypeAgentLogin)
	s.login(s.key(138))
	claimed, _, err := s.Claim(s.ctx, anyRoom)
	s.check(err)
	if len(claimed) != 1 || claimed[0].URL != "http://other.example/" {
		s.t.Errorf("claimed are %v", claimed)
	}
	s.exec(conn, "ROLLBACK")
	claimed, _, err = s.Claim(s.ctx, anyRoom)
	s.check(err)
	if len(claimed) != 1 || claimed[0].URL != "http://receiver.example/" {
		s.t.Errorf("claimed are %v", claimed)
	}
	s.sound(2, 2)
}

// Who needs an agent or a lane that somebody holds waits for it, and nobody else does, however long that is.
func testHeldAlone(s *shared) {
	patient := s.another("lock_timeout=0")
	s.check(errors.Join(s.put(137), s.put(138), s.put(139)))
	s.register(s.key(137), "http://other.example/", gen.EventTypeAgentLogin)
	s.register(s.key(138), "http://receiver.example/", gen.EventTypeAgentLogin)
	conn := s.connect()
	s.exec(conn, "BEGIN")
	s.exec(conn, "SELECT id FROM agents WHERE agent_id = 136 FOR UPDATE")
	s.exec(conn, "SELECT l.id FROM lanes l WHERE agent_id = 137 FOR UPDATE")
	waiters := []<-chan result{s.begin(patient, s.key(136)), s.begin(patient, s.key(137)), s.begin(patient, s.key(136))}
	s.until("two of the three wait, and the third for the first",
		strings.Replace(waiting, "count(*)", "count(*) / 2", 1))
	for _, k := range []store.AgentKey{s.key(138), s.key(139)} {
		_, err := login(s.ctx, patient, k)
		s.check(err)
	}
	if n := s.number(waiting); n != 2 {
		s.t.Errorf("%d wait for what is held, want 2", n)
	}
	s.exec(conn, "ROLLBACK")
	made := 0
	for _, w := range waiters {
		r := <-w
		s.check(r.err)
		if r.Changed {
			made++
		}
	}
	if made != 2 {
		s.t.Errorf("%d changes were made of agents that were held, want 2", made)
	}
	s.sound(4, 3)
}

// The same for results, of which one needs a lane that is held and one a receiver.
func testHeldResults(s *shared) {
	patient := s.another("lock_timeout=0")
	for id, url := range map[int64]string{137: "http://failing.example/", 138: "http://other.example/"} {
		s.check(s.put(id))
		s.register(s.key(id), url, gen.EventTypeAgentLogin)
	}
	for id := range int64(3) {
		s.login(s.key(136 + id))
	}
	claimed, _, err := s.Claim(s.ctx, anyRoom)
	s.check(err)
	conn := s.connect()
	s.exec(conn, "BEGIN")
	s.exec(conn, "SELECT id FROM lanes WHERE agent_id = 136 FOR UPDATE")
	s.exec(conn, "SELECT id FROM receivers WHERE host = 'failing.example' FOR UPDATE")
	ends := map[string]chan error{}
	for _, d := range claimed {
		end, o := make(chan error, 1), confirmed()
		if d.URL == "http://failing.example/" {
			o = webhook.Outcome{
				Attempt: webhook.Attempt{StartedAt: time.Now(), Status: 500, Verdict: webhook.Retry}, Delay: time.Hour,
			}
		}
		ends[d.URL] = end
		go func() {
			_, err := patient.Record(s.ctx, d, o, true)
			end <- err
		}()
	}
	s.check(<-ends["http://other.example/"])
	s.until("the others wait", strings.Replace(waiting, "count(*)", "count(*) / 2", 1))
	s.exec(conn, "ROLLBACK")
	s.check(errors.Join(<-ends["http://receiver.example/"], <-ends["http://failing.example/"]))
	if n := s.number("SELECT count(*) FROM deliveries WHERE state = 'delivered'"); n != 2 {
		s.t.Errorf("%d are delivered, want 2", n)
	}
	if n := s.number("SELECT failures FROM receivers WHERE host = 'failing.example'"); n != 1 {
		s.t.Errorf("the receiver has failed %d times, want 1", n)
	}
	s.sound(3, 3)
}

// Of a change that nobody was told of, those who wait for it hear by a look that is shared by all; others are left
// alone.
func testUnheard(s *shared) {
	s.check(s.LookForChanges(s.ctx))
	news, unchanged, quiet := s.NextChange("12"), s.NextChange("12"), s.NextChange("13")
	s.check(s.LookForChanges(s.ctx))
	if closed(news) {
		s.t.Error("there was a change before there was one")
	}
	conn := s.connect()
	s.exec(conn,
		`INSERT INTO status_changes (client_id, kind, agent_id, name, old_status, new_status, event_source, changed_at,
		created_at, fired, parked, skipped, traceparent) SELECT client_id, kind, agent_id, name, status, 'available',
			'api', 1, 1, '', '', '', ''
		FROM agents WHERE agent_id = 136`)
	if closed(unchanged) {
		s.t.Error("somebody was told")
	}
	s.check(s.LookForChanges(s.ctx))
	if !closed(news) || closed(quiet) {
		s.t.Errorf("who waits for a change was told: %v; who waits for none: %v", closed(news), closed(quiet))
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
