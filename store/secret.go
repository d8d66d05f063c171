package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

const (
	// secretOverlap is the time for which a replaced secret still signs, for receivers that do not have the new one
	// yet.
	secretOverlap = 24 * time.Hour
	// maxSecrets is the maximum number of a client's secrets that sign. Each adds a signature to a header.
	maxSecrets = 5
)

// clientSecrets are the secrets of a client in a row. An earlier version of the program knows only Secret and Previous,
// and signs with these two.
type clientSecrets struct {
	Secret        string
	Previous      string
	PreviousUntil int64
	Older         string // the other signers in JSON, the newest first; empty if there are none
	Owner         string // the client's id in the row

	olderSigners []signer // the decoded Older
}

// clientSecretsSQL lists the columns of secrets s.
const clientSecretsSQL = "s.secret, s.previous, s.previous_until, s.older, s.client_id AS owner"

// signer is a secret that signs until a time in milliseconds. The newest one has no such time.
type signer struct {
	Secret string `json:"secret"`
	Until  int64  `json:"until"`
}

// newClientSecrets encodes signers, the newest first, as a row.
func newClientSecrets(list []signer) (k clientSecrets, err error) {
	k.Secret = list[0].Secret
	if len(list) > 1 {
		k.Previous, k.PreviousUntil = list[1].Secret, list[1].Until
	}
	if len(list) > 2 {
		text, err := json.Marshal(list[2:])
		if err != nil {
			return k, fmt.Errorf("write secrets: %w", err)
		}
		k.Older, k.olderSigners = string(text), list[2:]
	}
	return k, nil
}

// decrypted returns the secrets in plain text.
func (k clientSecrets) decrypted(s *Store) (clientSecrets, error) {
	err := s.decryptAll(k.Owner, &k.Secret, &k.Previous, &k.Older)
	if err == nil && k.Older != "" {
		err = json.Unmarshal([]byte(k.Older), &k.olderSigners)
	}
	return k, err
}

// encrypted returns the secrets for the row of a client.
func (k clientSecrets) encrypted(s *secretCipher, client string) clientSecrets {
	k.Secret, k.Previous = s.encrypt(k.Secret, client), s.encrypt(k.Previous, client)
	k.Older = s.encrypt(k.Older, client)
	return k
}

// signers returns the secrets that sign at a time, the newest first.
func (k clientSecrets) signers(now int64) []signer {
	list := []signer{{Secret: k.Secret}}
	// Without Previous, Older is empty or belongs to an earlier client: an earlier version of the program, which does
	// not know Older, gave the id to a new one.
	if k.Previous == "" {
		return list
	}
	if k.PreviousUntil > now {
		list = append(list, signer{k.Previous, k.PreviousUntil})
	}
	for _, s := range k.olderSigners {
		if s.Until > now {
			list = append(list, s)
		}
	}
	return list
}

// secrets returns the secrets that sign at a time, as a delivery has them.
func (k clientSecrets) secrets(now int64) []string {
	return each(k.signers(now), func(s signer) string { return s.Secret })
}

func (k clientSecrets) model(now int64) gen.Secret {
	list := k.signers(now)
	m := gen.Secret{Secret: k.Secret, SigningSecrets: each(list, signer.model)}
	if len(list) > 1 {
		m.Previous, m.PreviousUntil = list[1].Secret, apiTimeOrNil(&list[1].Until)
	}
	return m
}

func (s signer) model() gen.SigningSecret {
	m := gen.SigningSecret{Secret: s.Secret}
	if s.Until > 0 {
		m.Until = apiTimeOrNil(&s.Until)
	}
	return m
}

// Secret returns the secrets that sign a client's deliveries.
func (s *Store) Secret(ctx context.Context, client string) (gen.Secret, error) {
	tx := s.read(ctx)
	if _, err := findClient(tx, client); err != nil {
		return gen.Secret{}, err
	}
	k, err := s.readSecrets(tx, client)
	return k.model(s.now()), publicError(err)
}

// readSecrets returns the decrypted secrets of a client. In a transaction that writes, it locks the row.
func (s *Store) readSecrets(q sqldb.Querier, client string) (k clientSecrets, err error) {
	k, is, err := sqldb.Get[clientSecrets](q,
		"SELECT "+clientSecretsSQL+" FROM secrets s WHERE s.client_id = ?"+q.ForUpdate(true), client)
	if err == nil && !is {
		err = gorm.ErrRecordNotFound
	}
	if err != nil {
		return k, err
	}
	return k.decrypted(s)
}

