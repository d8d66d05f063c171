package main

import (
	"context"
	"database/sql"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/oapi-codegen/nullable"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// seedTime is when the seed's example happens, and what a world's clock says at first.
const seedTime = "2017-05-30T15:07:50.000Z"

// seedEpoch is the epoch of a world's store.
const seedEpoch = "9f86d081884c7d65"

// world is the real server on a real store of its own. No dispatcher runs: what is owed stays pending.
type world struct {
	testing.TB
	*contract
	kind   kind // of the scenario
	clock  atomic.Int64
	store  *store.Store
	closed bool    // the store is
	db     *sql.DB // another connection to the store's database
	all    string  // on PostgreSQL, the query of all that is in it
	none   string  // the statements that empty it
	server *httptest.Server
	given  string     // what is arranged, by the scenario's family
	before []string   // dump of what was arranged
	reply  *reply     // what the scenario's request was answered with
	log    transcript // its warnings and errors

	receivers *receivers
	stopping  chan struct{} // closed: nobody waits for what may come
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, contract: theContract(t), kind: ofLocal}
	w.receivers, w.stopping = &receivers{}, make(chan struct{})
	w.set(seedTime)
	log := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	databaseURL := pgtest.URL(t)
	var err error
	w.store, err = store.Open(t.Context(), store.Options{URL: databaseURL, Now: w.now, Log: log})
	w.must(err)
	t.Cleanup(w.close)
	w.db = openBeside(t, databaseURL)
	w.all, w.none = w.everything(), w.nothing()
	w.exec("UPDATE epochs SET epoch = ?", seedEpoch)
	w.admit(w.db)
	sender := webhook.NewSender(webhook.SenderOptions{Transport: w.receivers})
	h := newHandlers(w.store, webhook.NewGuard(nil), sender, nil, w.stopping)
	h.sessions.life = 0
	router, err := newRouter(h, time.Now, log)
	w.must(err)
	w.server = httptest.NewUnstartedServer(router)
	w.server.Config = newServer(router, log, usualBounds())
	w.server.Start()
	w.server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(w.server.Close)
	return w
}

// in lends the world to a subtest.
func (w *world) in(t *testing.T, test func()) {
	t.Helper()
	mine := w.TB
	w.TB = t
	defer func() { w.TB = mine }()
	test()
}

// arrange makes the store what a scenario begins with. For one of the same family as the one before, that is no work
// unless that one has changed something.
func (w *world) arrange(s scenario) {
	w.Helper()
	if w.given != "" && w.given == s.family && slices.Equal(w.before, w.dump()) {
		return
	}
	w.clear()
	w.kind = s.kind
	w.set(seedTime)
	if s.given != nil {
		s.given(w)
	}
	w.given, w.before = s.family, w.dump()
}

// clear empties the store. Ids begin at 1 again.
func (w *world) clear() {
	w.Helper()
	w.settle()
	counted := w.rows(w.db, "SELECT made FROM requests")
	w.empty()
	if len(counted) > 0 {
		w.settle() // it forgets what is not there
	}
}

// settle has the store write what it has in mind.
func (w *world) settle() {
	w.Helper()
	ended, end := context.WithCancel(w.Context())
	end()
	w.store.Work(ended)
}

func (w *world) empty() {
	w.Helper()
	tx, err := w.db.BeginTx(w.Context(), nil)
	w.must(err)
	defer func() { w.must(tx.Commit()) }()
	w.execOn(tx, w.none)
	w.admit(tx)
}

func (w *world) exec(statement string, args ...any) {
	w.Helper()
	w.execOn(w.db, statement, args...)
}

func (w *world) execOn(db querier, statement string, args ...any) {
	w.Helper()
	if len(args) > 0 {
		statement = pgtest.Numbered(statement)
	} else if pgtest.OnPostgres() {
		args = []any{pgx.QueryExecModeSimpleProtocol} // one statement may hold several
	}
	_, err := db.ExecContext(w.Context(), statement, args...)
	w.must(err)
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) close() {
	if !w.closed {
		w.closed = true
		w.must(w.store.Close())
	}
}

func (w *world) now() time.Time { return time.UnixMilli(w.clock.Load()) }

// set moves the clock.
func (w *world) set(rfc3339 string) {
	w.Helper()
	at, err := time.Parse(time.RFC3339, rfc3339)
	w.must(err)
	w.clock.Store(at.UnixMilli())
}

