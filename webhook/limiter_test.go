package webhook

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// takeAll takes all free slots for a receiver.
func takeAll(s *limiter, receiver int64) (n int) {
	for s.take("", receiver) {
		n++
	}
	return n
}

func TestLimiterStartsWithOneSlotAndDoubles(t *testing.T) {
	s := newLimiter(100, 5)
	for _, want := range []int{1, 2, 4, 5, 5} {
		if got := takeAll(s, 7); got != want {
			t.Fatalf("%d slots, want %d", got, want)
		}
		for range want {
			s.release(7)
		}
		s.learn(7, true, false)
	}
	s.learn(7, false, false)
	if got := takeAll(s, 7); got != 2 {
		t.Errorf("%d slots after a failure, want half", got)
	}
}

// The usual client has thousands of agents and one receiver: even a slow one gets several requests at a time.
func TestLimiterLetsASlowReceiverGrow(t *testing.T) {
	s := newLimiter(100, 5)
	for want := 1; want <= 4; want++ {
		if got := takeAll(s, 7); got != want {
			t.Fatalf("%d slots, want %d", got, want)
		}
		s.late(7)
		s.learn(7, true, true)
		for range want {
			s.release(7)
		}
	}
}

func TestLimiterGivesSlowReceiversHalf(t *testing.T) {
	s := newLimiter(10, 5)
	for range 3 {
		s.learn(1, true, false)
	}
	for r := int64(100); r <= 105; r++ {
		s.learn(r, false, false)
		if s.take("", r) != (r < 105) {
			t.Fatalf("receiver %d was refused, or given more than half", r)
		}
	}
	if free, _, full := s.room(); free != 5 || !slices.Contains(full, 105) || slices.Contains(full, 1) {
		t.Errorf("room: %d, full: %v; what was refused must be named, or a claim finds it again and again", free, full)
	}
	if got := takeAll(s, 1); got != 5 {
		t.Errorf("the quick one has %d slots, want its half", got)
	}
	if !s.release(100) || s.take("", 1) || !s.take("", 105) {
		t.Error("a slot of the slow did not go to the next of them")
	}
}

// Receivers that hang do not block receivers without an attempt yet, and the other way round.
func TestLimiterGivesNewReceiversAQuarter(t *testing.T) {
	s := newLimiter(8, 4)
	for r := int64(100); r < 104; r++ {
		s.take("", r)
		s.late(r)
	}
	if !s.take("", 1) || !s.take("", 2) || s.take("", 3) {
		t.Error("not two of eight slots went to new receivers")
	}
	if s.late(1); s.take("", 3) {
		t.Error("those that hang and those that are new have more than three quarters")
	}
	if s.release(100); !s.take("", 3) {
		t.Error("one that is late still counts as new")
	}
	if len(s.receivers) != 7 {
		t.Errorf("%d receivers are kept, want all", len(s.receivers))
	}
}

// However many new receivers hang, quick receivers get their slots.
func TestLimiterIsNotFloodedByNewReceivers(t *testing.T) {
	s := newLimiter(1024, 32)
	s.learn(1, true, false)
	next := int64(100)
	for range 10 { // seconds
		first := next
		for s.take("", next) {
			next++
		}
		for id := first; id < next; id++ {
			s.late(id)
		}
	}
	if free, _, _ := s.room(); free != 256 || !s.take("", 1) {
		t.Errorf("%d slots are free, want a quarter", free)
	}
}

// If a few quick receivers with many lanes begin to hang, slots are left for the others.
func TestLimiterGivesQuickReceiversOneSlotEachBeyondHalf(t *testing.T) {
	s := newLimiter(8, 8)
	for _, r := range []int64{1, 2, 3} {
		for range 3 {
			s.learn(r, true, false)
		}
	}
	if a, b, c := takeAll(s, 1), takeAll(s, 2), takeAll(s, 3); a != 4 || b != 1 || c != 1 {
		t.Errorf("they have %d, %d and %d slots, want 4, 1 and 1", a, b, c)
	}
	for range 2 {
		s.release(1)
	}
	if s.release(1); !s.take("", 3) {
		t.Error("below half, there is no second slot")
	}
}

func TestLimiterForgetsOnlyNewReceivers(t *testing.T) {
	s := newLimiter(4, 1)
	for _, r := range []int64{1, 2, 3} {
		s.take("", r)
	}
	s.learn(1, true, false)
	s.learn(2, false, false)
	for _, r := range []int64{1, 2} {
		s.release(r)
	}
	s.take("", 3)
	s.release(3)
	if len(s.receivers) != 2 {
		t.Errorf("%d receivers are kept, want the quick and the failing one", len(s.receivers))
	}
}

