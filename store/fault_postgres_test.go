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

// TestPostgresFaults makes a PostgreSQL server fail in its usual ways. No operation is ever half done, and each failure
// permits a retry.
func TestPostgresFaults(t *testing.T) {
	pgtest.SQLiteOnly(t, "it starts its own server")
	c := pgtest.ForTest(t, pgtest.Options{Settings: map[string]string{
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "deadlock_timeout": "50ms",
	}})
	for name, test := range map[string]func(*sharedDatabase){
		"a change that commits late":            testLateCommit,
		"a change that never commits":           testNoCommit,
		"a deadlock, either victim":             testDeadlock,
		"a deadlock, the store is the victim":   testDeadlockOurs,
		"a serialization failure":               testSerialization,
		"a lock that is not released":           testHeldLock,
		"a statement timeout":                   testStatementTimeout,
		"many requests wait for one agent":      testManyWaiters,
		"connections end before each statement": testConnectionsEnd,
		"a locked lane":                         testHeldLane,
		"a lost notification":                   testPoll,
		"locked rows block only their waiters":  testLockedRowsBlockOnlyTheirWaiters,
		"results that need locked rows":         testHeldResults,
		"a 410 of a locked agent":               testHeldGone,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newSharedDatabase(t, c))
		})
	}
}

// sharedDatabase is a database that several stores may have open.
type sharedDatabase struct {
	*fixture
	server *pgtest.Cluster
}

