package postgres

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// IsURL reports whether a database URL is one of PostgreSQL.
func IsURL(databaseURL string) bool {
	return strings.HasPrefix(databaseURL, "postgres://") || strings.HasPrefix(databaseURL, "postgresql://")
}

// CheckURL returns an error for an invalid URL. The error does not contain the URL, which may hold a password.
func CheckURL(databaseURL string) error {
	if _, err := pgx.ParseConfig(databaseURL); err != nil {
		return errors.New("must be the URL of a PostgreSQL database, such as postgres://user@host:5432/database")
	}
	return nil
}

// Redact returns a URL without its password and its parameters.
func Redact(databaseURL string) string {
	c, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return "postgres:"
	}
	return fmt.Sprintf("postgres://%s@%s/%s", c.User, net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), c.Database)
}
