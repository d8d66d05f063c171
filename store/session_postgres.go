package store

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A session begins with settings that an administrator may have given the server, the database or the role, for other
// programs too. What a promise depends on is set here. Settings of the URL are meant for this program, and have
// precedence.

// always is what no URL changes: all text is UTF-8, and a backslash in a statement is a backslash.
var always = map[string]string{"client_encoding": "UTF8", "standard_conforming_strings": "on"}

// unlessGiven returns what the URL may change. The store is made for transactions that see what others have committed
// before each statement: with a stricter isolation, changes of one agent would fail instead of waiting for each other.
func unlessGiven() map[string]string {
	return map[string]string{
		"application_name": "agentevents", "default_transaction_isolation": "read committed", "statement_timeout": "0",
		"lock_timeout": milliseconds(pgLock), "idle_in_transaction_session_timeout": milliseconds(pgIdle),
	}
}

// afterConnect are settings that older servers do not know, and one that is only ever made stronger: with
// synchronous_commit off, the server says that a change is committed before it is on disk.
var afterConnect = map[string]string{
	"idle_session_timeout": "SELECT set_config('idle_session_timeout', '0', false) WHERE current_setting('idle_session_timeout', true) <> '0'; ",
	"transaction_timeout":  "SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('transaction_timeout', true) <> '0'; ",
	"synchronous_commit":   "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; ",
}

// readOnly is what sessions of readers begin with, after target_session_attrs has found a server that writes.
const readOnly = "SET default_transaction_read_only = on; "

// begins has the sessions of connections begin with settings; those of the URL are in it already.
func begins(c *pgx.ConnConfig, settings map[string]string, then string) {
	all := unlessGiven()
	maps.Copy(all, settings)
	maps.Copy(all, c.RuntimeParams)
	maps.Copy(all, always)
	for name, statement := range afterConnect {
		if _, given := all[name]; !given {
			then += statement
		}
	}
	c.RuntimeParams = all
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		return conn.Exec(ctx, then).Close()
	}
}

// unfit says why a database cannot be used although it is reached.
type unfit string

func (u unfit) Error() string { return string(u) }

// fits has connections accept a server only if all checks do, the one of target_session_attrs before the others. The
// next host of the URL is tried if there is one.
func fits(c *pgx.ConnConfig, checks ...pgconn.ValidateConnectFunc) {
	asked := c.ValidateConnect
	c.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		for _, check := range checks {
			if err := check(ctx, conn); err != nil {
				return err
			}
		}
		if asked == nil {
			return nil
		}
		return asked(ctx, conn)
	}
}

// holdsAll refuses a database whose encoding lacks characters that names may have.
func holdsAll(_ context.Context, conn *pgconn.PgConn) error {
	encoding := conn.ParameterStatus("server_encoding")
	if encoding == "UTF8" {
		return nil
	}
	return unfit(fmt.Sprintf("the database's encoding is %s, which cannot hold every name: make a database with the encoding UTF8, "+
		"such as by CREATE DATABASE agentevents TEMPLATE template0 ENCODING 'UTF8'", encoding))
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

// writable returns nil if transactions on a database may write.
func writable(q sqldb.Querier) error {
	mode, _, err := sqldb.Get[string](q, "SELECT current_setting('transaction_read_only')")
	if err == nil && mode == "on" {
		err = unfit("the database takes no writes: its default_transaction_read_only is on, for the server, the database or the role")
	}
	return err
}

// unreachable says why a server cannot be used; what the driver says may hold the password's length, but not it.
func unreachable(err error) error {
	var refused *pgconn.PgError
	var why unfit
	switch {
	case errors.As(err, &why):
		return why
	case errors.Is(err, pgconn.ErrReadWriteConnection), errors.Is(err, pgconn.ErrPrimaryConnection):
		return unfit("target_session_attrs asks for a server that only reads, and the store writes: " +
			"leave it out, or use target_session_attrs=read-write")
	case errors.Is(err, pgconn.ErrStandbyConnection), errors.Is(err, pgconn.ErrReadOnlyConnection):
		return unfit("the server only reads, since it is a standby or its default_transaction_read_only is on: " +
			"name the primary, or all servers as HOST:PORT,HOST:PORT with target_session_attrs=read-write")
	case errors.As(err, &refused):
		return fmt.Errorf("the database cannot be reached: %s", refused.Message)
	}
	return fmt.Errorf("the database cannot be reached: %w", err)
}
