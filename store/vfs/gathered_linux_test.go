package vfs_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// insert is a statement that adds so many rows, with values that may depend on their number i.
func insert(columns string, rows int, values string) string {
	return "INSERT INTO t (" + columns + ") WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " +
		strconv.Itoa(rows) + ") SELECT " + values + " FROM n"
}

// What is committed is there for others, however much it is, and also where nobody waits for the disk.
func TestGathered(t *testing.T) {
	for _, synchronous := range []string{"FULL", "NORMAL", "OFF"} {
		t.Run(synchronous, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "a.db")
			write, read := open(t, file), open(t, file)
			exec(t, write, "PRAGMA journal_mode = WAL")
			exec(t, write, "PRAGMA synchronous = "+synchronous)
			exec(t, write, "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
			want := 0
			for _, n := range []int{1, 10, 29, 30, 31, 200, 1, 5000, 1} {
				exec(t, write, insert("v", n, "zeroblob(3000)"))
				want += n
				if got := number(t, read, "SELECT count(*) FROM t WHERE v = zeroblob(3000)"); got != want {
					t.Fatalf("others see %d rows, want %d", got, want)
				}
			}
			sound(t, read)
		})
	}
}

// What a transaction has spilled and then undone is never written: others write to its place.
func TestGatheredAndUndone(t *testing.T) {
	for name, after := range map[string]func(*sql.DB){
		"reads":  func(a *sql.DB) { number(t, a, "SELECT count(*) FROM t") },
		"closes": func(a *sql.DB) { closeAll(t, a) },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "a.db")
			a, b := open(t, file), open(t, file)
			for _, s := range []string{
				"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA cache_size = 5", "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)",
				"PRAGMA wal_checkpoint(TRUNCATE)", "BEGIN IMMEDIATE",
			} {
				exec(t, a, s)
			}
			before := sizeOf(t, file+"-wal")
			for range 20 {
				exec(t, a, "INSERT INTO t (v) VALUES (randomblob(3000))")
			}
			if grown := sizeOf(t, file+"-wal") - before; grown > 32 { // its header
				t.Errorf("%d bytes were written already, and not gathered", grown)
			}
			exec(t, a, "ROLLBACK")
			exec(t, b, "PRAGMA synchronous = FULL")
			for range 20 {
				exec(t, b, "INSERT INTO t (v) VALUES (zeroblob(3000))")
			}
			after(a)
			c := open(t, file)
			sound(t, c)
			if n := number(t, c, "SELECT count(*) FROM t WHERE v = zeroblob(3000)"); n != 20 {
				t.Errorf("of 20 rows there are %d", n)
			}
			recovered(t, file, 20)
		})
	}
}

