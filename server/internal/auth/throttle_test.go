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

// A guesser cannot have its failures forgotten by sending other ids meanwhile.
func TestThrottleKeepsItsVictim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle(time.Now)
		for range maxFailures {
			th.allow("1.2.3.4", "victim")
		}
		for i := range maxAddresses + 1000 {
			th.allow("1.2.3.4", fmt.Sprint(i))
		}
		if th.allow("1.2.3.4", "victim") {
			t.Error("the failures of one id are forgotten after those of many others")
		}
		f, _ := th.failures.Get(networkOf("1.2.3.4"))
		if n := len(f.byID); n != maxApplications {
			t.Errorf("the failures of %d ids are counted apart", n)
		}
		if !th.allow("1.2.3.5", "victim") {
			t.Error("another address has no failure left")
		}
		time.Sleep(maxFailures * failureInterval)
		for i := range 2 * maxApplications {
			if !th.allow("1.2.3.4", fmt.Sprint("later", i)) && i < maxApplications+maxFailures {
				t.Errorf("the first failure of id %d is one too many", i)
			}
		}
	})
}

func TestThrottleIsBounded(t *testing.T) {
	th := NewThrottle(time.Now)
	for i := range maxAddresses + 1000 {
		th.allow(fmt.Sprintf("10.0.%d.%d", i/256, i%256), "a")
	}
	if n := th.failures.Len(); n != maxAddresses {
		t.Errorf("the throttle has %d addresses", n)
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
