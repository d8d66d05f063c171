package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// Check is one thing that Verify has looked at.
type Check struct {
	Name   string   // what must be so
	Faults []string // where it is not so, at most 20 of them
	Count  int      // of all faults
}

// maxFaults is how many faults of one kind are reported.
const maxFaults = 20

// rule is an invariant of the rows that holds whenever no transaction is open. Its query lists where it is broken, one
// text each; @now is the time, @far the first time that is further away than anything may wait.
type rule struct{ name, query string }

// sqliteRules are what other engines see to themselves.
var sqliteRules = []rule{
	{
		"every page and every row is sound",
		"SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
	},
	{"no row names one that is not there", `SELECT "table" || ' ' || rowid || ' names a missing row of ' || parent
		FROM pragma_foreign_key_check`},
}

// rules are the invariants of lanes, deliveries, status changes and receivers that the schema does not enforce. Every
// engine understands them as they are.
var rules = []rule{
	{"a lane counts what is pending in it, and is due when its first delivery is", `SELECT 'lane ' || id || ': ' ||
		actual || ' pending, its row says ' || pending || '; it is due at ' ||
			coalesce(CAST(due_at AS TEXT), 'no time') ||
		coalesce(', its first delivery at ' || first_due, '') FROM (` + inconsistentLanesSQL + ") astray"},
	{"who holds a lane has a delivery of it, and the lane is looked at when the lease ends", `SELECT 'lane ' || l.id ||
		': leased until ' || coalesce(CAST(l.lease_until AS TEXT), 'no time') || ', due at ' ||
		coalesce(CAST(l.due_at AS TEXT), 'no time') ||
		', delivery ' || coalesce(l.delivery_id || coalesce(' (' || d.state || ' in lane ' || d.lane_id ||
		')', ' (missing)'), 'none')
		FROM lanes l LEFT JOIN deliveries d ON d.id = l.delivery_id
		WHERE (l.lease_until IS NULL AND l.delivery_id IS NOT NULL) OR l.lease_until > @lease OR (l.lease_until > @now
			AND (l.due_at IS DISTINCT FROM l.lease_until OR d.id IS NULL OR (d.state = 'pending'
				AND d.lane_id <> l.id)))`},
	{
		"a delivery is finished when it has ended, and waits for nothing then",
		`SELECT 'delivery ' || id || ': ' || state ||
		', finished at ' || coalesce(CAST(finished_at AS TEXT), 'no time') || coalesce(', moving to lane ' ||
		moved_to, '') FROM deliveries
		WHERE (state IN ('pending', 'parked')) <> (finished_at IS NULL) OR (moved_to IS NOT NULL
			AND state <> 'pending')`,
	},
	{"no delivery waits longer than any delay is", `SELECT 'delivery ' || id || ': due at ' || due_at FROM deliveries
		WHERE state = 'pending' AND due_at > @far`},
	{"what was delivered has an attempt that says so, and no attempt is missing", `SELECT 'delivery ' || d.id || ': ' ||
		d.state || ' after ' || d.attempts || ' attempts, of which ' || count(a.id) || ' are there'
		FROM deliveries d LEFT JOIN attempts a ON a.delivery_id = d.id GROUP BY d.id
		HAVING (count(a.id) < d.attempts AND count(a.id) < @attempts)
			OR (d.state = 'delivered' AND count(CASE WHEN a.verdict = 'delivered' THEN 1 END) = 0)`},
	{
		"a delivery knows its last attempt",
		`SELECT 'delivery ' || id || ': its last attempt is ' || coalesce(CAST(last AS TEXT), 'none') ||
		', its row says ' || coalesce(CAST(last_attempt AS TEXT), 'none') FROM (SELECT d.id, d.last_attempt,
			(SELECT max(a.id + 0) FROM attempts a WHERE a.delivery_id = d.id) AS last FROM deliveries d) known
		WHERE last_attempt IS DISTINCT FROM last`,
	},
	{
		"a delivery says of its change what that is",
		`SELECT 'delivery ' || d.id || ': of ' || d.kind || ' agent ' || d.agent_id ||
		', to ' || d.new_status || ' at ' || d.changed_at || '; change ' || c.id || ' is of ' || c.kind ||
		' agent ' || c.agent_id ||
		', to ' || c.new_status || ' at ' || c.changed_at FROM deliveries d JOIN status_changes c ON c.id = d.change_id
		WHERE d.kind <> c.kind OR d.agent_id <> c.agent_id OR d.new_status <> c.new_status
			OR d.changed_at <> c.changed_at
			OR d.client_id <> c.client_id`,
	},
	{
		"a change makes one delivery for an event",
		`SELECT 'change ' || change_id || ': ' || count(*) || ' deliveries for event ' ||
		event_id FROM deliveries GROUP BY change_id, event_id HAVING count(*) > 1`,
	},
	{
		"a change names the events that it made deliveries for",
		`SELECT 'change ' || c.id || ': delivery ' || d.id || ' for event ' ||
		d.event_id || ', and the change names ' || c.fired || CASE c.parked WHEN '' THEN '' ELSE ' and ' || c.parked END
		FROM deliveries d JOIN status_changes c ON c.id = d.change_id
		WHERE ',' || c.fired || ',' || c.parked || ',' NOT LIKE '%,' || d.event_id || ',%'`,
	},
	{
		"no two deliveries have one webhook-id",
		`SELECT webhook_id || ': deliveries ' || string_agg(CAST(id AS TEXT), ', ' ORDER BY id)
		FROM deliveries GROUP BY webhook_id HAVING count(*) > 1`,
	},
	{
		"a delivery is in a lane of its agent",
		`SELECT 'delivery ' || d.id || ': lane ' || l.id || ' is of ' || l.kind || ' agent ' ||
		l.agent_id || ' of client ' || r.client_id || ', the change of ' || c.kind || ' agent ' || c.agent_id ||
			' of client ' || c.client_id
		FROM deliveries d JOIN status_changes c ON c.id = d.change_id
			JOIN lanes l ON l.id = coalesce(d.moved_to, d.lane_id)
		JOIN receivers r ON r.id = l.receiver_id
		WHERE c.kind <> l.kind OR c.agent_id <> l.agent_id OR (c.client_id <> r.client_id AND ` + notOfEarlierSQL +
			`)`,
	},
	{
		"what is owed goes where its event says",
		`SELECT 'delivery ' || d.id || ': ' || d.state || ', ' || d.method || ' in lane ' ||
		coalesce(d.moved_to, d.lane_id) || '; event ' || e.id || ' is ' || e.state || ', ' || e.method ||
			' in lane ' || e.lane_id ||
		CASE d.url WHEN e.url THEN '' ELSE '; the URLs differ' END
		FROM deliveries d JOIN agent_events e ON e.id = d.event_id WHERE d.state IN ('pending', 'parked') AND (
			d.url <> e.url OR d.method <> e.method OR (d.state = 'parked') <> (e.state = 'disabled')
			OR (d.state = 'pending' AND coalesce(d.moved_to, d.lane_id) <> e.lane_id))`,
	},
	{
		"an event has a lane of its agent",
		`SELECT 'event ' || e.id || ': lane ' || l.id || ' is of ' || l.kind || ' agent ' ||
		l.agent_id || ' of client ' || r.client_id FROM agent_events e JOIN agents a ON a.id = e.agent
		JOIN lanes l ON l.id = e.lane_id JOIN receivers r ON r.id = l.receiver_id
		WHERE a.kind <> l.kind OR a.agent_id <> l.agent_id OR a.client_id <> r.client_id`,
	},
	{
		"a client counts the agents and events that it has",
		`SELECT 'client ' || id || ': ' || agents || ' agents and ' || events ||
		' events by its row, ' || actual_agents || ' and ' || actual_events || ' are there' FROM (SELECT c.*,
			(SELECT count(*) FROM agents a WHERE a.client_id = c.id) AS actual_agents,
			(SELECT count(*) FROM agents a JOIN agent_events e ON e.agent = a.id
				WHERE a.client_id = c.id) AS actual_events
			FROM clients c) counted WHERE agents <> actual_agents OR events <> actual_events`,
	},
	{"there is a secret to sign with", `SELECT DISTINCT 'client ' || r.client_id || ': no secret' FROM deliveries d
		JOIN lanes l ON l.id = d.lane_id JOIN receivers r ON r.id = l.receiver_id LEFT
			JOIN secrets s ON s.client_id = r.client_id
		WHERE d.state IN ('pending', 'parked') AND (s.client_id IS NULL OR (s.secret NOT LIKE 'sealed:%' AND
			(s.secret NOT LIKE 'whsec\_%' ESCAPE '\' OR length(s.secret) NOT BETWEEN 38 AND 94)))`},
	{
		"a request with an Idempotency-Key has its answer",
		`SELECT 'application ' || application || ': a request for client ' ||
		client_id || ' has no answer' FROM idempotency_keys WHERE answer = ''`,
	},
	{
		"each change of an agent begins where the one before ended",
		`SELECT 'change ' || id || ': from ' || old_status || ' to ' ||
		new_status || coalesce(', after one to ' || before, '') FROM (SELECT c.*, coalesce(t.sequence, 0) AS truncated,
			lag(c.new_status) OVER w AS before, lag(c.id) OVER w AS before_id
			FROM status_changes c LEFT JOIN truncated t ON t.client_id = c.client_id
			WINDOW w AS (PARTITION BY c.client_id, c.kind, c.agent_id ORDER BY c.id)) ordered
		WHERE old_status = new_status OR (old_status <> before AND before_id > truncated)`,
	},
	{
		"an agent has the status of its last change",
		`SELECT a.kind || ' agent ' || a.agent_id || ' of client ' || a.client_id || ': ' ||
		a.status || ' since change ' || a.sequence || '; the last one is ' || coalesce(c.id || ' to ' ||
			c.new_status, 'missing')
		FROM agents a LEFT JOIN status_changes c ON c.id = (SELECT max(x.id) FROM status_changes x
			WHERE x.client_id = a.client_id AND x.kind = a.kind AND x.agent_id = a.agent_id)
		WHERE CASE a.sequence WHEN 0 THEN a.status <> 'logged_out' OR c.new_status <> 'logged_out'
			ELSE c.id IS DISTINCT FROM a.sequence OR c.new_status <> a.status END`,
	},
	{
		"a receiver is probed only while its breaker is open, and waits no longer than any delay is",
		`SELECT 'receiver ' || r.id ||
		': ' || r.failures || ' failures, ' || r.probes || ' probes' || coalesce(', one by lane ' || r.probe, '') ||
		coalesce(', waits until ' || r.waits, '') FROM receivers r LEFT JOIN lanes l ON l.id = r.probe
		WHERE r.failures < 0 OR r.waits > @far OR (r.failures < @failures AND (r.probes <> 0 OR r.probe IS NOT NULL))
			OR (r.failures >= @failures AND r.waits IS NULL) OR (r.probe IS NOT NULL
				AND l.receiver_id IS DISTINCT FROM r.id)`,
	},
}

