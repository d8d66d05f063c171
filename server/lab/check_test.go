package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two agents: 1 keeps the order of its lane, 1001 that of its registration, which may be moved.
const (
	plain = 1
	busy  = 1001
)

// A sound record. In it: a kill between a request and its answer (change 2), one between an answer and its record
// (change 3), a refusal that is tried again (change 4), one whose record a kill prevents (change 5), and a registration
// of the busy agent that was moved. An arrival's peer is the life of the server that sent it.
func soundRecord() (expected []*Expected, arrivals []*Arrival) {
	for sequence := int64(1); sequence <= 6; sequence++ {
		expected = append(expected, expect(plain, sequence), expect(busy, sequence))
	}
	cancelled := expect(busy, 7)
	cancelled.Cancelled = true
	return append(expected, cancelled), []*Arrival{
		got(plain, 1, 1, 1, 200),
		got(plain, 2, 1, 1, 0), got(plain, 2, 2, 1, 200),
		got(plain, 3, 2, 1, 200), got(plain, 3, 4, 1, 200),
		got(busy, 1, 4, 1, 200), got(busy, 2, 4, 1, 200), got(busy, 3, 4, 1, 0),
		got(plain, 4, 4, 1, 500), got(plain, 4, 4, 2, 503), got(plain, 4, 5, 3, 200),
		got(plain, 5, 5, 1, 500), got(plain, 5, 6, 1, 200),
		moved(got(busy, 3, 6, 1, 200)), moved(got(busy, 4, 6, 1, 200)),
		got(busy, 5, 6, 1, 200), got(busy, 6, 6, 1, 200),
		got(plain, 6, 6, 1, 200),
	}
}

func expect(agent, sequence int64) *Expected {
	e := &Expected{Key: key(agent, sequence), Agent: agent, Status: statusOf(sequence)}
	if agent == busy {
		e.Receiver = Anywhere
	}
	return e
}

func got(agent, sequence int64, life, attempt, status int) *Arrival {
	return &Arrival{
		Key: key(agent, sequence), Method: "POST",
		Body: fmt.Sprintf("agent_id=%d&agent_status=%s", agent, statusOf(sequence)),
		ID:   fmt.Sprintf("msg_%d_%d", agent, sequence), Attempt: attempt, Peer: life, Status: status,
	}
}

func moved(a *Arrival) *Arrival {
	a.Receiver = 1
	return a
}

func key(agent, sequence int64) Key { return Key{Path: fmt.Sprintf("/%d", agent), Sequence: sequence} }

func statusOf(sequence int64) string {
	return map[bool]string{true: "available", false: "logged_out"}[sequence%2 == 1]
}

func line(a *Arrival) string {
	if a.Path == "/1001" {
		return a.Path
	}
	return fmt.Sprint(a.Path, a.Receiver)
}

// judge checks a record, one arrival a second, of which each that has not ended ends at once.
func judge(expected []*Expected, arrivals []*Arrival, rules Rules) Verdict {
	for i, a := range arrivals {
		a.At = time.Unix(int64(i), 0)
		if a.Ended.IsZero() {
			a.Ended = a.At
		}
	}
	return Check(History{Expected: expected, Arrivals: arrivals, Line: line}, rules)
}

var laterLife = Rules{Excused: func(before, again *Arrival) bool { return again.Peer.(int) > before.Peer.(int) }}

func TestCheckSoundRecord(t *testing.T) {
	expected, arrivals := soundRecord()
	v := judge(expected, arrivals, laterLife)
	if len(v.Faults) > 0 {
		t.Errorf("faults: %v", v.Faults)
	}
	if v.Retries != 3 || v.Duplicates != 3 {
		t.Errorf("%d retries and %d duplicates, want 3 and 3", v.Retries, v.Duplicates)
	}
}

// What is sound becomes wrong by one thing at a time, and Check says which.
func TestCheckPlantedFaults(t *testing.T) {
	for name, c := range map[string]struct {
		plant func([]*Arrival) []*Arrival
		want  Kind
		text  string
	}{
		"one never arrives":             {without(plain, 6), Lost, "change 6 of agent 1,"},
		"a busy agent's never arrives":  {without(busy, 5), Lost, "change 5 of agent 1001,"},
		"one is never confirmed":        {with(plain, 6, status(500)), Lost, "change 6 of agent 1,"},
		"two change places":             {swapped(plain, 1, 2), Disorder, "change 1 for /1 "},
		"a busy agent's change places":  {swapped(busy, 5, 6), Disorder, "change 5 for /1001 "},
		"the next one does not wait":    {with(plain, 2, status(0)), Disorder, "confirmed: change 2"},
		"nor while it is in flight":     {with(plain, 5, inFlight), Disorder, "confirmed: change 5"},
		"one comes twice":               {and(got(plain, 6, 6, 1, 200)), Needless, "change 6 for /1 "},
		"a busy agent's comes twice":    {and(got(busy, 6, 6, 2, 200)), Needless, "change 6 for /1001 "},
		"over a kill, but not the last": {and(got(plain, 5, 7, 1, 200)), Needless, "came again after change 6 for /1 "},
		"an unchanged status":           {and(got(plain, 8, 7, 1, 200)), Mismatched, "answered 200: it is not expected"},
		"the wrong status":              {with(plain, 6, body(1, "available")), Mismatched, "expected is"},
		"the wrong agent":               {with(plain, 6, body(2, "logged_out")), Mismatched, "expected is"},
		"the wrong receiver":            {with(plain, 6, receiver(1)), Mismatched, "its receiver is 0"},
		"two contents under one id":     {with(plain, 2, query("other")), Mismatched, "before, this id was"},
		"two deliveries under one id":   {with(plain, 6, id("msg_1_5")), Mismatched, "before, this id was"},
		"two ids for one delivery":      {with(plain, 3, id("msg_other")), Mismatched, "came as msg_1_3 too"},
		"an attempt too many":           {with(plain, 4, attempt(4)), Mismatched, "before, this was attempt 2"},
		"an attempt of a killed server": {with(plain, 2, attempt(2)), Mismatched, "before, this was attempt 1"},
	} {
		t.Run(name, func(t *testing.T) {
			expected, arrivals := soundRecord()
			v := judge(expected, c.plant(arrivals), laterLife)
			is := func(f Fault) bool { return f.Kind == c.want && strings.Contains(f.Text, c.text) }
			if !slices.ContainsFunc(v.Faults, is) {
				t.Errorf("no fault %q with %q; the faults are %v", c.want, c.text, v.Faults)
			}
		})
	}
}

