package postgres

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// IsURL says whether a database URL is one of PostgreSQL.
func IsURL(databaseURL string) bool {
	return strings.HasPrefix(databaseURL, "postgres://") || strings.HasPrefix(databaseURL, "postgresql://")
}

// CheckURL says what is wrong with a URL, without repeating it: it may hold a password.
func CheckURL(databaseURL string) error {
	if _, err := pgx.ParseConfig(databaseURL); err != nil {
		return errors.New("must be the URL of a PostgreSQL database, such as postgres://user@host:5432/database")
	}
	return nil
}

// Redact returns a URL without its password and its settings.
func Redact(databaseURL string) string {
	c, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return "postgres:"
	}
	return fmt.Sprintf("postgres://%s@%s/%s", c.User, net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), c.Database)
}
