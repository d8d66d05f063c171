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

const numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %) "

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
				exec(t, write, "INSERT INTO t (v) "+strings.ReplaceAll(numbers, "%", strconv.Itoa(n))+"SELECT zeroblob(3000) FROM n")
				want += n
				if got := number(t, read, "SELECT count(*) FROM t WHERE v = zeroblob(3000)"); got != want {
					t.Fatalf("others see %d rows, want %d", got, want)
				}
			}
			sound(t, read)
		})
	}
}

// A transaction that cannot be written to the log is refused and leaves nothing; the next that can be is taken.
func TestGatheredWithoutALog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.db")
	write, read := open(t, file), open(t, file)
	for _, s := range []string{
		"PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)",
	} {
		exec(t, write, s)
	}
	for round, rows := range []int{1, 100} {
		mend := breakWrites(t, file+"-wal")
		insert := "INSERT INTO t (v) " + strings.ReplaceAll(numbers, "%", strconv.Itoa(rows)) + "SELECT zeroblob(3000) FROM n"
		if _, err := write.ExecContext(t.Context(), insert); err == nil {
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
			"INSERT INTO t (v, u) " + strings.ReplaceAll(numbers, "%", strconv.Itoa(rows)) + "SELECT zeroblob(3000), i FROM n",
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

// breakWrites has this process write to a file in vain until the function that it returns is called.
func breakWrites(t *testing.T, file string) (mend func()) {
	t.Helper()
	reading, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	kept := map[int]int{}
	for _, fd := range descriptors(t, file) {
		if fd != int(reading.Fd()) {
			copied, err := syscall.Dup(fd)
			kept[fd], errs = copied, append(errs, err, syscall.Dup3(int(reading.Fd()), fd, syscall.O_CLOEXEC))
		}
	}
	if err := errors.Join(errs...); err != nil || len(kept) == 0 {
		t.Fatal(len(kept), err)
	}
	return func() {
		errs := []error{reading.Close()}
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
