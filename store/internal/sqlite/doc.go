// Package sqlite is a SQLite file that one process serves, with one connection that writes and some that read.
//
// It knows no table. In order of reading:
//
//   - db.go opens a file and closes it, orm.go puts GORM on its connections
//   - writer.go is the goroutine that writes, commit.go its transactions: one for all units of work that wait
//   - file.go finds the file that a URL names and keeps it from other users, lock.go keeps it from other processes
//   - watch.go sees that the file was removed, replaced or truncated, which SQLite does not; wal.go reads the
//     write-ahead log for that
//   - checkpoint.go writes the pages of the write-ahead log to the file, and says when it cannot
//   - shrink.go gives free pages back to the file system, backup.go copies a file while it is served
//   - errors.go says what errors of SQLite mean
package sqlite
