package store

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// AnyApplication is an application of whoever it is.
type AnyApplication struct {
	gen.Application
	Client string // empty for the operator's
}

// AllApplications lists the applications of the operator and of all clients, the oldest first.
func (s *Store) AllApplications(ctx context.Context) ([]AnyApplication, error) {
	rows, err := gorm.G[applicationRow](s.read(ctx).GORM()).Order("number").Find(ctx)
	return each(rows, func(r applicationRow) AnyApplication {
		return AnyApplication{r.model(), r.ClientID}
	}), failure(err)
}

// CreateOperator makes an application that may do everything. Its secret is in the result and nowhere else.
func (s *Store) CreateOperator(ctx context.Context, name string) (gen.ApplicationSecret, error) {
	r, secret := s.newApplication(name, Operator), randomHex()
	r.hide(secret)
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		return gorm.G[applicationRow](tx.GORM()).Create(tx.Context(), &r)
	})
	return r.withSecret(secret), err
}

// EnsureOperator sees to it that there is an operator's application of this id and secret. If it had another secret,
// the tokens that were given for that are refused from now on.
func (s *Store) EnsureOperator(ctx context.Context, id, secret string) error {
	return s.write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.LockTable("applications"); err != nil {
			return err
		}
		r, err := gorm.G[applicationRow](tx.GORM()).Where("id = ?", id).Take(tx.Context())
		switch {
		case errors.Is(err, gorm.ErrRecordNotFound):
			r = s.newApplication("operator", Operator)
			r.ID = id
			r.hide(secret)
			return gorm.G[applicationRow](tx.GORM()).Create(tx.Context(), &r)
		case err != nil || r.knows(secret) && r.Access == Operator:
			return err
		case r.Access != Operator:
			return fmt.Errorf("the application %s is client %s's, not the operator's", id, r.ClientID)
		}
		return changeSecret(tx, r, secret)
	})
}

func changeSecret(tx *sqldb.Tx, r applicationRow, secret string) error {
	r.hide(secret)
	err := tx.Exec("UPDATE applications SET hash_key = ?, hash = ? WHERE number = ?", r.HashKey, r.Hash, r.Number)
	if err != nil {
		return err
	}
	return tx.Exec("DELETE FROM tokens WHERE application = ?", r.Number)
}

// FirstOperator makes an operator's application if there is none yet, and says whether it has.
func (s *Store) FirstOperator(ctx context.Context) (m gen.ApplicationSecret, made bool, err error) {
	r, secret := s.newApplication("operator", Operator), randomHex()
	r.hide(secret)
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.LockTable("applications"); err != nil {
			return err
		}
		n, err := gorm.G[applicationRow](tx.GORM()).Where("access = ?", Operator).Count(tx.Context(), "*")
		if made = err == nil && n == 0; !made {
			return err
		}
		return gorm.G[applicationRow](tx.GORM()).Create(tx.Context(), &r)
	})
	return r.withSecret(secret), made && err == nil, err
}

// RevokeApplication deletes the application of an id, whoever it is of, and its tokens.
func (s *Store) RevokeApplication(ctx context.Context, id string) error {
	return s.write(ctx, func(tx *sqldb.Tx) error {
		n, err := gorm.G[applicationRow](tx.GORM()).Where("id = ?", id).Count(tx.Context(), "*")
		if err == nil && n == 0 {
			err = &Error{Kind: NotFound, Message: "there is no application " + id, Status: "application_not_found"}
		}
		if err != nil {
			return err
		}
		return revoke(tx, "id = ?", id)
	})
}