// newSharedDatabase creates a database with agent 136, which has events at a receiver.
func newSharedDatabase(t *testing.T, c *pgtest.Cluster) *sharedDatabase {
	url, err := c.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	s := &sharedDatabase{&fixture{t: t, ctx: context.Background(), url: url}, c}
	s.Store = s.another()
	s.createEvents(s.agent(), "http://receiver.example/", gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
	return s
}

// another opens the database as another process would, with further connection parameters.
func (s *sharedDatabase) another(settings ...string) *store.Store {
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

// connect opens a connection alongside the stores.
func (s *sharedDatabase) connect() *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(s.ctx, s.url+"&application_name=other")
	s.check(err)
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// exec executes a statement on such a connection.
func (s *sharedDatabase) exec(conn *pgx.Conn, statement string) {
	s.t.Helper()
	_, err := conn.Exec(s.ctx, statement)
	s.check(err)
}

// number queries a number.
func (s *sharedDatabase) number(query string) (n int) {
	s.t.Helper()
	conn := s.connect()
	defer conn.Close(s.ctx)
	s.check(conn.QueryRow(s.ctx, query).Scan(&n))
	return n
}

// until polls a query until its number is not 0.
func (s *sharedDatabase) until(what, query string) {
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

// waiting counts the sessions of this database that wait for a lock.
const waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

// held is a statement that waits until release is called.
type held struct {
	reached chan struct{} // closed when the statement waits
	release func()
}

// hold makes the first statement of a store with a prefix wait.
func (s *sharedDatabase) hold(st *store.Store, prefix string) held {
	s.t.Helper()
	reached, released := make(chan struct{}), make(chan struct{})
	var first, end sync.Once
	release := func() { end.Do(func() { close(released) }) }
	s.t.Cleanup(release)
	st.WatchStatements(func(_ bool, statement string) {
		if strings.HasPrefix(statement, prefix) {
			first.Do(func() {
				close(reached)
				<-released
			})
		}
	})
	return held{reached, release}
}

// drawn is the first statement of a change after its sequence number was drawn.
const drawn = "UPDATE agents SET status"

func (s *sharedDatabase) key(id int64) store.AgentKey {
	return store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: id}
}

func login(ctx context.Context, st *store.Store, k store.AgentKey) (gen.AgentStatus, error) {
	return st.SetStatus(ctx, k, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
}

// result is the result of a change that runs in the background.
type result struct {
	gen.AgentStatus
	err error
}

func (s *sharedDatabase) begin(st *store.Store, k store.AgentKey) <-chan result {
	c := make(chan result, 1)
	go func() {
		status, err := login(s.ctx, st, k)
		c <- result{status, err}
	}()
	return c
}

// unavailable checks that an error permits a retry.
func (s *sharedDatabase) unavailable(err error) {
	s.t.Helper()
	var known *store.Error
	if !errors.As(err, &known) || known.Kind != store.Unavailable {
		s.t.Fatalf("the error is %v", err)
	}
}

// changes returns the sequence numbers in a store's feed.
func (s *sharedDatabase) changes(st *store.Store) (sequences []int64) {
	s.t.Helper()
	feed, err := st.StatusChanges(s.ctx, "12", nil, "", 100)
	s.check(err)
	for _, c := range feed.Changes {
		sequences = append(sequences, c.Sequence)
	}
	return sequences
}

func (s *sharedDatabase) wantChanges(st *store.Store, want ...int64) {
	s.t.Helper()
	if got := s.changes(st); !slices.Equal(got, want) {
		s.t.Errorf("the feed has %v, want %v", got, want)
	}
}

func (s *sharedDatabase) verify() {
	s.t.Helper()
	s.check(store.Verify(s.ctx, store.Options{URL: s.url}, func(c store.Check) {
		if c.Count > 0 {
			s.t.Errorf("%s: %d faults: %q", c.Name, c.Count, c.Violations)
		}
	}))
}

// sound checks the invariants and the number of changes and deliveries.
func (s *sharedDatabase) sound(changes, deliveries int) {
	s.t.Helper()
	if n := s.number("SELECT count(*) FROM status_changes"); n != changes {
		s.t.Errorf("%d changes are stored, want %d", n, changes)
	}
	if n := s.number("SELECT count(*) FROM deliveries"); n != deliveries {
		s.t.Errorf("%d deliveries are stored, want %d", n, deliveries)
	}
	s.verify()
}

// No reader's feed passes the number of a change that is not committed.
func testLateCommit(s *sharedDatabase) {
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
	next := other.NextChange("12")
	late.release()
	r := <-first
	s.check(r.err)
	s.wantChanges(other, 1, 2)
	select {
	case <-next:
	case <-time.After(patience):
		s.t.Error("the feed was not notified of the changes")
	}
	s.wantChanges(s.Store, 1, 2, s.login(s.key(138)).Sequence)
	s.sound(3, 1)
}

func (s *sharedDatabase) put(id int64) error {
	_, _, err := s.PutAgent(s.ctx, s.key(id), store.AgentUpdate{Name: new(string)})
	return err
}

// A number without a commit leaves a gap, which blocks the feed no longer than the transaction lasts.
func testNoCommit(s *sharedDatabase) {
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

// beginBulk is begin for a request that waits for locks, since it is not batched.
func (s *sharedDatabase) beginBulk(st *store.Store, k store.AgentKey) <-chan result {
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

// tangle makes a change lock its agent. Another connection locks the agent's lane, and then waits for the agent.
func tangle(s *sharedDatabase, settings string) (change <-chan result, conn *pgx.Conn, got <-chan error, late held) {
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
	s.until("a session waits for the agent", waiting)
	return change, conn, end, late
}

// The server ends one of the transactions, usually the other one. The change is stored once.
func testDeadlock(s *sharedDatabase) {
	change, conn, end, late := tangle(s, "SELECT 1")
	late.release()
	if err := <-end; err != nil { // otherwise the change's transaction was ended
		var victim *pgconn.PgError
		if !errors.As(err, &victim) || victim.Code != "40P01" {
			s.t.Errorf("the other transaction: %v", err)
		}
	}
	s.exec(conn, "ROLLBACK")
	s.check((<-change).err)
	s.sound(1, 1)
}

// The server ends the change's transaction. It is retried, and the change is stored once.
func testDeadlockOurs(s *sharedDatabase) {
	change, conn, end, late := tangle(s, "SET deadlock_timeout = '10min'")
	late.release()
	s.check(<-end) // only the end of the change's transaction releases the agent
	s.exec(conn, "COMMIT")
	r := <-change
	s.check(r.err)
	if !r.Changed || r.Deliveries != 1 {
		s.t.Errorf("the answer is %+v", r.AgentStatus)
	}
	s.sound(1, 1)
}

// With the isolation level serializable, the server refuses a transaction after a conflicting one. It is retried.
func testSerialization(s *sharedDatabase) {
	strict := s.another("default_transaction_isolation=serializable")
	statements, before := 0, sync.Mutex{}
	strict.BeforeStatements(func() error {
		before.Lock()
		defer before.Unlock()
		if statements++; statements == 2 { // the first statement has fixed the snapshot
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

// Another session keeps an agent locked: the request ends with an error, and stores nothing.
func testHeldLock(s *sharedDatabase) {
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

func testStatementTimeout(s *sharedDatabase) {
	hasty := s.another("statement_timeout=2000", "lock_timeout=0")
	conn := s.connect()
	s.exec(conn, "BEGIN")
	s.exec(conn, "SELECT id FROM lanes FOR UPDATE") // the agent's row is changed by then
	_, err := login(s.ctx, hasty, s.key(136))
	s.unavailable(err)
	s.exec(conn, "ROLLBACK")
	s.sound(0, 0)
	_, err = login(s.ctx, hasty, s.key(136))
	s.check(err)
	s.sound(1, 1)
}

// More requests than connections wait for a locked agent.
func testManyWaiters(s *sharedDatabase) {
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

// testConnectionsEnd ends all connections of a store before each statement of each step in turn. The step succeeds, or
// fails with an error that permits a retry. It is done completely or not at all.
func testConnectionsEnd(s *sharedDatabase) {
	v := &disconnectedStore{sharedDatabase: s, conn: s.connect(), Store: s.another("application_name=victim")}
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

// anyRoom accepts all lanes.
var anyRoom = webhook.ClaimLimits{Lanes: 10, PerReceiver: 10, Take: func(string, int64) bool { return true }}

func confirmed() webhook.Outcome {
	return webhook.Outcome{Attempt: webhook.Attempt{StartedAt: time.Now(), Status: 200, Verdict: webhook.Delivered}}
}

// disconnectedStore is a store whose connections end before the n-th statement of a step.
type disconnectedStore struct {
	*sharedDatabase
	*store.Store
	conn    *pgx.Conn
	mu      sync.Mutex
	n, seen int
	failed  int
}

// before runs before each statement. Notifications of peers are not part of a step.
func (v *disconnectedStore) before(_ bool, statement string) {
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

// from starts the count of statements.
func (v *disconnectedStore) from(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.n, v.seen = n, 0
}

// try runs a step with a disconnection before each of its statements in turn, until it succeeds.
func (v *disconnectedStore) try(what string, step func() error) {
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

// A claim skips locked lanes, and takes the others.
func testHeldLane(s *sharedDatabase) {
	s.check(s.put(137))
	s.createEvents(s.key(137), "http://receiver.example/", gen.EventTypeAgentLogin)
	s.login(s.key(136))
	conn := s.connect()
	s.exec(conn, "BEGIN")
	s.exec(conn, "SELECT id FROM lanes FOR UPDATE")
	s.exec(conn, "SAVEPOINT all_of_them")
	s.check(s.put(138))
	s.createEvents(s.key(138), "http://other.example/", gen.EventTypeAgentLogin)
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

// Only a request that needs a locked agent or lane waits, however long the lock lasts.
func testLockedRowsBlockOnlyTheirWaiters(s *sharedDatabase) {
	patient := s.another("lock_timeout=0")
	s.check(errors.Join(s.put(137), s.put(138), s.put(139)))
	s.createEvents(s.key(137), "http://other.example/", gen.EventTypeAgentLogin)
	s.createEvents(s.key(138), "http://receiver.example/", gen.EventTypeAgentLogin)
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
		s.t.Errorf("%d requests wait for locks, want 2", n)
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
		s.t.Errorf("%d changes of the locked agents were stored, want 2", made)
	}
	s.sound(4, 3)
}

// One result needs a locked lane, and another one a locked receiver.
func testHeldResults(s *sharedDatabase) {
	patient := s.another("lock_timeout=0")
	for id, url := range map[int64]string{137: "http://failing.example/", 138: "http://other.example/"} {
		s.check(s.put(id))
		s.createEvents(s.key(id), url, gen.EventTypeAgentLogin)
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

// An answer of 410 disables an event of a locked agent. It delays no such answer for another agent.
func testHeldGone(s *sharedDatabase) {
	patient := s.another("lock_timeout=0")
	s.check(s.put(137))
	s.createEvents(s.key(137), "http://other.example/", gen.EventTypeAgentLogin)
	s.login(s.key(136))
	s.login(s.key(137))
	claimed, _, err := s.Claim(s.ctx, anyRoom)
	s.check(err)
	conn := s.connect()
	s.exec(conn, "BEGIN")
	s.exec(conn, "SELECT id FROM agents WHERE agent_id = 136 FOR UPDATE")
	record := func(d webhook.Delivery) error {
		o := webhook.Outcome{Attempt: webhook.Attempt{StartedAt: time.Now(), Status: 410, Verdict: webhook.Gone}}
		_, err := patient.Record(s.ctx, d, o, true)
		return err
	}
	if len(claimed) != 2 || claimed[0].Data.AgentID != "136" {
		s.t.Fatalf("claimed: %+v", claimed)
	}
	end := make(chan error, 1)
	go func() { end <- record(claimed[0]) }()
	s.until("the first one waits", waiting)
	s.check(record(claimed[1]))
	s.exec(conn, "ROLLBACK")
	s.check(<-end)
	if n := s.number("SELECT count(*) FROM agent_events WHERE state = 'disabled'"); n != 2 {
		s.t.Errorf("%d events are disabled, want 2", n)
	}
}

// A poll finds a change without a notification, once for all waiting requests. Requests of other clients do not wake
// up.
func testPoll(s *sharedDatabase) {
	s.check(s.PollChanges(s.ctx))
	next, unchanged, quiet := s.NextChange("12"), s.NextChange("12"), s.NextChange("13")
	s.check(s.PollChanges(s.ctx))
	if closed(next) {
		s.t.Error("the poll notified without a change")
	}
	conn := s.connect()
	s.exec(conn,
		`INSERT INTO status_changes (client_id, kind, agent_id, name, old_status, new_status, event_source, changed_at,
		created_at, fired, parked, skipped, traceparent) SELECT client_id, kind, agent_id, name, status, 'available',
			'api', 1, 1, '', '', '', ''
		FROM agents WHERE agent_id = 136`)
	if closed(unchanged) {
		s.t.Error("a request was notified before the poll")
	}
	s.check(s.PollChanges(s.ctx))
	if !closed(next) || closed(quiet) {
		s.t.Errorf("the client's request was notified: %v; another client's: %v", closed(next), closed(quiet))
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
