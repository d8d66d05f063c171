package store

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/webhook"
)

// Stats are measurements of the pending work at one moment.
type Stats struct {
	Ready    Backlog // at receivers that accept deliveries
	Waiting  Backlog // at receivers whose breaker is open or that asked for a pause
	Pending  int     // pending deliveries, due or not
	Breakers int     // open breakers
	Disabled int     // disabled events
	AtLimit  int     // clients that have as many pending deliveries as they may have; counted about once a second
}

// Backlog measures the lanes that are due and not leased.
type Backlog struct {
	Lanes  int
	Oldest time.Duration // how long the oldest of them has been due; 0 if there is none
}

// backlogSQL reads the index of due lanes, and no lane.
const backlogSQL = receiversSQL + `
SELECT v.failures >= @open OR coalesce(v.waits, 0) > @now AS waiting,
	CAST(sum((SELECT count(*) FROM lanes x WHERE x.receiver_id = r.id AND x.due_at <= @now)) AS BIGINT) AS lanes,
	min((SELECT x.due_at FROM lanes x
		WHERE x.receiver_id = r.id AND x.due_at <= @now ORDER BY x.due_at LIMIT 1)) AS since
FROM r JOIN receivers v ON v.id = r.id GROUP BY 1`

// countsSQL counts the entries of three partial indexes.
var countsSQL = fmt.Sprintf("SELECT (SELECT count(*) FROM deliveries WHERE state = 'pending') AS pending, "+
	"(SELECT count(*) FROM receivers WHERE failures >= %d) AS breakers, "+
	"(SELECT count(*) FROM agent_events WHERE state = 'disabled') AS disabled", webhook.BreakerThreshold)

// Stats measures the pending work. It uses a reader's connection for some milliseconds, and does not block writers.
func (s *Store) Stats(ctx context.Context) (m Stats, err error) {
	err = s.snapshot(ctx, func(tx *sqldb.Reader) error {
		if err := s.backlogs(tx, &m); err != nil {
			return err
		}
		counts, err := sqldb.Value[struct {
			Pending  int
			Breakers int
			Disabled int
		}](tx, countsSQL)
		m.Pending, m.Breakers, m.Disabled = counts.Pending, counts.Breakers, counts.Disabled
		return err
	})
	m.AtLimit = int(s.atLimit.clients.Load())
	return m, err
}

func (s *Store) backlogs(q sqldb.Querier, m *Stats) error {
	var rows []struct {
		Waiting bool
		Lanes   int
		Since   *int64 // nil if no lane is due
	}
	now := s.now()
	rows, err := sqldb.Select[struct {
		Waiting bool
		Lanes   int
		Since   *int64
	}](q, backlogSQL, map[string]any{"open": webhook.BreakerThreshold, "now": now})
	for _, r := range rows {
		of := &m.Ready
		if r.Waiting {
			of = &m.Waiting
		}
		if r.Since != nil {
			*of = Backlog{r.Lanes, time.Duration(now-*r.Since) * time.Millisecond}
		}
	}
	return err
}

// pendingRow is a client's pending deliveries, without parked ones.
type pendingRow struct {
	ClientID       string
	Pending, Limit int64
}

// pendingSQL sums the pending deliveries of each client over the due lanes. All lanes with pending deliveries are due,
// now or later. It reads the index of due lanes and these lanes.
const pendingSQL = receiversSQL + `
SELECT v.client_id, c.pending_limit AS "limit", CAST(sum((SELECT sum(x.pending) FROM lanes x
	WHERE x.receiver_id = r.id AND x.due_at IS NOT NULL)) AS BIGINT) AS pending
FROM r JOIN receivers v ON v.id = r.id JOIN clients c ON c.id = v.client_id GROUP BY v.client_id, c.pending_limit`

// pendingRest is the least time from one count of pending deliveries to the next, as a multiple of its duration.
const pendingRest = 20

