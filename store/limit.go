package store

import (
	"context"
	"fmt"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// NoLimit is the greatest limit that there is, and that of callers who have none.
const NoLimit = 1<<31 - 1

// limited is what a client may have only so much of, and where its row counts that.
type limited struct{ noun, count, limit, status string }

var (
	limitedAgents = limited{"agents", "agents", "agent_limit", "agent_limit_exceeded"}
	limitedEvents = limited{"events", "events", "event_limit", "agent_event_limit_exceeded"}
)

// Limits returns a client's limits, with what is used of them.
func (s *Store) Limits(ctx context.Context, client string) (gen.ClientLimits, error) {
	r, err := findClient(s.read(ctx), client)
	return s.limits(r), err
}

func (s *Store) limits(r clientRow) gen.ClientLimits {
	return gen.ClientLimits{
		AgentEvent:      gen.ClientLimit{Limit: r.EventLimit, Used: r.Events},
		Agent:           gen.ClientLimit{Limit: r.AgentLimit, Used: r.Agents},
		RequestsPerHour: gen.ClientLimit{Limit: r.RequestLimit, Used: s.requests.made(r.ID, s.hour())},
	}
}

// SetLimits changes a client's limits; one that is nil stays as it is.
func (s *Store) SetLimits(ctx context.Context, client string, u gen.ClientLimitsUpdate) (m gen.ClientLimits, err error) {
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		r, err := lockClient(tx, client)
		if err != nil {
			return err
		}
		set(&r.EventLimit, u.AgentEvent)
		set(&r.AgentLimit, u.Agent)
		set(&r.RequestLimit, u.RequestsPerHour)
		m = s.limits(r)
		return tx.Exec("UPDATE clients SET event_limit = ?, agent_limit = ?, request_limit = ? WHERE id = ?",
			r.EventLimit, r.AgentLimit, r.RequestLimit, client)
	})
	return m, err
}

func set(limit *int64, u gen.ClientLimitUpdate) {
	if u.Limit != nil {
		*limit = *u.Limit
	}
}

// add counts one more of a client, or refuses it if the client has as many as it may. In a transaction it comes
// after the agent and before lanes. That is one statement, so that of several at once no more pass than may.
func (l limited) add(tx *sqldb.Tx, client string) error {
	counted, err := tx.ExecCount("UPDATE clients SET "+l.count+" = "+l.count+" + 1 WHERE id = ? AND "+l.count+" < "+l.limit, client)
	if err != nil || counted == 1 {
		return err
	}
	is, err := sqldb.Value[struct {
		Have int64
		May  int64
	}](tx, "SELECT "+l.count+" AS have, "+l.limit+" AS may FROM clients WHERE id = ?", client)
	if err != nil {
		return err
	}
	return &Error{
		Kind: Conflict, Status: l.status,
		Message: fmt.Sprintf("client %s may have %d %s and has %d; GET /api/ver1.0/client/%s/limit/ shows its limits",
			client, is.May, l.noun, is.Have, client),
	}
}

// remove counts one less.
func (l limited) remove(tx *sqldb.Tx, client string) error {
	return tx.Exec("UPDATE clients SET "+l.count+" = "+l.count+" - 1 WHERE id = ?", client)
}

// removeAgents counts some agents less, and their events. An id may be there twice.
func removeAgents(tx *sqldb.Tx, client string, ids []int64, agents int) error {
	return tx.Exec("UPDATE clients SET agents = agents - ?, events = events - "+
		"(SELECT count(*) FROM agent_events WHERE agent IN ?) WHERE id = ?", agents, ids, client)
}
