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
)

const (
	// maxFailures is how many requests for a token may fail at once, and failureEvery how often further ones.
	maxFailures     = 10
	failureInterval = 6 * time.Second
	// maxThrottled is of how many addresses and applications failures are remembered, the last ones.
	maxThrottled = 10_000
)

// Throttle slows down who fails to get a token. It keeps nobody from trying with the right secret: behind an address
// there may be many, and an attempt costs no more than its answer.
type Throttle struct {
	now      func() time.Time
	failures *lru.Cache[failureKey, *rate.Limiter]
}

// failureKey is who fails: an address, and the id that it gives, whether there is such an application or not: nobody is to
// learn that.
type failureKey struct {
	address     netip.Prefix
	application [sha256.Size]byte // the hash of its id
}

func NewThrottle(now func() time.Time) *Throttle {
	failures, _ := lru.New[failureKey, *rate.Limiter](maxThrottled) // fails for a size below 1 alone
	return &Throttle{now, failures}
}

// LimitFailures answers 429 in place of what is wrong with an attempt when there were too many before.
func (t *Throttle) LimitFailures(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		var refused *TokenRefusal
		if !errors.As(err, &refused) || refused.code != codeInvalidClient ||
			t.allow(c.RealIP(), refused.claimedID) {
			return err
		}
		c.Response().Header().Set(echo.HeaderRetryAfter, wholeSeconds(failureInterval))
		return &TokenRefusal{
			Status: http.StatusTooManyRequests, code: codeRateLimitExceeded,
			message: "too many failed attempts, wait a little",
		}
	}
}

// allow counts a failure and says whether it was not one too many.
func (t *Throttle) allow(address, application string) bool {
	who := failureKey{networkOf(address), sha256.Sum256([]byte(application))}
	if known, ok := t.failures.Get(who); ok {
		return known.AllowN(t.now(), 1)
	}
	fresh := rate.NewLimiter(rate.Every(failureInterval), maxFailures)
	if known, ok, _ := t.failures.PeekOrAdd(who, fresh); ok { // another request was quicker
		fresh = known
	}
	return fresh.AllowN(t.now(), 1)
}

// networkOf is an address or, in IPv6, the network of 64 bits that everybody has, who could take another address of it
// for each attempt.
func networkOf(address string) netip.Prefix {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		return netip.PrefixFrom(a, 64).Masked()
	}
	return netip.PrefixFrom(a, a.BitLen())
}
