package servertest

import (
	"regexp"
	"runtime"
	"testing"
	"time"
)

// waitingPoll matches the stack of a goroutine in which a poll of the feed waits.
var waitingPoll = regexp.MustCompile(`(?m)^goroutine \d+ \[select.*\]:\n\S+\.handlers\.follow\(`)

// WaitingPolls counts the polls of the feed that wait in this process.
func WaitingPolls() int {
	stacks := make([]byte, 4<<20)
	return len(waitingPoll.FindAll(stacks[:runtime.Stack(stacks, true)], -1))
}

// AwaitPolls returns when a number of polls wait. It fails the test after a minute.
func AwaitPolls(t testing.TB, polls int) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for WaitingPolls() != polls {
		select {
		case <-look.C:
		case <-end.C:
			t.Fatalf("%d polls wait, want %d", WaitingPolls(), polls)
		}
	}
}
