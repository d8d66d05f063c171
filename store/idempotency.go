package store

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// idempotencyWindow is the time for which a repeated request with an Idempotency-Key gets the first answer.
const idempotencyWindow = 24 * time.Hour

// Idempotency is the Idempotency-Key of a request that creates a resource.
type Idempotency struct {
	Application int64  // Caller.Number
	Client      string // the client of the resource; its deletion deletes the record
	Key         string
	Fingerprint []byte // identifies the content of the request
}

type idempotencyKey struct{}

// WithIdempotency returns a context that makes creations idempotent. With it, CreateAgent, CreateEvent,
// CreateApplication, RotateSecret, RollBackSecret and CreateReplay create at most once a day for an application and a
// key. The same fingerprint gets the first answer again, another one an *Error of kind KeyReused.
//
// The key is in the context because it belongs to the request, and not to the created resource. Most callers have no
// key.
func WithIdempotency(ctx context.Context, k Idempotency) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, k)
}

// createOnce creates a resource in a transaction of its own. The record of an Idempotency-Key is in the same
// transaction: after a crash there are both or neither. An error stores nothing.
func createOnce[T any](ctx context.Context, s *Store, create func(tx *sqldb.Tx) (T, error)) (answer T, err error) {
	k, given := ctx.Value(idempotencyKey{}).(Idempotency)
	err = s.write(ctx, func(tx *sqldb.Tx) (err error) {
		answer = *new(T) // discard the result of a transaction that is retried
		if !given {
			answer, err = create(tx)
			return err
		}
		first, err := s.reserve(tx, k)
		if err != nil {
			return err
		}
		if !first {
			return s.readAnswer(tx, k, &answer)
		}
		if answer, err = create(tx); err != nil {
			return err
		}
		return s.saveAnswer(tx, k, answer)
	})
	return answer, err
}

type idempotencyRow struct {
	Fingerprint []byte
	Answer      string
}

func (idempotencyRow) TableName() string { return "idempotency_keys" }

// reserve stores a key that is new, or older than a day, and reports whether it did.
//
// On PostgreSQL, a second transaction with the same key waits here for the first. It locks the application before the
// client, unlike a deletion of the client. If the two wait for each other, PostgreSQL ends one, which is retried.
func (s *Store) reserve(tx *sqldb.Tx, k Idempotency) (first bool, err error) {
	taken, err := tx.ExecCount("INSERT INTO idempotency_keys (application, hash, client_id, fingerprint, "+
		"answer, created_at) SELECT number, ?, ?, ?, '', ? FROM applications WHERE number = ? "+
		"ON CONFLICT (application, hash) DO UPDATE SET "+
		"client_id = excluded.client_id, fingerprint = excluded.fingerprint, created_at = excluded.created_at "+
		"WHERE idempotency_keys.created_at <= ?", k.hash(), k.Client, k.Fingerprint, s.now(), k.Application,
		s.idempotencyCutoff())
	return taken > 0, err
}

// idempotencyCutoff is the creation time up to which records are too old.
func (s *Store) idempotencyCutoff() int64 { return s.now() - idempotencyWindow.Milliseconds() }

// readAnswer reads the answer of the first request with a key.
func (s *Store) readAnswer(tx *sqldb.Tx, k Idempotency, answer any) error {
	r, err := gorm.G[idempotencyRow](tx.GORM()).Select("fingerprint, answer").
		Where("application = ? AND hash = ?", k.Application, k.hash()).Take(tx.Context())
	if errors.Is(err, gorm.ErrRecordNotFound) { // the key was not reserved, and has no record
		return &Error{Kind: Unavailable, Message: "the application was revoked, try again", cause: err}
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(r.Fingerprint, k.Fingerprint) {
		return errKeyReused
	}
	return k.readAnswer(s.Key, r.Answer, answer)
}

var errKeyReused = &Error{
	Kind: KeyReused, Status: "idempotency_key_reused",
	Message: "the Idempotency-Key was used for another request; use a new key for each new request",
}

// readAnswer decodes a stored answer, which may have been written before the store had its encryption key.
func (k Idempotency) readAnswer(storeKey []byte, stored string, answer any) error {
	for _, salt := range [][]byte{storeKey, nil} {
		key, err := k.cipher(salt)
		if err != nil {
			return err
		}
		if text, err := key.open(strings.TrimPrefix(stored, encryptedPrefix), ""); err == nil {
			return json.Unmarshal([]byte(text), answer)
		}
	}
	return errUnreadable
}

// errUnreadable is the error for an answer that was encrypted with a key that this process lacks. A retry cannot help.
var errUnreadable = &Error{
	Kind: KeyReused, Status: "idempotency_key_reused",
	Message: "the first answer cannot be read any more; check whether the request was executed, and use a new " +
		"Idempotency-Key",
}

// saveAnswer stores the answer of the first request with a key.
func (s *Store) saveAnswer(tx *sqldb.Tx, k Idempotency, answer any) error {
	text, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("write an answer: %w", err)
	}
	key, err := k.cipher(s.Key)
	if err != nil {
		return err
	}
	return tx.Exec("UPDATE idempotency_keys SET answer = ? WHERE application = ? AND hash = ?",
		encryptedPrefix+key.seal(string(text), ""), k.Application, k.hash())
}

// hash returns the hash by which the record of a key is found. It reveals nothing about the key that encrypts answers.
func (k Idempotency) hash() []byte {
	hash, _ := k.derive(nil, "agentevents: the row of an Idempotency-Key")
	return hash
}

// cipher encrypts answers, which may hold secrets. Their decryption needs the Idempotency-Key and, if the store has
// one, its encryption key. The database alone is not enough.
func (k Idempotency) cipher(storeKey []byte) (*secretCipher, error) {
	key, err := k.derive(storeKey, "agentevents: the answer of an Idempotency-Key")
	if err != nil {
		return nil, err
	}
	return newSecretCipher(key)
}

func (k Idempotency) derive(salt []byte, purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(k.Key), salt, purpose, KeySize)
}

// pruneKeys deletes records that are older than a day.
func (s *Store) pruneKeys(ctx context.Context) error {
	for more := true; more && ctx.Err() == nil; {
		var found []int64
		const old = " FROM idempotency_keys WHERE created_at <= ? ORDER BY created_at LIMIT ?"
		found, err := sqldb.Select[int64](s.read(ctx), "SELECT created_at"+old, s.idempotencyCutoff(), pruneRows)
		if err != nil || len(found) == 0 {
			return err
		}
		err = s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
			// The second condition keeps a record whose key is reserved again while this statement waits for its lock.
			return tx.Exec("DELETE FROM idempotency_keys WHERE (application, hash) IN (SELECT application, hash"+old+
				") AND created_at <= ?",
				s.idempotencyCutoff(), pruneRows, s.idempotencyCutoff())
		})
		if err != nil {
			return err
		}
		more = len(found) == pruneRows
	}
	return nil
}
