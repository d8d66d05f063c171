package vfs_test

import (
	"bufio"
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/store/vfs"
)

// A file that is large enough is read through memory, as it grows, shrinks and grows again beside who reads, and is not
// mapped any more when nobody has it open. A small one is read as ever.
func TestMapped(t *testing.T) {
	vfs.MapFrom(1 << 20)
	defer vfs.MapFrom(vfs.Least)
	file := filepath.Join(t.TempDir(), "a.db")
	write, read := open(t, file), open(t, file)
	for _, s := range []string{
		"PRAGMA auto_vacuum = incremental", "PRAGMA journal_mode = WAL", "CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)",
	} {
		exec(t, write, s)
	}
	sum := func(want int) {
		t.Helper()
		var n, length int
		if err := read.QueryRowContext(t.Context(), "SELECT count(*), coalesce(sum(length(v)), 0) FROM t WHERE v <> 'x'").Scan(&n, &length); err != nil {
			t.Fatal(err)
		}
		if n != want || length != want*1000 {
			t.Errorf("%d rows of %d bytes, want %d", n, length, want)
		}
	}
	for i, n := range []int{100, 5000, 10, 20_000, 0, 3000} {
		exec(t, write, "DELETE FROM t")
		exec(t, write, "INSERT INTO t (v) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "+strconv.Itoa(max(n, 1))+
			") SELECT randomblob(1000) FROM n WHERE "+strconv.Itoa(n)+" > 0")
		sum(n)
		exec(t, write, "PRAGMA incremental_vacuum")
		exec(t, write, "PRAGMA wal_checkpoint(TRUNCATE)")
		exec(t, write, "INSERT INTO t (v) VALUES ('x')")
		sum(n)
		if resident := residentOf(t, file); (resident > 0) != (i > 0) {
			t.Errorf("of a file with %d rows %d KiB are in memory", n, resident)
		}
	}
	for _, db := range []*sql.DB{read, write} {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if resident := residentOf(t, file); resident >= 0 {
		t.Errorf("it is still mapped, with %d KiB in memory", resident)
	}
}

func open(t *testing.T, file string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+file+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer rows.Close()
	for rows.Next() {
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// residentOf is how much of a file's mapping is in memory, in KiB; -1 when it is not mapped.
func residentOf(t *testing.T, file string) int {
	t.Helper()
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	lines, its := bufio.NewScanner(maps), false
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if strings.HasSuffix(lines.Text(), file) {
			its = true
		} else if its && words[0] == "Rss:" {
			kib, err := strconv.Atoi(words[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	return -1
}
