package webhook

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The bounds of Retry-After: a shorter or longer delay counts as the bound.
const (
	minRetryAfter = time.Second
	maxRetryAfter = time.Hour
)

// Schedule sets the delays between attempts. The first attempt is made at once.
type Schedule struct {
	Delays []time.Duration // before the second attempt, the third, …; the last one repeats; none: hourly
	Jitter float64         // maximum random variation, as a fraction of the delay, 0 to 1: 0.2 is ±20 %
	Random func() float64  // in [0, 1); nil is math/rand/v2
}

// DefaultSchedule returns the delays 5 s, 30 s, 2 min, 10 min, 30 min and then 1 h, each ±20 %.
func DefaultSchedule() Schedule {
	return Schedule{
		Delays: []time.Duration{
			5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour,
		},
		Jitter: 0.2,
	}
}

// Delay returns the time between a failure, counted from 1, and the next attempt. If the receiver asked for a delay by
// Retry-After (0 for none), that replaces the schedule's, even if it is shorter, within 1 s and 1 h and without jitter.
func (s Schedule) Delay(failure int, asked time.Duration) time.Duration {
	if asked > 0 {
		return clampRetryAfter(asked)
	}
	if len(s.Delays) == 0 {
		return maxRetryAfter
	}
	return s.vary(s.Delays[min(max(failure, 1), len(s.Delays))-1])
}

// Outcome returns an attempt with the delays before the next one, which are 0 unless the verdict is Retry.
func (s Schedule) Outcome(d Delivery, a Attempt) Outcome {
	if a.Verdict != Retry {
		return Outcome{Attempt: a}
	}
	o := Outcome{Attempt: a, Delay: s.Delay(d.Failures+1, d.leastDelay(a.RetryAfter))}
	if deploying(a.Status) && a.Error == "" { // the last attempt of the deploy window is due at its end
		o.Delay = max(0, min(o.Delay, time.Until(d.DeployingUntil)))
	}
	// The argument is the number of earlier failed attempts that were not the delivery's own failures.
	o.Recovery = min(o.Delay, s.vary(RecoveryDelay(d.Attempt-1-d.Failures)))
	return o
}

// leastDelay lengthens a delay that the receiver asked for (0 for none) to a second for each attempt so far. Otherwise
// a receiver that always asks for a second would get an attempt each second, for the whole window.
func (d Delivery) leastDelay(asked time.Duration) time.Duration {
	if asked == 0 {
		return 0
	}
	return max(asked, time.Duration(d.Attempt)*time.Second)
}

func (s Schedule) vary(delay time.Duration) time.Duration {
	return time.Duration(float64(delay) * (1 + s.Jitter*(2*s.random()-1)))
}

func (s Schedule) random() float64 {
	if s.Random == nil {
		return rand.Float64()
	}
	return s.Random()
}

// Longest returns the longest time that Delay may return.
func (s Schedule) Longest() time.Duration {
	longest := slices.Max(append([]time.Duration{0}, s.Delays...))
	return max(maxRetryAfter, time.Duration(float64(longest)*(1+s.Jitter)))
}

// parseRetryAfter reads the header of that name, seconds or a date (RFC 9110, section 10.2.3), as a time from now
// within 1 s and 1 h. It returns 0 if value is neither.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return maxRetryAfter
		}
		return clampRetryAfter(time.Duration(min(seconds, 3600)) * time.Second)
	}
	if date, err := http.ParseTime(value); err == nil {
		return clampRetryAfter(date.Sub(now))
	}
	return 0
}

func clampRetryAfter(d time.Duration) time.Duration {
	return min(max(d, minRetryAfter), maxRetryAfter)
}
