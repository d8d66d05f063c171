package store_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

func (f *fixture) secret(client string) gen.Secret {
	f.t.Helper()
	s, err := f.Secret(f.ctx, client)
	f.check(err)
	return s
}

// signedWith checks the secrets of the only due delivery, the newest first, and releases it.
func (f *fixture) signedWith(secrets ...string) {
	f.t.Helper()
	d := f.claimOne()
	if !slices.Equal(d.Secrets, secrets) {
		f.t.Errorf("signed with %q, want %q", d.Secrets, secrets)
	}
	f.check(f.Release(f.ctx, d))
}

func TestNewClientHasASecret(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createLanes("99", 1, 1, crm)
	f.finish(f.claimOne())
	first := f.secret(k.Client)
	if !strings.HasPrefix(first.Secret, "whsec_") || len(first.Secret) < 32 || first.Previous != "" ||
		first.PreviousUntil != nil {
		t.Errorf("first: %+v", first)
	}
	if first.Secret == f.secret("99").Secret {
		t.Error("two clients have the same secret")
	}
	_, _, err := f.PutClient(f.ctx, k.Client, gen.ClientUpdate{}) // exists already
	f.check(err)
	if again := f.secret(k.Client); again.Secret != first.Secret {
		t.Errorf("again: %+v, want %+v", again, first)
	}
	for _, call := range []func() error{
		func() error { _, err := f.Secret(f.ctx, "nobody"); return err },
		func() error { _, err := f.RotateSecret(f.ctx, "nobody"); return err },
	} {
		if call() == nil {
			t.Error("no error for a missing client")
		}
	}
}

// A delivery is signed with the secrets at the time of its attempt.
func TestBothSecretsSignForADay(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.clock.add(time.Hour)
	f.login(k)
	first := f.secret(k.Client).Secret
	f.signedWith(first)

	second, err := f.RotateSecret(f.ctx, k.Client)
	f.check(err)
	until := f.clock.Now().Add(24 * time.Hour)
	if second.Secret == first || second.Previous != first || !second.PreviousUntil.Equal(until) {
		t.Errorf("second: %+v, want one besides %s until %v", second, first, until)
	}
	if got := f.secret(k.Client); got.Secret != second.Secret || got.Previous != first ||
		!got.PreviousUntil.Equal(until) {
		t.Errorf("it is %+v, want %+v", got, second)
	}
	f.signedWith(second.Secret, first)
	next := f.claimOne()
	f.logout(k)
	if next := f.record(next, "delivered", true); next == nil ||
		!slices.Equal(next.Secrets, []string{second.Secret, first}) {
		t.Errorf("the lane continued with %+v, want both", next)
	}
	f.clock.add(15 * time.Second)

	f.clock.add(24*time.Hour - 15*time.Second - time.Millisecond)
	f.sql("UPDATE deliveries SET expires_at = expires_at + 1000000000")
	f.signedWith(second.Secret, first)
	f.clock.add(time.Millisecond)
	f.signedWith(second.Secret)
	if got := f.secret(k.Client); got.Previous != "" || got.PreviousUntil != nil {
		t.Errorf("after a day: %+v", got)
	}
}

// rotate rotates a client's secret and returns the new one.
func (f *fixture) rotate(client string) string {
	f.t.Helper()
	s, err := f.RotateSecret(f.ctx, client)
	f.check(err)
	return s.Secret
}

// The number of rotations within the day does not matter.
func TestEverySecretSignsForItsDay(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.sql("UPDATE deliveries SET expires_at = expires_at + 1000000000")
	first := f.secret(k.Client).Secret
	second := f.rotate(k.Client)
	f.clock.add(time.Hour)
	third := f.rotate(k.Client)
	f.clock.add(time.Hour)
	fourth := f.rotate(k.Client)
	f.signedWith(fourth, third, second, first)
	f.restart()
	f.signedWith(fourth, third, second, first)
	until := gen.Time{Time: f.clock.Now().Add(22 * time.Hour)}
	if got := f.secret(k.Client).SigningSecrets; len(got) != 4 || got[0].Secret != fourth || got[0].Until != nil ||
		got[3].Secret != first || !got[3].Until.Equal(until.Time) {
		t.Errorf("it signs with %+v, want %s at last until %v", got, first, until)
	}
	f.clock.add(22*time.Hour - time.Millisecond)
	f.signedWith(fourth, third, second, first)
	f.clock.add(time.Millisecond)
	f.signedWith(fourth, third, second)
	f.clock.add(time.Hour)
	f.signedWith(fourth, third)
	f.clock.add(time.Hour)
	f.signedWith(fourth)
	if got := f.secret(k.Client); len(got.SigningSecrets) != 1 || got.Previous != "" {
		t.Errorf("after a day: %+v", got)
	}
}

