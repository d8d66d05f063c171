package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// clientCounter counts something of each client: what all processes have stored, when it was last read, and what this
// process has added since. So an addition costs no commit of its own. A count may be of a period, such as an hour of
// the clock.
type clientCounter struct {
	mu     sync.Mutex
	period int64
	stored map[string]int64 // of all processes
	added  map[string]int64 // by this process, and not yet in stored
}

// Requests is a client's use of its requests per hour.
type Requests struct {
	Limit, Made int64         // requests that the client may make in an hour, and has made in the current one
	Left        time.Duration // of the current hour
}

type callerKey struct{}

// WithCaller returns a context in which SetStatus and SetStatuses charge the caller's client a request for each
// delivery, as soon as the delivery is committed. They refuse changes while AdmitDeliveries refuses. In other contexts,
// deliveries cost nothing and are not refused.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf returns the caller of a context; the zero value means an operator.
func callerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// hour is the current hour, since 1970.
func (s *Store) hour() int64 { return s.now() / time.Hour.Milliseconds() }

// Requests returns the use of a caller's client. The requests of an operator are not counted.
func (s *Store) Requests(c Caller) Requests {
	r := s.thisHour(c)
	if c.Client != "" {
		r.Made = s.requestCounter.count(c.Client, s.hour())
	}
	return r
}

// CountRequest counts a request of the caller's client, and returns the client's use. ok is false, and nothing is
// counted, if the client has reached its limit in this hour.
func (s *Store) CountRequest(c Caller) (r Requests, ok bool) {
	r, ok = s.thisHour(c), true
	if c.Client != "" {
		r.Made, ok = s.requestCounter.addBelow(c.Client, s.hour(), c.RequestLimit)
	}
	return r, ok
}

// ChargeRequests counts further requests for a request of the caller's client that is counted already.
func (s *Store) ChargeRequests(c Caller, more int) {
	if c.Client != "" && more > 0 {
		s.requestCounter.add(c.Client, s.hour(), int64(more))
	}
}

func (s *Store) thisHour(c Caller) Requests {
	r := Requests{Limit: NoLimit, Left: time.Hour - time.Duration(s.now()%time.Hour.Milliseconds())*time.Millisecond}
	if c.Client != "" {
		r.Limit = c.RequestLimit
	}
	return r
}

// count returns the count of a client in a period.
func (n *clientCounter) count(client string, period int64) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.start(period)
	return n.stored[client] + n.added[client]
}

// addBelow adds one, unless the count has reached a limit. It returns the count.
func (n *clientCounter) addBelow(client string, period, limit int64) (count int64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.start(period)
	if count = n.stored[client] + n.added[client]; count >= limit {
		return count, false
	}
	n.added[client]++
	return count + 1, true
}

// add adds to the count of a client in a period.
func (n *clientCounter) add(client string, period, more int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.start(period)
	n.added[client] += more
}

// forget deletes the counts of a deleted client.
func (n *clientCounter) forget(client string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.added, client)
	delete(n.stored, client)
}

// start drops the counts of another period. Those that are not stored yet no longer limit any client.
func (n *clientCounter) start(period int64) {
	if n.period != period || n.added == nil {
		n.period, n.stored, n.added = period, map[string]int64{}, map[string]int64{}
	}
}

// snapshot returns what this process has added. A read of the stored counts follows, and then confirm.
func (n *clientCounter) snapshot(period int64) map[string]int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.start(period)
	return maps.Clone(n.added)
}

// confirm replaces the stored counts, and subtracts a snapshot that they include. A client may have been forgotten
// meanwhile.
func (n *clientCounter) confirm(period int64, stored, snapshot map[string]int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.period != period {
		return
	}
	n.stored = stored
	for client, count := range snapshot {
		if n.added[client] -= count; n.added[client] <= 0 {
			delete(n.added, client)
		}
	}
}

// shareRequests writes the counts of this process and reads those of all processes.
func (s *Store) shareRequests(ctx context.Context) (err error) {
	hour := s.hour()
	unwritten := s.requestCounter.snapshot(hour)
	var written map[string]int64
	if len(unwritten) == 0 {
		written, err = writtenRequests(s.read(ctx), hour)
	} else {
		err = s.write(ctx, func(tx *sqldb.Tx) error {
			if err := addRequests(tx, hour, unwritten); err != nil {
				return err
			}
			written, err = writtenRequests(tx, hour)
			return err
		})
	}
	if err == nil {
		s.requestCounter.confirm(hour, written, unwritten)
	}
	return publicError(err)
}

