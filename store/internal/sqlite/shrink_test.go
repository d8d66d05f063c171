package sqlite

import (
	"context"
	"database/sql"
	"os"
	"testing"

	"github.com/agentevents/agentevents/store/internal/sqldb"
	"gorm.io/gorm"
)

// inTransaction runs work like the writer, without its queue.
func (f *testFile) inTransaction(ctx context.Context, work sqldb.Work) error {
	return f.WriteORM().WithContext(ctx).Transaction(func(db *gorm.DB) error { return work(sqldb.NewTx(ctx, db)) })
}

func (f *testFile) size() int64 {
	f.t.Helper()
	info, err := os.Stat(f.path)
	check(f.t, err)
	return info.Size()
}

func TestShrinkMakesTheFileSmallerAndComplete(t *testing.T) {
	f := openTestFile(t)
	f.write(12_000_000)
	_, err := f.Checkpoint()
	check(t, err, f.CheckFiles(t.Context()))
	before := f.size()
	f.write(0)
	check(t, f.Shrink(t.Context(), f.inTransaction))
	if after := f.size(); after > before/2 {
		t.Errorf("%d bytes became %d", before, after)
	}
	check(t, f.CheckFiles(t.Context()))
	f.wantWritable(true, "when the file is smaller")
}

func TestReleasePagesLeavesNoFreePage(t *testing.T) {
	f := openTestFile(t)
	f.write(12_000_000)
	f.write(0)
	check(t, f.ReleasePages(t.Context(), f.inTransaction))
	if pages, err := f.countPages(t.Context()); err != nil || pages.Unused != 0 {
		t.Errorf("%d pages are free: %v", pages.Unused, err)
	}
}

// A reader of an earlier state needs the log.
func TestTruncateWALEmptiesTheLogWithoutAReader(t *testing.T) {
	f := openTestFile(t)
	between := func(_ context.Context, fn func(*sql.Conn) error) error { return fn(f.Conn()) }
	f.write(1000)
	end := f.read()
	f.write(2000)
	empty, err := f.TruncateWAL(t.Context(), between)
	if check(t, err); empty {
		t.Error("the log is empty while a reader needs it")
	}
	end()
	empty, err = f.TruncateWAL(t.Context(), between)
	if check(t, err); !empty || f.Stats().WALBytes != 0 {
		t.Errorf("the log has %d bytes", f.Stats().WALBytes)
	}
}

func TestShrinkContinuesAfterAReader(t *testing.T) {
	f := openTestFile(t)
	f.write(12_000_000)
	_, err := f.Checkpoint()
	check(t, err)
	before := f.size()
	end := f.read()
	f.write(0)
	check(t, f.Shrink(t.Context(), f.inTransaction))
	if after := f.size(); after < before {
		t.Errorf("%d bytes became %d while a reader needs them", before, after)
	}
	end()
	check(t, f.Shrink(t.Context(), f.inTransaction))
	if after := f.size(); after > before/2 {
		t.Errorf("%d bytes became %d", before, after)
	}
}

func TestFileThatCannotShrinkIsReportedOnce(t *testing.T) {
	f := openTestFile(t)
	for _, statement := range []string{"PRAGMA auto_vacuum = 0", "VACUUM"} {
		_, err := f.Conn().ExecContext(t.Context(), statement)
		check(t, err)
	}
	f.write(12_000_000)
	f.write(0)
	for range 2 {
		check(t, f.Shrink(t.Context(), f.inTransaction))
	}
	if n := f.lines("cannot shrink"); n != 1 {
		t.Errorf("%d warnings: %s", n, &f.log)
	}
}
