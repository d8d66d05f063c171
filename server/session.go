package main

import (
	"context"
	"crypto/sha256"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/agentevents/agentevents/store"
)

const (
	// sessionLife is how long it may take until a token is refused that was revoked, or a client that was blocked.
	sessionLife = time.Second
	// mostSessions is how many tokens are remembered, those that were used last.
	mostSessions = 10_000
)

// sessions know whose a token is without asking the store at every request.
type sessions struct {
	store *store.Store
	life  time.Duration
	known *lru.Cache[[sha256.Size]byte, session]
}

type session struct {
	store.Caller
	until time.Time
}

func newSessions(st *store.Store, life time.Duration) *sessions {
	known, _ := lru.New[[sha256.Size]byte, session](mostSessions) // fails for a size below 1 alone
	return &sessions{st, life, known}
}

// caller returns whose token it is, or store.ErrToken. What is not good is not remembered.
func (s *sessions) caller(ctx context.Context, token string) (store.Caller, error) {
	hash := sha256.Sum256([]byte(token))
	now := time.Now()
	if known, ok := s.known.Get(hash); ok && now.Before(known.until) {
		return known.Caller, nil
	}
	c, err := s.store.Caller(ctx, token)
	if err == nil {
		s.known.Add(hash, session{c, now.Add(s.life)})
	}
	return c, err
}