// A clientFixture is a client in the store, to which agents can be added.
type clientFixture struct {
	*world
	id string
}

func (w *world) client(id string) clientFixture {
	w.Helper()
	if _, err := w.store.Client(w.Context(), id); err != nil {
		_, _, err = w.store.PutClient(w.Context(), id, gen.ClientUpdate{})
		w.must(err)
	}
	return clientFixture{w, id}
}

func (c clientFixture) named(name string) clientFixture {
	c.Helper()
	_, _, err := c.store.PutClient(c.Context(), c.id, gen.ClientUpdate{Name: &name})
	c.must(err)
	return c
}

// An agentFixture is an agent in the store. It goes on where its client left off.
type agentFixture struct {
	clientFixture
	key store.AgentKey
}

// agent is an agent of the scenario's kind.
func (c clientFixture) agent(id int64) agentFixture { return c.agentOf(c.kind, id) }
func (c clientFixture) local(id int64) agentFixture { return c.agentOf(ofLocal, id) }

func (c clientFixture) remote(id int64) agentFixture { return c.agentOf(ofRemote, id) }

func (c clientFixture) agentOf(k kind, id int64) agentFixture {
	a := agentFixture{c, store.AgentKey{Client: c.id, Type: k.word, ID: id}}
	return a.put(store.AgentUpdate{Name: &k.name})
}

func (a agentFixture) put(u store.AgentUpdate) agentFixture {
	a.Helper()
	_, _, err := a.store.PutAgent(a.Context(), a.key, u)
	a.must(err)
	return a
}

// on puts the agent on an extension.
func (a agentFixture) on(extension int64) agentFixture {
	return a.put(store.AgentUpdate{ExtensionID: nullable.NewNullableWithValue(extension)})
}

func (a agentFixture) login() agentFixture { return a.is(gen.AgentStatusValueAvailable) }

func (a agentFixture) logout() agentFixture { return a.is(gen.AgentStatusValueLoggedOut) }

func (a agentFixture) is(status gen.AgentStatusValue) agentFixture {
	a.Helper()
	_, err := a.store.SetStatus(a.Context(), a.key, gen.AgentStatusUpdate{AgentStatus: status})
	a.must(err)
	return a
}

// event registers the seed's URL.
func (a agentFixture) event(method gen.RequestMethod, typ gen.EventType) agentFixture {
	a.Helper()
	_, err := a.store.CreateEvent(a.Context(), a.key, gen.AgentEventCreate{URL: seedURL, Method: method, EventType: typ})
	a.must(err)
	return a
}

const seedURL = "https://somehost.com/fordel/show.php"

// What scenarios begin with: nothing, client 12, its agents local 136 and remote 7, their events 1 and 2.
func (w *world) withClient() { w.client("12").named("Ringme") }

func (w *world) withAgents() {
	w.withClient()
	w.client("12").local(136).remote(7)
}

func (w *world) withEvents() {
	w.withAgents()
	w.client("12").local(136).event(gen.RequestMethodGET, gen.EventTypeAgentLogin).
		remote(7).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
}

func (w *world) withLogin() {
	w.withEvents()
	w.client("12").agent(w.kind.id).login()
}

// send makes a request and checks what comes back against the contract.
func (w *world) send(s scenario) *reply {
	w.Helper()
	a, err := w.try(s)
	w.must(err)
	if err := w.check(a); err != nil {
		w.Errorf("%s: %v\n%d %s", s.request, err, a.status, a.body)
	}
	return a
}

// try makes a request. Any goroutine may call it.
func (w *world) try(s scenario) (*reply, error) {
	method, target, _ := strings.Cut(s.request, " ")
	base := w.base
	if s.atRoot {
		base = ""
	}
	r, err := http.NewRequestWithContext(w.Context(), method, w.server.URL+base+target, s.reader())
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+asOperator.token)
	if s.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range s.header {
		if r.Header.Set(name, value); value == "" {
			r.Header.Del(name)
		}
	}
	a := &reply{endpoint: w.at(method, r.URL), request: r, sent: s.body}
	response, err := w.server.Client().Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	a.status, a.header = response.StatusCode, response.Header
	a.body, err = io.ReadAll(response.Body)
	return a, err
}

// reader is the body; one whose length nobody knows is sent chunked.
func (s scenario) reader() io.Reader {
	switch {
	case s.chunked:
		return struct{ io.Reader }{strings.NewReader(s.body)}
	case s.body == "":
		return nil
	}
	return strings.NewReader(s.body)
}

