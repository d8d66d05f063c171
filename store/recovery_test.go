package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/webhook"
)

// simulation sends deliveries to receivers that are up or down by a fixture's clock.
type simulation struct {
	*fixture
	schedule webhook.Schedule
	answer   func(d webhook.Delivery) int // the status of the answer, 0 for none
	attempts map[int64]int                // by delivery id
	arrived  map[int64]time.Time          // the times of successful deliveries
}

func newSimulation(t *testing.T, schedule webhook.Schedule) *simulation {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	schedule.Random = rand.New(rand.NewPCG(seed, 0)).Float64 //nolint:gosec // it need not be a secret
	return &simulation{fixture: open(t), schedule: schedule, attempts: map[int64]int{}, arrived: map[int64]time.Time{}}
}

// send sends deliveries, in each lane until it is empty or fails.
func (w *simulation) send(claimed []webhook.Delivery) {
	w.t.Helper()
	for _, d := range claimed {
		for next := &d; next != nil; {
			d := *next
			w.attempts[d.ID]++
			a := webhook.Attempt{StartedAt: w.clock.Now(), Status: w.answer(d)}
			a.Verdict = webhook.Judge(a.Status, nil)
			switch {
			case a.Verdict == webhook.Delivered:
				w.arrived[d.ID] = w.clock.Now()
			case a.Status == 404 && time.Now().Before(d.DeployingUntil):
				a.Verdict = webhook.Retry
			}
			var err error
			next, err = w.Record(w.ctx, d, w.schedule.Outcome(d, a), true)
			w.check(err)
		}
	}
}

// pass moves the clock from one due time to the next, and sends the due deliveries.
func (w *simulation) pass(d time.Duration) {
	w.t.Helper()
	for end := w.clock.Now().Add(d); ; {
		claimed, next, err := w.Claim(w.ctx,
			webhook.ClaimLimits{Lanes: 1000, PerReceiver: 1000, Take: func(string, int64) bool { return true }})
		w.check(err)
		w.send(claimed)
		left := end.Sub(w.clock.Now())
		switch {
		case len(claimed) > 0 || next == 0:
		case left <= 0:
			return
		case next < 0 || next > left:
			w.clock.add(left)
		default:
			w.clock.add(next)
		}
	}
}

// bound is the maximum delay of a delivery after its receiver is back: a minute and the jitter.
func (w *simulation) bound() time.Duration {
	return time.Duration(float64(time.Minute) * (1 + w.schedule.Jitter))
}

func TestDeliveriesArriveSoonAfterAnOutage(t *testing.T) {
	short := webhook.Schedule{Delays: []time.Duration{time.Second, 5 * time.Minute}}
	for _, test := range []struct {
		name     string
		schedule webhook.Schedule
		lanes    int
		down     time.Duration
	}{
		{"three lanes, by a schedule of a second and five minutes", short, 3, 8 * time.Second},
		{"one lane", webhook.DefaultSchedule(), 1, 10 * time.Second},
		{"one lane", webhook.DefaultSchedule(), 1, 14 * time.Minute},
		{"one lane", webhook.DefaultSchedule(), 1, 5 * time.Hour},
		{"three lanes", webhook.DefaultSchedule(), 3, 10 * time.Second},
		{"three lanes", webhook.DefaultSchedule(), 3, 14 * time.Minute},
		{"three lanes", webhook.DefaultSchedule(), 3, 5 * time.Hour},
		{"a thousand lanes", webhook.DefaultSchedule(), 1000, 10 * time.Second},
		{"a thousand lanes", webhook.DefaultSchedule(), 1000, 14 * time.Minute},
		{"a thousand lanes", webhook.DefaultSchedule(), 1000, 5 * time.Hour},
	} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, down for %s, crash %t", test.name, test.down, crash), func(t *testing.T) {
				w := newSimulation(t, test.schedule)
				w.backlog(test.lanes)
				w.outage(test.down, crash)
			})
		}
	}
}

// outage makes the receiver fail for a time, and checks that all deliveries arrive soon after that.
func (w *simulation) outage(down time.Duration, crash bool) {
	w.t.Helper()
	back := w.clock.Now().Add(down)
	w.answer = func(webhook.Delivery) int {
		if w.clock.Now().Before(back) {
			return 0
		}
		return 204
	}
	w.pass(down / 2)
	w.logout(store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 1}) // behind a pending delivery
	if crash {
		w.claim() // in flight when the process dies
		w.crash()
	}
	w.pass(back.Sub(w.clock.Now()))
	w.pass(w.bound())
	w.wantDrained()
}

