package postgres

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// The class of an error decides whether a request is answered with 503, is retried, or is logged as a defect.
func TestErrorsAreClassified(t *testing.T) {
	for _, c := range []struct {
		err                                                       error
		reason                                                    string
		unavailable, retryable, lockTimeout, tooLong, isDuplicate bool
	}{
		{err: code("08006"), reason: "08006", unavailable: true},
		{err: code("25P03"), reason: "25P03", unavailable: true},
		{err: code("25006"), reason: "25006", unavailable: true},
		{err: code("40001"), reason: "40001", unavailable: true, retryable: true},
		{err: code("40P01"), reason: "40P01", unavailable: true, retryable: true},
		{err: code("53100"), reason: "53100", unavailable: true},
		{err: code("55P03"), reason: "55P03", unavailable: true, lockTimeout: true},
		{err: code("55006"), reason: "55006"},
		{err: code("57014"), reason: "57014", unavailable: true, tooLong: true},
		{err: code("58030"), reason: "58030", unavailable: true},
		{err: code("XX001"), reason: "XX001", unavailable: true},
		{err: code("0A000"), reason: "0A000", retryable: true},
		{err: code("23503"), reason: "23503", retryable: true},
		{err: code("23505"), reason: "23505", isDuplicate: true},
		{err: code("42601"), reason: "42601"}, // syntax error
		{err: &pgconn.ConnectError{}, reason: "connect", unavailable: true},
		{err: driver.ErrBadConn, unavailable: true, retryable: true},
		{err: io.ErrUnexpectedEOF, unavailable: true},
		{err: &net.OpError{Op: "read", Err: errors.New("connection reset")}, unavailable: true},
		{err: net.ErrClosed, unavailable: true},
		{err: errors.New("a defect of the program")},
	} {
		for _, err := range []error{c.err, fmt.Errorf("status: %w", c.err)} {
			reason, _ := Reason(err)
			got := []bool{
				IsUnavailable(err), IsRetryable(err), IsLockTimeout(err), IsStatementTimeout(err), IsDuplicate(err),
			}
			want := []bool{c.unavailable, c.retryable, c.lockTimeout, c.tooLong, c.isDuplicate}
			if fmt.Sprint(got) != fmt.Sprint(want) || reason != c.reason {
				t.Errorf("%q: %v, for %q, want %v, for %q", err, got, reason, want, c.reason)
			}
		}
	}
}

func code(c string) error { return &pgconn.PgError{Severity: "ERROR", Code: c, Message: "it failed"} }
