package store_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// recreateClient deletes the client of an agent and creates it again with the same id, with an agent and events.
func (f *fixture) recreateClient(k store.AgentKey) {
	f.t.Helper()
	f.check(f.DeleteClient(f.ctx, k.Client))
	f.agent()
	f.createEvents(k, crm, both...)
}

// bySecret claims the due deliveries and returns them by their secrets. Each secret may sign one delivery.
func (f *fixture) bySecret() map[string]webhook.Delivery {
	f.t.Helper()
	of := map[string]webhook.Delivery{}
	for _, d := range f.claim() {
		if _, is := of[d.Secrets[0]]; is {
			f.t.Errorf("two deliveries are signed with %s", d.Secrets[0])
		}
		of[d.Secrets[0]] = d
	}
	return of
}

// The deliveries of a deleted client are signed with its secret, even if another client has its id. The two clients
// share no receiver and no lane, so neither waits for the other.
func TestClientsOfOneIDShareNothing(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	first, rotated := f.secret(k.Client).Secret, f.rotate(k.Client)
	f.recreateClient(k)
	second := f.secret(k.Client).Secret
	f.login(k)
	claimed := f.bySecret()
	old, its := claimed[rotated], claimed[second]
	if len(claimed) != 2 || !slices.Equal(old.Secrets, []string{rotated, first}) ||
		!slices.Equal(its.Secrets, []string{second}) ||
		old.Receiver == its.Receiver || old.Lane == its.Lane {
		t.Fatalf("claimed %+v, want one signed with %s and one with %s", claimed, rotated, second)
	}
	f.verify()
	f.recreateClient(k) // while both deliveries are in flight
	third := f.secret(k.Client).Secret
	f.login(k)
	if next := f.record(old, webhook.Delivered, true); next == nil || next.Secrets[0] != rotated ||
		next.Data.AgentStatus != gen.AgentStatusValueLoggedOut {
		t.Errorf("the first client's lane continues with %+v, want its logout signed with %s", next, rotated)
	} else {
		f.finish(*next)
	}
	if next := f.record(its, webhook.Delivered, true); next == nil || next.Secrets[0] != second {
		t.Errorf("the second client's lane continues with %+v, want it signed with %s", next, second)
	} else {
		f.finish(*next)
	}
	f.signedWith(third)
	if _, err := f.Delivery(f.ctx, k.Client, 1); err == nil {
		t.Error("the third client sees a delivery of the first")
	}
	f.verify()
}

// A new client does not wait for the breaker of an earlier client with its id, or for a pause that a receiver asked
// for.
func TestClientsOfOneIDShareNoBreaker(t *testing.T) {
	for name, pending := range map[string]bool{"while a delivery is pending": true, "when none is": false} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			k := f.agent()
			event := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
			f.login(k)
			for range webhook.BreakerThreshold {
				f.recordAnswer(f.claimOne(),
					webhook.Outcome{Attempt: webhook.Attempt{Verdict: webhook.Retry, Error: "refused"}})
			}
			f.wantBreakers(1)
			open := 1
			if !pending {
				open = 0
				f.check(f.DeleteEvent(f.ctx, k, event))
			}
			f.recreateClient(k)
			f.wantBreakers(open)
			f.login(k)
			f.signedWith(f.secret(k.Client).Secret)
		})
	}
}

func (f *fixture) wantBreakers(want int) {
	f.t.Helper()
	stats, err := f.Stats(f.ctx)
	f.check(err)
	if stats.Breakers != want {
		f.t.Errorf("%d breakers are open, want %d", stats.Breakers, want)
	}
}

// The secret and the breaker of a deleted client are kept until the last of its deliveries has ended.
func TestSecretOfADeletedClientIsRemoved(t *testing.T) {
	for name, again := range map[string]bool{"its id is free": false, "its id is another client's": true} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			k := f.agent()
			f.createEvents(k, crm, both...)
			f.login(k)
			secret := f.secret(k.Client).Secret
			f.check(f.DeleteClient(f.ctx, k.Client))
			kept := 1
			if again {
				f.agent()
				kept = 2
			}
			f.pruneClients(kept)
			first := f.claimOne()
			f.pruneClients(kept)
			next := f.record(first, webhook.Delivered, true)
			if next == nil || !slices.Equal(next.Secrets, []string{secret}) {
				t.Fatalf("the lane continues with %+v, want it signed with %s", next, secret)
			}
			f.pruneClients(kept)
			f.sql(
				fmt.Sprintf("UPDATE receivers SET failures = %d, waits = 1 WHERE id = %d", webhook.BreakerThreshold,
					next.Receiver),
			)
			f.record(*next, webhook.Failed, false)
			f.sql(
				fmt.Sprintf("UPDATE receivers SET failures = %d, waits = 1 WHERE id = %d", webhook.BreakerThreshold,
					next.Receiver),
			)
			f.wantBreakers(1)
			f.pruneClients(kept - 1)
			f.wantBreakers(0)
			f.verify()
		})
	}
}

// pruneClients prunes an hour later, and checks the number of secrets.
func (f *fixture) pruneClients(want int) {
	f.t.Helper()
	f.sql("UPDATE deliveries SET expires_at = expires_at + 3600000")
	f.clock.add(time.Hour)
	f.check(f.PruneAll(f.ctx))
	if n := f.count("SELECT count(*) FROM secrets"); n != want {
		f.t.Errorf("%d secrets exist, want %d", n, want)
	}
}

