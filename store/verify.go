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

// Check is the result of one check of Verify.
type Check struct {
	Name       string   // the invariant
	Violations []string // the violations, at most 20 of them
	Count      int      // the number of all violations
}

// maxViolations is the number of violations of an invariant that are reported.
const maxViolations = 20

// invariant is a condition on the rows that holds whenever no transaction is open. Its query returns one text for each
// violation. Its named parameters are those of bounds.
type invariant struct{ name, query string }

// sqliteInvariants are invariants that PostgreSQL enforces itself.
var sqliteInvariants = []invariant{
	{
		"every page and every row is sound",
		"SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
	},
	{"each row that a row refers to exists", `SELECT "table" || ' ' || rowid || ' names a missing row of ' || parent
		FROM pragma_foreign_key_check`},
}

// invariants are the invariants of lanes, deliveries, status changes and receivers that the schema does not enforce.
// Both engines execute them unchanged.
var invariants = []invariant{
	{"a lane counts its pending deliveries, and is due when its head is", `SELECT 'lane ' || id || ': ' ||
		actual || ' pending, its row says ' || pending || '; it is due at ' ||
			coalesce(CAST(due_at AS TEXT), 'no time') ||
		coalesce(', its first delivery at ' || first_due, '') FROM (` + inconsistentLanesSQL + ") inconsistent"},
	{"a leased lane has one of its deliveries in flight, and is due when its lease ends", `SELECT 'lane ' || l.id ||
		': leased until ' || coalesce(CAST(l.lease_until AS TEXT), 'no time') || ', due at ' ||
		coalesce(CAST(l.due_at AS TEXT), 'no time') ||
		', delivery ' || coalesce(l.delivery_id || coalesce(' (' || d.state || ' in lane ' || d.lane_id ||
		')', ' (missing)'), 'none')
		FROM lanes l LEFT JOIN deliveries d ON d.id = l.delivery_id
		WHERE (l.lease_until IS NULL AND l.delivery_id IS NOT NULL) OR l.lease_until > @lease_limit OR (
			l.lease_until > @now AND (l.due_at IS DISTINCT FROM l.lease_until OR d.id IS NULL OR (d.state = 'pending'
				AND d.lane_id <> l.id)))`},
	{
		"a delivery has an end time exactly if it has ended, and moves only if it is pending",
		`SELECT 'delivery ' || id || ': ' || state ||
		', finished at ' || coalesce(CAST(finished_at AS TEXT), 'no time') || coalesce(', moving to lane ' ||
		moved_to, '') FROM deliveries
		WHERE (state IN ('pending', 'parked')) <> (finished_at IS NULL) OR (moved_to IS NOT NULL
			AND state <> 'pending')`,
	},
	{"no delivery is due too late", `SELECT 'delivery ' || id || ': due at ' || due_at FROM deliveries
		WHERE state = 'pending' AND due_at > @due_limit`},
	{"a delivered delivery has a successful attempt, and no attempt is missing", `SELECT 'delivery ' || d.id || ': ' ||
		d.state || ' after ' || d.attempts || ' attempts, of which ' || count(a.id) || ' are there'
		FROM deliveries d LEFT JOIN attempts a ON a.delivery_id = d.id GROUP BY d.id
		HAVING (count(a.id) < d.attempts AND count(a.id) < @attempts)
			OR (d.state = 'delivered' AND count(CASE WHEN a.verdict = 'delivered' THEN 1 END) = 0)`},
	{
		"a delivery refers to its last attempt",
		`SELECT 'delivery ' || id || ': its last attempt is ' || coalesce(CAST(last AS TEXT), 'none') ||
		', its row says ' || coalesce(CAST(last_attempt AS TEXT), 'none') FROM (SELECT d.id, d.last_attempt,
			(SELECT max(a.id + 0) FROM attempts a WHERE a.delivery_id = d.id) AS last FROM deliveries d) known
		WHERE last_attempt IS DISTINCT FROM last`,
	},
	{
		"a delivery has the same agent, status and time as its change",
		`SELECT 'delivery ' || d.id || ': of ' || d.kind || ' agent ' || d.agent_id ||
		', to ' || d.new_status || ' at ' || d.changed_at || '; change ' || c.id || ' is of ' || c.kind ||
		' agent ' || c.agent_id ||
		', to ' || c.new_status || ' at ' || c.changed_at FROM deliveries d JOIN status_changes c ON c.id = d.change_id
		WHERE d.kind <> c.kind OR d.agent_id <> c.agent_id OR d.new_status <> c.new_status
			OR d.changed_at <> c.changed_at
			OR d.client_id <> c.client_id`,
	},
	{
		"a change has at most one delivery for an event",
		`SELECT 'change ' || change_id || ': ' || count(*) || ' deliveries for event ' ||
		event_id FROM deliveries GROUP BY change_id, event_id HAVING count(*) > 1`,
	},
	{
		"a change lists the events of its deliveries",
		`SELECT 'change ' || c.id || ': delivery ' || d.id || ' for event ' ||
		d.event_id || ', and the change names ' || c.fired || CASE c.parked WHEN '' THEN '' ELSE ' and ' || c.parked END
		FROM deliveries d JOIN status_changes c ON c.id = d.change_id
		WHERE ',' || c.fired || ',' || c.parked || ',' NOT LIKE '%,' || d.event_id || ',%'`,
	},
	{
		"each webhook-id belongs to one delivery",
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
		"an unfinished delivery that has followed its event has its version, state and lane",
		`SELECT 'delivery ' || d.id || ': ' || d.state || ', version ' || d.version_id || ' in lane ' ||
		coalesce(d.moved_to, d.lane_id) || '; event ' || e.id || ' is ' || e.state || ', version ' || e.version_id ||
			' in lane ' || e.lane_id
		FROM deliveries d JOIN agent_events e ON e.id = d.event_id WHERE d.state IN ('pending', 'parked') AND (
			d.version_id <> e.version_id OR (d.state = 'parked') <> (e.state = 'disabled')
			OR (d.state = 'pending' AND coalesce(d.moved_to, d.lane_id) <> e.lane_id)) AND NOT ` + unsweptSQL,
	},
	{
		"a sweep makes deliveries as their event is",
		`SELECT 'event ' || e.id || ': is ' || e.state || ', version ' || e.version_id || ' in lane ' || e.lane_id ||
		'; its deliveries become ' || w.state || ', version ' || w.version_id || coalesce(' in lane ' || w.lane_id, '')
		FROM event_sweeps w JOIN agent_events e ON e.id = w.event_id
		WHERE w.state <> CASE e.state WHEN 'enabled' THEN 'pending' ELSE 'parked' END
			OR w.version_id <> e.version_id
			OR w.lane_id IS DISTINCT FROM CASE e.state WHEN 'enabled' THEN e.lane_id END`,
	},
	{
		"a delivery, an attempt and an event have a version, which is of that event",
		`SELECT what || ' ' || u.id || ': version ' || u.version_id ||
		coalesce(' of event ' || v.event_id, ' is missing') || ', and it is of event ' || u.event_id FROM (
			SELECT 'delivery' AS what, id, event_id, version_id FROM deliveries
			UNION ALL SELECT 'attempt', a.id, d.event_id, a.version_id FROM attempts a
				JOIN deliveries d ON d.id = a.delivery_id
			UNION ALL SELECT 'event', id, id, version_id FROM agent_events
		) u LEFT JOIN event_versions v ON v.id = u.version_id WHERE v.event_id IS DISTINCT FROM u.event_id`,
	},
	{
		"an event has the URL and the method of its version, and its other versions are past",
		`SELECT 'event ' || v.event_id || ': ' || coalesce(e.method, 'deleted') || ', version ' || v.id || ': ' ||
		v.method || CASE v.past WHEN 1 THEN ', past' ELSE '' END || CASE WHEN e.url <> v.url THEN '; the URLs differ'
			ELSE '' END
		FROM event_versions v LEFT JOIN agent_events e ON e.version_id = v.id
		WHERE e.url <> v.url OR e.method <> v.method OR v.past <> CASE WHEN e.id IS NULL THEN 1 ELSE 0 END`,
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
	{
		"retention counts the changes and deliveries of a client",
		`SELECT 'client ' || coalesce(k.client_id, x.client_id) || ': ' || coalesce(k.changes, 0) || ' changes and ' ||
		coalesce(k.deliveries, 0) || ' deliveries are counted, ' || coalesce(x.changes, 0) || ' and ' ||
		coalesce(x.deliveries, 0) || ' are there' FROM retained k FULL JOIN (
			SELECT client_id, sum(changes) AS changes, sum(deliveries) AS deliveries FROM (
				SELECT c.client_id, 1 AS changes, 0 AS deliveries FROM status_changes c
					JOIN retention r ON c.id <= r.counted
				UNION ALL SELECT d.client_id, 0, 1 FROM deliveries d JOIN retention r ON d.change_id <= r.counted
			) rows_there GROUP BY client_id) x ON x.client_id = k.client_id
		WHERE coalesce(k.changes, 0) <> coalesce(x.changes, 0)
			OR coalesce(k.deliveries, 0) <> coalesce(x.deliveries, 0)`,
	},
	{
		"a client with unfinished deliveries has a secret",
		`SELECT DISTINCT 'client ' || r.client_id || ': no secret' FROM deliveries d
		JOIN lanes l ON l.id = d.lane_id JOIN receivers r ON r.id = l.receiver_id LEFT
			JOIN secrets s ON s.client_id = r.client_id
		WHERE d.state IN ('pending', 'parked') AND (s.client_id IS NULL OR (s.secret NOT LIKE 'sealed:%' AND
			(s.secret NOT LIKE 'whsec\_%' ESCAPE '\' OR length(s.secret) NOT BETWEEN 38 AND 94)))`,
	},
	{
		"a request with an Idempotency-Key has its answer",
		`SELECT 'application ' || application || ': a request for client ' ||
		client_id || ' has no answer' FROM idempotency_keys WHERE answer = ''`,
	},
	{
		"each change of an agent begins with the status of the change before",
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
		"a receiver has a probe only while its breaker is open, and waits no longer than any delay",
		`SELECT 'receiver ' || r.id ||
		': ' || r.failures || ' failures, ' || r.probes || ' probes' || coalesce(', one by lane ' || r.probe, '') ||
		coalesce(', waits until ' || r.waits, '') FROM receivers r LEFT JOIN lanes l ON l.id = r.probe
		WHERE r.failures < 0 OR r.waits > @due_limit
			OR (r.failures < @failures AND (r.probes <> 0 OR r.probe IS NOT NULL))
			OR (r.failures >= @failures AND r.waits IS NULL) OR (r.probe IS NOT NULL
				AND l.receiver_id IS DISTINCT FROM r.id)`,
	},
}

// Verify checks the invariants of a database, which a process may serve meanwhile, and changes nothing. It reports each
// check as soon as it is done. A copy that is not complete is an error.
//
// Each check reads at a moment of its own. One transaction for all checks would read for so long that it would delay
// the cleanup of SQLite's log or of PostgreSQL's dead rows.
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

// checkAll runs all checks, and stops at the first error.
func (s *Store) checkAll(ctx context.Context, pool *sql.DB, done func(Check)) error {
	var checks []func(q sqldb.Querier) (Check, error)
	for _, r := range s.engine.invariants() {
		checks = append(checks, func(q sqldb.Querier) (Check, error) { return s.check(q, r) })
	}
	clock := s.databaseClock()
	for _, check := range append(checks, checkReceivers) {
		c, err := s.checkNow(ctx, pool, clock, check)
		if err != nil {
			return err
		}
		done(c)
	}
	return nil
}

// checkNow runs a check in a snapshot of the database. It reads the clock after the snapshot, so that the snapshot has
// no row that was written later. A check is one statement, so that changes between two checks are no violation.
func (s *Store) checkNow(
	ctx context.Context, pool *sql.DB, clock *postgres.Clock, check func(q sqldb.Querier) (Check, error),
) (c Check, err error) {
	moment, err := pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return c, err
	}
	db, err := s.engine.orm(moment, newStatementLog(s.Log))
	if err == nil {
		c, err = s.checkIn(sqldb.Read(ctx, db), clock, check)
	}
	return c, errors.Join(err, moment.Rollback())
}

