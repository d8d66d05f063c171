package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
)

const idempotencyKey = "8e03978e-40d5-43dd-bc93-6894a57f9324"

// creation is a method that takes an Idempotency-Key; its answer is JSON.
type creation func(context.Context) (any, error)

// creations are all of them, for agent 136 of client 12.
func (f *fixture) creations() map[string]creation {
	return f.creationsOf(store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136})
}

// creationsOf are creations for any agent. Each creates something more when it is called again.
func (f *fixture) creationsOf(k store.AgentKey) map[string]creation {
	name := "000*095@ringme.ru"
	return map[string]creation{
		"agent": func(ctx context.Context) (any, error) {
			return f.CreateAgent(ctx, store.AgentKey{Client: k.Client, Type: k.Type}, store.AgentUpdate{Name: &name})
		},
		"event": func(ctx context.Context) (any, error) {
			return f.CreateEvent(ctx, k,
				gen.AgentEventCreate{URL: crm, Method: gen.RequestMethodPOST, EventType: gen.EventTypeAgentLogin})
		},
		"application": func(ctx context.Context) (any, error) {
			return f.CreateApplication(ctx, k.Client, gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelAll})
		},
		"rotation": func(ctx context.Context) (any, error) { return f.RotateSecret(ctx, k.Client) },
		"replay": func(ctx context.Context) (any, error) {
			return f.CreateReplay(ctx, k.Client,
				store.DeliveryFilter{State: gen.DeliveryStateFailed, Since: f.clock.Now()})
		},
	}
}

// caller makes an application of client 12 and returns what its requests have.
func (f *fixture) caller() store.Idempotency {
	f.t.Helper()
	made := f.application("12")
	c, err := f.Caller(f.ctx, f.token(made))
	f.check(err)
	return store.Idempotency{
		Application: c.Number, Client: "12", Key: idempotencyKey, Fingerprint: []byte("one request"),
	}
}

func (f *fixture) create(c creation, k store.Idempotency) string {
	f.t.Helper()
	answer, err := c(store.WithIdempotency(f.ctx, k))
	f.check(err)
	text, err := json.Marshal(answer)
	f.check(err)
	return string(text)
}

// eachCreation runs a test with each of them, on a store of its own.
func eachCreation(t *testing.T, test func(f *fixture, c creation, k store.Idempotency)) {
	t.Helper()
	for _, name := range []string{"agent", "event", "application", "rotation", "replay"} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			f.agent()
			k := f.caller()
			test(f, f.creations()[name], k)
			f.verify()
		})
	}
}

// data is all that is in the tables of a story.
func (f *fixture) data() string {
	f.t.Helper()
	return (&saboteur{fixture: f, conn: f.database()}).rows()
}

// database is db, closed at the end of the test.
func (f *fixture) database() *sql.DB {
	f.t.Helper()
	db := f.db()
	f.t.Cleanup(func() { f.check(db.Close()) })
	return db
}

// The same request with the same key gets the first answer, and creates nothing.
func TestIdempotencyKeyTwice(t *testing.T) {
	eachCreation(t, func(f *fixture, c creation, k store.Idempotency) {
		first := f.create(c, k)
		before := f.data()
		f.clock.add(24*time.Hour - time.Millisecond)
		if again := f.create(c, k); again != first {
			f.t.Errorf("the first answer is %s, the second %s", first, again)
		}
		if f.data() != before {
			f.t.Error("the second request has changed something")
		}
		equalCount(f, "SELECT count(*) FROM idempotency_keys", 1)
	})
}

// Another request with the same key is refused.
func TestIdempotencyKeyOfAnotherRequest(t *testing.T) {
	eachCreation(t, func(f *fixture, c creation, k store.Idempotency) {
		f.create(c, k)
		before := f.data()
		k.Fingerprint = []byte("another request")
		_, err := c(store.WithIdempotency(f.ctx, k))
		var refused *store.Error
		if !errors.As(err, &refused) || refused.Kind != store.KeyReused || refused.Status != "idempotency_key_reused" {
			f.t.Errorf("the error is %v", err)
		}
		if f.data() != before {
			f.t.Error("it has changed something")
		}
	})
}

// The same key of another application, another key, and a request without a key are independent.
func TestIdempotencyKeysAreIndependent(t *testing.T) {
	eachCreation(t, func(f *fixture, c creation, k store.Idempotency) {
		other, later := f.caller(), k
		later.Key += "x"
		f.clock.add(time.Millisecond)
		f.create(c, k)
		before := f.data()
		for _, k := range []store.Idempotency{other, later} {
			f.create(c, k)
			if now := f.data(); now == before {
				f.t.Error("nothing was created")
			} else {
				before = now
			}
		}
		_, err := c(f.ctx)
		f.check(err)
		if f.data() == before {
			f.t.Error("nothing was created without a key")
		}
		equalCount(f, "SELECT count(*) FROM idempotency_keys", 3)
	})
}

