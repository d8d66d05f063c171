package postgres

import (
	"testing"
	"testing/synctest"
	"time"
)

// Between two transactions the local clock goes on from what the database has said last.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC) // in another year than the local clock
		c := &Clock{}
		want := func(want time.Time, when string) {
			t.Helper()
			if got := c.Now(); !got.Equal(want) {
				t.Errorf("%s: it is %v, want %v", when, got, want)
			}
		}
		c.set(said)
		want(said, "at first")
		time.Sleep(time.Minute)
		want(said.Add(time.Minute), "a minute later")
		c.set(said.Add(time.Minute + 5*time.Second))
		want(said.Add(time.Minute+5*time.Second), "when the database is ahead")
		c.set(said.Add(time.Minute + 5*time.Second - ClockJitter))
		want(said.Add(time.Minute+5*time.Second), "when it was heard late")
		c.set(said)
		want(said, "when the database's clock was put back")
	})
}

// Without a clock, nothing is asked.
func TestNoClock(t *testing.T) {
	var c *Clock
	check(t, c.Read(nil))
}