func body(agent int, status string) func(*Arrival) {
	return func(a *Arrival) { a.Body = fmt.Sprintf("agent_id=%d&agent_status=%s", agent, status) }
}

func status(n int) func(*Arrival) { return func(a *Arrival) { a.Status = n } }

func receiver(n int) func(*Arrival) { return func(a *Arrival) { a.Receiver = n } }

func query(q string) func(*Arrival) { return func(a *Arrival) { a.Query = q } }

func id(msg string) func(*Arrival) { return func(a *Arrival) { a.ID = msg } }

func attempt(n int) func(*Arrival) { return func(a *Arrival) { a.Attempt = n } }

func inFlight(a *Arrival) { a.Ended = time.Now() }

// last is the last arrival of a change.
func last(as []*Arrival, agent, sequence int64) (found *Arrival) {
	for _, a := range as {
		if a.Key == key(agent, sequence) {
			found = a
		}
	}
	return found
}

func without(agent, sequence int64) func([]*Arrival) []*Arrival {
	return func(as []*Arrival) []*Arrival {
		return slices.DeleteFunc(as, func(a *Arrival) bool { return a.Key == key(agent, sequence) })
	}
}

// with makes the last arrival of a change another.
func with(agent, sequence int64, another func(*Arrival)) func([]*Arrival) []*Arrival {
	return func(as []*Arrival) []*Arrival {
		another(last(as, agent, sequence))
		return as
	}
}

func and(a *Arrival) func([]*Arrival) []*Arrival {
	return func(as []*Arrival) []*Arrival { return append(as, a) }
}

func swapped(agent, one, another int64) func([]*Arrival) []*Arrival {
	return func(as []*Arrival) []*Arrival {
		a, b := last(as, agent, one), last(as, agent, another)
		*a, *b = *b, *a
		return as
	}
}

// What was cut off comes again as the same attempt or the next, and after a closed port as any later one.
func TestCheckCountsAttempts(t *testing.T) {
	for name, c := range map[string]struct {
		cut, unseen bool
		attempt     int
		want        bool
	}{
		"cut off, at once":           {true, false, 1, true},
		"cut off, counted":           {true, false, 2, true},
		"cut off, one too many":      {true, false, 3, false},
		"cut off, closed in between": {true, true, 5, true},
		"one less":                   {true, true, 0, false},
		"not cut off":                {false, true, 1, false},
	} {
		before, again := got(plain, 1, 1, 1, 0), got(plain, 1, 1, c.attempt, 200)
		before.Cut = c.cut
		rules := Rules{Unseen: func(_, _ *Arrival) bool { return c.unseen }}
		v := judge([]*Expected{expect(plain, 1)}, []*Arrival{before, again}, rules)
		if ok := len(v.Faults) == 0; ok != c.want {
			t.Errorf("%s: %v", name, v.Faults)
		}
	}
}

func TestRecordPending(t *testing.T) {
	r := NewRecord(line)
	for sequence := int64(1); sequence <= 3; sequence++ {
		r.Expect(*expect(plain, sequence))
	}
	r.Expect(*expect(busy, 1))
	a := got(plain, 1, 1, 1, 0)
	r.arrive(a)
	r.end(a, 500, false)
	if n := r.Pending(); n != 4 {
		t.Errorf("%d are pending after a refusal, want 4", n)
	}
	r.end(a, 200, false)
	r.Cancel("/1001")
	if n := r.Pending(); n != 2 {
		t.Errorf("%d are pending after an answer and a deletion, want 2", n)
	}
	r.arrive(got(plain, 4, 1, 1, 0))
	r.end(r.last[line(a)], 200, false)
	if r.Expect(*expect(plain, 4)); r.Pending() != 2 {
		t.Error("what has arrived before it was expected is pending")
	}
	r.View(func(last map[string]*Arrival, pending map[Key]*Expected) {
		if last["/10"].Sequence != 4 || pending[key(plain, 2)] == nil {
			t.Errorf("the last arrivals are %v and pending is %v", last, pending)
		}
	})
}