// meet makes one attempt at a receiver, and ends it.
func meet(s *limiter, receiver int64, ok bool) {
	s.take("", receiver)
	s.learn(receiver, ok, false)
	s.release(receiver)
}

// Idle receivers beyond the bound of their kind are forgotten, and slow ones do not evict quick ones.
func TestLimiterForgetsTheLongestIdle(t *testing.T) {
	s := newLimiter(1024, 32)
	meet(s, 1, true)
	for _, id := range ids(1000, 100_000) {
		meet(s, id, false)
	}
	if n := len(s.receivers); n != maxIdle[slow]+1 {
		t.Errorf("%d receivers are kept, want %d that failed and a quick one", n, maxIdle[slow])
	}
	if s.of(1).last != quick || s.of(100_999).last != slow || s.of(1000).last != unknown {
		t.Error("not those were forgotten that are idle for longest")
	}
	s.take("", 2)
	for _, id := range ids(200_000, 100_000) {
		meet(s, id, true)
	}
	if n := len(s.receivers); n > 2+maxIdle[slow]+maxIdle[quick] || s.of(2).used != 1 {
		t.Errorf("%d receivers are kept, and %d attempts at the one that was in use for long", n, s.of(2).used)
	}
}

// Refused receivers are remembered only as long as they would be refused again.
func TestLimiterForgetsRefusedReceivers(t *testing.T) {
	s := newLimiter(4, 1)
	s.take("", 1)
	for _, id := range ids(100, 50_000) {
		s.take("", id)
	}
	if _, _, full := s.room(); len(full) != 50_001 || len(s.receivers) != 50_001 {
		t.Errorf("%d are full and %d kept, want all: a claim would find them again and again", len(full),
			len(s.receivers))
	}
	s.release(1)
	if _, _, full := s.room(); len(full) != 0 || len(s.receivers) != 0 {
		t.Errorf("%d are full and %d kept, and there is room", len(full), len(s.receivers))
	}
}

// The cost of a claim does not grow with the number of receivers that were ever known.
func BenchmarkSlotsRoom(b *testing.B) {
	s := newLimiter(1024, 32)
	for _, id := range ids(1000, 100_000) {
		meet(s, id, id%2 == 0)
	}
	for b.Loop() {
		s.room()
	}
}

// limiterModel forgets no receiver and counts from the start each time.
type limiterModel struct {
	total, most int
	receivers   map[int64]*receiverLimit
	waiting     map[int64]bool // receivers that were refused, with no room reported since
}

func (m *limiterModel) used(kinds ...int) (n int) {
	for _, r := range m.receivers {
		if len(kinds) == 0 || slices.Contains(kinds, r.kind()) {
			n += r.used
		}
	}
	return n
}

func (m *limiterModel) of(receiver int64) *receiverLimit {
	if m.receivers[receiver] == nil {
		m.receivers[receiver] = &receiverLimit{allowed: 1}
	}
	return m.receivers[receiver]
}

func (m *limiterModel) free(receiver int64) bool {
	r := m.of(receiver)
	if m.used() >= m.total || r.used >= r.allowed {
		return false
	}
	switch r.kind() {
	case unknown:
		return 4*m.used(unknown) < m.total && 4*m.used(unknown, slow) < 3*m.total
	case quick:
		return r.used == 0 || 2*m.used(quick) < m.total
	}
	return 2*m.used(slow) < m.total
}

func TestLimiterAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &limiterModel{
			total: rapid.IntRange(1, 12).Draw(t, "total"), most: rapid.IntRange(1, 5).Draw(t, "most"),
			receivers: map[int64]*receiverLimit{}, waiting: map[int64]bool{},
		}
		s := newLimiter(m.total, m.most)
		receiver := rapid.Int64Range(1, 6)
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				id := receiver.Draw(t, "receiver")
				want := m.free(id)
				if s.take("", id) != want {
					t.Fatalf("take(%d) = %v", id, !want)
				}
				if want {
					m.of(id).used++
				} else {
					m.waiting[id] = true
				}
			},
			"release": func(t *rapid.T) {
				id := receiver.Draw(t, "receiver")
				if m.of(id).used == m.of(id).late {
					t.Skip("nothing is taken but what is late")
				}
				before := m.refused()
				made := s.release(id)
				m.of(id).used--
				m.compareMade(t, before, made)
			},
			"learn": func(t *rapid.T) {
				id, ok := receiver.Draw(t, "receiver"), rapid.Bool().Draw(t, "ok")
				before := m.refused()
				made := s.learn(id, ok, false)
				r := m.of(id)
				if r.last = slow; ok {
					r.last, r.allowed = quick, min(2*r.allowed, m.most)
				} else {
					r.allowed = max(r.allowed/2, 1)
				}
				m.compareMade(t, before, made)
			},
			"late": func(t *rapid.T) {
				id := receiver.Draw(t, "receiver")
				if r := m.of(id); r.late < r.used {
					before := m.refused()
					made := s.late(id)
					r.late, r.last = r.late+1, slow
					m.compareMade(t, before, made)
				}
			},
			"late no more": func(t *rapid.T) {
				id, ok := receiver.Draw(t, "receiver"), rapid.Bool().Draw(t, "ok")
				r := m.of(id)
				if r.late == 0 {
					t.Skip("nothing is late")
				}
				before := m.refused()
				made := s.learn(id, ok, true)
				if r.late, r.last = r.late-1, slow; ok {
					r.allowed = min(r.allowed+1, m.most)
				} else {
					r.allowed = max(r.allowed/2, 1)
				}
				m.compareMade(t, before, made)
			},
			"": func(t *rapid.T) { m.compare(t, s) },
		})
	})
}

