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

// takeAll takes as many slots for a receiver as there are.
func takeAll(s *slots, receiver int64) (n int) {
	for s.take(receiver) {
		n++
	}
	return n
}

func TestSlotsStartWithOneAndDouble(t *testing.T) {
	s := newSlots(100, 5)
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

// The usual client has thousands of agents and one receiver: a slow one is not to be served one by one.
func TestSlotsOfASlowReceiverGrow(t *testing.T) {
	s := newSlots(100, 5)
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

func TestSlotsOfUnprovenReceiversAreHalf(t *testing.T) {
	s := newSlots(10, 5)
	s.learn(1, true, false)
	s.learn(1, true, false)
	s.learn(1, true, false)
	for r := int64(100); r < 105; r++ {
		if !s.take(r) {
			t.Fatalf("receiver %d was refused", r)
		}
	}
	if s.take(105) {
		t.Error("the unproven have more than half")
	}
	if free, full := s.room(); free != 5 || !slices.Contains(full, 105) || slices.Contains(full, 1) {
		t.Errorf("room: %d, full: %v; what was refused must be named, or a claim finds it again and again", free, full)
	}
	if got := takeAll(s, 1); got != 5 {
		t.Errorf("the quick one has %d slots, want its half", got)
	}
	s.release(100)
	if s.take(1) || !s.take(105) {
		t.Error("a slot of the unproven did not go to the next of them")
	}
}

func TestSlotsForgetOnlyWhoIsAsGoodAsNew(t *testing.T) {
	s := newSlots(2, 1)
	s.take(1)
	s.learn(1, true, false)
	s.release(1)
	s.take(2)
	if !s.take(1) {
		t.Error("a quick receiver is not known as such, at one slot for each")
	}
	s.release(2)
	if len(s.receivers) != 1 {
		t.Errorf("%d receivers are kept, want the quick one", len(s.receivers))
	}
}

// slotsModel forgets nobody and sums anew each time.
type slotsModel struct {
	total, most int
	receivers   map[int64]*slot
}

func (m *slotsModel) used(all bool) (n int) {
	for _, r := range m.receivers {
		if all || !r.quick || r.late > 0 {
			n += r.used
		}
	}
	return n
}

func (m *slotsModel) of(receiver int64) *slot {
	if m.receivers[receiver] == nil {
		m.receivers[receiver] = &slot{allowed: 1}
	}
	return m.receivers[receiver]
}

func (m *slotsModel) free(receiver int64) bool {
	r := m.of(receiver)
	return m.used(true) < m.total && r.used < r.allowed &&
		(r.quick && r.late == 0 || m.used(false) < (m.total+1)/2)
}

func TestSlotsAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &slotsModel{
			total: rapid.IntRange(1, 12).Draw(t, "total"), most: rapid.IntRange(1, 5).Draw(t, "most"),
			receivers: map[int64]*slot{},
		}
		s := newSlots(m.total, m.most)
		receiver := rapid.Int64Range(1, 6)
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				id := receiver.Draw(t, "receiver")
				want := m.free(id)
				if s.take(id) != want {
					t.Fatalf("take(%d) = %v", id, !want)
				}
				if want {
					m.of(id).used++
				}
			},
			"release": func(t *rapid.T) {
				id := receiver.Draw(t, "receiver")
				if m.of(id).used == m.of(id).late {
					t.Skip("nothing is taken but what is late")
				}
				s.release(id)
				m.of(id).used--
			},
			"learn": func(t *rapid.T) {
				id, ok := receiver.Draw(t, "receiver"), rapid.Bool().Draw(t, "ok")
				s.learn(id, ok, false)
				r := m.of(id)
				if r.quick = ok; ok {
					r.allowed = min(2*r.allowed, m.most)
				} else {
					r.allowed = max(r.allowed/2, 1)
				}
			},
			"late": func(t *rapid.T) {
				id := receiver.Draw(t, "receiver")
				if r := m.of(id); r.late < r.used {
					s.late(id)
					r.late, r.quick = r.late+1, false
				}
			},
			"late no more": func(t *rapid.T) {
				id, ok := receiver.Draw(t, "receiver"), rapid.Bool().Draw(t, "ok")
				r := m.of(id)
				if r.late == 0 {
					t.Skip("nothing is late")
				}
				s.learn(id, ok, true)
				if r.late, r.quick = r.late-1, false; ok {
					r.allowed = min(r.allowed+1, m.most)
				} else {
					r.allowed = max(r.allowed/2, 1)
				}
			},
			"": func(t *rapid.T) { m.compare(t, s) },
		})
	})
}

