package store

import (
	"context"
	"fmt"
	"sync"
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