// Verify looks for what should never be in a database, whether a process serves it or not, and changes nothing. It
// reports each check as soon as that is done. Each looks at a moment of its own: a transaction that reads for as long
// as all of them take would keep SQLite's log, or PostgreSQL's dead rows, from being cleaned up. A copy that is not
// complete is an error.
func Verify(ctx context.Context, o Options, done func(Check)) error {
	s := &Store{Options: o, alongside: true}
	return s.verify(ctx, done)
}

func (s *Store) verify(ctx context.Context, done func(Check)) error {
	s.setDefaults()
	s.engine = engineOf(s.URL)
	pool, err := s.engine.openVerifier(s.URL)
	if err != nil {
		return err
	}
	if err = s.engine.checkSchema(ctx, pool); err == nil {
		err = s.checkAll(ctx, pool, done)
	}
	if err := errors.Join(err, pool.Close()); err != nil {
		return fmt.Errorf("verify %s: %w", Redacted(s.URL), err)
	}
	return nil
}

// checkAll checks all rules, and stops at the first error.
func (s *Store) checkAll(ctx context.Context, pool *sql.DB, done func(Check)) error {
	var checks []func(q sqldb.Querier) (Check, error)
	for _, r := range s.engine.rules() {
		checks = append(checks, func(q sqldb.Querier) (Check, error) { return s.check(q, r) })
	}
	clock := s.databaseClock()
	for _, look := range append(checks, checkReceivers) {
		c, err := s.checkNow(ctx, pool, clock, look)
		if err != nil {
			return err
		}
		done(c)
	}
	return nil
}

