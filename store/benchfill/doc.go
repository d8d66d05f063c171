// Package benchfill writes rows into a store's database directly, for benchmarks and tests of stores whose size would
// take hours of API calls. It also reads the rows that such programs compare. Only the store and this package know the
// tables.
package benchfill
