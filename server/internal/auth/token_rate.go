package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/agentevents/agentevents/server/internal/request"
)

const (
	// tokenRate is how many tokens an application gets a second, on average. Each costs a transaction.
	tokenRate = 20
	// maxTokenBurst is how many it gets at once. Programs for the original API request one for each of their calls.
	maxTokenBurst = 300
	// secretKnown is how long the secret of a refused request counts as right, so that further refusals read nothing.
	secretKnown = time.Second
	// clientShare is how many times as much all applications of a client get together. A client may have many.
	clientShare = 2
	// maxTokenRates is for how many applications, and for how many clients, the server remembers this.
	maxTokenRates = 10_000
)

// TokenRate limits the tokens of each application, and those of all applications of a client. Only requests with the
// right secret count: others cannot use up what an application may request.
type TokenRate struct {
	now          func() time.Time
	applications *lru.Cache[string, *tokenUse]     // by id
	clients      *lru.Cache[string, *rate.Limiter] // by id
}

// tokenUse is what an application has requested.
type tokenUse struct {
	*rate.Limiter
	secret atomic.Pointer[knownSecret]
}

// knownSecret is the hash of a secret that was right.
type knownSecret struct {
	hash [sha256.Size]byte
	at   time.Time
}

// NewTokenRate returns a limit that no application has used.
func NewTokenRate(now func() time.Time) *TokenRate {
	applications, _ := lru.New[string, *tokenUse](maxTokenRates) // fails only for a size below 1
	clients, _ := lru.New[string, *rate.Limiter](maxTokenRates)
	return &TokenRate{now, applications, clients}
}

// Allow counts a request of an application for a token, with the right secret, or returns why it is refused. The client
// is empty for an application of the operator, which has only a limit of its own.
func (t *TokenRate) Allow(client, application, secret string) error {
	now := t.now()
	use := getOrAdd(t.applications, application, func() *tokenUse {
		return &tokenUse{Limiter: rate.NewLimiter(tokenRate, maxTokenBurst)}
	})
	if !use.AllowN(now, 1) {
		use.secret.Store(&knownSecret{sha256.Sum256([]byte(secret)), now})
		return refuseRate(application)
	}
	if client == "" || getOrAdd(t.clients, client, func() *rate.Limiter {
		return rate.NewLimiter(clientShare*tokenRate, clientShare*maxTokenBurst)
	}).AllowN(now, 1) {
		return nil
	}
	return refuseRate(application)
}

// getOrAdd returns the value of an id, a new one if there is none.
func getOrAdd[T any](values *lru.Cache[string, T], id string, create func() T) T {
	value, ok := values.Get(id)
	if !ok {
		value = create()
		if other, ok, _ := values.PeekOrAdd(id, value); ok { // another request was quicker
			value = other
		}
	}
	return value
}

// RefuseEarly returns why Allow would refuse a request, if the secret was right a moment ago. It returns nil if that is
// not known.
func (t *TokenRate) RefuseEarly(application, secret string) error {
	use, ok := t.applications.Get(application)
	if !ok {
		return nil
	}
	known, now := use.secret.Load(), t.now()
	if known == nil || now.Sub(known.at) >= secretKnown || use.TokensAt(now) >= 1 {
		return nil
	}
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], known.hash[:]) == 0 {
		return nil
	}
	return refuseRate(application)
}

func refuseRate(application string) error {
	return &TokenRefusal{
		Status: http.StatusTooManyRequests, code: request.CodeRateLimitExceeded, application: application,
		message: "the application requests too many tokens; use each of them until it expires",
	}
}
