package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/oapi-codegen/nullable"
	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// AgentKey identifies an agent.
type AgentKey struct {
	Client string // the client's id
	Type   gen.AgentType
	ID     int64 // unique among the client's agents of this type
}

func (k AgentKey) String() string {
	return fmt.Sprintf("%s agent %d of client %s", k.Type, k.ID, k.Client)
}

// Agent is a local or a remote agent. Its name is the extension_name of a local and the agent_number of a remote one.
type Agent struct {
	ID          int64
	Name        string
	ExtensionID int64 // 0 means none
	Status      gen.AgentStatusValue
	Since       time.Time // when the agent got this status
}

// AgentUpdate is a partial update of an agent: absent fields stay as they are.
type AgentUpdate struct {
	Name        *string
	ExtensionID nullable.Nullable[int64]
}

// AgentFilter selects agents of a list. The zero value selects all.
type AgentFilter struct {
	Extensions []int64 // only agents with one of these extensions
	After      int64   // only agents with a greater id
	Limit      int     // 0 means all
}

// agentRow is a row of agents. A status change does not write the fields without a JSON name.
type agentRow struct {
	ID          int64                `gorm:"primaryKey" json:"id"`
	ClientID    string               `json:"-"`
	Kind        gen.AgentType        `json:"-"`
	AgentID     int64                `json:"-"`
	Name        string               `json:"-"`
	ExtensionID *int64               `json:"-"`
	Status      gen.AgentStatusValue `json:"status"`
	EventSource gen.EventSource      `json:"event_source"`
	Sequence    int64                `json:"sequence"`
	ChangedAt   int64                `json:"changed_at"`
	ReportedAt  int64                `json:"reported_at"`
}

func (agentRow) TableName() string { return "agents" }

func (r agentRow) model() Agent {
	a := Agent{ID: r.AgentID, Name: r.Name, Status: r.Status, Since: millis(r.ChangedAt)}
	if r.ExtensionID != nil {
		a.ExtensionID = *r.ExtensionID
	}
	return a
}

// apply sets the fields that the update has.
func (r *agentRow) apply(u AgentUpdate) {
	if u.Name != nil {
		r.Name = *u.Name
	}
	if u.ExtensionID.IsNull() {
		r.ExtensionID = nil
	} else if id, err := u.ExtensionID.Get(); err == nil {
		r.ExtensionID = &id
	}
}

// findAgent returns the row of an agent, or an error for a missing agent or client. In a transaction that writes, it
// locks the agent until the commit. Such a transaction calls it before it changes the agent or its events.
func findAgent(q sqldb.Querier, k AgentKey) (agentRow, error) {
	r, is, err := sqldb.Get[agentRow](q, agentSQL+q.ForUpdate(true), k.Client, string(k.Type), k.ID)
	if err != nil || is {
		return r, publicError(err)
	}
	return r, missing(q, k)
}

var (
	agentsSQL = "SELECT " + sqldb.Columns[agentRow]() + " FROM agents WHERE "
	agentSQL  = agentsSQL + "client_id = ? AND kind = ? AND agent_id = ?"
)

// missing returns the error for an agent that was not found, or for its client.
func missing(q sqldb.Querier, k AgentKey) error {
	if _, err := findClient(q, k.Client); err != nil {
		return err
	}
	return &Error{Kind: NotFound, Message: fmt.Sprintf("there is no %v", k), Status: "agent_not_found"}
}

// agentWithEvents is an agent and the number of its events, enabled or disabled, of all types.
type agentWithEvents struct {
	agentRow
	Events int
}

var agentsWithEventsSQL = "SELECT " + sqldb.Columns[agentRow]() +
	", (SELECT count(*) FROM agent_events e WHERE e.agent = agents.id) AS events FROM agents WHERE "

// findAgents returns the agents that exist. lock is the locking clause of the query. On PostgreSQL, events that another
// transaction adds while the query waits for its lock do not count.
func findAgents(tx *sqldb.Tx, keys []AgentKey, lock string) (map[AgentKey]agentWithEvents, error) {
	type key struct {
		Client string        `json:"client_id"`
		Kind   gen.AgentType `json:"kind"`
		ID     int64         `json:"agent_id"`
	}
	rows := each(keys, func(k AgentKey) key { return key{k.Client, k.Type, k.ID} })
	found, err := sqldb.Select[agentWithEvents](tx,
		agentsWithEventsSQL+"(client_id, kind, agent_id) IN (SELECT client_id, kind, agent_id FROM ? AS x) "+
			"ORDER BY id"+lock, sqldb.Table(tx, rows))
	of := make(map[AgentKey]agentWithEvents, len(found))
	for _, r := range found {
		of[AgentKey{Client: r.ClientID, Type: r.Kind, ID: r.AgentID}] = r
	}
	return of, err
}

// Agents lists a client's agents of a kind in the order of their ids.
func (s *Store) Agents(ctx context.Context, client string, kind gen.AgentType, f AgentFilter) ([]Agent, error) {
	tx := s.read(ctx)
	if _, err := findClient(tx, client); err != nil {
		return nil, err
	}
	q := gorm.G[agentRow](tx.GORM()).Where("client_id = ? AND kind = ? AND agent_id > ?", client, kind, f.After)
	if len(f.Extensions) > 0 {
		q = q.Where("extension_id IN ?", f.Extensions)
	}
	rows, err := q.Order("agent_id").Limit(limitOrMax(f.Limit)).Find(ctx)
	return each(rows, agentRow.model), publicError(err)
}

// Agent returns an agent.
func (s *Store) Agent(ctx context.Context, k AgentKey) (Agent, error) {
	r, err := findAgent(s.read(ctx), k)
	return r.model(), err
}

