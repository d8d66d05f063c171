// Package pgtest runs private PostgreSQL servers for tests and benchmarks, with the machine's programs initdb and
// postgres. Start creates a server, which a test can restart, crash and suspend. Stop removes it completely.
//
// Main runs the tests of a package twice: on SQLite, and then, in another process, on PostgreSQL.
package pgtest
