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

// disk is a store on SQLite whose file fails when a test says so, and its log.
type disk struct {
	*fixture
	log  bytes.Buffer
	file string
	k    store.AgentKey

	ahead atomic.Int64 // nanoseconds that the store's time has been moved by
}

// later moves the time that does not depend on a clock.
func (d *disk) later(by time.Duration) { d.ahead.Add(int64(by)) }

func nothing(*sqldb.Tx) error { return nil }

// room writes so many bytes into one row.
func room(bytes int) func(tx *sqldb.Tx) error {
	return func(tx *sqldb.Tx) error { return tx.Exec("UPDATE probes SET room = randomblob(?)", bytes) }
}

// fill writes much, in little room.
func fill(tx *sqldb.Tx) error { return room(4_000_000)(tx) }

func openDisk(t *testing.T) *disk {
	pgtest.SQLiteOnly(t, "it is about the file")
	d := &disk{fixture: open(t)}
	d.fixture.log = slog.New(slog.NewTextHandler(&d.log, nil))
	d.restart()
	d.SetMonotonic(func() time.Time { return time.Now().Add(time.Duration(d.ahead.Load())) })
	d.file = strings.TrimPrefix(d.url, "sqlite:")
	d.k = d.agent()
	d.register(d.k, crm, both...)
	return d
}

// change changes the agent's status, and says whether that was answered.
func (d *disk) change() bool {
	d.t.Helper()
	for _, status := range []gen.AgentStatusValue{gen.AgentStatusValueAvailable, gen.AgentStatusValueLoggedOut} {
		st, err := d.SetStatus(d.ctx, d.k, gen.AgentStatusUpdate{AgentStatus: status})
		if err == nil && !st.Changed {
			continue
		}
		return err == nil
	}
	d.t.Fatal("no change is one")
	return false
}

// arm has files fail until the test, or what it returns, ends that.
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

// lines are how many lines of the log have a text.
func (d *disk) lines(text string) int {
	d.Logged()
	return strings.Count(d.log.String(), text)
}

// want compares what readiness is with what becomes of a change.
func (d *disk) want(ready bool, when string) {
	d.t.Helper()
	d.later(3 * time.Second) // what was seen before is no reason any more
	if err := d.Ready(d.ctx); (err == nil) != ready {
		d.t.Errorf("%s: ready says %v", when, err)
	}
}

// As long as the disk has no room for a change, the store is not ready, although it has for less.
func TestReadyOnAFullDisk(t *testing.T) {
	d := openDisk(t)
	d.want(true, "at first")
	const frame = 4096 + 24
	d.check(d.Write(d.ctx, nothing)) // what is behind is free
	disarm := d.arm(diskfault.Rule{Suffix: "-wal", Writes: syscall.ENOSPC, From: d.size("-wal") + 5*frame})
	for d.change() {
	}
	for range 3 {
		d.want(false, "while no change gets in")
		if d.change() {
			t.Error("a change got in")
		}
	}
	disarm()
	if !d.change() {
		t.Error("no change gets in when there is room")
	}
	d.want(true, "when there is room")
	d.verify()
}

// A file that cannot be read, or that is shorter than it was, is seen although no request needs what is missing.
func TestReadyOnAFileThatCannotBeRead(t *testing.T) {
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
				t.Error("a change is answered")
			}
			d.want(false, "then")
			d.gone()
		})
	}
}

// A file that became smaller because the database did is whole, also while what it has grown by since is in the log
// alone.
func TestFileThatBecameSmallerIsWhole(t *testing.T) {
	for name, shrink := range map[string]func(d *disk){
		"pruned": func(d *disk) { d.check(d.PruneAll(d.ctx)) },
		"vacuumed by another process": func(d *disk) {
			for _, statement := range []string{"VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"} {
				_, err := d.db().Exec(statement)
				d.check(err)
			}
			d.want(true, "before a look")
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
				t.Errorf("no change is answered: %s", &d.log)
			}
			d.verify()
		})
	}
}

// A file that is too short is seen although its log has pages.
func TestFileThatIsTruncatedBesideItsLog(t *testing.T) {
	d := openDisk(t)
	d.check(d.Write(d.ctx, room(4_000_000)))
	d.check(d.Checkpoint())
	d.check(d.Maintain(d.ctx))
	d.change()
	d.check(os.Truncate(d.file, d.size("")/2))
	d.check(d.Maintain(d.ctx))
	d.want(false, "when it is truncated")
	if d.change() || d.lines("was truncated") == 0 {
		t.Errorf("a change is answered: %s", &d.log)
	}
	d.gone()
}

