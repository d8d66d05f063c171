package store

import (
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/sqldb"
)

// plan returns SQLite's plan for the first page of a filter, and reports whether it sorts the rows.
func (w *watchedStore) plan(query string, f DeliveryFilter, direction string) (steps string, sorts bool) {
	w.t.Helper()
	tx := w.read(w.t.Context())
	c, err := f.condition(tx, "12")
	if err != nil {
		w.t.Fatal(err)
	}
	found, args := c.fromWhere()
	type step struct {
		ID, Parent, Notused int64
		Detail              string
	}
	rows, err := sqldb.Select[step](tx, "EXPLAIN QUERY PLAN "+query+found+c.order(direction)+" LIMIT ?",
		append(args, 100)...)
	if err != nil {
		w.t.Fatal(err)
	}
	details := strings.Join(each(rows, func(r step) string { return r.Detail }), "; ")
	details = strings.ReplaceAll(details, "COVERING INDEX", "INDEX") // if only ids are selected
	return details, strings.Contains(details, "TEMP B-TREE")
}

// An index has the deliveries of each filter in their order. Only the pending deliveries of an agent or an event are
// sorted.
func TestEachFilterHasAnIndex(t *testing.T) {
	w := openWatchedStore(t)
	defer w.done()
	k, name := AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: 136}, "x"
	_, _, err := w.PutClient(t.Context(), "12", gen.ClientUpdate{})
	if err == nil {
		_, _, err = w.PutAgent(t.Context(), k, AgentUpdate{Name: &name})
	}
	if err == nil {
		_, err = w.CreateEvent(t.Context(), k, gen.AgentEventCreate{
			URL: "http://crm.example", Method: gen.RequestMethodGET, EventType: gen.EventTypeAgentLogin,
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	const agent = "d USING INDEX deliveries_agent (client_id=? AND kind=? AND agent_id=? AND change_id>? " +
		"AND change_id<?)"
	const (
		undelivered = "d USING INDEX deliveries_undelivered (client_id=? AND state=? AND id>? AND id<?)"
		ofEvent     = "SEARCH x USING INDEX deliveries_event (event_id=?)"
		inLanes     = "d USING INDEX deliveries_missed_lane (lane_id=? AND state=? AND id>? AND id<?)"
	)
	for whose, c := range map[string]struct {
		filter                       DeliveryFilter
		any, missed, pending, parked string
	}{
		"all": {
			any:    "d USING INDEX deliveries_client (client_id=? AND id>? AND id<?)",
			missed: undelivered, pending: undelivered, parked: undelivered,
		},
		"of an event": {
			filter:  DeliveryFilter{EventID: 1},
			any:     "d USING INDEX deliveries_event_all (event_id=? AND id>? AND id<?)",
			missed:  "d USING INDEX deliveries_missed_event (<expr>=? AND state=? AND id>? AND id<?)",
			pending: ofEvent, parked: ofEvent,
		},
		"of an agent": {
			filter: DeliveryFilter{AgentType: k.Type, AgentID: k.ID},
			any:    agent,
			missed: inLanes, pending: "INDEX deliveries_lane (lane_id=?)", parked: inLanes,
		},
		"of an agent's event": {
			filter:  DeliveryFilter{AgentType: k.Type, AgentID: k.ID, EventID: 1},
			any:     "d USING INDEX deliveries_event_all (event_id=? AND id>? AND id<?)",
			missed:  "d USING INDEX deliveries_missed_event (<expr>=? AND state=? AND id>? AND id<?)",
			pending: ofEvent, parked: ofEvent,
		},
	} {
		for _, state := range []gen.DeliveryState{"", "delivered", "failed", "cancelled", "pending", "parked"} {
			want := c.any
			switch state {
			case "failed", "cancelled":
				want = c.missed
			case "pending":
				want = c.pending
			case "parked":
				want = c.parked
			}
			for _, since := range []time.Time{{}, w.Now()} {
				f := c.filter
				f.State, f.Since, f.Until = state, since, since
				steps, sorts := w.plan(deliveriesSQL, f, " DESC")
				if !strings.Contains(steps, want) || sorts && !f.sorted() {
					t.Errorf("%s, %s, since %v: %s; want %s", whose, state, since, steps, want)
				}
				if steps, sorts := w.plan("SELECT d.id ", f, ""); !strings.Contains(steps, want) ||
					sorts && !f.sorted() {
					t.Errorf("a replay %s, %s, since %v: %s; want %s", whose, state, since, steps, want)
				}
			}
		}
	}
}