// The next rotation is possible when the oldest secret has ended.
func TestFiveSecretsSignAtMost(t *testing.T) {
	f := open(t)
	k := f.agent()
	first := f.secret(k.Client).Secret
	until := f.clock.Now().Add(24 * time.Hour)
	for range 4 {
		f.rotate(k.Client)
		f.clock.add(time.Minute)
	}
	before := f.secret(k.Client)
	_, err := f.RotateSecret(f.ctx, k.Client)
	f.wantConflict(err, "too_many_secrets",
		"client 12 has 5 secrets that sign, the most that it may have; the oldest ends at "+
			until.UTC().Format("2006-01-02T15:04:05.000Z")+", then the next rotation is possible")
	if after := f.secret(k.Client); !reflect.DeepEqual(after, before) || len(after.SigningSecrets) != 5 ||
		after.SigningSecrets[4].Secret != first {
		t.Errorf("after the refusal: %+v, want %+v", after, before)
	}
	f.clock.add(until.Sub(f.clock.Now()))
	f.rotate(k.Client)
	if got := f.secret(k.Client).SigningSecrets; len(got) != 5 || got[1].Secret != before.Secret {
		t.Errorf("it signs with %+v", got)
	}
}

// The replaced secret signs without an end again, and the new one stops signing.
func TestRollbackUndoesARotation(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	f.sql("UPDATE deliveries SET expires_at = expires_at + 1000000000")
	_, err := f.RollBackSecret(f.ctx, k.Client)
	f.wantConflict(err, "no_previous_secret",
		"client 12 has no previous secret that still signs, so there is no rotation to take back")
	first := f.secret(k.Client).Secret
	second := f.rotate(k.Client)
	before := f.secret(k.Client)
	f.clock.add(time.Hour)
	third := f.rotate(k.Client)
	f.signedWith(third, second, first)
	back, err := f.RollBackSecret(f.ctx, k.Client)
	f.check(err)
	if !reflect.DeepEqual(back, before) || !reflect.DeepEqual(f.secret(k.Client), before) {
		t.Errorf("rolled back to %+v, want %+v", back, before)
	}
	f.signedWith(second, first)
	f.restart()
	_, err = f.RollBackSecret(f.ctx, k.Client)
	f.wantConflict(err, "rotation_taken_back",
		"the last rotation of client 12 was taken back already; only a later rotation can be taken back")
	f.signedWith(second, first)
	fourth := f.rotate(k.Client)
	f.signedWith(fourth, second, first)
	f.clock.add(24 * time.Hour)
	_, err = f.RollBackSecret(f.ctx, k.Client)
	f.wantConflict(err, "no_previous_secret",
		"client 12 has no previous secret that still signs, so there is no rotation to take back")
	f.signedWith(fourth)
	_, err = f.RollBackSecret(f.ctx, "nobody")
	f.wantNotFound("a missing client", err)
}

// An earlier version knows two secrets. The others sign for their day. If it creates a client with the id of an earlier
// one, none of the earlier secrets signs.
func TestSecretsWorkWithAnEarlierVersion(t *testing.T) {
	f := open(t)
	k := f.agent()
	first := f.secret(k.Client).Secret
	second, third := f.rotate(k.Client), f.rotate(k.Client)
	// An earlier version rotates.
	f.sql("UPDATE secrets SET previous = secret, secret = 'whsec_" + strings.Repeat("4", 44) + "'")
	signing := secretsOf(f.secret(k.Client).SigningSecrets)
	if want := []string{"whsec_" + strings.Repeat("4", 44), third, first}; !slices.Equal(signing, want) {
		t.Errorf("%q sign, want %q and not %q", signing, want, second)
	}
	f.sql("INSERT INTO secrets (client_id, secret) VALUES ('12', 'whsec_new') ON CONFLICT (client_id) " +
		"DO UPDATE SET secret = excluded.secret, previous = '', previous_until = 0")
	if signing := secretsOf(f.secret(k.Client).SigningSecrets); !slices.Equal(signing, []string{"whsec_new"}) {
		t.Errorf("%q sign for the new client", signing)
	}
}

// secretsOf returns the secrets of a list.
func secretsOf(list []gen.SigningSecret) (secrets []string) {
	for _, s := range list {
		secrets = append(secrets, s.Secret)
	}
	return secrets
}

// A new client with the same id has a secret of its own.
func TestSecretOfADeletedClientSignsItsDeliveries(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	first := f.secret(k.Client).Secret
	_, err := f.RotateSecret(f.ctx, k.Client)
	f.check(err)
	second := f.secret(k.Client).Secret
	f.check(f.DeleteClient(f.ctx, k.Client))
	if _, err := f.Secret(f.ctx, k.Client); err == nil {
		t.Error("the secret of a deleted client can be read")
	}
	f.signedWith(second, first)
	f.agent()
	again := f.secret(k.Client)
	if again.Secret == first || again.Secret == second || again.Previous != "" {
		t.Errorf("created again: %+v", again)
	}
}
