package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// KeySize is the length of an encryption key in bytes.
const KeySize = 32

// encryptedPrefix is what an encrypted secret in the database begins with. Behind it are the id of the key, a colon
// and, in base64, nonce and ciphertext of AES-256 in Galois counter mode. The client's id is authenticated with them:
// in the row of another client, the secret cannot be decrypted. Earlier versions wrote neither of the two ids.
const encryptedPrefix = "sealed:"

// secretCipher encrypts secrets at rest. A nil cipher leaves them in plain text.
type secretCipher struct {
	cipher.AEAD
	id string // of its key
}

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
	if err != nil {
		return nil, fmt.Errorf("encryption key: %w", err)
	}
	id, err := hkdf.Key(sha256.New, key, nil, "agentevents: the id of an encryption key", 4)
	return &secretCipher{aead, hex.EncodeToString(id)}, err
}

// keyID is empty for no key.
func (s *secretCipher) keyID() string {
	if s == nil {
		return ""
	}
	return s.id
}

// seal encrypts a text for an owner, and open decrypts it.
func (s *secretCipher) seal(text, owner string) string {
	return base64.StdEncoding.EncodeToString(s.Seal(nil, nil, []byte(text), []byte(owner)))
}

func (s *secretCipher) open(sealed, owner string) (string, error) {
	data, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	plain, err := s.Open(nil, nil, data, []byte(owner))
	return string(plain), err
}

var (
	errWrongKey = errors.New(
		"the encryption key is missing or wrong: it must be the one that encrypted the signing secrets of this store",
	)
	errForeign = errors.New("a signing secret in the database is not encrypted, or is another client's: another " +
		"program has written it; restore this row of the table secrets from a backup")
)

// ErrKeyMissing is returned by each method that needs a secret, in a process without the key.
var ErrKeyMissing = &Error{
	Kind: Unavailable, Message: "this server cannot read the signing secrets, try again", cause: errWrongKey,
}

// encrypt returns a secret of a client as it is stored.
func (s *secretCipher) encrypt(secret, client string) string {
	if s == nil || secret == "" {
		return secret
	}
	return encryptedPrefix + s.id + ":" + s.seal(secret, secretOwner(client))
}

// secretOwner is the id that a client was created with: renameEarlierClient appends to it.
func secretOwner(client string) string {
	owner, _, _ := strings.Cut(client, " ")
	return owner
}

// decrypt returns a stored secret of a client. With a key, a secret that is not encrypted is refused.
func (s *secretCipher) decrypt(stored, client string) (string, error) {
	sealed, encrypted := strings.CutPrefix(stored, encryptedPrefix)
	id, text, bound := strings.Cut(sealed, ":")
	switch {
	case stored == "" || !encrypted && s == nil:
		return stored, nil
	case encrypted && (s == nil || bound && id != s.id):
		return "", errWrongKey
	case !bound:
		return "", errForeign
	}
	plain, err := s.open(text, secretOwner(client))
	if err != nil {
		return "", errForeign
	}
	return plain, nil
}

// decryptEarlier is decrypt before the first encryption by this version: a secret may not be encrypted yet, or be so by
// an earlier version.
func (s *secretCipher) decryptEarlier(stored, client string) (string, error) {
	sealed, encrypted := strings.CutPrefix(stored, encryptedPrefix)
	switch {
	case !encrypted:
		return stored, nil
	case strings.Contains(sealed, ":"):
		return s.decrypt(stored, client)
	}
	plain, err := s.open(sealed, "")
	if err != nil {
		return "", errWrongKey
	}
	return plain, nil
}

// decryptAll decrypts stored secrets of a client.
func (s *Store) decryptAll(client string, secrets ...*string) error {
	for _, secret := range secrets {
		plain, err := s.cipher.decrypt(*secret, client)
		if err != nil {
			return s.unreadable(client, err)
		}
		*secret = plain
	}
	return nil
}

