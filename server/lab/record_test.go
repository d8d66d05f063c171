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
	plainAgent = 1
	busyAgent  = 1001
)

// A sound record. In it: a kill between a request and its answer (change 2), one between an answer and its record
// (change 3), a refusal that is tried again (change 4), one whose record a kill prevents (change 5), and a registration
// of the busy agent that was moved. An arrival's peer is the life of the server that sent it.
func soundRecord() (expected []*Expected, arrivals []*Arrival) {
	for sequence := int64(1); sequence <= 6; sequence++ {
		expected = append(expected, expect(plainAgent, sequence), expect(busyAgent, sequence))
	}
	cancelled := expect(busyAgent, 7)
	cancelled.Cancelled = true
	return append(expected, cancelled), []*Arrival{
		got(plainAgent, 1, 1, 1, 200),
		got(plainAgent, 2, 1, 1, 0), got(plainAgent, 2, 2, 1, 200),
		got(plainAgent, 3, 2, 1, 200), got(plainAgent, 3, 4, 1, 200),
		got(busyAgent, 1, 4, 1, 200), got(busyAgent, 2, 4, 1, 200), got(busyAgent, 3, 4, 1, 0),
		got(plainAgent, 4, 4, 1, 500), got(plainAgent, 4, 4, 2, 503), got(plainAgent, 4, 5, 3, 200),
		got(plainAgent, 5, 5, 1, 500), got(plainAgent, 5, 6, 1, 200),
		moved(got(busyAgent, 3, 6, 1, 200)), moved(got(busyAgent, 4, 6, 1, 200)),
		got(busyAgent, 5, 6, 1, 200), got(busyAgent, 6, 6, 1, 200),
		got(plainAgent, 6, 6, 1, 200),
	}
}

func expect(agent, sequence int64) *Expected {
	e := &Expected{Key: keyOf(agent, sequence), Agent: agent, Status: statusOf(sequence)}
	if agent == busyAgent {
		e.Receiver = Anywhere
	}
	return e
}

func got(agent, sequence int64, life, attempt, status int) *Arrival {
	return &Arrival{
		Key: keyOf(agent, sequence), Method: "POST",
		Body: fmt.Sprintf("agent_id=%d&agent_status=%s", agent, statusOf(sequence)),
		ID:   fmt.Sprintf("msg_%d_%d", agent, sequence), Attempt: attempt, Peer: life, Status: status,
	}
}

func moved(a *Arrival) *Arrival {
	a.Receiver = 1
	return a
}

func keyOf(agent, sequence int64) Key {
	return Key{Path: fmt.Sprintf("/%d", agent), Sequence: sequence}
}

func statusOf(sequence int64) string {
	return map[bool]string{true: "available", false: "logged_out"}[sequence%2 == 1]
}

func orderKeyOf(a *Arrival) string {
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
	return Check(History{Expected: expected, Arrivals: arrivals, OrderKey: orderKeyOf}, rules)
}

var laterProcess = Rules{Permitted: func(before, again *Arrival) bool { return again.Peer.(int) > before.Peer.(int) }}

func TestCheckSoundRecord(t *testing.T) {
	expected, arrivals := soundRecord()
	v := judge(expected, arrivals, laterProcess)
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
		"one never arrives":             {without(plainAgent, 6), Lost, "change 6 of agent 1,"},
		"a busy agent's never arrives":  {without(busyAgent, 5), Lost, "change 5 of agent 1001,"},
		"one is never confirmed":        {with(plainAgent, 6, withStatus(500)), Lost, "change 6 of agent 1,"},
		"two change places":             {swapped(plainAgent, 1, 2), Disorder, "change 1 for /1 at"},
		"a busy agent's change places":  {swapped(busyAgent, 5, 6), Disorder, "change 5 for /1001 at"},
		"the next one does not wait":    {with(plainAgent, 2, withStatus(0)), Disorder, "confirmed: change 2"},
		"nor while it is in flight":     {with(plainAgent, 5, inFlight), Disorder, "confirmed: change 5"},
		"one comes twice":               {and(got(plainAgent, 6, 6, 1, 200)), Needless, "change 6 for /1 "},
		"a busy agent's comes twice":    {and(got(busyAgent, 6, 6, 2, 200)), Needless, "change 6 for /1001 "},
		"over a kill, but not the last": {and(got(plainAgent, 5, 7, 1, 200)), Needless, "again after change 6 for /1 "},
		"an unchanged status":           {and(got(plainAgent, 8, 7, 1, 200)), Mismatched, "200: it is not expected"},
		"the wrong status":              {with(plainAgent, 6, saying(1, "available")), Mismatched, "expected is"},
		"the wrong agent":               {with(plainAgent, 6, saying(2, "logged_out")), Mismatched, "expected is"},
		"the wrong receiver":            {with(plainAgent, 6, withReceiver(1)), Mismatched, "its receiver is 0"},
		"two contents under one id":     {with(plainAgent, 2, withQuery("other")), Mismatched, "before, this id was"},
		"two deliveries under one id":   {with(plainAgent, 6, withID("msg_1_5")), Mismatched, "before, this id was"},
		"two ids for one delivery":      {with(plainAgent, 3, withID("msg_other")), Mismatched, "came as msg_1_3 too"},
		"an attempt too many":           {with(plainAgent, 4, withAttempt(4)), Mismatched, "this was attempt 2"},
		"an attempt of a killed server": {with(plainAgent, 2, withAttempt(2)), Mismatched, "this was attempt 1"},
	} {
		t.Run(name, func(t *testing.T) {
			expected, arrivals := soundRecord()
			v := judge(expected, c.plant(arrivals), laterProcess)
			is := func(f Fault) bool { return f.Kind == c.want && strings.Contains(f.Text, c.text) }
			if !slices.ContainsFunc(v.Faults, is) {
				t.Errorf("no fault %q with %q; the faults are %v", c.want, c.text, v.Faults)
			}
		})
	}
}