// After a day a key is a new one, whether its record was deleted or not.
func TestIdempotencyKeyAfterADay(t *testing.T) {
	for name, pruned := range map[string]bool{"deleted": true, "still there": false} {
		t.Run(name, func(t *testing.T) {
			eachCreation(t, func(f *fixture, c creation, k store.Idempotency) {
				f.create(c, k)
				f.clock.add(24 * time.Hour)
				if pruned {
					f.check(f.PruneAll(f.ctx))
					equalCount(f, "SELECT count(*) FROM idempotency_keys", 0)
				}
				before := f.data()
				k.Fingerprint = []byte("another request")
				second := f.create(c, k)
				if f.data() == before {
					f.t.Error("nothing was created")
				}
				if again := f.create(c, k); again != second {
					f.t.Errorf("the answer is %s, and then %s", second, again)
				}
				equalCount(f, "SELECT count(*) FROM idempotency_keys", 1)
			})
		})
	}
}

// Of simultaneous requests with the same key one creates, and all get its answer.
func TestIdempotencyKeyAtTheSameTime(t *testing.T) {
	eachCreation(t, func(f *fixture, c creation, k store.Idempotency) {
		before := f.entities()
		answers := make([]string, 20)
		var callers sync.WaitGroup
		for i := range answers {
			callers.Go(func() {
				answer, err := c(store.WithIdempotency(f.ctx, k))
				text, _ := json.Marshal(answer)
				if answers[i] = string(text); err != nil {
					f.t.Error(err)
				}
			})
		}
		callers.Wait()
		for _, a := range answers {
			if a != answers[0] {
				f.t.Errorf("the answers are %s and %s", answers[0], a)
			}
		}
		if n := f.entities() - before; n > 1 {
			f.t.Errorf("%d were created", n)
		}
		equalCount(f, "SELECT count(*) FROM idempotency_keys", 1)
	})
}

// entities counts what may be created; a rotation creates none.
func (f *fixture) entities() int {
	f.t.Helper()
	return f.count("SELECT (SELECT count(*) FROM agents) + (SELECT count(*) FROM agent_events) + " +
		"(SELECT count(*) FROM applications) + (SELECT count(*) FROM replays)")
}

// A refused request leaves no record: once it is possible, the same key creates.
func TestIdempotencyKeyOfARefusedRequest(t *testing.T) {
	f := open(t)
	f.agent()
	k := f.caller()
	register := f.creations()["event"]
	allow := func(events int64) {
		_, err := f.SetLimits(f.ctx, "12", gen.ClientLimitsUpdate{AgentEvent: limitOf(events)})
		f.check(err)
	}
	allow(0)
	_, err := register(store.WithIdempotency(f.ctx, k))
	var refused *store.Error
	if !errors.As(err, &refused) || refused.Status != "agent_event_limit_exceeded" {
		t.Errorf("the error is %v", err)
	}
	equalCount(f, "SELECT count(*) FROM idempotency_keys", 0)
	allow(10)
	f.create(register, k)
	equalCount(f, "SELECT count(*) FROM agent_events", 1)
}

// The tenth replay of a client may be asked for again, though an eleventh may not.
func TestIdempotencyKeyOfTheLastReplay(t *testing.T) {
	f := open(t)
	f.agent()
	k := f.caller()
	replay := f.creations()["replay"]
	for range 9 {
		_, err := replay(f.ctx)
		f.check(err)
	}
	if first, again := f.create(replay, k), f.create(replay, k); first != again {
		t.Errorf("the first answer is %s, the second %s", first, again)
	}
	_, err := replay(f.ctx)
	var refused *store.Error
	if !errors.As(err, &refused) || refused.Status != "too_many_replays" {
		t.Errorf("the error is %v", err)
	}
}

// The records of an application go with it, those of a client's requests with the client, also an operator's.
func TestIdempotencyKeysOfWhatIsDeleted(t *testing.T) {
	f := open(t)
	f.agent()
	rotate := f.creations()["rotation"]
	k := f.caller()
	f.create(rotate, k)
	made := f.application("12")
	c, err := f.Caller(f.ctx, f.token(made))
	f.check(err)
	k.Application = c.Number
	f.create(rotate, k)
	equalCount(f, "SELECT count(*) FROM idempotency_keys", 2)
	f.check(f.DeleteApplication(f.ctx, "12", made.ID))
	equalCount(f, "SELECT count(*) FROM idempotency_keys", 1)
	f.create(rotate, f.operator())
	equalCount(f, "SELECT count(*) FROM idempotency_keys", 2)
	f.check(f.DeleteClient(f.ctx, "12"))
	equalCount(f, "SELECT count(*) FROM idempotency_keys", 0)
	f.verify()
}

// operator is caller for an application that belongs to no client.
func (f *fixture) operator() store.Idempotency {
	f.t.Helper()
	made, err := f.CreateOperator(f.ctx, "operator")
	f.check(err)
	c, err := f.Caller(f.ctx, f.token(made))
	f.check(err)
	return store.Idempotency{
		Application: c.Number, Client: "12", Key: idempotencyKey, Fingerprint: []byte("one request"),
	}
}

