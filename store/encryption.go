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

// KeySize is the length of an encryption key in bytes.
const KeySize = 32

// encryptedPrefix is the beginning of an encrypted secret in the database. Nonce and ciphertext of AES-256 in Galois
// counter mode follow it, in base64.
const encryptedPrefix = "sealed:"

// secretCipher encrypts secrets at rest. A nil cipher leaves them in plain text.
type secretCipher struct{ cipher.AEAD }

// newSecretCipher returns nil if there is no key.
func newSecretCipher(key []byte) (*secretCipher, error) {
	if key == nil {
		return nil, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &secretCipher{aead}, err
}

func (s *secretCipher) encrypt(secret string) string {
	if s == nil || secret == "" {
		return secret
	}
	return encryptedPrefix + base64.StdEncoding.EncodeToString(s.Seal(nil, nil, []byte(secret), nil))
}

var errWrongKey = errors.New(
	"the encryption key is missing or wrong: it must be the one that encrypted the signing secrets of this store",
)

// ErrLocked is returned by each method that needs a secret, in a process without the key.
var ErrLocked = &Error{
	Kind: Unavailable, Message: "this server cannot read the signing secrets, try again", cause: errWrongKey,
}

// decrypt returns a plain secret unchanged.
func (s *secretCipher) decrypt(stored string) (string, error) {
	text, is := strings.CutPrefix(stored, encryptedPrefix)
	if !is {
		return stored, nil
	}
	if s == nil {
		return "", errWrongKey
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	plain, err := s.Open(nil, nil, data, nil)
	if err != nil {
		return "", errWrongKey
	}
	return string(plain), nil
}

// decryptAll decrypts stored secrets. If it cannot, another process encrypted them with a key that this process lacks.
// This process then sends no deliveries, which the other one does, and is not ready.
func (s *Store) decryptAll(secrets ...*string) error {
	for _, secret := range secrets {
		plain, err := s.cipher.decrypt(*secret)
		if err != nil {
			if !s.locked.Swap(true) {
				s.Log.Error("signing secrets unreadable, deliveries stopped", "error", err)
			}
			return ErrLocked
		}
		*secret = plain
	}
	return nil
}

// decrypted returns the row with its secrets in plain text.
func (r headRow) decrypted(s *Store) (h headRow, err error) {
	r.clientSecrets, err = r.clientSecrets.decrypted(s)
	return r, err
}

// encryptSecrets checks the key, and encrypts the secrets that are in plain text.
func (s *Store) encryptSecrets(ctx context.Context) error {
	stored, err := sqldb.Value[string](s.read(ctx),
		"SELECT coalesce((SELECT secret FROM secrets WHERE secret LIKE ? LIMIT 1), '')", encryptedPrefix+"%")
	if err != nil {
		return err
	}
	if _, err := s.cipher.decrypt(stored); err != nil || s.cipher == nil {
		return err
	}
	if err := s.write(ctx, s.encryptPlain); err != nil {
		return err
	}
	return s.engine.eraseOverwritten(ctx)
}

// encryptPlain encrypts the secrets that are in plain text, and overwrites them in the file.
func (s *Store) encryptPlain(tx *sqldb.Tx) error {
	return s.engine.overwrite(tx, func() error { return s.encryptRows(tx) })
}

func (s *Store) encryptRows(tx *sqldb.Tx) error {
	rows, err := sqldb.Select[secretRow](tx,
		"SELECT s.client_id, "+clientSecretsSQL+" FROM secrets s WHERE s.secret NOT LIKE ? OR "+
			"s.previous NOT LIKE ? AND s.previous <> '' OR s.older NOT LIKE ? AND s.older <> ''"+tx.ForUpdate(true),
		encryptedPrefix+"%", encryptedPrefix+"%", encryptedPrefix+"%")
	for i := 0; err == nil && i < len(rows); i++ {
		k := rows[i].clientSecrets
		k.Secret, k.Previous, k.Older = s.encryptOnce(k.Secret), s.encryptOnce(k.Previous), s.encryptOnce(k.Older)
		err = k.save(tx, rows[i].ClientID)
	}
	return err
}

// secretRow is a row of secrets.
type secretRow struct {
	ClientID string
	clientSecrets
}

func (s *Store) encryptOnce(stored string) string {
	if strings.HasPrefix(stored, encryptedPrefix) {
		return stored
	}
	return s.cipher.encrypt(stored)
}
