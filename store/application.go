package store

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// Operator is the access level of an application that may do everything for every client. It belongs to no client.
const Operator gen.AccessLevel = "operator"

// maxApplications is the maximum number of applications of a client.
const maxApplications = 100

type applicationRow struct {
	Number    int64 `gorm:"primaryKey"`
	ID        string
	ClientID  string
	Name      string
	Access    gen.AccessLevel
	HashKey   []byte
	Hash      []byte
	CreatedAt int64 `gorm:"autoCreateTime:false"`
}

func (applicationRow) TableName() string { return "applications" }

func (r applicationRow) model() gen.Application {
	return gen.Application{ID: r.ID, Name: r.Name, Access: r.Access, CreatedAt: apiTime(r.CreatedAt)}
}

// setSecret stores a keyed hash of a secret, which hasSecret compares.
func (r *applicationRow) setSecret(secret string) {
	r.HashKey = randomBytes(32)
	r.Hash = keyedHash(r.HashKey, secret)
}

// hasSecret reports whether a secret is the application's.
func (r applicationRow) hasSecret(secret string) bool {
	return len(r.Hash) > 0 && hmac.Equal(r.Hash, keyedHash(r.HashKey, secret))
}

func keyedHash(key []byte, secret string) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write([]byte(secret))
	return hash.Sum(nil)
}

// randomBytes cannot fail: crypto/rand ends the program instead.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// randomHex returns 128 random bits.
func randomHex() string { return hex.EncodeToString(randomBytes(16)) }

// Applications lists a client's applications, the oldest first.
func (s *Store) Applications(ctx context.Context, client string) ([]gen.Application, error) {
	tx := s.read(ctx)
	if _, err := findClient(tx, client); err != nil {
		return nil, err
	}
	rows, err := gorm.G[applicationRow](tx.GORM()).Where("client_id = ?", client).Order("number").Find(ctx)
	return each(rows, applicationRow.model), publicError(err)
}

// Application returns a client's application.
func (s *Store) Application(ctx context.Context, client, id string) (gen.Application, error) {
	r, err := findApplication(s.read(ctx), client, id)
	return r.model(), err
}

func findApplication(q sqldb.Querier, client, id string) (applicationRow, error) {
	if _, err := findClient(q, client); err != nil {
		return applicationRow{}, err
	}
	r, err := gorm.G[applicationRow](q.GORM()).Where("id = ? AND client_id = ?", id, client).Take(q.Context())
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return r, &Error{
			Kind: NotFound, Status: "application_not_found",
			Message: fmt.Sprintf("there is no application %s of client %s", id, client),
		}
	}
	return r, publicError(err)
}

// CreateApplication creates an application of a client. Only the result contains its secret.
func (s *Store) CreateApplication(
	ctx context.Context, client string, c gen.ApplicationCreate,
) (gen.ApplicationSecret, error) {
	r, secret := s.newApplication(c.Name, c.Access), randomHex()
	r.ClientID = client
	r.setSecret(secret)
	return createOnce(ctx, s, func(tx *sqldb.Tx) (m gen.ApplicationSecret, err error) {
		if _, err := lockClient(tx, client); err != nil {
			return m, err
		}
		n, err := gorm.G[applicationRow](tx.GORM()).Where("client_id = ?", client).Count(tx.Context(), "*")
		if err == nil && n >= maxApplications {
			err = &Error{
				Kind: Conflict, Status: "application_limit_exceeded",
				Message: fmt.Sprintf("client %s has %d applications, which is the most", client, n),
			}
		}
		if err != nil {
			return m, err
		}
		return r.withSecret(secret), gorm.G[applicationRow](tx.GORM()).Create(tx.Context(), &r)
	})
}

func (s *Store) newApplication(name string, access gen.AccessLevel) applicationRow {
	return applicationRow{ID: randomHex(), Name: name, Access: access, CreatedAt: s.now()}
}

func (r applicationRow) withSecret(secret string) gen.ApplicationSecret {
	return gen.ApplicationSecret{
		ID: r.ID, Secret: secret, Name: r.Name, Access: r.Access, CreatedAt: apiTime(r.CreatedAt),
	}
}

// DeleteApplication deletes a client's application and its tokens.
func (s *Store) DeleteApplication(ctx context.Context, client, id string) error {
	return s.write(ctx, func(tx *sqldb.Tx) error {
		r, err := findApplication(tx, client, id)
		if err != nil {
			return err
		}
		return deleteApplications(tx, "number = ?", r.Number)
	})
}

// deleteApplications deletes applications and their tokens.
func deleteApplications(tx *sqldb.Tx, where string, value any) error {
	err := tx.Exec("DELETE FROM tokens WHERE application IN (SELECT number FROM applications WHERE "+where+")", value)
	if err != nil {
		return err
	}
	return tx.Exec("DELETE FROM applications WHERE "+where, value)
}

// AnyApplication is an application of a client or of an operator.
type AnyApplication struct {
	gen.Application
	Client string // empty for an operator's
}

// AllApplications lists the applications of all operators and clients, the oldest first.
func (s *Store) AllApplications(ctx context.Context) ([]AnyApplication, error) {
	rows, err := gorm.G[applicationRow](s.read(ctx).GORM()).Order("number").Find(ctx)
	return each(rows, func(r applicationRow) AnyApplication {
		return AnyApplication{r.model(), r.ClientID}
	}), publicError(err)
}

// CreateOperator creates an operator's application. Only the result contains its secret.
func (s *Store) CreateOperator(ctx context.Context, name string) (gen.ApplicationSecret, error) {
	r, secret := s.newApplication(name, Operator), randomHex()
	r.setSecret(secret)
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		return gorm.G[applicationRow](tx.GORM()).Create(tx.Context(), &r)
	})
	return r.withSecret(secret), err
}

// EnsureOperator creates or updates an operator's application with an id and a secret. If the secret changes, the
// tokens that were issued for the old one are revoked.
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
			r.setSecret(secret)
			return gorm.G[applicationRow](tx.GORM()).Create(tx.Context(), &r)
		case err != nil || r.hasSecret(secret) && r.Access == Operator:
			return err
		case r.Access != Operator:
			return fmt.Errorf("the application %s must be an operator's, and is client %s's", id, r.ClientID)
		}
		return changeSecret(tx, r, secret)
	})
}

func changeSecret(tx *sqldb.Tx, r applicationRow, secret string) error {
	r.setSecret(secret)
	err := tx.Exec("UPDATE applications SET hash_key = ?, hash = ? WHERE number = ?", r.HashKey, r.Hash, r.Number)
	if err != nil {
		return err
	}
	return tx.Exec("DELETE FROM tokens WHERE application = ?", r.Number)
}

// FirstOperator creates an operator's application if there is none, and reports whether it did.
func (s *Store) FirstOperator(ctx context.Context) (m gen.ApplicationSecret, made bool, err error) {
	r, secret := s.newApplication("operator", Operator), randomHex()
	r.setSecret(secret)
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

// RevokeApplication deletes an application of a client or an operator, and its tokens.
func (s *Store) RevokeApplication(ctx context.Context, id string) error {
	return s.write(ctx, func(tx *sqldb.Tx) error {
		n, err := gorm.G[applicationRow](tx.GORM()).Where("id = ?", id).Count(tx.Context(), "*")
		if err == nil && n == 0 {
			err = &Error{Kind: NotFound, Message: "there is no application " + id, Status: "application_not_found"}
		}
		if err != nil {
			return err
		}
		return deleteApplications(tx, "id = ?", id)
	})
}
