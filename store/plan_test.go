package store_test

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/benchfill"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// No frequent statement reads more rows than it needs, whatever the size of the store. PostgreSQL's plans depend on its
// row estimates. The test's estimates are from a time without a backlog, since they lag behind in a large table.
func TestStatementsReadByIndex(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite's plans do not depend on row estimates, and have tests of their own")
	f := open(t)
	size := benchfill.Size{Agents: 10_000, Events: 10_000, Deliveries: 20_000}
	f.check(benchfill.Fill(f.ctx, f.url, size, f.clock.Now(), func(int, int) {}))
	f.sql(manyClients)
	f.sql("VACUUM (ANALYZE)")
	f.sql(backlog)
	seen := f.watch()
	f.everyday(size)
	f.lookAt(seen, "")
}

// lookAt explains the statements that contain a text.
func (f *fixture) lookAt(seen *statements, text string) {
	f.t.Helper()
	p := f.planner()
	all := seen.all()
	maps.DeleteFunc(all, func(s sent, _ []any) bool { return !strings.Contains(s.text, text) })
	if len(all) == 0 {
		f.t.Errorf("no statement contains %q", text)
	}
	for _, statement := range slices.SortedFunc(maps.Keys(all), func(a, b sent) int {
		return cmp.Compare(a.text, b.text)
	}) {
		if !strings.HasPrefix(statement.text, "SET ") { // it has no plan
			p.look(statement, all[statement])
		}
	}
}

// manyClients adds many clients without events, and one client whose deliveries are all old.
const manyClients = `INSERT INTO clients (id, created_at) SELECT 'more-' || i, 0 FROM generate_series(1, 5000) i;
	INSERT INTO secrets (client_id, secret) SELECT id, 'x' FROM clients WHERE id LIKE 'more-%';
	INSERT INTO truncated (client_id, sequence) SELECT id, 0 FROM clients;
	INSERT INTO receivers (client_id, scheme, host, port) SELECT id, 'http', 'host', 80 FROM clients
		WHERE id LIKE 'more-%';
	INSERT INTO applications (id, client_id, name, access, hash_key, hash, created_at)
		SELECT id, id, '', 'all', '', '', 0 FROM clients WHERE id LIKE 'more-%';
	INSERT INTO tokens (hash, application, expires_at) SELECT sha256(id::bytea), number, 9000000000000
		FROM applications;
	INSERT INTO idempotency_keys (application, hash, client_id, fingerprint, answer, created_at)
		SELECT number, sha256((number || '-' || i)::bytea), client_id, '', 'x', 9000000000000
			FROM applications, generate_series(1, 4) i;
	UPDATE deliveries SET client_id = 'more-1' WHERE id <= 1500;
	UPDATE status_changes SET client_id = 'more-1' WHERE id <= 1500`

// backlog adds pending and parked deliveries to each lane that had none.
const backlog = `ALTER TABLE deliveries SET (autovacuum_enabled = false); ALTER TABLE lanes SET
	(autovacuum_enabled = false);
	INSERT INTO deliveries (webhook_id, change_id, event_id, lane_id, version_id, state, due_at, expires_at,
		created_at, client_id, kind, agent_id)
		SELECT 'msg_' || l.id || '-' || i, (12 * l.id + i) % 20000 + 1, 2 * l.id - i % 2, l.id, e.version_id,
			CASE WHEN i > 9 THEN 'parked' ELSE 'pending' END, 1, 9000000000000, 1, r.client_id, l.kind, l.agent_id
		FROM lanes l JOIN receivers r ON r.id = l.receiver_id JOIN agent_events e ON e.id = 2 * l.id,
			generate_series(1, 12) i
		WHERE l.claim = 0;
	UPDATE lanes SET pending = 9, due_at = 1 WHERE claim = 0`

// statements are the statements of a store, each with the values of its first execution.
type statements struct {
	mu   sync.Mutex
	seen map[sent][]any
}

type sent struct {
	text   string
	writes bool // whether the writer sent it
}

func (f *fixture) watch() *statements {
	f.t.Helper()
	s := &statements{seen: map[sent][]any{}}
	f.AfterStatements(func(statement string, writes bool, values []any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, is := s.seen[sent{statement, writes}]; !is {
			s.seen[sent{statement, writes}] = slices.Clone(values)
		}
	})
	return s
}

func (s *statements) all() map[sent][]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.seen)
}

