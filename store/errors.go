package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"gorm.io/gorm"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store/internal/postgres"
	"github.com/agentevents/agentevents/store/internal/sqlite"
)

// The reasons why a store on SQLite is Unavailable although its disk has room.
var (
	ErrFile       = sqlite.ErrFile       // the file is not the one that was opened, or only a part of it
	ErrCheckpoint = sqlite.ErrCheckpoint // committed pages cannot be written from the write-ahead log into the file
)

// ErrNoDatabase is the error for an SQLite file that does not exist, of all that does not create it.
var ErrNoDatabase = sqlite.ErrMissing

// Kind classifies an error.
type Kind int

// The kinds of errors.
const (
	NotFound    Kind = iota + 1 // the requested resource does not exist
	Conflict                    // the resource exists already, or its state forbids the request
	Invalid                     // the request is invalid
	Unavailable                 // the database failed; nothing was stored, unless the commit itself failed
	Truncated                   // the requested changes are no longer kept
	Restarted                   // the sequence number is of another epoch
	KeyReused                   // the Idempotency-Key belongs to another request
	OverQuota                   // the client has too many pending deliveries
)

// Error is an error that the API may show to its caller. Every other error of this package is internal.
type Error struct {
	Kind    Kind
	Message string           // for people
	Status  string           // for programs, such as "agent_not_found"; may be empty
	Fields  []gen.FieldError // the invalid fields of the request; may be empty
	Oldest  int64            // the oldest sequence number that is kept, if Kind is Truncated or Restarted
	Epoch   string           // the current epoch of sequence numbers, if Kind is Restarted
	cause   error
}

// Error returns the message alone. The cause is for the log; Unwrap returns it.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the error of the database, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Logged reports whether the store itself logs the cause, in one line for all requests that fail for it.
func (e *Error) Logged() bool {
	return e.Kind == Unavailable && e.Message == unavailableMessage && e.cause != nil && !isClosed(e.cause)
}

// Body is the error as the API represents it.
func (e *Error) Body() gen.ErrorResponse {
	return gen.ErrorResponse{
		Message: e.Message, Status: e.Status, Errors: e.Fields, OldestSequence: e.Oldest, Epoch: e.Epoch,
	}
}

func isNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == NotFound
}

// isExpected reports whether a correct statement may fail with an error.
func isExpected(err error) bool {
	return errors.Is(err, context.Canceled) || isDuplicate(err) || isUnavailable(err)
}

// isDuplicate reports whether an error is a violation of a unique key. It recognizes errors that GORM has not
// translated, too.
func isDuplicate(err error) bool {
	return sqlite.IsDuplicate(err) || postgres.IsDuplicate(err) || errors.Is(err, gorm.ErrDuplicatedKey)
}

// isUnavailable reports whether a database error concerns the database and not the statement. The same request may
// succeed later.
func isUnavailable(err error) bool {
	return isClosed(err) || errors.Is(err, context.DeadlineExceeded) || sqlite.IsUnavailable(err) ||
		postgres.IsUnavailable(err)
}

// isClosed reports whether an error means that the store is closed.
func isClosed(err error) bool {
	return errors.Is(err, sql.ErrConnDone) || errors.Is(err, sqlite.ErrClosed) ||
		strings.HasSuffix(err.Error(), "sql: database is closed") // database/sql does not export this error
}

// isContended reports whether an error means that another transaction was in the way. The next transaction may succeed.
func isContended(err error) bool {
	return sqlite.IsBusy(err) || postgres.IsLockTimeout(err) || postgres.IsRetryable(err)
}

// isDatabaseFailure reports whether a transaction would fail with fewer tasks, too. Its argument was mapped by
// noteWrite. A lock timeout is no such failure.
func isDatabaseFailure(err error) bool {
	var failure *Error
	return errors.As(err, &failure) && !postgres.IsLockTimeout(err)
}

// publicError maps a database failure to an *Error, and returns every other error unchanged.
func publicError(err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) || !isUnavailable(err) {
		return err
	}
	return unavailableError(err)
}

// unavailableError wraps a database failure for the caller.
func unavailableError(cause error) error {
	return &Error{Kind: Unavailable, Message: unavailableMessage, cause: cause}
}

const unavailableMessage = "the store is not available, try again"
