package api

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
	"github.com/agentevents/agentevents/server/internal/auth"
	"github.com/agentevents/agentevents/server/internal/servertest"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// exampleTime is the time of the example in the original API, and the initial time of a testServer's clock.
const exampleTime = "2017-05-30T15:07:50.000Z"

// testEpoch is the epoch of a testServer's store.
const testEpoch = "9f86d081884c7d65"

// testServer is the real server with a real store of its own. The clock and the receivers are fake. No dispatcher runs,
// so deliveries stay pending.
type testServer struct {
	testing.TB
	*document
	kind            agentKind // of the scenario
	clock           atomic.Int64
	store           *store.Store
	closed          bool    // whether the store is closed
	db              *sql.DB // another connection to the store's database
	dumpQuery       string  // query of dump on PostgreSQL
	emptyStatements string  // statements of deleteAll
	server          *httptest.Server
	arranged        string       // the last sharedSetup
	rowsBefore      []string     // dump after the setup
	response        *apiResponse // answer to the scenario's request
	log             lab.Log      // warnings and errors

	receivers *fakeReceivers
	stopping  chan struct{} // closed to end polls
}

func newTestServer(t testing.TB) *testServer {
	t.Helper()
	ts := &testServer{TB: t, document: testDocument(t), kind: localKind}
	ts.receivers, ts.stopping = &fakeReceivers{}, make(chan struct{})
	ts.setTime(exampleTime)
	log := slog.New(slog.NewTextHandler(&ts.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	databaseURL := pgtest.URL(t)
	var err error
	ts.store, err = store.Open(t.Context(), store.Options{URL: databaseURL, Now: ts.now, Log: log})
	ts.must(err)
	t.Cleanup(ts.close)
	ts.db = servertest.OpenDatabase(t, databaseURL)
	ts.dumpQuery, ts.emptyStatements = ts.buildDumpQuery(), ts.buildEmptyStatements()
	ts.exec("UPDATE epochs SET epoch = ?", testEpoch)
	ts.addTokens(ts.db)
	sender := webhook.NewSender(webhook.SenderOptions{Transport: ts.receivers})
	o := Options{
		Store: ts.store, Guard: webhook.NewGuard(webhook.GuardOptions{}), Sender: sender, Log: log,
		Heartbeat: time.Now, Stopping: ts.stopping,
	}
	h := newHandlers(o)
	h.tokens = auth.NewTokenCache(ts.store, 0)
	router, err := h.router(o)
	ts.must(err)
	ts.server = httptest.NewUnstartedServer(router)
	ts.server.Config = newServer(router, log, DefaultLimits())
	ts.server.Start()
	ts.server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(ts.server.Close)
	return ts
}

// runIn runs a test whose failures ts reports to a subtest.
func (ts *testServer) runIn(t *testing.T, test func()) {
	t.Helper()
	outer := ts.TB
	ts.TB = t
	defer func() { ts.TB = outer }()
	test()
}

// arrange runs the setup of a scenario on an empty store. It does nothing if the previous scenario had the same
// sharedSetup and changed nothing.
func (ts *testServer) arrange(s scenario) {
	ts.Helper()
	if ts.arranged != "" && ts.arranged == s.sharedSetup && slices.Equal(ts.rowsBefore, ts.dump()) {
		return
	}
	ts.reset()
	ts.kind = s.kind
	ts.setTime(exampleTime)
	if s.setup != nil {
		s.setup(ts)
	}
	ts.arranged, ts.rowsBefore = s.sharedSetup, ts.dump()
}

// reset empties the store. Ids begin at 1.
func (ts *testServer) reset() {
	ts.Helper()
	ts.flush()
	counted := ts.rows(ts.db, "SELECT made FROM requests")
	ts.deleteAll()
	if len(counted) > 0 {
		ts.flush() // drops the counts of deleted rows
	}
}

// flush makes the store write the counts that it has in memory.
func (ts *testServer) flush() {
	ts.Helper()
	ended, end := context.WithCancel(ts.Context())
	end()
	ts.store.Work(ended)
}

func (ts *testServer) deleteAll() {
	ts.Helper()
	tx, err := ts.db.BeginTx(ts.Context(), nil)
	ts.must(err)
	defer func() { ts.must(tx.Commit()) }()
	ts.execOn(tx, ts.emptyStatements)
	ts.addTokens(tx)
}

func (ts *testServer) exec(statement string, args ...any) {
	ts.Helper()
	ts.execOn(ts.db, statement, args...)
}

func (ts *testServer) execOn(db querier, statement string, args ...any) {
	ts.Helper()
	if len(args) > 0 {
		statement = pgtest.Numbered(statement)
	} else if pgtest.OnPostgres() {
		args = []any{pgx.QueryExecModeSimpleProtocol} // allows several statements in a text
	}
	_, err := db.ExecContext(ts.Context(), statement, args...)
	ts.must(err)
}

func (ts *testServer) must(err error) {
	ts.Helper()
	if err != nil {
		ts.Fatal(err)
	}
}

func (ts *testServer) close() {
	if !ts.closed {
		ts.closed = true
		ts.must(ts.store.Close())
	}
}

func (ts *testServer) now() time.Time { return time.UnixMilli(ts.clock.Load()) }

// setTime sets the clock.
func (ts *testServer) setTime(rfc3339 string) {
	ts.Helper()
	at, err := time.Parse(time.RFC3339, rfc3339)
	ts.must(err)
	ts.clock.Store(at.UnixMilli())
}

// clientFixture is a client in the store. Its methods create agents.
type clientFixture struct {
	*testServer
	id string
}

func (ts *testServer) client(id string) clientFixture {
	ts.Helper()
	if _, err := ts.store.Client(ts.Context(), id); err != nil {
		_, _, err = ts.store.PutClient(ts.Context(), id, gen.ClientUpdate{})
		ts.must(err)
	}
	return clientFixture{ts, id}
}

func (c clientFixture) withName(name string) clientFixture {
	c.Helper()
	_, _, err := c.store.PutClient(c.Context(), c.id, gen.ClientUpdate{Name: &name})
	c.must(err)
	return c
}

// agentFixture is an agent in the store. It also has the methods of its client.
type agentFixture struct {
	clientFixture
	key store.AgentKey
}

// agent creates an agent of the scenario's kind.
func (c clientFixture) agent(id int64) agentFixture { return c.agentOf(c.kind, id) }
func (c clientFixture) local(id int64) agentFixture { return c.agentOf(localKind, id) }

func (c clientFixture) remote(id int64) agentFixture { return c.agentOf(remoteKind, id) }

func (c clientFixture) agentOf(k agentKind, id int64) agentFixture {
	a := agentFixture{c, store.AgentKey{Client: c.id, Type: k.agentType, ID: id}}
	return a.update(store.AgentUpdate{Name: &k.name})
}

func (a agentFixture) update(u store.AgentUpdate) agentFixture {
	a.Helper()
	_, _, err := a.store.PutAgent(a.Context(), a.key, u)
	a.must(err)
	return a
}

// onExtension assigns the agent to an extension.
func (a agentFixture) onExtension(extension int64) agentFixture {
	return a.update(store.AgentUpdate{ExtensionID: nullable.NewNullableWithValue(extension)})
}

func (a agentFixture) login() agentFixture { return a.setStatus(gen.AgentStatusValueAvailable) }

func (a agentFixture) logout() agentFixture { return a.setStatus(gen.AgentStatusValueLoggedOut) }

func (a agentFixture) setStatus(status gen.AgentStatusValue) agentFixture {
	a.Helper()
	_, err := a.store.SetStatus(a.Context(), a.key, gen.AgentStatusUpdate{AgentStatus: status})
	a.must(err)
	return a
}

// event creates an event with exampleURL.
func (a agentFixture) event(method gen.RequestMethod, typ gen.EventType) agentFixture {
	a.Helper()
	create := gen.AgentEventCreate{URL: exampleURL, Method: method, EventType: typ}
	_, err := a.store.CreateEvent(a.Context(), a.key, create)
	a.must(err)
	return a
}

const exampleURL = "https://somehost.com/fordel/show.php"

func (ts *testServer) withClient() { ts.client("12").withName("Ringme") }

func (ts *testServer) withAgents() {
	ts.withClient()
	ts.client("12").local(136).remote(7)
}

func (ts *testServer) withEvents() {
	ts.withAgents()
	ts.client("12").local(136).event(gen.RequestMethodGET, gen.EventTypeAgentLogin).
		remote(7).event(gen.RequestMethodGET, gen.EventTypeAgentLogin)
}

func (ts *testServer) withLogin() {
	ts.withEvents()
	ts.client("12").agent(ts.kind.id).login()
}

// send sends a request and checks the answer against openapi.yaml.
func (ts *testServer) send(s scenario) *apiResponse {
	ts.Helper()
	resp, err := ts.do(s)
	ts.must(err)
	if err := ts.check(resp); err != nil {
		ts.Errorf("%s: %v\n%d %s", s.request, err, resp.status, resp.body)
	}
	return resp
}

// do sends a request. It is safe for concurrent use.
func (ts *testServer) do(s scenario) (*apiResponse, error) {
	method, target, _ := strings.Cut(s.request, " ")
	base := ts.base
	if s.atRoot {
		base = ""
	}
	r, err := http.NewRequestWithContext(ts.Context(), method, ts.server.URL+base+target, s.bodyReader())
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+operatorToken.token)
	if s.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range s.header {
		if r.Header.Set(name, value); value == "" {
			r.Header.Del(name)
		}
	}
	resp := &apiResponse{operation: ts.operationAt(method, r.URL), request: r, requestBody: s.body}
	response, err := ts.server.Client().Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	resp.status, resp.header = response.StatusCode, response.Header
	resp.body, err = io.ReadAll(response.Body)
	return resp, err
}

// bodyReader returns the body. A body of unknown length is sent chunked.
func (s scenario) bodyReader() io.Reader {
	switch {
	case s.chunked:
		return struct{ io.Reader }{strings.NewReader(s.body)}
	case s.body == "":
		return nil
	}
	return strings.NewReader(s.body)
}

// wantGet sends a GET and compares the answer.
func (ts *testServer) wantGet(target, want string) {
	ts.Helper()
	resp := ts.send(scenario{request: "GET " + target})
	if resp.status != http.StatusOK {
		ts.Errorf("GET %s: %d %s", target, resp.status, resp.body)
	}
	ts.wantJSON("GET "+target, want, resp.body)
}

// wantJSON compares JSON texts, including the order of fields.
func (ts *testServer) wantJSON(what, want string, got []byte) {
	ts.Helper()
	wanted, err := tokens([]byte(want))
	ts.must(err)
	have, err := tokens(got)
	if err != nil || !cmp.Equal(wanted, have) {
		ts.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

// dump returns all rows of the store, and the last ids that it assigned.
func (ts *testServer) dump() (all []string) {
	ts.Helper()
	if pgtest.OnPostgres() {
		all = ts.rows(ts.db, ts.dumpQuery)
		slices.Sort(all) // an update moves a row
		return all
	}
	for _, table := range append(ts.tables(ts.db), "sqlite_sequence") {
		for _, row := range ts.rows(ts.db, "SELECT * FROM "+table) {
			all = append(all, table+": "+row)
		}
	}
	return all
}

// stableRows returns a dump without the ids of agents, which a refused request may consume: PostgreSQL does not reuse
// the id of a row that was rolled back. The API does not show these ids.
func stableRows(dump []string) []string {
	if !pgtest.OnPostgres() {
		return dump
	}
	return slices.DeleteFunc(slices.Clone(dump),
		func(row string) bool { return strings.HasPrefix(row, "sqlite_sequence: agents|") })
}

// buildDumpQuery returns one query for all tables on PostgreSQL, where a query for each table would take too long.
func (ts *testServer) buildDumpQuery() string {
	ts.Helper()
	if !pgtest.OnPostgres() {
		return ""
	}
	query := "SELECT 'sqlite_sequence: ' || replace(sequencename, '_id_seq', '') || '|' || last_value FROM " +
		"pg_sequences " +
		"WHERE last_value IS NOT NULL"
	for _, table := range ts.tables(ts.db) {
		query += " UNION ALL SELECT '" + table + ": ' || r::text FROM " + table + " r"
	}
	return query
}

// buildEmptyStatements returns the statements that empty the store.
func (ts *testServer) buildEmptyStatements() (statements string) {
	ts.Helper()
	for _, table := range ts.tables(ts.db) {
		statements += "DELETE FROM " + table + ";"
	}
	statements += "UPDATE retention SET counted = 0;"
	if pgtest.OnPostgres() {
		return statements +
			"SELECT setval(format('%I', sequencename)::regclass, 1, FALSE) FROM pg_sequences WHERE last_value IS NOT " +
			"NULL"
	}
	return statements + "DELETE FROM sqlite_sequence"
}

// querier is a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, statement string, args ...any) (sql.Result, error)
}

// tables returns the tables of the store, without those of migrations and readiness. On PostgreSQL, a table precedes
// the tables that it references, since each DELETE checks references.
func (ts *testServer) tables(db querier) []string {
	ts.Helper()
	const others = " NOT IN ('goose_db_version', 'clock', 'epochs', 'probes', 'probe_room', 'retention', " +
		"'sqlite_sequence') "
	if pgtest.OnPostgres() {
		return ts.rows(db, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = "+
			"'public'::regnamespace "+
			"AND relname"+others+"ORDER BY oid DESC")
	}
	return ts.rows(db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name"+others+"ORDER BY name")
}

// rows returns the rows of a query. Each is its values, joined by |.
func (ts *testServer) rows(db querier, query string) []string {
	ts.Helper()
	found, err := db.QueryContext(ts.Context(), query)
	ts.must(err)
	defer found.Close()
	columns, err := found.Columns()
	ts.must(err)
	values := make([]sql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	all := []string{}
	for found.Next() {
		ts.must(found.Scan(into...))
		row := make([]string, len(values))
		for i, v := range values {
			if row[i] = v.String; !v.Valid {
				row[i] = "NULL"
			}
		}
		all = append(all, strings.Join(row, "|"))
	}
	ts.must(found.Err())
	return all
}

// wantDeliveries compares all deliveries: their method, URL and state, and the client, agent, new status and source of
// their change.
func (ts *testServer) wantDeliveries(want ...string) {
	ts.Helper()
	got := ts.rows(ts.db, "SELECT v.method || ' ' || v.url || ' ' || d.state, c.client_id, c.kind, c.agent_id, "+
		"c.new_status, c.event_source FROM deliveries d JOIN status_changes c ON c.id = d.change_id "+
		"JOIN event_versions v ON v.id = d.version_id ORDER BY d.id")
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		ts.Errorf("deliveries (-want +got):\n%s", diff)
	}
}
