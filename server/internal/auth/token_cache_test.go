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

// The cache reads the caller of a token from the store again after a second, and not before. So a token is refused
// within a second after its application is revoked or its client is blocked.
func TestTokenCacheExpiresAfterASecond(t *testing.T) {
	t.Parallel()
	v := newCachedApplication(t)
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
				t.Errorf("the caller is %s, want %s", got, want)
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
		v.do(func() error { return v.store.RevokeApplication(v.ctx, v.created.ID) })
		time.Sleep(TokenCacheLife)
		is("unknown")
		time.Sleep(TokenCacheLife)
		is("unknown")
	})
}

// cachedApplication is an application with a token. Changes of its store run outside the synctest bubble.
type cachedApplication struct {
	*testing.T
	ctx     context.Context //nolint:containedctx // with a cancellable context the driver would start a goroutine
	store   *store.Store
	created gen.ApplicationSecret
	token   string
	changes chan func() error
	done    chan error
}

func newCachedApplication(t *testing.T) *cachedApplication {
	t.Helper()
	v := &cachedApplication{T: t, ctx: context.Background(), changes: make(chan func() error), done: make(chan error)}
	go func() {
		for f := range v.changes {
			v.done <- f()
		}
	}()
	t.Cleanup(func() { close(v.changes) })
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
		v.created, err = v.store.CreateApplication(v.ctx, "12", create)
		return err
	})
	v.do(func() (err error) {
		v.token, err = v.store.IssueToken(v.ctx, v.created.ID, v.created.Secret)
		return err
	})
	return v
}

func (v *cachedApplication) do(change func() error) {
	v.Helper()
	v.changes <- change
	if err := <-v.done; err != nil {
		v.Fatal(err)
	}
}

// block creates the application's client, or updates it.
func (v *cachedApplication) block(is bool) func() error {
	return func() error {
		_, _, err := v.store.PutClient(v.ctx, "12", gen.ClientUpdate{Blocked: &is})
		return err
	}
}
