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

// ownCluster is a server of a test alone, which restarts it or makes databases of other encodings.
func ownCluster(t *testing.T, o pgtest.Options) *pgtest.Cluster {
	t.Helper()
	if pgtest.OnPostgres() {
		t.Skip("it has a server of its own, and ran on it already")
	}
	return pgtest.ForTest(t, o)
}

// TestTargetSessionAttrs opens a store with every value that PostgreSQL knows, on a primary. What names a server that
// writes is served; what names one that only reads is refused with a message that says what to ask for.
func TestTargetSessionAttrs(t *testing.T) {
	c := ownCluster(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	for _, v := range []string{"any", "read-write", "primary", "prefer-standby"} {
		t.Run(v, func(t *testing.T) {
			newGuest(t, c, "&target_session_attrs="+v).works()
		})
		t.Run(v+" by the variable", func(t *testing.T) {
			t.Setenv("PGTARGETSESSIONATTRS", v)
			newGuest(t, c, "").works()
		})
	}
	for _, v := range []string{"read-only", "standby"} {
		t.Run(v, func(t *testing.T) {
			wantNoStart(t, c.URL("postgres")+"&target_session_attrs="+v, "target_session_attrs=read-write")
		})
	}
}

// TestStandby has a standby beside the primary: alone it is refused in words, and with several hosts in the URL the
// primary is found, whatever the order and the value. Verify works on a standby.
func TestStandby(t *testing.T) {
	dir := clusterDir(t)
	standby := ownCluster(t, pgtest.Options{Dir: dir, Settings: map[string]string{"fsync": "off"}})
	primary := pgtest.ForTest(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	values := []string{"any", "read-write", "primary", "prefer-standby"}
	for _, v := range values {
		make1(t, standby, named(v))
		make1(t, primary, named(v))
		check(t, prepare(t.Context(), standby.URL(named(v)))) // verify may go there
	}
	copied := standby.URL(named("any"))
	check(t, standby.Halt(os.Interrupt))
	check(t, os.WriteFile(filepath.Join(dir, "data", "standby.signal"), nil, 0o644))
	check(t, standby.Launch(t.Context()))
	for _, v := range append(values, "read-only", "standby") {
		wantNoStart(t, copied+"&target_session_attrs="+v, "name the primary")
	}
	for _, v := range []string{"any", "standby", "read-only"} {
		verifies(t, copied+"&target_session_attrs="+v)
	}
	for _, v := range values {
		both := regexp.MustCompile("@[^/]*").FindString(copied) + ","
		g := guest{&fixture{t: t, ctx: t.Context()}}
		g.url = strings.Replace(primary.URL(named(v)), "@", both, 1) + "&target_session_attrs=" + v
		g.open()
		g.works()
	}
}

func named(value string) string { return "for_" + strings.ReplaceAll(value, "-", "_") }

// make1 makes a database of a name.
func make1(t *testing.T, c *pgtest.Cluster, name string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.URL("postgres"))
	check(t, err)
	_, err = conn.Exec(t.Context(), "CREATE DATABASE "+name)
	check(t, errors.Join(err, conn.Close(t.Context())))
}

// TestReadOnlyDatabase has an administrator suspend writes.
func TestReadOnlyDatabase(t *testing.T) {
	c := ownCluster(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	g := newGuest(t, c, "")
	check(t, g.Close())
	g.alter("default_transaction_read_only = on")
	wantNoStart(t, g.url, "default_transaction_read_only")
	verifies(t, g.url)
	g.alter("default_transaction_read_only = off")
	g.open()
	g.works()
}

// TestEncoding has servers, databases and roles be of other encodings than UTF-8. A database that cannot hold every
// name is refused at the start; what a session of others would be of does not matter.
func TestEncoding(t *testing.T) {
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
		wantSays(t, store.Verify(t.Context(), store.Options{URL: c.URL(name)}, func(store.Check) {}), "ENCODING 'UTF8'")
	}
	for _, encoding := range []string{"WIN1251", "LATIN1", "EUC_JP", "SQL_ASCII"} {
		role := "role_" + strings.ToLower(encoding)
		_, err := conn.Exec(t.Context(),
			"CREATE ROLE "+role+" LOGIN SUPERUSER; ALTER ROLE "+role+" SET client_encoding = '"+encoding+"'")
		check(t, err)
		newGuest(t, c, "").reopened("client_encoding = '" + encoding + "'").works()
		newGuest(t, c, "&client_encoding="+encoding).works()
		g := newGuest(t, c, "")
		g.url = strings.Replace(g.url, "postgres@", role+"@", 1)
		g.reopened().works()
	}
}

// hostile are settings that an administrator may have given a database for other programs. None may change what this
// one does.
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

// TestSettingsOfTheDatabase has all of them at once, before the schema is there.
func TestSettingsOfTheDatabase(t *testing.T) {
	c := ownCluster(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	address, err := c.Create(t.Context())
	check(t, err)
	g := guest{&fixture{t: t, ctx: t.Context(), url: address}}
	g.alter(hostile...)
	conn, err := pgx.Connect(g.ctx,
		g.url+"&statement_timeout=0&lock_timeout=0&default_transaction_isolation=read%20committed")
	check(t, err)
	_, err = conn.Exec(g.ctx, "CREATE SCHEMA elsewhere")
	check(t, errors.Join(err, conn.Close(g.ctx)))
	g.open()
	g.works()
	for setting, want := range map[string]string{
		"client_encoding": "UTF8", "synchronous_commit": "on", "default_transaction_isolation": "read committed",
		"idle_session_timeout": "0", "standard_conforming_strings": "on",
	} {
		g.wantSetting(setting, want)
	}
}

// TestDurabilityByURL: what is asked of this program itself goes before, and a stronger one stays.
func TestDurabilityByURL(t *testing.T) {
	c := ownCluster(t, pgtest.Options{Settings: map[string]string{"fsync": "off"}})
	newGuest(t, c, "&synchronous_commit=off").wantSetting("synchronous_commit", "off")
	newGuest(t, c, "").reopened("synchronous_commit = remote_apply").wantSetting("synchronous_commit", "remote_apply")
}

// guest is a store in a database of its own, whose clock is the server's.
type guest struct{ *fixture }

// newGuest opens a store in a new database of a server, with further settings in its URL.
func newGuest(t *testing.T, c *pgtest.Cluster, settings string) guest {
	t.Helper()
	address, err := c.Create(context.Background())
	check(t, err)
	g := guest{&fixture{t: t, ctx: context.Background(), url: address + settings}}
	g.open()
	return g
}

func (g guest) open() {
	g.t.Helper()
	s, err := store.Open(g.ctx, store.Options{URL: g.url})
	g.check(err)
	g.t.Cleanup(func() { _ = s.Close() })
	g.Store = s
}

// reopened is the database after it was given settings that every new session begins with.
func (g guest) reopened(settings ...string) guest {
	g.t.Helper()
	g.check(g.Close())
	g.alter(settings...)
	g.open()
	return g
}

// alter gives the database settings that every new session begins with.
func (g guest) alter(settings ...string) {
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
func (g guest) wantSetting(name, want string) {
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

// works has an agent with a name of several scripts log in, be read again and have its event delivered.
func (g guest) works() {
	g.t.Helper()
	name := "Иванов 山田 é€𝄞 \\'"
	k := g.agent()
	_, _, err := g.PutAgent(g.ctx, k, store.AgentUpdate{Name: &name})
	g.check(err)
	g.register(k, "http://receiver.example/?a=\\'", gen.EventTypeAgentLogin)
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
			g.t.Errorf("%s: %q", c.Name, c.Faults)
		}
	}))
}

func wantNoStart(t *testing.T, address string, says ...string) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: address})
	if err == nil {
		check(t, s.Close())
		t.Fatalf("a store is opened at %s", address)
	}
	wantSays(t, err, says...)
}

func wantSays(t *testing.T, err error, says ...string) {
	t.Helper()
	for _, words := range says {
		if !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("error %q, want one with %q", err, words)
		}
	}
}

// verifies runs all checks and ignores what they find.
func verifies(t *testing.T, address string) {
	t.Helper()
	check(t, store.Verify(t.Context(), store.Options{URL: address}, func(store.Check) {}))
}

// clusterDir is a directory that the server may enter, also where root runs the tests.
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