// everyday runs all frequent writes and reads.
func (f *fixture) everyday(size benchfill.Size) {
	f.t.Helper()
	f.deliverEach(size)
	client, agent, login, _ := size.Agent(7)
	k := store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: agent}
	f.pages(k, login)
	f.lookUp(k, login)
	f.createOnce(k)
	f.check(f.WriteRepeats(f.ctx))
	f.check(f.ShareRequests(f.ctx))
	f.check(f.PollChanges(f.ctx))
}

// deliverEach makes deliveries with each verdict, by each kind of claim.
func (f *fixture) deliverEach(size benchfill.Size) {
	f.t.Helper()
	for i, v := range []webhook.Verdict{webhook.Delivered, webhook.Retry, webhook.Failed, webhook.Gone} {
		client, agent, _, _ := size.Agent(1000 + i)
		k := store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: agent}
		_, _, err := f.Claim(f.ctx, webhook.ClaimLimits{Lanes: 10_000, PerReceiver: 32, Take: func(string, int64) bool {
			return false
		}})
		f.check(err) // the next claim may be of fresh lanes
		f.login(k)
		f.logout(k)
		f.logout(k) // a repeated status
		room := webhook.ClaimLimits{
			Fresh: i%2 == 0, Lanes: 64, PerReceiver: 32, Take: func(string, int64) bool { return true },
		}
		claimed, _, err := f.Claim(f.ctx, room)
		f.check(err)
		next := f.record(claimed[0], v, true)
		if next != nil {
			f.check(f.Release(f.ctx, *next))
		}
	}
	client, agent, _, _ := size.Agent(4000)
	_, err := f.SetStatuses(f.ctx, client, []gen.AgentStatusUpdateItem{
		{AgentType: gen.AgentTypeLocal, AgentID: agent, AgentStatus: gen.AgentStatusValueAvailable},
	})
	f.check(err)
}

// pages reads a first page and a later one by each filter, and of each feed.
func (f *fixture) pages(k store.AgentKey, event int64) {
	f.t.Helper()
	f.pagesOf("more-1")
	f.pagesOf(k.Client)
	now := f.clock.Now()
	for _, filter := range []store.DeliveryFilter{
		{}, {EventID: event}, {AgentType: k.Type, AgentID: k.ID}, {AgentType: k.Type, AgentID: k.ID, EventID: event},
	} {
		for _, state := range []gen.DeliveryState{"", "delivered", "failed", "cancelled", "pending", "parked"} {
			for _, before := range []int64{0, 15_000} {
				filter.State = state
				filter.Since, filter.Until = time.Time{}, time.Time{}
				_, err := f.Deliveries(f.ctx, k.Client, filter, before, 100)
				f.check(err)
				filter.Since, filter.Until = now.Add(-15*24*time.Hour), now.Add(-time.Hour)
				_, err = f.Deliveries(f.ctx, k.Client, filter, before, 100)
				f.check(err)
			}
		}
	}
	_, _, err := f.AgentStatusChanges(f.ctx, k, 15_000, 100)
	f.check(err)
}

// pagesOf reads pages of everything that a client has.
func (f *fixture) pagesOf(client string) {
	f.t.Helper()
	for _, state := range []gen.DeliveryState{"", "delivered", "failed"} {
		_, err := f.Deliveries(f.ctx, client, store.DeliveryFilter{State: state}, 0, 100)
		f.check(err)
	}
	for _, after := range []*int64{nil, new(int64(1490)), new(int64(19_000))} {
		_, err := f.StatusChanges(f.ctx, client, after, "", 100)
		f.check(err)
	}
}

// lookUp reads single resources and short lists.
func (f *fixture) lookUp(k store.AgentKey, event int64) {
	f.t.Helper()
	_, err := f.Caller(f.ctx, "more-1")
	f.check(err)
	a, err := f.CreateApplication(f.ctx, k.Client, gen.ApplicationCreate{Access: gen.AccessLevelAll})
	f.check(err)
	_, err = f.IssueToken(f.ctx, a.ID, a.Secret)
	f.check(err)
	_, err = f.Delivery(f.ctx, k.Client, 19_008)
	f.check(err)
	_, err = f.Status(f.ctx, k)
	f.check(err)
	_, err = f.Events(f.ctx, k, 0, 100)
	f.check(err)
	_, err = f.EventState(f.ctx, k, event)
	f.check(err)
	_, err = f.Agents(f.ctx, k.Client, k.Type, store.AgentFilter{Limit: 100})
	f.check(err)
	_, err = f.Clients(f.ctx, "more-2", 100)
	f.check(err)
	_, err = f.Limits(f.ctx, k.Client)
	f.check(err)
}

