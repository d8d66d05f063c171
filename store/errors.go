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

// Why a store on SQLite is Unavailable although its disk has room.
var (
	ErrFile       = sqlite.ErrFile       // the file is not the one that was opened, or only a part of it
	ErrCheckpoint = sqlite.ErrCheckpoint // what is committed does not get from SQLite's log into its file
)

// Kind is what sort of thing went wrong.
type Kind int

// The kinds of errors.
const (
	NotFound    Kind = iota + 1 // what was asked for does not exist
	Conflict                    // it exists already
	Invalid                     // the request cannot be carried out as it is
	Unavailable                 // the database does not answer; unless that was the commit, nothing was done
	Truncated                   // it is no longer kept
	Restarted                   // the sequence number is of another epoch
	KeyReused                   // another request had the Idempotency-Key
)

// Error is an error that may be shown to the caller of the API. Every other error that leaves this package is internal.
type Error struct {
	Kind    Kind
	Message string           // for people
	Status  string           // for programs, such as "agent_not_found"; may be empty
	Fields  []gen.FieldError // what is wrong with the request; may be empty
	Oldest  int64            // of what is Truncated or Restarted, the oldest sequence number that is kept
	Epoch   string           // of what is Restarted, the epoch of sequence numbers now
	cause   error
}

// Error returns the message alone: the cause is for the log, by Unwrap.
func (e *Error) Error() string { return e.Message }

// Unwrap returns what the database said, if it said anything.
func (e *Error) Unwrap() error { return e.cause }

// Logged says whether the store logs the cause of an error, once for all requests that fail by it.
func (e *Error) Logged() bool {
	return e.Kind == Unavailable && e.Message == unavailableMessage && e.cause != nil && !isClosed(e.cause)
}

// Body is the error as the API says it.
func (e *Error) Body() gen.ErrorResponse {
	return gen.ErrorResponse{
		Message: e.Message, Status: e.Status, Errors: e.Fields, OldestSequence: e.Oldest, Epoch: e.Epoch,
	}
}

func isNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == NotFound
}

// isExpected says whether a statement may fail with an error although the statement is right.
func isExpected(err error) bool {
	return errors.Is(err, context.Canceled) || isDuplicate(err) || isUnavailable(err)
}

// isDuplicate says whether a key exists already, also where GORM has not read the error.
func isDuplicate(err error) bool {
	return sqlite.IsDuplicate(err) || postgres.IsDuplicate(err) || errors.Is(err, gorm.ErrDuplicatedKey)
}

// isUnavailable says whether a database error is about the database and not about the statement, so that the same
// request may succeed later.
func isUnavailable(err error) bool {
	return isClosed(err) || errors.Is(err, context.DeadlineExceeded) || sqlite.IsUnavailable(err) ||
		postgres.IsUnavailable(err)
}

// isClosed says whether an error is that the store is closed.
func isClosed(err error) bool {
	return errors.Is(err, sql.ErrConnDone) || errors.Is(err, sqlite.ErrClosed) ||
		strings.HasSuffix(err.Error(), "sql: database is closed") // database/sql does not export it
}

// isContended says whether an error is that another transaction was in the way, which says nothing of the next one.
func isContended(err error) bool {
	return sqlite.IsContended(err) || postgres.IsLockTimeout(err) || postgres.IsRetryable(err)
}

// isDatabaseFailure says whether a transaction would fail as well with fewer tasks: its error is for callers by now,
// but not that it waited too long for a lock.
func isDatabaseFailure(err error) bool {
	var trouble *Error
	return errors.As(err, &trouble) && !postgres.IsLockTimeout(err)
}

// publicError makes an error of the database fit to leave the package.
func publicError(err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) || !isUnavailable(err) {
		return err
	}
	return unavailableError(err)
}

// unavailableError is what is answered when the database is in trouble.
func unavailableError(cause error) error {
	return &Error{Kind: Unavailable, Message: unavailableMessage, cause: cause}
}

const unavailableMessage = "the store is not available, try again"
