// Package vfs is the file system beneath SQLite. Importing it is all it takes: SQLite's driver opens files by it from then on, on
// Linux; elsewhere nothing changes. In the end SQLite's own file system does all, with all locks and syncs.
//
// Large files are read through memory that they are mapped into, and that stays mapped. By itself SQLite reads each page by a
// system call and forgets all that it has read whenever somebody has written, and where it maps a file, it does so anew
// after each write. In a file of gigabytes, where each row lies in a page of its own, that is most of what a query takes. All
// connections of the process share one mapping of a file, which is only read. Resident memory then counts the pages that
// were read, which the kernel takes back when it needs room. A page that the disk cannot read ends the process, where it
// would have been an error of a query.
//
// What is written to a log goes to the system in large parts. By itself SQLite writes each page by two system calls, some
// fifty pages in a commit of many rows. It is written before the log is synced, which with PRAGMA synchronous = FULL is before
// a commit is answered; what a transaction that is undone would have written is not. Connections that do not sync their
// commits have them written at once. One that did and does not any more must be able to write the first of these, or the
// process ends.
//
// The package also says what can only be said before SQLite is used: that what a statement may have to undo stays in memory as
// long as it is not very much, that temporary tables, which most statements have, take pages one by one, that no memory is
// counted, and that all threads share one heap: a statement is not bound to any of them.
package vfs

// Least is from how many bytes on a file is read through its mapping. Smaller ones are hardly worth their memory.
const Least = 256 << 20
