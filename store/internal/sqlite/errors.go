package sqlite

import (
	"errors"
	"slices"

	"github.com/mattn/go-sqlite3"
)

// unavailable are the codes that concern the database and not the statement.
var unavailable = []sqlite3.ErrNo{
	sqlite3.ErrBusy, sqlite3.ErrLocked, sqlite3.ErrFull, sqlite3.ErrIoErr, sqlite3.ErrReadonly,
	sqlite3.ErrCantOpen, sqlite3.ErrNomem, sqlite3.ErrInterrupt, sqlite3.ErrCorrupt, sqlite3.ErrNotADB,
}

// IsUnavailable reports whether an error concerns the database and not the statement. The same request may succeed
// later.
func IsUnavailable(err error) bool {
	e, is := asError(err)
	return is && slices.Contains(unavailable, e.Code)
}

// IsDuplicate reports whether an error is a violation of a unique key.
func IsDuplicate(err error) bool {
	e, is := asError(err)
	return is && (e.ExtendedCode == sqlite3.ErrConstraintUnique || e.ExtendedCode == sqlite3.ErrConstraintPrimaryKey)
}

// IsContended reports whether another transaction was in the way. The next transaction may succeed.
func IsContended(err error) bool {
	e, is := asError(err)
	return is && (e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked || e.Code == sqlite3.ErrInterrupt)
}

// isDamaged reports whether the file is damaged or unreadable.
func isDamaged(err error) bool {
	e, is := asError(err)
	return is && (e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB || e.Code == sqlite3.ErrIoErr)
}

// Reason returns a key for errors with the same reason, and reports whether an error is SQLite's.
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
