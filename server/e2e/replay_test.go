package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

func (a api) redeliver(id int64, want int) {
	a.t.Helper()
	resp, err := a.RedeliverWithResponse(a.t.Context(), pbxClient, id)
	must(a.t, want, resp, err)
}

func (a api) redeliverAll(f gen.ReplayFilter) gen.Replay {
	a.t.Helper()
	resp, err := a.RedeliverManyWithResponse(a.t.Context(), pbxClient, nil, f)
	must(a.t, http.StatusAccepted, resp, err)
	if at := resp.HTTPResponse.Header.Get("Location"); !strings.HasSuffix(at, "/client/12/replay/1") {
		a.t.Errorf("Location is %q", at)
	}
	return *resp.JSON202
}

func (a api) replay(id int64) gen.Replay {
	a.t.Helper()
	resp, err := a.GetReplayWithResponse(a.t.Context(), pbxClient, id)
	must(a.t, http.StatusOK, resp, err)
	return *resp.JSON200
}

// finished returns a replay when it has resent all deliveries.
func (a api) finished(id int64) (m gen.Replay) {
	a.t.Helper()
	eventually(a.t, "the replay is finished", func() bool {
		m = a.replay(id)
		return m.State == "finished"
	})
	return m
}

// A replay resends failed deliveries: under the same ids, marked, in order.
func TestReplay(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	r.answer(http.StatusBadRequest)
	a := newAPI(t, serve(t, newStore(t)))
	a.putClient()
	a.login(r, 1, 2, 3)
	for id := range int64(3) {
		a.logout(id + 1)
	}
	missed := r.wait(t, 6)
	for id := range int64(6) {
		equal(t, "state", a.ended(id+1).Delivery.State, gen.DeliveryStateFailed)
	}

	r.answer(http.StatusOK)
	equal(t, "found", a.redeliverAll(gen.ReplayFilter{}).Total, 6)
	m := a.finished(1)
	equal(t, "sent again", m.Redelivered, 6)
	came := r.wait(t, 12)[6:]
	for _, agent := range []string{"1", "2", "3"} {
		sameAgain(t, of(missed, agent), of(came, agent))
	}
	equal(t, "state", a.ended(6).Delivery.State, gen.DeliveryStateDelivered)
	a.redeliver(6, http.StatusAccepted)
	last := r.wait(t, 13)[12]
	equal(t, "webhook-id", last.ID, a.ended(6).Delivery.WebhookID)
	isShown(t, r, a.ended(6).Request, last)
}

// of are the arrivals about an agent.
func of(arrivals []lab.Arrival, agent string) []lab.Arrival {
	return slices.DeleteFunc(slices.Clone(arrivals), func(a lab.Arrival) bool {
		return formValue(a.Form(), "agent_id") != agent
	})
}

func sameAgain(t *testing.T, before, after []lab.Arrival) {
	t.Helper()
	if len(before) != len(after) {
		t.Fatalf("%d came again of %d", len(after), len(before))
	}
	for i, got := range after {
		equal(t, "request", got.Request(), before[i].Request())
		equal(t, "webhook-id", got.ID, before[i].ID)
		equal(t, "agentevents-sequence", got.Sequence, before[i].Sequence)
		equal(t, "agentevents-replay before", before[i].Header.Get("agentevents-replay"), "")
		equal(t, "agentevents-replay", got.Header.Get("agentevents-replay"), "true")
		equal(t, "agentevents-attempt", got.Header.Get("agentevents-attempt"), "1")
	}
}

// A replay that a kill cut off continues after the next start, and resends no delivery twice.
func TestReplayContinuesAfterAKill(t *testing.T) {
	t.Parallel()
	many := 3000
	if pgtest.OnPostgres() {
		many = 1000 // each takes several times as long
	}
	store, r := newStore(t), newReceiver(t)
	p := serve(t, store)
	a := newAPI(t, p)
	a.putClient()
	a.login(r, 1)
	a.ended(1)
	equal(t, "exit code", p.stop(t), 0)
	// More of the same, of events that are gone.
	query(t, store, fmt.Sprintf(`WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < %d)
		INSERT INTO deliveries (webhook_id, change_id, event_id, lane_id, url, method, state, attempts, due_at,
			expires_at, created_at, finished_at, client_id, kind, agent_id, new_status, changed_at)
		SELECT 'msg_' || n, change_id, 1000 + n, lane_id, url, method, state, attempts, due_at,
			expires_at, created_at, finished_at, client_id, kind, agent_id, new_status, changed_at
		FROM deliveries, n RETURNING 1`, many))
	query(t, store, `UPDATE status_changes SET fired =
		(SELECT string_agg(CAST(event_id AS TEXT), ',') FROM deliveries) RETURNING 1`)

	r.hold(all)
	p = serve(t, store)
	a = newAPI(t, p)
	equal(t, "found", a.redeliverAll(gen.ReplayFilter{State: gen.ReplayFilterStateDelivered}).Total, many)
	eventually(t, "the replay is in the middle", func() bool { return a.replay(1).Done > 0 })
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	if done := query(t, store, "SELECT redelivered FROM replays"); done < 1 || done >= many {
		t.Fatalf("%d of %d were sent again before the kill", done, many)
	}

	p = serve(t, store)
	m := newAPI(t, p).finished(1)
	equal(t, "found", m.Total, many)
	equal(t, "sent again", m.Redelivered, many)
	equal(t, "skipped", m.Skipped, 0)
	p.signal(t, syscall.SIGTERM)
	eventually(t, "the server listens no more", func() bool { return !listens(p.URL) })
	r.release()
	equal(t, "exit code", p.wait(t), 0)
	equal(t, "deliveries that were sent again once",
		query(t, store, "SELECT count(*) FROM deliveries WHERE replays = 1"), many)
	faults, _, code := command(t, databaseAt(store), "verify")
	equal(t, "exit code of verify, which says "+faults, code, 0)
}

// query runs a statement on a database that is not served, and returns the last row's number.
func query(t *testing.T, store, statement string) (n int) {
	t.Helper()
	rows, err := open(t, store).Query(statement)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}
