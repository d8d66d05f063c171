package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
)

// A record of two agents, plain 1 and busy 1001, each with one registration at receiver 0. In it: a kill between a
// request and its answer (change 2), one between an answer and its record (change 3), a refusal that is tried again
// (change 4), one whose record a kill prevents (change 5), and a busy registration that was moved.
func soundRecord() (debts []debt, arrivals []*arrival) {
	for sequence := int64(1); sequence <= 6; sequence++ {
		debts = append(debts, owed(1, sequence), owed(firstBusy, sequence))
	}
	debts = append(debts, owed(firstBusy, 7))
	debts[len(debts)-1].cancelled = true
	return debts, []*arrival{
		got(1, 1, 1, 1, 200),
		got(1, 2, 1, 1, 0), got(1, 2, 2, 1, 200),
		got(1, 3, 2, 1, 200), got(1, 3, 4, 1, 200),
		got(firstBusy, 1, 4, 1, 200), got(firstBusy, 2, 4, 1, 200), got(firstBusy, 3, 4, 1, 0),
		got(1, 4, 4, 1, 500), got(1, 4, 4, 2, 503), got(1, 4, 5, 3, 200),
		got(1, 5, 5, 1, 500), got(1, 5, 6, 1, 200),
		moved(got(firstBusy, 3, 6, 1, 200)), moved(got(firstBusy, 4, 6, 1, 200)),
		got(firstBusy, 5, 6, 1, 200), got(firstBusy, 6, 6, 1, 200),
		got(1, 6, 6, 1, 200),
	}
}

func owed(agent, sequence int64) debt {
	return debt{delivery: at(agent, sequence), agent: agent, status: statusOf(sequence), life: 1}
}

func got(agent, sequence int64, life, attempt, answer int) *arrival {
	return &arrival{
		delivery: at(agent, sequence), id: fmt.Sprintf("msg_%d_%d", agent, sequence), agent: agent,
		status: string(statusOf(sequence)), request: fmt.Sprint("request ", sequence), attempt: attempt, life: life, answer: answer,
	}
}

func moved(a *arrival) *arrival {
	a.receiver = 1
	return a
}

func at(agent, sequence int64) delivery {
	return delivery{registration: fmt.Sprint(agent), sequence: sequence}
}

func statusOf(sequence int64) gen.AgentStatusValue {
	if sequence%2 == 1 {
		return gen.AgentStatusValueAvailable
	}
	return gen.AgentStatusValueLoggedOut
}

func TestJudgeSoundRecord(t *testing.T) {
	debts, arrivals := soundRecord()
	v := judge(debts, arrivals, oneServer(newTimeline()))
	if len(v.faults) > 0 {
		t.Errorf("faults: %v", v.faults)
	}
	if v.retries != 3 || v.duplicates != 3 {
		t.Errorf("%d retries and %d duplicates, want 3 and 3", v.retries, v.duplicates)
	}
}

