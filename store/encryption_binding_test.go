package store_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

var (
	oneKey     = bytes.Repeat([]byte{7}, store.KeySize)
	anotherKey = bytes.Repeat([]byte{8}, store.KeySize)
)

// encrypted is a store with a key and clients 12 and 13.
func encrypted(t *testing.T) *fixture {
	t.Helper()
	f := open(t)
	f.key = oneKey
	f.restart()
	for _, client := range []string{"12", "13"} {
		_, _, err := f.PutClient(f.ctx, client, gen.ClientUpdate{})
		f.check(err)
	}
	return f
}

func (f *fixture) exec(statement string) {
	f.t.Helper()
	db := f.db()
	defer db.Close()
	_, err := db.Exec(statement)
	f.check(err)
}

// isLocked checks that no secret can be read, or stored, and that the store is not ready.
func (f *fixture) isLocked(client string) {
	f.t.Helper()
	_, err := f.Secret(f.ctx, client)
	_, rotated := f.RotateSecret(f.ctx, client)
	for what, err := range map[string]error{"secret": err, "rotation": rotated, "readiness": f.Ready(f.ctx)} {
		var known *store.Error
		if !errors.As(err, &known) || known.Kind != store.Unavailable {
			f.t.Errorf("%s: %v", what, err)
		}
	}
}

// The secret of one client is none in the row of another.
func TestSecretIsBoundToItsClient(t *testing.T) {
	f := encrypted(t)
	f.exec("UPDATE secrets SET secret = (SELECT secret FROM secrets WHERE client_id = '13') WHERE client_id = '12'")
	f.isRefused("12", "13")
}

// storedSecret returns the secret of a client as it is stored.
func (f *fixture) storedSecret(client string) (stored string) {
	f.t.Helper()
	f.check(f.database().QueryRow("SELECT secret FROM secrets WHERE client_id = '" + client + "'").Scan(&stored))
	return stored
}

// isRefused checks that the secrets of one client cannot be read or replaced, and that nothing else is affected.
func (f *fixture) isRefused(client, other string) {
	f.t.Helper()
	_, err := f.Secret(f.ctx, client)
	_, rotated := f.RotateSecret(f.ctx, client)
	for what, err := range map[string]error{"secret": err, "rotation": rotated} {
		if err == nil || !strings.Contains(err.Error(), "the signing secrets of client "+client+" cannot be read") {
			f.t.Errorf("%s: %v", what, err)
		}
	}
	f.check(f.Ready(f.ctx))
	f.secret(other)
}

// A client whose secret was replaced gets no deliveries until the row is restored, or until their window ends. The
// deliveries of all others are sent.
func TestUnreadableSecretStopsOnlyItsClient(t *testing.T) {
	f := encrypted(t)
	f.SetMonotonic(f.clock.Now)
	for _, client := range []string{"12", "13"} {
		f.agentOf(client)
		f.login(store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: 136})
	}
	secret := f.storedSecret("12")
	id, _, _ := strings.Cut(strings.TrimPrefix(secret, "sealed:"), ":")
	tampered := []string{
		webhook.NewSecret(), "sealed:AAAA", "sealed:" + id + ":AAAA", "sealed:00000000:AAAA",
		f.storedSecret("13"),
	}
	for i, text := range tampered {
		f.exec("UPDATE secrets SET secret = '" + text + "' WHERE client_id = '12'")
		f.isRefused("12", "13")
		for _, d := range f.claim() {
			if i > 0 || d.Secrets[0] != f.secret("13").Secret {
				f.t.Errorf("claimed with %q: %+v", text, d)
			}
			f.record(d, webhook.Delivered, true)
		}
		f.claimNone() // the receiver of client 12 is paused
		f.wantCounts(store.Counts{Logins: 2, Delivered: 1, Unreadable: int64(i + 1)})
		f.verify()
		f.clock.add(time.Minute)
	}
	f.exec("UPDATE secrets SET secret = '" + secret + "' WHERE client_id = '12'")
	f.finish(f.claimOne())
	f.wantDrained()
}

// Deliveries that cannot be signed fail at the end of their window.
func TestDeliveryOfAnUnreadableSecretExpires(t *testing.T) {
	f := encrypted(t)
	f.agentOf("12")
	f.login(store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136})
	f.exec("UPDATE secrets SET secret = 'whsec_planted' WHERE client_id = '12'")
	f.clock.add(24 * time.Hour)
	f.claimNone()
	if _, err := f.RepairLanes(f.ctx); err != nil {
		t.Error(err)
	}
	f.want(map[string]int{"failed": 1})
}