// countPending counts the pending deliveries of each client, so that a change and a delivery cost no further write.
// With very many lanes that takes long, so it rests for pendingRest times as long.
func (s *Store) countPending(ctx context.Context) error {
	begun := s.monotonic()
	if begun.Before(s.atLimit.next) {
		return nil
	}
	added := s.pendingCounter.snapshot(0)
	rows, err := sqldb.Select[pendingRow](s.read(ctx), pendingSQL)
	ended := s.monotonic()
	s.atLimit.next = ended.Add(pendingRest * ended.Sub(begun))
	if err != nil {
		return publicError(err)
	}
	pending := make(map[string]int64, len(rows))
	for _, r := range rows {
		pending[r.ClientID] = r.Pending
	}
	s.pendingCounter.confirm(0, pending, added)
	s.atLimit.note(rows, ended, s.Log)
	return nil
}

const (
	atLimitLogEvery = time.Hour // the interval of the lines about one client
	atLimitLines    = 10        // lines of one count; further clients have theirs after the next count
)

// atLimit is the alarm about clients at their limit of pending deliveries. Only the goroutine of countPending changes
// it.
type atLimit struct {
	next    time.Time // of the next count
	clients atomic.Int64
	logged  map[string]time.Time // by client
}

// note logs the clients that are at their limit, each once an hour.
func (a *atLimit) note(rows []pendingRow, now time.Time, log *slog.Logger) {
	full, _ := partition(rows, func(r pendingRow) bool { return r.Pending >= r.Limit })
	a.clients.Store(int64(len(full)))
	maps.DeleteFunc(a.logged, func(_ string, at time.Time) bool { return now.Sub(at) >= atLimitLogEvery })
	lines := 0
	for _, r := range full {
		if _, is := a.logged[r.ClientID]; is || lines == atLimitLines {
			continue
		}
		if a.logged == nil {
			a.logged = map[string]time.Time{}
		}
		a.logged[r.ClientID] = now
		lines++
		log.Warn("pending deliveries at their limit", "client", r.ClientID, "pending", r.Pending, "limit", r.Limit)
	}
}

// Counts are totals since the store was opened.
type Counts struct {
	Logins, Logouts              int64 // status changes
	Delivered, Failed, Cancelled int64 // finished deliveries by state
	Repaired                     int64 // lanes
	BreakerOpenings              int64
	Expired                      int64 // deliveries that failed because their window was over; also in Failed
	Unreadable                   int64 // claims of lanes that could not be sent, since the secret is unreadable
}

// changed counts a status change.
func (c *Counts) changed(to gen.AgentStatusValue) {
	if to == gen.AgentStatusValueAvailable {
		c.Logins++
	} else {
		c.Logouts++
	}
}

// ended counts deliveries that got a state, if it is a final one.
func (c *Counts) ended(state string, n int64) {
	switch state {
	case stateDelivered:
		c.Delivered += n
	case stateFailed:
		c.Failed += n
	case stateCancelled:
		c.Cancelled += n
	}
}

// Counts returns the totals of all commits so far. It sends no query.
func (s *Store) Counts() Counts { return s.counts.get() }

// count registers a count of a transaction, which takes effect at the commit.
func (s *Store) count(tx *sqldb.Tx, add func(c *Counts)) {
	tx.WriterOnCommit(func() { s.counts.add(add) })
}

// countEnded counts deliveries whose state a transaction has set.
func (s *Store) countEnded(tx *sqldb.Tx, state string, n int64) {
	s.count(tx, func(c *Counts) { c.ended(state, n) })
}

// totalCounts sums the counts of commits.
type totalCounts struct {
	mu     sync.Mutex
	counts Counts
}

func (t *totalCounts) get() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}

func (t *totalCounts) add(add func(c *Counts)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	add(&t.counts)
}

// FileStats are measurements of SQLite's file.
type FileStats struct {
	WALBytes           int64
	CheckpointFailures int64 // since the store was opened
}

// FileStats returns measurements of SQLite's file. With PostgreSQL, and for a store that works alongside another
// process, all are 0.
func (s *Store) FileStats() FileStats { return s.engine.fileStats() }
