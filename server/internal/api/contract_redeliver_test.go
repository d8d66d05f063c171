package api

import (
	"fmt"
	"strconv"
)

func redeliveries() []scenario {
	const op = "redeliver"
	const now = "2017-05-30T19:00:00.000Z"
	again := func(e entry, state string) entry {
		e.state, e.attempts, e.replays, e.finished, e.from = state, 0, 1, "", now
		if state == "pending" {
			e.next = now
		}
		return e
	}
	moved := again(logDelivered, "pending")
	moved.url, moved.method = "https://new.example/", "POST"
	moved.lastAttempt = logCorrected.lastAttempt
	atOnce := func(e entry) entry {
		e.next = now
		return e
	}
	return []scenario{
		{
			name: "what has failed", op: op, given: (*world).withLog, request: redeliver(logFailed), status: 202,
			want: again(logFailed, "pending").String(),
			then: func(w *world) {
				w.get("/client/12/delivery/2", detail(again(logFailed, "pending"), logFailed.lastAttempt,
					waits("it is due, and is sent as soon as there is room", "", 0),
					shown{of: logFailed, attempt: 1, at: now, replay: true}))
				w.redelivered(logFailed)
			},
		},
		{
			name: "what is delivered, of an event that is disabled", op: op, given: (*world).withLog,
			request: redeliver(logDelivered), status: 202, want: again(logDelivered, "parked").String(),
		},
		{
			name: "what is cancelled, of an event that is gone", op: op, given: (*world).withLog,
			request: redeliver(logCancelled), status: 202, want: again(logCancelled, "pending").String(),
			then: func(w *world) { w.redelivered(logNew) }, // its place is behind that
		},
		{
			name: "what is delivered, of an event that was corrected", op: op, request: redeliver(logDelivered), status: 202,
			given: func(w *world) {
				w.withLog()
				w.put("/client/12/agent/local/136/event/1", `{"url":"https://new.example/","method":"POST"}`)
				w.put("/client/12/agent/local/136/event/1/state", `{"state":"enabled"}`)
			},
			want: moved.String(),
			then: func(w *world) {
				w.get("/client/12/delivery/1", detail(moved, moved.lastAttempt,
					waits("it is due, and is sent as soon as there is room", "", 0),
					shown{of: moved, attempt: 1, at: now, replay: true}))
			},
		},
		{
			name: "twice", op: op, request: redeliver(logFailed), status: 202,
			given: func(w *world) {
				w.withLog()
				w.send(scenario{request: redeliver(logFailed)})
			},
			want: again(logFailed, "pending").String(),
		},
		{
			name: "cancelled before it was sent again", op: "getDelivery", request: "GET /client/12/delivery/2", status: 200,
			given: func(w *world) {
				w.withLog()
				w.send(scenario{request: redeliver(logFailed)})
				w.must(w.store.DeleteEvent(w.Context(), w.client("12").remote(7).key, 2))
			},
			want: detail(func() entry {
				e := again(logFailed, "cancelled")
				e.finished = now
				return e
			}(), logFailed.lastAttempt, "", shown{of: logFailed, attempt: 1, at: logFailed.at}),
		},
		{
			name: "what waits for its next attempt", op: op, request: redeliver(logPending), status: 202,
			given: func(w *world) {
				w.withLog()
				w.rows(w.db, "UPDATE deliveries SET due_at = due_at + 36000000 WHERE id = 3 RETURNING id")
			},
			want: atOnce(logPending).String(),
			then: func(w *world) { w.redelivered(logPending) },
		},
		{
			name: "what is due", op: op, given: (*world).withLog, request: redeliver(logNew), status: 202, want: logNew.String(),
			then: func(w *world) { w.redelivered(logNew) },
		},
		{
			name: "not what is parked", op: op, given: (*world).withLog, request: redeliver(logParked), status: 409, family: "log",
			want: fmt.Sprintf(`{"message":"delivery %d is parked: it waits until its event is enabled, or fails when its time is over",`+
				`"status":"not_ended"}`, logParked.id),
		},
	}
}

func redeliver(e entry) string { return fmt.Sprintf("POST /client/12/delivery/%d/redeliver", e.id) }

// redelivered compares which delivery of the agent's lane goes out next.
func (w *world) redelivered(want entry) {
	w.Helper()
	w.clock.Add(1000)
	for range 2 {
		if d := w.claim(); d.Data.AgentID == strconv.Itoa(want.agent) {
			if d.ID != int64(want.id) || d.WebhookID != "msg_"+strconv.Itoa(want.id) {
				w.Errorf("delivery %d goes out as %s, want %d", d.ID, d.WebhookID, want.id)
			}
			return
		}
	}
	w.Errorf("nothing of agent %d goes out", want.agent)
}
