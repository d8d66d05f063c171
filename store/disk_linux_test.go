package store_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/internal/diskfault"
	"github.com/agentevents/agentevents/store/internal/sqldb"
	"github.com/agentevents/agentevents/store/pgtest"
)

// disk is a store on SQLite whose file fails on request, with its log.
type disk struct {
	*fixture
	log  bytes.Buffer
	file string
	k    store.AgentKey

	ahead atomic.Int64 // nanoseconds by which the test moved the store's clock
}

// later moves the clock that is never set.
func (d *disk) later(by time.Duration) { d.ahead.Add(int64(by)) }

func nothing(*sqldb.Tx) error { return nil }

// room writes a number of bytes into one row.
func room(bytes int) func(tx *sqldb.Tx) error {
	return func(tx *sqldb.Tx) error { return tx.Exec("UPDATE probes SET room = randomblob(?)", bytes) }
}

// fill writes many pages into one row.
func fill(tx *sqldb.Tx) error { return room(4_000_000)(tx) }

func openDisk(t *testing.T) *disk {
	pgtest.SQLiteOnly(t, "it is about the file")
	d := &disk{fixture: open(t)}
	d.fixture.log = slog.New(slog.NewTextHandler(&d.log, nil))
	d.restart()
	d.SetMonotonic(func() time.Time { return time.Now().Add(time.Duration(d.ahead.Load())) })
	d.file = strings.TrimPrefix(d.url, "sqlite:")
	d.k = d.agent()
	d.createEvents(d.k, crm, both...)
	return d
}

// change changes the agent's status, and reports whether it was stored.
func (d *disk) change() bool {
	d.t.Helper()
	for _, status := range []gen.AgentStatusValue{gen.AgentStatusValueAvailable, gen.AgentStatusValueLoggedOut} {
		st, err := d.SetStatus(d.ctx, d.k, gen.AgentStatusUpdate{AgentStatus: status})
		if err == nil && !st.Changed {
			continue
		}
		return err == nil
	}
	d.t.Fatal("neither status is a change")
	return false
}

// arm makes files fail until disarm is called or the test ends.
func (d *disk) arm(r diskfault.Rule) (disarm func()) {
	disarm = diskfault.Arm(r)
	d.t.Cleanup(disarm)
	return disarm
}

func (d *disk) size(end string) int64 {
	d.t.Helper()
	info, err := os.Stat(d.file + end)
	d.check(err)
	return info.Size()
}

// lines counts the lines of the log with a text.
func (d *disk) lines(text string) int {
	d.Logged()
	return strings.Count(d.log.String(), text)
}

// want compares the result of Ready.
func (d *disk) want(ready bool, when string) {
	d.t.Helper()
	d.later(3 * time.Second) // earlier failures do not count any more
	if err := d.Ready(d.ctx); (err == nil) != ready {
		d.t.Errorf("%s: Ready returns %v", when, err)
	}
}

// The disk still has room for less than a change.
func TestStoreIsNotReadyOnAFullDisk(t *testing.T) {
	d := openDisk(t)
	d.want(true, "at first")
	const frame = 4096 + 24
	d.check(d.Write(d.ctx, nothing)) // the log has free pages after this
	disarm := d.arm(diskfault.Rule{Suffix: "-wal", Writes: syscall.ENOSPC, From: d.size("-wal") + 5*frame})
	for d.change() {
	}
	for range 3 {
		d.want(false, "while no change is stored")
		if d.change() {
			t.Error("a change was stored")
		}
	}
	disarm()
	if !d.change() {
		t.Error("no change was stored when there was room")
	}
	d.want(true, "when there is room")
	d.verify()
}