// A parked delivery has not ended.
func TestSecretOfAParkedDeliveryIsKept(t *testing.T) {
	f := open(t)
	k := f.agent()
	events := f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.state(k, events[0], gen.AgentEventStateValueDisabled)
	f.check(f.DeleteClient(f.ctx, k.Client))
	f.agent()
	f.pruneClients(2)
	f.verify()
	f.clock.add(24 * time.Hour)
	_, err := f.RepairLanes(f.ctx)
	f.check(err)
	f.pruneClients(1)
}

func TestRecreatedClientAddsNoRows(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	for range 5 {
		f.login(k)
		f.finish(f.claimOne())
		f.logout(k)
		f.finish(f.claimOne())
		f.recreateClient(k)
	}
	for _, table := range []string{"secrets", "receivers", "lanes"} {
		if n := f.count("SELECT count(*) FROM " + table); n != 1 {
			t.Errorf("%d %s exist, want 1", n, table)
		}
	}
}

// The delivery is in flight while its event moves to another receiver, and while its client is replaced by another.
func TestMovedDeliveryOfADeletedClientHasItsSecret(t *testing.T) {
	f := open(t)
	k := f.agent()
	event := f.createEvents(k, crm, gen.EventTypeAgentLogin)[0]
	f.login(k)
	secret := f.secret(k.Client).Secret
	inFlight := f.claimOne()
	f.redirect(k, event, board)
	f.check(f.DeleteClient(f.ctx, k.Client))
	f.agent()
	f.record(inFlight, webhook.Retry, false)
	f.verify()
	if d := f.claimOne(); d.URL != board || !slices.Equal(d.Secrets, []string{secret}) {
		t.Errorf("to %s, signed with %q, want %s and %s", d.URL, d.Secrets, board, secret)
	}
}

// Deliveries of an earlier client with its id are pending.
func TestFirstDeliveryOfANewClientIsHandedOff(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	f.recreateClient(k)
	o := f.acceptHandoffs(1)
	f.login(k)
	if want := f.secret(k.Client).Secret; len(o.delivered) != 1 ||
		!slices.Equal(o.delivered[0].Secrets, []string{want}) {
		t.Errorf("handed off %+v, want one signed with %s", o.delivered, want)
	}
}

// Otherwise another client could get the id, and its secret would sign the redelivery.
func TestClientIsNotDeletedDuringARedelivery(t *testing.T) {
	pgtest.PostgresOnly(t, "there is one writer")
	f := open(t)
	k := f.agent()
	events := f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.record(f.claimOne(), webhook.Failed, false)
	f.check(f.DeleteEvent(f.ctx, k, events[0]))
	f.check(f.DeleteAgent(f.ctx, k))
	first := f.secret(k.Client).Secret
	other, err := store.Open(f.ctx, store.Options{URL: f.url, Now: f.clock.Now})
	f.check(err)
	defer func() { f.check(other.Close()) }()
	db := f.db()
	defer db.Close()
	again, looks := make(chan error, 1), 0
	f.AfterStatements(func(statement string, writes bool, _ []any) {
		if !writes || !strings.HasPrefix(statement, "SELECT d.id, d.webhook_id") {
			return
		}
		if looks++; looks != 2 { // the second is the last before the commit
			return
		}
		go func() {
			err := other.DeleteClient(f.ctx, k.Client)
			if err == nil {
				_, _, err = other.PutClient(f.ctx, k.Client, gen.ClientUpdate{})
			}
			again <- err
		}()
		f.untilItWaits(db, again)
	})
	f.redeliver(1)
	f.check(<-again)
	f.signedWith(first)
	f.verify()
}

func TestClientCreatedDuringPruningKeepsItsSecret(t *testing.T) {
	pgtest.PostgresOnly(t, "there is one writer")
	f := open(t)
	k := f.agent()
	f.check(f.DeleteClient(f.ctx, k.Client))
	db := f.db()
	defer db.Close()
	created, err := db.BeginTx(f.ctx, nil)
	f.check(err)
	_, err = created.ExecContext(
		f.ctx,
		"INSERT INTO clients (id, created_at) VALUES ('12', 0); UPDATE secrets SET secret = 'new' "+
			"WHERE client_id = '12'",
	)
	f.check(err)
	f.clock.add(time.Hour)
	pruned := make(chan error, 1)
	go func() { pruned <- f.PruneAll(f.ctx) }()
	f.untilItWaits(db, pruned)
	f.check(created.Commit())
	f.check(<-pruned)
	if n := f.count("SELECT count(*) FROM secrets WHERE secret = 'new'"); n != 1 {
		t.Error("the secret of the new client was pruned")
	}
}

// untilItWaits returns when a session waits for a lock, or when the operation has ended.
func (f *fixture) untilItWaits(db *sql.DB, ended chan error) {
	f.t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for waits := false; !waits && len(ended) == 0; <-look.C {
		f.check(db.QueryRowContext(f.ctx, "SELECT count(*) > 0 FROM pg_stat_activity "+
			"WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&waits))
	}
}
