// Package store is the database: rows, transactions, the outbox, and the jobs that maintain them. An exported method
// that writes is one transaction, unless its comment says otherwise. Rows and GORM stay inside the package: its methods
// return models of package gen, small types of its own, and *Error.
//
// README.md explains the store to its operators: the terms and the guarantees. This comment is a tour of the code, with
// the rules of lanes that the guarantees rest on.
//
// # A status change, from the request to the wire
//
//  1. SetStatus and SetStatuses (status.go) make a statusUpdate of each status of a request, and pass it to a Batcher
//     (internal/sqldb/batcher.go). Simultaneous updates share one transaction, in which clients take turns (turns.go).
//  2. The engine's Writer runs that transaction. On SQLite one goroutine writes, and the units of work that wait share
//     one commit (internal/sqlite/writer.go, commit.go). On PostgreSQL, transactions of different batchers and of
//     contended tasks run concurrently (internal/postgres/writer.go). Each batcher has one batch at a time. A statement
//     is queued until its answer is needed (queue.go).
//  3. setBatch divides the updates into waves, so that no agent is in one wave twice. setWave locks the agents. It
//     leaves to the next transaction what would make this one too long. decide says what changes: nothing, if the agent
//     has the status or the time is stale.
//  4. applyChanges (status_apply.go) finds the events that a change fires and locks their lanes (outbox_enqueue.go). It
//     inserts the rows of status_changes, whose ids are the sequence numbers, and updates the agents.
//  5. enqueue (outbox_enqueue.go) inserts one delivery for each event and adds it to its lane (lane.go). handOff leases
//     an empty lane immediately, if the dispatcher has room for it.
//  6. The commit makes all of it durable. Then notifySet (status.go) wakes the dispatcher and the readers of the feed
//     (change_feed.go), and notifies the peers (engine_postgres.go). Only then does the caller get its answer. No hook
//     of the commit does this: every method that applies changes calls announce and wake itself.
//  7. The dispatcher (webhook/dispatch.go) sends the deliveries that were handed off. For all others it calls Claim
//     (outbox_claim.go), which finds due lanes, fairly among receivers, leases them, and returns their heads.
//  8. A worker (webhook/lane.go) sends the delivery and calls Record (outbox_record.go), which batches, too. Plain
//     results, nearly all, share their statements. laneStates.plain (outbox_record_batch.go) says which results are
//     plain. The others are recorded one by one, and so are further results of their receivers in the wave. In the same
//     transaction, Record renews the lane's lease and returns its next delivery to the worker, or releases the lane.
//
// # The concepts of a status change
//
// Of the API: client, agent, event, status change, sequence number, delivery, attempt, receiver. Of the outbox: lane,
// head (the first pending delivery of a lane), due time, lease, claim (its number identifies a late result), handoff,
// result, verdict, breaker, probe, outage, deploy window, sweep. Of the database: transaction, batch, wave, contended
// task, writer, queued statement, lock order, engine. README.md and webhook/README.md explain the concepts of the API,
// and README.md also lane, due, lease, breaker and probe. An outage lasts from a receiver's first failure until its
// next answer of those that close a breaker (receiver.go). In the deploy window an answer such as 404 is tried again
// (webhook/delivery.go). webhook/doc.go explains handoff and verdict, event_sweep.go a sweep. A batch is the tasks of
// one transaction, such as status updates. A task is contended if another transaction has locked one of its rows for
// long (batcher.go). A queued statement is sent together with the next one whose answer is needed (queue.go).
//
// # The rules of lanes
//
// Order and at-least-once delivery rest on eight rules, and make crash tries them:
//
//  1. What takes deliveries out of a lane counts the rows that it really took. If deliveries are left and no worker
//     holds the lane, it makes the lane due (lane.go).
//  2. A worker holds a lane by a lease. The result of a delivery is on disk before the next one is sent. A result with
//     an earlier claim number does not count.
//  3. Immediately before it sends, a worker checks its lease by a monotonic clock. It does not send with less than a
//     timeout left, so a process that was suspended sends nothing that has been overtaken.
//  4. When a URL moves to another receiver, its pending deliveries follow in the order of the changes. The new lane
//     waits for a delivery in flight. If that one fails, it follows, too (event_sweep.go).
//  5. The id of a lane is never reused. An agent that is deleted and created again keeps its lanes.
//  6. All times are of one clock, on PostgreSQL the database's. A step back shortens all waits by as much
//     (clock_step.go). A due time that is later than any delay allows becomes now.
//  7. Transactions lock rows in one order (lane.go). An SQLite file belongs to one process, which drops all leases at
//     its start.
//  8. RepairLanes looks for pending deliveries whose lane would never be claimed, and repairs it (outbox_repair.go).
//
// # Where the rest is
//
//   - One noun each: client, application, token, secret, agent (agent_erase erases one), event, receiver, lane,
//     delivery, replay.
//   - Status changes as they are read: change_feed, change_explain.
//   - Deliveries as they are read: delivery_log, delivery_filter. Test deliveries: event_test_delivery. The unfinished
//     deliveries of an event follow its changes in slices, by sweeps: event_sweep.
//   - Jobs that keep the outbox right: outbox_repair, clock_step (a clock that steps back), retention, retention_share
//     (its fairness among clients). verify looks for rows that break a rule.
//   - Limits of requests: idempotency, quota. Failures: errors, log, availability (whether a change would be stored,
//     and why not). Measurements: stats, with the pending deliveries of each client, which have a limit.
//   - The two databases: engine, engine_sqlite and engine_postgres over internal/sqlite, internal/postgres and
//     internal/schema, all on internal/sqldb. engine_sqlite makes backups, copy_postgres copies a store to PostgreSQL,
//     and engine_postgres has the peers. encryption is that of secrets.
//   - For tests: pgtest starts PostgreSQL, benchfill fills and reads stores, internal/diskfault makes disks fail.
//
// lane.go says in which order transactions lock rows, and why.
package store
