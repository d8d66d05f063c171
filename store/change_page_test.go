package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store"
)

// withChanges gives the agent so many changes more, each with a list of so many events that fired.
func (f *fixture) withChanges(k store.AgentKey, changes, events int) {
	f.t.Helper()
	ids := make([]string, events)
	for i := range ids {
		ids[i] = fmt.Sprint(i + 1)
	}
	f.sql(fmt.Sprintf(`INSERT INTO status_changes (client_id, kind, agent_id, name, old_status, new_status,
		event_source, changed_at, created_at, fired)
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		SELECT '%s', '%s', %d, 'x', 'logged_out', 'available', 'api', 1, 1, '%s' FROM n`,
		changes, k.Client, k.Type, k.ID, strings.Join(ids, ",")))
}

// allChanges follows the pages of an agent's changes. It returns the sizes of the pages, and the sequence numbers.
func (f *fixture) allChanges(k store.AgentKey, limit int) (sizes []int, sequences []int64) {
	f.t.Helper()
	for before, more := int64(0), true; more; {
		page, older, err := f.AgentStatusChanges(f.ctx, k, before, limit)
		f.check(err)
		outcomes := 0
		for _, c := range page {
			outcomes += len(c.Events)
			sequences = append(sequences, c.Change.Sequence)
		}
		if outcomes > store.MaxOutcomes && len(page) > 1 {
			f.t.Errorf("a page has %d outcomes", outcomes)
		}
		if len(page) == 0 {
			f.t.Fatal("a page is empty")
		}
		sizes, more, before = append(sizes, len(page)), older, page[len(page)-1].Change.Sequence
	}
	return sizes, sequences
}

// A page ends before its changes have more than MaxOutcomes outcomes, but has at least one change.
func TestPageOfChangesIsBounded(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.login(k)
	f.withChanges(k, 2, store.MaxOutcomes/2)
	f.withChanges(k, 2, store.MaxOutcomes/2+1)
	f.withChanges(k, 1, store.MaxOutcomes+1)
	f.withChanges(k, 300, 1)
	for limit, want := range map[int][]int{
		1000: {300, 1, 1, 1, 3}, 300: {300, 1, 1, 1, 3}, 2: append(slices.Repeat([]int{2}, 150), 1, 1, 1, 2, 1),
		202: {202, 98, 1, 1, 1, 3},
	} {
		sizes, sequences := f.allChanges(k, limit)
		if !slices.Equal(sizes, want) {
			t.Errorf("limit %d: the pages have %v changes, want %v", limit, sizes, want)
		}
		for i, sequence := range sequences {
			if want := int64(306 - i); sequence != want {
				t.Fatalf("limit %d: change %d, want %d", limit, sequence, want)
			}
		}
	}
}
