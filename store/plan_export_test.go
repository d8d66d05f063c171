package store

import "github.com/agentevents/agentevents/store/internal/postgres"

// ByIndex are the plan settings of connections that write on PostgreSQL.
var ByIndex = postgres.PlanSettings()

// AfterStatements calls fn after each statement of the store, with its text and values as they were sent, and whether
// the writer sent it.
func (s *Store) AfterStatements(fn func(statement string, writes bool, values []any)) {
	s.tap(nil, func(writes bool, statement string, values []any) error {
		fn(statement, writes, values)
		return nil
	})
}