// recovered holds that who finds the files after a crash has so many rows.
func recovered(t *testing.T, file string, rows int) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy.db")
	for _, part := range []string{"", "-wal"} {
		content, err := os.ReadFile(file + part)
		if err == nil {
			err = os.WriteFile(copied+part, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	db := open(t, copied)
	sound(t, db)
	if n := number(t, db, "SELECT count(*) FROM t"); n != rows {
		t.Errorf("after a crash there are %d rows, want %d", n, rows)
	}
	closeAll(t, db)
}

func closeAll(t *testing.T, dbs ...*sql.DB) {
	t.Helper()
	for _, db := range dbs {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func sizeOf(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A transaction that writes pages again which it has spilled, undoes a part of itself and is committed is there after a
// crash.
func TestGatheredPagesAreWrittenAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.db")
	db := open(t, file)
	for _, s := range []string{
		"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA cache_size = 5", "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)",
		"BEGIN IMMEDIATE",
	} {
		exec(t, db, s)
	}
	for range 3 {
		exec(t, db, insert("v", 100, "zeroblob(3000)"))
		exec(t, db, "SAVEPOINT part")
		exec(t, db, "UPDATE t SET v = randomblob(3000)")
		exec(t, db, insert("v", 50, "randomblob(3000)"))
		exec(t, db, "ROLLBACK TO part")
		exec(t, db, "UPDATE t SET v = zeroblob(2999)")
	}
	exec(t, db, "COMMIT")
	recovered(t, file, 300)
	if n := number(t, db, "SELECT count(*) FROM t WHERE v = zeroblob(2999)"); n != 300 {
		t.Errorf("of 300 rows %d are as they were written", n)
	}
	closeAll(t, db)
}

// A transaction of which something could not be written is not committed, even if all that comes later can be.
func TestGatheredAndLost(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.db")
	db, read := open(t, file), open(t, file)
	for _, s := range []string{
		"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA cache_size = 5",
		"CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB NOT NULL)", "BEGIN IMMEDIATE", insert("v", 20, "zeroblob(3000)"),
	} {
		exec(t, db, s)
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	mend := breakWrites(t, file+"-wal", full)
	_, err = db.ExecContext(t.Context(), "UPDATE t SET v = zeroblob(2999)") // which reads what was spilled, and is undone alone
	if err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("of what could not be written is said: %v", err)
	}
	mend()
	if _, err := db.ExecContext(t.Context(), "COMMIT"); err == nil {
		t.Error("it is said to be committed")
	}
	if n := number(t, read, "SELECT count(*) FROM t"); n != 0 {
		t.Errorf("%d rows are left of it", n)
	}
	exec(t, db, "INSERT INTO t (v) VALUES (zeroblob(3000))")
	sound(t, read)
	recovered(t, file, 1)
	closeAll(t, db, read)
}

// A transaction that cannot be written to the log is refused and leaves nothing; the next that can be is taken.
func TestGatheredWithoutALog(t *testing.T) {
	for _, synchronous := range []string{"FULL", "NORMAL", "OFF"} {
		t.Run(synchronous, func(t *testing.T) { withoutALog(t, synchronous) })
	}
}

func withoutALog(t *testing.T, synchronous string) {
	file := filepath.Join(t.TempDir(), "a.db")
	write, read := open(t, file), open(t, file)
	for _, s := range []string{
		"PRAGMA journal_mode = WAL", "PRAGMA synchronous = " + synchronous, "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)",
	} {
		exec(t, write, s)
	}
	for round, rows := range []int{1, 100} {
		readOnly, err := os.Open(file + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		mend := breakWrites(t, file+"-wal", readOnly)
		statement := insert("v", rows, "zeroblob(3000)")
		if _, err := write.ExecContext(t.Context(), statement); err == nil {
			t.Errorf("%d rows are said to be written", rows)
		}
		mend()
		if got := number(t, read, "SELECT count(*) FROM t"); got != round {
			t.Errorf("there are %d rows, want %d", got, round)
		}
		exec(t, write, "INSERT INTO t (v) VALUES (1)")
	}
	sound(t, read)
}

// A statement that changes much and then fails is undone, in memory or not.
func TestGatheredStatementIsUndone(t *testing.T) {
	for _, rows := range []int{10, 1000, 5000} {
		file := filepath.Join(t.TempDir(), "a.db")
		db := open(t, file)
		for _, s := range []string{
			"PRAGMA journal_mode = WAL", "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB, u UNIQUE)",
			insert("v, u", rows, "zeroblob(3000), i"),
			"BEGIN", "UPDATE t SET u = -u",
		} {
			exec(t, db, s)
		}
		_, err := db.ExecContext(t.Context(), "UPDATE t SET v = 'x', u = CASE WHEN id = (SELECT max(id) FROM t) THEN -1 ELSE u END")
		if err == nil || !strings.Contains(err.Error(), "UNIQUE") {
			t.Errorf("%d rows: %v", rows, err)
		}
		exec(t, db, "COMMIT")
		if got := number(t, db, "SELECT count(*) FROM t WHERE v = zeroblob(3000) AND u = -id"); got != rows {
			t.Errorf("%d rows of %d are as they were", got, rows)
		}
		sound(t, db)
	}
}

func number(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func sound(t *testing.T, db *sql.DB) {
	t.Helper()
	var says string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&says); err != nil || says != "ok" {
		t.Error(says, err)
	}
}

// breakWrites has this process write to a file in vain until the function that it returns is called: where it writes to the
// file it writes to another one.
func breakWrites(t *testing.T, file string, other *os.File) (mend func()) {
	t.Helper()
	var errs []error
	kept := map[int]int{}
	for _, fd := range descriptors(t, file) {
		if fd != int(other.Fd()) {
			copied, err := syscall.Dup(fd)
			kept[fd], errs = copied, append(errs, err, syscall.Dup3(int(other.Fd()), fd, syscall.O_CLOEXEC))
		}
	}
	if err := errors.Join(errs...); err != nil || len(kept) == 0 {
		t.Fatal(len(kept), err)
	}
	return func() {
		errs := []error{other.Close()}
		for fd, copied := range kept {
			errs = append(errs, syscall.Dup3(copied, fd, syscall.O_CLOEXEC), syscall.Close(copied))
		}
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
}

// descriptors are those that this process has of a file.
func descriptors(t *testing.T, file string) (of []int) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range open {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && target == file {
			fd, err := strconv.Atoi(e.Name())
			if err != nil {
				t.Fatal(err)
			}
			of = append(of, fd)
		}
	}
	return of
}
