package sqlite

import (
	"errors"
	"time"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// maxPrepared is how many statements a connection keeps prepared.
const maxPrepared = 256

// ORM puts GORM on top of a connection, a pool or a transaction. It begins no transactions by itself.
func ORM(pool gorm.ConnPool, log logger.Interface) (*gorm.DB, error) {
	return gorm.Open(discreet{&sqlite.Dialector{Conn: pool}}, &gorm.Config{
		DisableAutomaticPing:   true,
		SkipDefaultTransaction: true,
		PrepareStmt:            true,
		PrepareStmtMaxSize:     maxPrepared,
		PrepareStmtTTL:         10 * 365 * 24 * time.Hour, // without an end, since one that ends may be in use
		TranslateError:         true,
		Logger:                 log,
	})
}

// discreet does not write values into statements for the log: secrets are among them.
type discreet struct{ *sqlite.Dialector }

// Explain implements gorm.Dialector.
func (discreet) Explain(sql string, _ ...any) string { return sql }

// closeStatements closes the statements that are prepared on one connection, which would keep it open.
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
