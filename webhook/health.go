package webhook

import (
	"net/http"
	"time"
)

// BreakerThreshold is the number of failed attempts at a receiver in a row at which its breaker opens. The store keeps
// the breakers.
const BreakerThreshold = 5

// Health is the state of a receiver by one attempt, independent of the delivery's verdict.
type Health int

// The healths.
const (
	Unclear Health = iota // it asks for time (408, 425, 429; 503 only with Retry-After), or this server did not send
	Alive                 // it answered: 2xx, 3xx, 4xx
	Down                  // it did not answer in time, completely or at all, or with a 5xx
)

// Health returns the state of the receiver by this attempt, which must not be CutOff.
func (a Attempt) Health() Health {
	switch {
	case a.asksForTime(), a.Status == 0 && (a.Verdict != Retry || a.LeaseOver):
		return Unclear
	case a.Error != "", a.Status < 100, a.Status >= 500:
		return Down
	}
	return Alive
}

// asksForTime reports whether the receiver asks to send this delivery later.
func (a Attempt) asksForTime() bool {
	switch a.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return a.Status == http.StatusServiceUnavailable && a.RetryAfter > 0
}

// RecoveryDelay returns the wait before the next attempt at a receiver that is Down: 5 s, 10 s, 30 s, then a minute.
//
// If the breaker is open, all deliveries of the receiver wait, and failed is the number of failed probes. Otherwise one
// delivery waits, and failed is the number of its earlier failed attempts that were not its own failures.
func RecoveryDelay(failed int) time.Duration {
	delays := []time.Duration{5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}
	return delays[min(max(failed, 0), len(delays)-1)]
}
