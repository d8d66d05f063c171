// Package store is SQL: rows, transactions, the outbox and the migrations.
//
// An exported method is one transaction. All writes of a SQLite store pass through one writer, which puts all that
// wait into one commit (write.go); reads have a pool of their own. Rows and GORM stay inside; what comes out are the
// models of package gen, small types of this package, and *Error. The statements of what happens most are written out and
// not made by GORM (statement.go).
//
// The process that serves a SQLite file owns it: its keeper looks whether the file is still the one that was opened
// (file.go, keeper.go), reads in its log what is not in the file yet (wal.go), and carries that over (checkpoint.go).
// ready.go says whether a change would be stored, downtime.go logs once why not, and aside.go writes such lines beside
// what does the work.
//
// All due times come from one clock. clockstep.go takes a step back of that clock off whatever waits, expiry.go says
// what fails when its window is over. session_postgres.go sets what a session of PostgreSQL must have, and which
// servers fit.
//
// Order is kept by lanes (lane.go): a lane is one agent and one receiver, and has at most one delivery in flight. A
// receiver has a breaker (breaker.go); retry.go tells its failures from those of a delivery. What a deleted client
// has left is apart from what a later one under its id has (former.go).
package store
