package sqlite

import (
	"errors"
	"slices"

	"github.com/mattn/go-sqlite3"
)

// unavailable are the codes that are about the database and not about the statement.
var unavailable = []sqlite3.ErrNo{
	sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrReadonly,
	sqlite3.ErrCantOpen, sqlite3.ErrNomem, sqlite3.ErrInterrupt, sqlite3.ErrCorrupt, sqlite3.ErrNotADB,
}

// IsUnavailable says whether an error is about the database and not about the statement, so that the same request may
// succeed later.
func IsUnavailable(err error) bool {
	e, is := asError(err)
	return is && slices.Contains(unavailable, e.Code)
}

// IsDuplicate says whether an error is that a key exists already.
func IsDuplicate(err error) bool {
	e, is := asError(err)
	return is && (e.ExtendedCode == sqlite3.ErrConstraintUnique || e.ExtendedCode == sqlite3.ErrConstraintPrimaryKey)
}

// IsContended says whether an error is that another transaction was in the way, which says nothing of the next one.
func IsContended(err error) bool {
	e, is := asError(err)
	return is && (e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked || e.Code == sqlite3.ErrInterrupt)
}

// isDamaged says whether an error is that the file is not as it should be.
func isDamaged(err error) bool {
	e, is := asError(err)
	return is && (e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB || e.Code == sqlite3.ErrIoErr)
}

// Reason is what errors with the same reason have in common, and whether an error is SQLite's.
func Reason(err error) (reason string, is bool) {
	e, is := asError(err)
	if !is {
		return "", false
	}
	return e.Code.Error(), true
}

func asError(err error) (e sqlite3.Error, is bool) {
	is = errors.As(err, &e)
	return e, is
}
