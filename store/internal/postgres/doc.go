// Package postgres is a PostgreSQL database that any number of processes share.
//
// It knows no table. In order of reading:
//
//   - url.go reads database URLs, and shows them without passwords
//   - db.go opens the pools of connections that write and read, and brings the schema up to date; orm.go puts GORM on
//     them
//   - writer.go runs each unit of work in a transaction, again when others were in its way; queue.go sends the
//     statements of a transaction together until an answer is needed; clock.go is the database's clock
//   - session.go gives each session the settings that it must have, and refuses servers that do not fit
//   - deadline.go ends a read of a server that has become silent
//   - notify.go sends messages to the other processes, receives theirs, and says that the database is served
//   - visible.go finds up to which number of a sequence all rows can be seen
//   - errors.go says what errors of PostgreSQL and of connections mean
package postgres
