// Package store is the database: rows, transactions, the outbox, and the jobs that maintain them. An exported method
// that writes is one transaction, unless its comment says otherwise. Rows and GORM stay inside the package: its methods
// return models of package gen, small types of its own, and *Error.
//
// README.md explains the store to its operators: the terms, the guarantees, and the rules of lanes that they rest on.
// This comment is a tour of the code.
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
// task, writer, queued statement, lock order, engine. The table of terms in README.md explains most of the concepts of
// the API and the outbox. webhook/doc.go explains handoff and verdict, event_sweep.go a sweep. A batch is the tasks of
// one transaction, such as status updates. A task is contended if another transaction has locked one of its rows for
// long (batcher.go). A queued statement is sent together with the next one whose answer is needed (queue.go).
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