// No request needs the missing part of the file.
func TestStoreIsNotReadyOnATruncatedFile(t *testing.T) {
	for name, spoil := range map[string]func(d *disk){
		"truncated": func(d *disk) { d.check(os.Truncate(d.file, d.size("")/2)) },
		"empty":     func(d *disk) { d.check(os.Truncate(d.file, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			d := openDisk(t)
			d.change()
			d.check(d.Checkpoint())
			d.want(true, "at first")
			spoil(d)
			d.want(false, "when it is "+name)
			if d.change() {
				t.Error("a change was stored")
			}
			d.want(false, "then")
			d.abandon()
		})
	}
}

// The file is complete while its later growth is only in the log.
func TestShrunkFileIsComplete(t *testing.T) {
	for name, shrink := range map[string]func(d *disk){
		"pruned": func(d *disk) { d.check(d.PruneAll(d.ctx)) },
		"vacuumed by another process": func(d *disk) {
			for _, statement := range []string{"VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"} {
				_, err := d.db().Exec(statement)
				d.check(err)
			}
			d.want(true, "before a check")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := openDisk(t)
			d.check(d.Write(d.ctx, room(12_000_000)))
			d.check(d.Checkpoint())
			d.check(d.Maintain(d.ctx))
			before := d.size("")
			d.check(d.Write(d.ctx, room(0)))
			shrink(d)
			if after := d.size(""); after >= before {
				t.Fatalf("%d bytes became %d", before, after)
			}
			d.check(d.Write(d.ctx, room(8_000_000)))
			d.check(d.Maintain(d.ctx))
			d.want(true, "when it has grown in the log")
			if !d.change() || d.lines("level=ERROR") > 0 {
				t.Errorf("no change was stored: %s", &d.log)
			}
			d.verify()
		})
	}
}

func TestTruncatedFileIsNoticedThoughItsLogHasPages(t *testing.T) {
	d := openDisk(t)
	d.check(d.Write(d.ctx, room(4_000_000)))
	d.check(d.Checkpoint())
	d.check(d.Maintain(d.ctx))
	d.change()
	d.check(os.Truncate(d.file, d.size("")/2))
	d.check(d.Maintain(d.ctx))
	d.want(false, "when it is truncated")
	if d.change() || d.lines("was truncated") == 0 {
		t.Errorf("a change was stored: %s", &d.log)
	}
	d.abandon()
}

// abandon ends the test with another store, since this one's file is lost.
func (d *disk) abandon() {
	_ = d.Close()
	d.url = pgtest.URL(d.t)
	d.open()
}

// A log line reports the lost file, and when it is back, the store works again.
func TestLostFileTakesNoChangesUntilItIsBack(t *testing.T) {
	for _, end := range []string{"", "-wal", "-shm", ".lock"} {
		for what, lose := range map[string]func(file string) error{
			"removed": func(file string) error { return os.Rename(file, file+".away") },
			"replaced": func(file string) error {
				return errors.Join(os.Rename(file, file+".away"), os.WriteFile(file, nil, 0o600))
			},
		} {
			t.Run(what+" "+filepath.Base("db"+end), func(t *testing.T) {
				d := openDisk(t)
				d.want(true, "at first")
				d.check(lose(d.file + end))
				if (end == "" || end == "-wal") && d.change() {
					t.Error("a change was stored at once")
				}
				d.want(false, "at once")
				if d.change() {
					t.Error("a change was stored")
				}
				d.want(false, "later")
				want := "was " + what
				if d.lines("level=ERROR") != 1 || d.lines(want) == 0 {
					t.Errorf("the log does not report once that the file %s: %s", want, &d.log)
				}
				d.check(os.Rename(d.file+end+".away", d.file+end))
				d.want(true, "when it is back")
				if !d.change() {
					t.Error("no change was stored when the file was back")
				}
				d.verify()
			})
		}
	}
}

// blockedLog is a log handler that blocks at a line until the test reads on.
type blockedLog struct {
	slog.Handler
	text string // the message of the line that blocks
	in   chan struct{}
	out  chan struct{}
}

func (s blockedLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == s.text {
		close(s.in)
		<-s.out
	}
	return s.Handler.Handle(ctx, r)
}

// block makes the store's log block at a line with a text, until read is called.
func (d *disk) block(text string) (line <-chan struct{}, read func()) {
	s := blockedLog{d.fixture.log.Handler(), text, make(chan struct{}), make(chan struct{})}
	d.fixture.log = slog.New(s)
	d.restart()
	d.SetMonotonic(func() time.Time { return time.Now().Add(time.Duration(d.ahead.Load())) })
	read = sync.OnceFunc(func() { close(s.out) })
	d.t.Cleanup(read)
	return s.in, read
}

