package store

import (
	"math"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
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

// undelivered is whether those are wanted that were not, or not yet, delivered, which have indexes of their own.
func (f DeliveryFilter) undelivered() bool {
	return f.State != "" && f.State != gen.DeliveryStateDelivered
}

// owed is whether those are wanted that have not ended.
func (f DeliveryFilter) owed() bool {
	return f.State == gen.DeliveryStatePending || f.State == gen.DeliveryStateParked
}

// byChange is whether an agent's changes lead to its deliveries.
func (f DeliveryFilter) byChange() bool {
	return f.AgentID > 0 && f.EventID == 0 && !f.undelivered()
}

// sorted is whether all that an index leads to are looked at, and sorted: what an agent or an event is owed.
func (f DeliveryFilter) sorted() bool {
	return f.EventID > 0 && f.owed() || f.AgentID > 0 && f.State == gen.DeliveryStatePending
}

// condition is one on deliveries d and their changes c.
type condition struct {
	filter        DeliveryFilter
	terms         []string
	args          []any
	after, before int64 // their ids are between these two, which need not exist
}

func (c *condition) add(term string, args ...any) {
	c.terms, c.args = append(c.terms, term), append(c.args, args...)
}

// where is the condition in SQL. That later changes have later deliveries bounds those that are looked at.
func (c *condition) where() (where string, args []any) {
	bounds := " AND d.id > ? AND d.id < ?"
	args = append(slices.Clone(c.args), c.after, c.before)
	switch {
	case c.filter.sorted():
		bounds = " AND d.id + 0 > ? AND d.id + 0 < ?"
	case c.filter.byChange():
		bounds += " AND c.id >= (SELECT x.change_id FROM deliveries x WHERE x.id > ? ORDER BY x.id LIMIT 1)" + " - " + apart +
			" AND c.id <= (SELECT x.change_id FROM deliveries x WHERE x.id < ? ORDER BY x.id DESC LIMIT 1)" + " + " + apart
		args = append(args, c.after, c.before)
	}
	return strings.Join(c.terms, " AND ") + bounds, args
}

// apart is further than the numbers of changes and the ids of their deliveries can be out of step, since transactions of
// many changes that run side by side draw both in turn.
const apart = "100000"

// order is that of ids, in the words of the index.
func (c *condition) order(direction string) string {
	if c.filter.byChange() {
		return " ORDER BY c.id" + direction + ", d.id" + direction
	}
	return " ORDER BY d.id" + direction
}

// condition is what a filter means for a client's deliveries.
func (f DeliveryFilter) condition(tx *gorm.DB, client string) (*condition, error) {
	c := &condition{filter: f, before: math.MaxInt64}
	if err := c.of(tx, client); err != nil {
		return nil, err
	}
	c.in()
	err := c.within(tx)
	return c, err
}

// of says whose deliveries, and by that which index leads to them: an operator keeps others from being used.
func (c *condition) of(tx *gorm.DB, client string) error {
	f := c.filter
	if f.byChange() {
		c.add("c.client_id = ? AND c.kind = ? AND c.agent_id = ?", client, f.AgentType, f.AgentID)
		return nil
	}
	switch {
	case f.EventID > 0 && f.undelivered():
		c.add("d.event_id + 0 = ? AND d.client_id || '' = ?", f.EventID, client)
	case f.EventID > 0:
		c.add("d.event_id = ? AND d.client_id || '' = ?", f.EventID, client)
	case f.AgentID > 0 && f.undelivered():
		return c.inLanes(tx, client)
	default:
		c.add("d.client_id = ?", client)
	}
	if f.AgentID > 0 {
		c.add("c.kind || '' = ? AND c.agent_id + 0 = ?", f.AgentType, f.AgentID)
	}
	return nil
}

// inLanes names an agent by its lanes, which deliveries know themselves.
func (c *condition) inLanes(tx *gorm.DB, client string) error {
	var lanes []int64
	err := tx.Raw("SELECT l.id FROM receivers r JOIN lanes l ON l.receiver_id = r.id AND l.kind = ? AND l.agent_id = ? "+
		"WHERE r.client_id = ?", c.filter.AgentType, c.filter.AgentID, client).Scan(&lanes).Error
	c.add("d.lane_id IN ?", padded(lanes))
	return err
}

// in says in which state.
func (c *condition) in() {
	switch f := c.filter; { // in the words of the indexes
	case f.State == "":
	case f.EventID > 0 && f.owed():
		c.add("d.id IN (SELECT x.id FROM deliveries x WHERE x.event_id = ? AND x.state IN ('pending', 'parked') "+
			"AND x.state || '' = ?)", f.EventID, f.State)
	case f.EventID > 0 && f.undelivered():
		c.add("d.state = ? AND d.state IN ('failed', 'cancelled')", f.State)
	case f.sorted():
		c.add("d.state = 'pending'")
	case f.AgentID > 0 && f.undelivered():
		c.add("d.state = ? AND d.state IN ('failed', 'cancelled', 'parked')", f.State)
	case f.undelivered():
		c.add("d.state = ? AND d.state <> 'delivered'", f.State)
	default:
		c.add("d.state = ?", f.State)
	}
}

// within says in which time.
func (c *condition) within(tx *gorm.DB) error {
	if since := c.filter.Since; !since.IsZero() {
		from, err := firstAt(tx, since.Add(-clockStep))
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
	to, err := firstAt(tx, until.Add(clockStep))
	c.before = to
	c.add("d.created_at < ?", until.UnixMilli())
	return err
}

// clockStep is how far the clock may have been put back or forward without a filter by time missing anything.
const clockStep = 5 * time.Minute

// firstAt returns the id of the first delivery that was made at a time or later, or the next one when there is none.
// Ids grow with time, so that halving finds it.
func firstAt(tx *gorm.DB, at time.Time) (int64, error) { return firstIn(tx, "deliveries", at) }

// firstIn is firstAt for any table that has ids and times of making.
func firstIn(tx *gorm.DB, table string, at time.Time) (int64, error) {
	var ends struct{ Low, High int64 }
	err := tx.Raw("SELECT coalesce((SELECT min(id) FROM " + table + "), 1) AS low, " +
		"coalesce((SELECT max(id) FROM " + table + "), 0) + 1 AS high").Scan(&ends).Error
	for err == nil && ends.Low < ends.High {
		middle := ends.Low + (ends.High-ends.Low)/2
		var d deliveryRow
		err = tx.Raw("SELECT id, created_at FROM "+table+" WHERE id >= ? ORDER BY id LIMIT 1", middle).Scan(&d).Error
		if d.ID > 0 && d.CreatedAt < at.UnixMilli() {
			ends.Low = d.ID + 1
		} else { // or they are gone
			ends.High = middle
		}
	}
	return ends.Low, err
}
