// Package store is the database: rows, transactions, the outbox and what looks after them. An exported method is one
// transaction. Rows and GORM stay inside; what comes out are the models of package gen, small types of this package,
// and *Error.
//
// # A status change, from the request to the wire
//
//  1. SetStatus (status.go) makes a setting of a request and gives it to a Batcher (internal/sqldb/batcher.go): what is
//     asked for at the same time shares one transaction. SetStatuses brings several at once.
//  2. The engine's Writer runs that transaction: on SQLite one goroutine, which has all that waits share one commit
//     (internal/sqlite/writer.go, commit.go); on PostgreSQL one transaction for each batch, side by side
//     (internal/postgres/writer.go), whose statements are queued until an answer is needed (queue.go).
//  3. setBatch parts the settings into waves, so that no agent is twice in one. setWave locks the agents, and decide
//     says what changes: nothing, when the agent has the status or the time is stale.
//  4. applyChanges (status_apply.go) finds the events that a change fires and locks their lanes (outbox_enqueue.go). It
//     inserts the rows of status_changes, whose ids are the sequence numbers, and updates the agents.
//  5. enqueue (outbox_enqueue.go) inserts one delivery for each event, and adds them to their lanes (lane.go). The
//     first delivery of a lane that was empty is leased at once when the dispatcher has room: handOff.
//  6. The commit makes all of it durable, and only then does the caller get its answer. What waits is told: the
//     dispatcher, the readers of the feed (change_feed.go), and the other processes (engine_postgres.go).
//  7. The dispatcher (webhook/dispatch.go) sends what was handed off. For the rest it calls Claim (outbox_claim.go),
//     which finds due lanes, fairly among receivers, leases them, and returns the first delivery of each.
//  8. webhook/lane.go sends the delivery and calls Record (outbox_record.go), which batches, too: a plain result is
//     recorded together with others (outbox_record_batch.go); one that changes its receiver, or comes too late, by
//     itself. The lane goes on with its next delivery, or is released.
//
// # The concepts of a status change
//
// Of the API: client, agent, event, status change, sequence number, delivery, attempt, receiver. Of the outbox: lane,
// head (the first pending delivery of a lane), due time, lease, claim (its number tells a late result), handoff,
// result, verdict, breaker, probe, outage, deploy window. Of the database: transaction, batch, wave, contended task,
// writer, queued statement, lock order, engine. These are 28. lane.go, receiver_breaker.go and
// webhook/doc.go explain those of the outbox.
//
// # Where the rest is
//
//   - One noun each: client, application, token, secret, agent, event, receiver, lane, delivery, replay.
//   - Status changes as they are read: change_feed, change_explain.
//   - Deliveries as they are read and moved: delivery_log, delivery_filter, delivery_move.
//   - What keeps the outbox right: receiver_breaker, outbox_repair, clock_step (a clock that was put back), retention,
//     verify.
//   - What a request may do: idempotency, quota. What went wrong: errors, log, availability (whether a change would be
//     stored, and why not). What is measured: stats.
//   - The two databases: engine, engine_sqlite, engine_postgres over internal/sqlite, internal/postgres and
//     internal/schema, all on internal/sqldb. Backup (engine_sqlite) and copy_postgres take a database elsewhere, the
//     other processes are in engine_postgres, and encryption is that of secrets.
//   - For tests: pgtest starts PostgreSQL, benchfill fills and reads stores, internal/diskfault has disks fail.
//
// The order in which transactions lock rows, and why, is in lane.go.
package store