// gone has the test end without a look at the file.
func (d *disk) gone() {
	_ = d.Close()
	d.url = pgtest.URL(d.t)
	d.open()
}

// A file that is not the one that was opened takes no writes, whichever of its parts that is, and a line says so.
// When it is back all is well.
func TestFileLost(t *testing.T) {
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
					t.Error("a change is answered at once")
				}
				d.want(false, "at once")
				if d.change() {
					t.Error("a change is answered")
				}
				d.want(false, "later")
				want := "was " + what
				if d.lines("level=ERROR") != 1 || d.lines(want) == 0 {
					t.Errorf("the log does not say once that it %s: %s", want, &d.log)
				}
				d.check(os.Rename(d.file+end+".away", d.file+end))
				d.want(true, "when it is back")
				if !d.change() {
					t.Error("no change is answered when it is back")
				}
				d.verify()
			})
		}
	}
}

// stuck is a log that is not read: a line waits until the test lets it go.
type stuck struct {
	slog.Handler
	text string // of the lines that wait
	in   chan struct{}
	out  chan struct{}
}

func (s stuck) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == s.text {
		close(s.in)
		<-s.out
	}
	return s.Handler.Handle(ctx, r)
}

// jam has the store's log not read from a line with a text on. What it returns lets it be read again.
func (d *disk) jam(text string) (line <-chan struct{}, read func()) {
	s := stuck{d.fixture.log.Handler(), text, make(chan struct{}), make(chan struct{})}
	d.fixture.log = slog.New(s)
	d.restart()
	d.SetMonotonic(func() time.Time { return time.Now().Add(time.Duration(d.ahead.Load())) })
	read = sync.OnceFunc(func() { close(s.out) })
	d.t.Cleanup(read)
	return s.in, read
}

// A log that is not read stops neither the changes nor the look whether the store is ready.
func TestLogThatIsNotRead(t *testing.T) {
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
			line, read := d.jam(text)
			done := make(chan struct{})
			go func() {
				defer close(done)
				d.want(fail(d), "while the log is not read")
				if !d.change() {
					t.Error("no change is answered")
				}
			}()
			<-line
			select {
			case <-done:
			case <-time.After(patience):
				t.Error("all waits for the log")
			}
			read()
			<-done
		})
	}
}

// changes returns how many status changes the file has.
func (d *disk) changes() (n int) {
	d.t.Helper()
	db := d.db()
	defer db.Close()
	d.check(db.QueryRow("SELECT count(*) FROM status_changes").Scan(&n))
	return n
}

// A change that the disk has no room for leaves nothing in the file, and the next one that has room is in it.
func TestRefusedChangeLeavesNothing(t *testing.T) {
	d := openDisk(t)
	d.change()
	before := d.changes()
	disarm := d.arm(diskfault.Rule{Suffix: "-wal", Writes: syscall.ENOSPC})
	if d.change() {
		t.Error("a change is answered")
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

// Of a full disk the log has one line, however many requests fail of it, and one when that is over.
func TestOneLineForAFullDisk(t *testing.T) {
	d := openDisk(t)
	disarm := d.arm(diskfault.Rule{Suffix: "-wal", Writes: syscall.ENOSPC})
	for range 20 {
		if d.change() {
			t.Fatal("a change is answered")
		}
	}
	d.beside([]store.AgentKey{}, func() { d.change() })
	if n := d.lines("\n"); n != 1 || d.lines("level=ERROR") != 1 || d.lines("database or disk is full") != 1 {
		t.Errorf("%d lines: %s", n, &d.log)
	}
	disarm()
	d.change()
	d.later(store.CalmFor)
	d.change()
	if d.lines("\n") != 2 || d.lines("level=INFO") != 1 || d.lines("failed=21") != 1 {
		t.Errorf("when it is over: %s", &d.log)
	}
}

// Also where the database ends a transaction in the middle of it, which others share.
func TestOneLineForATransactionThatHasEnded(t *testing.T) {
	d := openDisk(t)
	d.arm(diskfault.Rule{Suffix: "-wal", Writes: syscall.ENOSPC})
	hold, held := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	write := func(fn func(tx *sqldb.Tx) error) {
		all.Go(func() {
			if err := d.Write(d.ctx, fn); err == nil {
				t.Error("a write is answered")
			}
		})
	}
	write(func(*sqldb.Tx) error { close(held); <-hold; return nil })
	<-held
	write(fill) // more than there is memory for
	for d.Waiting() == 0 {
		runtime.Gosched()
	}
	close(hold)
	all.Wait()
	if n := d.lines("\n"); n != 1 || d.lines("database or disk is full") != 1 {
		t.Errorf("%d lines: %s", n, &d.log)
	}
}
