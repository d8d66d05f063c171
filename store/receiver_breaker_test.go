package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// answer returns an outcome with a status; 0 is no answer. A retry is due in an hour.
func answer(status int) webhook.Outcome {
	o := webhook.Outcome{Attempt: webhook.Attempt{Status: status, Verdict: webhook.Judge(status, nil)}}
	if o.Verdict == webhook.Retry {
		o.Delay = time.Hour
	}
	return o
}

// busy returns an answer with a Retry-After.
func busy(status int, retryAfter time.Duration) webhook.Outcome {
	o := answer(status)
	o.RetryAfter, o.Delay = retryAfter, retryAfter
	return o
}

// cutOff returns an incomplete answer.
func cutOff(status int) webhook.Outcome {
	o := answer(0)
	o.Status, o.Error = status, "the receiver closed the connection before its answer was complete"
	return o
}

// recordAnswer records an answer and returns the next delivery of the lane.
func (f *fixture) recordAnswer(d webhook.Delivery, o webhook.Outcome) *webhook.Delivery {
	f.t.Helper()
	o.StartedAt = f.clock.Now()
	next, err := f.Record(f.ctx, d, o, true)
	f.check(err)
	return next
}

// createLanes creates local agents of a client with consecutive ids, each with a pending delivery to a URL.
func (f *fixture) createLanes(client string, first, n int64, url string) {
	f.t.Helper()
	_, _, err := f.PutClient(f.ctx, client, gen.ClientUpdate{})
	f.check(err)
	name := "x"
	for id := first; id < first+n; id++ {
		k := store.AgentKey{Client: client, Type: gen.AgentTypeLocal, ID: id}
		_, _, err := f.PutAgent(f.ctx, k, store.AgentUpdate{Name: &name})
		f.check(err)
		f.createEvents(k, url, both...)
		f.login(k)
	}
}

// claimOneLane claims only the lane that is due the longest.
func (f *fixture) claimOneLane() webhook.Delivery {
	f.t.Helper()
	claimed, _, err := f.Claim(f.ctx, webhook.ClaimLimits{Lanes: 1, PerReceiver: 1, Take: func(string, int64) bool {
		return true
	}})
	f.check(err)
	if len(claimed) != 1 {
		f.t.Fatalf("claimed %+v, want one", claimed)
	}
	return claimed[0]
}

// openBreaker records failures in the five lanes that are due the longest.
func (f *fixture) openBreaker() {
	f.t.Helper()
	for range 5 {
		f.recordAnswer(f.claimOneLane(), answer(500))
	}
	f.claimNone()
}

// probe moves the clock until a probe is due, checks that no lane is due before, and answers the probe.
func (f *fixture) probe(after time.Duration, o webhook.Outcome) webhook.Delivery {
	f.t.Helper()
	f.clock.add(after - time.Millisecond)
	f.claimNone()
	f.clock.add(time.Millisecond)
	d := f.claimOne()
	f.claimNone()
	f.recordAnswer(d, o)
	return d
}

func TestBreakerOpensAfterFiveFailuresInARow(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []webhook.Outcome
		open    bool
	}{
		{"after five in a row", []webhook.Outcome{answer(500), answer(0), answer(502), answer(599), answer(503)}, true},
		{
			"answers that were cut off count",
			[]webhook.Outcome{answer(500), cutOff(200), cutOff(404), answer(0), cutOff(200)},
			true,
		},
		{"not after four", []webhook.Outcome{answer(500), answer(0), answer(502), answer(599)}, false},
		{
			"not with a success between",
			[]webhook.Outcome{answer(500), answer(500), answer(500), answer(500), answer(204), answer(500)},
			false,
		},
		{
			"not with any other sign of life between",
			[]webhook.Outcome{answer(500), answer(500), answer(500), answer(500), answer(404), answer(500)},
			false,
		},
		{
			"answers that say nothing about the receiver neither count nor restart the count",
			[]webhook.Outcome{
				answer(500), answer(500), answer(408), answer(500), answer(425), answer(500), answer(500),
			},
			true,
		},
		{
			"not when the receiver asks for time",
			slices.Repeat([]webhook.Outcome{busy(503, time.Minute)}, 9), false,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := open(t)
			f.createLanes("12", 1, int64(len(test.answers)+1), crm)
			for _, o := range test.answers {
				f.recordAnswer(f.claimOneLane(), o)
			}
			if got := len(f.claim()) == 0; got != test.open {
				t.Errorf("open: %t, want %t", got, test.open)
			}
		})
	}
}

