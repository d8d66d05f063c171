package sqldb

import "gorm.io/gorm"

// Dialect is the engine whose SQL is spoken.
type Dialect int

// The engines.
const (
	SQLite   Dialect = iota // one writer, who has the whole database
	Postgres                // writers side by side, who lock rows
)

// dialectOf is the one of a database that GORM has opened.
func dialectOf(db *gorm.DB) Dialect {
	if db.Name() == "postgres" {
		return Postgres
	}
	return SQLite
}