// CreateAgent creates an agent, which is logged out. If its id is 0, it gets a free one.
func (s *Store) CreateAgent(ctx context.Context, k AgentKey, u AgentUpdate) (Agent, error) {
	return createOnce(ctx, s, func(tx *sqldb.Tx) (a Agent, err error) {
		k := k
		if _, err := lockClient(tx, k.Client); err != nil {
			return a, err
		}
		if k.ID == 0 {
			if k.ID, err = freeID(tx, k); err != nil {
				return a, err
			}
		}
		a, err = s.insertAgent(tx, k, u)
		if errors.Is(err, gorm.ErrDuplicatedKey) {
			return a, &Error{
				Kind: Conflict, Message: fmt.Sprintf("%v exists already", k), Status: "conflict",
				Fields: []gen.FieldError{{Field: "id", Message: "is taken"}},
			}
		}
		return a, err
	})
}

// PutAgent updates an agent, or creates it under its id. A new agent needs a name.
func (s *Store) PutAgent(ctx context.Context, k AgentKey, u AgentUpdate) (a Agent, created bool, err error) {
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		if _, err := findClient(tx, k.Client); err != nil {
			return err
		}
		r, err := findAgent(tx, k)
		if isNotFound(err) {
			r, err = findAgentLocked(tx, k)
		}
		if created = isNotFound(err); created {
			a, err = s.insertAgent(tx, k, u)
			return err
		}
		if err != nil {
			return err
		}
		r.apply(u)
		a = r.model()
		return tx.Exec("UPDATE agents SET name = ?, extension_id = ? WHERE id = ?", r.Name, r.ExtensionID, r.ID)
	})
	return a, created, err
}

// findAgentLocked is findAgent with the client locked, so that no other transaction can create the agent meanwhile.
func findAgentLocked(tx *sqldb.Tx, k AgentKey) (agentRow, error) {
	if _, err := lockClient(tx, k.Client); err != nil {
		return agentRow{}, err
	}
	return findAgent(tx, k)
}

func (s *Store) insertAgent(tx *sqldb.Tx, k AgentKey, u AgentUpdate) (Agent, error) {
	if u.Name == nil {
		return Agent{}, nameRequired(k.Type)
	}
	r := agentRow{
		ClientID: k.Client, Kind: k.Type, AgentID: k.ID, Status: gen.AgentStatusValueLoggedOut,
		EventSource: gen.EventSourceAPI, ChangedAt: s.now(),
	}
	r.apply(u)
	if err := gorm.G[agentRow](tx.GORM()).Create(tx.Context(), &r); err != nil {
		return r.model(), err
	}
	return r.model(), agentQuota.add(tx, k.Client)
}

func nameRequired(kind gen.AgentType) error {
	field := "extension_name"
	if kind == gen.AgentTypeRemote {
		field = "agent_number"
	}
	return &Error{
		Kind: Invalid, Message: fmt.Sprintf("a new %s agent needs %s", kind, field),
		Fields: []gen.FieldError{{Field: field, Message: "is required to create the agent"}},
	}
}

// freeID returns the id after the greatest one. If that id is out of range, it returns the lowest free id.
func freeID(tx *sqldb.Tx, k AgentKey) (id int64, err error) {
	const taken = "FROM agents WHERE client_id = ? AND kind = ?"
	id, err = sqldb.Value[int64](tx, "SELECT coalesce(max(agent_id), 0) + 1 "+taken, k.Client, k.Type)
	if err != nil || id <= math.MaxUint32 {
		return id, err
	}
	return sqldb.Value[int64](tx, "SELECT min(id) FROM (SELECT 1 AS id UNION ALL SELECT agent_id + 1 "+taken+
		") AS free WHERE id NOT IN (SELECT agent_id "+taken+")", k.Client, k.Type, k.Client, k.Type)
}

// DeleteAgent deletes an agent and its events. An available agent is logged out first, and the deliveries of that
// change are enqueued. Pending deliveries stay pending.
func (s *Store) DeleteAgent(ctx context.Context, k AgentKey) error {
	defer s.wake()
	defer s.announce(k.Client)
	return s.write(ctx, func(tx *sqldb.Tx) error {
		r, err := findAgent(tx, k)
		if err != nil {
			return err
		}
		return s.deleteAgents(tx, k.Client, []agentRow{r})
	})
}

// deleteAgents deletes agents of a client, which must be locked.
func (s *Store) deleteAgents(tx *sqldb.Tx, client string, rows []agentRow) error {
	if len(rows) == 0 {
		return nil
	}
	ids := sqldb.Padded(each(rows, func(r agentRow) int64 { return r.ID }))
	if err := removeAgents(tx, client, ids, len(rows)); err != nil {
		return err
	}
	if _, err := s.applyChanges(tx, s.logouts(tx, rows), true); err != nil {
		return err
	}
	err := tx.Exec("UPDATE event_versions SET past = 1 "+
		"WHERE id IN (SELECT version_id FROM agent_events WHERE agent IN ?)", ids)
	if err != nil {
		return err
	}
	if err := tx.Exec("DELETE FROM agent_events WHERE agent IN ?", ids); err != nil {
		return err
	}
	return tx.Exec("DELETE FROM agents WHERE id IN ?", ids)
}

// logouts returns the changes that log out the available agents.
func (s *Store) logouts(tx *sqldb.Tx, rows []agentRow) (changes []*statusChange) {
	for _, r := range rows {
		if r.Status == gen.AgentStatusValueAvailable {
			changes = append(changes, &statusChange{
				ctx: tx.Context(), agent: &r, status: gen.AgentStatusValueLoggedOut, source: gen.EventSourceAPI,
				at: s.now(),
			})
		}
	}
	return changes
}