// createOnce repeats a creation with an Idempotency-Key, and prunes an old record.
func (f *fixture) createOnce(k store.AgentKey) {
	f.t.Helper()
	of := f.operator()
	of.Client = k.Client
	for range 2 {
		f.create(func(ctx context.Context) (any, error) { return f.RotateSecret(ctx, k.Client) }, of)
	}
	f.sql("INSERT INTO idempotency_keys (application, hash, client_id, fingerprint, answer, created_at) " +
		"SELECT number, '', client_id, '', 'x', 0 FROM applications WHERE id = 'more-1'")
	f.check(f.PruneKeys(f.ctx))
}

// planner explains statements on PostgreSQL.
type planner struct {
	*fixture
	conn *sql.Conn
}

func (f *fixture) planner() planner {
	f.t.Helper()
	db, err := sql.Open("pgx", f.url)
	f.check(err)
	f.t.Cleanup(func() { f.check(db.Close()) })
	conn, err := db.Conn(f.ctx)
	f.check(err)
	f.t.Cleanup(func() { f.check(conn.Close()) })
	return planner{f, conn}
}

func (p planner) exec(statement string) {
	p.t.Helper()
	if _, err := p.conn.ExecContext(p.ctx, statement); err != nil {
		p.t.Fatalf("%s: %v", statement, err)
	}
}

// look explains a statement in a transaction that is rolled back: with a plan for its values, and with a generic plan.
// PostgreSQL may use the generic plan after five executions.
func (p planner) look(statement sent, values []any) {
	p.t.Helper()
	p.exec("PREPARE looked AS " + statement.text)
	defer p.exec("DEALLOCATE looked")
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		p.exec("BEGIN")
		for name, value := range store.ByIndex {
			if statement.writes {
				p.exec("SET LOCAL " + name + " = " + value)
			}
		}
		p.exec("SET LOCAL plan_cache_mode = " + mode)
		for _, found := range p.explain("EXECUTE looked" + literals(values)).expensive() {
			p.t.Errorf("%s, writes %v: %s\nin %s", mode, statement.writes, found, statement.text)
		}
		p.exec("ROLLBACK")
	}
}

// literals returns values as literals in the text of a statement.
func literals(values []any) string {
	if len(values) == 0 {
		return ""
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = "NULL"
		if at := reflect.ValueOf(v); at.Kind() == reflect.Pointer && !at.IsNil() {
			v = at.Elem().Interface()
		}
		switch v := v.(type) {
		case []byte:
			texts[i] = fmt.Sprintf("'\\x%x'", v)
		default:
			if at := reflect.ValueOf(v); at.IsValid() && at.Kind() != reflect.Pointer {
				texts[i] = "'" + strings.ReplaceAll(fmt.Sprint(v), "'", "''") + "'"
			}
		}
	}
	return "(" + strings.Join(texts, ", ") + ")"
}

// step is a node of a plan with its measurements.
type step struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Loops    float64 `json:"Actual Loops"`
	Rows     float64 `json:"Actual Rows"`            // per loop
	Believed float64 `json:"Plan Rows"`              // per loop, as estimated
	Left     float64 `json:"Rows Removed by Filter"` // per loop
	Hit      float64 `json:"Shared Hit Blocks"`      // of all loops
	Read     float64 `json:"Shared Read Blocks"`
	Plans    []step
}

func (p planner) explain(statement string) step {
	p.t.Helper()
	var text []byte
	err := p.conn.QueryRowContext(p.ctx, "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "+statement).Scan(&text)
	var said *pgconn.PgError
	if errors.As(err, &said) && said.Code == "23505" {
		return step{} // the statement repeats an insertion
	}
	if err != nil {
		p.t.Fatalf("%s: %v", statement, err)
	}
	var plans []struct{ Plan step }
	p.check(json.Unmarshal(text, &plans))
	return plans[0].Plan
}

const (
	mostRows = 1000 // rows that a step may read
	// blocks that a step may read per loop: 128 rows by their ids, each in a block below two blocks of the index
	mostBlocks = 500
)

// expensive lists the steps of a plan that read too much.
func (s step) expensive() (all []string) {
	rows, blocks := (s.Rows+s.Left)*s.Loops, (s.Hit+s.Read)/max(s.Loops, 1)
	if s.Loops == 0 { // the step did not run, so its estimate after the filter counts
		rows = s.Believed
	}
	if strings.Contains(s.Type, "Scan") && (rows > mostRows || blocks > mostBlocks && len(s.Plans) == 0) {
		all = append(
			all, fmt.Sprintf("%s of %s by %q: %.0f rows, %.0f blocks at a time", s.Type, s.Relation, s.Index, rows,
				blocks),
		)
	}
	for _, below := range s.Plans {
		all = append(all, below.expensive()...)
	}
	return all
}
