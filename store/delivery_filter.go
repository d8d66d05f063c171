package store

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// DeliveryFilter selects deliveries. The zero value selects all.
//
// Each filter has an index that has the selected deliveries in their order. So the time of a page does not depend on
// the length of the log. The exceptions are filters for unfinished deliveries of one agent or event: all of these
// are read for each page.
type DeliveryFilter struct {
	State        gen.DeliveryState
	AgentType    gen.AgentType // only with AgentID
	AgentID      int64
	EventID      int64
	Since, Until time.Time // the time when the change was stored: from Since on, and before Until
}

// undelivered reports whether the filter selects a state other than delivered. Such states have indexes of their own.
func (f DeliveryFilter) undelivered() bool {
	return f.State != "" && f.State != gen.DeliveryStateDelivered
}

// unfinished reports whether the filter selects deliveries that have not ended.
func (f DeliveryFilter) unfinished() bool {
	return f.State == gen.DeliveryStatePending || f.State == gen.DeliveryStateParked
}

// byChange reports whether the deliveries of an agent are in the order of its changes.
func (f DeliveryFilter) byChange() bool {
	return f.AgentID > 0 && f.EventID == 0 && !f.undelivered()
}

// sorted reports whether all rows of the index scan are read and sorted: the pending deliveries of an agent or an
// event.
func (f DeliveryFilter) sorted() bool {
	return f.EventID > 0 && f.unfinished() || f.AgentID > 0 && f.State == gen.DeliveryStatePending
}

// deliveryCondition is a condition on deliveries d.
type deliveryCondition struct {
	terms
	filter        DeliveryFilter
	scan          indexScan // the index scan that finds them
	after, before int64     // exclusive bounds of their ids; rows with these ids need not exist
}

// terms is a conjunction of conditions.
type terms struct {
	sql  []string
	args []any
}

func (t *terms) add(term string, args ...any) {
	t.sql, t.args = append(t.sql, term), append(t.args, args...)
}

// indexScan is a scan of an index: columns with values, followed by the column in whose order the rows are.
//
// With whole set, all columns are compared together, as rows. Otherwise PostgreSQL may scan the primary key, which has
// the same order. To find the rows of a client without recent ones, it would then read the rows of all other clients.
type indexScan struct {
	columns []string
	values  []any
	whole   bool
}

func (x *indexScan) add(column string, value any) {
	x.columns, x.values = append(x.columns, column), append(x.values, value)
}

// addEqualities adds the conditions on the columns with values, unless addBound does.
func (x indexScan) addEqualities(t *terms) {
	for i := 0; i < len(x.columns) && !x.whole; i++ {
		t.add(x.columns[i]+" = ?", x.values[i])
	}
}

// addBound adds a bound of the column after those with values.
func (x indexScan) addBound(t *terms, column, operator, bound string, args ...any) {
	if !x.whole {
		t.add(column+" "+operator+" "+bound, args...)
		return
	}
	t.add(fmt.Sprintf("(%s, %s) %s (%s%s)", strings.Join(x.columns, ", "), column, operator,
		strings.Repeat("?, ", len(x.values)), bound), append(slices.Clone(x.values), args...)...)
}

// order returns the ORDER BY terms of the scan.
func (x indexScan) order(direction string, columns ...string) string {
	if x.whole {
		columns = slices.Concat(x.columns, columns)
	}
	return strings.Join(columns, direction+", ") + direction
}

// fromWhere returns the FROM and WHERE clauses of the condition.
func (c *deliveryCondition) fromWhere() (from string, args []any) {
	where, args := c.where()
	return "FROM deliveries d WHERE " + where, args
}

// where returns the WHERE clause of the condition. Later changes have later deliveries, so bounds of ids also bound the
// changes.
func (c *deliveryCondition) where() (where string, args []any) {
	t := terms{slices.Clone(c.sql), slices.Clone(c.args)}
	c.scan.addEqualities(&t)
	if c.filter.sorted() || c.filter.byChange() { // the scan is not in the order of ids
		t.add("d.id + 0 > ? AND d.id + 0 < ?", c.after, c.before)
	} else {
		c.scan.addBound(&t, "d.id", ">", "?", c.after)
		c.scan.addBound(&t, "d.id", "<", "?", c.before)
	}
	if c.filter.byChange() {
		c.scan.addBound(&t, "d.change_id", ">=",
			"(SELECT x.change_id FROM deliveries x WHERE x.id > ? ORDER BY x.id LIMIT 1) - "+maxIDLag, c.after)
		c.scan.addBound(&t, "d.change_id", "<=",
			"(SELECT x.change_id FROM deliveries x WHERE x.id < ? ORDER BY x.id DESC LIMIT 1) + "+maxIDLag, c.before)
	}
	return strings.Join(t.sql, " AND "), t.args
}

// maxIDLag bounds how far the ids of deliveries are out of the order of their changes. If one delivery has a greater id
// than another, the number of its change is less by at most maxIDLag: concurrent transactions with many changes draw
// both in turn.
const maxIDLag = "100000"

// order returns the ORDER BY clause, in the terms of the index.
func (c *deliveryCondition) order(direction string) string {
	if c.filter.byChange() {
		return " ORDER BY " + c.scan.order(direction, "d.change_id", "d.id")
	}
	return " ORDER BY " + c.scan.order(direction, "d.id")
}

