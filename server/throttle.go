package main

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
	// mostFailures is how many requests for a token may fail at once, and failureEvery how often further ones.
	mostFailures = 10
	failureEvery = 6 * time.Second
	// mostThrottled is of how many addresses and applications failures are remembered, the last ones.
	mostThrottled = 10_000
)

// throttle slows down who fails to get a token. It keeps nobody from trying with the right secret: behind an address
// there may be many, and an attempt costs no more than its answer.
type throttle struct {
	now      func() time.Time
	failures *lru.Cache[failing, *rate.Limiter]
}

// failing is who fails: an address, and the id that it gives, whether there is such an application or not: nobody is to
// learn that.
type failing struct {
	address     netip.Prefix
	application [sha256.Size]byte // the hash of its id
}

func newThrottle(now func() time.Time) *throttle {
	failures, _ := lru.New[failing, *rate.Limiter](mostThrottled) // fails for a size below 1 alone
	return &throttle{now, failures}
}

// tokens answers 429 in place of what is wrong with an attempt when there were too many before.
func (t *throttle) tokens(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		var refused *tokenRefusal
		if !errors.As(err, &refused) || refused.code != errInvalidClient ||
			t.allow(c.RealIP(), refused.given) {
			return err
		}
		c.Response().Header().Set(echo.HeaderRetryAfter, seconds(failureEvery))
		return &tokenRefusal{
			status: http.StatusTooManyRequests, code: errRateLimitExceeded,
			words: "too many failed attempts, wait a little",
		}
	}
}

// allow counts a failure and says whether it was not one too many.
func (t *throttle) allow(address, application string) bool {
	who := failing{placeOf(address), sha256.Sum256([]byte(application))}
	if known, ok := t.failures.Get(who); ok {
		return known.AllowN(t.now(), 1)
	}
	fresh := rate.NewLimiter(rate.Every(failureEvery), mostFailures)
	if known, ok, _ := t.failures.PeekOrAdd(who, fresh); ok { // another request was quicker
		fresh = known
	}
	return fresh.AllowN(t.now(), 1)
}

// placeOf is an address or, in IPv6, the network of 64 bits that everybody has, who could take another address of it
// for each attempt.
func placeOf(address string) netip.Prefix {
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
