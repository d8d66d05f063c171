package pgtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentevents/agentevents/store/pgtest"
)

// parent makes this program the parent of a cluster, whose URL and process id it prints.
const parent = "parent of a cluster"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == parent {
		beParent()
	}
	os.Exit(pgtest.Main(m, pgtest.Suite{Run: "^TestDatabase", Prepare: prepare}))
}

func beParent() {
	c, err := pgtest.Start(context.Background(), pgtest.Options{Settings: fast()})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.URL("postgres"), c.PID())
	select {}
}

func prepare(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE TABLE prepared (id integer)")
	return err
}

func fast() map[string]string {
	return map[string]string{"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
}

// openDir returns a directory that all users may enter, including the one that runs the server if root runs the tests.
func openDir(t *testing.T) string {
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

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	check(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec1(t *testing.T, url, statement string) {
	t.Helper()
	_, err := connect(t, url).Exec(t.Context(), statement)
	check(t, err)
}

func show(t *testing.T, url, setting string) (value string) {
	t.Helper()
	check(t, connect(t, url).QueryRow(t.Context(), "SHOW "+setting).Scan(&value))
	return value
}

func count(t *testing.T, url, table string) (n int) {
	t.Helper()
	check(t, connect(t, url).QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// The text of its databases is UTF-8 in the order of bytes.
func TestClusterIsDurableByDefault(t *testing.T) {
	c := pgtest.ForTest(t, pgtest.Options{Settings: map[string]string{"max_connections": "17"}})
	for setting, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "max_connections": "17",
		"server_encoding": "UTF8", "lc_collate": "C", "listen_addresses": "127.0.0.1",
	} {
		if got := show(t, c.URL("postgres"), setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
}

// A clean restart and a crash keep the port, and end all connections.
func TestCommitsSurviveRestartAndCrash(t *testing.T) {
	c := pgtest.ForTest(t, pgtest.Options{})
	url, err := c.Create(t.Context())
	check(t, err)
	exec1(t, url, "CREATE TABLE kept (id integer)")
	for i, again := range []func(context.Context) error{c.Restart, c.Crash} {
		exec1(t, url, "INSERT INTO kept VALUES (1)")
		conn, pid := connect(t, url), c.PID()
		check(t, again(t.Context()))
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("a connection outlived the server")
		}
		if c.PID() == pid {
			t.Error("the server was not restarted")
		}
		if n := count(t, url, "kept"); n != i+1 {
			t.Errorf("%d rows are left of %d", n, i+1)
		}
	}
}

func TestHaltedServerIsDownUntilLaunch(t *testing.T) {
	var log strings.Builder
	c := pgtest.ForTest(t, pgtest.Options{Settings: fast(), Log: &log})
	check(t, c.Halt(os.Interrupt))
	check(t, c.Halt(os.Interrupt))
	if err := c.Ping(t.Context()); err == nil || c.PID() != 0 {
		t.Errorf("the server answers although it is down, process %d", c.PID())
	}
	if err := c.Signal(syscall.SIGHUP); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal: %v", err)
	}
	if !strings.Contains(log.String(), "received fast shutdown request") {
		t.Errorf("the log says %s", log.String())
	}
	check(t, c.Launch(t.Context()))
	check(t, c.Ping(t.Context()))
	if err := c.Launch(t.Context()); err == nil {
		t.Error("a second launch succeeded")
	}
}

func TestFailedStartReturnsTheServersError(t *testing.T) {
	_, err := pgtest.Start(t.Context(), pgtest.Options{Settings: map[string]string{"max_connections": "many"}})
	if errors.Is(err, pgtest.ErrNone) {
		t.Skip(err)
	}
	if err == nil || !strings.Contains(err.Error(), "max_connections") {
		t.Errorf("error %v", err)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	tmp := openDir(t)
	t.Setenv("TMPDIR", tmp)
	c := pgtest.ForTest(t, pgtest.Options{Settings: fast()})
	conn := connect(t, c.URL("postgres"))
	check(t, c.Stop())
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the server runs")
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestStopKeepsAGivenDirectory(t *testing.T) {
	dir := openDir(t)
	c := pgtest.ForTest(t, pgtest.Options{Dir: dir, Settings: fast()})
	check(t, c.Stop())
	if _, err := os.Stat(dir + "/data/PG_VERSION"); err != nil {
		t.Error(err)
	}
}

func TestServerEndsWithItsParent(t *testing.T) {
	pgtest.ForTest(t, pgtest.Options{Settings: fast()}) // skips the test without PostgreSQL
	t.Setenv("TMPDIR", openDir(t))                      // the killed process leaves its files there
	cmd := exec.Command(os.Args[0], parent)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	check(t, err)
	url, pid, _ := strings.Cut(strings.TrimSpace(line), " ")
	conn := connect(t, url)
	check(t, cmd.Process.Kill())
	_ = cmd.Wait()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := conn.WaitForNotification(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the server runs: %v", err)
		n, _ := strconv.Atoi(pid)
		_ = syscall.Kill(n, syscall.SIGKILL)
	}
}

// Databases can be created and copied at the same time.
func TestCopiesAreIndependent(t *testing.T) {
	c := pgtest.ForTest(t, pgtest.Options{Settings: fast()})
	template, err := c.Create(t.Context())
	check(t, err)
	check(t, prepare(t.Context(), template))
	urls := make([]string, 8)
	var wg sync.WaitGroup
	for i := range urls {
		wg.Go(func() {
			url, err := c.Copy(t.Context(), template)
			if err != nil {
				t.Error(err)
				return
			}
			urls[i] = url
		})
	}
	wg.Wait()
	for _, url := range urls {
		exec1(t, url, "INSERT INTO prepared VALUES (1)")
		if n := count(t, url, "prepared"); n != 1 {
			t.Errorf("%d rows", n)
		}
		check(t, c.Drop(t.Context(), url))
		check(t, c.Drop(t.Context(), url))
	}
	if n := count(t, template, "prepared"); n != 0 {
		t.Errorf("%d rows in the template", n)
	}
}

// A test's database is a copy of the template, or empty. On SQLite there is none.
func TestDatabaseIsTheTestsOwn(t *testing.T) {
	pgtest.PostgresOnly(t, "only a server has databases")
	for range 2 {
		url := pgtest.Database(t)
		if n := count(t, url, "prepared"); n != 0 {
			t.Errorf("%d rows", n)
		}
		exec1(t, url, "INSERT INTO prepared VALUES (1)")
	}
	exec1(t, pgtest.Empty(t), "CREATE TABLE prepared (id integer)")
}
