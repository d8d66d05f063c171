package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

type clientRow struct {
	ID        string `gorm:"primaryKey"`
	Name      string
	Blocked   bool
	CreatedAt int64 `gorm:"autoCreateTime:false"`

	// Rows up to these ids belong to an earlier client with the same id.
	ChangesBefore, DeliveriesBefore                      int64
	Events, EventLimit, Agents, AgentLimit, RequestLimit int64
	EventsPerAgentLimit, PendingLimit                    int64
}

func (clientRow) TableName() string { return "clients" }

func (r clientRow) model() gen.ClientAccount {
	return gen.ClientAccount{ID: r.ID, Name: r.Name, Blocked: r.Blocked}
}

func clientNotFound(id string) error {
	return &Error{Kind: NotFound, Message: fmt.Sprintf("there is no client %s", id), Status: "client_not_found"}
}

// findClient returns the row of a client, or an error of kind NotFound.
func findClient(q sqldb.Querier, id string) (clientRow, error) { return readClient(q, id, "") }

// readClient is findClient with a locking clause.
func readClient(q sqldb.Querier, id, lock string) (clientRow, error) {
	r, is, err := sqldb.Get[clientRow](q, clientSQL+lock, id)
	if err == nil && !is {
		return r, clientNotFound(id)
	}
	return r, publicError(err)
}

var clientSQL = "SELECT " + sqldb.Columns[clientRow]() + " FROM clients WHERE id = ?"

// lockClient is findClient that locks the row until the transaction ends. Agents must be locked before.
func lockClient(tx *sqldb.Tx, id string) (clientRow, error) {
	return readClient(tx, id, tx.ForUpdate(true))
}

// Clients lists clients in the order of their ids, starting after an id. The list has at most limit clients; 0 means
// all.
func (s *Store) Clients(ctx context.Context, after string, limit int) ([]gen.ClientAccount, error) {
	rows, err := gorm.G[clientRow](s.read(ctx).GORM()).Where("id > ?", after).Order("id").Limit(limitOrMax(limit)).Find(
		ctx,
	)
	return each(rows, clientRow.model), publicError(err)
}

// Client returns a client.
func (s *Store) Client(ctx context.Context, id string) (gen.ClientAccount, error) {
	r, err := findClient(s.read(ctx), id)
	return r.model(), err
}

// PutClient creates or updates a client. A nil field stays as it is.
func (s *Store) PutClient(
	ctx context.Context, id string, u gen.ClientUpdate,
) (c gen.ClientAccount, created bool, err error) {
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

// createClient creates a client unless its id exists, and reports whether it did.
func (s *Store) createClient(tx *sqldb.Tx, id string) (created bool, err error) {
	made, err := tx.ExecCount("INSERT INTO clients (id, created_at, changes_before, deliveries_before) VALUES (?, ?, "+
		"(SELECT coalesce(max(id), 0) FROM status_changes), "+
		"(SELECT coalesce(max(id), 0) FROM deliveries)) ON CONFLICT DO NOTHING",
		id, s.now())
	if err != nil || made == 0 {
		return false, err
	}
	if err := renameEarlierClient(tx, id); err != nil {
		return true, err
	}
	return true, errors.Join(s.newSecret(tx, id), newFeed(tx, id))
}

// newFeed makes a client's feed begin after the changes of an earlier client with the same id.
func newFeed(tx *sqldb.Tx, client string) error {
	return tx.Exec("INSERT INTO truncated (client_id, sequence) SELECT client_id, id FROM status_changes "+
		"WHERE client_id = ? "+
		"ORDER BY id DESC LIMIT 1 ON CONFLICT (client_id) DO UPDATE SET sequence = excluded.sequence", client)
}

// agentsPerCommit is the number of agents that one transaction deletes, so that no request waits long for the writer.
const agentsPerCommit = 250

// lockClientKey prevents the deletion of a client until the transaction ends, and so the reuse of its id. Other
// transactions may still change the row.
func lockClientKey(tx *sqldb.Tx, id string) error {
	_, err := readClient(tx, id, tx.ForKeyShare())
	return err
}

// DeleteClient deletes a client with its applications, its agents and their events; see DeleteAgent. It ends the
// client's replays. Many agents take several transactions, the last of which deletes the client. After an error, some
// of its agents may be deleted.
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

// deletePart deletes some agents of a client, and the client itself if these are the last.
func (s *Store) deletePart(ctx context.Context, id string) (last bool, err error) {
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		agents, err := lockSomeAgents(tx, id)
		if err != nil {
			return err
		}
		if err := s.deleteAgents(tx, id, agents); err != nil {
			return err
		}
		if last = len(agents) < agentsPerCommit; !last {
			return nil
		}
		return s.deleteEmpty(tx, id)
	})
	return last, err
}

