// Bench measures the built binary from outside. The program, as server/lab starts it, what it is held against, the
// receivers and the load are processes of their own on one machine, which talk over loopback; all but the program are
// this program once more (process.go). Each workload is one file.
//
//	go run ./server/bench                    # all workloads but growth
//	go run ./server/bench -json out.json -picture out.svg burst steady
//	go run ./server/bench -engines sqlite -burst-changes 2000 -rounds 1 burst
//	go run ./server/bench growth             # takes hours, and 20 GB in TMPDIR
//
// burst, steady, shift, fanout, pending and api hold the program, on SQLite and on PostgreSQL, against floors in the same
// run, in turn and several times, since what a machine can do drifts: the ratios of one round say more than its figures.
// "raw" is the receiver, which is sent the forms directly; "relay" takes the same changes, stores nothing, and sends the
// same forms; "ledger-sqlite" and "ledger-postgres" are that relay with the least that makes it durable, one row for each
// form; "bare" is a handler that knows the answer. What is to be reached stands in the table of targets.
//
// isolation, backlog, soak and growth hold the program against itself: while a receiver hangs or is dead, after some
// minutes, with a large store. Their load comes from this process (load.go).
//
// What is measured is the time from change to arrival: from when a change of a status was to be sent to when a receiver
// has the headers of the request that tells of it. Both ends read the clock of the machine, and the sequence number
// tells which belong together. Where changes come at a rate, the load does not wait for answers, so that a server that
// hangs is not spared.
//
// It exits with 1 when something happened that must never happen, as when a delivery was lost, and never because
// something took long.
package main
