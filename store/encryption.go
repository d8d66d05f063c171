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

// encryptedPrefix is what an encrypted secret in the database begins with. Behind it, in base64, are nonce and
// ciphertext of AES-256 in Galois counter mode.
const encryptedPrefix = "sealed:"

// secretCipher encrypts secrets at rest. A nil cipher leaves them as they are.
type secretCipher struct{ cipher.AEAD }

// newSecretCipher returns nil for no key.
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

var errWrongKey = errors.New("the signing secrets in the database are encrypted, and the encryption key is not the one")

// ErrLocked is returned by all that needs a secret in a process without the key.
var ErrLocked = &Error{
	Kind: Unavailable, Message: "the signing secrets cannot be read here, try again", cause: errWrongKey,
}

// decrypt returns a secret that was not encrypted as it is.
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

// decryptAll decrypts stored secrets. A secret that cannot be decrypted was encrypted by another process, with a key
// that this one lacks: deliveries that need it are left to that process, and this one is not ready.
func (s *Store) decryptAll(secrets ...*string) error {
	for _, secret := range secrets {
		plain, err := s.cipher.decrypt(*secret)
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

// decrypted is the row with its secrets decrypted.
func (r headRow) decrypted(s *Store) (h headRow, err error) {
	r.clientSecrets, err = r.clientSecrets.decrypted(s)
	return r, err
}

// encryptSecrets checks the key, and encrypts the secrets that are not encrypted yet.
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

// encryptPlain encrypts the secrets that are not encrypted yet, and overwrites them.
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
