package postgres

import (
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// Again says whether a transaction that was rolled back for an error may succeed when it is begun again at once.
func Again(err error) bool {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn)
	}
	switch said.Code {
	case "40001", "40P01", // it could not be put in an order with others, or they waited for each other
		"0A000", // a table has another column since the statement was prepared
		"23503": // what a row refers to went away meanwhile
		return true
	}
	return false
}
