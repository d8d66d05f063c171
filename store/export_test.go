package store

import (
	"context"

	"gorm.io/gorm"
)

// BeforeStatements has a function called before each statement of the store, which it makes fail by its error.
func (s *Store) BeforeStatements(fn func() error) error {
	return s.before("before", func(bool, string) error { return fn() })
}

// WatchStatements has a function called with each statement that is written out, and whether it is the writer's.
func (s *Store) WatchStatements(fn func(writes bool, statement string)) error {
	return s.before("watch", func(writes bool, statement string) error {
		fn(writes, statement)
		return nil
	})
}

func (s *Store) before(name string, fn func(writes bool, statement string) error) error {
	for _, db := range []*gorm.DB{s.writes.handle(), s.reader} {
		before := func(tx *gorm.DB) {
			if tx.Error == nil {
				_ = tx.AddError(fn(db == s.writes.handle(), tx.Statement.SQL.String()))
			}
		}
		c := db.Callback()
		for _, register := range []func(string, func(*gorm.DB)) error{
			c.Create().Before("gorm:create").Register, c.Query().Before("gorm:query").Register,
			c.Row().Before("gorm:row").Register, c.Raw().Before("gorm:raw").Register,
			c.Update().Before("gorm:update").Register, c.Delete().Before("gorm:delete").Register,
		} {
			if err := register(name, before); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReplayAll and PruneAll are the parts of Work, once.
func (s *Store) ReplayAll(ctx context.Context) error { return s.replay(ctx) }
func (s *Store) PruneAll(ctx context.Context) error  { return s.prune(ctx) }

// WriteRepeats is another.
func (s *Store) WriteRepeats(ctx context.Context) error { return s.writeRepeats(ctx) }

// ShareRequests is a part of Work too.
func (s *Store) ShareRequests(ctx context.Context) error { return s.shareRequests(ctx) }

// LookAgain is one as well, with PostgreSQL.
func (s *Store) LookAgain(ctx context.Context) error { return s.lookAgain(ctx) }
