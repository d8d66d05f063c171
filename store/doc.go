// Package store is SQL: rows, transactions, the outbox and the migrations.
//
// An exported method is one transaction. All writes of a SQLite store pass through one writer, which puts all that wait
// into one commit (write.go); reads have a pool of their own. Rows and GORM stay inside; what comes out are the models
// of package gen, small types of this package, and *Error. The statements of what happens most are written out and not
// made by GORM (statement.go).
//
// What SQLite and PostgreSQL do differently is the interface of engine.go. The two are in packages of their own, and so
// is the schema of both: internal/sqlite serves a file, and watches that it stays the one that was opened;
// internal/postgres connects to a server, and to the other processes that share its database (peers.go);
// internal/schema migrates. ready.go says whether a change would be stored, downtime.go logs once why not, and aside.go
// writes such lines beside what does the work.
//
// All due times come from one clock. clockstep.go takes a step back of that clock off whatever waits, expiry.go says
// what fails when its window is over.
//
// Order is kept by lanes (lane.go): a lane is one agent and one receiver, and has at most one delivery in flight. A
// receiver has a breaker (breaker.go); retry.go tells its failures from those of a delivery. What a deleted client
// has left is apart from what a later one under its id has (former.go).
package store
