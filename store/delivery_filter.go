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

// DeliveryFilter says which deliveries are wanted. The zero value wants all. A log is long: there is an index for each
// filter, and it says which deliveries are looked at, in their order, so that a page takes no longer than it is long.
type DeliveryFilter struct {
	State        gen.DeliveryState
	AgentType    gen.AgentType // with AgentID alone
	AgentID      int64
	EventID      int64
	Since, Until time.Time // of the change's making: from, and before
}

// undelivered is whether deliveries are wanted that were not, or not yet, delivered. These have indexes of their own.
func (f DeliveryFilter) undelivered() bool {
	return f.State != "" && f.State != gen.DeliveryStateDelivered
}

// unfinished is whether deliveries are wanted that have not ended.
func (f DeliveryFilter) unfinished() bool {
	return f.State == gen.DeliveryStatePending || f.State == gen.DeliveryStateParked
}

// byChange is whether an agent's deliveries are in the order of its changes.
func (f DeliveryFilter) byChange() bool {
	return f.AgentID > 0 && f.EventID == 0 && !f.undelivered()
}

// sorted is whether all rows that an index leads to are read and sorted: the pending deliveries of an agent or an
// event.
func (f DeliveryFilter) sorted() bool {
	return f.EventID > 0 && f.unfinished() || f.AgentID > 0 && f.State == gen.DeliveryStatePending
}

// deliveryCondition is one on deliveries d.
type deliveryCondition struct {
	terms
	filter        DeliveryFilter
	walk          walk  // that leads to them
	after, before int64 // their ids are between these two, which need not exist
}

// terms are conditions that must all be true.
type terms struct {
	sql  []string
	args []any
}

func (t *terms) add(term string, args ...any) {
	t.sql, t.args = append(t.sql, term), append(t.args, args...)
}

// walk goes along an index: columns that have values, before the one in whose order it has the rows. With whole set,
// all columns are compared together, as rows. Else PostgreSQL may use the index of the ids alone, which has the order
// too, and read the rows of all other clients to find those of a client that was quiet for long.
type walk struct {
	columns []string
	values  []any
	whole   bool
}

func (x *walk) by(column string, value any) {
	x.columns, x.values = append(x.columns, column), append(x.values, value)
}

// found adds that the columns have their values, unless bound does.
func (x walk) found(t *terms) {
	for i := 0; i < len(x.columns) && !x.whole; i++ {
		t.add(x.columns[i]+" = ?", x.values[i])
	}
}

// bound is a bound of the column behind those that have values.
func (x walk) bound(t *terms, column, operator, bound string, args ...any) {
	if !x.whole {
		t.add(column+" "+operator+" "+bound, args...)
		return
	}
	t.add(fmt.Sprintf("(%s, %s) %s (%s%s)", strings.Join(x.columns, ", "), column, operator,
		strings.Repeat("?, ", len(x.values)), bound), append(slices.Clone(x.values), args...)...)
}

// order is that of the walk.
func (x walk) order(direction string, columns ...string) string {
	if x.whole {
		columns = slices.Concat(x.columns, columns)
	}
	return strings.Join(columns, direction+", ") + direction
}

// found is where the deliveries are that the condition names, in SQL.
func (c *deliveryCondition) found() (from string, args []any) {
	where, args := c.where()
	return "FROM deliveries d WHERE " + where, args
}

// where is the condition in SQL. That later changes have later deliveries bounds those that are looked at.
func (c *deliveryCondition) where() (where string, args []any) {
	t := terms{slices.Clone(c.sql), slices.Clone(c.args)}
	c.walk.found(&t)
	if c.filter.sorted() || c.filter.byChange() { // that is not what leads to them
		t.add("d.id + 0 > ? AND d.id + 0 < ?", c.after, c.before)
	} else {
		c.walk.bound(&t, "d.id", ">", "?", c.after)
		c.walk.bound(&t, "d.id", "<", "?", c.before)
	}
	if c.filter.byChange() {
		c.walk.bound(&t, "d.change_id", ">=",
			"(SELECT x.change_id FROM deliveries x WHERE x.id > ? ORDER BY x.id LIMIT 1) - "+maxIDLag, c.after)
		c.walk.bound(&t, "d.change_id", "<=",
			"(SELECT x.change_id FROM deliveries x WHERE x.id < ? ORDER BY x.id DESC LIMIT 1) + "+maxIDLag, c.before)
	}
	return strings.Join(t.sql, " AND "), t.args
}

