// Package benchfill writes rows into a store's database past the store, for what measures and tries the store at sizes
// that calls would take hours to reach, and reads what such programs compare. It is the one place beside the store that
// knows its tables.
package benchfill
