// Package mapped has SQLite read large files through memory that they are mapped into, and that stays mapped. By itself
// SQLite reads each page by a system call and forgets all that it has read whenever somebody has written, and where it
// maps a file, it does so anew after each write. In a file of gigabytes, where each row lies in a page of its own, that is
// most of what a query takes.
//
// Importing the package is all it takes: SQLite's driver opens files by it from then on, on Linux; elsewhere nothing changes.
// All connections of the process share one mapping of a file, which is only read: what is written goes the usual way, with
// all locks and syncs. Resident memory then counts the pages that were read, which the kernel takes back when it needs
// room. A page that the disk cannot read ends the process, where it would have been an error of a query.
//
// The package also has SQLite's temporary tables, which most statements have, take pages one by one, and no memory be
// counted: both can only be said before SQLite is used.
package mapped

// Least is from how many bytes on a file is read through its mapping. Smaller ones are hardly worth their memory.
const Least = 256 << 20
