package auth

import (
	"context"
	"crypto/sha256"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/agentevents/agentevents/store"
)

const (
	// TokenCacheLife is the time for which a cached token stays valid after its revocation, or after its client is
	// blocked.
	TokenCacheLife = time.Second
	// maxCachedTokens is the size of the cache. The least recently used token is evicted.
	maxCachedTokens = 10_000
)

// TokenCache finds the caller of a token without a read of the store for each request.
type TokenCache struct {
	store   *store.Store
	life    time.Duration
	callers *lru.Cache[[sha256.Size]byte, cachedCaller]
}

type cachedCaller struct {
	store.Caller
	until time.Time
}

// NewTokenCache returns an empty cache whose entries expire after life. A life of 0 caches nothing.
func NewTokenCache(st *store.Store, life time.Duration) *TokenCache {
	callers, _ := lru.New[[sha256.Size]byte, cachedCaller](maxCachedTokens) // fails only for a size below 1
	return &TokenCache{st, life, callers}
}

// Caller returns the caller of a token, or store.ErrToken. An invalid token is not cached.
func (t *TokenCache) Caller(ctx context.Context, token string) (store.Caller, error) {
	hash := sha256.Sum256([]byte(token))
	now := time.Now()
	if cached, ok := t.callers.Get(hash); ok && now.Before(cached.until) {
		return cached.Caller, nil
	}
	caller, err := t.store.Caller(ctx, token)
	if err == nil {
		t.callers.Add(hash, cachedCaller{caller, now.Add(t.life)})
	}
	return caller, err
}