func (s *Store) checkIn(
	q sqldb.Querier, clock *postgres.Clock, check func(q sqldb.Querier) (Check, error),
) (c Check, err error) {
	if err := s.firstRead(q); err != nil {
		return c, err
	}
	if err := clock.Read(q); err != nil {
		return c, err
	}
	return check(q)
}

// firstRead fixes the snapshot of a transaction. It refuses the target of an unfinished copy, whose rows violate many
// invariants.
func (s *Store) firstRead(q sqldb.Querier) error {
	if !s.engine.servesAlone() && !s.copying { // a file is never the target of a copy
		return checkComplete(q)
	}
	_, err := sqldb.Value[int](q, "SELECT count(*) FROM epochs")
	return err
}

func (s *Store) check(q sqldb.Querier, r invariant) (Check, error) {
	c := Check{Name: r.name}
	err := sqldb.Each(q, func(violation string) error {
		c.add(violation)
		return nil
	}, r.query, s.bounds())
	return c, err
}

// route is a URL and the lane that is used for it.
type route struct {
	URL          string
	LaneID       int64
	Scheme, Host string
	Port         int
}

// checkReceivers is a check in Go, since it needs a parser of URLs.
func checkReceivers(q sqldb.Querier) (Check, error) {
	c := Check{Name: "a lane is for the receiver of its URLs"}
	err := sqldb.Each(q, func(w route) error {
		to := origin{w.Scheme, w.Host, w.Port}
		if !to.isOf(w.URL) {
			c.add(fmt.Sprintf("lane %d: is for %s://%s, port %d, and has a URL of another receiver",
				w.LaneID, to.scheme, to.host, to.port))
		}
		return nil
	}, routesSQL)
	return c, err
}

// routesSQL lists the URLs of each lane.
const routesSQL = `SELECT DISTINCT x.url, x.lane_id, r.scheme, r.host, r.port FROM (
	SELECT url, lane_id FROM agent_events
	UNION ALL SELECT v.url, coalesce(d.moved_to, d.lane_id) FROM deliveries d
		JOIN event_versions v ON v.id = d.version_id WHERE d.state = 'pending'
) x JOIN lanes l ON l.id = x.lane_id JOIN receivers r ON r.id = l.receiver_id`

func (c *Check) add(violation string) {
	if c.Count++; c.Count <= maxViolations {
		c.Violations = append(c.Violations, violation)
	}
}

// bounds are the named parameters in the queries of invariants.
func (s *Store) bounds() map[string]any {
	return map[string]any{
		"now":         s.now(),
		"due_limit":   s.dueLimit(),   // the first time that is later than any delay allows
		"lease_limit": s.leaseLimit(), // the first time that is later than the end of any lease
		"failures":    webhook.BreakerThreshold,
		"attempts":    maxKeptAttempts,
	}
}