// checkNow shows a check the database as it is at one moment, which is not later than the time of the store. A check
// is one statement, so that what changes between two checks is no fault.
func (s *Store) checkNow(
	ctx context.Context, pool *sql.DB, clock *postgres.Clock, look func(q sqldb.Querier) (Check, error),
) (c Check, err error) {
	moment, err := pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return c, err
	}
	db, err := s.engine.orm(moment, newStatementLog(s.Log))
	if err == nil {
		c, err = s.checkIn(sqldb.Read(ctx, db), clock, look)
	}
	return c, errors.Join(err, moment.Rollback())
}

func (s *Store) checkIn(
	q sqldb.Querier, clock *postgres.Clock, look func(q sqldb.Querier) (Check, error),
) (c Check, err error) {
	if err := s.firstRead(q); err != nil {
		return c, err
	}
	if err := clock.Read(q); err != nil {
		return c, err
	}
	return look(q)
}

// firstRead fixes what a transaction sees. It refuses a database that is copied into: what is under way has all kinds
// of faults.
func (s *Store) firstRead(q sqldb.Querier) error {
	if !s.engine.servesAlone() && !s.copying { // a file is never copied into
		return checkComplete(q)
	}
	_, err := sqldb.Value[int](q, "SELECT count(*) FROM epochs")
	return err
}