// Such a delivery is retried every minute, since nothing else is sent to its receiver. It blocks deliveries of other
// agents no longer than that, whatever the number of such deliveries.
func TestRejectedDeliveriesDelayOthersByAMinuteAtMost(t *testing.T) {
	for _, test := range []struct {
		poisoned int64
		every    time.Duration
	}{
		{1, 40 * time.Minute},
		{8, 40 * time.Minute},
		{8, 2 * time.Minute},
		{20, 2 * time.Minute},
		{20, 10 * time.Minute},
	} {
		poisoned := test.poisoned
		t.Run(fmt.Sprintf("%d agents, a login every %s", poisoned, test.every), func(t *testing.T) {
			w := newSimulation(t, webhook.DefaultSchedule())
			w.answer = func(d webhook.Delivery) int {
				if d.Sequence <= poisoned {
					return 500
				}
				return 200
			}
			w.createLanes("12", 1, poisoned, crm)
			w.pass(time.Hour)
			for id := range int64(5) {
				w.pass(test.every)
				w.createLanes("12", 100+id, 1, crm)
				made := w.clock.Now()
				w.pass(w.bound())
				if n := len(w.arrived); n != int(id)+1 {
					t.Fatalf("%s after the login of agent %d, %d of the others have arrived", w.clock.Now().Sub(made),
						100+id, n)
				}
			}
		})
	}
}

// It backs off by the schedule, while the receiver accepts other deliveries.
func TestRejectedDeliveryBacksOffAtABusyReceiver(t *testing.T) {
	w := newSimulation(t, webhook.DefaultSchedule())
	w.answer = func(d webhook.Delivery) int {
		if d.Sequence == 1 {
			return 500
		}
		return 200
	}
	w.createLanes("12", 1, 1, crm)
	other := w.agentN(99)
	w.createEvents(other, crm, both...)
	for range 12 * 60 {
		w.login(other)
		w.pass(2 * time.Second)
		w.logout(other)
		w.pass(8 * time.Second)
	}
	if n := w.attempts[1]; n < 5 || n > 8 { // 5 s, 30 s, 2 min, 10 min, 30 min, an hour
		t.Errorf("%d attempts in two hours, want 5 to 8", n)
	}
	if n := len(w.arrived); n != 2*12*60 {
		t.Errorf("%d of the others have arrived, want %d", n, 2*12*60)
	}
}

func TestDeliveriesSurviveARandomlyFailingReceiver(t *testing.T) {
	w := newSimulation(t, webhook.DefaultSchedule())
	w.answer = func(webhook.Delivery) int {
		if w.schedule.Random() < 0.5 {
			return 500
		}
		return 200
	}
	w.backlog(1000)
	w.pass(10 * time.Minute) // up to four attempts each
	if n := len(w.arrived); n < 850 || n > 990 {
		t.Errorf("%d of 1000 have arrived after ten minutes, want nearly all and not all: the schedule continues", n)
	}
	w.pass(23 * time.Hour)
	w.wantDrained()
}

// A receiver that is deployed after an outage may answer 404 for a while.
func TestDeploymentAfterAnOutageFailsNothing(t *testing.T) {
	for _, lanes := range []int{1, 3} {
		w := newSimulation(t, webhook.DefaultSchedule())
		w.DeployWindow = 15 * time.Minute
		w.backlog(lanes)
		start := w.clock.Now()
		w.answer = func(webhook.Delivery) int {
			switch passed := w.clock.Now().Sub(start); {
			case passed < time.Hour:
				return 0
			case passed < time.Hour+2*time.Minute:
				return 404
			}
			return 204
		}
		w.pass(2 * time.Hour)
		if len(w.arrived) != lanes {
			t.Errorf("%d of %d have arrived", len(w.arrived), lanes)
		}
		w.wantDrained()
	}
}

// Hundreds of failures of the receiver do not lengthen the delay after the delivery's next own failure.
func TestOutageDoesNotCountAsFailuresOfADelivery(t *testing.T) {
	w := newSimulation(t, webhook.DefaultSchedule())
	up := false
	w.answer = func(d webhook.Delivery) int {
		if !up || d.Sequence == 1 {
			return 500
		}
		return 200
	}
	w.createLanes("12", 1, 1, crm)
	w.pass(5 * time.Hour)
	before := w.attempts[1]
	if before < 200 {
		t.Fatalf("%d attempts in five hours, want one a minute", before)
	}
	up = true
	other := w.agentN(99)
	w.createEvents(other, crm, both...)
	for range 12 {
		w.login(other)
		w.pass(5 * time.Second)
		w.logout(other)
		w.pass(10 * time.Second)
	}
	if n := w.attempts[1] - before; n < 2 {
		t.Errorf("%d attempts in three minutes, want them by the beginning of the schedule", n)
	}
}