func TestBreakerProbesLanesInTurnUntilASuccess(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 12, crm)
	f.createLanes("99", 1, 1, crm) // another client with the same host
	f.createLanes("12", 20, 1, board)
	var others []webhook.Delivery
	var failing []webhook.Delivery
	for _, d := range f.claim() {
		if d.Receiver == 1 && len(failing) < 5 {
			failing = append(failing, d)
		} else {
			others = append(others, d)
		}
	}
	for _, d := range others {
		f.check(f.Release(f.ctx, d))
	}
	for _, d := range failing {
		f.recordAnswer(d, answer(500))
	}
	untouched := f.claim()
	if len(untouched) != 2 || untouched[0].Receiver == 1 || untouched[1].Receiver == 1 {
		t.Fatalf("claimed %+v, want the lanes of another receiver and another client", untouched)
	}
	for _, d := range untouched {
		f.finish(d)
	}

	lanes := map[int64]bool{}
	for _, after := range []time.Duration{5, 10, 30, 60, 60} {
		lanes[f.probe(after*time.Second, answer(0)).Lane] = true
	}
	if len(lanes) != 5 {
		t.Errorf("probes of %d lanes, want 5: lanes take turns", len(lanes))
	}
	f.probe(time.Minute, answer(204))
	if claimed := f.claim(); len(claimed) != 1 {
		t.Errorf("claimed %d after a success, want the remaining one", len(claimed))
	}
	f.clock.add(time.Hour)
	if claimed := f.claim(); len(claimed) != 11 {
		t.Errorf("claimed %d, want all that had failed and the one whose lease expired", len(claimed))
	}
}

// backlog creates n lanes of a client with a pending delivery each at one receiver, fast.
func (f *fixture) backlog(n int) {
	f.t.Helper()
	f.createLanes("12", 1, 1, crm)
	f.sql(fmt.Sprintf(`
		CREATE TEMP TABLE n AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			SELECT i FROM n WHERE i > 1;
		INSERT INTO lanes (id, receiver_id, kind, agent_id, pending, due_at)
			SELECT i, receiver_id, kind, i, 1, due_at FROM lanes, n WHERE id = 1;
		INSERT INTO status_changes (id, client_id, kind, agent_id, name, old_status, new_status, event_source,
			changed_at, created_at,
				fired)
			SELECT i, client_id, kind, i, name, old_status, new_status, event_source, changed_at, created_at, fired
			FROM status_changes, n WHERE id = 1;
		INSERT INTO deliveries (id, webhook_id, change_id, event_id, lane_id, version_id, state, due_at, expires_at,
			created_at,
				client_id, kind, agent_id, new_status, changed_at)
			SELECT i, 'msg_' || i, i, event_id, i, version_id, state, due_at, expires_at, created_at,
				client_id, kind, i, new_status, changed_at
			FROM deliveries, n WHERE id = 1;`, n))
	for _, table := range []string{"lanes", "status_changes", "deliveries"} { // the next ids
		if pgtest.OnPostgres() {
			f.sql(fmt.Sprintf("SELECT setval(pg_get_serial_sequence('%s', 'id'), max(id)) FROM %s", table, table))
		}
	}
}

func TestDeadReceiverWithManyLanesGetsOnlyProbes(t *testing.T) {
	f := open(t)
	f.backlog(5000)
	start := f.clock.Now()
	var attempts []int // seconds
	for range 600 {
		for _, d := range f.claim() {
			attempts = append(attempts, int(f.clock.Now().Sub(start).Seconds()))
			f.recordAnswer(d, answer(0))
		}
		f.clock.add(time.Second)
	}
	// A hundred deliveries were in flight when the breaker opened. Their results are no probes.
	want := append(make([]int, 100), 5, 15, 45, 105, 165, 225, 285, 345, 405, 465, 525, 585)
	if !slices.Equal(attempts, want) {
		t.Errorf("attempts at %v, want %v", attempts, want)
	}
	f.clock.add(time.Minute)
	f.recordAnswer(f.claimOne(), answer(200))
	if claimed := f.claim(); len(claimed) != 100 {
		t.Errorf("claimed %d after a success, want as many as there is room for", len(claimed))
	}
}

func TestOpenBreakerSurvivesARestart(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 9, crm)
	f.openBreaker()
	f.restart()
	f.probe(5*time.Second, answer(500))
	f.clock.add(10 * time.Second)
	cut := f.claimOne()
	f.crash() // the probe is in flight
	again := f.claimOne()
	f.claimNone()
	if again.ID == cut.ID {
		t.Errorf("probe %d after the restart and before, want the next in turn", again.ID)
	}
	f.recordAnswer(again, answer(500))
	f.probe(30*time.Second, answer(500)) // the delay grows with the failed probes
}

func TestLateFailuresAreNoProbes(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 10, crm)
	inFlight := f.claim()
	for _, d := range inFlight[8:] {
		f.check(f.Release(f.ctx, d))
	}
	for _, d := range inFlight[:8] {
		f.recordAnswer(d, answer(500)) // three of them are late
	}
	f.probe(5*time.Second, answer(500))
	f.probe(10*time.Second, answer(500))
}

func TestLateSuccessClosesTheBreaker(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 7, crm)
	inFlight := f.claim()[:6]
	f.createLanes("12", 10, 3, crm)
	for _, d := range inFlight[:5] {
		f.recordAnswer(d, answer(500))
	}
	f.claimNone()
	f.recordAnswer(inFlight[5], answer(200))
	if claimed := f.claim(); len(claimed) != 3 {
		t.Errorf("claimed %d, want 3", len(claimed))
	}
}

