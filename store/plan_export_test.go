package store

import "github.com/agentevents/agentevents/store/internal/postgres"

// ByIndex are the settings of connections that write on PostgreSQL which have to do with plans.
var ByIndex = postgres.PlanSettings()

// AfterStatements has a function called after each statement of the store, with its text and values as they were sent,
// and whether by a connection that writes.
func (s *Store) AfterStatements(fn func(statement string, writes bool, values []any)) {
	s.tap(nil, func(writes bool, statement string, values []any) error {
		fn(statement, writes, values)
		return nil
	})
}
