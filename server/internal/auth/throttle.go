package auth

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"github.com/agentevents/agentevents/server/internal/request"
)

const (
	// maxFailures is the number of consecutive token requests that may fail. After that, one request may fail each
	// failureInterval.
	maxFailures     = 10
	failureInterval = 6 * time.Second
	// maxThrottled is the number of pairs of address and application whose failures are counted. The pair with the
	// oldest failure is evicted.
	maxThrottled = 10_000
)

// Throttle answers 429 after too many failed token requests. A request with the right secret always succeeds: many
// clients may share an address, and a guess learns nothing from the answer 429.
type Throttle struct {
	now      func() time.Time
	failures *lru.Cache[failureKey, *rate.Limiter]
}

// failureKey is the key of a failure counter: the address and the id in the request. Unknown applications are counted
// too, so that the answers do not reveal which applications exist.
type failureKey struct {
	address     netip.Prefix
	application [sha256.Size]byte // the hash of its id
}

// NewThrottle returns a throttle without failures.
func NewThrottle(now func() time.Time) *Throttle {
	failures, _ := lru.New[failureKey, *rate.Limiter](maxThrottled) // fails only for a size below 1
	return &Throttle{now, failures}
}

// LimitFailures answers 429 instead of invalid_client after too many failures.
func (t *Throttle) LimitFailures(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		refused, ok := errors.AsType[*TokenRefusal](err)
		if !ok || refused.code != codeInvalidClient || t.allow(c.RealIP(), refused.claimedID) {
			return err
		}
		c.Response().Header().Set(echo.HeaderRetryAfter, wholeSeconds(failureInterval))
		return &TokenRefusal{
			Status: http.StatusTooManyRequests, code: request.CodeRateLimitExceeded,
			message: "too many failed token requests; try again later",
		}
	}
}

// allow counts a failure, and reports whether it is within the limit.
func (t *Throttle) allow(address, application string) bool {
	key := failureKey{networkOf(address), sha256.Sum256([]byte(application))}
	limiter, ok := t.failures.Get(key)
	if !ok {
		limiter = rate.NewLimiter(rate.Every(failureInterval), maxFailures)
		if other, ok, _ := t.failures.PeekOrAdd(key, limiter); ok { // a concurrent request was first
			limiter = other
		}
	}
	return limiter.AllowN(t.now(), 1)
}

// networkOf is request.NetworkOf for an address as text, zero if it is invalid.
func networkOf(address string) netip.Prefix {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	return request.NetworkOf(a)
}
