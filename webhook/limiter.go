package webhook

import (
	"container/list"
	"math"
	"sync"
	"time"
)

// slowAfter is how long an attempt may take before its receiver counts as slowAfter.
const slowAfter = time.Second

// limiter bounds how many attempts are in flight: in all, for each receiver, and by what is known of receivers. Those that
// are slow or fail share one half, those of which nothing is known yet a quarter, and both together never have more than
// three quarters, however many new ones turn out to hang: so there are always some for the quick ones. Of these, too, any
// may begin to hang: when they hold half of all, each gets but one, so that a few with much to do cannot take everything
// in the second in which nobody can know.
//
// A receiver starts with one slot. Up to a bound it doubles with every quick success and earns one with every slow one;
// a failure takes half away. As long as an attempt in flight is late it counts as slow, whatever else succeeds there.
//
// Receivers without an attempt in flight are remembered, but not for ever: of those that are slow or fail, and of those
// that are quick, the ones that were idle for longest are forgotten when there are too many, and count as new again. Of
// those of which nothing is known there is nothing to forget; that they were refused is remembered until there is room.
type limiter struct {
	total, maxPerReceiver int

	mu        sync.Mutex
	used      [kinds]int
	refused   bool // somebody was, since room was made the last time
	recording int  // attempts that have ended and that a receiver has no slot for any more
	receivers map[int64]*receiverLimit
	busy      map[int64]*receiverLimit // those of them that have attempts in flight
	idle      [kinds]list.List         // ids of the others, the last ones to have become so at the back
}

// maxIdle is how many receivers without attempts in flight are remembered. Each takes some 150 bytes. What fails cannot
// push out what is quick.
var maxIdle = [kinds]int{unknown: math.MaxInt, quick: 1 << 16, slow: 1 << 13}

// What is known of a receiver.
const (
	unknown = iota // no attempt has ended yet
	quick          // the last one succeeded quickly, and none in flight is late
	slow           // anything else
	kinds
)

type receiverLimit struct {
	used, allowed int
	late          int // attempts in flight that have become slow
	last          int // kind by the last attempt that has ended
	idle          *list.Element
	in            *list.List // which idle is of
}

func (r *receiverLimit) kind() int {
	if r.late > 0 {
		return slow
	}
	return r.last
}

func newLimiter(total, most int) *limiter {
	return &limiter{total: total, maxPerReceiver: most, receivers: map[int64]*receiverLimit{}, busy: map[int64]*receiverLimit{}}
}

// take takes a slot for a receiver if one is free.
func (s *limiter) take(receiver int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.of(receiver)
	defer s.place(receiver, r)
	if !s.free(r) {
		s.refused = true
		return false
	}
	r.used++
	s.used[r.kind()]++
	return true
}

// takeDue is take for a lane that was found to be due. There may be more of its receiver that were not looked for, since
// there is no room for them: who takes the last slot counts as one who was refused.
func (s *limiter) takeDue(receiver int64) bool {
	ok := s.take(receiver)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = s.refused || !s.free(s.of(receiver))
	return ok
}

// release gives a slot back, and says whether that made room.
func (s *limiter) release(receiver int64) (made bool) {
	return s.change(receiver, func(r *receiverLimit) { r.used-- })
}

// answered gives a receiver's slot back before its attempt is recorded, which counts among all until then. It says whether
// that made room.
func (s *limiter) answered(receiver int64) (made bool) {
	return s.change(receiver, func(r *receiverLimit) {
		r.used--
		s.recording++
	})
}

// recorded comes after answered, and says whether it made room.
func (s *limiter) recorded() (made bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	made = s.all() == s.total && s.refused
	s.recording--
	return made
}

// giveBack is release of a slot that was taken for nothing. Who is to be told of room is told when it is made otherwise: who
// gives it back has just failed to use it.
func (s *limiter) giveBack(receiver int64) {
	if s.release(receiver) {
		s.mu.Lock()
		s.refused = true
		s.mu.Unlock()
	}
}

