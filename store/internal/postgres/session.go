package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A session begins with settings that an administrator may have made for other programs, on the server, the database or
// the role. This file sets every setting that a guarantee depends on. The settings of the URL are for this program
// alone, and have precedence.

const (
	statementSetting = "statement_timeout"
	idleSetting      = "idle_in_transaction_session_timeout"
)

// fixedSettings are settings that the URL cannot change: all text is UTF-8, and a backslash in a statement is a
// backslash.
var fixedSettings = map[string]string{"client_encoding": "UTF8", "standard_conforming_strings": "on"}

// defaultSettings are settings that the URL may change. The store needs read committed, by which each statement sees
// all earlier commits. With a stricter isolation, concurrent changes of one agent would fail instead of waiting.
var defaultSettings = map[string]string{
	"application_name": "agentevents", "default_transaction_isolation": "read committed", statementSetting: "0",
	"lock_timeout": milliseconds(lockTimeout), idleSetting: milliseconds(idleTimeout),
}

// laterSettings are statements for settings that older servers do not know, and for synchronous_commit, which is only
// ever strengthened. With synchronous_commit off, the server confirms a commit before it is on disk.
var laterSettings = map[string]string{
	"idle_session_timeout": "SELECT set_config('idle_session_timeout', '0', false) " +
		"WHERE current_setting('idle_session_timeout', true) <> '0'; ",
	"transaction_timeout": "SELECT set_config('transaction_timeout', '0', false) " +
		"WHERE current_setting('transaction_timeout', true) <> '0'; ",
	"synchronous_commit": "SELECT set_config('synchronous_commit', 'on', false) " +
		"WHERE current_setting('synchronous_commit') = 'off'; ",
}

// readOnlySQL begins sessions of readers, after target_session_attrs has found a server that writes.
const readOnlySQL = "SET default_transaction_read_only = on; "

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// prepareSessions makes sessions begin with settings, including those of the URL, and then execute statements.
func prepareSessions(c *pgx.ConnConfig, settings map[string]string, statements string) {
	all := maps.Clone(defaultSettings)
	maps.Copy(all, settings)
	maps.Copy(all, c.RuntimeParams)
	maps.Copy(all, fixedSettings)
	for name, statement := range laterSettings {
		if _, given := all[name]; !given {
			statements += statement
		}
	}
	c.RuntimeParams = all
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		return conn.Exec(ctx, statements).Close()
	}
}

// unusableError is the reason why a database that was reached cannot be used.
type unusableError string

func (e unusableError) Error() string { return string(e) }

// addCheck adds a check that a server must pass before a connection is used. It runs before the checks that were added
// earlier and before target_session_attrs. If it fails, the driver tries the next host of the URL.
func addCheck(c *pgx.ConnConfig, check pgconn.ValidateConnectFunc) {
	before := c.ValidateConnect
	c.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := check(ctx, conn); err != nil || before == nil {
			return err
		}
		return before(ctx, conn)
	}
}

// checkEncoding refuses a database whose encoding lacks characters that names may have.
func checkEncoding(_ context.Context, conn *pgconn.PgConn) error {
	encoding := conn.ParameterStatus("server_encoding")
	if encoding == "UTF8" {
		return nil
	}
	return unusableError(fmt.Sprintf("the database's encoding is %s, which cannot hold every name: it must be UTF8, "+
		"such as by CREATE DATABASE agentevents TEMPLATE template0 ENCODING 'UTF8'", encoding))
}

// checkPrimary refuses a standby. Servers since version 14 report by themselves which one they are.
func checkPrimary(ctx context.Context, conn *pgconn.PgConn) error {
	switch conn.ParameterStatus("in_hot_standby") {
	case "off":
		return nil
	case "on":
		return pgconn.ErrStandbyConnection
	}
	return pgconn.ValidateConnectTargetSessionAttrsPrimary(ctx, conn)
}

// checkWritable returns nil if transactions may write.
func checkWritable(ctx context.Context, db *sql.DB) error {
	var mode string
	err := db.QueryRowContext(ctx, "SELECT current_setting('transaction_read_only')").Scan(&mode)
	if err == nil && mode == "on" {
		err = unusableError("the database takes no writes: its default_transaction_read_only is on, " +
			"for the server, the database or the role")
	}
	return err
}

func ping(ctx context.Context, db *sql.DB) error {
	if err := db.PingContext(ctx); err != nil {
		return unreachable(err)
	}
	return nil
}

// unreachable returns the reason why a server cannot be used. The driver's text may reveal the length of a password,
// but not the password.
func unreachable(err error) error {
	var answer *pgconn.PgError
	var unusable unusableError
	switch {
	case errors.As(err, &unusable):
		return unusable
	case errors.Is(err, pgconn.ErrReadWriteConnection), errors.Is(err, pgconn.ErrPrimaryConnection):
		return unusableError("target_session_attrs asks for a server that only reads, and the store writes: " +
			"leave it out, or use target_session_attrs=read-write")
	case errors.Is(err, pgconn.ErrStandbyConnection), errors.Is(err, pgconn.ErrReadOnlyConnection):
		return unusableError("the server only reads, since it is a standby or its default_transaction_read_only " +
			"is on: name the primary, or all servers as HOST:PORT,HOST:PORT with target_session_attrs=read-write")
	case errors.As(err, &answer):
		return fmt.Errorf("the database cannot be reached: %s", answer.Message)
	}
	return fmt.Errorf("the database cannot be reached: %w", err)
}
