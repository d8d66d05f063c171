package sqlite

import (
	"errors"
	"time"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// maxPrepared is the number of prepared statements of a connection.
const maxPrepared = 256

// ORM wraps a connection, a pool or a transaction in GORM, which begins no transactions by itself.
func ORM(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error) {
	return gorm.Open(redactingDialector{&sqlite.Dialector{Conn: pool}}, &gorm.Config{
		DisableAutomaticPing:   true,
		SkipDefaultTransaction: true,
		PrepareStmt:            true,
		PrepareStmtMaxSize:     maxPrepared,
		PrepareStmtTTL:         10 * 365 * 24 * time.Hour, // no expiry, since an expiring statement may be in use
		TranslateError:         true,
		Logger:                 log,
	})
}

// redactingDialector keeps values out of the statements in the log, since some are secrets.
type redactingDialector struct{ *sqlite.Dialector }

// Explain implements gorm.Dialector.
func (redactingDialector) Explain(sql string, _ ...any) string { return sql }

// closeStatements closes the prepared statements of a connection, which would keep it open.
func closeStatements(pool gorm.ConnPool) (err error) {
	p, is := pool.(*gorm.PreparedStmtDB)
	if !is {
		return nil
	}
	for _, key := range p.Stmts.Keys() {
		if statement, is := p.Stmts.Get(key); is {
			err = errors.Join(err, statement.Close())
		}
	}
	return err
}
