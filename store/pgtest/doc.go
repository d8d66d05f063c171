// Package pgtest runs private PostgreSQL servers for tests and measurements, by the programs initdb and postgres of the
// machine. Start creates a server, which a test can restart, crash and freeze; Stop leaves nothing of it.
//
// Main runs the tests of a package twice: on SQLite, and then, in another process, on PostgreSQL.
package pgtest
