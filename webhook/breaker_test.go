package webhook

import (
	"errors"
	"testing"
	"time"
)

// What every status says of its receiver, with a Retry-After and without.
func TestHealth(t *testing.T) {
	for status := 100; status <= 599; status++ {
		for _, retryAfter := range []time.Duration{0, time.Second} {
			want := Alive
			switch {
			case status == 408, status == 425, status == 429, status == 503 && retryAfter > 0:
				want = Unclear
			case status >= 500:
				want = Down
			}
			a := Attempt{Status: status, Verdict: Judge(status, nil), RetryAfter: retryAfter}
			if got := a.Health(); got != want {
				t.Errorf("%d with Retry-After %v: %d, want %d", status, retryAfter, got, want)
			}
		}
	}
}

func TestHealthWithoutAnswer(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want Health
	}{
		{"timeout", timeoutError(time.Second), Down},
		{"connection", errors.New("connection refused"), Down},
		{"forbidden address", &RefusedError{Reason: "private"}, Unclear},
	} {
		a := Attempt{Error: test.err.Error(), Verdict: Judge(0, test.err)}
		if got := a.Health(); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestRecoveryDelay(t *testing.T) {
	for failed, want := range []time.Duration{5, 10, 30, 60, 60, 60} {
		if got := RecoveryDelay(failed); got != want*time.Second {
			t.Errorf("after %d probes: %v, want %v s", failed, got, int(want))
		}
	}
}
