package sqldb

import "gorm.io/gorm"

// Dialect is the SQL dialect of an engine.
type Dialect int

// The engines.
const (
	SQLite   Dialect = iota // one writer at a time, which needs no row locks
	Postgres                // concurrent writers, which lock rows
)

// dialectOf returns the dialect of a database that GORM has opened.
func dialectOf(db *gorm.DB) Dialect {
	if db.Name() == "postgres" {
		return Postgres
	}
	return SQLite
}
