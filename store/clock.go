package store

import (
	"sync"
	"time"
)

// databaseClock is the clock of the database, which all processes that share it go by. Each transaction that writes asks
// for the time first; in between, our own clock goes on from there.
type databaseClock struct {
	mu      sync.Mutex
	at      time.Time // that the database said
	locally time.Time // when we heard it
}

// clockJitter is how far the database's clock may be put back without us following.
const clockJitter = time.Second

func (c *databaseClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Add(time.Since(c.locally))
}

// set takes note of what the database said. What it said some time ago is not later than what it says now, but for a
// small difference in how long we took to hear it.
func (c *databaseClock) set(milliseconds int64) {
	at := millis(milliseconds)
	c.mu.Lock()
	defer c.mu.Unlock()
	if ahead := c.at.Add(time.Since(c.locally)).Sub(at); ahead < 0 || ahead > clockJitter {
		c.at, c.locally = at, time.Now()
	}
}
