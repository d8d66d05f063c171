package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm/logger"
)

// testFile is an open file, with its log and its time.
type testFile struct {
	*DB
	t     *testing.T
	log   logBuffer
	ahead atomic.Int64 // nanoseconds that its time has been moved by
	close sync.Once
}

// logBuffer is a log that several goroutines write.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// openTestFile opens a file in a directory of the test.
func openTestFile(t *testing.T) *testFile {
	t.Helper()
	return openTestFileAt(t, filepath.Join(t.TempDir(), "agentevents.db"))
}

// openTestFileAt opens a file until the test ends.
func openTestFileAt(t *testing.T, name string) *testFile {
	t.Helper()
	f, err := tryOpen(t, name)
	check(t, err)
	t.Cleanup(f.closeAll)
	return f
}

// tryOpen opens a file, unless it is refused.
func tryOpen(t *testing.T, name string) (*testFile, error) {
	t.Helper()
	f := &testFile{t: t}
	path, err := Path("sqlite:" + name)
	if err != nil {
		return nil, err
	}
	f.DB, err = Open(t.Context(), Options{
		File: path, Log: slog.New(slog.NewTextHandler(&f.log, nil)), ORMLog: logger.Discard,
		Now: func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) },
	})
	return f, err
}

// closeAll closes the file, the first time.
func (f *testFile) closeAll() {
	f.close.Do(func() { check(f.t, f.CloseWriter(), f.Close(), f.Unlock()) })
}

// later moves the time.
func (f *testFile) later(by time.Duration) { f.ahead.Add(int64(by)) }

// write writes so many bytes into one row, and does what is done after a commit.
func (f *testFile) write(bytes int) {
	f.t.Helper()
	_, err := f.Conn().ExecContext(f.t.Context(), "UPDATE probes SET room = randomblob(?)", bytes)
	check(f.t, err)
	f.AfterCommit()
}

// between runs a function on the connection that writes, which no goroutine uses in these tests.
func (f *testFile) between(_ context.Context, fn func(*sql.Conn) error) error { return fn(f.Conn()) }

func (f *testFile) maintain() {
	f.t.Helper()
	check(f.t, f.Maintain(f.t.Context(), f.between))
}

// lines are how many lines of the log have a text.
func (f *testFile) lines(text string) int { return strings.Count(f.log.String(), text) }

// wantWritable compares whether a write can be relied on.
func (f *testFile) wantWritable(want bool, when string) {
	f.t.Helper()
	if err := f.CheckWritable(); (err == nil) != want {
		f.t.Errorf("%s: the file is writable says %v", when, err)
	}
}

// read begins to read on a connection of its own, which goes on until the function that it returns is called.
func (f *testFile) read() (end func()) {
	f.t.Helper()
	db, err := sql.Open("sqlite3", f.path)
	check(f.t, err)
	tx, err := db.BeginTx(f.t.Context(), &sql.TxOptions{ReadOnly: true})
	check(f.t, err)
	var n int
	check(f.t, tx.QueryRow("SELECT count(*) FROM probes").Scan(&n))
	return func() { check(f.t, tx.Rollback(), db.Close()) }
}

func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
