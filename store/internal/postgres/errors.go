package postgres

import (
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// unavailable are the prefixes of error codes that concern the server and not the statement.
var unavailable = []string{
	"08",    // connection failure
	"25P03", // the transaction was idle for too long
	"25006", // the server is a standby, which only reads
	"40",    // deadlock or serialization failure
	"53",    // out of memory, disk space or connections
	"55P03", // lock timeout
	"57",    // shutdown of the server, or statement timeout
	"58",    // system error
	"XX",    // corrupt data
}

// IsUnavailable reports whether an error concerns the server or the connection and not the statement. The same request
// may succeed later.
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

// IsLockTimeout reports whether a statement waited too long for the lock of another transaction.
func IsLockTimeout(err error) bool {
	code, _ := codeOf(err)
	return code == "55P03"
}

// IsStatementTimeout reports whether a statement exceeded its time.
func IsStatementTimeout(err error) bool {
	code, _ := codeOf(err)
	return code == "57014"
}

// IsDuplicate reports whether an error is a violation of a unique key.
func IsDuplicate(err error) bool {
	code, _ := codeOf(err)
	return code == "23505"
}

// IsRetryable reports whether a transaction that was rolled back for an error may succeed if it is repeated at once.
func IsRetryable(err error) bool {
	code, is := codeOf(err)
	if !is {
		return pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn)
	}
	switch code {
	case "40001", "40P01", // serialization failure and deadlock
		"0A000", // a table has a new column since the statement was prepared
		"23503": // the row that a new row refers to was deleted meanwhile
		return true
	}
	return false
}

// Reason returns a key for errors with the same reason, and reports whether the reason is known. The texts of such
// errors may differ in a statement or a port.
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

// codeOf returns the code of a server's error.
func codeOf(err error) (code string, is bool) {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return "", false
	}
	return answer.Code, true
}
