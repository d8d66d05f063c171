package store_test

import (
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

// signedWith checks what the one delivery that is due is signed with, the newest first, and lets it go.
func (f *fixture) signedWith(secrets ...string) {
	f.t.Helper()
	d := f.claimOne()
	if !slices.Equal(d.Secrets, secrets) {
		f.t.Errorf("signed with %q, want %q", d.Secrets, secrets)
	}
	f.check(f.Release(f.ctx, d))
}

func TestSecret(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.lanes("99", 1, 1, crm)
	f.finish(f.claimOne())
	first := f.secret(k.Client)
	if !strings.HasPrefix(first.Secret, "whsec_") || len(first.Secret) < 32 || first.Previous != "" || first.PreviousUntil != nil {
		t.Errorf("first: %+v", first)
	}
	if first.Secret == f.secret("99").Secret {
		t.Error("two clients have the same secret")
	}
	_, _, err := f.PutClient(f.ctx, k.Client, gen.ClientUpdate{}) // it was there
	f.check(err)
	if again := f.secret(k.Client); again != first {
		t.Errorf("again: %+v, want %+v", again, first)
	}
	for _, call := range []func() error{
		func() error { _, err := f.Secret(f.ctx, "nobody"); return err },
		func() error { _, err := f.RotateSecret(f.ctx, "nobody"); return err },
	} {
		if call() == nil {
			t.Error("no error for a client that there is not")
		}
	}
}

// For a day both secrets sign, then the new one alone. What waits is signed with what there is when it is sent.
func TestRotation(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
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
	if got := f.secret(k.Client); got.Secret != second.Secret || got.Previous != first || !got.PreviousUntil.Equal(until) {
		t.Errorf("it is %+v, want %+v", got, second)
	}
	f.signedWith(second.Secret, first)
	next := f.claimOne()
	f.logout(k)
	if next := f.record(next, "delivered", true); next == nil || !slices.Equal(next.Secrets, []string{second.Secret, first}) {
		t.Errorf("went on with %+v, want both", next)
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

// Twice within a day, the first is forgotten.
func TestRotationTwice(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, gen.EventTypeAgentLogin)
	f.login(k)
	second, err := f.RotateSecret(f.ctx, k.Client)
	f.check(err)
	third, err := f.RotateSecret(f.ctx, k.Client)
	f.check(err)
	f.signedWith(third.Secret, second.Secret)
}

// What a client that is gone still owes is signed. One that takes its id has a secret of its own.
func TestSecretOfADeletedClient(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.register(k, crm, both...)
	f.login(k)
	first := f.secret(k.Client).Secret
	_, err := f.RotateSecret(f.ctx, k.Client)
	f.check(err)
	second := f.secret(k.Client).Secret
	f.check(f.DeleteClient(f.ctx, k.Client))
	if _, err := f.Secret(f.ctx, k.Client); err == nil {
		t.Error("the secret of a client that is gone can be read")
	}
	f.signedWith(second, first)
	f.agent()
	again := f.secret(k.Client)
	if again.Secret == first || again.Secret == second || again.Previous != "" {
		t.Errorf("made again: %+v", again)
	}
}