// deleteEmpty deletes a client without agents.
func (s *Store) deleteEmpty(tx *sqldb.Tx, id string) error {
	if err := tx.Exec("DELETE FROM replays WHERE client_id = ?", id); err != nil {
		return err
	}
	tx.WriterOnCommit(func() {
		s.requestCounter.forget(id)
		s.pendingCounter.forget(id) // after the last logouts are counted
	})
	if err := tx.Exec("DELETE FROM requests WHERE client_id = ?", id); err != nil {
		return err
	}
	if err := tx.Exec("DELETE FROM idempotency_keys WHERE client_id = ?", id); err != nil {
		return err
	}
	if err := deleteApplications(tx, "client_id = ?", id); err != nil {
		return err
	}
	return tx.Exec("DELETE FROM clients WHERE id = ?", id)
}

// lockSomeAgents locks and returns the first agents of a client. Then it locks the client, so that no agent is added.
func lockSomeAgents(tx *sqldb.Tx, id string) (agents []agentRow, err error) {
	for range 2 {
		agents, err = gorm.G[agentRow](tx.GORM(), sqldb.Locking(tx)...).Where("client_id = ?", id).Order("id").Limit(
			agentsPerCommit,
		).
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

// limitOrMax returns the largest int for the limit 0.
func limitOrMax(limit int) int {
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

// The rows of secrets and receivers refer to a client by its id, and so belong to the current client with that id. But
// the deliveries of a deleted client are still sent, with its secret.
//
// If its id is given to a new client before they have ended, their receivers and secrets get another id, which no
// client can have: the client's id, a space and a random text. A lane refers to its receiver, and the receiver to the
// secret, so no other row changes.

// earlierClientID returns a new id for the rows of an earlier client with the same id.
func earlierClientID(client string) string { return client + " " + rand.Text() }

// notOfEarlierSQL is true of a receiver r that does not belong to an earlier client with the id in a change c.
const notOfEarlierSQL = "substr(r.client_id, 1, length(c.client_id) + 1) <> c.client_id || ' '"

// busyReceiverSQL is true of a busy receiver r. Such a receiver has a lane that is leased, that has unfinished
// deliveries, or that a delivery in flight in another lane moves to. The condition repeats the states of a partial
// index.
const busyReceiverSQL = "EXISTS (SELECT 1 FROM lanes l WHERE l.receiver_id = r.id AND (l.pending > 0 " +
	"OR l.lease_until IS NOT NULL OR EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = l.id) OR " +
	"EXISTS (SELECT 1 FROM deliveries d WHERE d.lane_id = l.id AND d.state = 'parked' " +
	"AND d.state IN ('failed', 'cancelled', 'parked'))))"

// noBusyReceiverSQL is true of a row t that belongs to a client without a busy receiver.
const noBusyReceiverSQL = "NOT EXISTS (SELECT 1 FROM receivers r WHERE r.client_id = t.client_id AND " +
	busyReceiverSQL + ")"

// renameEarlierClient gives another id to the busy receivers and the secrets of an earlier client with the same id. The
// new client inherits the other receivers with their empty lanes, and their breakers are closed.
func renameEarlierClient(tx *sqldb.Tx, client string) error {
	left, err := leftReceivers(tx, client)
	if err != nil {
		return err
	}
	busy, idle := partition(left, func(r leftReceiver) bool { return r.Busy })
	for _, r := range idle {
		if err := (receiverRow{ID: r.ID}).save(tx); err != nil {
			return err
		}
	}
	if len(busy) == 0 {
		return nil
	}
	earlier := earlierClientID(client)
	err = tx.Exec("UPDATE receivers SET client_id = ? WHERE id IN ?", earlier, each(busy, leftReceiver.id))
	if err != nil {
		return err
	}
	return tx.Exec("UPDATE secrets SET client_id = ? WHERE client_id = ?", earlier, client)
}

// leftReceiver is a receiver of a deleted client.
type leftReceiver struct {
	ID   int64
	Busy bool
}

func (r leftReceiver) id() int64 { return r.ID }

// leftReceivers locks and returns the receivers of a deleted client. An idle receiver cannot become busy any more,
// since that needs an agent or a replay of the client, or the client itself.
func leftReceivers(tx *sqldb.Tx, client string) ([]leftReceiver, error) {
	return sqldb.Select[leftReceiver](tx,
		"SELECT r.id, "+busyReceiverSQL+" AS busy FROM receivers r WHERE r.client_id = ? ORDER BY r.id"+
			tx.ForUpdateOf("r", true), client)
}

// closeBreakers closes the breakers of deleted clients without pending deliveries. No probe could close them.
func (s *Store) closeBreakers(ctx context.Context) error {
	open := fmt.Sprintf("SELECT r.id FROM receivers r WHERE r.failures >= %d AND NOT EXISTS "+
		"(SELECT 1 FROM secrets t WHERE t.client_id = r.client_id)", webhook.BreakerThreshold)
	found, err := sqldb.Select[int64](s.read(ctx), open)
	if err != nil || len(found) == 0 {
		return err
	}
	return s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
		ids, err := tx.LockRows("receivers", found, true)
		if err != nil {
			return err
		}
		still, err := sqldb.Select[int64](tx, open+" AND r.id IN ? ORDER BY r.id", sqldb.Padded(ids))
		for i := 0; err == nil && i < len(still); i++ {
			err = receiverRow{ID: still[i]}.save(tx)
		}
		return err
	})
}
