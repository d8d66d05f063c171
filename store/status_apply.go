package store

import (
	"context"
	"strconv"
	"strings"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// statusChange is a change of an agent's status until it is stored.
type statusChange struct {
	ctx      context.Context // of whose trace it is
	agent    *agentRow       // from applyToAgent on as it is after the change
	status   gen.AgentStatusValue
	source   gen.EventSource
	at       int64
	reported bool // at is what the PBX has said

	setting *setting   // that gets the result; nil for the logout of a deleted agent
	events  []eventRow // of the type that the change fires, with disabled ones
	row     changeRow
}

// applyChanges stores status changes of different agents with their deliveries. If it does not wait, it returns the
// changes whose lanes another transaction has locked.
func (s *Store) applyChanges(tx *sqldb.Tx, changes []*statusChange, wait bool) (contended []*statusChange, err error) {
	if err := findEvents(tx, changes); err != nil {
		return nil, err
	}
	lanes, err := s.lockTargetLanes(tx, changes, wait)
	if err != nil {
		return nil, err
	}
	contended, changes = partition(changes, func(c *statusChange) bool { return !lanes.haveAll(c) })
	if len(changes) == 0 {
		return contended, nil
	}
	return contended, s.insertAll(tx, changes, lanes)
}

// insertAll inserts changes, whose lanes are locked, with their deliveries.
func (s *Store) insertAll(tx *sqldb.Tx, changes []*statusChange, lanes targetLanes) error {
	for _, c := range changes {
		s.fillRow(tx, c)
	}
	if err := s.insertChanges(tx, changes); err != nil {
		return err
	}
	for _, c := range changes {
		s.count(tx, func(n *Counts) { n.changed(c.status) })
		s.skipped.changes.noteIn(tx, c.agent.Sequence)
		c.applyToAgent()
	}
	rows := each(changes, func(c *statusChange) agentRow { return *c.agent })
	err := tx.Queue("UPDATE agents SET status = x.status, event_source = x.event_source, sequence = x.sequence, "+
		"changed_at = x.changed_at, reported_at = x.reported_at FROM ? AS x WHERE agents.id = x.id",
		sqldb.Table(tx, rows))
	if err != nil {
		return err
	}
	return s.enqueue(tx, changes, lanes)
}

// fillRow fills the row of a change, with its traceparent.
func (s *Store) fillRow(tx *sqldb.Tx, c *statusChange) {
	traceparent, ended := s.Trace(c.ctx)
	tx.OnEnd(func(err error) { ended(c.row.ID, err) })
	r := c.agent
	c.row.ClientID, c.row.Kind, c.row.AgentID, c.row.Name, c.row.OldStatus = r.ClientID, r.Kind, r.AgentID, r.Name,
		r.Status
	c.row.NewStatus, c.row.EventSource, c.row.ChangedAt, c.row.CreatedAt = c.status, c.source, c.at, s.now()
	c.row.Traceparent = traceparent
}

func (s *Store) insertChanges(tx *sqldb.Tx, changes []*statusChange) error {
	if err := s.engine.announceNumbers(tx); err != nil {
		return err
	}
	ids, err := sqldb.InsertAll(tx, "status_changes", each(changes, func(c *statusChange) changeRow { return c.row }))
	for i, id := range ids {
		changes[i].row.ID = id
	}
	return err
}

// applyToAgent updates the agent's row in memory, and the result of the setting.
func (c *statusChange) applyToAgent() {
	r := c.agent
	r.Status, r.EventSource, r.Sequence, r.ChangedAt = c.status, c.source, c.row.ID, c.at
	r.ReportedAt = max(r.ReportedAt, c.at)
	if c.setting != nil {
		c.setting.status = r.status()
		c.setting.status.Changed, c.setting.status.Deliveries = true, len(c.events)
	}
}

type changeRow struct {
	ID          int64                `gorm:"primaryKey" json:"id"`
	ClientID    string               `json:"client_id"`
	Kind        gen.AgentType        `json:"kind"`
	AgentID     int64                `json:"agent_id"`
	Name        string               `json:"name"`
	OldStatus   gen.AgentStatusValue `json:"old_status"`
	NewStatus   gen.AgentStatusValue `json:"new_status"`
	EventSource gen.EventSource      `json:"event_source"`
	ChangedAt   int64                `json:"changed_at"`
	CreatedAt   int64                `gorm:"autoCreateTime:false" json:"created_at"`
	// ids of the agent's events of its type then, but for disabled ones, separated by commas
	Fired       string `json:"fired"`
	Parked      string `json:"parked"`      // those of the disabled ones
	Skipped     string `json:"skipped"`     // those of the events of the other type
	Repeated    int    `json:"-"`           // how often the same status was set again
	RepeatedAt  *int64 `json:"-"`           // and when last
	Traceparent string `json:"traceparent"` // what it is known by in a trace
}

func (changeRow) TableName() string { return "status_changes" }

// Tracer begins the part of a trace that is a status change, in the trace of the request that ctx is of. It returns
// what the change is known by there, a W3C traceparent or nothing, and what is called once: with the sequence number
// when the change is committed, or also with the error of why it is not, when another change will have that number. It
// delays the writer and must not block.
type Tracer func(ctx context.Context) (traceparent string, ended func(sequence int64, err error))

func untraced(context.Context) (string, func(int64, error)) { return "", func(int64, error) {} }

// idsOf are the ids of events, separated by commas.
func idsOf(events []eventRow) string {
	return strings.Join(each(events, func(e eventRow) string { return strconv.FormatInt(e.ID, 10) }), ",")
}
