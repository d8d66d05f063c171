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

// idempotencyWindow is how long a request with an Idempotency-Key gets the answer of the first one.
const idempotencyWindow = 24 * time.Hour

// Idempotency is the Idempotency-Key of a request that creates something.
type Idempotency struct {
	Application int64  // the number of the caller
	Client      string // that the request is about: its deletion ends what is remembered
	Key         string
	Fingerprint []byte // of the request; another request with the same key has another one
}

type idempotencyKey struct{}

// WithIdempotency returns a context with which CreateAgent, CreateEvent, CreateApplication, RotateSecret,
// RollBackSecret and CreateReplay create at most once in a day for an application and a key. The same fingerprint
// gets the first answer again, another one an *Error of kind KeyReused. The context carries the key because it is
// about the request, not about what is created: callers without a key, which are most, do not mention it.
func WithIdempotency(ctx context.Context, k Idempotency) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, k)
}

// createOnce creates something in a transaction of its own. The record of an Idempotency-Key is written in the same
// transaction: after a crash there are both or neither. An error stores nothing.
func createOnce[T any](ctx context.Context, s *Store, create func(tx *sqldb.Tx) (T, error)) (answer T, err error) {
	k, given := ctx.Value(idempotencyKey{}).(Idempotency)
	err = s.write(ctx, func(tx *sqldb.Tx) (err error) {
		answer = *new(T) // nothing is left of a transaction that is tried again
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

// reserve takes a key that is new, or older than a day, and says whether it has. On PostgreSQL a second transaction
// with the same key waits here for the first. It locks the application before the client, which a deletion of the
// client does not: if the two meet, PostgreSQL ends one of them, which is tried again.
func (s *Store) reserve(tx *sqldb.Tx, k Idempotency) (first bool, err error) {
	taken, err := tx.ExecCount("INSERT INTO idempotency_keys (application, hash, client_id, fingerprint, "+
		"answer, created_at) SELECT number, ?, ?, ?, '', ? FROM applications WHERE number = ? "+
		"ON CONFLICT (application, hash) DO UPDATE SET "+
		"client_id = excluded.client_id, fingerprint = excluded.fingerprint, created_at = excluded.created_at "+
		"WHERE idempotency_keys.created_at <= ?", k.hash(), k.Client, k.Fingerprint, s.now(), k.Application,
		s.idempotencyCutoff())
	return taken > 0, err
}

// idempotencyCutoff is the time of the youngest record that is too old.
func (s *Store) idempotencyCutoff() int64 { return s.now() - idempotencyWindow.Milliseconds() }

// readAnswer reads the answer to the first request with a key.
func (s *Store) readAnswer(tx *sqldb.Tx, k Idempotency, answer any) error {
	r, err := gorm.G[idempotencyRow](tx.GORM()).Select("fingerprint, answer").
		Where("application = ? AND hash = ?", k.Application, k.hash()).Take(tx.Context())
	if errors.Is(err, gorm.ErrRecordNotFound) { // a key was not taken, and is not there
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

// readAnswer reads an answer that is stored. It may have been written before the store had its encryption key.
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

// errUnreadable is for an answer that was encrypted with a key which this process lacks: to try again cannot help.
var errUnreadable = &Error{
	Kind: KeyReused, Status: "idempotency_key_reused",
	Message: "the first answer cannot be read any more; look whether the request was carried out, and use a new " +
		"Idempotency-Key",
}

// saveAnswer keeps the answer to the first request with a key.
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

// hash is the hash that the record of a key is found by. It reveals nothing of the key that encrypts answers.
func (k Idempotency) hash() []byte {
	hash, _ := k.derive(nil, "agentevents: the row of an Idempotency-Key")
	return hash
}

// cipher encrypts answers, which may hold secrets. The database alone does not open them: that takes the
// Idempotency-Key and, if the store has one, its encryption key.
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

// pruneKeys removes records that are older than a day.
func (s *Store) pruneKeys(ctx context.Context) error {
	for more := true; more && ctx.Err() == nil; {
		var found []int64
		const old = " FROM idempotency_keys WHERE created_at <= ? ORDER BY created_at LIMIT ?"
		found, err := sqldb.Select[int64](s.read(ctx), "SELECT created_at"+old, s.idempotencyCutoff(), pruneRows)
		if err != nil || len(found) == 0 {
			return err
		}
		err = s.write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
			// A record of which the key is used again while this waits for it stays.
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
