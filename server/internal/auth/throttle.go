package auth

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
)

const (
	// maxFailures is the number of token requests that may fail at once; a success in between resets nothing. After
	// that, one request may fail each failureInterval.
	maxFailures     = 10
	failureInterval = 6 * time.Second
	// maxAddresses is the number of addresses whose failures are counted. The one with the oldest failure is evicted.
	maxAddresses = 10_000
	// maxApplications is the number of applications for which the failures of one address are counted separately.
	maxApplications = 20
)

// Throttle answers 429 after too many failed token requests. It never refuses a request with the right secret, which
// only TokenRate may do: many clients may share an address, and a guess learns nothing from the answer 429.
type Throttle struct {
	now func() time.Time

	mu       sync.Mutex
	failures *lru.Cache[netip.Prefix, *addressFailures]
}

// addressFailures are the failures from one address, by the hash of the id that was sent. Whether there is such an
// application makes no difference, so that the answers do not reveal it. Until the address is evicted, no count is
// dropped while it matters. When an address has failed with too many ids, further ones share a count.
type addressFailures struct {
	byID   map[[sha256.Size]byte]failureCount
	others failureCount
}

// failureCount is the time at which the last failure is forgotten, one each failureInterval.
type failureCount time.Time

// NewThrottle returns a throttle that has counted nothing.
func NewThrottle(now func() time.Time) *Throttle {
	failures, _ := lru.New[netip.Prefix, *addressFailures](maxAddresses) // fails only for a size below 1
	return &Throttle{now: now, failures: failures}
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
	t.mu.Lock()
	defer t.mu.Unlock()
	network := networkOf(address)
	f, ok := t.failures.Get(network)
	if !ok {
		f = &addressFailures{byID: map[[sha256.Size]byte]failureCount{}}
		t.failures.Add(network, f)
	}
	return f.add(sha256.Sum256([]byte(application)), t.now())
}

// add counts a failure, and reports whether it is within the limit.
func (f *addressFailures) add(id [sha256.Size]byte, now time.Time) bool {
	count, ok := f.byID[id]
	if !ok && len(f.byID) == maxApplications && !f.forget(now) {
		return f.others.add(now)
	}
	allowed := count.add(now)
	f.byID[id] = count
	return allowed
}

// forget makes room for an id, if there is a count without failures that still matter.
func (f *addressFailures) forget(now time.Time) bool {
	for id, count := range f.byID {
		if !time.Time(count).After(now) {
			delete(f.byID, id)
			return true
		}
	}
	return false
}

func (c *failureCount) add(now time.Time) bool {
	until := time.Time(*c)
	if until.Before(now) {
		until = now
	}
	if until.Sub(now) > (maxFailures-1)*failureInterval {
		return false
	}
	*c = failureCount(until.Add(failureInterval))
	return true
}

// networkOf is request.NetworkOf for an address as text, zero if it is invalid.
func networkOf(address string) netip.Prefix {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	return request.NetworkOf(a)
}
