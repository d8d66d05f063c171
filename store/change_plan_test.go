package store

import (
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// An index leads to the deliveries of a page of changes. TestStatementsReadByIndex looks at PostgreSQL's plans.
func TestDeliveriesOfChangesAreReadByIndex(t *testing.T) {
	w := openWatchedStore(t)
	defer w.done()
	type step struct {
		ID, Parent, Notused int64
		Detail              string
	}
	plan, err := sqldb.Select[step](w.read(t.Context()), "EXPLAIN QUERY PLAN "+deliveriesOfSQL,
		"12", "local", 136, 1, 9)
	if err != nil {
		t.Fatal(err)
	}
	const want = "USING INDEX deliveries_agent (client_id=? AND kind=? AND agent_id=? AND change_id>? AND change_id<?)"
	if len(plan) != 1 || !strings.Contains(plan[0].Detail, want) {
		t.Errorf("%v, want one step %s", plan, want)
	}
}
