package auth

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestThrottleCountsByAddressAndApplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle(time.Now)
		fails := func(n int, address, application string) {
			t.Helper()
			for i := range n {
				if !th.allow(address, application) {
					t.Fatalf("failure %d of %s for %q is refused", i+1, address, application)
				}
			}
			if th.allow(address, application) {
				t.Fatalf("failure %d of %s for %q is allowed", n+1, address, application)
			}
		}
		fails(10, "1.2.3.4", "a")
		fails(10, "1.2.3.4", "b")
		fails(10, "1.2.3.4", "")
		fails(10, "1.2.3.5", "a")
		fails(0, "::ffff:1.2.3.4", "a")
		fails(10, "2001:db8::1", "a")
		fails(0, "2001:db8::2:0:0:1", "a")
		fails(10, "2001:db8:0:1::1", "a")
		time.Sleep(failureInterval)
		fails(1, "1.2.3.4", "a")
		time.Sleep(3 * failureInterval)
		fails(3, "1.2.3.4", "a")
		time.Sleep(time.Hour)
		fails(10, "1.2.3.4", "a")
	})
}

func TestThrottleIsBounded(t *testing.T) {
	th := NewThrottle(time.Now)
	for i := range maxThrottled + 1000 {
		th.allow("1.2.3.4", fmt.Sprint(i))
	}
	if n := th.failures.Len(); n != maxThrottled {
		t.Errorf("the throttle has %d counters", n)
	}
}

func TestThrottleAllowsNoConcurrentSurplus(t *testing.T) {
	now := time.Now()
	th := NewThrottle(func() time.Time { return now })
	var group sync.WaitGroup
	var allowed atomic.Int64
	for range 100 {
		group.Go(func() {
			if th.allow("1.2.3.4", "a") {
				allowed.Add(1)
			}
		})
	}
	group.Wait()
	if n := allowed.Load(); n != maxFailures {
		t.Errorf("%d of 100 concurrent failures are allowed", n)
	}
}
