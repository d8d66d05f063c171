package auth

import (
	"context"
	"crypto/sha256"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/agentevents/agentevents/store"
)

const (
	// TokenCacheLife is how long it may take until a token is refused that was revoked, or a client that was blocked.
	TokenCacheLife = time.Second
	// maxCachedTokens is how many tokens are remembered, those that were used last.
	maxCachedTokens = 10_000
)

// TokenCache know whose a token is without asking the store at every request.
type TokenCache struct {
	store   *store.Store
	life    time.Duration
	callers *lru.Cache[[sha256.Size]byte, cachedCaller]
}

type cachedCaller struct {
	store.Caller
	until time.Time
}

func NewTokenCache(st *store.Store, life time.Duration) *TokenCache {
	known, _ := lru.New[[sha256.Size]byte, cachedCaller](maxCachedTokens) // fails for a size below 1 alone
	return &TokenCache{st, life, known}
}

// Caller returns whose token it is, or store.ErrToken. What is not good is not remembered.
func (s *TokenCache) Caller(ctx context.Context, token string) (store.Caller, error) {
	hash := sha256.Sum256([]byte(token))
	now := time.Now()
	if known, ok := s.callers.Get(hash); ok && now.Before(known.until) {
		return known.Caller, nil
	}
	c, err := s.store.Caller(ctx, token)
	if err == nil {
		s.callers.Add(hash, cachedCaller{c, now.Add(s.life)})
	}
	return c, err
}