// refused are the receivers that have no free slot.
func (m *limiterModel) refused() (all []int64) {
	for id := range m.receivers {
		if !m.free(id) {
			all = append(all, id)
		}
	}
	return all
}

// compareMade fails if there is room for a refused receiver and the limiter has not reported it: its lanes would wait
// for nothing.
func (m *limiterModel) compareMade(t *rapid.T, refused []int64, made bool) {
	for _, id := range refused {
		if m.waiting[id] && m.free(id) && !made {
			t.Fatalf("there is room for receiver %d, and it is not reported", id)
		}
	}
	if made {
		clear(m.waiting)
	}
}

func (m *limiterModel) compare(t *rapid.T, s *limiter) {
	want := [kinds]int{m.used(unknown), m.used(quick), m.used(slow)}
	if s.used != want || m.used() > m.total {
		t.Fatalf("used %v, want %v of %d", s.used, want, m.total)
	}
	free, _, full := s.room()
	if free != m.total-m.used() {
		t.Fatalf("room for %d, want %d", free, m.total-m.used())
	}
	for id, r := range m.receivers {
		listed := slices.Contains(full, id)
		m.waiting[id] = m.waiting[id] || listed || free == 0
		if listed && m.free(id) || !listed && r.used > 0 && !m.free(id) {
			t.Fatalf("receiver %d has a free slot: %v; full are %v", id, m.free(id), full)
		}
	}
}

func TestDispatchBoundsEachReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{PerReceiver: 8}, after(100*time.Millisecond, says(200)))
		for lane := range int64(100) {
			r.add(1, lane, 10)
		}
		r.run().pass(time.Minute)
		r.wantLeft(0, 0)
		for i, a := range r.arrivals() {
			// One has succeeded after 100 ms, and two more after 200.
			if want := 1 << min(1<<min(a.at/(100*time.Millisecond), 2)-1, 3); a.inAll > want {
				t.Fatalf("request %d, at %s, was one of %d, want at most %d", i, a.at, a.inAll, want)
			}
		}
		if took := r.at()[999]; took > 15*time.Second {
			t.Errorf("the last arrived after %s: the bound was not used", took)
		}
	})
}

func TestDispatchLeavesAFailingReceiverAtOneSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{}, after(100*time.Millisecond, says(500)))
		for lane := range int64(20) {
			r.add(1, lane, 1)
		}
		r.run().pass(time.Minute)
		for _, a := range r.arrivals() {
			if a.inAll != 1 {
				t.Fatalf("%d requests were in flight at a receiver that only fails", a.inAll)
			}
		}
	})
}

// prove adds deliveries until the receivers have earned all their slots.
func (r *rig) prove(receivers ...int64) {
	for _, id := range receivers {
		for lane := range int64(4) {
			r.add(id, 1e6+10*id+lane, 2)
		}
	}
	r.pass(time.Second)
	r.wantLeft(0, 0)
}

// A receiver that was quick begins to hang. That counts after a second, not only at the timeout.
func TestDispatchCountsAHangingReceiverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := false
		r := setUp(t, DispatcherOptions{Slots: 8, PerReceiver: 4}, func(req *http.Request) (*http.Response, error) {
			if hanging && receiver(req) == 1 {
				return hangs(req)
			}
			return says(200)(req)
		})
		r.run().prove(1, 2)
		r.d.limiter.learn(3, false, false)
		r.d.limiter.learn(4, false, false)
		hanging = true
		for lane := range int64(4) {
			r.add(1, lane, 1)
		}
		r.pass(slowAfter - 1)
		r.add(3, 30, 1) // not known yet
		r.pass(0)
		r.wantLeft(4, 4)
		r.pass(1)
		r.add(2, 20, 1) // proven
		r.add(4, 40, 1) // it has failed, and the hanging one has that half
		r.pass(0)
		r.wantLeft(5, 4)
		r.pass(9 * time.Second)
		r.wantLeft(4, 0)
	})
}

