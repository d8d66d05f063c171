package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/pgtest"
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

// valid reports whether a token is valid.
func (f *fixture) valid(token string) bool {
	f.t.Helper()
	c, err := f.Caller(f.ctx, token)
	if err != nil && !errors.Is(err, store.ErrToken) {
		f.t.Fatal(err)
	}
	return err == nil && c.Application != ""
}

// Its row is pruned after that.
func TestTokenIsValidForAnHour(t *testing.T) {
	f := open(t)
	f.agent()
	token := f.token(f.application("12"))
	c, err := f.Caller(f.ctx, token)
	if err != nil || c.Client != "12" || c.Access != gen.AccessLevelAll || c.Blocked || c.Name != "CRM" ||
		c.Number != 1 {
		t.Errorf("the caller is %+v, %v", c, err)
	}
	f.clock.add(time.Hour - time.Millisecond)
	f.check(f.PruneAll(f.ctx))
	if !f.valid(token) {
		t.Error("it is not valid until the end of the hour")
	}
	f.clock.add(time.Millisecond)
	if f.valid(token) {
		t.Error("it is valid for longer than an hour")
	}
	f.clock.add(time.Second)
	f.check(f.PruneAll(f.ctx))
	if n := f.count("SELECT count(*) FROM tokens"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	for _, wrong := range []string{"", token + "A", token[1:]} {
		if f.valid(wrong) {
			t.Errorf("%q is valid", wrong)
		}
	}
}

// The oldest token of the same application is deleted.
func TestApplicationHasAHundredTokensAtMost(t *testing.T) {
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
		if f.valid(token) != (i >= 3) {
			t.Errorf("token %d of 103 is valid: %t", i+1, i < 3)
		}
	}
	if !f.valid(kept) {
		t.Error("the other application's token is invalid")
	}
}

// A revoked application, and one of a blocked or deleted client, gets no token, and its tokens are invalid.
func TestRevokedAndBlockedApplicationsGetNoToken(t *testing.T) {
	f := open(t)
	f.agent()
	made := f.application("12")
	token := f.token(made)
	_, _, err := f.PutClient(f.ctx, "12", gen.ClientUpdate{Blocked: new(true)})
	f.check(err)
	if c, err := f.Caller(f.ctx, token); err != nil || !c.Blocked {
		t.Errorf("a blocked client: %+v, %v", c, err)
	}
	if _, err := f.IssueToken(f.ctx, made.ID, made.Secret); !errors.Is(err, store.ErrCredentials) {
		t.Errorf("blocked: %v", err)
	}
	_, _, err = f.PutClient(f.ctx, "12", gen.ClientUpdate{Blocked: new(false)})
	f.check(err)
	f.check(f.DeleteApplication(f.ctx, "12", made.ID))
	if _, err := f.IssueToken(f.ctx, made.ID, made.Secret); !errors.Is(err, store.ErrCredentials) || f.valid(token) {
		t.Errorf("revoked: %v, the token is valid: %t", err, f.valid(token))
	}
	made = f.application("12")
	token = f.token(made)
	f.check(f.DeleteClient(f.ctx, "12"))
	f.agent() // a new client with the same id
	if _, err := f.IssueToken(f.ctx, made.ID, made.Secret); !errors.Is(err, store.ErrCredentials) || f.valid(token) {
		t.Errorf("a deleted client: %v, the token is valid: %t", err, f.valid(token))
	}
	f.verify()
}

// The configuration names an operator's application and its secret.
func TestConfiguredOperatorHasTheConfiguredSecret(t *testing.T) {
	f := open(t)
	first, made, err := f.FirstOperator(f.ctx)
	if err != nil || !made || first.Access != store.Operator {
		t.Fatalf("%+v, %t, %v", first, made, err)
	}
	if _, made, err := f.FirstOperator(f.ctx); made || err != nil {
		t.Errorf("a second one was created: %t, %v", made, err)
	}
	pbx := gen.ApplicationSecret{ID: "pbx", Secret: "correct-horse-battery"}
	for range 2 {
		f.check(f.EnsureOperator(f.ctx, pbx.ID, pbx.Secret))
	}
	token := f.token(pbx)
	f.check(f.EnsureOperator(f.ctx, pbx.ID, "another-secret-of-it"))
	if _, err := f.IssueToken(f.ctx, pbx.ID, pbx.Secret); !errors.Is(err, store.ErrCredentials) || f.valid(token) {
		t.Errorf("with the old secret: %v, its token is valid: %t", err, f.valid(token))
	}
	if !f.valid(f.token(first)) {
		t.Error("the first operator's token is invalid")
	}
	f.agent()
	if err := f.EnsureOperator(f.ctx, f.application("12").ID, "another-secret-of-it"); err == nil {
		t.Error("a client's application became the operator's")
	}
}

// Programs that request a token for each call must not cost a sync each. The sync of changes stays as it is.
func TestTokenIsNotSynced(t *testing.T) {
	f := open(t)
	k := f.agent()
	made := f.application("12")
	var statements []string
	f.WatchStatements(func(_ bool, text string) { statements = append(statements, text) })
	unsynced := func() bool {
		defer func() { statements = nil }()
		return slices.Contains(statements, "PRAGMA synchronous = NORMAL") ||
			slices.Contains(statements, "SET LOCAL synchronous_commit = off")
	}
	if !f.valid(f.token(made)) || !unsynced() {
		t.Error("a token is synced")
	}
	if f.login(k); unsynced() {
		t.Error("a change is not synced")
	}
	synced, setting := "2", "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous"
	if pgtest.OnPostgres() {
		synced, setting = "on", "SHOW synchronous_commit"
	}
	f.check(f.Write(f.ctx, func(tx *sqldb.Tx) error {
		got, err := sqldb.Value[string](tx, setting)
		if got != synced {
			t.Errorf("the next transaction has %q", got)
		}
		return err
	}))
}