func saying(agent int, status string) func(*Arrival) {
	return func(a *Arrival) { a.Body = fmt.Sprintf("agent_id=%d&agent_status=%s", agent, status) }
}

func withStatus(n int) func(*Arrival) { return func(a *Arrival) { a.Status = n } }

func withReceiver(n int) func(*Arrival) { return func(a *Arrival) { a.Receiver = n } }

func withQuery(q string) func(*Arrival) { return func(a *Arrival) { a.Query = q } }

func withID(msg string) func(*Arrival) { return func(a *Arrival) { a.ID = msg } }

func withAttempt(n int) func(*Arrival) { return func(a *Arrival) { a.Attempt = n } }

func inFlight(a *Arrival) { a.Ended = time.Now() }

// lastOf is the last arrival of a change.
func lastOf(as []*Arrival, agent, sequence int64) (found *Arrival) {
	for _, a := range as {
		if a.Key == keyOf(agent, sequence) {
			found = a
		}
	}
	return found
}

func without(agent, sequence int64) func([]*Arrival) []*Arrival {
	return func(as []*Arrival) []*Arrival {
		return slices.DeleteFunc(as, func(a *Arrival) bool { return a.Key == keyOf(agent, sequence) })
	}
}

// with makes the last arrival of a change another.
func with(agent, sequence int64, another func(*Arrival)) func([]*Arrival) []*Arrival {
	return func(as []*Arrival) []*Arrival {
		another(lastOf(as, agent, sequence))
		return as
	}
}

func and(a *Arrival) func([]*Arrival) []*Arrival {
	return func(as []*Arrival) []*Arrival { return append(as, a) }
}

func swapped(agent, one, another int64) func([]*Arrival) []*Arrival {
	return func(as []*Arrival) []*Arrival {
		a, b := lastOf(as, agent, one), lastOf(as, agent, another)
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
		before, again := got(plainAgent, 1, 1, 1, 0), got(plainAgent, 1, 1, c.attempt, 200)
		before.Cut = c.cut
		rules := Rules{Unseen: func(_, _ *Arrival) bool { return c.unseen }}
		v := judge([]*Expected{expect(plainAgent, 1)}, []*Arrival{before, again}, rules)
		if ok := len(v.Faults) == 0; ok != c.want {
			t.Errorf("%s: %v", name, v.Faults)
		}
	}
}

func TestRecordPending(t *testing.T) {
	r := NewRecord(orderKeyOf)
	for sequence := int64(1); sequence <= 3; sequence++ {
		r.Expect(*expect(plainAgent, sequence))
	}
	r.Expect(*expect(busyAgent, 1))
	a := got(plainAgent, 1, 1, 1, 0)
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
	r.arrive(got(plainAgent, 4, 1, 1, 0))
	r.end(r.last[orderKeyOf(a)], 200, false)
	if r.Expect(*expect(plainAgent, 4)); r.Pending() != 2 {
		t.Error("what has arrived before it was expected is pending")
	}
	r.View(func(last map[string]*Arrival, pending map[Key]*Expected) {
		if last["/10"].Sequence != 4 || pending[keyOf(plainAgent, 2)] == nil {
			t.Errorf("the last arrivals are %v and pending is %v", last, pending)
		}
	})
}