// learn takes note of how an attempt has ended, and whether it had become late before. It says whether that made room.
func (s *limiter) learn(receiver int64, ok, late bool) (made bool) {
	return s.change(receiver, func(r *receiverLimit) {
		r.last = slow
		if late {
			r.late--
		}
		switch {
		case !ok:
			r.allowed = max(r.allowed/2, 1)
		case late:
			r.allowed = min(r.allowed+1, s.maxPerReceiver)
		default:
			r.last = quick
			r.allowed = min(2*r.allowed, s.maxPerReceiver)
		}
	})
}

// late takes note that an attempt in flight has become late. It says whether that made room.
func (s *limiter) late(receiver int64) (made bool) {
	return s.change(receiver, func(r *receiverLimit) {
		r.late++
		r.last = slow
	})
}

// change changes what is known of a receiver, and with it what its slots count as. It says whether that made room for
// somebody who was refused before: at this receiver, or under one of the bounds that all have in common.
func (s *limiter) change(receiver int64, how func(*receiverLimit)) (made bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.of(receiver)
	free, before := s.free(r), s.under()
	s.used[r.kind()] -= r.used
	how(r)
	s.used[r.kind()] += r.used
	s.place(receiver, r)
	for i, under := range s.under() {
		made = made || under && !before[i]
	}
	made = s.refused && (made || !free && s.free(r))
	s.refused = s.refused && !made
	return made
}

// place puts a receiver among those in use or those that are idle.
func (s *limiter) place(receiver int64, r *receiverLimit) {
	if r.idle != nil {
		r.in.Remove(r.idle)
		r.idle = nil
	}
	if r.used > 0 {
		s.busy[receiver] = r
		return
	}
	delete(s.busy, receiver)
	if r.kind() == unknown && s.free(r) {
		delete(s.receivers, receiver)
		return
	}
	r.in = &s.idle[r.kind()]
	r.idle = r.in.PushBack(receiver)
	s.forget(r.in, maxIdle[r.kind()])
}

// forget leaves so many of idle receivers.
func (s *limiter) forget(idle *list.List, left int) {
	for idle.Len() > left {
		delete(s.receivers, idle.Remove(idle.Front()).(int64))
	}
}

// room is how many slots are free in all, and which receivers have none. Of those that are idle these are all that are
// of a kind that has its part, or nobody: there may be very many, and a claim is not to look at each for nothing.
func (s *limiter) room() (free int, full []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.busy {
		if !s.free(r) {
			full = append(full, id)
		}
	}
	under := s.under()
	if under[unknown] {
		s.forget(&s.idle[unknown], 0)
	}
	for _, kind := range []int{unknown, slow} {
		for e := s.idle[kind].Front(); e != nil && !under[kind]; e = e.Next() {
			full = append(full, e.Value.(int64))
		}
	}
	free = s.total - s.all()
	s.refused = s.refused || free == 0 || len(full) > 0
	return free, full
}

func (s *limiter) free(r *receiverLimit) bool {
	kind := r.kind()
	return s.all() < s.total && r.used < r.allowed && (s.under()[kind] || kind == quick && r.used == 0)
}

// under says of each kind whether it has less than its part.
func (s *limiter) under() [kinds + 1]bool {
	half, quarter, most := (s.total+1)/2, (s.total+3)/4, (3*s.total+3)/4
	return [...]bool{
		unknown: s.used[unknown] < quarter && s.used[unknown]+s.used[slow] < most, quick: s.used[quick] < half, slow: s.used[slow] < half, kinds: s.all() < s.total,
	}
}

func (s *limiter) all() int { return s.used[unknown] + s.used[quick] + s.used[slow] + s.recording }

func (s *limiter) of(receiver int64) *receiverLimit {
	r := s.receivers[receiver]
	if r == nil {
		r = &receiverLimit{allowed: 1}
		s.receivers[receiver] = r
	}
	return r
}
