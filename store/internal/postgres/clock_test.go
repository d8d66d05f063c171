package postgres

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClockContinuesFromTheDatabasesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC) // in another year than the local clock
		c := &Clock{}
		want := func(want time.Time, when string) {
			t.Helper()
			if got := c.Now(); !got.Equal(want) {
				t.Errorf("%s: it is %v, want %v", when, got, want)
			}
		}
		c.set(first)
		want(first, "at first")
		time.Sleep(time.Minute)
		want(first.Add(time.Minute), "a minute later")
		c.set(first.Add(time.Minute + 5*time.Second))
		want(first.Add(time.Minute+5*time.Second), "when the database is ahead")
		c.set(first.Add(time.Minute + 5*time.Second - ClockJitter))
		want(first.Add(time.Minute+5*time.Second), "when the answer was late")
		c.set(first)
		want(first, "when the database's clock was put back")
	})
}

func TestNilClockReadsNothing(t *testing.T) {
	var c *Clock
	check(t, c.Read(nil))
}
