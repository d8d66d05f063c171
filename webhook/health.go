package webhook

import (
	"net/http"
	"time"
)

// BreakerThreshold is how many attempts at a receiver have to fail in a row, with no success between, for its breaker
// to open. The store keeps the breakers.
const BreakerThreshold = 5

// Health is what an attempt says about its receiver, whatever becomes of the delivery.
type Health int

// The healths.
const (
	Unclear Health = iota // it will not take this one now (408, 425, 429, 503 with Retry-After), or it was not asked
	Alive                 // it answered: 2xx, 3xx, 4xx
	Down                  // it did not answer in time, completely or at all, or with a 5xx
)

// Health returns what an attempt says about its receiver.
func (a Attempt) Health() Health {
	switch {
	case a.asksForTime(), a.Status == 0 && (a.Verdict != Retry || a.HeldUp):
		return Unclear
	case a.Error != "", a.Status < 100, a.Status >= 500:
		return Down
	}
	return Alive
}

// asksForTime says whether the receiver has answered that it will take this delivery later.
func (a Attempt) asksForTime() bool {
	switch a.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return a.Status == http.StatusServiceUnavailable && a.RetryAfter > 0
}

// RecoveryDelay is how long a receiver that is Down is left alone after so many failed attempts, by a delivery and,
// when its breaker is open, by all: 5 s, 10 s, 30 s, then a minute.
func RecoveryDelay(failed int) time.Duration {
	delays := []time.Duration{5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}
	return delays[min(max(failed, 0), len(delays)-1)]
}