// Once a store has a key, a secret that is not encrypted is refused, also after the next start, which reports it.
func TestPlainSecretIsRefused(t *testing.T) {
	f := encrypted(t)
	var log bytes.Buffer
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	f.restart()
	f.exec("UPDATE secrets SET secret = 'whsec_planted' WHERE client_id = '12'")
	for range 2 {
		f.isRefused("12", "13")
		f.Logged()
		const want = `"signing secret unreadable, deliveries of the client stopped" client=12 error="a signing secret`
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("the log names the client %d times, want once in a minute: %s", n, &log)
		}
		log.Reset()
		f.restart()
	}
}

// A process may be killed after its commit overwrote secrets, and before it erased them from SQLite's log. The next
// start erases them.
func TestStartErasesOverwrittenSecrets(t *testing.T) {
	pgtest.SQLiteOnly(t, "it looks into the log")
	f := encrypted(t)
	f.exec("UPDATE secrets SET previous = 'whsec_overwritten' WHERE client_id = '12'")
	f.exec("UPDATE secrets SET previous = '' WHERE client_id = '12'")
	copied := filepath.Join(t.TempDir(), "killed.db")
	for _, suffix := range []string{"", "-wal"} {
		data := readFile(t, strings.TrimPrefix(f.url, "sqlite:")+suffix)
		f.check(os.WriteFile(copied+suffix, data, 0o600))
	}
	if !bytes.Contains(readFile(t, copied+"-wal"), []byte("whsec_overwritten")) {
		t.Fatal("the log has no overwritten secret")
	}
	s, err := store.Open(f.ctx, store.Options{URL: "sqlite:" + copied, Now: f.clock.Now, Key: oneKey})
	f.check(err)
	defer func() { f.check(s.Close()) }()
	if bytes.Contains(readFile(t, copied+"-wal"), []byte("whsec_overwritten")) {
		t.Error("the log still has the overwritten secret")
	}
}

// Secrets that an earlier version has encrypted are encrypted again at the start. From then on none is taken.
func TestEarlierEncryptionIsReplaced(t *testing.T) {
	f := open(t)
	k := f.agent()
	plain := f.secret(k.Client).Secret
	earlier := earlierEncryption(t, oneKey, plain)
	f.exec("UPDATE secrets SET secret = '" + earlier + "' WHERE client_id = '12'")
	f.key = oneKey
	f.restart()
	if got := f.secret(k.Client).Secret; got != plain {
		t.Errorf("the secret is %s, it was %s", got, plain)
	}
	if f.count("SELECT count(*) FROM secrets WHERE secret LIKE 'sealed:%:%'") != 1 {
		t.Error("it is not encrypted again")
	}
	_, _, err := f.PutClient(f.ctx, "13", gen.ClientUpdate{})
	f.check(err)
	f.exec("UPDATE secrets SET secret = '" + earlier + "' WHERE client_id = '12'")
	f.isRefused("12", "13")
}

// earlierEncryption encrypts as versions did that bound a secret to nothing.
func earlierEncryption(t *testing.T, key []byte, secret string) string {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return "sealed:" + base64.StdEncoding.EncodeToString(gcm.Seal(nil, nil, []byte(secret), nil))
}

// All secrets keep their value when the key is replaced. A process with the old key sends nothing from then on.
func TestRotateKey(t *testing.T) {
	f := encrypted(t)
	_, err := f.RotateSecret(f.ctx, "13")
	f.check(err)
	before := []gen.Secret{f.secret("12"), f.secret("13")}
	_, err = store.RotateKey(f.ctx, store.Options{URL: f.url, Now: f.clock.Now, Key: anotherKey}, oneKey)
	if err == nil {
		t.Error("a wrong old key is taken")
	}
	done, err := store.RotateKey(f.ctx, store.Options{URL: f.url, Now: f.clock.Now, Key: oneKey}, anotherKey)
	if err != nil || done.Clients != 2 || done.ID == "" {
		t.Fatalf("rotated: %+v, %v", done, err)
	}
	f.isLocked("12")
	if _, _, err := f.PutClient(context.Background(), "14", gen.ClientUpdate{}); err == nil {
		t.Error("a client is made with the old key")
	}
	f.key = anotherKey
	f.restart()
	for i, client := range []string{"12", "13"} {
		if after := f.secret(client); after.Secret != before[i].Secret || after.Previous != before[i].Previous {
			t.Errorf("client %s has %+v, it had %+v", client, after, before[i])
		}
	}
}
