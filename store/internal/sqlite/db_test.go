package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSettings(t *testing.T) {
	f := openTestFileAt(t, filepath.Join(t.TempDir(), "a b%c?d#.db"))
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
		"auto_vacuum": "2", "temp_store": "2",
	} {
		var got string
		if err := f.Writer().Raw("PRAGMA " + pragma).Scan(&got).Error; err != nil || got != want {
			t.Errorf("PRAGMA %s is %q, want %q (%v)", pragma, got, want, err)
		}
	}
	if err := f.Reader().Exec("DELETE FROM probes").Error; err == nil {
		t.Error("a reader may write")
	}
}

// After a close all is in the one file, which no other user may read.
func TestCloseLeavesOneFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "agentevents.db")
	f, err := tryOpen(t, name)
	check(t, err)
	f.write(1000)
	f.closeAll()
	if info, err := os.Stat(name + "-wal"); err == nil && info.Size() > 0 {
		t.Errorf("%d bytes are left in the write-ahead log", info.Size())
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A process that works alongside leaves the lock to the one that serves the file, and has it where none does.
func TestAlongside(t *testing.T) {
	f := openTestFile(t)
	o := Options{File: f.path, Alongside: true, Log: f.DB.log, Now: f.checkpoints.now, ORMLog: f.writer.Logger}
	second, err := Open(t.Context(), o)
	check(t, err)
	if second.owned() || second.CheckWritable() != nil || second.Stats() != (Stats{}) {
		t.Error("it watches a file that another process has")
	}
	check(t, second.CloseWriter(), second.Close(), second.Unlock())
	if _, err := tryOpen(t, f.path); err == nil {
		t.Error("the file is free although its process serves it")
	}
	f.closeAll()
	second, err = Open(t.Context(), o)
	check(t, err)
	if !second.owned() {
		t.Error("it does not have a file that is free")
	}
	check(t, second.CloseWriter(), second.Close(), second.Unlock())
	o.File = filepath.Join(t.TempDir(), "none.db")
	if _, err := Open(t.Context(), o); err == nil {
		t.Error("it makes a file")
	}
}