func (m *slotsModel) compare(t *rapid.T, s *slots) {
	if s.used != m.used(true) || s.unproven != m.used(false) || s.used > m.total {
		t.Fatalf("used %d, unproven %d; want %d, %d of %d", s.used, s.unproven, m.used(true), m.used(false), m.total)
	}
	free, full := s.room()
	if free != m.total-m.used(true) {
		t.Fatalf("room for %d, want %d", free, m.total-m.used(true))
	}
	for id, r := range m.receivers {
		listed := slices.Contains(full, id)
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
			if want := min(8, 1<<min(a.at/(100*time.Millisecond), 10)); a.inAll > want {
				t.Fatalf("request %d, at %s, was one of %d, want at most %d", i, a.at, a.inAll, want)
			}
		}
		if took := r.at()[999]; took > 15*time.Second {
			t.Errorf("the last arrived after %s: the bound was not used", took)
		}
	})
}

func TestDispatchLeavesWhoFailsAtOne(t *testing.T) {
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

// prove has receivers deliver quickly until they have earned all slots that they can.
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
func TestDispatchCountsWhoHangsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := false
		r := setUp(t, DispatcherOptions{Slots: 8, PerReceiver: 4}, func(req *http.Request) (*http.Response, error) {
			if hanging && receiver(req) == 1 {
				return hangs(req)
			}
			return says(200)(req)
		})
		r.run().prove(1, 2)
		hanging = true
		for lane := range int64(4) {
			r.add(1, lane, 1)
		}
		r.pass(slow - 1)
		r.add(3, 30, 1) // nobody knows yet
		r.pass(0)
		r.wantLeft(4, 4)
		r.pass(1)
		r.add(2, 20, 1) // proven
		r.add(4, 40, 1) // not, and the hanging one has that half
		r.pass(0)
		r.wantLeft(5, 4)
		r.pass(9 * time.Second)
		r.wantLeft(4, 0)
	})
}

// serve has healthy receivers, proven, deliver for a while and says how long one of them waited at most.
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

func TestDispatchServesTheHealthyAtOnce(t *testing.T) {
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

// A receiver where some requests hang and others do not counts as slow as long as one hangs.
func TestDispatchCountsWhoHangsAmongSuccesses(t *testing.T) {
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
		r.pass(slow + time.Second)
		r.add(6, 30, 1)
		r.add(7, 31, 1)
		r.pass(0)
		for _, a := range r.arrivals() {
			if a.receiver == 6 || a.receiver == 7 {
				t.Errorf("receiver %d was served: three that hang and the one next to them fill the half", a.receiver)
			}
		}
		r.pass(9 * time.Second)
		r.d.slots.mu.Lock()
		defer r.d.slots.mu.Unlock()
		if five := r.d.slots.of(5); !five.proven() {
			t.Errorf("the receiver is %+v: it has proven itself anew", five)
		}
	})
}

// Those who cannot be served do not stand before those who can, however many they are.
func TestDispatchLooksPastWhoIsRefused(t *testing.T) {
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
		r.wantLeft(60, 4)
		if n := len(r.calls("Claim")) - before; n > 60 {
			t.Errorf("%d claims", n)
		}
	})
}
