// Package sqlite opens an SQLite file that one process serves, with one connection that writes and several that read.
//
// It knows no table of the store. In order of reading:
//
//   - db.go opens and closes a file; orm.go wraps its connections in GORM
//   - writer.go is the goroutine that writes; commit.go runs its transactions, each for all units of work that wait
//   - file.go resolves the path in a URL and protects the file from other users; lock.go locks it
//   - watch.go notices that the file was removed, replaced or truncated, which SQLite does not; wal.go reads the
//     write-ahead log for it
//   - checkpoint.go writes the pages of the write-ahead log to the file, and reports when it cannot
//   - shrink.go returns free pages to the file system; backup.go copies a file that is served
//   - errors.go classifies errors of SQLite
package sqlite
