package store

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// The rows of secrets and receivers are found by a client's id, and so belong to whichever client has it. A client
// that is deleted leaves deliveries that are still sent. If its id is given to a new client before the last of them
// has ended, the rows that they need get another id, which no client can have: the client's, a space and a random
// text. A delivery's lane leads to its receiver and that to the secret, so nothing else changes.

// ofEarlier is another id for what an earlier client with an id has left.
func ofEarlier(client string) string { return client + " " + rand.Text() }

// notOfEarlier is so of a receiver r that does not belong to an earlier client with the id in a change c.
const notOfEarlier = "substr(r.client_id, 1, length(c.client_id) + 1) <> c.client_id || ' '"

// busySQL is so of a receiver r with a lane that has deliveries which have not ended, that is held, or that a
// delivery in flight elsewhere moves to. It names the states in the words of an index as well.
const busySQL = "EXISTS (SELECT 1 FROM lanes l WHERE l.receiver_id = r.id AND (l.pending > 0 OR l.lease_until IS NOT NULL OR " +
	"EXISTS (SELECT 1 FROM deliveries d WHERE d.moved_to = l.id) OR " +
	"EXISTS (SELECT 1 FROM deliveries d WHERE d.lane_id = l.id AND d.state = 'parked' AND d.state IN ('failed', 'cancelled', 'parked'))))"

// noneBusy is so of a row t that belongs to a client without a busy receiver.
const noneBusy = "NOT EXISTS (SELECT 1 FROM receivers r WHERE r.client_id = t.client_id AND " + busySQL + ")"

// setAside gives what an earlier client with an id has left, as far as that is needed, another id. The new client
// takes the other receivers with their empty lanes, but not the state of their breakers.
func setAside(tx *sqldb.Tx, client string) error {
	left, err := leftReceivers(tx, client)
	if err != nil {
		return err
	}
	busy, idle := split(left, func(r leftReceiver) bool { return r.Busy })
	for _, r := range idle {
		if err := (receiverRow{ID: r.ID}).save(tx); err != nil {
			return err
		}
	}
	if len(busy) == 0 {
		return nil
	}
	earlier := ofEarlier(client)
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

// leftReceivers holds the receivers of a deleted client and returns them. No idle one becomes busy any more, since
// that takes an agent or a replay of the client, or the client itself.
func leftReceivers(tx *sqldb.Tx, client string) ([]leftReceiver, error) {
	return sqldb.Select[leftReceiver](tx, "SELECT r.id, "+busySQL+" AS busy FROM receivers r WHERE r.client_id = ? ORDER BY r.id"+
		tx.ForUpdateOf("r", true), client)
}

// closeBreakers closes breakers of deleted clients for whom nothing is sent any more: no probe would.
func (s *Store) closeBreakers(ctx context.Context) error {
	open := fmt.Sprintf("SELECT r.id FROM receivers r WHERE r.failures >= %d AND NOT EXISTS "+
		"(SELECT 1 FROM secrets t WHERE t.client_id = r.client_id)", webhook.Failures)
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
