package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// KeySize is how many bytes an encryption key has.
const KeySize = 32

// sealed is what an encrypted secret in the database begins with. Behind it, in base64, are nonce and ciphertext of
// AES-256 in Galois counter mode.
const sealed = "sealed:"

// seal encrypts secrets at rest. Nil leaves them as they are.
type seal struct{ cipher.AEAD }

// newSeal returns nil for no key.
func newSeal(key []byte) (*seal, error) {
	if key == nil {
		return nil, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &seal{aead}, err
}

func (s *seal) close(secret string) string {
	if s == nil || secret == "" {
		return secret
	}
	return sealed + base64.StdEncoding.EncodeToString(s.Seal(nil, nil, []byte(secret), nil))
}

var errSealed = errors.New("the signing secrets in the database are encrypted, and the encryption key is not the one")

// ErrLocked is what comes of all that needs a secret in a process without the key.
var ErrLocked = &Error{Kind: Unavailable, Message: "the signing secrets cannot be read here, try again", cause: errSealed}

// open returns a secret that was not encrypted as it is.
func (s *seal) open(stored string) (string, error) {
	text, is := strings.CutPrefix(stored, sealed)
	if !is {
		return stored, nil
	}
	if s == nil {
		return "", errSealed
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	plain, err := s.Open(nil, nil, data, nil)
	if err != nil {
		return "", errSealed
	}
	return string(plain), nil
}

// unseal makes stored secrets fit for use. One that cannot be opened was encrypted by another process, with a key that this
// one lacks: what needs it is left to that one, and this one is not ready.
func (s *Store) unseal(secrets ...*string) error {
	for _, secret := range secrets {
		plain, err := s.seal.open(*secret)
		if err != nil {
			if !s.locked.Swap(true) {
				s.Log.Error("nothing is sent from here any more, and this process is not ready", "error", err)
			}
			return ErrLocked
		}
		*secret = plain
	}
	return nil
}

// opened is the row with its secrets for use.
func (r headRow) opened(s *Store) (h headRow, err error) {
	r.keys, err = r.keys.opened(s)
	return r, err
}

// sealSecrets looks whether the key is the right one, and encrypts what is not yet.
func (s *Store) sealSecrets(ctx context.Context) error {
	stored, err := sqldb.Value[string](s.read(ctx), "SELECT coalesce((SELECT secret FROM secrets WHERE secret LIKE ? LIMIT 1), '')", sealed+"%")
	if err != nil {
		return err
	}
	if _, err := s.seal.open(stored); err != nil || s.seal == nil {
		return err
	}
	if err := s.write(ctx, s.sealOpen); err != nil {
		return err
	}
	return s.engine.eraseOverwritten(ctx)
}

// sealOpen overwrites what it encrypts.
func (s *Store) sealOpen(tx *sqldb.Tx) error {
	if tx.Dialect() == sqldb.SQLite {
		if err := tx.Exec("PRAGMA secure_delete = ON"); err != nil {
			return err
		}
		defer tx.Exec("PRAGMA secure_delete = OFF")
	}
	rows, err := sqldb.Select[secretRow](tx, "SELECT s.client_id, "+keysSQL+" FROM secrets s WHERE s.secret NOT LIKE ? OR "+
		"s.previous NOT LIKE ? AND s.previous <> '' OR s.older NOT LIKE ? AND s.older <> ''"+tx.ForUpdate(true),
		sealed+"%", sealed+"%", sealed+"%")
	for i := 0; err == nil && i < len(rows); i++ {
		k := rows[i].keys
		k.Secret, k.Previous, k.Older = s.sealOnce(k.Secret), s.sealOnce(k.Previous), s.sealOnce(k.Older)
		err = k.save(tx, rows[i].ClientID)
	}
	return err
}

// secretRow is a row of secrets.
type secretRow struct {
	ClientID string
	keys
}

func (s *Store) sealOnce(stored string) string {
	if strings.HasPrefix(stored, sealed) {
		return stored
	}
	return s.seal.close(stored)
}
