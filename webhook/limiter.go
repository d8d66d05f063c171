package webhook

import (
	"container/list"
	"math"
	"sync"
	"time"
)

// slowAfter is how long an attempt may take before it is late, and its receiver slow.
const slowAfter = time.Second

// limiter bounds the number of attempts in flight, by slots. The bound of one receiver is the slots that it has earned;
// all receivers of a kind together have a part of the total:
//
//	kind     its receivers                                  one receiver                 all of the kind
//	unknown  no attempt has ended yet                       1 slot                       1/4; with slow ones 3/4
//	quick    the last attempt succeeded within slowAfter,   what it has earned; 1 slot   no bound but the total
//	         and none in flight is late                     when the kind has 1/2
//	slow     all others                                     what it has earned           1/2
//
// So a quarter is always left for quick receivers, however many new ones hang. Quick ones can begin to hang, too.
// Beyond the half each gets one slot, so that a few with many lanes do not take all slots before they are late.
//
// All receivers of one client together have as many slots as are free: half of all if no other client has any. So a
// client whose quick receivers begin to hang leaves slots to the others, whatever they are. A client without an attempt
// at a receiver of a kind gets one slot even if other clients have the kind's whole part, as long as unknown and slow
// receivers have less than 3/4 of all.
//
// A success is an attempt after which its receiver need not be spared: any verdict but Retry, or an answer that shows
// it Alive. All others are failures: no complete answer, 408, 425, 429 and 5xx. A receiver earns slots by how its
// attempts end, from one slot to maxPerReceiver:
//
//	success within slowAfter   twice as many
//	later success              one more
//	failure                    half as many
//
// Idle receivers, which have no attempt in flight, are remembered up to maxIdle of each kind. Beyond that the limiter
// forgets the one that has been idle for longest, which is unknown from then on. An idle unknown receiver is remembered
// only while there is no room for it.
type limiter struct {
	total, maxPerReceiver int

	mu        sync.Mutex
	used      [kinds]int
	refused   bool // a receiver was refused since there was room for the last time
	recording int  // attempts that have ended and are being recorded, without a slot of their receiver
	receivers map[int64]*receiverLimit
	byClient  map[string]*[kinds]int   // the slots in use of each client that has any
	busy      map[int64]*receiverLimit // receivers with attempts in flight
	idle      [kinds]list.List         // ids of the other receivers; the last to become idle is at the back
}

// maxIdle is how many idle receivers of each kind are remembered, at about 150 bytes each. Each kind has a bound of its
// own, so slow receivers do not push out quick ones.
var maxIdle = [kinds]int{unknown: math.MaxInt, quick: 1 << 16, slow: 1 << 13}

// The kinds of receivers, as limiter's table has them.
const (
	unknown = iota
	quick
	slow
	kinds
)

// receiverLimit is the limiter's state of one receiver.
type receiverLimit struct {
	client        string // empty for one without a bound
	used, allowed int
	late          int // attempts in flight that take longer than slowAfter
	last          int // kind by the last attempt that has ended
	idle          *list.Element
	in            *list.List // the list of idle
}

func (r *receiverLimit) kind() int {
	if r.late > 0 {
		return slow
	}
	return r.last
}

func newLimiter(total, maxPerReceiver int) *limiter {
	return &limiter{
		total: total, maxPerReceiver: maxPerReceiver,
		receivers: map[int64]*receiverLimit{}, busy: map[int64]*receiverLimit{}, byClient: map[string]*[kinds]int{},
	}
}

// take takes a slot for a receiver of a client if one is free.
func (l *limiter) take(client string, receiver int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.of(receiver)
	r.client = client
	defer l.place(receiver, r)
	if !l.hasRoom(r) {
		l.refused = true
		return false
	}
	l.count(r, -1)
	r.used++
	l.count(r, 1)
	return true
}

// takeDue is take for a lane that a claim has found due. The claim did not look for more of the receiver's lanes than
// there was room for, so a receiver that takes its last slot counts as refused.
func (l *limiter) takeDue(client string, receiver int64) bool {
	ok := l.take(client, receiver)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = l.refused || !l.hasRoom(l.of(receiver))
	return ok
}

// release gives a slot back, and reports whether that made room for a receiver that was refused.
func (l *limiter) release(receiver int64) (made bool) {
	return l.change(receiver, func(r *receiverLimit) { r.used-- })
}

// releaseEarly gives a receiver's slot back before its attempt is recorded. Until then the attempt counts in the total.
// It reports whether that made room.
func (l *limiter) releaseEarly(receiver int64) (made bool) {
	return l.change(receiver, func(r *receiverLimit) {
		r.used--
		l.recording++
	})
}

// recorded takes an attempt, after releaseEarly, out of the total, and reports whether that made room.
func (l *limiter) recorded() (made bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	made = l.all() == l.total && l.refused
	l.recording--
	return made
}

// returnUnused gives back a slot that its claim did not use. It reports no room: the claim would only fail to use it
// again. The next release reports it.
func (l *limiter) returnUnused(receiver int64) {
	if l.release(receiver) {
		l.mu.Lock()
		l.refused = true
		l.mu.Unlock()
	}
}

