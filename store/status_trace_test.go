package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/agentevents/agentevents/gen"
)

// The span of a change that is not committed ends with the error.
func TestSpanOfAChangeEndsWithItsCommit(t *testing.T) {
	w := openWatchedStore(t)
	defer w.done()
	var ends []string
	w.Trace = func(context.Context) (string, func(int64, error)) {
		return "", func(sequence int64, err error) {
			var refused *Error
			ends = append(
				ends, fmt.Sprintf("%d %t, after %d commits", sequence, errors.As(err, &refused), w.commits.Load()),
			)
		}
	}
	k, name := AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136}, "x"
	_, _, err := w.PutClient(t.Context(), "12", gen.ClientUpdate{})
	if err == nil {
		_, _, err = w.PutAgent(t.Context(), k, AgentUpdate{Name: &name})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.commits.Store(0)
	login := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}
	w.refuse.Store(true)
	_, err = w.SetStatus(t.Context(), k, login)
	w.wantUnavailable(err)
	if _, err := w.SetStatus(t.Context(), k, login); err != nil {
		t.Error(err)
	}
	if want := []string{"1 true, after 0 commits", "1 false, after 1 commits"}; !slices.Equal(ends, want) {
		t.Errorf("the spans ended with %q, want %q", ends, want)
	}
	if err := w.DeleteAgent(t.Context(), k); err != nil || len(ends) != 3 {
		t.Errorf("the logout of a deleted agent: %q, %v", ends, err)
	}
}
