package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// secretsIn returns all secrets as the database stores them.
func secretsIn(t *testing.T, file string) (all []string) {
	t.Helper()
	db, err := sql.Open("sqlite3", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT secret || ' ' || previous || ' ' || older FROM secrets ORDER BY client_id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Fields(row)...)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Plain secrets are encrypted at the first start with a key. Callers see no difference. Another key, or none, is
// refused.
func TestSecretsAreEncrypted(t *testing.T) {
	pgtest.SQLiteOnly(t, "it looks into the file")
	file := filepath.Join(t.TempDir(), "test.db")
	opened := func(key []byte) *store.Store {
		t.Helper()
		s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + file, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	secretOf := func(s *store.Store, client string) gen.Secret {
		t.Helper()
		secret, err := s.Secret(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	s := opened(nil)
	for _, client := range []string{"12", "13"} {
		if _, _, err := s.PutClient(t.Context(), client, gen.ClientUpdate{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := s.RotateSecret(t.Context(), "13"); err != nil {
			t.Fatal(err)
		}
	}
	plain, rotated := secretOf(s, "12"), secretOf(s, "13")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if stored := secretsIn(t, file); len(stored) != 4 || stored[0] != plain.Secret {
		t.Fatalf("without a key %q is stored", stored)
	}

	key := bytes.Repeat([]byte{7}, store.KeySize)
	s = opened(key)
	if _, _, err := s.PutClient(t.Context(), "14", gen.ClientUpdate{}); err != nil {
		t.Fatal(err)
	}
	again, err := s.RotateSecret(t.Context(), "13")
	if err != nil || again.Previous != rotated.Secret || len(again.SigningSecrets) != 4 {
		t.Errorf("rotated to %+v from %+v, %v", again, rotated, err)
	}
	if secretOf(s, "12").Secret != plain.Secret || secretOf(s, "13").Secret != again.Secret ||
		!strings.HasPrefix(secretOf(s, "14").Secret, "whsec_") {
		t.Error("the encryption has changed the secrets")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	stored := secretsIn(t, file)
	for _, secret := range stored {
		if !strings.HasPrefix(secret, "sealed:") {
			t.Errorf("%s is stored", secret)
		}
	}
	if bytes.Contains(readFile(t, file), []byte("whsec_")) {
		t.Error("the file has a secret in plain text")
	}
	if len(stored) != 5 {
		t.Errorf("%d secrets are stored", len(stored))
	}
	for name, wrong := range map[string][]byte{
		"no key": nil, "another key": bytes.Repeat([]byte{8}, store.KeySize), "a short key": {1},
	} {
		if s, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + file, Key: wrong}); err == nil {
			t.Errorf("%s opens it", name)
			_ = s.Close()
		} else if !strings.Contains(err.Error(), "key") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s = opened(key)
	defer s.Close()
	if secretOf(s, "12").Secret != plain.Secret {
		t.Error("the secret has changed at the second start")
	}
}

// Signatures use the plain secret.
func TestEncryptedSecretsSign(t *testing.T) {
	f := open(t)
	f.key = bytes.Repeat([]byte{7}, store.KeySize)
	f.restart()
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	f.signedWith(f.secret(k.Client).Secret)
	log, err := f.Delivery(f.ctx, k.Client, 1)
	f.check(err)
	test, err := f.NewTestDelivery(f.ctx, k, 1)
	f.check(err)
	if want := f.secret(k.Client).Secret; log.Sent.Secrets[0] != want || test.Secrets[0] != want {
		t.Errorf("the log has %q, the test delivery %q, want %q", log.Sent.Secrets, test.Secrets, want)
	}
}

// A replica with a new key encrypts the secrets that others read without one. Those then send nothing, change no
// secret, and are not ready. Their deliveries are sent by the replica with the key.
func TestReplicaWithoutTheKeyIsNotReady(t *testing.T) {
	pgtest.PostgresOnly(t, "SQLite has one process")
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	inFlight := f.claimOne()
	f.logout(k)
	before := f.secret(k.Client)
	other, err := store.Open(f.ctx,
		store.Options{URL: f.url, Now: f.clock.Now, Key: bytes.Repeat([]byte{7}, store.KeySize)})
	f.check(err)
	defer func() { f.check(other.Close()) }()
	f.check(f.Ready(f.ctx)) // it has not read an encrypted secret yet
	if next := f.record(inFlight, webhook.Delivered, true); next != nil {
		t.Errorf("the lane continues with %+v", next)
	}
	o := f.acceptHandoffs(5)
	later := f.agentN(8)
	f.createEvents(later, board, both...)
	f.login(later)
	for name, fn := range map[string]func() error{
		"claim":  func() error { _, _, err := f.Claim(f.ctx, anyRoom); return err },
		"secret": func() error { _, err := f.Secret(f.ctx, k.Client); return err },
		"rotate": func() error { _, err := f.RotateSecret(f.ctx, k.Client); return err },
		"client": func() error { _, _, err := f.PutClient(f.ctx, "14", gen.ClientUpdate{}); return err },
		"test":   func() error { _, err := f.NewTestDelivery(f.ctx, k, 1); return err },
		"log":    func() error { _, err := f.Delivery(f.ctx, k.Client, 1); return err },
		"ready":  func() error { return f.Ready(f.ctx) },
	} {
		var known *store.Error
		if err := fn(); !errors.As(err, &known) || known.Kind != store.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if o.room != 5 || len(o.delivered) != 0 {
		t.Errorf("%+v were handed off; there is room for %d", o.delivered, o.room)
	}
	if after, err := other.Secret(f.ctx, k.Client); err != nil || after.Secret != before.Secret {
		t.Errorf("the secret is %+v, %v, want %+v", after, err, before)
	}
	claimed, _, err := other.Claim(f.ctx, anyRoom)
	if err != nil || len(claimed) != 2 {
		t.Errorf("the replica with the key claims %+v, %v", claimed, err)
	}
}
