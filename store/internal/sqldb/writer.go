package sqldb

import (
	"context"

	"gorm.io/gorm"
)

// Work is what is done in a transaction. An error undoes it. It may be done again in another transaction, when others
// were in the way of the first.
type Work func(tx *Tx) error

// Writer runs work in transactions. Each engine has one.
type Writer interface {
	// Do runs work in a transaction and returns when that is durable, or when it is known that it will not be. The end
	// of ctx keeps it from being begun; once it has begun it changes nothing.
	Do(ctx context.Context, work Work) error
	// Try is Do for a caller that does not want to know any more when ctx ends. Nothing calls the functions of
	// AfterCommit then.
	Try(ctx context.Context, work Work) error
	// DB is the database that it writes to.
	DB() *gorm.DB
	// Close has work that was not begun be refused. With SQLite, it returns when what was begun has ended; on
	// PostgreSQL, that ends by itself, and work is refused when the pool of connections is closed.
	Close() error
}
