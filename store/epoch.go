package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// NewEpoch gives the database another epoch and returns it. Whoever goes on from a sequence number of the one before is
// told so, from then on.
func (s *Store) NewEpoch(ctx context.Context) (string, error) {
	epoch := newEpoch()
	return epoch, s.write(ctx, func(tx *sqldb.Tx) error { return tx.Exec(epochSQL, epoch) })
}

// firstEpoch gives a copy that was never served an epoch: another one each time that the same copy is restored.
func (s *Store) firstEpoch(ctx context.Context) error {
	return s.write(ctx, func(tx *sqldb.Tx) error { return tx.Exec(epochSQL+" WHERE epoch = ''", newEpoch()) })
}

const epochSQL = "UPDATE epochs SET epoch = ?"

// newEpoch is one that no other database has.
func newEpoch() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // it never fails
	return hex.EncodeToString(random[:])
}
