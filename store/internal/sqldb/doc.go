// Package sqldb is what the store's transactions are made of, on both engines. It knows SQL and GORM, and nothing of
// agents, lanes or deliveries.
//
//   - tx.go: Tx, a transaction that writes, and ReadTx, which only reads. Both are a Querier.
//   - writer.go: Writer, which an engine runs transactions by.
//   - batcher.go: Batcher does in one transaction what several callers ask for at the same time.
//   - query.go: Select, Get and Value read rows; scan.go puts columns into fields.
//   - bind.go: how lists and tables of values go into the text of a statement.
//   - values.go: Table and InsertAll, many rows as one statement.
//   - lock.go: rows that are locked until the end of a transaction.
//   - dialect.go: what the two engines spell differently.
//   - tap.go: Tap, by which tests see each statement.
//
// GORM persists the nouns, by Querier.GORM. What happens with every status change, delivery and request is written out
// in SQL and neither put together nor read by GORM, which takes as long as the database takes for it.
package sqldb
