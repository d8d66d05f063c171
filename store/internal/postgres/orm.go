package postgres

import (
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// ORM puts GORM on top of a pool or a transaction. It names the columns that it reads, so that one that a later version
// of the program adds is no trouble for the statements that are prepared.
func ORM(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error) {
	return gorm.Open(discreet{&postgres.Dialector{Config: &postgres.Config{Conn: pool}}}, &gorm.Config{
		DisableAutomaticPing:   true,
		SkipDefaultTransaction: true,
		QueryFields:            true,
		TranslateError:         true,
		Logger:                 log,
	})
}

// discreet does not write values into statements for the log: secrets are among them.
type discreet struct{ *postgres.Dialector }

// Explain implements gorm.Dialector.
func (discreet) Explain(sql string, _ ...any) string { return sql }