// addRequests adds to the stored counts. It keeps the previous hour, which may still be current for another process.
func addRequests(tx *sqldb.Tx, hour int64, unwritten map[string]int64) error {
	for _, client := range slices.Sorted(maps.Keys(unwritten)) {
		err := tx.Exec("INSERT INTO requests (hour, client_id, made) VALUES (?, ?, ?) "+
			"ON CONFLICT (hour, client_id) DO UPDATE SET made = requests.made + excluded.made", hour, client,
			unwritten[client])
		if err != nil {
			return err
		}
	}
	return tx.Exec("DELETE FROM requests WHERE hour < ?", hour-1)
}

func writtenRequests(q sqldb.Querier, hour int64) (map[string]int64, error) {
	var rows []struct {
		ClientID string
		Made     int64
	}
	rows, err := sqldb.Select[struct {
		ClientID string
		Made     int64
	}](q, "SELECT client_id, made FROM requests WHERE hour = ?", hour)
	written := make(map[string]int64, len(rows))
	for _, r := range rows {
		written[r.ClientID] = r.Made
	}
	return written, err
}

// AdmitDeliveries returns an error of kind OverQuota if the caller's client has as many pending deliveries as it may
// have. The deliveries of an operator are never refused. Work counts the pending deliveries about once a second. This
// process adds its own ones to the last count.
func (s *Store) AdmitDeliveries(c Caller) error {
	if c.Client == "" {
		return nil
	}
	pending := s.pendingCounter.count(c.Client, 0)
	if pending < c.PendingLimit {
		return nil
	}
	return &Error{
		Kind: OverQuota, Status: "pending_delivery_limit_exceeded",
		Message: fmt.Sprintf("client %s may have %d pending deliveries and has %d; their number falls when they are "+
			"delivered, fail or expire, and when events are disabled or deleted", c.Client, c.PendingLimit, pending),
	}
}

// NoLimit is the greatest limit, and the limit of callers without one.
const NoLimit = 1<<31 - 1

// quota is a limit on the number of a client's rows of one kind, with its columns in clients.
type quota struct{ noun, count, limit, status string }

var (
	agentQuota = quota{"agents", "agents", "agent_limit", "agent_limit_exceeded"}
	eventQuota = quota{"events", "events", "event_limit", "agent_event_limit_exceeded"}
)

// Limits returns a client's limits and their use.
func (s *Store) Limits(ctx context.Context, client string) (m gen.ClientLimits, err error) {
	q := s.read(ctx)
	r, err := findClient(q, client)
	if err != nil {
		return m, err
	}
	m, err = s.limits(q, r)
	return m, publicError(err)
}

func (s *Store) limits(q sqldb.Querier, r clientRow) (gen.ClientLimits, error) {
	have, _, err := sqldb.Get[retainedRow](q,
		"SELECT client_id, changes, deliveries FROM retained WHERE client_id = ?", r.ID)
	if err != nil {
		return gen.ClientLimits{}, err
	}
	uses, err := sqldb.Value[struct{ Most, Pending int64 }](q, usesSQL, r.ID, r.ID)
	return gen.ClientLimits{
		StatusChange:    gen.ClientLimit{Limit: int64(s.KeepRows), Used: have.Changes},
		Delivery:        gen.ClientLimit{Limit: int64(s.KeepRows), Used: have.Deliveries},
		AgentEvent:      gen.ClientLimit{Limit: r.EventLimit, Used: r.Events},
		EventsPerAgent:  gen.ClientLimit{Limit: r.EventsPerAgentLimit, Used: uses.Most},
		Agent:           gen.ClientLimit{Limit: r.AgentLimit, Used: r.Agents},
		PendingDelivery: gen.ClientLimit{Limit: r.PendingLimit, Used: uses.Pending},
		RequestsPerHour: gen.ClientLimit{Limit: r.RequestLimit, Used: s.requestCounter.count(r.ID, s.hour())},
	}, err
}

