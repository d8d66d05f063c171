package postgres

import (
	"sync"
	"time"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// Clock follows the clock of the database, which is the clock of all processes that share it. Each transaction that
// writes reads the time first. Between two reads, the local clock continues from the last one.
type Clock struct {
	mu      sync.Mutex
	at      time.Time // the database's time at the last read
	locally time.Time // the local time of the last read
}

// ClockJitter is the largest step back of the database's clock that Clock ignores.
const ClockJitter = time.Second

// Now returns the time of the database's clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Add(time.Since(c.locally))
}

// Read reads the time from the database. A nil Clock does nothing.
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

// set records a time of the database. It ignores a time that is a little behind the last one, since the answers of the
// database take different times to arrive.
func (c *Clock) set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ahead := c.at.Add(time.Since(c.locally)).Sub(at); ahead < 0 || ahead > ClockJitter {
		c.at, c.locally = at, time.Now()
	}
}
