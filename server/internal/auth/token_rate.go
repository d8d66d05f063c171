package auth

import (
	"net/http"
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
	// maxTokenRates is for how many applications the server remembers this.
	maxTokenRates = 10_000
)

// TokenRate limits the tokens of each application. Only requests with the right secret count: others cannot use up what
// an application may request.
type TokenRate struct {
	now          func() time.Time
	applications *lru.Cache[string, *rate.Limiter] // by id
}

// NewTokenRate returns a limit that no application has used.
func NewTokenRate(now func() time.Time) *TokenRate {
	applications, _ := lru.New[string, *rate.Limiter](maxTokenRates) // fails only for a size below 1
	return &TokenRate{now, applications}
}

// Allow counts a request of an application for a token, or returns why it is refused.
func (t *TokenRate) Allow(application string) error {
	limiter, ok := t.applications.Get(application)
	if !ok {
		limiter = rate.NewLimiter(tokenRate, maxTokenBurst)
		if other, ok, _ := t.applications.PeekOrAdd(application, limiter); ok { // another request was quicker
			limiter = other
		}
	}
	if limiter.AllowN(t.now(), 1) {
		return nil
	}
	return &TokenRefusal{
		Status: http.StatusTooManyRequests, code: request.CodeRateLimitExceeded, application: application,
		message: "the application requests too many tokens; use each of them until it expires",
	}
}
