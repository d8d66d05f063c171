// Package pgtest runs a PostgreSQL server of its own, for tests and measurements, made from the programs initdb and
// postgres of the machine: Start makes one, Stop leaves nothing of it. It can be restarted, crashed and frozen.
//
// Main runs the tests of a package twice: on SQLite, and then as another process on PostgreSQL.
package pgtest
