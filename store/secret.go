package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/webhook"
)

// overlap is how long the secret before signs too, for receivers that do not know the new one yet.
const overlap = 24 * time.Hour

type secretRow struct {
	ClientID      string `gorm:"primaryKey"`
	Secret        string
	Previous      string
	PreviousUntil int64
}

func (secretRow) TableName() string { return "secrets" }

// opened is the row with its secrets for use.
func (r secretRow) opened(s *Store) (secretRow, error) {
	err := s.unseal(&r.Secret, &r.Previous)
	return r, err
}

func (r secretRow) model(now int64) gen.Secret {
	m := gen.Secret{Secret: r.Secret}
	if r.PreviousUntil > now {
		until := gen.Time{Time: millis(r.PreviousUntil)}
		m.Previous, m.PreviousUntil = r.Previous, &until
	}
	return m
}

// Secret returns what a client's deliveries are signed with.
func (s *Store) Secret(ctx context.Context, client string) (gen.Secret, error) {
	tx := s.read(ctx)
	if _, err := findClient(tx, client); err != nil {
		return gen.Secret{}, err
	}
	r, err := gorm.G[secretRow](tx).Where("client_id = ?", client).Take(ctx)
	if err == nil {
		r, err = r.opened(s)
	}
	return r.model(s.now()), failure(err)
}

// RotateSecret gives a client a new secret. For a day the one before signs too.
func (s *Store) RotateSecret(ctx context.Context, client string) (gen.Secret, error) {
	return once(ctx, s, func(tx *gorm.DB) (m gen.Secret, err error) {
		if _, err := findClient(tx, client); err != nil {
			return m, err
		}
		r, err := gorm.G[secretRow](tx, holding(tx)...).Where("client_id = ?", client).Take(tx.Statement.Context)
		if err == nil {
			r, err = r.opened(s)
		}
		if err != nil {
			return m, err
		}
		r.Previous, r.PreviousUntil = r.Secret, s.now()+overlap.Milliseconds()
		r.Secret = webhook.NewSecret()
		return r.model(s.now()), tx.Exec("UPDATE secrets SET secret = ?, previous = ?, previous_until = ? WHERE client_id = ?",
			s.seal.close(r.Secret), s.seal.close(r.Previous), r.PreviousUntil, r.ClientID).Error
	})
}

// newSecret gives a client that is new its first secret. One that had the id before is none of its business.
func (s *Store) newSecret(tx *gorm.DB, client string) error {
	return tx.Exec("INSERT INTO secrets (client_id, secret) VALUES (?, ?) ON CONFLICT (client_id) "+
		"DO UPDATE SET secret = excluded.secret, previous = '', previous_until = 0", client, s.seal.close(webhook.NewSecret())).Error
}
