package store_test

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// secretURL is one of which the log may have the receiver alone.
const (
	secretURL = "http://s3cretuser:s3cretword@crm.example:8080/s3cretpath/hook?key=s3cretkey#s3cretend"
	secret    = "s3cret"
)

// journal is a log that a test reads.
type journal struct {
	t    testing.TB
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// take returns the lines of what was logged since the last time, without their times.
func (j *journal) take() (lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.text.String()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
		lines = append(lines, line)
	}
	j.text.Reset()
	return lines
}

// says compares what was logged since the last time. A line begins and ends as wanted, with … for what is between.
func (j *journal) says(want ...string) {
	j.t.Helper()
	got := j.take()
	fits := func(got, want string) bool {
		begin, end, _ := strings.Cut(want, "…")
		return strings.HasPrefix(got, begin) && strings.HasSuffix(got, end)
	}
	if !slices.EqualFunc(got, want, fits) {
		j.t.Errorf("the log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if strings.Contains(strings.Join(got, ""), secret) {
		j.t.Errorf("the log has a secret:\n%s", strings.Join(got, "\n"))
	}
}

// journaled is a store whose log is read.
func journaled(t testing.TB) (*fixture, *journal) {
	t.Helper()
	f, j := open(t), &journal{t: t}
	f.log = slog.New(slog.NewTextHandler(j, nil))
	f.restart()
	return f, j
}

const (
	failedLine = `level=WARN msg="delivery failed" client=12 agent_type=local agent_id=136 event=1 delivery=1 ` +
		`sequence=1 webhook_id=msg_…`
	atCRM = " receiver=http://crm.example:8080 "
)

func TestFailedDeliveriesAreLogged(t *testing.T) {
	refused := webhook.Outcome{
		Attempt: webhook.Attempt{Verdict: webhook.Failed, Error: "the address 10.0.0.1 is not one"},
	}
	for name, test := range map[string]struct {
		outcome webhook.Outcome
		want    []string
	}{
		"delivered":         {answer(204), nil},
		"to be tried again": {answer(500), nil},
		"refused by status": {answer(400), []string{failedLine + atCRM + "attempt=1 status=400"}},
		"refused by this side": {
			refused, []string{failedLine + atCRM + `attempt=1 error="the address 10.0.0.1 is not one"`},
		},
		"gone": {answer(410), []string{
			`level=WARN msg="event disabled" client=12 agent_type=local agent_id=136 event=1 delivery=1 ` +
				`sequence=1 webhook_id=msg_…` +
				atCRM + `reason="the receiver answered 410 Gone"`,
			failedLine + atCRM + "attempt=1 status=410",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f, log := journaled(t)
			k := f.agent()
			f.register(k, secretURL, gen.EventTypeAgentLogin)
			f.login(k)
			f.get(f.claimOne(), test.outcome)
			log.says(test.want...)
		})
	}
}

// A delivery that fails again after it was redelivered is another line; one that was cancelled or corrected while it
// was in flight has not failed.
func TestFailuresThatCountAreLogged(t *testing.T) {
	f, log := journaled(t)
	k := f.agent()
	event := f.register(k, secretURL, gen.EventTypeAgentLogin)[0]
	f.login(k)
	f.get(f.claimOne(), answer(400))
	log.says(failedLine + atCRM + "attempt=1 status=400")
	f.redeliver(1)
	f.get(f.claimOne(), answer(422))
	log.says(failedLine + atCRM + "attempt=1 status=422")

	f.redeliver(1)
	flying := f.claimOne()
	f.redirect(k, event, board)
	f.get(flying, answer(400))
	log.says()
	flying = f.claimOne()
	f.check(f.DeleteEvent(f.ctx, k, event))
	f.get(flying, answer(400))
	log.says()
	f.want(map[string]int{"cancelled": 1})
}

// What is recorded together has a line for each.
func TestEachFailureIsLogged(t *testing.T) {
	f, log := journaled(t)
	f.lanes("12", 1, 24, secretURL)
	var all sync.WaitGroup
	for _, d := range f.claim() {
		all.Go(func() {
			if _, err := f.Record(f.ctx, d, answer([]int{400, 200}[d.ID%2]), false); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	lines := log.take()
	slices.Sort(lines)
	if len(lines) != 12 || len(slices.Compact(lines)) != 12 || strings.Contains(strings.Join(lines, ""), secret) {
		t.Errorf("12 deliveries have failed, and the log has\n%s", strings.Join(lines, "\n"))
	}
}

// The trace of a change is that of its lines.
func TestLinesHaveTheTrace(t *testing.T) {
	f, log := journaled(t)
	f.lanes("12", 1, 1, secretURL)
	f.sql("UPDATE status_changes SET traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'")
	f.get(f.claimOne(), answer(400))
	log.says(`level=WARN msg="delivery failed"…trace_id=0af7651916cd43dd8448eb211c80319c attempt=1 status=400`)
}

func TestBreakersAreLogged(t *testing.T) {
	f, log := journaled(t)
	f.lanes("12", 1, 9, secretURL)
	const opened = `level=WARN msg="breaker opened" client=12 receiver=http://crm.example:8080 failures=5 `
	for range 4 {
		f.get(f.oneLane(), answer(500))
		f.clock.add(time.Second)
	}
	log.says()
	f.wantCounts(store.Counts{Logins: 9})
	f.get(f.oneLane(), webhook.Outcome{
		Attempt: webhook.Attempt{Verdict: webhook.Retry, Error: "the receiver refused the connection"},
		Delay:   time.Hour,
	})
	log.says(opened + `error="the receiver refused the connection"`)
	f.wantCounts(store.Counts{Logins: 9, BreakerOpenings: 1})
	f.probe(5*time.Second, answer(500))
	log.says()
	f.probe(10*time.Second, answer(204))
	log.says(`level=INFO msg="breaker closed" client=12 receiver=http://crm.example:8080 down_for=19s`)
	f.clock.add(time.Hour)
	for _, d := range f.claim() {
		f.get(d, answer(503))
	}
	log.says(opened + "status=503")
	f.wantCounts(store.Counts{Logins: 9, Delivered: 1, BreakerOpenings: 2})
}

// A test of an event that its receiver takes closes the breaker, too.
func TestTestThatClosesABreakerIsLogged(t *testing.T) {
	f, log := journaled(t)
	f.lanes("12", 1, 5, secretURL)
	f.openBreaker()
	log.take()
	k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 1}
	d, err := f.NewTestDelivery(f.ctx, k, 1)
	f.check(err)
	_, err = f.SaveTestDelivery(f.ctx, 1, k.Type, d, webhook.Attempt{Status: 200, Verdict: webhook.Delivered})
	f.check(err)
	log.says(`level=INFO msg="breaker closed" client=12 receiver=http://crm.example:8080 down_for=0s`)
}

// Whichever statement fails, what was rolled back is no line, and what is done again is one.
func TestOnlyWhatIsCommittedIsLogged(t *testing.T) {
	f, log := journaled(t)
	f.lanes("12", 1, 60, secretURL)
	seen, fails := 0, 0
	f.BeforeStatements(func() error {
		if seen++; seen != fails {
			return nil
		}
		if pgtest.OnPostgres() {
			return &pgconn.PgError{Code: "40P01"} // has the transaction be done again
		}
		return brokenDisk()
	})
	rolledBack := 0
	for n := 1; ; n++ {
		d := f.oneLane()
		log.take()
		seen, fails = 0, n
		o := answer(400)
		o.StartedAt = f.clock.Now()
		_, err := f.Record(f.ctx, d, o, false)
		last := seen < n
		if fails = 0; err != nil {
			if lines := failures(log); len(lines) > 0 {
				t.Errorf("statement %d has failed, and the log has %s", n, lines)
			}
			_, err = f.Record(f.ctx, d, o, false)
			rolledBack++
		}
		f.check(err)
		if lines := failures(log); len(lines) != 1 {
			t.Errorf("statement %d has failed once, and the log has %q", n, lines)
		}
		if last {
			break
		}
	}
	if rolledBack == 0 && !pgtest.OnPostgres() {
		t.Error("nothing was rolled back")
	}
}

// failures are the lines about deliveries that have failed, and not about statements.
func failures(j *journal) []string {
	return slices.DeleteFunc(j.take(), func(line string) bool { return !strings.Contains(line, "delivery failed") })
}

// What succeeds is recorded without a look at what a line would say.
func TestSuccessTakesNoLookForLines(t *testing.T) {
	f, _ := journaled(t)
	f.lanes("12", 1, 2, secretURL)
	looks := 0
	f.WatchStatements(func(_ bool, statement string) {
		if strings.Contains(statement, "d.webhook_id, d.url, d.kind, c.traceparent") {
			looks++
		}
	})
	f.get(f.oneLane(), answer(200))
	if looks != 0 {
		t.Errorf("%d looks for a delivery that succeeded", looks)
	}
	if f.get(f.oneLane(), answer(400)); looks != 1 {
		t.Errorf("%d looks for a delivery that failed", looks)
	}
}
