package main

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentevents/agentevents/gen"
)

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newThrottle(time.Now)
		fails := func(n int, address, application string) {
			t.Helper()
			for i := range n {
				if !th.allow(address, application) {
					t.Fatalf("failure %d of %s for %q is one too many", i+1, address, application)
				}
			}
			if th.allow(address, application) {
				t.Fatalf("failure %d of %s for %q is not one too many", n+1, address, application)
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
		time.Sleep(failureEvery)
		fails(1, "1.2.3.4", "a")
		time.Sleep(3 * failureEvery)
		fails(3, "1.2.3.4", "a")
		time.Sleep(time.Hour)
		fails(10, "1.2.3.4", "a")
	})
}

func TestThrottleIsBounded(t *testing.T) {
	th := newThrottle(time.Now)
	for i := range mostThrottled + 1000 {
		th.allow("1.2.3.4", fmt.Sprint(i))
	}
	if n := th.failures.Len(); n != mostThrottled {
		t.Errorf("%d are remembered", n)
	}
}

func TestThrottleUnderConcurrency(t *testing.T) {
	now := time.Now()
	th := newThrottle(func() time.Time { return now })
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
	if n := allowed.Load(); n != mostFailures {
		t.Errorf("%d of 100 failures at once are allowed", n)
	}
}

// tokenFailures is how often an application may fail at once to get a token.
const tokenFailures = 10

// Who fails waits, for that application alone; who succeeds never does, however often.
func TestTokenThrottle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withClient()
	made, other := w.application(gen.AccessLevelAll), w.application(gen.AccessLevelAll)
	fail := func(id string, status int) {
		t.Helper()
		body := credentials(gen.ApplicationSecret{ID: id, Secret: "x"}).Encode()
		a := w.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		if throttled := a.header.Get("Retry-After") == "6"; a.status != status || throttled != (status == http.StatusTooManyRequests) {
			t.Errorf("%d %s, Retry-After %q; want %d", a.status, a.body, a.header.Get("Retry-After"), status)
		}
	}
	w.failures(made.ID)
	fail(made.ID, http.StatusTooManyRequests)
	fail(other.ID, http.StatusBadRequest)
	for range tokenFailures {
		fail("x", http.StatusBadRequest)
	}
	fail("x", http.StatusTooManyRequests) // as if there were one
	for range 30 {
		w.token(made)
	}
	fail(made.ID, http.StatusTooManyRequests)
}

// failures has an application's secret be wrong as often as it may at once.
func (w *world) failures(id string) {
	w.Helper()
	for range tokenFailures {
		body := credentials(gen.ApplicationSecret{ID: id, Secret: "x"}).Encode()
		a := w.send(scenario{request: "POST /oauth/token", body: body, header: formType})
		w.same("a failure", invalidClient, a.body)
	}
}
