package postgres

import (
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// ORM wraps a pool or a transaction in GORM. Its queries name their columns, so that a column of a later version does
// not break prepared statements.
func ORM(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error) {
	return gorm.Open(redactingDialector{&postgres.Dialector{Config: &postgres.Config{Conn: pool}}}, &gorm.Config{
		DisableAutomaticPing:   true,
		SkipDefaultTransaction: true,
		QueryFields:            true,
		TranslateError:         true,
		Logger:                 log,
	})
}

// redactingDialector keeps values out of the statements in the log, since some are secrets.
type redactingDialector struct{ *postgres.Dialector }

// Explain implements gorm.Dialector.
func (redactingDialector) Explain(sql string, _ ...any) string { return sql }
