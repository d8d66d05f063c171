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

// creation is a call of a method that accepts an Idempotency-Key; its answer is JSON.
type creation func(context.Context) (any, error)

// creations returns all creations, for agent 136 of client 12.
func (f *fixture) creations() map[string]creation {
	return f.creationsOf(store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136})
}

// creationsOf returns all creations for an agent. Each call creates another resource.
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
			r, _, err := f.CreateReplay(ctx, k.Client,
				store.DeliveryFilter{State: gen.DeliveryStateFailed, Since: f.clock.Now()})
			return r, err
		},
	}
}

// caller creates an application of client 12 and returns the Idempotency of its requests.
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

// eachCreation runs a test with each creation, on a store of its own.
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

// data returns all rows.
func (f *fixture) data() string {
	f.t.Helper()
	return (&faultyFixture{fixture: f, conn: f.database()}).rows()
}

// database opens db until the end of the test.
func (f *fixture) database() *sql.DB {
	f.t.Helper()
	db := f.db()
	f.t.Cleanup(func() { f.check(db.Close()) })
	return db
}

// The repeated request creates nothing.
func TestRepeatedIdempotencyKeyReturnsTheFirstAnswer(t *testing.T) {
	eachCreation(t, func(f *fixture, c creation, k store.Idempotency) {
		first := f.create(c, k)
		before := f.data()
		f.clock.add(24*time.Hour - time.Millisecond)
		if again := f.create(c, k); again != first {
			f.t.Errorf("the first answer is %s, the second %s", first, again)
		}
		if f.data() != before {
			f.t.Error("the second request has changed rows")
		}
		equalCount(f, "SELECT count(*) FROM idempotency_keys", 1)
	})
}

func TestIdempotencyKeyOfAnotherRequestIsRefused(t *testing.T) {
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
			f.t.Error("the refused request has changed rows")
		}
	})
}

// Another application, another key and a missing key create another resource.
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

// The record may have been pruned or not.
func TestIdempotencyKeyIsNewAfterADay(t *testing.T) {
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

// All requests get the answer of the one that creates.
func TestSimultaneousRequestsWithOneKeyCreateOnce(t *testing.T) {
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

// entities counts the resources that creations create; a rotation creates none.
func (f *fixture) entities() int {
	f.t.Helper()
	return f.count("SELECT (SELECT count(*) FROM agents) + (SELECT count(*) FROM agent_events) + " +
		"(SELECT count(*) FROM applications) + (SELECT count(*) FROM replays)")
}

// The same key creates once the request is permitted.
func TestRefusedRequestLeavesNoIdempotencyKey(t *testing.T) {
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

// The tenth replay may be repeated, although an eleventh is refused.
func TestRepeatedLastReplayIsNotRefused(t *testing.T) {
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

// A deleted application loses its records. A deleted client loses the records of requests for it, including an
// operator's.
func TestDeletionDeletesIdempotencyKeys(t *testing.T) {
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

// operator is caller for an operator's application.
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

// The application is revoked during the request.
func TestRequestOfARevokedApplicationCreatesNothing(t *testing.T) {
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

// Old records are deleted in small commits, and no others.
func TestOldIdempotencyKeysArePruned(t *testing.T) {
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
	for _, statement := range f.pruneStatements(true) {
		if strings.HasPrefix(statement, "DELETE FROM idempotency_keys") {
			deletions++
		}
	}
	if deletions != 3 {
		t.Errorf("501 records were deleted by %d statements", deletions)
	}
	equalCount(f, "SELECT count(*) FROM idempotency_keys", 1)
}

// The database has neither keys nor secrets of answers in plain text. With an encryption key, this includes the signing
// secret.
func TestIdempotencyKeysAndAnswersAreEncrypted(t *testing.T) {
	for name, key := range map[string][]byte{
		"without an encryption key": nil, "with an encryption key": bytes.Repeat([]byte{7}, store.KeySize),
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			f.key = key
			f.restart()
			f.agent()
			k := f.caller()
			var application gen.ApplicationSecret
			f.check(json.Unmarshal([]byte(f.create(f.creations()["application"], k)), &application))
			f.wantHidden(f.data(), k.Key, application.Secret)
			k.Key += "-rotation"
			var rotated gen.Secret
			f.check(json.Unmarshal([]byte(f.create(f.creations()["rotation"], k)), &rotated))
			var records strings.Builder
			(&faultyFixture{fixture: f, conn: f.database()}).rowsOf("idempotency_keys", &records)
			f.wantHidden(records.String(), k.Key, rotated.Secret, rotated.Previous)
			if key != nil {
				f.wantHidden(f.data(), rotated.Secret, rotated.Previous)
			}
		})
	}
}

// wantHidden checks that rows do not contain texts, as text or as bytes.
func (f *fixture) wantHidden(rows string, texts ...string) {
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

// The store got its encryption key after the first request.
func TestAnswerFromBeforeAnEncryptionKeyIsReadable(t *testing.T) {
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

// Nothing is created in its place.
func TestUnreadableAnswerIsRefused(t *testing.T) {
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

// The record and the resource are one transaction.
func TestIdempotencyKeySurvivesACrash(t *testing.T) {
	f := open(t)
	f.agent()
	k := f.caller()
	first := f.create(f.creations()["application"], k)
	f.crash()
	if again := f.create(f.creations()["application"], k); again != first {
		t.Errorf("the first answer is %s, the second %s", first, again)
	}
}
