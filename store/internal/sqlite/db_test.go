package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

func TestConnectionsHaveTheirPragmas(t *testing.T) {
	f := openTestFileAt(t, filepath.Join(t.TempDir(), "a b%c?d#.db"))
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
		"auto_vacuum": "2", "temp_store": "2", "secure_delete": "2",
	} {
		var got string
		if err := f.WriteORM().Raw("PRAGMA " + pragma).Scan(&got).Error; err != nil || got != want {
			t.Errorf("PRAGMA %s is %q, want %q (%v)", pragma, got, want, err)
		}
	}
	if err := f.ReadORM().Exec("DELETE FROM probes").Error; err == nil {
		t.Error("a reader may write")
	}
}

// Other users may not read the file.
func TestCloseMovesTheLogIntoTheFile(t *testing.T) {
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

// If another process serves the file, that process has the lock. Otherwise this one has it.
func TestAlongsideLeavesAServedFileToItsProcess(t *testing.T) {
	f := openTestFile(t)
	o := Options{File: f.path, Alongside: true, Log: f.DB.log, Now: f.checkpoints.now, ORMLog: f.writer.Logger}
	second, err := Open(t.Context(), o)
	check(t, err)
	if second.owned() || second.CheckWritable() != nil || second.Stats() != (Stats{}) {
		t.Error("it watches a file that another process serves")
	}
	check(t, second.CloseWriter(), second.Close(), second.Unlock())
	if _, err := tryOpen(t, f.path); err == nil {
		t.Error("the file can be opened although a process serves it")
	}
	f.closeAll()
	second, err = Open(t.Context(), o)
	check(t, err)
	if !second.owned() {
		t.Error("it has not locked a file that no process serves")
	}
	check(t, second.CloseWriter(), second.Close(), second.Unlock())
	o.File = filepath.Join(t.TempDir(), "none.db")
	if _, err := Open(t.Context(), o); err == nil {
		t.Error("it created a file")
	}
}