// get makes a further request of a scenario and compares the answer.
func (w *world) get(target, want string) {
	w.Helper()
	a := w.send(scenario{request: "GET " + target})
	if a.status != http.StatusOK {
		w.Errorf("GET %s: %d %s", target, a.status, a.body)
	}
	w.same("GET "+target, want, a.body)
}

// same compares JSON texts; the order of fields counts.
func (w *world) same(what, want string, got []byte) {
	w.Helper()
	wanted, err := tokens([]byte(want))
	w.must(err)
	have, err := tokens(got)
	if err != nil || !cmp.Equal(wanted, have) {
		w.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

// dump is all that is in the store, row by row, the last ids that were given included.
func (w *world) dump() (all []string) {
	w.Helper()
	if pgtest.OnPostgres() {
		all = w.rows(w.db, w.all)
		slices.Sort(all) // a row that is written goes elsewhere
		return all
	}
	for _, table := range append(w.contents(w.db), "sqlite_sequence") {
		for _, row := range w.rows(w.db, "SELECT * FROM "+table) {
			all = append(all, table+": "+row)
		}
	}
	return all
}

// stored is a dump but for what a refused request may change: PostgreSQL does not take the number of a row back that was
// not made in the end. Those of agents are shown to nobody.
func stored(dump []string) []string {
	if !pgtest.OnPostgres() {
		return dump
	}
	return slices.DeleteFunc(slices.Clone(dump), func(row string) bool { return strings.HasPrefix(row, "sqlite_sequence: agents|") })
}

// everything is the query of a dump on PostgreSQL, where a query for each table would take too long.
func (w *world) everything() string {
	w.Helper()
	if !pgtest.OnPostgres() {
		return ""
	}
	query := "SELECT 'sqlite_sequence: ' || replace(sequencename, '_id_seq', '') || '|' || last_value FROM pg_sequences " +
		"WHERE last_value IS NOT NULL"
	for _, table := range w.contents(w.db) {
		query += " UNION ALL SELECT '" + table + ": ' || r::text FROM " + table + " r"
	}
	return query
}

// nothing are the statements that empty the store.
func (w *world) nothing() (statements string) {
	w.Helper()
	for _, table := range w.contents(w.db) {
		statements += "DELETE FROM " + table + ";"
	}
	if pgtest.OnPostgres() {
		return statements + "SELECT setval(format('%I', sequencename)::regclass, 1, FALSE) FROM pg_sequences WHERE last_value IS NOT NULL"
	}
	return statements + "DELETE FROM sqlite_sequence"
}

// querier is a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, statement string, args ...any) (sql.Result, error)
}

// contents are the tables, but for what migrations and readiness write. On PostgreSQL, which looks at each statement whether
// something refers to nothing, those that refer to others come first.
func (w *world) contents(db querier) []string {
	w.Helper()
	const but = " NOT IN ('goose_db_version', 'clock', 'epochs', 'probes', 'probe_room', 'sqlite_sequence') "
	if pgtest.OnPostgres() {
		return w.rows(db, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace "+
			"AND relname"+but+"ORDER BY oid DESC")
	}
	return w.rows(db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name"+but+"ORDER BY name")
}

// rows is what a query finds, the values of a row joined.
func (w *world) rows(db querier, query string) []string {
	w.Helper()
	found, err := db.QueryContext(w.Context(), query)
	w.must(err)
	defer found.Close()
	columns, err := found.Columns()
	w.must(err)
	values := make([]sql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	all := []string{}
	for found.Next() {
		w.must(found.Scan(into...))
		row := make([]string, len(values))
		for i, v := range values {
			if row[i] = v.String; !v.Valid {
				row[i] = "NULL"
			}
		}
		all = append(all, strings.Join(row, "|"))
	}
	w.must(found.Err())
	return all
}

// owes compares what the store owes: method, event type by the change's new status, and whose change it was.
func (w *world) owes(want ...string) {
	w.Helper()
	got := w.rows(w.db, "SELECT d.method || ' ' || d.url || ' ' || d.state, c.client_id, c.kind, c.agent_id, "+
		"c.new_status, c.event_source FROM deliveries d JOIN status_changes c ON c.id = d.change_id ORDER BY d.id")
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		w.Errorf("deliveries (-want +got):\n%s", diff)
	}
}
