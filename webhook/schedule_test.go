package webhook

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestScheduleDefault(t *testing.T) {
	s := DefaultSchedule()
	s.Random = func() float64 { return 0.5 } // the middle: no jitter
	want := []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, time.Hour, time.Hour,
	}
	for i, w := range want {
		if got := s.Delay(i+1, 0); got != w {
			t.Errorf("Delay(%d, 0) = %s, want %s", i+1, got, w)
		}
	}
}

func TestScheduleClampsTheFailureNumber(t *testing.T) {
	s := Schedule{Delays: []time.Duration{time.Second, time.Minute}}
	for attempt, want := range map[int]time.Duration{
		-1: time.Second, 0: time.Second, 1: time.Second, 1 << 40: time.Minute,
	} {
		if got := s.Delay(attempt, 0); got != want {
			t.Errorf("Delay(%d, 0) = %s, want %s", attempt, got, want)
		}
	}
	if got := (Schedule{}).Delay(1, 0); got != time.Hour {
		t.Errorf("a schedule without delays waits %s, want 1h", got)
	}
}

func TestScheduleJitterBounds(t *testing.T) {
	s := DefaultSchedule()
	for random, want := range map[float64]time.Duration{0: 4 * time.Second, 0.5: 5 * time.Second, 1: 6 * time.Second} {
		s.Random = func() float64 { return random }
		if got := s.Delay(1, 0); got != want {
			t.Errorf("at %v the first delay is %s, want %s", random, got, want)
		}
	}
}

func TestScheduleJitterVaries(t *testing.T) {
	s, seen := DefaultSchedule(), map[time.Duration]bool{}
	for range 100 {
		seen[s.Delay(6, 0)] = true
	}
	if len(seen) < 50 {
		t.Errorf("100 delays took %d values: those that failed together would come back together", len(seen))
	}
}

func TestScheduleRetryAfterReplaces(t *testing.T) {
	s := DefaultSchedule()
	cases := []struct{ asked, want time.Duration }{
		{time.Nanosecond, time.Second},
		{time.Second, time.Second},
		{2 * time.Second, 2 * time.Second}, // shorter than the schedule's, and taken
		{59 * time.Minute, 59 * time.Minute},
		{time.Hour, time.Hour},
		{25 * time.Hour, time.Hour},
	}
	for _, c := range cases {
		if got := s.Delay(1, c.asked); got != c.want {
			t.Errorf("Delay(1, %s) = %s, want %s", c.asked, got, c.want)
		}
	}
}

// A receiver that always asks for a second gets fewer and fewer attempts.
func TestRetryAfterGrowsWithTheAttempts(t *testing.T) {
	for attempt, want := range map[int]time.Duration{
		1: 10 * time.Second, 10: 10 * time.Second, 11: 11 * time.Second, 90: 90 * time.Second, 5000: time.Hour,
	} {
		o := DefaultSchedule().Outcome(Delivery{Attempt: attempt},
			Attempt{Status: 503, Verdict: Retry, RetryAfter: 10 * time.Second})
		if o.Delay != want {
			t.Errorf("after attempt %d: %s, want %s", attempt, o.Delay, want)
		}
	}
}

func TestScheduleLongest(t *testing.T) {
	if got, want := DefaultSchedule().Longest(), 72*time.Minute; got != want {
		t.Errorf("Longest() = %s, want %s", got, want)
	}
	if got := (Schedule{Delays: []time.Duration{time.Second}}).Longest(); got != time.Hour {
		t.Errorf("Longest() = %s, want the hour that a receiver may ask for", got)
	}
}

func TestScheduleNeverExceedsLongest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Schedule{
			Delays: rapid.SliceOf(rapid.Custom(func(t *rapid.T) time.Duration {
				return time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "delay"))
			})).Draw(t, "delays"),
			Jitter: rapid.Float64Range(0, 1).Draw(t, "jitter"),
			Random: func() float64 { return rapid.Float64Range(0, 0.999999).Draw(t, "random") },
		}
		attempt := rapid.Int().Draw(t, "attempt")
		asked := time.Duration(rapid.Int64().Draw(t, "retryAfter"))
		if got := s.Delay(attempt, asked); got < 0 || got > s.Longest() {
			t.Fatalf("Delay(%d, %s) = %s, Longest() = %s", attempt, asked, got, s.Longest())
		}
	})
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2017, 5, 30, 15, 7, 50, 0, time.UTC)
	cases := []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", time.Second},
		{"1", time.Second},
		{"120", 2 * time.Minute},
		{"3600", time.Hour},
		{"86400", time.Hour},
		{"9223372036854775807", time.Hour},
		{"99999999999999999999999", time.Hour},
		{"Tue, 30 May 2017 15:08:50 GMT", time.Minute},
		{"Tuesday, 30-May-17 15:08:50 GMT", time.Minute},
		{"Tue May 30 15:08:50 2017", time.Minute},
		{"Tue, 30 May 2017 15:07:50 GMT", time.Second},
		{"Mon, 29 May 2017 15:07:50 GMT", time.Second},
		{"Wed, 31 May 2017 15:07:50 GMT", time.Hour},
		{"-5", 0},
		{"+5", 0},
		{"1.5", 0},
		{"5s", 0},
		{"5, 6", 0},
		{"soon", 0},
		{"2017-05-30T15:08:50Z", 0},
		{"٥", 0}, // a digit, but not one of HTTP's
	}
	for _, c := range cases {
		if got := parseRetryAfter(c.value, now); got != c.want {
			t.Errorf("parseRetryAfter(%q) = %s, want %s", c.value, got, c.want)
		}
	}
}
