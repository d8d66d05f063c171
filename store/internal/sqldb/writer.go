package sqldb

import (
	"context"

	"gorm.io/gorm"
)

// Work is a unit of work, which runs in a transaction. Its error rolls the transaction back. It may run again in
// another transaction, if a conflict with others ended the first.
type Work func(tx *Tx) error

// Writer runs work in transactions. Each engine has one.
type Writer interface {
	// Do runs work in a transaction. It returns when the work is durable, or when it is known that it will not be. If
	// ctx ends before the work begins, the work does not run. After that, the end of ctx has no effect.
	Do(ctx context.Context, work Work) error
	// Try is Do for a caller that stops waiting when ctx ends. Then the functions of CallerOnCommit are not called.
	Try(ctx context.Context, work Work) error
	// DB returns the database that the writer writes to.
	DB() *gorm.DB
	// Close refuses work that has not begun. On SQLite, it returns when the work in progress has ended. On PostgreSQL,
	// work ends by itself, and new work is refused once the pool of connections is closed.
	Close() error
}