// A request whose application was revoked meanwhile creates nothing.
func TestIdempotencyKeyOfARevokedApplication(t *testing.T) {
	f := open(t)
	f.agent()
	k := f.caller()
	k.Application += 1000
	_, err := f.creations()["event"](store.WithIdempotency(f.ctx, k))
	var refused *store.Error
	if !errors.As(err, &refused) || refused.Kind != store.Unavailable {
		t.Errorf("the error is %v", err)
	}
	equalCount(f, "SELECT count(*) FROM agent_events", 0)
}

// However many records are old, they are deleted a few at a time, and no others.
func TestIdempotencyKeysAreForgotten(t *testing.T) {
	f := open(t)
	f.agent()
	k := f.caller()
	f.create(f.creations()["event"], k)
	f.clock.add(time.Millisecond)
	old := "SELECT application, %s, client_id, fingerprint, answer, created_at FROM idempotency_keys, n"
	hash := "CAST('x' || i AS BLOB)"
	if pgtest.OnPostgres() {
		hash = "convert_to('x' || i, 'UTF8')"
	}
	f.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n " +
		"WHERE i < 500) INSERT INTO idempotency_keys " +
		strings.Replace(old, "%s", hash, 1))
	k.Key = "younger"
	f.create(f.creations()["event"], k)
	f.clock.add(24*time.Hour - time.Millisecond)
	var deletions int
	for _, statement := range f.watched(true) {
		if strings.HasPrefix(statement, "DELETE FROM idempotency_keys") {
			deletions++
		}
	}
	if deletions != 3 {
		t.Errorf("501 records were deleted by %d statements", deletions)
	}
	equalCount(f, "SELECT count(*) FROM idempotency_keys", 1)
}

// Neither a key nor a secret that was answered is in the database. With an encryption key of the store this holds for
// the signing secret too.
func TestIdempotencyKeyHidesSecrets(t *testing.T) {
	for name, key := range map[string][]byte{
		"in plain": nil, "with an encryption key": bytes.Repeat([]byte{7}, store.KeySize),
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			f.key = key
			f.restart()
			f.agent()
			k := f.caller()
			var application gen.ApplicationSecret
			f.check(json.Unmarshal([]byte(f.create(f.creations()["application"], k)), &application))
			f.hides(f.data(), k.Key, application.Secret)
			k.Key += "-rotation"
			var rotated gen.Secret
			f.check(json.Unmarshal([]byte(f.create(f.creations()["rotation"], k)), &rotated))
			var records strings.Builder
			(&saboteur{fixture: f, conn: f.database()}).rowsOf("idempotency_keys", &records)
			f.hides(records.String(), k.Key, rotated.Secret, rotated.Previous)
			if key != nil {
				f.hides(f.data(), rotated.Secret, rotated.Previous)
			}
		})
	}
}

// hides looks for texts in rows, where they may be bytes.
func (f *fixture) hides(rows string, texts ...string) {
	f.t.Helper()
	for _, text := range texts {
		if text == "" || strings.Contains(rows, text) ||
			strings.Contains(rows, strings.Trim(fmt.Sprintf("%d", []byte(text)), "[]")) {
			f.t.Errorf("%q is in the database", text)
		}
	}
	if !strings.Contains(rows, "sealed:") {
		f.t.Error("no answer is in the database")
	}
}

// The first answer is given also if the store has got an encryption key since.
func TestIdempotencyKeyBeforeAnEncryptionKey(t *testing.T) {
	f := open(t)
	f.agent()
	k := f.caller()
	first := f.create(f.creations()["event"], k)
	f.key = bytes.Repeat([]byte{7}, store.KeySize)
	f.restart()
	if again := f.create(f.creations()["event"], k); again != first {
		t.Errorf("the first answer is %s, the second %s", first, again)
	}
	equalCount(f, "SELECT count(*) FROM agent_events", 1)
}

// An answer that cannot be decrypted is refused for good, and nothing is created in its place.
func TestIdempotencyKeyUnreadable(t *testing.T) {
	f := open(t)
	f.agent()
	k := f.caller()
	f.create(f.creations()["event"], k)
	_, err := f.database().Exec("UPDATE idempotency_keys SET answer = 'sealed:AAAA'")
	f.check(err)
	_, err = f.creations()["event"](store.WithIdempotency(f.ctx, k))
	var refused *store.Error
	if !errors.As(err, &refused) || refused.Kind != store.KeyReused {
		t.Errorf("the error is %v", err)
	}
	equalCount(f, "SELECT count(*) FROM agent_events", 1)
}

// A record is there after a crash, and so is what it is about.
func TestIdempotencyKeyAfterACrash(t *testing.T) {
	f := open(t)
	f.agent()
	k := f.caller()
	first := f.create(f.creations()["application"], k)
	f.crash()
	if again := f.create(f.creations()["application"], k); again != first {
		t.Errorf("the first answer is %s, the second %s", first, again)
	}
}