// serve adds deliveries for healthy receivers for a while, and returns the longest time until one arrived.
func (r *rig) serve(healthy []int64, t time.Duration) (worst time.Duration) {
	before := len(r.arrivals())
	for start, tick := time.Now(), int64(0); time.Since(start) < t; tick++ {
		for _, id := range healthy {
			if (id+tick)%3 == 0 {
				r.add(id, 10*id+tick%7, 1)
			}
		}
		r.pass(time.Second / 4)
	}
	for _, a := range r.arrivals()[before:] {
		if slices.Contains(healthy, int64(a.receiver)) {
			worst = max(worst, a.waited)
		}
	}
	return worst
}

// ids are n ids from first on.
func ids(first, n int64) (all []int64) {
	for id := range n {
		all = append(all, first+id)
	}
	return all
}

func TestHangingReceiversDelayNoOther(t *testing.T) {
	for _, slots := range []int{1024, 64} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := setUp(t, DispatcherOptions{Slots: slots}, func(req *http.Request) (*http.Response, error) {
					if receiver(req) >= 100 {
						return hangs(req)
					}
					return after(20*time.Millisecond, says(200))(req)
				})
				healthy := ids(0, 100)
				r.run().prove(healthy...)
				for _, id := range ids(100, 300) {
					for lane := range int64(3) {
						r.add(id, 10*id+lane, 1)
					}
				}
				r.pass(time.Millisecond) // they have waited longer
				if worst := r.serve(healthy, 6*time.Second); worst > 50*time.Millisecond {
					t.Errorf("a healthy receiver waited %s", worst)
				}
			})
		})
	}
}

// Quick receivers with many lanes that begin to hang take few slots from others, even before they are late, and few
// from new receivers.
func TestDispatchLeavesRoomWhenManyBeginToHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := false
		r := setUp(t, DispatcherOptions{}, func(req *http.Request) (*http.Response, error) {
			if n := receiver(req); hanging && n >= 100 && n < 400 {
				return hangs(req)
			}
			return after(20*time.Millisecond, says(200))(req)
		})
		healthy, others := ids(0, 100), ids(100, 300)
		r.run().prove(append(healthy, others...)...)
		hanging = true
		for lane := range int64(5) {
			for _, id := range others {
				r.add(id, 10*id+lane, 1)
			}
		}
		r.pass(time.Millisecond) // they have waited longer
		if worst := r.serve(append(healthy, ids(1000, 20)...), 12*time.Second); worst > 50*time.Millisecond {
			t.Errorf("a healthy receiver waited %s", worst)
		}
	})
}

// A receiver where some requests hang and others do not counts as slow as long as one hangs.
func TestDispatchCountsAHangingReceiverAmongSuccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{Slots: 8, PerReceiver: 4}, func(req *http.Request) (*http.Response, error) {
			if slices.Contains([]string{"0", "1", "2", "30", "31"}, lane(req)) {
				return hangs(req)
			}
			return after(100*time.Millisecond, says(200))(req)
		})
		r.run().prove(5)
		r.add(5, 50, 200) // succeeds all the time
		for lane := range int64(3) {
			r.add(5, lane, 1)
		}
		r.pass(slowAfter + time.Second)
		r.d.limiter.learn(6, false, false)
		r.d.limiter.learn(7, false, false)
		r.add(6, 30, 1)
		r.add(7, 31, 1)
		r.pass(0)
		for _, a := range r.arrivals() {
			if a.receiver == 6 || a.receiver == 7 {
				t.Errorf("receiver %d was served: three that hang and the one next to them fill the half", a.receiver)
			}
		}
		r.pass(9 * time.Second)
		r.d.limiter.mu.Lock()
		defer r.d.limiter.mu.Unlock()
		if five := r.d.limiter.of(5); five.kind() != quick {
			t.Errorf("the receiver is %+v: it has proven itself again", five)
		}
	})
}

// Receivers that cannot be served do not block others, however many they are.
func TestDispatchLooksPastARefusedReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setUp(t, DispatcherOptions{Slots: 8}, func(req *http.Request) (*http.Response, error) {
			if receiver(req) != 1 {
				return hangs(req)
			}
			return says(200)(req)
		})
		r.run().prove(1)
		for _, id := range ids(100, 60) {
			r.add(id, id, 1)
		}
		r.pass(time.Millisecond) // they have waited longer
		r.add(1, 1, 1)
		before := len(r.calls("Claim"))
		r.pass(0)
		r.wantLeft(60, 2)
		if n := len(r.calls("Claim")) - before; n > 60 {
			t.Errorf("%d claims", n)
		}
	})
}
