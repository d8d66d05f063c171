package postgres

import (
	"sync"
	"time"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// Clock is the clock of the database, which all processes that share it go by. Each transaction that writes asks for
// the time first; in between, the local clock goes on from there.
type Clock struct {
	mu      sync.Mutex
	at      time.Time // that the database said
	locally time.Time // when it was heard
}

// ClockJitter is how far the database's clock may be put back without this one following.
const ClockJitter = time.Second

// Now is the time by the database's clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Add(time.Since(c.locally))
}

// Read asks the database for the time. It does nothing when there is no clock.
func (c *Clock) Read(q sqldb.Querier) error {
	if c == nil {
		return nil
	}
	now, err := sqldb.Value[int64](q, "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
	if err == nil {
		c.set(time.UnixMilli(now).UTC())
	}
	return err
}

// set takes note of what the database said. What it said some time ago is not later than what it says now, but for a
// small difference in how long it took to hear it.
func (c *Clock) set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ahead := c.at.Add(time.Since(c.locally)).Sub(at); ahead < 0 || ahead > ClockJitter {
		c.at, c.locally = at, time.Now()
	}
}