// RotateSecret gives a client a new secret. The previous one still signs for a day.
func (s *Store) RotateSecret(ctx context.Context, client string) (gen.Secret, error) {
	return s.changeSecrets(ctx, client, false, func(list []signer, _ bool) ([]signer, error) {
		if len(list) >= maxSecrets {
			return nil, tooManySecrets(client, list)
		}
		list[0].Until = s.now() + secretOverlap.Milliseconds()
		return append([]signer{{Secret: webhook.NewSecret()}}, list...), nil
	})
}

// RollBackSecret undoes the last rotation: the previous secret is the newest again, and the one that replaced it stops
// signing. A second call is refused until the next rotation, since it would stop the restored secret without the day
// that a rotation gives it.
func (s *Store) RollBackSecret(ctx context.Context, client string) (gen.Secret, error) {
	return s.changeSecrets(ctx, client, true, func(list []signer, rolledBack bool) ([]signer, error) {
		switch {
		case rolledBack:
			return nil, rotationRolledBack(client)
		case len(list) == 1:
			return nil, noPreviousSecret(client)
		}
		list[1].Until = 0
		return list[1:], nil
	})
}

// changeSecrets replaces the signers of a client, the newest first, and records whether that was a rollback.
func (s *Store) changeSecrets(
	ctx context.Context, client string, back bool, change func(list []signer, rolledBack bool) ([]signer, error),
) (gen.Secret, error) {
	return createOnce(ctx, s, func(tx *sqldb.Tx) (m gen.Secret, err error) {
		if _, err := findClient(tx, client); err != nil {
			return m, err
		}
		if err := s.checkKey(tx); err != nil {
			return m, err
		}
		k, err := s.readSecrets(tx, client)
		if err != nil {
			return m, err
		}
		rolledBack, _, err := sqldb.Get[int64](tx, "SELECT taken_back FROM secrets WHERE client_id = ?", client)
		if err != nil {
			return m, err
		}
		list, err := change(k.signers(s.now()), rolledBack > 0)
		if err != nil {
			return m, err
		}
		if k, err = newClientSecrets(list); err != nil {
			return m, err
		}
		err = errors.Join(k.encrypted(s.cipher, client).save(tx, client), noteRollback(tx, client, back))
		return k.model(s.now()), err
	})
}

func noteRollback(tx *sqldb.Tx, client string, back bool) error {
	return tx.Exec("UPDATE secrets SET taken_back = CASE WHEN ? THEN 1 ELSE 0 END WHERE client_id = ?", back, client)
}

func (k clientSecrets) save(tx *sqldb.Tx, client string) error {
	return tx.Exec("UPDATE secrets SET secret = ?, previous = ?, previous_until = ?, older = ? WHERE client_id = ?",
		k.Secret, k.Previous, k.PreviousUntil, k.Older, client)
}

func tooManySecrets(client string, list []signer) error {
	return &Error{Kind: Conflict, Status: "too_many_secrets", Message: fmt.Sprintf(
		"client %s has %d secrets that sign, the most that it may have; the oldest ends at %s, then the next "+
			"rotation is possible",
		client, len(list), millis(list[len(list)-1].Until).UTC().Format("2006-01-02T15:04:05.000Z"))}
}

func noPreviousSecret(client string) error {
	return &Error{Kind: Conflict, Status: "no_previous_secret", Message: fmt.Sprintf(
		"client %s has no previous secret that still signs, so there is no rotation to take back", client)}
}

func rotationRolledBack(client string) error {
	return &Error{Kind: Conflict, Status: "rotation_taken_back", Message: fmt.Sprintf(
		"the last rotation of client %s was taken back already; only a later rotation can be taken back", client)}
}

// newSecret gives a new client its first secret. It overwrites the secret of an earlier client with the same id, which
// either is not needed any more or was renamed by renameEarlierClient.
func (s *Store) newSecret(tx *sqldb.Tx, client string) error {
	if err := s.checkKey(tx); err != nil {
		return err
	}
	return tx.Exec("INSERT INTO secrets (client_id, secret) VALUES (?, ?) ON CONFLICT (client_id) "+
		"DO UPDATE SET secret = excluded.secret, previous = '', previous_until = 0, older = '', taken_back = 0",
		client, s.cipher.encrypt(webhook.NewSecret(), client))
}
