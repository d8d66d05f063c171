package store

import (
	"errors"

	"github.com/agentevents/agentevents/gen"
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
	Unavailable                 // the database does not answer; nothing was done
	Truncated                   // it is no longer kept
	Restarted                   // what it goes on from is of another epoch
	KeyReused                   // another request had the Idempotency-Key
)

// Error is an error that may be shown to whoever made the request. Every other error that leaves this package is
// internal.
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

// Logged says whether the store logs what an error comes from, once for all that fail of it.
func (e *Error) Logged() bool {
	return e.Kind == Unavailable && e.Message == awayMessage && e.cause != nil && !isClosed(e.cause)
}

// Body is the error as the API says it.
func (e *Error) Body() gen.ErrorResponse {
	return gen.ErrorResponse{Message: e.Message, Status: e.Status, Errors: e.Fields, OldestSequence: e.Oldest, Epoch: e.Epoch}
}

func isNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == NotFound
}
