package store

import (
	"context"
	"strconv"
	"strings"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// statusChange is a change of an agent's status that is not stored yet.
type statusChange struct {
	ctx       context.Context // the context of the request, for its trace
	agent     *agentRow       // after applyToAgent, the agent after the change
	status    gen.AgentStatusValue
	source    gen.EventSource
	at        int64
	storeTime bool // of this change, only `at` is stored: the PBX reported it, and the status is the same

	update *statusUpdate // gets the result; nil for the logout of a deleted agent
	events []eventRow    // the events of the change's type: enabled ones (row.Fired) and disabled ones (row.Parked)
	row    changeRow
}

// applyChanges stores status changes of different agents with their deliveries. With wait false, it returns the changes
// whose lanes another transaction has locked.
func (s *Store) applyChanges(tx *sqldb.Tx, changes []*statusChange, wait bool) (locked []*statusChange, err error) {
	if err := findEvents(tx, changes); err != nil {
		return nil, err
	}
	lanes, err := s.lockTargetLanes(tx, changes, wait)
	if err != nil {
		return nil, err
	}
	locked, changes = partition(changes, func(c *statusChange) bool { return !lanes.haveAll(c) })
	if len(changes) == 0 {
		return locked, nil
	}
	return locked, s.insertAll(tx, changes, lanes)
}

// insertAll inserts changes with their deliveries. The lanes must be locked.
func (s *Store) insertAll(tx *sqldb.Tx, changes []*statusChange, lanes targetLanes) error {
	for _, c := range changes {
		s.fillRow(tx, c)
	}
	if err := s.insertChanges(tx, changes); err != nil {
		return err
	}
	for _, c := range changes {
		s.count(tx, func(n *Counts) { n.changed(c.status) })
		s.skipped.changes.noteIn(tx, c.agent.Sequence) // retention may delete the agent's previous change from now on
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

// fillRow fills the row of a change, including its traceparent.
func (s *Store) fillRow(tx *sqldb.Tx, c *statusChange) {
	traceparent, ended := s.Trace(c.ctx)
	tx.WriterOnEnd(func(err error) { ended(c.row.ID, err) })
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

// applyToAgent updates the agent's row in memory and the result of the status update.
func (c *statusChange) applyToAgent() {
	r := c.agent
	r.Status, r.EventSource, r.Sequence, r.ChangedAt = c.status, c.source, c.row.ID, c.at
	r.ReportedAt = max(r.ReportedAt, c.at)
	if c.update != nil {
		c.update.status = r.status()
		c.update.status.Changed, c.update.status.Deliveries = true, len(c.events)
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
	// the ids of the enabled events of the change's type, separated by commas
	Fired       string `json:"fired"`
	Parked      string `json:"parked"`      // the ids of disabled events of that type
	Skipped     string `json:"skipped"`     // the ids of events of the other type
	Repeated    int    `json:"-"`           // the number of times that the same status was set again
	RepeatedAt  *int64 `json:"-"`           // the time of the last repetition
	Traceparent string `json:"traceparent"` // the change's W3C traceparent
}

func (changeRow) TableName() string { return "status_changes" }

// Tracer begins the span of a status change in the trace of ctx. It returns the traceparent of the span, which may be
// empty, and a function that is called once. The function gets the sequence number if the change is committed. Without
// a commit it gets an error, and must ignore the number. It runs in the writer and must not block.
type Tracer func(ctx context.Context) (traceparent string, ended func(sequence int64, err error))

func untraced(context.Context) (string, func(int64, error)) { return "", func(int64, error) {} }

// idsOf returns the ids of events, separated by commas.
func idsOf(events []eventRow) string {
	return strings.Join(each(events, func(e eventRow) string { return strconv.FormatInt(e.ID, 10) }), ",")
}
