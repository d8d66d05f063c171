package store

import "gorm.io/gorm"

// ByIndex are the settings of connections that write on PostgreSQL which have to do with plans.
var ByIndex = byIndex

// AfterStatements has a function called after each statement of the store, with its text and values as they were sent, and
// whether by a connection that writes.
func (s *Store) AfterStatements(fn func(statement string, writes bool, values []any)) error {
	for _, db := range []*gorm.DB{s.writes.handle(), s.reader} {
		after := func(tx *gorm.DB) { fn(tx.Statement.SQL.String(), db == s.writes.handle(), tx.Statement.Vars) }
		c := db.Callback()
		for _, register := range []func(string, func(*gorm.DB)) error{
			c.Create().After("gorm:create").Register, c.Query().After("gorm:query").Register,
			c.Row().After("gorm:row").Register, c.Raw().After("gorm:raw").Register,
			c.Update().After("gorm:update").Register, c.Delete().After("gorm:delete").Register,
		} {
			if err := register("after", after); err != nil {
				return err
			}
		}
	}
	return nil
}
