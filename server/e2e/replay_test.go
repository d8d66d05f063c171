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

// awaitReplay waits until a replay has finished, and returns it.
func (a api) awaitReplay(id int64) (m gen.Replay) {
	a.t.Helper()
	eventually(a.t, "the replay finishes", func() bool {
		m = a.replay(id)
		return m.State == "finished"
	})
	return m
}

// A replay resends failed deliveries in order, with the same ids and the header agentevents-replay.
func TestReplayResendsFailedDeliveries(t *testing.T) {
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
		equal(t, "state", a.awaitFinished(id+1).Delivery.State, gen.DeliveryStateFailed)
	}

	r.answer(http.StatusOK)
	equal(t, "found", a.redeliverAll(gen.ReplayFilter{}).Total, 6)
	m := a.awaitReplay(1)
	equal(t, "redelivered", m.Redelivered, 6)
	resent := r.wait(t, 12)[6:]
	for _, agent := range []string{"1", "2", "3"} {
		checkResent(t, of(missed, agent), of(resent, agent))
	}
	equal(t, "state", a.awaitFinished(6).Delivery.State, gen.DeliveryStateDelivered)
	a.redeliver(6, http.StatusAccepted)
	last := r.wait(t, 13)[12]
	equal(t, "webhook-id", last.ID, a.awaitFinished(6).Delivery.WebhookID)
	checkLogged(t, r, a.awaitFinished(6).Request, last)
}

// of returns the arrivals about an agent.
func of(arrivals []lab.Arrival, agent string) []lab.Arrival {
	return slices.DeleteFunc(slices.Clone(arrivals), func(a lab.Arrival) bool {
		return formValue(a.Form(), "agent_id") != agent
	})
}

func checkResent(t *testing.T, before, after []lab.Arrival) {
	t.Helper()
	if len(before) != len(after) {
		t.Fatalf("%d of %d were resent", len(after), len(before))
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

// A replay that a kill interrupted continues after the next start, and resends no delivery twice.
func TestReplayContinuesAfterAKill(t *testing.T) {
	t.Parallel()
	many := 3000
	if pgtest.OnPostgres() {
		many = 1000 // PostgreSQL is several times slower
	}
	store, r := newStore(t), newReceiver(t)
	p := serve(t, store)
	a := newAPI(t, p)
	a.putClient()
	a.login(r, 1)
	a.awaitFinished(1)
	equal(t, "exit code", p.stop(t), 0)
	// Copies of the delivery, whose events do not exist.
	query(t, store, fmt.Sprintf(`WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < %d)
		INSERT INTO event_versions (event_id, url, method, past)
		SELECT 1000 + n, url, method, 1 FROM event_versions v, n WHERE v.event_id = 1 RETURNING 1`, many))
	query(t, store, fmt.Sprintf(`WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < %d)
		INSERT INTO deliveries (webhook_id, change_id, event_id, lane_id, version_id, state, attempts, due_at,
			expires_at, created_at, finished_at, client_id, kind, agent_id, new_status, changed_at)
		SELECT 'msg_' || n, change_id, 1000 + n, lane_id,
			(SELECT v.id FROM event_versions v WHERE v.event_id = 1000 + n), state, attempts, due_at,
			expires_at, created_at, finished_at, client_id, kind, agent_id, new_status, changed_at
		FROM deliveries, n RETURNING 1`, many))
	query(t, store, `UPDATE status_changes SET fired =
		(SELECT string_agg(CAST(event_id AS TEXT), ',') FROM deliveries) RETURNING 1`)

	r.hold(all)
	p = serve(t, store)
	a = newAPI(t, p)
	equal(t, "found", a.redeliverAll(gen.ReplayFilter{State: gen.ReplayFilterStateDelivered}).Total, many)
	eventually(t, "the replay has begun", func() bool { return a.replay(1).Done > 0 })
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	if done := query(t, store, "SELECT redelivered FROM replays"); done < 1 || done >= many {
		t.Fatalf("%d of %d were redelivered before the kill", done, many)
	}

	p = serve(t, store)
	m := newAPI(t, p).awaitReplay(1)
	equal(t, "found", m.Total, many)
	equal(t, "redelivered", m.Redelivered, many)
	equal(t, "skipped", m.Skipped, 0)
	p.signal(t, syscall.SIGTERM)
	eventually(t, "the listener closes", func() bool { return !listens(p.URL) })
	r.release()
	equal(t, "exit code", p.wait(t), 0)
	equal(t, "deliveries with one replay",
		query(t, store, "SELECT count(*) FROM deliveries WHERE replays = 1"), many)
	faults, _, code := command(t, databaseAt(store), "verify")
	equal(t, "exit code of verify, with the output "+faults, code, 0)
}

// query runs a statement on a database, and returns the number in its last row.
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