// What is sound becomes wrong by one thing at a time, and the judgement says which.
func TestJudgePlantedFaults(t *testing.T) {
	for name, c := range map[string]struct {
		plant func([]*arrival) []*arrival
		want  kind
		text  string
	}{
		"one never arrives":              {without(1, 6), lost, "change 6 of agent 1,"},
		"a busy agent's never arrives":   {without(firstBusy, 5), lost, "change 5 of agent 1001,"},
		"one is never confirmed":         {with(1, 6, func(a *arrival) { a.answer = 500 }), lost, "change 6 of agent 1,"},
		"two change places":              {swapped(1, 1, 2), disorder, "change 1 of agent 1,"},
		"a busy agent's change places":   {swapped(firstBusy, 5, 6), disorder, "change 5 of agent 1001,"},
		"the next one does not wait":     {with(1, 2, func(a *arrival) { a.answer = 0 }), disorder, "before this was confirmed: change 2"},
		"nor while it is in flight":      {with(1, 5, func(a *arrival) { a.until = math.MaxInt }), disorder, "before this was confirmed: change 5"},
		"one comes twice":                {and(got(1, 6, 6, 1, 200)), needless, "change 6 of agent 1,"},
		"a busy agent's comes twice":     {and(got(firstBusy, 6, 6, 2, 200)), needless, "change 6 of agent 1001,"},
		"over a kill, but not the last":  {and(got(1, 5, 7, 1, 200)), needless, "came again after change 6 of agent 1,"},
		"an unchanged status":            {and(got(1, 8, 7, 1, 200)), mismatched, "as msg_1_8, attempt 1, answered 200 in life 7: nobody"},
		"the wrong status":               {with(1, 6, func(a *arrival) { a.status = "available" }), mismatched, "owed was"},
		"the wrong receiver":             {with(1, 6, func(a *arrival) { a.receiver = 1 }), mismatched, "its receiver is 0"},
		"two contents under one id":      {with(1, 2, func(a *arrival) { a.request = "other" }), mismatched, "before, this id was"},
		"two deliveries under one id":    {with(1, 6, func(a *arrival) { a.id = "msg_1_5" }), mismatched, "before, this id was"},
		"two ids for one delivery":       {with(1, 3, func(a *arrival) { a.id = "msg_other" }), mismatched, "came as msg_1_3 too"},
		"an attempt too many":            {with(1, 4, func(a *arrival) { a.attempt = 4 }), mismatched, "before, this was attempt 2"},
		"an attempt that nobody counted": {with(1, 2, func(a *arrival) { a.attempt = 2 }), mismatched, "before, this was attempt 1"},
	} {
		t.Run(name, func(t *testing.T) {
			debts, arrivals := soundRecord()
			v := judge(debts, c.plant(arrivals), oneServer(newTimeline()))
			if !slices.ContainsFunc(v.faults, func(f fault) bool { return f.kind == c.want && strings.Contains(f.text, c.text) }) {
				t.Errorf("no fault %q with %q; the faults are %v", c.want, c.text, v.faults)
			}
		})
	}
}

// last is the last arrival of a change.
func last(as []*arrival, agent, sequence int64) (found *arrival) {
	for _, a := range as {
		if a.delivery == at(agent, sequence) {
			found = a
		}
	}
	return found
}

func without(agent, sequence int64) func([]*arrival) []*arrival {
	return func(as []*arrival) []*arrival {
		return slices.DeleteFunc(as, func(a *arrival) bool { return a.delivery == at(agent, sequence) })
	}
}

// with makes the last arrival of a change another.
func with(agent, sequence int64, another func(*arrival)) func([]*arrival) []*arrival {
	return func(as []*arrival) []*arrival {
		another(last(as, agent, sequence))
		return as
	}
}

func and(a *arrival) func([]*arrival) []*arrival {
	return func(as []*arrival) []*arrival { return append(as, a) }
}

func swapped(agent, one, another int64) func([]*arrival) []*arrival {
	return func(as []*arrival) []*arrival {
		a, b := last(as, agent, one), last(as, agent, another)
		*a, *b = *b, *a
		return as
	}
}

// What the quick receiver has left without an answer is to come again, and not what another has, or a busy agent.
func TestLedgerUnanswered(t *testing.T) {
	book := newLedger()
	expect := func(when string, wantNow, wantCutOff []lane) {
		t.Helper()
		now, cutOff := book.unanswered()
		if !slices.Equal(now, wantNow) || !slices.Equal(cutOff, wantCutOff) {
			t.Errorf("%s: %v are held and %v cut off, want %v and %v", when, now, cutOff, wantNow, wantCutOff)
		}
	}
	book.begin(math.MaxInt)
	for _, a := range []*arrival{got(1, 1, 0, 1, 0), got(2, 2, 0, 1, 0), got(firstBusy, 3, 0, 1, 0), moved(got(3, 4, 0, 1, 0))} {
		book.arrive(a)
	}
	book.answer(book.last[lane{2, quick}], 200)
	expect("while the server lives", []lane{{1, quick}}, nil)
	book.begin(math.MaxInt)
	expect("after a kill", nil, []lane{{1, quick}})
	book.arrive(got(1, 1, 0, 1, 0))
	expect("after it came again", []lane{{1, quick}}, nil)
}

// The seed alone decides about the cycles, and in ten of them every moment comes up.
func TestPlans(t *testing.T) {
	all := plans(7, 40)
	if !slices.Equal(all, plans(7, 40)) || slices.Equal(all, plans(8, 40)) {
		t.Error("the seed does not decide")
	}
	for m := range moments {
		if !slices.ContainsFunc(all[:10], func(p plan) bool { return p.moment == m }) {
			t.Errorf("killed %v: not among the first ten", m)
		}
	}
}