// condition returns the condition of a filter on a client's deliveries.
func (f DeliveryFilter) condition(q sqldb.Querier, client string) (*deliveryCondition, error) {
	c := &deliveryCondition{filter: f, before: math.MaxInt64}
	if err := c.addOwner(q, client); err != nil {
		return nil, err
	}
	c.addState()
	c.scan.whole = q.Dialect() == sqldb.Postgres && f.EventID == 0 && f.AgentID == 0 && !f.undelivered()
	err := c.addTimes(q)
	return c, err
}

// addOwner adds the condition on the client, the agent and the event, and chooses the index scan by it. An operator
// such as concatenation with an empty string keeps other indexes from being used.
func (c *deliveryCondition) addOwner(q sqldb.Querier, client string) error {
	f := c.filter
	if f.byChange() {
		c.scan.add("d.client_id", client)
		c.scan.add("d.kind", f.AgentType)
		c.scan.add("d.agent_id", f.AgentID)
		return nil
	}
	switch {
	case f.EventID > 0 && f.undelivered():
		c.scan.add("d.event_id + 0", f.EventID)
		c.add("d.client_id || '' = ?", client)
	case f.EventID > 0:
		c.scan.add("d.event_id", f.EventID)
		c.add("d.client_id || '' = ?", client)
	case f.AgentID > 0 && f.undelivered():
		return c.addLanes(q, client)
	default:
		c.scan.add("d.client_id", client)
	}
	if f.AgentID > 0 {
		c.add("d.kind = ? AND d.agent_id = ?", f.AgentType, f.AgentID)
	}
	return nil
}

// addLanes selects the deliveries of an agent by its lanes.
func (c *deliveryCondition) addLanes(q sqldb.Querier, client string) error {
	lanes, err := sqldb.Select[int64](q,
		"SELECT l.id FROM receivers r JOIN lanes l ON l.receiver_id = r.id AND l.kind = ? AND l.agent_id = ? "+
			"WHERE r.client_id = ?", c.filter.AgentType, c.filter.AgentID, client)
	c.add("d.lane_id IN ?", sqldb.Padded(lanes))
	return err
}

// addState adds the condition on the state.
func (c *deliveryCondition) addState() {
	switch f := c.filter; { // with the conditions of the partial indexes
	case f.State == "":
	case f.EventID > 0 && f.unfinished():
		c.add("d.id IN (SELECT x.id FROM deliveries x WHERE x.event_id = ? AND x.state IN ('pending', 'parked') "+
			"AND x.state || '' = ?)", f.EventID, f.State)
	case f.EventID > 0 && f.undelivered():
		c.scan.add("d.state", f.State)
		c.add("d.state IN ('failed', 'cancelled')")
	case f.sorted():
		c.add("d.state = 'pending'")
	case f.AgentID > 0 && f.undelivered():
		c.add("d.state = ? AND d.state IN ('failed', 'cancelled', 'parked')", f.State)
	case f.undelivered():
		c.scan.add("d.state", f.State)
		c.add("d.state <> 'delivered'")
	default:
		c.add("d.state = ?", f.State)
	}
}

// addTimes adds the conditions on the time.
func (c *deliveryCondition) addTimes(q sqldb.Querier) error {
	if since := c.filter.Since; !since.IsZero() {
		from, err := firstAt(q, since.Add(-clockTolerance))
		if err != nil {
			return err
		}
		c.after = from - 1
		c.add("d.created_at >= ?", since.UnixMilli())
	}
	until := c.filter.Until
	if until.IsZero() {
		return nil
	}
	to, err := firstAt(q, until.Add(clockTolerance))
	c.before = to
	c.add("d.created_at < ?", until.UnixMilli())
	return err
}

// clockTolerance is the largest step of the clock, in either direction, after which a filter by time still misses
// nothing.
const clockTolerance = 5 * time.Minute

// firstAt returns the id of the first delivery that was created at a time or later. Without one, it returns the next
// id. It bisects, since ids grow with time.
func firstAt(q sqldb.Querier, at time.Time) (int64, error) { return firstIn(q, "deliveries", at) }

// firstIn is firstAt for any table with ids and creation times.
func firstIn(q sqldb.Querier, table string, at time.Time) (id int64, err error) {
	ms := at.UnixMilli()
	id, _, err = sqldb.Get[int64](q, strings.ReplaceAll(bisectSQL, "rows_of", table), ms, ms, ms)
	return id, err
}

// bisectSQL bisects in one statement, since the database may be far away. Each step reads one row, in the middle of the
// next range.
const bisectSQL = `WITH RECURSIVE h (low, high, at) AS (
	SELECT low, high, (SELECT created_at FROM rows_of WHERE id >= (low + high) / 2 ORDER BY id LIMIT 1)
	FROM (SELECT coalesce((SELECT min(id) FROM rows_of), 1) AS low,
		coalesce((SELECT max(id) FROM rows_of), 0) + 1 AS high) ends
	UNION ALL
	SELECT CASE WHEN at < ? THEN (low + high) / 2 + 1 ELSE low END,
		CASE WHEN at < ? THEN high ELSE (low + high) / 2 END,
		(SELECT created_at FROM rows_of WHERE id >= CASE WHEN at < ? THEN ((low + high) / 2 + 1 + high) / 2
			ELSE (low + (low + high) / 2) / 2 END ORDER BY id LIMIT 1)
	FROM h WHERE low < high
)
SELECT max(low) FROM h`
