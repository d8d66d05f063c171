package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

const (
	// TokenLife is the time for which a token is valid.
	TokenLife = time.Hour
	// maxTokens is the maximum number of tokens of an application. Some clients request one before each other request.
	maxTokens = 100
	// tokenLength is the length of tokens in the original API.
	tokenLength = 30
)

// ErrCredentials is returned if no application has this id and secret, or if its client is blocked.
var ErrCredentials = errors.New("there is no application with this id and this secret")

// ErrUnknownApplication wraps ErrCredentials: no application has this id.
var ErrUnknownApplication = fmt.Errorf("%w", ErrCredentials)

// ErrToken is returned for a token that was never issued, has expired or was revoked.
var ErrToken = errors.New("the token is unknown, expired or revoked")

// Caller is the application that makes a request.
type Caller struct {
	Number      int64  // of the application: its id in /user/, and in rows that refer to it
	Application string // id of the application, with which it requests tokens
	Name        string
	Client      string // empty for an operator
	Access      gen.AccessLevel
	Blocked     bool // whether the client is blocked

	RequestLimit int64 // of the client, per hour
	PendingLimit int64 // of the client, on pending deliveries
}

// Caller returns the application of a token, or ErrToken.
func (s *Store) Caller(ctx context.Context, token string) (Caller, error) {
	ctx, cancel := context.WithTimeout(ctx, postgres.TransactionTimeout)
	defer cancel()
	hash := sha256.Sum256([]byte(token))
	c, is, err := sqldb.Get[Caller](s.read(ctx),
		"SELECT a.number, a.id AS application, a.name, a.client_id AS client, a.access, "+
			"coalesce(c.blocked, FALSE) AS blocked, coalesce(c.request_limit, ?) AS request_limit, "+
			"coalesce(c.pending_limit, ?) AS pending_limit "+
			"FROM tokens t JOIN applications a ON a.number = t.application "+
			"LEFT JOIN clients c ON c.id = a.client_id WHERE t.hash = ? AND t.expires_at > ?", NoLimit, NoLimit,
		hash[:], s.now())
	if err == nil && !is {
		return c, ErrToken
	}
	return c, publicError(err)
}

// CheckCredentials returns ErrCredentials unless an application has this id and this secret, and its client is not
// blocked. It returns the client, empty for an application of the operator. It uses no writer.
func (s *Store) CheckCredentials(ctx context.Context, id, secret string) (client string, err error) {
	return s.checkCredentials(s.read(ctx), id, secret)
}

// IssueToken issues a token of an application for TokenLife, or returns ErrCredentials. It deletes the oldest of more
// than 100 tokens. Call CheckCredentials before, so that a wrong secret costs no transaction. A crash of the machine or
// of PostgreSQL may lose the tokens of the last second: their callers then request others.
func (s *Store) IssueToken(ctx context.Context, id, secret string) (token string, err error) {
	token = newToken()
	err = s.engine.writeUnsynced(ctx, func(tx *sqldb.Tx) error {
		if _, err := s.checkCredentials(tx, id, secret); err != nil {
			return err
		}
		return s.keepToken(tx, id, token)
	})
	return token, err
}

func (s *Store) checkCredentials(q sqldb.Querier, id, secret string) (client string, err error) {
	r, err := gorm.G[applicationRow](q.GORM(), sqldb.Locking(q)...).Where("id = ?", id).Take(q.Context())
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return "", ErrUnknownApplication
	case err != nil:
		return "", publicError(err)
	case !r.hasSecret(secret):
		return "", ErrCredentials
	}
	blocked, err := sqldb.Value[bool](q, "SELECT coalesce((SELECT blocked FROM clients WHERE id = ?), FALSE)",
		r.ClientID)
	if err == nil && blocked {
		return "", ErrCredentials
	}
	return r.ClientID, publicError(err)
}

// newToken returns 150 random bits.
func newToken() string { return (rand.Text() + rand.Text())[:tokenLength] }

func (s *Store) keepToken(tx *sqldb.Tx, id, token string) error {
	const mine = "application = (SELECT number FROM applications WHERE id = ?)"
	err := tx.Exec("DELETE FROM tokens WHERE "+mine+" AND hash NOT IN (SELECT hash FROM tokens WHERE "+mine+
		" AND expires_at > ? ORDER BY expires_at DESC LIMIT ?)", id, id, s.now(), maxTokens-1)
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(token))
	return tx.Exec("INSERT INTO tokens (hash, application, expires_at) SELECT ?, number, ? "+
		"FROM applications WHERE id = ?",
		hash[:], s.now()+TokenLife.Milliseconds(), id)
}

// pruneTokens deletes expired tokens.
func (s *Store) pruneTokens(ctx context.Context) error {
	oldest, err := sqldb.Value[*int64](s.read(ctx), "SELECT min(expires_at) FROM tokens")
	if err != nil || oldest == nil || *oldest > s.now() {
		return err
	}
	return s.write(ctx, func(tx *sqldb.Tx) error {
		return tx.Exec("DELETE FROM tokens WHERE hash IN (SELECT hash FROM tokens WHERE expires_at <= ? LIMIT ?)",
			s.now(), pruneRows)
	})
}