// maxIDLag is more than the numbers of changes and the ids of their deliveries can be out of step, since transactions
// of many changes that run side by side draw both in turn.
const maxIDLag = "100000"

// order is that of ids, in the words of the index.
func (c *deliveryCondition) order(direction string) string {
	if c.filter.byChange() {
		return " ORDER BY " + c.walk.order(direction, "d.change_id", "d.id")
	}
	return " ORDER BY " + c.walk.order(direction, "d.id")
}

// condition is what a filter means for a client's deliveries.
func (f DeliveryFilter) condition(q sqldb.Querier, client string) (*deliveryCondition, error) {
	c := &deliveryCondition{filter: f, before: math.MaxInt64}
	if err := c.of(q, client); err != nil {
		return nil, err
	}
	c.in()
	c.walk.whole = q.Dialect() == sqldb.Postgres && f.EventID == 0 && f.AgentID == 0 && !f.undelivered()
	err := c.within(q)
	return c, err
}

// of says whose deliveries, and by that which index leads to them. An operator such as || ” keeps other indexes from
// being used.
func (c *deliveryCondition) of(q sqldb.Querier, client string) error {
	f := c.filter
	if f.byChange() {
		c.walk.by("d.client_id", client)
		c.walk.by("d.kind", f.AgentType)
		c.walk.by("d.agent_id", f.AgentID)
		return nil
	}
	switch {
	case f.EventID > 0 && f.undelivered():
		c.walk.by("d.event_id + 0", f.EventID)
		c.add("d.client_id || '' = ?", client)
	case f.EventID > 0:
		c.walk.by("d.event_id", f.EventID)
		c.add("d.client_id || '' = ?", client)
	case f.AgentID > 0 && f.undelivered():
		return c.inLanes(q, client)
	default:
		c.walk.by("d.client_id", client)
	}
	if f.AgentID > 0 {
		c.add("d.kind = ? AND d.agent_id = ?", f.AgentType, f.AgentID)
	}
	return nil
}

// inLanes names an agent by its lanes, which deliveries know themselves.
func (c *deliveryCondition) inLanes(q sqldb.Querier, client string) error {
	lanes, err := sqldb.Select[int64](q,
		"SELECT l.id FROM receivers r JOIN lanes l ON l.receiver_id = r.id AND l.kind = ? AND l.agent_id = ? "+
			"WHERE r.client_id = ?", c.filter.AgentType, c.filter.AgentID, client)
	c.add("d.lane_id IN ?", sqldb.Padded(lanes))
	return err
}

// in says in which state.
func (c *deliveryCondition) in() {
	switch f := c.filter; { // in the words of the indexes
	case f.State == "":
	case f.EventID > 0 && f.unfinished():
		c.add("d.id IN (SELECT x.id FROM deliveries x WHERE x.event_id = ? AND x.state IN ('pending', 'parked') "+
			"AND x.state || '' = ?)", f.EventID, f.State)
	case f.EventID > 0 && f.undelivered():
		c.walk.by("d.state", f.State)
		c.add("d.state IN ('failed', 'cancelled')")
	case f.sorted():
		c.add("d.state = 'pending'")
	case f.AgentID > 0 && f.undelivered():
		c.add("d.state = ? AND d.state IN ('failed', 'cancelled', 'parked')", f.State)
	case f.undelivered():
		c.walk.by("d.state", f.State)
		c.add("d.state <> 'delivered'")
	default:
		c.add("d.state = ?", f.State)
	}
}

// within says in which time.
func (c *deliveryCondition) within(q sqldb.Querier) error {
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

// clockTolerance is how far the clock may have been put back or forward without a filter by time missing anything.
const clockTolerance = 5 * time.Minute

// firstAt returns the id of the first delivery that was made at a time or later, or the next one when there is none.
// Ids grow with time, so that halving finds it.
func firstAt(q sqldb.Querier, at time.Time) (int64, error) { return firstIn(q, "deliveries", at) }

// firstIn is firstAt for any table that has ids and times of making.
func firstIn(q sqldb.Querier, table string, at time.Time) (id int64, err error) {
	ms := at.UnixMilli()
	id, _, err = sqldb.Get[int64](q, strings.ReplaceAll(halvingSQL, "rows_of", table), ms, ms, ms)
	return id, err
}

// halvingSQL halves in one statement: the database may be far away. Each step looks for the time in the middle of the
// next one, once.
const halvingSQL = `WITH RECURSIVE h (low, high, at) AS (
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
