// Package fault makes SQLite's files fail as a disk does, for tests: reads, writes, or writes beyond a place, as if
// the disk were full. It is there on Linux alone, and concerns all databases of the process.
package fault

import "syscall"

// Rule is what fails. The zero error number is none.
type Rule struct {
	Suffix string        // of the path of the files, such as agentevents.db-wal
	Reads  syscall.Errno // with which all reads fail
	Writes syscall.Errno // with which writes fail, also those that make a file longer
	From   int64         // only those that end behind this place do
}
