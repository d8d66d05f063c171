package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/agentevents/agentevents/store"
)

var limitedCaller = store.Caller{Client: "12", RequestLimit: 5}

// wantRequest counts a request and compares the result.
func wantRequest(t *testing.T, s *store.Store, c store.Caller, want int64, wantOK bool) {
	t.Helper()
	r, ok := s.CountRequest(c)
	if again := s.Requests(c); r.Made != want || ok != wantOK || again != r {
		t.Errorf("request %+v, ok %v, and then %+v; want %d, ok %v", r, ok, again, want, wantOK)
	}
}

func TestRequestsAreLimitedPerHour(t *testing.T) {
	f := open(t)
	f.agent()
	for i := range int64(5) {
		wantRequest(t, f.Store, limitedCaller, i+1, true)
	}
	wantRequest(t, f.Store, limitedCaller, 5, false)
	wantRequest(t, f.Store, store.Caller{Client: "12", RequestLimit: 7}, 6, true)
	wantRequest(t, f.Store, store.Caller{Client: "13", RequestLimit: 1}, 1, true)
	f.limits("12", 1000, 0, 10_000, 1, 100_000, 6)
	for range 3 {
		wantRequest(t, f.Store, store.Caller{}, 0, true) // an operator
	}
	if r := f.Requests(store.Caller{}); r.Limit != store.NoLimit {
		t.Errorf("an operator has %+v", r)
	}
	if r := f.Requests(limitedCaller); r.Limit != 5 || r.Left != 52*time.Minute+10*time.Second {
		t.Errorf("%+v at 15:07:50", r)
	}
	f.clock.add(52*time.Minute + 9999*time.Millisecond)
	wantRequest(t, f.Store, limitedCaller, 6, false)
	f.clock.add(time.Millisecond)
	wantRequest(t, f.Store, limitedCaller, 1, true)
	if r := f.Requests(limitedCaller); r.Left != time.Hour {
		t.Errorf("%+v at the beginning of the hour", r)
	}
}

// Counts survive a restart, and processes on one database add up theirs.
func TestRequestsAreShared(t *testing.T) {
	f := open(t)
	wantRequest(t, f.Store, limitedCaller, 1, true)
	f.check(f.ShareRequests(f.ctx))
	wantRequest(t, f.Store, limitedCaller, 2, true)
	other, err := store.OpenAlongside(f.ctx, store.Options{URL: f.url, Now: f.clock.Now, Log: f.log})
	f.check(err)
	defer other.Close()
	f.check(other.ShareRequests(f.ctx))
	wantRequest(t, other, limitedCaller, 2, true)
	for range 2 {
		f.check(other.ShareRequests(f.ctx))
		f.check(f.ShareRequests(f.ctx))
	}
	wantRequest(t, other, limitedCaller, 4, true)
	wantRequest(t, f.Store, limitedCaller, 4, true)
	f.check(other.ShareRequests(f.ctx))
	f.check(f.ShareRequests(f.ctx))
	wantRequest(t, f.Store, limitedCaller, 5, false)
	f.check(other.Close())
	f.restart()
	wantRequest(t, f.Store, limitedCaller, 5, false)

	f.clock.add(2 * time.Hour)
	wantRequest(t, f.Store, limitedCaller, 1, true)
	f.check(f.ShareRequests(f.ctx))
	if n := f.count("SELECT sum(made) FROM requests"); n != 1 {
		t.Errorf("after two hours the table has %d requests", n)
	}
}

func TestRequestsAreCountedWhileTheyAreWritten(t *testing.T) {
	f := open(t)
	busy := store.Caller{Client: "12", RequestLimit: 1500}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 500 {
				f.CountRequest(busy)
			}
		})
	}
	for range 10 {
		f.check(f.ShareRequests(f.ctx))
	}
	group.Wait()
	f.check(f.ShareRequests(f.ctx))
	wantRequest(t, f.Store, busy, 1500, false)
	f.restart()
	wantRequest(t, f.Store, busy, 1500, false)
}
