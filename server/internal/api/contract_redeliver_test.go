package api

import (
	"fmt"
	"strconv"
)

func redeliveries() []scenario {
	const op = "redeliver"
	const now = "2017-05-30T19:00:00.000Z"
	redelivered := func(e loggedDelivery, state string) loggedDelivery {
		e.state, e.attempts, e.replays, e.finished, e.from = state, 0, 1, "", now
		if state == "pending" {
			e.next = now
		}
		return e
	}
	moved := redelivered(logDelivered, "pending")
	moved.url, moved.method = "https://new.example/", "POST"
	moved.lastAttempt = logCorrected.lastAttempt
	dueNow := func(e loggedDelivery) loggedDelivery {
		e.next = now
		return e
	}
	return []scenario{
		{
			name: "a failed delivery", op: op, representative: true, setup: (*testServer).withLog,
			request: redeliverRequest(logFailed), status: 202,
			wantBody: redelivered(logFailed, "pending").String(),
			after: func(ts *testServer) {
				ts.wantGet("/client/12/delivery/2", detailJSON(redelivered(logFailed, "pending"), logFailed.lastAttempt,
					waitingJSON("it is due, and is sent as soon as there is room", "", 0),
					shownRequest{of: logFailed, attempt: 1, at: now, replay: true}))
				ts.wantNextDelivery(logFailed)
			},
		},
		{
			name: "a delivered delivery of a disabled event", op: op, setup: (*testServer).withLog,
			request: redeliverRequest(logDelivered), status: 202,
			wantBody: redelivered(logDelivered, "parked").String(),
		},
		{
			name: "a cancelled delivery of a deleted event", op: op, setup: (*testServer).withLog,
			request: redeliverRequest(logCancelled), status: 202,
			wantBody: redelivered(logCancelled, "pending").String(),
			after:    func(ts *testServer) { ts.wantNextDelivery(logNew) }, // the lane keeps its order
		},
		{
			name: "a delivered delivery, after its event was corrected", op: op,
			request: redeliverRequest(logDelivered),
			status:  202,
			setup: func(ts *testServer) {
				ts.withLog()
				ts.put("/client/12/agent/local/136/event/1", `{"url":"https://new.example/","method":"POST"}`)
				ts.put("/client/12/agent/local/136/event/1/state", `{"state":"enabled"}`)
			},
			wantBody: moved.String(),
			after: func(ts *testServer) {
				ts.wantGet("/client/12/delivery/1", detailJSON(moved, moved.lastAttempt,
					waitingJSON("it is due, and is sent as soon as there is room", "", 0),
					shownRequest{of: moved, attempt: 1, at: now, replay: true}))
			},
		},
		{
			name: "a repeated redelivery", op: op, request: redeliverRequest(logFailed), status: 202,
			setup: func(ts *testServer) {
				ts.withLog()
				ts.send(scenario{request: redeliverRequest(logFailed)})
			},
			wantBody: redelivered(logFailed, "pending").String(),
		},
		{
			name: "a delivery that was cancelled before its redelivery", op: "getDelivery",
			request: "GET /client/12/delivery/2",
			status:  200,
			setup: func(ts *testServer) {
				ts.withLog()
				ts.send(scenario{request: redeliverRequest(logFailed)})
				ts.must(ts.store.DeleteEvent(ts.Context(), ts.client("12").remote(7).key, 2))
			},
			wantBody: detailJSON(func() loggedDelivery {
				e := redelivered(logFailed, "cancelled")
				e.finished = now
				return e
			}(), logFailed.lastAttempt, "", shownRequest{of: logFailed, attempt: 1, at: logFailed.at}),
		},
		{
			name: "a delivery that waits for its next attempt", op: op, request: redeliverRequest(logPending),
			status: 202,
			setup: func(ts *testServer) {
				ts.withLog()
				ts.rows(ts.db, "UPDATE deliveries SET due_at = due_at + 36000000 WHERE id = 3 RETURNING id")
			},
			wantBody: dueNow(logPending).String(),
			after:    func(ts *testServer) { ts.wantNextDelivery(logPending) },
		},
		{
			name: "a due delivery", op: op, setup: (*testServer).withLog, request: redeliverRequest(logNew),
			status: 202, wantBody: logNew.String(),
			after: func(ts *testServer) { ts.wantNextDelivery(logNew) },
		},
		{
			name: "a parked delivery is refused", op: op, setup: (*testServer).withLog,
			request: redeliverRequest(logParked), status: 409, sharedSetup: "log",
			wantBody: fmt.Sprintf(`{"message":"delivery %d is parked: it waits until its event is enabled, or fails `+
				`when its time is over",`+
				`"status":"not_ended"}`, logParked.id),
		},
	}
}

func redeliverRequest(e loggedDelivery) string {
	return fmt.Sprintf("POST /client/12/delivery/%d/redeliver", e.id)
}

// wantNextDelivery checks which delivery of the agent's lane is claimed next.
func (ts *testServer) wantNextDelivery(want loggedDelivery) {
	ts.Helper()
	ts.clock.Add(1000)
	for range 2 {
		if d := ts.claim(); d.Data.AgentID == strconv.Itoa(want.agent) {
			if d.ID != int64(want.id) || d.WebhookID != "msg_"+strconv.Itoa(want.id) {
				ts.Errorf("claimed is delivery %d, %s, want %d", d.ID, d.WebhookID, want.id)
			}
			return
		}
	}
	ts.Errorf("no delivery of agent %d is claimed", want.agent)
}
