package auth

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// The caller of a token is read from the store again after a second, and not before: no token is accepted for longer
// after its application was revoked or its client blocked.
func TestTokenCacheKeepsASecond(t *testing.T) {
	t.Parallel()
	v := newVisitor(t)
	synctest.Test(t, func(t *testing.T) {
		tokens := NewTokenCache(v.store, TokenCacheLife)
		is := func(want string) {
			t.Helper()
			c, err := tokens.Caller(v.ctx, v.token)
			got := "accepted"
			switch {
			case errors.Is(err, store.ErrToken):
				got = "unknown"
			case err != nil:
				t.Fatal(err)
			case c.Blocked:
				got = "blocked"
			}
			if got != want {
				t.Errorf("the caller is %s and not %s", got, want)
			}
		}
		is("accepted")
		v.do(v.block(true))
		time.Sleep(TokenCacheLife - time.Nanosecond)
		is("accepted")
		time.Sleep(time.Nanosecond)
		is("blocked")
		v.do(v.block(false))
		time.Sleep(TokenCacheLife)
		is("accepted")
		v.do(func() error { return v.store.RevokeApplication(v.ctx, v.made.ID) })
		time.Sleep(TokenCacheLife)
		is("unknown")
		time.Sleep(TokenCacheLife)
		is("unknown")
	})
}

// visitor is an application with a token. Its store is changed outside of the bubble with fake time.
type visitor struct {
	*testing.T
	ctx   context.Context //nolint:containedctx // a context that may end would make the driver start a goroutine
	store *store.Store
	made  gen.ApplicationSecret
	token string
	work  chan func() error
	done  chan error
}

func newVisitor(t *testing.T) *visitor {
	t.Helper()
	v := &visitor{T: t, ctx: context.Background(), work: make(chan func() error), done: make(chan error)}
	go func() {
		for f := range v.work {
			v.done <- f()
		}
	}()
	t.Cleanup(func() { close(v.work) })
	var err error
	v.store, err = store.Open(v.ctx, store.Options{
		URL: "sqlite:" + filepath.Join(t.TempDir(), "x.db"), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.store.Close() })
	v.do(v.block(false))
	v.do(func() (err error) {
		create := gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelAll}
		v.made, err = v.store.CreateApplication(v.ctx, "12", create)
		return err
	})
	v.do(func() (err error) {
		v.token, err = v.store.IssueToken(v.ctx, v.made.ID, v.made.Secret)
		return err
	})
	return v
}

func (v *visitor) do(change func() error) {
	v.Helper()
	v.work <- change
	if err := <-v.done; err != nil {
		v.Fatal(err)
	}
}

// block makes the visitor's client, or changes it.
func (v *visitor) block(is bool) func() error {
	return func() error {
		_, _, err := v.store.PutClient(v.ctx, "12", gen.ClientUpdate{Blocked: &is})
		return err
	}
}