// unreadable returns the error for a secret of a client that cannot be decrypted. If another process has encrypted the
// store with a key that this process lacks, this process sends no deliveries any more, which the other one does, and is
// not ready. Otherwise only the deliveries of this client are not sent.
func (s *Store) unreadable(client string, why error) error {
	if errors.Is(why, errWrongKey) {
		ctx, cancel := context.WithTimeout(context.Background(), postgres.TransactionTimeout)
		defer cancel()
		switch id, err := storeKeyID(s.read(ctx)); {
		case err != nil:
			return publicError(err)
		case id != s.cipher.keyID():
			return s.lock(ofClient(client, why))
		}
	}
	s.logUnreadable(client)
	return &Error{
		Kind: Unavailable, cause: ofClient(client, errForeign), Message: fmt.Sprintf(
			"the signing secrets of client %s cannot be read; an operator must restore them", secretOwner(client)),
	}
}

// unreadableEvery is the interval in which the deliveries of a client with an unreadable secret are tried and logged.
const unreadableEvery = time.Minute

// logUnreadable logs an unreadable secret of a client, at most once in unreadableEvery.
func (s *Store) logUnreadable(client string) {
	s.unreadableLog.Lock()
	defer s.unreadableLog.Unlock()
	if s.unreadableAt == nil {
		s.unreadableAt = map[string]time.Time{}
	}
	now := s.monotonic()
	if last, logged := s.unreadableAt[client]; !logged || now.Sub(last) >= unreadableEvery {
		s.unreadableAt[client] = now
		slog.New(s.asyncLog).Error("signing secret unreadable, deliveries of the client stopped",
			"client", secretOwner(client), "error", errForeign)
	}
}