// A released probe permits another at once, a lost probe at the end of its lease.
func TestAbandonedProbePermitsAnother(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 8, crm)
	f.openBreaker()
	f.clock.add(5 * time.Second)
	f.check(f.Release(f.ctx, f.claimOne()))
	lost := f.claimOne()
	f.clock.add(15*time.Second - time.Millisecond)
	f.claimNone()
	f.clock.add(time.Millisecond)
	probe := f.claimOne()
	if probe.Lane == lost.Lane {
		t.Error("the same lane is probed again, want another in turn")
	}
	f.recordAnswer(lost, answer(500)) // too late to count as a probe
	f.claimNone()
	f.recordAnswer(probe, answer(500))
	f.probe(10*time.Second, answer(200))
}

func TestExpiredHeadIsNoProbe(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 6, crm)
	f.openBreaker()
	f.clock.add(24 * time.Hour)
	f.createLanes("12", 7, 1, crm)
	var claimed []webhook.Delivery
	for range 7 { // the heads of six lanes have expired
		claimed = append(claimed, f.claim()...)
	}
	if len(claimed) != 1 || claimed[0].Data.AgentID != "7" {
		t.Fatalf("claimed %+v, want the one that has not expired", claimed)
	}
}

// Such an answer does not close the breaker, and the lane is not kept.
func TestProbeWithoutASignOfLifeKeepsTheBreakerOpen(t *testing.T) {
	refused := webhook.Outcome{Attempt: webhook.Attempt{Verdict: webhook.Failed, Error: "forbidden"}}
	for name, o := range map[string]webhook.Outcome{
		"408": answer(408), "429": busy(429, time.Second), "503": busy(503, time.Second), "refused": refused,
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			f.createLanes("12", 1, 8, crm)
			f.openBreaker()
			for id := range int64(8) {
				f.logout(store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: id + 1})
			}
			f.clock.add(5 * time.Second)
			if next := f.recordAnswer(f.claimOne(), o); next != nil {
				t.Fatalf("the lane continued with %+v", next)
			}
			f.probe(10*time.Second, answer(500))
		})
	}
}

func TestPauseAppliesToAllLanesOfTheReceiver(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 4, crm)
	f.createLanes("99", 1, 1, crm)
	f.createLanes("12", 20, 1, board)
	claimed := f.claim()
	f.createLanes("12", 30, 2, crm)
	f.logout(store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 3})
	paused := 0
	for _, d := range claimed {
		switch {
		case d.Receiver != 1:
			f.finish(d)
		case paused == 0:
			paused++
			f.recordAnswer(d, busy(429, time.Minute))
		case paused == 1:
			paused++
			f.recordAnswer(d, busy(429, time.Second)) // the longest counts
		default:
			if next := f.recordAnswer(d, answer(200)); next != nil {
				t.Errorf("the lane continued with %+v", next)
			}
		}
	}
	f.createLanes("99", 2, 1, crm)
	f.createLanes("12", 21, 1, board)
	if others := f.claim(); len(others) != 2 {
		t.Errorf("claimed %d, want the two of other receivers", len(others))
	}
	f.clock.add(time.Minute - time.Millisecond)
	for _, d := range f.claim() {
		if d.Receiver == 1 {
			t.Errorf("claimed %+v before the end of its receiver's pause", d)
		}
	}
	f.clock.add(time.Millisecond)
	if all := f.claim(); len(all) != 5 {
		t.Errorf("claimed %d, want all 5: two again, two new ones and a logout", len(all))
	}
}

// The receiver asks for a pause in another lane.
func TestLaneIsNotKeptDuringAPause(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 2, crm)
	for id := range int64(2) {
		f.logout(store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: id + 1})
	}
	claimed := f.claim()
	f.recordAnswer(claimed[0], busy(429, time.Minute))
	if next := f.recordAnswer(claimed[1], answer(200)); next != nil {
		t.Fatalf("the lane continued with %+v", next)
	}
	f.clock.add(time.Minute)
	for _, d := range f.claim() {
		f.finish(d)
	}
	f.wantDrained()
}

// The 429 is late, when the breaker is open.
func TestLatePauseDoesNotHastenTheNextProbe(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 9, crm)
	inFlight := f.claim()[:7]
	for _, d := range inFlight[:5] {
		f.recordAnswer(d, answer(500))
	}
	f.recordAnswer(inFlight[5], busy(429, time.Second))
	f.probe(5*time.Second, answer(500))
	f.recordAnswer(inFlight[6], busy(429, time.Minute))
	f.probe(time.Minute, answer(200))
}

func TestRetryAfterOf503DelaysOneDelivery(t *testing.T) {
	f := open(t)
	f.createLanes("12", 1, 2, crm)
	claimed := f.claim()
	f.recordAnswer(claimed[0], busy(503, 40*time.Second))
	f.finish(claimed[1])
	f.createLanes("12", 3, 1, crm)
	f.finish(f.claimOne())
	f.clock.add(40*time.Second - time.Millisecond)
	f.claimNone()
	f.clock.add(time.Millisecond)
	if d := f.claimOne(); d.ID != claimed[0].ID {
		t.Errorf("claimed %+v, want the delayed delivery", d)
	}
}
