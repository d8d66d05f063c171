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
	// maxTokenRates is for how many applications the server remembers this.
	maxTokenRates = 10_000
)

// TokenRate limits the tokens of each application. Only requests with the right secret count: others cannot use up what
// an application may request.
type TokenRate struct {
	now          func() time.Time
	applications *lru.Cache[string, *tokenUse] // by id
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
	return &TokenRate{now, applications}
}

// Allow counts a request of an application for a token, with the right secret, or returns why it is refused.
func (t *TokenRate) Allow(application, secret string) error {
	use, ok := t.applications.Get(application)
	if !ok {
		use = &tokenUse{Limiter: rate.NewLimiter(tokenRate, maxTokenBurst)}
		if other, ok, _ := t.applications.PeekOrAdd(application, use); ok { // another request was quicker
			use = other
		}
	}
	now := t.now()
	if use.AllowN(now, 1) {
		return nil
	}
	use.secret.Store(&knownSecret{sha256.Sum256([]byte(secret)), now})
	return refuseRate(application)
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
