// Package sqldb has the building blocks of the store's transactions, for both engines. It knows SQL and GORM, and
// nothing of agents, lanes or deliveries.
//
//   - tx.go: Tx, a transaction that writes, and ReadTx, which only reads. Both are a Querier.
//   - writer.go: Writer, the interface by which an engine runs transactions.
//   - batcher.go: Batcher runs the simultaneous tasks of several callers in one transaction.
//   - query.go: Select, Get and Value read rows; scan.go assigns columns to fields.
//   - bind.go: the expansion of lists and tables of values in the text of a statement.
//   - values.go: Table and InsertAll, many rows in one statement.
//   - lock.go: row locks, which last until the end of a transaction.
//   - dialect.go: the two SQL dialects.
//   - tap.go: Tap, by which tests observe each statement.
//
// GORM persists the nouns, by Querier.GORM. The statements of each status change, delivery and request are written in
// SQL. GORM neither builds nor scans them, since that takes as long as the database takes to execute them.
package sqldb
