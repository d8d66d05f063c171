package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
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
	return errors.Is(err, context.Canceled) || errors.Is(err, gorm.ErrDuplicatedKey) || unavailable(err)
}

// unavailable says whether a database error is about the database and not about the statement, so that the same
// request may succeed later.
func unavailable(err error) bool {
	if errors.Is(err, sql.ErrConnDone) || errors.Is(err, errClosed) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if strings.HasSuffix(err.Error(), "sql: database is closed") { // database/sql does not export it
		return true
	}
	var lite sqlite3.Error
	if !errors.As(err, &lite) {
		return pgUnavailable(err)
	}
	switch lite.Code {
	case sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrReadonly,
		sqlite3.ErrCantOpen, sqlite3.ErrNomem, sqlite3.ErrInterrupt, sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return true
	}
	return false
}
