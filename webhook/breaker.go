package webhook

import (
	"net/http"
	"time"
)

// Failures is how many attempts at a receiver have to fail in a row, with no success between, for its breaker to open.
const Failures = 5

// Health is what an attempt says about its receiver, whatever becomes of the delivery.
type Health int

// The healths.
const (
	Unclear Health = iota // it answered that it will not take this one now: 408, 425, 429, 503 with Retry-After
	Alive                 // it answered
	Down                  // it did not answer in time or at all, or with a 5xx
)

// Health returns what an attempt says about its receiver.
func (a Attempt) Health() Health {
	asked := a.Status == http.StatusServiceUnavailable && a.RetryAfter > 0
	switch {
	case a.Verdict == Retry && (a.Status == 0 || a.Status >= 500) && !asked:
		return Down
	case a.Verdict != Retry && a.Status > 0:
		return Alive
	}
	return Unclear
}

// ProbeDelay is how long an open breaker waits before one lane is tried, when so many probes have failed: 5 s, 10 s,
// 30 s, then a minute.
func ProbeDelay(failed int) time.Duration {
	delays := []time.Duration{5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}
	return delays[min(failed, len(delays)-1)]
}
