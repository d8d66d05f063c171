package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqlite"
)

// troubleLog logs statements that failed, with three exceptions. A statement of a request that was cancelled needs no
// answer. When the database is not available, all statements fail, and their callers log it. A key that exists already is
// the client's mistake; if the caller has no answer to it, the caller logs it.
type troubleLog struct{ logger.Interface }

func newTroubleLog(log *slog.Logger) *troubleLog {
	return &troubleLog{logger.NewSlogLogger(log, logger.Config{LogLevel: logger.Error, IgnoreRecordNotFoundError: true})}
}

// LogMode implements logger.Interface.
func (l *troubleLog) LogMode(level logger.LogLevel) logger.Interface {
	return &troubleLog{l.Interface.LogMode(level)}
}

// Trace implements logger.Interface. The logger beneath would format each statement, also those that it does not log.
func (l *troubleLog) Trace(ctx context.Context, begin time.Time, fc func() (string, int64), err error) {
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) && !expected(err) {
		l.Interface.Trace(ctx, begin, fc, err)
	}
}

// expected says whether a statement may fail with an error although the statement is right.
func expected(err error) bool {
	return errors.Is(err, context.Canceled) || duplicate(err) || unavailable(err)
}

// duplicate says whether a key exists already, also where GORM has not read the error.
func duplicate(err error) bool {
	return sqlite.IsDuplicate(err) || postgres.IsDuplicate(err) || errors.Is(err, gorm.ErrDuplicatedKey)
}

// unavailable says whether a database error is about the database and not about the statement, so that the same
// request may succeed later.
func unavailable(err error) bool {
	return isClosed(err) || errors.Is(err, context.DeadlineExceeded) || sqlite.IsUnavailable(err) || postgres.IsUnavailable(err)
}

// isClosed says whether an error is that the store is closed.
func isClosed(err error) bool {
	return errors.Is(err, sql.ErrConnDone) || errors.Is(err, sqlite.ErrClosed) ||
		strings.HasSuffix(err.Error(), "sql: database is closed") // database/sql does not export it
}

// contended says whether an error is that another transaction was in the way, which says nothing of the next one.
func contended(err error) bool {
	return sqlite.IsContended(err) || postgres.IsLockTimeout(err) || postgres.IsRetryable(err)
}
