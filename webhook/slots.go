package webhook

import (
	"sync"
	"time"
)

// slow is how long an attempt may take before its receiver counts as slow.
const slow = time.Second

// slots bounds how many attempts are in flight: in all, for each receiver, and at receivers that have not proven to be
// quick, which share one half, so that the other half is always there for the quick ones.
//
// A receiver starts with one slot. Up to a bound it doubles with every quick success and earns one with every slow one;
// a failure takes half away. As long as an attempt in flight is late it counts as unproven, whatever else succeeds there.
type slots struct {
	total, most int

	mu        sync.Mutex
	used      int
	unproven  int // of these, at receivers that are not quick
	receivers map[int64]*slot
}

type slot struct {
	used, allowed int
	late          int  // attempts in flight that have become slow
	quick         bool // by the last attempt that said so
}

func (r *slot) proven() bool { return r.quick && r.late == 0 }

func newSlots(total, most int) *slots {
	return &slots{total: total, most: most, receivers: map[int64]*slot{}}
}

// take takes a slot for a receiver if one is free.
func (s *slots) take(receiver int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.of(receiver)
	if !s.free(r) {
		return false
	}
	r.used++
	s.count(r, 1)
	return true
}

// release gives a slot back.
func (s *slots) release(receiver int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.of(receiver)
	r.used--
	s.count(r, -1)
	if r.used == 0 && !r.quick && r.allowed == 1 {
		delete(s.receivers, receiver) // as good as new
	}
}

// learn takes note of how an attempt has ended, and whether it had become late before.
func (s *slots) learn(receiver int64, ok, late bool) {
	s.change(receiver, func(r *slot) {
		r.quick = ok && !late
		if late {
			r.late--
		}
		switch {
		case !ok:
			r.allowed = max(r.allowed/2, 1)
		case late:
			r.allowed = min(r.allowed+1, s.most)
		default:
			r.allowed = min(2*r.allowed, s.most)
		}
	})
}

// late takes note that an attempt in flight has become late.
func (s *slots) late(receiver int64) {
	s.change(receiver, func(r *slot) {
		r.late++
		r.quick = false
	})
}

// change changes what is known of a receiver, and with it what its slots count as.
func (s *slots) change(receiver int64, how func(*slot)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.of(receiver)
	s.count(r, -r.used)
	how(r)
	s.count(r, r.used)
}

// room is how many slots are free in all, and which receivers have none.
func (s *slots) room() (free int, full []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.receivers {
		if !s.free(r) {
			full = append(full, id)
		}
	}
	return s.total - s.used, full
}

func (s *slots) free(r *slot) bool {
	return s.used < s.total && r.used < r.allowed && (r.proven() || s.unproven < (s.total+1)/2)
}

// count keeps the sums.
func (s *slots) count(r *slot, by int) {
	s.used += by
	if !r.proven() {
		s.unproven += by
	}
}

func (s *slots) of(receiver int64) *slot {
	r := s.receivers[receiver]
	if r == nil {
		r = &slot{allowed: 1}
		s.receivers[receiver] = r
	}
	return r
}