// usesSQL reads the events of the client's agent that has the most, and the pending deliveries.
const usesSQL = "SELECT (SELECT coalesce(max((SELECT count(*) FROM agent_events e WHERE e.agent = a.id)), 0) " +
	"FROM agents a WHERE a.client_id = ?) AS most, " +
	"(SELECT CAST(coalesce(sum((SELECT sum(l.pending) FROM lanes l WHERE l.receiver_id = r.id " +
	"AND l.due_at IS NOT NULL)), 0) AS BIGINT) FROM receivers r WHERE r.client_id = ?) AS pending"

// SetLimits updates a client's limits. A nil limit stays as it is. It reads the use after the commit, so that many
// agents do not occupy the writer.
func (s *Store) SetLimits(
	ctx context.Context, client string, u gen.ClientLimitsUpdate,
) (m gen.ClientLimits, err error) {
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		r, err := lockClient(tx, client)
		if err != nil {
			return err
		}
		setLimit(&r.EventLimit, u.AgentEvent)
		setLimit(&r.EventsPerAgentLimit, u.EventsPerAgent)
		setLimit(&r.AgentLimit, u.Agent)
		setLimit(&r.RequestLimit, u.RequestsPerHour)
		setLimit(&r.PendingLimit, u.PendingDelivery)
		return tx.Exec("UPDATE clients SET event_limit = ?, events_per_agent_limit = ?, agent_limit = ?, "+
			"request_limit = ?, pending_limit = ? WHERE id = ?", r.EventLimit, r.EventsPerAgentLimit, r.AgentLimit,
			r.RequestLimit, r.PendingLimit, client)
	})
	if err != nil {
		return m, err
	}
	return s.Limits(ctx, client)
}

func setLimit(limit *int64, u gen.ClientLimitUpdate) {
	if u.Limit != nil {
		*limit = *u.Limit
	}
}

// add counts one more row of a client, or returns an error if the client has reached its limit. A transaction calls it
// after it locks the agent and before it locks lanes. It is one statement, so that concurrent calls do not exceed the
// limit.
func (l quota) add(tx *sqldb.Tx, client string) error {
	counted, err := tx.ExecCount(
		"UPDATE clients SET "+l.count+" = "+l.count+" + 1 WHERE id = ? AND "+l.count+" < "+l.limit, client,
	)
	if err != nil || counted == 1 {
		return err
	}
	is, err := sqldb.Value[use](tx, "SELECT "+l.count+" AS have, "+l.limit+" AS may FROM clients WHERE id = ?", client)
	if err != nil {
		return err
	}
	return limitError(is, l.noun, l.status, "client "+client, client)
}

// use is a limit and the number of rows that count.
type use struct{ Have, May int64 }

// limitError is the refusal of one more row.
func limitError(is use, noun, status, owner, client string) error {
	return &Error{
		Kind: Conflict, Status: status,
		Message: fmt.Sprintf("%s may have %d %s and has %d; GET /api/ver1.0/client/%s/limit/ shows its limits",
			owner, is.May, noun, is.Have, client),
	}
}

// addEvent counts one more event of an agent, which must be locked, or returns an error if the agent or its client has
// reached its limit.
func addEvent(tx *sqldb.Tx, k AgentKey, agent int64) error {
	is, err := sqldb.Value[use](tx, "SELECT (SELECT count(*) FROM agent_events WHERE agent = ?) AS have, "+
		"events_per_agent_limit AS may FROM clients WHERE id = ?", agent, k.Client)
	if err != nil {
		return err
	}
	if is.Have >= is.May {
		return limitError(is, "events", "events_per_agent_limit_exceeded", k.String(), k.Client)
	}
	return eventQuota.add(tx, k.Client)
}

// remove counts one row less.
func (l quota) remove(tx *sqldb.Tx, client string) error {
	return tx.Exec("UPDATE clients SET "+l.count+" = "+l.count+" - 1 WHERE id = ?", client)
}

// removeAgents subtracts deleted agents and their events. ids may have duplicates.
func removeAgents(tx *sqldb.Tx, client string, ids []int64, agents int) error {
	return tx.Exec("UPDATE clients SET agents = agents - ?, events = events - "+
		"(SELECT count(*) FROM agent_events WHERE agent IN ?) WHERE id = ?", agents, ids, client)
}
