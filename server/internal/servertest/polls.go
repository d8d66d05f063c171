package servertest

import (
	"regexp"
	"runtime"
	"testing"
	"time"
)

// waitingPoll matches the stack of a goroutine in which a poll of the feed waits.
var waitingPoll = regexp.MustCompile(`(?m)^goroutine \d+ \[select.*\]:\n\S+\.handlers\.follow\(`)

// WaitingPolls returns the number of polls that wait in this process.
func WaitingPolls() int {
	stacks := make([]byte, 4<<20)
	return len(waitingPoll.FindAll(stacks[:runtime.Stack(stacks, true)], -1))
}

// AwaitPolls waits until a number of polls wait. After a minute, it fails the test.
func AwaitPolls(t testing.TB, polls int) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for WaitingPolls() != polls {
		select {
		case <-ticker.C:
		case <-end.C:
			t.Fatalf("%d polls wait, want %d", WaitingPolls(), polls)
		}
	}
}
