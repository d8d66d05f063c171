// Package diskfault makes SQLite's files fail like a broken or full disk, for tests. It replaces system calls of
// SQLite's default file system by xSetSystemCall, which SQLite offers for this purpose. It works on Linux only, and
// affects all databases of the process.
package diskfault

import "syscall"

// Rule describes the writes that fail, and their error.
type Rule struct {
	Suffix string        // suffix of the paths of the files, such as agentevents.db-wal
	Writes syscall.Errno // the error; also for a truncate that makes the file longer
	From   int64         // only writes that end after this offset, in bytes, fail
}
