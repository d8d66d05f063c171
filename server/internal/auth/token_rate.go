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
	// clientShare is how many times as much all applications of a client get together. A client may have many.
	clientShare = 2
	// maxTokenRates is for how many applications, and for how many clients, the server remembers this.
	maxTokenRates = 10_000
)

// TokenRate limits the tokens of each application, and those of all applications of a client. Only requests with the
// right secret count: others cannot use up what an application may request.
type TokenRate struct {
	now                   func() time.Time
	applications, clients *lru.Cache[string, *rate.Limiter] // by id
}

// NewTokenRate returns a limit that no application has used.
func NewTokenRate(now func() time.Time) *TokenRate {
	applications, _ := lru.New[string, *rate.Limiter](maxTokenRates) // fails only for a size below 1
	clients, _ := lru.New[string, *rate.Limiter](maxTokenRates)
	return &TokenRate{now, applications, clients}
}

// Allow counts a request of an application of a client for a token, or returns why it is refused. The client is empty
// for an application of the operator, which has the limit of the application alone.
func (t *TokenRate) Allow(client, application string) error {
	refused := ""
	switch {
	case !limiterOf(t.applications, application, 1).AllowN(t.now(), 1):
		refused = "the application requests"
	case client != "" && !limiterOf(t.clients, client, clientShare).AllowN(t.now(), 1):
		refused = "the applications of the client request"
	default:
		return nil
	}
	return &TokenRefusal{
		Status: http.StatusTooManyRequests, code: request.CodeRateLimitExceeded, application: application,
		message: refused + " too many tokens; use each of them until it expires",
	}
}

// limiterOf returns the limiter of an id, a new one if there is none. A new one allows so many times as much as an
// application has.
func limiterOf(limiters *lru.Cache[string, *rate.Limiter], id string, times int) *rate.Limiter {
	limiter, ok := limiters.Get(id)
	if !ok {
		limiter = rate.NewLimiter(rate.Limit(times*tokenRate), times*maxTokenBurst)
		if other, ok, _ := limiters.PeekOrAdd(id, limiter); ok { // another request was quicker
			limiter = other
		}
	}
	return limiter
}
