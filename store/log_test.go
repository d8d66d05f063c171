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

// secretURL is a URL with secrets. The log may show only its receiver.
const (
	secretURL = "http://s3cretuser:s3cretword@crm.example:8080/s3cretpath/hook?key=s3cretkey#s3cretend"
	secret    = "s3cret"
)

// capturedLog is a log that a test reads.
type capturedLog struct {
	t    testing.TB
	mu   sync.Mutex
	text strings.Builder
}

func (j *capturedLog) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// take returns and removes the logged lines, without their times.
func (j *capturedLog) take() (lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.text.String()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
		lines = append(lines, line)
	}
	j.text.Reset()
	return lines
}

// wantLines compares the logged lines. Each line begins and ends as wanted; … stands for any text between.
func (j *capturedLog) wantLines(want ...string) {
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

// openWithLog opens a store whose log the test reads.
func openWithLog(t testing.TB) (*fixture, *capturedLog) {
	t.Helper()
	f, j := open(t), &capturedLog{t: t}
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
		"to be retried":     {answer(500), nil},
		"refused by status": {answer(400), []string{failedLine + atCRM + "attempt=1 status=400"}},
		"refused by the server": {
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
			f, log := openWithLog(t)
			k := f.agent()
			f.createEvents(k, secretURL, gen.EventTypeAgentLogin)
			f.login(k)
			f.recordAnswer(f.claimOne(), test.outcome)
			log.wantLines(test.want...)
		})
	}
}

// A redelivery that fails has another line. A delivery that was cancelled or corrected during its flight has not
// failed.
func TestOnlyFailuresThatCountAreLogged(t *testing.T) {
	f, log := openWithLog(t)
	k := f.agent()
	event := f.createEvents(k, secretURL, gen.EventTypeAgentLogin)[0]
	f.login(k)
	f.recordAnswer(f.claimOne(), answer(400))
	log.wantLines(failedLine + atCRM + "attempt=1 status=400")
	f.redeliver(1)
	f.recordAnswer(f.claimOne(), answer(422))
	log.wantLines(failedLine + atCRM + "attempt=1 status=422")

	f.redeliver(1)
	inFlight := f.claimOne()
	f.redirect(k, event, board)
	f.recordAnswer(inFlight, answer(400))
	log.wantLines()
	inFlight = f.claimOne()
	f.check(f.DeleteEvent(f.ctx, k, event))
	f.recordAnswer(inFlight, answer(400))
	log.wantLines()
	f.want(map[string]int{"cancelled": 1})
}

// The failures are recorded in one transaction.
func TestEachFailureIsLogged(t *testing.T) {
	f, log := openWithLog(t)
	f.createLanes("12", 1, 24, secretURL)
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

func TestLogLinesHaveTheTraceOfTheirChange(t *testing.T) {
	f, log := openWithLog(t)
	f.createLanes("12", 1, 1, secretURL)
	f.sql("UPDATE status_changes SET traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'")
	f.recordAnswer(f.claimOne(), answer(400))
	log.wantLines(`level=WARN msg="delivery failed"…trace_id=0af7651916cd43dd8448eb211c80319c attempt=1 status=400`)
}

func TestBreakersAreLogged(t *testing.T) {
	f, log := openWithLog(t)
	f.createLanes("12", 1, 9, secretURL)
	const opened = `level=WARN msg="breaker opened" client=12 receiver=http://crm.example:8080 failures=5 `
	for range 4 {
		f.recordAnswer(f.claimOneLane(), answer(500))
		f.clock.add(time.Second)
	}
	log.wantLines()
	f.wantCounts(store.Counts{Logins: 9})
	f.recordAnswer(f.claimOneLane(), webhook.Outcome{
		Attempt: webhook.Attempt{Verdict: webhook.Retry, Error: "the receiver refused the connection"},
		Delay:   time.Hour,
	})
	log.wantLines(opened + `error="the receiver refused the connection"`)
	f.wantCounts(store.Counts{Logins: 9, BreakerOpenings: 1})
	f.probe(5*time.Second, answer(500))
	log.wantLines()
	f.probe(10*time.Second, answer(204))
	log.wantLines(`level=INFO msg="breaker closed" client=12 receiver=http://crm.example:8080 down_for=19s`)
	f.clock.add(time.Hour)
	for _, d := range f.claim() {
		f.recordAnswer(d, answer(503))
	}
	log.wantLines(opened + "status=503")
	f.wantCounts(store.Counts{Logins: 9, Delivered: 1, BreakerOpenings: 2})
}

func TestTestDeliveryThatClosesABreakerIsLogged(t *testing.T) {
	f, log := openWithLog(t)
	f.createLanes("12", 1, 5, secretURL)
	f.openBreaker()
	log.take()
	k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 1}
	d, err := f.NewTestDelivery(f.ctx, k, 1)
	f.check(err)
	_, err = f.SaveTestDelivery(f.ctx, 1, k.Type, d, webhook.Attempt{Status: 200, Verdict: webhook.Delivered})
	f.check(err)
	log.wantLines(`level=INFO msg="breaker closed" client=12 receiver=http://crm.example:8080 down_for=0s`)
}

// A transaction that is rolled back logs nothing, and one that is retried logs once.
func TestOnlyCommitsAreLogged(t *testing.T) {
	f, log := openWithLog(t)
	f.createLanes("12", 1, 60, secretURL)
	seen, fails := 0, 0
	f.BeforeStatements(func() error {
		if seen++; seen != fails {
			return nil
		}
		if pgtest.OnPostgres() {
			return &pgconn.PgError{Code: "40P01"} // the transaction is retried
		}
		return brokenDisk()
	})
	rolledBack := 0
	for n := 1; ; n++ {
		d := f.claimOneLane()
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
		t.Error("no transaction was rolled back")
	}
}

// failures returns the lines about failed deliveries.
func failures(j *capturedLog) []string {
	return slices.DeleteFunc(j.take(), func(line string) bool { return !strings.Contains(line, "delivery failed") })
}

// A successful delivery needs no query for a log line.
func TestSuccessQueriesNothingForTheLog(t *testing.T) {
	f, _ := openWithLog(t)
	f.createLanes("12", 1, 2, secretURL)
	queries := 0
	f.WatchStatements(func(_ bool, statement string) {
		if strings.Contains(statement, "d.kind, c.traceparent") {
			queries++
		}
	})
	f.recordAnswer(f.claimOneLane(), answer(200))
	if queries != 0 {
		t.Errorf("%d queries for a delivery that succeeded", queries)
	}
	if f.recordAnswer(f.claimOneLane(), answer(400)); queries != 1 {
		t.Errorf("%d queries for a delivery that failed", queries)
	}
}
