// Package diskfault makes SQLite's files fail like a broken or full disk, for tests. It replaces the system calls of
// SQLite's own file system by xSetSystemCall, which SQLite offers for this. It works on Linux only, and for all
// databases of the process.
package diskfault

import "syscall"

// Rule says which writes fail, and how.
type Rule struct {
	Suffix string        // of the path of the files, such as agentevents.db-wal
	Writes syscall.Errno // the error, also of a truncate that makes the file longer
	From   int64         // only writes that end behind this offset, in bytes, fail
}
