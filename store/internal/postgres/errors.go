package postgres

import (
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// unavailable are the classes of error codes that are about the server and not about the statement.
var unavailable = []string{
	"08",    // the connection
	"25P03", // the transaction was idle for too long
	"25006", // the server only reads: it is a standby
	"40",    // a deadlock, or the transactions cannot be put in an order
	"53",    // no memory, disk or connection is left
	"55P03", // a lock was not to be had in time
	"57",    // the server stops, or the statement took too long
	"58",    // the system
	"XX",    // broken data
}

// IsUnavailable says whether an error is about the server or the connection and not about the statement, so that the
// same request may succeed later.
func IsUnavailable(err error) bool {
	if code, is := codeOf(err); is {
		for _, class := range unavailable {
			if strings.HasPrefix(code, class) {
				return true
			}
		}
		return false
	}
	var network net.Error
	var connectErr *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &connectErr) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn) ||
		pgconn.SafeToRetry(err)
}

// IsLockTimeout says whether an error is that another transaction held what a statement needed.
func IsLockTimeout(err error) bool {
	code, _ := codeOf(err)
	return code == "55P03"
}

// IsStatementTimeout says whether an error is that a statement took too long.
func IsStatementTimeout(err error) bool {
	code, _ := codeOf(err)
	return code == "57014"
}

// IsDuplicate says whether an error is that a key exists already.
func IsDuplicate(err error) bool {
	code, _ := codeOf(err)
	return code == "23505"
}

// IsRetryable says whether a transaction that was rolled back for an error may succeed when it is tried again at once.
func IsRetryable(err error) bool {
	code, is := codeOf(err)
	if !is {
		return pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn)
	}
	switch code {
	case "40001", "40P01", // it could not be put in an order with others, or they waited for each other
		"0A000", // a table has another column since the statement was prepared
		"23503": // what a row refers to went away meanwhile
		return true
	}
	return false
}

// Reason is what errors with the same reason have in common, and whether it is known: their texts may name a statement
// or a port.
func Reason(err error) (reason string, known bool) {
	if code, is := codeOf(err); is {
		return code, true
	}
	var connectErr *pgconn.ConnectError
	if errors.As(err, &connectErr) {
		return "connect", true
	}
	return "", false
}

// codeOf is the code of an error that a server has answered with.
func codeOf(err error) (code string, is bool) {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return "", false
	}
	return answer.Code, true
}
