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

// What is known of a token is asked for again when a second is over, and not before: nobody is known for longer who was
// revoked or blocked.
func TestTokenCacheKeepsASecond(t *testing.T) {
	t.Parallel()
	v := newVisitor(t)
	synctest.Test(t, func(t *testing.T) {
		s := NewTokenCache(v.store, TokenCacheLife)
		is := func(want string) {
			t.Helper()
			c, err := s.Caller(v.ctx, v.token)
			got := "welcome"
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
		is("welcome")
		v.do(v.block(true))
		time.Sleep(TokenCacheLife - time.Nanosecond)
		is("welcome")
		time.Sleep(time.Nanosecond)
		is("blocked")
		v.do(v.block(false))
		time.Sleep(TokenCacheLife)
		is("welcome")
		v.do(func() error { return v.store.RevokeApplication(v.ctx, v.made.ID) })
		time.Sleep(TokenCacheLife)
		is("unknown")
		time.Sleep(TokenCacheLife)
		is("unknown")
	})
}

// visitor is an application with a token, and a store that is changed where time is real.
type visitor struct {
	*testing.T
	ctx   context.Context //nolint:containedctx // one that nothing ends: the driver would watch another by a goroutine
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
	v.store, err = store.Open(v.ctx, store.Options{URL: "sqlite:" + filepath.Join(t.TempDir(), "x.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.store.Close() })
	v.do(v.block(false))
	v.do(func() (err error) {
		v.made, err = v.store.CreateApplication(v.ctx, "12", gen.ApplicationCreate{Name: "CRM", Access: gen.AccessLevelAll})
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