// decryptHeads returns the heads with their secrets in plain text. It releases the lane of a head with an unreadable
// secret, and pauses its receiver, which belongs to the same client.
func (s *Store) decryptHeads(tx *sqldb.Tx, heads []headRow) (readable []headRow, err error) {
	for _, h := range heads {
		plain, err := h.decrypted(s)
		switch {
		case err == nil:
			readable = append(readable, plain)
		case errors.Is(err, errForeign):
			if err := s.pauseUnreadable(tx, h); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	return readable, nil
}

func (s *Store) pauseUnreadable(tx *sqldb.Tx, h headRow) error {
	s.count(tx, func(c *Counts) { c.Unreadable++ })
	if _, err := releaseLane(tx, h.LaneID); err != nil {
		return err
	}
	until := s.now() + unreadableEvery.Milliseconds()
	return tx.Exec("UPDATE receivers SET probe = NULL, waits = CASE WHEN waits > ? THEN waits ELSE ? END, "+
		"paused_until = CASE WHEN paused_until > ? THEN paused_until ELSE ? END WHERE id = ?",
		until, until, until, until, h.ReceiverID)
}

// lock stops the deliveries of this process, which is not ready any more.
func (s *Store) lock(why error) error {
	if !s.keyMissing.Swap(true) {
		s.Log.Error("signing secrets unreadable, deliveries stopped", "error", why)
	}
	return ErrKeyMissing
}

// checkKey refuses to store a secret if the store is encrypted with another key, or with none. Until the transaction
// ends, no other process encrypts the store.
func (s *Store) checkKey(tx *sqldb.Tx) error {
	id, err := storeKeyID(tx)
	if err == nil && id != s.cipher.keyID() {
		return s.lock(errWrongKey)
	}
	return err
}

// storeKeyID is the id of the key that the store is encrypted with, empty for none.
func storeKeyID(q sqldb.Querier) (string, error) {
	return sqldb.Value[string](q, "SELECT key_id FROM epochs"+q.ForUpdate(true))
}

// decrypted returns the row with its secrets in plain text.
func (r headRow) decrypted(s *Store) (h headRow, err error) {
	r.clientSecrets, err = r.clientSecrets.decrypted(s)
	return r, err
}

// encryptSecrets checks the key. With the first key that a store has, it encrypts the secrets that are there. From then
// on it reports each that is not encrypted. A process that was killed before it erased the overwritten secrets leaves
// that to the next start.
func (s *Store) encryptSecrets(ctx context.Context) error {
	id, err := storeKeyID(s.read(ctx))
	if err != nil {
		return err
	}
	switch {
	case id != "" && id != s.cipher.keyID():
		return errWrongKey
	case s.cipher == nil:
		return s.refuseEncrypted(ctx)
	case id == "":
		err = s.write(ctx, s.encryptPlain)
	default:
		err = s.reportForeign(ctx, id)
	}
	if err != nil {
		return err
	}
	_, err = s.engine.eraseOverwritten(ctx)
	return err
}

// refuseEncrypted returns an error if there is an encrypted secret.
func (s *Store) refuseEncrypted(ctx context.Context) error {
	client, is, err := sqldb.Get[string](s.read(ctx),
		"SELECT client_id FROM secrets WHERE secret LIKE ? ORDER BY client_id LIMIT 1", encryptedPrefix+"%")
	if err == nil && is {
		err = ofClient(client, errWrongKey)
	}
	return err
}

// maxReported is the number of clients that reportForeign logs.
const maxReported = 100

// reportForeign logs the clients whose secret is not encrypted with a key.
func (s *Store) reportForeign(ctx context.Context, keyID string) error {
	clients, err := sqldb.Select[string](s.read(ctx),
		"SELECT client_id FROM secrets WHERE secret NOT LIKE ? ORDER BY client_id"+sqldb.Limit,
		encryptedPrefix+keyID+":%", maxReported)
	for _, c := range clients {
		s.logUnreadable(c)
	}
	return err
}

// ofClient is an error of a client's secrets.
func ofClient(client string, err error) error {
	return fmt.Errorf("client %s: %w", secretOwner(client), err)
}

// encryptPlain encrypts all secrets of a store without a key, and overwrites them. Another process may be quicker.
func (s *Store) encryptPlain(tx *sqldb.Tx) error {
	id, err := storeKeyID(tx)
	switch {
	case err != nil || id == s.cipher.id:
		return err
	case id != "":
		return errWrongKey
	}
	_, err = s.reseal(tx, s.cipher.decryptEarlier, s.cipher)
	return err
}

// reseal encrypts all secrets with a key, which is the store's from then on, and overwrites them.
func (s *Store) reseal(
	tx *sqldb.Tx, decrypt func(stored, client string) (string, error), key *secretCipher,
) (clients int, err error) {
	err = s.engine.overwrite(tx, func() error {
		rows, err := sqldb.Select[clientSecrets](tx, "SELECT "+clientSecretsSQL+" FROM secrets s"+tx.ForUpdate(true))
		clients = len(rows)
		for i := 0; err == nil && i < len(rows); i++ {
			k := rows[i]
			for _, secret := range []*string{&k.Secret, &k.Previous, &k.Older} {
				if *secret, err = decrypt(*secret, k.Owner); err != nil {
					return err
				}
			}
			err = k.encrypted(key, k.Owner).save(tx, k.Owner)
		}
		if err != nil {
			return err
		}
		return tx.Exec("UPDATE epochs SET key_id = ?", key.id)
	})
	return clients, err
}

// RotatedKey is what RotateKey has done.
type RotatedKey struct {
	Clients int    // with secrets
	ID      string // of the new key
}

// RotateKey encrypts the secrets of a store, which has the key of its options, with another key. It does so in one
// transaction: at no time does the store have two keys. A process that serves the store with the old key sends nothing
// any more, and is not ready, until it is restarted with the new one.
func RotateKey(ctx context.Context, o Options, newKey []byte) (r RotatedKey, err error) {
	key, err := newSecretCipher(newKey)
	if err != nil {
		return r, err
	}
	s, err := OpenAlongside(ctx, o)
	if err != nil {
		return r, err
	}
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		id, err := storeKeyID(tx)
		if err == nil && (id == "" || id != s.cipher.keyID()) {
			err = fmt.Errorf("the old key is not the store's: %w", errWrongKey)
		}
		if err != nil {
			return err
		}
		r.ID = key.id
		r.Clients, err = s.reseal(tx, s.cipher.decrypt, key)
		return err
	})
	if err == nil {
		_, err = s.engine.eraseOverwritten(ctx)
	}
	return r, errors.Join(err, s.Close())
}
