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

// A session begins with settings that an administrator may have given the server, the database or the role, for other
// programs too. What a promise depends on is set here. Settings of the URL are meant for this program, and have
// precedence.

const (
	statementSetting = "statement_timeout"
	idleSetting      = "idle_in_transaction_session_timeout"
)

// fixedSettings are what no URL changes: all text is UTF-8, and a backslash in a statement is a backslash.
var fixedSettings = map[string]string{"client_encoding": "UTF8", "standard_conforming_strings": "on"}

// defaultSettings are what the URL may change. The store is made for transactions that see what others have committed
// before each statement: with a stricter isolation, changes of one agent would fail instead of waiting for each other.
var defaultSettings = map[string]string{
	"application_name": "agentevents", "default_transaction_isolation": "read committed", statementSetting: "0",
	"lock_timeout": milliseconds(lockTimeout), idleSetting: milliseconds(idleTimeout),
}

// laterSettings are statements for settings that older servers do not know, and for one that is only ever made
// stronger: with synchronous_commit off, the server says that a change is committed before it is on disk.
var laterSettings = map[string]string{
	"idle_session_timeout": "SELECT set_config('idle_session_timeout', '0', false) " +
		"WHERE current_setting('idle_session_timeout', true) <> '0'; ",
	"transaction_timeout": "SELECT set_config('transaction_timeout', '0', false) " +
		"WHERE current_setting('transaction_timeout', true) <> '0'; ",
	"synchronous_commit": "SELECT set_config('synchronous_commit', 'on', false) " +
		"WHERE current_setting('synchronous_commit') = 'off'; ",
}

// readOnlySQL is what sessions of readers begin with, after target_session_attrs has found a server that writes.
const readOnlySQL = "SET default_transaction_read_only = on; "

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// prepareSessions has sessions begin with settings, among them those of the URL, and then with statements.
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

// unusableError says why a database cannot be used although it is reached.
type unusableError string

func (e unusableError) Error() string { return string(e) }

// addCheck has connections accept a server only if a check does, before those of target_session_attrs and those that
// were added earlier. The next host of the URL is tried if there is one.
func addCheck(c *pgx.ConnConfig, check pgconn.ValidateConnectFunc) {
	before := c.ValidateConnect
	c.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if err := check(ctx, conn); err != nil || before == nil {
			return err
		}
		return before(ctx, conn)
	}
}

// encodesAll refuses a database whose encoding lacks characters that names may have.
func encodesAll(_ context.Context, conn *pgconn.PgConn) error {
	encoding := conn.ParameterStatus("server_encoding")
	if encoding == "UTF8" {
		return nil
	}
	return unusableError(fmt.Sprintf("the database's encoding is %s, which cannot hold every name: make a database "+
		"with the encoding UTF8, such as by CREATE DATABASE agentevents TEMPLATE template0 ENCODING 'UTF8'", encoding))
}

// isPrimary refuses a standby. Servers since version 14 say by themselves what they are.
func isPrimary(ctx context.Context, conn *pgconn.PgConn) error {
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

// unreachable says why a server cannot be used; what the driver says may hold the password's length, but not it.
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