// learn notes the end of an attempt, and whether late was called for it before. It reports whether that made room.
func (l *limiter) learn(receiver int64, ok, late bool) (made bool) {
	return l.change(receiver, func(r *receiverLimit) {
		r.last = slow
		if late {
			r.late--
		}
		switch {
		case !ok:
			r.allowed = max(r.allowed/2, 1)
		case late:
			r.allowed = min(r.allowed+1, l.maxPerReceiver)
		default:
			r.last = quick
			r.allowed = min(2*r.allowed, l.maxPerReceiver)
		}
	})
}

// late notes that an attempt in flight has become late. It reports whether that made room.
func (l *limiter) late(receiver int64) (made bool) {
	return l.change(receiver, func(r *receiverLimit) {
		r.late++
		r.last = slow
	})
}

// change changes the state of a receiver, and so the kind of its slots. It reports whether that made room for a
// receiver that was refused before: for this one, or under a bound that several share.
func (l *limiter) change(receiver int64, how func(*receiverLimit)) (made bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.of(receiver)
	free, before := l.hasRoom(r), l.under()
	l.count(r, -1)
	how(r)
	l.count(r, 1)
	l.place(receiver, r)
	for i, under := range l.under() {
		made = made || under && !before[i]
	}
	made = l.refused && (made || !free && l.hasRoom(r))
	l.refused = l.refused && !made
	return made
}

// count adds the slots of a receiver to those in use, or subtracts them if the sign is -1.
func (l *limiter) count(r *receiverLimit, sign int) {
	slots := sign * r.used
	l.used[r.kind()] += slots
	if slots == 0 || r.client == "" {
		return
	}
	used := l.byClient[r.client]
	if used == nil {
		used = new([kinds]int)
		l.byClient[r.client] = used
	}
	used[r.kind()] += slots
	if *used == [kinds]int{} {
		delete(l.byClient, r.client)
	}
}

// place puts a receiver among the busy or the idle ones.
func (l *limiter) place(receiver int64, r *receiverLimit) {
	if r.idle != nil {
		r.in.Remove(r.idle)
		r.idle = nil
	}
	if r.used > 0 {
		l.busy[receiver] = r
		return
	}
	delete(l.busy, receiver)
	if r.kind() == unknown && l.hasRoom(r) {
		delete(l.receivers, receiver)
		return
	}
	r.in = &l.idle[r.kind()]
	r.idle = r.in.PushBack(receiver)
	l.forget(r.in, maxIdle[r.kind()])
}

// forget leaves at most so many of the idle receivers of a kind.
func (l *limiter) forget(idle *list.List, left int) {
	for idle.Len() > left {
		delete(l.receivers, idle.Remove(idle.Front()).(int64))
	}
}

// room returns the number of free slots, the clients that have all that they may have, and the full receivers: of the
// busy ones those without a free slot, of the idle ones all of a kind that has its whole part. A kind with room lists
// none, because there may be very many.
func (l *limiter) room() (free int, clients []string, full []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for client := range l.byClient {
		if l.isFull(client) {
			clients = append(clients, client)
		}
	}
	for id, r := range l.busy {
		if !l.hasRoom(r) {
			full = append(full, id)
		}
	}
	under := l.under()
	if under[unknown] {
		l.forget(&l.idle[unknown], 0)
	}
	for _, kind := range []int{unknown, slow} {
		for e := l.idle[kind].Front(); e != nil && !under[kind]; e = e.Next() {
			full = append(full, e.Value.(int64))
		}
	}
	free = l.total - l.all()
	l.refused = l.refused || free == 0 || len(full) > 0 || len(clients) > 0
	return free, clients, full
}

// isFull reports whether a client has at least as many slots as are free.
func (l *limiter) isFull(client string) bool {
	used := l.byClient[client]
	return used != nil && used[unknown]+used[quick]+used[slow] >= l.total-l.all()
}

// isFirst reports whether a client has no attempt in flight at a receiver of a kind, and may have one beyond the part
// of the kind.
func (l *limiter) isFirst(client string, kind int) bool {
	used := l.byClient[client]
	return client != "" && (used == nil || used[kind] == 0) && l.used[unknown]+l.used[slow] < l.threeQuarters()
}

func (l *limiter) threeQuarters() int { return (3*l.total + 3) / 4 }

func (l *limiter) hasRoom(r *receiverLimit) bool {
	kind := r.kind()
	return l.all() < l.total && r.used < r.allowed && !l.isFull(r.client) &&
		(l.under()[kind] || kind == quick && r.used == 0 || l.isFirst(r.client, kind))
}

// under reports for each kind whether it has less than its part, and last whether all have less than the total.
func (l *limiter) under() [kinds + 1]bool {
	half, quarter := (l.total+1)/2, (l.total+3)/4
	return [...]bool{
		unknown: l.used[unknown] < quarter && l.used[unknown]+l.used[slow] < l.threeQuarters(),
		quick:   l.used[quick] < half,
		slow:    l.used[slow] < half,
		kinds:   l.all() < l.total,
	}
}

func (l *limiter) all() int { return l.used[unknown] + l.used[quick] + l.used[slow] + l.recording }

// of returns the state of a receiver; a new one has one slot.
func (l *limiter) of(receiver int64) *receiverLimit {
	r := l.receivers[receiver]
	if r == nil {
		r = &receiverLimit{allowed: 1}
		l.receivers[receiver] = r
	}
	return r
}
