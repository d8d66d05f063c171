package webhook

import (
	"sync"
	"time"
)

// slow is how long an attempt may take before its receiver counts as slow.
const slow = time.Second

// slots bounds how many attempts are in flight: in all, for each receiver, and by what is known of receivers. Those that
// are slow or fail share one half, those of which nothing is known yet a quarter, and both together never have more than
// three quarters, however many new ones turn out to hang: so there are always some for the quick ones. Of these, too, any
// may begin to hang: when they hold half of all, each gets but one, so that a few with much to do cannot take everything
// in the second in which nobody can know.
//
// A receiver starts with one slot. Up to a bound it doubles with every quick success and earns one with every slow one;
// a failure takes half away. As long as an attempt in flight is late it counts as slow, whatever else succeeds there.
type slots struct {
	total, most int

	mu        sync.Mutex
	used      [kinds]int
	receivers map[int64]*slot
}

// What is known of a receiver.
const (
	unknown = iota // no attempt has ended yet
	quick          // the last one succeeded quickly, and none in flight is late
	slowly         // anything else
	kinds
)

type slot struct {
	used, allowed int
	late          int // attempts in flight that have become slow
	last          int // kind by the last attempt that has ended
}

func (r *slot) kind() int {
	if r.late > 0 {
		return slowly
	}
	return r.last
}

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
	s.used[r.kind()]++
	return true
}

// release gives a slot back, and says whether that made room.
func (s *slots) release(receiver int64) (made bool) {
	return s.change(receiver, func(r *slot) {
		r.used--
		if r.used == 0 && r.last == unknown {
			delete(s.receivers, receiver)
		}
	})
}

// learn takes note of how an attempt has ended, and whether it had become late before. It says whether that made room.
func (s *slots) learn(receiver int64, ok, late bool) (made bool) {
	return s.change(receiver, func(r *slot) {
		r.last = slowly
		if late {
			r.late--
		}
		switch {
		case !ok:
			r.allowed = max(r.allowed/2, 1)
		case late:
			r.allowed = min(r.allowed+1, s.most)
		default:
			r.last = quick
			r.allowed = min(2*r.allowed, s.most)
		}
	})
}

// late takes note that an attempt in flight has become late. It says whether that made room.
func (s *slots) late(receiver int64) (made bool) {
	return s.change(receiver, func(r *slot) {
		r.late++
		r.last = slowly
	})
}

// change changes what is known of a receiver, and with it what its slots count as. It says whether that made room for
// somebody who was refused before: at this receiver, or under one of the bounds that all have in common.
func (s *slots) change(receiver int64, how func(*slot)) (made bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.of(receiver)
	free, before := s.free(r), s.under()
	s.used[r.kind()] -= r.used
	how(r)
	s.used[r.kind()] += r.used
	for i, under := range s.under() {
		made = made || under && !before[i]
	}
	return made || !free && s.free(r)
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
	return s.total - s.all(), full
}

func (s *slots) free(r *slot) bool {
	kind := r.kind()
	return s.all() < s.total && r.used < r.allowed && (s.under()[kind] || kind == quick && r.used == 0)
}

// under says of each kind whether it has less than its part.
func (s *slots) under() [kinds + 1]bool {
	half, quarter, most := (s.total+1)/2, (s.total+3)/4, (3*s.total+3)/4
	return [...]bool{
		unknown: s.used[unknown] < quarter && s.used[unknown]+s.used[slowly] < most, quick: s.used[quick] < half, slowly: s.used[slowly] < half, kinds: s.all() < s.total,
	}
}

func (s *slots) all() int { return s.used[unknown] + s.used[quick] + s.used[slowly] }

func (s *slots) of(receiver int64) *slot {
	r := s.receivers[receiver]
	if r == nil {
		r = &slot{allowed: 1}
		s.receivers[receiver] = r
	}
	return r
}
