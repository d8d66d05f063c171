package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

func (f *fixture) application(client string) gen.ApplicationSecret {
	f.t.Helper()
	made, err := f.CreateApplication(f.ctx, client, gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelAll})
	f.check(err)
	return made
}

func (f *fixture) token(made gen.ApplicationSecret) string {
	f.t.Helper()
	token, err := f.IssueToken(f.ctx, made.ID, made.Secret)
	f.check(err)
	return token
}

// good says whether a token is.
func (f *fixture) good(token string) bool {
	f.t.Helper()
	c, err := f.Caller(f.ctx, token)
	if err != nil && !errors.Is(err, store.ErrToken) {
		f.t.Fatal(err)
	}
	return err == nil && c.Application != ""
}

// A token is good for an hour, and then its row goes too.
func TestTokenExpires(t *testing.T) {
	f := open(t)
	f.agent()
	token := f.token(f.application("12"))
	c, err := f.Caller(f.ctx, token)
	if err != nil || c.Client != "12" || c.Access != gen.AccessLevelAll || c.Blocked || c.Name != "CRM" ||
		c.Number != 1 {
		t.Errorf("it is %+v's, %v", c, err)
	}
	f.clock.add(time.Hour - time.Millisecond)
	f.check(f.PruneAll(f.ctx))
	if !f.good(token) {
		t.Error("it is not good to the end of the hour")
	}
	f.clock.add(time.Millisecond)
	if f.good(token) {
		t.Error("it is good for longer than an hour")
	}
	f.clock.add(time.Second)
	f.check(f.PruneAll(f.ctx))
	if n := f.count("SELECT count(*) FROM tokens"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	for _, wrong := range []string{"", token + "A", token[1:]} {
		if f.good(wrong) {
			t.Errorf("%q is good", wrong)
		}
	}
}

// Of more than a hundred tokens the oldest goes, and no other application's.
func TestTokensAreBounded(t *testing.T) {
	f := open(t)
	f.agent()
	one, other := f.application("12"), f.application("12")
	kept := f.token(other)
	var tokens []string
	for range 103 {
		f.clock.add(time.Millisecond)
		tokens = append(tokens, f.token(one))
	}
	for i, token := range tokens {
		if f.good(token) != (i >= 3) {
			t.Errorf("token %d of 103 is good: %t", i+1, i < 3)
		}
	}
	if !f.good(kept) {
		t.Error("the other application's token is gone")
	}
}

// Neither a revoked application, nor one of a client that is blocked or gone, gets a token or keeps one.
func TestTokensOfWhoIsRefused(t *testing.T) {
	f := open(t)
	f.agent()
	made := f.application("12")
	token := f.token(made)
	_, _, err := f.PutClient(f.ctx, "12", gen.ClientUpdate{Blocked: new(true)})
	f.check(err)
	if c, err := f.Caller(f.ctx, token); err != nil || !c.Blocked {
		t.Errorf("of a client that is blocked: %+v, %v", c, err)
	}
	if _, err := f.IssueToken(f.ctx, made.ID, made.Secret); !errors.Is(err, store.ErrCredentials) {
		t.Errorf("blocked: %v", err)
	}
	_, _, err = f.PutClient(f.ctx, "12", gen.ClientUpdate{Blocked: new(false)})
	f.check(err)
	f.check(f.DeleteApplication(f.ctx, "12", made.ID))
	if _, err := f.IssueToken(f.ctx, made.ID, made.Secret); !errors.Is(err, store.ErrCredentials) || f.good(token) {
		t.Errorf("revoked: %v, the token is good: %t", err, f.good(token))
	}
	made = f.application("12")
	token = f.token(made)
	f.check(f.DeleteClient(f.ctx, "12"))
	f.agent() // a client of the same id
	if _, err := f.IssueToken(f.ctx, made.ID, made.Secret); !errors.Is(err, store.ErrCredentials) || f.good(token) {
		t.Errorf("of a client that is gone: %v, the token is good: %t", err, f.good(token))
	}
	f.verify()
}

// The operator that the configuration names is there, with that secret and no other.
func TestEnsureOperator(t *testing.T) {
	f := open(t)
	first, made, err := f.FirstOperator(f.ctx)
	if err != nil || !made || first.Access != store.Operator {
		t.Fatalf("%+v, %t, %v", first, made, err)
	}
	if _, made, err := f.FirstOperator(f.ctx); made || err != nil {
		t.Errorf("a second one was made: %t, %v", made, err)
	}
	pbx := gen.ApplicationSecret{ID: "pbx", Secret: "correct-horse-battery"}
	for range 2 {
		f.check(f.EnsureOperator(f.ctx, pbx.ID, pbx.Secret))
	}
	token := f.token(pbx)
	f.check(f.EnsureOperator(f.ctx, pbx.ID, "another-secret-of-it"))
	if _, err := f.IssueToken(f.ctx, pbx.ID, pbx.Secret); !errors.Is(err, store.ErrCredentials) || f.good(token) {
		t.Errorf("with the old secret: %v, its token is good: %t", err, f.good(token))
	}
	if !f.good(f.token(first)) {
		t.Error("the first operator is gone")
	}
	f.agent()
	if err := f.EnsureOperator(f.ctx, f.application("12").ID, "another-secret-of-it"); err == nil {
		t.Error("a client's application became the operator's")
	}
}
