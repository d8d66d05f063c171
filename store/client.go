package store

import (
	"context"
	"errors"
	"fmt"
	"math"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

type clientRow struct {
	ID        string `gorm:"primaryKey"`
	Name      string
	Blocked   bool
	CreatedAt int64 `gorm:"autoCreateTime:false"`

	// What is not its own, but of one that had the id before: changes up to this number, deliveries up to this id.
	ChangesBefore, DeliveriesBefore                      int64
	Events, EventLimit, Agents, AgentLimit, RequestLimit int64
}

func (clientRow) TableName() string { return "clients" }

func (r clientRow) model() gen.ClientAccount {
	return gen.ClientAccount{ID: r.ID, Name: r.Name, Blocked: r.Blocked}
}

func clientNotFound(id string) error {
	return &Error{Kind: NotFound, Message: fmt.Sprintf("there is no client %s", id), Status: "client_not_found"}
}

// findClient returns the row of a client, or that there is none.
func findClient(q sqldb.Querier, id string) (clientRow, error) { return clientHeld(q, id, "") }

// clientHeld is findClient with an end of the query that says how the row is held.
func clientHeld(q sqldb.Querier, id, how string) (clientRow, error) {
	r, is, err := sqldb.Get[clientRow](q, clientSQL+how, id)
	if err == nil && !is {
		return r, clientNotFound(id)
	}
	return r, failure(err)
}

var clientSQL = "SELECT " + sqldb.Columns[clientRow]() + " FROM clients WHERE id = ?"

// lockClient is findClient, and nobody else changes the row before this transaction ends. Agents come before.
func lockClient(tx *sqldb.Tx, id string) (clientRow, error) {
	return clientHeld(tx, id, tx.ForUpdate(true))
}

// Clients lists clients in the order of their ids, those after an id, at most limit of them; 0 means all.
func (s *Store) Clients(ctx context.Context, after string, limit int) ([]gen.ClientAccount, error) {
	rows, err := gorm.G[clientRow](s.read(ctx).GORM()).Where("id > ?", after).Order("id").Limit(all(limit)).Find(ctx)
	return each(rows, clientRow.model), failure(err)
}

// Client returns a client.
func (s *Store) Client(ctx context.Context, id string) (gen.ClientAccount, error) {
	r, err := findClient(s.read(ctx), id)
	return r.model(), err
}

// PutClient creates a client or updates it; a field that is nil stays as it is.
func (s *Store) PutClient(ctx context.Context, id string, u gen.ClientUpdate) (c gen.ClientAccount, created bool, err error) {
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		if created, err = s.createClient(tx, id); err != nil {
			return err
		}
		r, err := lockClient(tx, id)
		if err != nil {
			return err
		}
		if u.Name != nil {
			r.Name = *u.Name
		}
		if u.Blocked != nil {
			r.Blocked = *u.Blocked
		}
		c = r.model()
		return tx.Exec("UPDATE clients SET name = ?, blocked = ? WHERE id = ?", r.Name, r.Blocked, id)
	})
	return c, created, err
}

// createClient makes a client if there is none of that id, and says whether it has.
func (s *Store) createClient(tx *sqldb.Tx, id string) (created bool, err error) {
	made, err := tx.ExecCount("INSERT INTO clients (id, created_at, changes_before, deliveries_before) VALUES (?, ?, "+
		"(SELECT coalesce(max(id), 0) FROM status_changes), (SELECT coalesce(max(id), 0) FROM deliveries)) ON CONFLICT DO NOTHING",
		id, s.now())
	if err != nil || made == 0 {
		return false, err
	}
	if err := setAside(tx, id); err != nil {
		return true, err
	}
	return true, errors.Join(s.newSecret(tx, id), newFeed(tx, id))
}

// newFeed has a client's feed begin after the changes of one that had the id before.
func newFeed(tx *sqldb.Tx, client string) error {
	return tx.Exec("INSERT INTO truncated (client_id, sequence) SELECT client_id, id FROM status_changes WHERE client_id = ? "+
		"ORDER BY id DESC LIMIT 1 ON CONFLICT (client_id) DO UPDATE SET sequence = excluded.sequence", client)
}

// agentsTogether is how many agents of a client are deleted in one transaction, so that nobody waits long for it.
const agentsTogether = 250

// holdAsItIs keeps a client from being deleted before the transaction ends, and so its id from becoming another
// client's. Others may still change the row.
func holdAsItIs(tx *sqldb.Tx, id string) error {
	_, err := clientHeld(tx, id, tx.ForKeyShare())
	return err
}

// DeleteClient deletes a client with its applications, its agents and their events; see DeleteAgent. Its replays end.
// Many agents go in several transactions, and the client in the last: after an error, some of its agents may be gone.
func (s *Store) DeleteClient(ctx context.Context, id string) error {
	defer s.wake()
	defer s.announce(id)
	for {
		last, err := s.deletePart(ctx, id)
		if err != nil || last {
			return err
		}
	}
}

// deletePart deletes some agents of a client, and the client if these are the last.
func (s *Store) deletePart(ctx context.Context, id string) (last bool, err error) {
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		agents, err := holdSome(tx, id)
		if err != nil {
			return err
		}
		if err := s.deleteAgents(tx, id, agents); err != nil {
			return err
		}
		if last = len(agents) < agentsTogether; !last {
			return nil
		}
		return s.deleteEmpty(tx, id)
	})
	return last, err
}

// deleteEmpty deletes a client that has no agents.
func (s *Store) deleteEmpty(tx *sqldb.Tx, id string) error {
	if err := tx.Exec("DELETE FROM replays WHERE client_id = ?", id); err != nil {
		return err
	}
	s.requests.forget(id)
	if err := tx.Exec("DELETE FROM requests WHERE client_id = ?", id); err != nil {
		return err
	}
	if err := tx.Exec("DELETE FROM idempotency_keys WHERE client_id = ?", id); err != nil {
		return err
	}
	if err := revoke(tx, "client_id = ?", id); err != nil {
		return err
	}
	return tx.Exec("DELETE FROM clients WHERE id = ?", id)
}

// holdSome holds the first agents of a client, which it returns, and then the client, so that there will be no more of them.
func holdSome(tx *sqldb.Tx, id string) (agents []agentRow, err error) {
	for range 2 {
		agents, err = gorm.G[agentRow](tx.GORM(), sqldb.Locking(tx)...).Where("client_id = ?", id).Order("id").Limit(agentsTogether).
			Find(tx.Context())
		if err != nil {
			return nil, err
		}
		if _, err := lockClient(tx, id); err != nil {
			return nil, err
		}
	}
	return agents, nil
}

// all turns "no limit" into a limit.
func all(limit int) int {
	if limit == 0 {
		return math.MaxInt
	}
	return limit
}

// each maps rows to models. The result is never nil.
func each[R, M any](rows []R, model func(R) M) []M {
	models := make([]M, len(rows))
	for i, r := range rows {
		models[i] = model(r)
	}
	return models
}