func (s *Store) check(q sqldb.Querier, r rule) (Check, error) {
	c := Check{Name: r.name}
	err := sqldb.Each(q, func(fault string) error {
		c.add(fault)
		return nil
	}, r.query, s.bounds())
	return c, err
}

// route is a URL and the lane that leads to it.
type route struct {
	URL          string
	LaneID       int64
	Scheme, Host string
	Port         int
}

// checkReceivers is the one check that needs a parser of URLs.
func checkReceivers(q sqldb.Querier) (Check, error) {
	c := Check{Name: "a lane leads to the receiver of its URL"}
	err := sqldb.Each(q, func(w route) error {
		to := origin{w.Scheme, w.Host, w.Port}
		if !to.isOf(w.URL) {
			c.add(fmt.Sprintf("lane %d: leads to %s://%s, port %d, and has a URL of another receiver",
				w.LaneID, to.scheme, to.host, to.port))
		}
		return nil
	}, routesSQL)
	return c, err
}

// routesSQL lists which URLs use which lanes.
const routesSQL = `SELECT DISTINCT x.url, x.lane_id, r.scheme, r.host, r.port FROM (
	SELECT url, lane_id FROM agent_events
	UNION ALL SELECT url, coalesce(moved_to, lane_id) FROM deliveries WHERE state = 'pending'
) x JOIN lanes l ON l.id = x.lane_id JOIN receivers r ON r.id = l.receiver_id`

func (c *Check) add(fault string) {
	if c.Count++; c.Count <= maxFaults {
		c.Faults = append(c.Faults, fault)
	}
}

// bounds are the values that the queries of rules have names for.
func (s *Store) bounds() map[string]any {
	return map[string]any{
		"now": s.now(), "far": s.latestDue(),
		"lease": s.latestLease(), "failures": webhook.BreakerThreshold, "attempts": maxAttempts,
	}
}
