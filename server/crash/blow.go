package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// blow is what happens to a replica or to the database.
type blow int

const (
	killed        blow = iota // kill -9 of a replica, which is started again
	stopped                   // SIGTERM to a replica, which is started again
	frozenShortly             // SIGSTOP for less than a lease
	frozenAround              // for about a lease
	frozenLong                // for more than a lease
	cutOff                    // nothing goes between a replica and the database
	ended                     // pg_terminate_backend of a replica's connections
	allEnded                  // and of everybody's
	restarted                 // the database is stopped in order and started again
	crashed                   // the database ends without order and recovers
	blows                     // how many there are
)

func (b blow) String() string {
	return [blows]string{
		"kill -9", "stop in order", "freeze of less than a lease", "freeze of about a lease", "freeze of more than a lease",
		"cut off from the database", "connections ended", "all connections ended", "restart of the database", "crash of the database",
	}[b]
}

// ofDatabase says whether all replicas have it.
func (b blow) ofDatabase() bool { return b == allEnded || b == restarted || b == crashed }

// harmless says whether nothing may come again for it.
func (b blow) harmless() bool { return b == stopped }

// lease is how long a replica holds a lane: the timeout that it is given, and five seconds.
const lease = timeout + 5*time.Second

// stroke is one blow that is planned.
type stroke struct {
	blow    blow
	replica int           // which it is, from 1; the next one that is not in trouble yet
	lasts   time.Duration // a freeze, or for how long a replica is away
	pause   time.Duration // before the next
}

// dealer decides about strokes: they are dealt from a deck in which each blow is, until it is empty.
type dealer struct {
	random   *rand.Rand
	replicas int
	private  bool // the database may be restarted
	deck     []blow
}

func (d *dealer) next() stroke {
	if len(d.deck) == 0 {
		d.shuffle()
	}
	b := d.deck[0]
	d.deck = d.deck[1:]
	return stroke{
		blow: b, replica: 1 + d.random.IntN(d.replicas), lasts: d.lasts(b), pause: d.between(0, 15*time.Second/time.Duration(d.replicas)),
	}
}

// shuffle makes a new deck. What is most dangerous is in it more than once.
func (d *dealer) shuffle() {
	d.deck = []blow{killed, killed, killed, stopped, frozenShortly, frozenAround, frozenAround, frozenLong, frozenLong, cutOff, ended, allEnded}
	if d.private {
		d.deck = append(d.deck, restarted, crashed)
	}
	d.random.Shuffle(len(d.deck), func(i, j int) { d.deck[i], d.deck[j] = d.deck[j], d.deck[i] })
}

func (d *dealer) lasts(b blow) time.Duration {
	switch b {
	case frozenShortly:
		return d.between(10*time.Millisecond, lease-time.Second)
	case frozenAround:
		return d.between(lease-time.Second/2, lease+time.Second/2)
	case frozenLong:
		return d.between(lease+time.Second/2, lease+4*time.Second)
	case cutOff:
		return d.between(time.Second/2, lease+4*time.Second)
	}
	return d.between(0, 2*time.Second)
}

func (d *dealer) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.random.Int64N(int64(most-least)))
}

// trouble is a blow that has happened. What it excuses lies between its beginning and its end.
type trouble struct {
	blow    blow
	replica int
	began   time.Time
	ended   time.Time // zero while it goes on
}

// excuses says whether a request may come again for it.
func (t *trouble) excuses(before, again *arrival) bool {
	whose := t.blow.ofDatabase() || before.sender == 0 || t.replica == before.sender
	return whose && !t.blow.harmless() && t.began.Before(again.at) && (t.ended.IsZero() || t.ended.After(before.at))
}

// trouble notes one that begins.
func (l *ledger) trouble(b blow, replica int) *trouble {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &trouble{blow: b, replica: replica, began: time.Now()}
	l.troubles = append(l.troubles, t)
	return t
}

// over notes the end of a trouble.
func (l *ledger) over(t *trouble) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.ended = time.Now()
}

// troubled says whether there was any trouble of a replica or of the database since a time.
func (l *ledger) troubled(replica int, since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.troubles {
		if !t.blow.harmless() && (t.blow.ofDatabase() || t.replica == replica) && (t.ended.IsZero() || t.ended.After(since)) {
			return true
		}
	}
	return false
}

// attempt is one that a server has counted.
type attempt struct {
	ID     string // of the delivery
	Number int
}

// timedOut notes attempts that got no answer in time.
func (l *ledger) timedOut(attempts []attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timeouts = map[attempt]bool{}
	for _, a := range attempts {
		l.timeouts[a] = true
	}
}

// excused is for the judgement, which holds the book.
func (l *ledger) excused(before, again *arrival) bool {
	if l.timeouts[attempt{before.id, before.attempt}] && again.attempt == before.attempt+1 {
		return true
	}
	for _, t := range l.troubles {
		if t.excuses(before, again) {
			return true
		}
	}
	return false
}

// struck counts the troubles of each kind.
func (l *ledger) struck() (counts [blows]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.troubles {
		counts[t.blow]++
	}
	return counts
}

// story tells all troubles, in the order of their beginnings.
func (l *ledger) story() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var s strings.Builder
	for _, t := range l.troubles {
		fmt.Fprintf(&s, "%s to %s, replica %d: %v\n", t.began.Format(clock), t.ended.Format(clock), t.replica, t.blow)
	}
	return s.String()
}

// clock is how times are shown.
const clock = "15:04:05.000"
