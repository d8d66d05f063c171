// Package postgres opens a PostgreSQL database that any number of processes share.
//
// It knows no table of the store. In order of reading:
//
//   - url.go parses database URLs, and shows them without passwords
//   - db.go opens the pools of connections that write and read, and migrates the schema; orm.go wraps them in GORM
//   - writer.go runs each unit of work in a transaction, and retries it after a conflict
//   - queue.go queues statements until an answer is needed; clock.go follows the database's clock
//   - session.go gives each session its settings, and refuses unsuitable servers
//   - deadline.go ends a read if the server does not respond
//   - notify.go exchanges messages with the other processes, and marks the database as served
//   - visible.go finds the high-water mark of a sequence
//   - errors.go classifies errors of PostgreSQL and of connections
package postgres
