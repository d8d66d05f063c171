package webhook

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// The answers of a receiver in deployment, which are tried again, and others.
func TestSendToAReceiverThatIsBeingDeployed(t *testing.T) {
	again := []int{401, 403, 404, 405}
	status := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
	}))
	defer server.Close()
	s := loopbackSender(t, ample)
	for status = 200; status <= 599; status++ {
		if status == http.StatusNotModified || status == http.StatusNoContent {
			continue // which have no body, and are of no other kind than their neighbours
		}
		d := to(server.URL, gen.RequestMethodPOST)
		final := s.Send(t.Context(), d)
		if want := Judge(status, nil); final.Verdict != want {
			t.Errorf("%d, when the time for that is over: %s, want %s", status, final.Verdict, want)
		}
		d.DeployingUntil = time.Now().Add(time.Minute)
		want := final.Verdict
		if status >= 300 && status < 400 || slices.Contains(again, status) {
			want = Retry
		}
		if got := s.Send(t.Context(), d); got.Verdict != want || got.Error != "" {
			t.Errorf("%d, within the time for that: %s, %q, want %s", status, got.Verdict, got.Error, want)
		} else if got.Health() == Down != (status >= 500) {
			t.Errorf("%d says that its receiver is down: %t", status, got.Health() == Down)
		}
	}
}

// The last attempt at a receiver in deployment is at the end of that time, and not later.
func TestDeployingIsTriedUntilItsEnd(t *testing.T) {
	s := DefaultSchedule()
	a := Attempt{Status: 404, Verdict: Retry}
	d := Delivery{Attempt: 5, Failures: 4, DeployingUntil: time.Now().Add(time.Minute)}
	if got := s.Outcome(d, a).Delay; got <= 50*time.Second || got > time.Minute {
		t.Errorf("waits %s, want the minute that is left of half an hour", got)
	}
	d.Failures = 0
	if got := s.Outcome(d, a).Delay; got > 6*time.Second {
		t.Errorf("waits %s, want the schedule's 5 s", got)
	}
	a.Status = 500
	d.Failures = 4
	if got := s.Outcome(d, a).Delay; got < 20*time.Minute {
		t.Errorf("a 500 waits %s, want the schedule's half hour", got)
	}
}

// The wait of a delivery for its receiver grows with the receiver's failures alone, and is never longer than the wait
// for its own failures.
func TestRecoveryDelayGrowsWithReceiverFailures(t *testing.T) {
	s := Schedule{Delays: []time.Duration{time.Second, time.Hour}}
	down := Attempt{Verdict: Retry, Error: "the receiver refused the connection"}
	for _, test := range []struct {
		d               Delivery
		a               Attempt
		delay, recovery time.Duration
	}{
		{Delivery{Attempt: 1}, down, time.Second, time.Second},
		{Delivery{Attempt: 2, Failures: 1}, down, time.Hour, 5 * time.Second},
		{Delivery{Attempt: 3, Failures: 1}, down, time.Hour, 10 * time.Second},
		{Delivery{Attempt: 4, Failures: 1}, down, time.Hour, 30 * time.Second},
		{Delivery{Attempt: 300, Failures: 1}, down, time.Hour, time.Minute},
		{
			Delivery{Attempt: 2},
			Attempt{Status: 429, Verdict: Retry, RetryAfter: time.Minute},
			time.Minute,
			10 * time.Second,
		},
		{Delivery{Attempt: 2}, Attempt{Status: 200, Verdict: Delivered}, 0, 0},
	} {
		if o := s.Outcome(test.d, test.a); o.Delay != test.delay || o.Recovery != test.recovery {
			t.Errorf("attempt %d, %d failures, %s: %s and %s, want %s and %s",
				test.d.Attempt, test.d.Failures, test.a.Verdict, o.Delay, o.Recovery, test.delay, test.recovery)
		}
	}
}