func TestBlockedLogBlocksNeitherChangesNorReady(t *testing.T) {
	for text, fail := range map[string]func(d *disk) (ready bool){
		"checkpoint failed, the write-ahead log grows": func(d *disk) bool {
			defer d.arm(diskfault.Rule{Suffix: "agentevents.db", Writes: syscall.EIO})()
			for d.FileStats().CheckpointFailures == 0 {
				d.change()
			}
			return false
		},
		"store unavailable": func(d *disk) bool {
			defer d.arm(diskfault.Rule{Suffix: "-wal", Writes: syscall.ENOSPC})()
			d.change()
			return true
		},
		"database file lost, writes are refused until it is back": func(d *disk) bool {
			d.check(os.Rename(d.file, d.file+".away"))
			_ = d.Ready(d.ctx)
			d.check(os.Rename(d.file+".away", d.file))
			return true
		},
	} {
		t.Run(text, func(t *testing.T) {
			d := openDisk(t)
			line, read := d.block(text)
			done := make(chan struct{})
			go func() {
				defer close(done)
				d.want(fail(d), "while the log is blocked")
				if !d.change() {
					t.Error("no change was stored")
				}
			}()
			<-line
			select {
			case <-done:
			case <-time.After(patience):
				t.Error("the store waits for the log")
			}
			read()
			<-done
		})
	}
}

// changes returns the number of status changes in the file.
func (d *disk) changes() (n int) {
	d.t.Helper()
	db := d.db()
	defer db.Close()
	d.check(db.QueryRow("SELECT count(*) FROM status_changes").Scan(&n))
	return n
}

// The next change is stored.
func TestRefusedChangeLeavesNothing(t *testing.T) {
	d := openDisk(t)
	d.change()
	before := d.changes()
	disarm := d.arm(diskfault.Rule{Suffix: "-wal", Writes: syscall.ENOSPC})
	if d.change() {
		t.Error("a change was stored")
	}
	disarm()
	if n := d.changes(); n != before {
		t.Errorf("%d changes became %d", before, n)
	}
	if !d.change() || d.changes() != before+1 {
		t.Errorf("of %d changes and another one, the file has %d", before, d.changes())
	}
	d.restart()
	if n := d.changes(); n != before+1 {
		t.Errorf("after a restart %d changes are left of %d", n, before+1)
	}
	d.verify()
}

// All failing requests share one log line. Another line reports the end.
func TestOneLineForAFullDisk(t *testing.T) {
	d := openDisk(t)
	disarm := d.arm(diskfault.Rule{Suffix: "-wal", Writes: syscall.ENOSPC})
	for range 20 {
		if d.change() {
			t.Fatal("a change is answered")
		}
	}
	d.duringLogins([]store.AgentKey{}, func() { d.change() })
	if n := d.lines("\n"); n != 1 || d.lines("level=ERROR") != 1 || d.lines("database or disk is full") != 1 {
		t.Errorf("%d lines: %s", n, &d.log)
	}
	disarm()
	d.change()
	d.later(store.RecoveredAfter)
	d.change()
	if d.lines("\n") != 2 || d.lines("level=INFO") != 1 || d.lines("failed=21") != 1 {
		t.Errorf("after the downtime: %s", &d.log)
	}
}

// Several units share the transaction.
func TestOneLineForATransactionThatEndsByItself(t *testing.T) {
	d := openDisk(t)
	d.arm(diskfault.Rule{Suffix: "-wal", Writes: syscall.ENOSPC})
	hold, held := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	write := func(fn func(tx *sqldb.Tx) error) {
		all.Go(func() {
			if err := d.Write(d.ctx, fn); err == nil {
				t.Error("a write was committed")
			}
		})
	}
	write(func(*sqldb.Tx) error { close(held); <-hold; return nil })
	<-held
	write(fill) // more than the page cache has room for
	for d.Waiting() == 0 {
		runtime.Gosched()
	}
	close(hold)
	all.Wait()
	if n := d.lines("\n"); n != 1 || d.lines("database or disk is full") != 1 {
		t.Errorf("%d lines: %s", n, &d.log)
	}
}
