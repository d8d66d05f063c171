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

// testFile is an open file with its log and its clock.
type testFile struct {
	*DB
	t     *testing.T
	log   logBuffer
	ahead atomic.Int64 // nanoseconds by which the test moved its clock
	close sync.Once
}

// logBuffer is a log for several goroutines.
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

// tryOpen opens a file or returns the error.
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

// closeAll closes the file once.
func (f *testFile) closeAll() {
	f.close.Do(func() { check(f.t, f.CloseWriter(), f.Close(), f.Unlock()) })
}

// later moves the clock.
func (f *testFile) later(by time.Duration) { f.ahead.Add(int64(by)) }

// write writes random bytes into a row, and then calls CheckpointIfDue, like the writer.
func (f *testFile) write(bytes int) {
	f.t.Helper()
	_, err := f.Conn().ExecContext(f.t.Context(), "UPDATE probes SET room = randomblob(?)", bytes)
	check(f.t, err)
	f.CheckpointIfDue()
}

// between runs a function on the connection that writes. No goroutine uses it in these tests.
func (f *testFile) between(_ context.Context, fn func(*sql.Conn) error) error { return fn(f.Conn()) }

func (f *testFile) maintain() {
	f.t.Helper()
	check(f.t, f.Maintain(f.t.Context(), f.between))
}

// lines counts the lines of the log with a text.
func (f *testFile) lines(text string) int { return strings.Count(f.log.String(), text) }

// wantWritable checks the result of CheckWritable.
func (f *testFile) wantWritable(want bool, when string) {
	f.t.Helper()
	if err := f.CheckWritable(); (err == nil) != want {
		f.t.Errorf("%s: CheckWritable returns %v", when, err)
	}
}

// read begins a transaction that reads on a connection of its own, until end is called.
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
