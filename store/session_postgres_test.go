package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/pgtest"
)

// ownCluster starts a server for one test, which restarts it or creates databases with other encodings.
func ownCluster(t *testing.T, o pgtest.Options) *pgtest.Cluster {
	t.Helper()
	pgtest.SQLiteOnly(t, "it starts its own server")
	return pgtest.ForTest(t, o)
}

// A primary accepts each value that permits a server that writes. The error for the other values names a permitted one.
func TestTargetSessionAttrsMustPermitAPrimary(t *testing.T) {
	c := ownCluster(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	for _, v := range []string{"any", "read-write", "primary", "prefer-standby"} {
		t.Run(v, func(t *testing.T) {
			newSessionStore(t, c, "&target_session_attrs="+v).wantWorks()
		})
		t.Run(v+" by the variable", func(t *testing.T) {
			t.Setenv("PGTARGETSESSIONATTRS", v)
			newSessionStore(t, c, "").wantWorks()
		})
	}
	for _, v := range []string{"read-only", "standby"} {
		t.Run(v, func(t *testing.T) {
			wantNoStart(t, c.URL("postgres")+"&target_session_attrs="+v, "target_session_attrs=read-write")
		})
	}
}

// A standby alone is refused. With several hosts in the URL, the primary is found, in any order and with any value.
// Verify accepts a standby.
func TestStandbyIsOnlyForVerify(t *testing.T) {
	dir := clusterDir(t)
	standby := ownCluster(t, pgtest.Options{Dir: dir, Settings: map[string]string{"fsync": "off"}})
	primary := pgtest.ForTest(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	values := []string{"any", "read-write", "primary", "prefer-standby"}
	for _, v := range values {
		createDatabase(t, standby, named(v))
		createDatabase(t, primary, named(v))
		check(t, prepare(t.Context(), standby.URL(named(v)))) // verify may read it
	}
	copied := standby.URL(named("any"))
	check(t, standby.Halt(os.Interrupt))
	check(t, os.WriteFile(filepath.Join(dir, "data", "standby.signal"), nil, 0o644))
	check(t, standby.Launch(t.Context()))
	for _, v := range append(values, "read-only", "standby") {
		wantNoStart(t, copied+"&target_session_attrs="+v, "name the primary")
	}
	for _, v := range []string{"any", "standby", "read-only"} {
		verifyRuns(t, copied+"&target_session_attrs="+v)
	}
	for _, v := range values {
		both := regexp.MustCompile("@[^/]*").FindString(copied) + ","
		g := sessionStore{&fixture{t: t, ctx: t.Context()}}
		g.url = strings.Replace(primary.URL(named(v)), "@", both, 1) + "&target_session_attrs=" + v
		g.open()
		g.wantWorks()
	}
}

func named(value string) string { return "for_" + strings.ReplaceAll(value, "-", "_") }

// createDatabase creates a database with a name.
func createDatabase(t *testing.T, c *pgtest.Cluster, name string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.URL("postgres"))
	check(t, err)
	_, err = conn.Exec(t.Context(), "CREATE DATABASE "+name)
	check(t, errors.Join(err, conn.Close(t.Context())))
}

// An administrator suspends writes.
func TestReadOnlyDatabaseIsRefused(t *testing.T) {
	c := ownCluster(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	g := newSessionStore(t, c, "")
	check(t, g.Close())
	g.alter("default_transaction_read_only = on")
	wantNoStart(t, g.url, "default_transaction_read_only")
	verifyRuns(t, g.url)
	g.alter("default_transaction_read_only = off")
	g.open()
	g.wantWorks()
}

// A database whose encoding cannot hold every name is refused at the start. The client encoding of a role or a URL does
// not matter.
func TestDatabaseMustBeInUTF8(t *testing.T) {
	c := ownCluster(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	conn, err := pgx.Connect(t.Context(), c.URL("postgres"))
	check(t, err)
	defer conn.Close(context.Background())
	for _, encoding := range []string{"EUC_JP", "SQL_ASCII", "LATIN1"} {
		name := "in_" + strings.ToLower(encoding)
		_, err = conn.Exec(t.Context(),
			"CREATE DATABASE "+name+" TEMPLATE template0 ENCODING '"+encoding+"' LC_COLLATE 'C' LC_CTYPE 'C'")
		check(t, err)
		wantNoStart(t, c.URL(name), "the database's encoding is "+encoding+", which cannot hold every name",
			"ENCODING 'UTF8'")
		err = store.Verify(t.Context(), store.Options{URL: c.URL(name)}, func(store.Check) {})
		wantErrorText(t, err, "ENCODING 'UTF8'")
	}
	for _, encoding := range []string{"WIN1251", "LATIN1", "EUC_JP", "SQL_ASCII"} {
		role := "role_" + strings.ToLower(encoding)
		_, err := conn.Exec(t.Context(),
			"CREATE ROLE "+role+" LOGIN SUPERUSER; ALTER ROLE "+role+" SET client_encoding = '"+encoding+"'")
		check(t, err)
		newSessionStore(t, c, "").reopened("client_encoding = '" + encoding + "'").wantWorks()
		newSessionStore(t, c, "&client_encoding="+encoding).wantWorks()
		g := newSessionStore(t, c, "")
		g.url = strings.Replace(g.url, "postgres@", role+"@", 1)
		g.reopened().wantWorks()
	}
}

// hostile are settings that an administrator may have made for other programs. None may change the store's behaviour.
var hostile = []string{
	"standard_conforming_strings = off", "backslash_quote = on", "DateStyle = 'SQL, DMY'",
	"IntervalStyle = sql_standard",
	"TimeZone = 'Asia/Kathmandu'", "bytea_output = escape", "extra_float_digits = -15", "row_security = off",
	"jit = on",
	"default_transaction_isolation = serializable", "default_transaction_deferrable = on", "synchronous_commit = off",
	"statement_timeout = 1", "lock_timeout = 1", "idle_in_transaction_session_timeout = 1",
	"idle_session_timeout = 60000",
	"transform_null_equals = on", "array_nulls = off", "search_path = elsewhere",
}

// All hostile settings exist before the schema.
func TestHostileSettingsDoNotMatter(t *testing.T) {
	c := ownCluster(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	address, err := c.Create(t.Context())
	check(t, err)
	g := sessionStore{&fixture{t: t, ctx: t.Context(), url: address}}
	g.alter(hostile...)
	conn, err := pgx.Connect(g.ctx,
		g.url+"&statement_timeout=0&lock_timeout=0&default_transaction_isolation=read%20committed")
	check(t, err)
	_, err = conn.Exec(g.ctx, "CREATE SCHEMA elsewhere")
	check(t, errors.Join(err, conn.Close(g.ctx)))
	g.open()
	g.wantWorks()
	for setting, want := range map[string]string{
		"client_encoding": "UTF8", "synchronous_commit": "on", "default_transaction_isolation": "read committed",
		"idle_session_timeout": "0", "standard_conforming_strings": "on",
	} {
		g.wantSetting(setting, want)
	}
}

// A setting in the URL has precedence, and a stronger setting stays.
func TestURLSetsSynchronousCommit(t *testing.T) {
	c := ownCluster(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	newSessionStore(t, c, "&synchronous_commit=off").wantSetting("synchronous_commit", "off")
	stronger := newSessionStore(t, c, "").reopened("synchronous_commit = remote_apply")
	stronger.wantSetting("synchronous_commit", "remote_apply")
}

// sessionStore is a store on a database of its own, with the server's clock.
type sessionStore struct{ *fixture }

// newSessionStore opens a store on a new database of a server, with further parameters in its URL.
func newSessionStore(t *testing.T, c *pgtest.Cluster, settings string) sessionStore {
	t.Helper()
	address, err := c.Create(context.Background())
	check(t, err)
	g := sessionStore{&fixture{t: t, ctx: context.Background(), url: address + settings}}
	g.open()
	return g
}

func (g sessionStore) open() {
	g.t.Helper()
	s, err := store.Open(g.ctx, store.Options{URL: g.url})
	g.check(err)
	g.t.Cleanup(func() { _ = s.Close() })
	g.Store = s
}

// reopened changes the settings of new sessions of the database, and opens it again.
func (g sessionStore) reopened(settings ...string) sessionStore {
	g.t.Helper()
	g.check(g.Close())
	g.alter(settings...)
	g.open()
	return g
}

// alter changes the settings of new sessions of the database.
func (g sessionStore) alter(settings ...string) {
	g.t.Helper()
	config, err := pgx.ParseConfig(g.url)
	g.check(err)
	maps.Copy(config.RuntimeParams, map[string]string{
		"client_encoding": "UTF8", "default_transaction_read_only": "off", "statement_timeout": "0",
	})
	conn, err := pgx.ConnectConfig(g.ctx, config)
	g.check(err)
	defer conn.Close(g.ctx)
	for _, s := range settings {
		_, err = conn.Exec(g.ctx, "ALTER DATABASE "+config.Database+" SET "+s)
		g.check(err)
	}
}

// wantSetting compares a setting of the sessions that write.
func (g sessionStore) wantSetting(name, want string) {
	g.t.Helper()
	var got string
	g.check(g.Write(g.ctx, func(tx *sqldb.Tx) (err error) {
		got, err = sqldb.Value[string](tx, "SELECT current_setting(?)", name)
		return err
	}))
	if got != want {
		g.t.Errorf("%s is %q, want %q", name, got, want)
	}
}

// wantWorks logs in an agent whose name has several scripts, reads it and delivers its event.
func (g sessionStore) wantWorks() {
	g.t.Helper()
	name := "Иванов 山田 é€𝄞 \\'"
	k := g.agent()
	_, _, err := g.PutAgent(g.ctx, k, store.AgentUpdate{Name: &name})
	g.check(err)
	g.createEvents(k, "http://receiver.example/?a=\\'", gen.EventTypeAgentLogin)
	g.login(k)
	if d := g.claimOne(); d.Data.ExtensionName != name {
		g.t.Errorf("the delivery says %+v, want the name %q", d.Data, name)
	} else {
		g.finish(d)
	}
	if a, err := g.Agent(g.ctx, k); err != nil || a.Name != name {
		g.t.Errorf("the agent's name is %q, want %q (%v)", a.Name, name, err)
	}
	g.check(store.Verify(g.ctx, store.Options{URL: g.url}, func(c store.Check) {
		if c.Count > 0 {
			g.t.Errorf("%s: %q", c.Name, c.Violations)
		}
	}))
}

func wantNoStart(t *testing.T, address string, texts ...string) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: address})
	if err == nil {
		check(t, s.Close())
		t.Fatalf("a store is opened at %s", address)
	}
	wantErrorText(t, err, texts...)
}

func wantErrorText(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("error %q, want one with %q", err, text)
		}
	}
}

// verifyRuns runs all checks and ignores the faults.
func verifyRuns(t *testing.T, address string) {
	t.Helper()
	check(t, store.Verify(t.Context(), store.Options{URL: address}, func(store.Check) {}))
}

// clusterDir returns a directory that the server may enter if root runs the tests.
func clusterDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		check(t, os.Chmod(d, 0o755))
	}
	return dir
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
