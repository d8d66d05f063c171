package store_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// backup copies the store to a file that is alone in its directory.
func (f *fixture) backup() store.Saved {
	f.t.Helper()
	to := filepath.Join(f.t.TempDir(), "copy.db")
	c, err := store.Backup(f.ctx, store.Options{URL: f.url}, to)
	f.check(err)
	info, err := os.Stat(to)
	f.check(err)
	if c.Path != to || c.Size != info.Size() || info.Mode() != 0o600 {
		f.t.Errorf("made %+v, and there is a file of %d bytes, %s", c, info.Size(), info.Mode())
	}
	if left := names(f.t, filepath.Dir(to)); !slices.Equal(left, []string{"copy.db"}) {
		f.t.Errorf("the directory of the copy has %q", left)
	}
	return c
}

func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// of returns a fixture of another database, which is closed, with the same clock.
func (f *fixture) of(url string) *fixture {
	return &fixture{t: f.t, ctx: f.ctx, clock: f.clock, url: url}
}

func (f *fixture) epoch() string {
	f.t.Helper()
	page, err := f.StatusChanges(f.ctx, "12", nil, "", 1)
	f.check(err)
	return page.Epoch
}

// load is a store with many concurrent writes, until stop is called.
type load struct {
	*fixture
	mu        sync.Mutex
	confirmed []int64 // sequence numbers
	group     sync.WaitGroup
	stop      context.CancelFunc
}

// startLoad changes agents' statuses and sends the deliveries.
func (f *fixture) startLoad() *load {
	b := &load{fixture: f}
	ctx, stop := context.WithCancel(f.ctx)
	b.stop = stop
	f.createLanes("12", 1, 10, crm)
	for id := int64(1); id <= 10; id++ {
		k := store.AgentKey{Client: "12", Type: gen.AgentTypeLocal, ID: id}
		b.group.Go(func() { b.change(ctx, k) })
	}
	b.group.Go(func() { b.deliver(ctx) })
	return b
}

func (b *load) change(ctx context.Context, k store.AgentKey) {
	status := gen.AgentStatusValueAvailable
	for ctx.Err() == nil {
		status = map[gen.AgentStatusValue]gen.AgentStatusValue{
			"available": "logged_out", "logged_out": "available",
		}[status]
		changed, err := b.SetStatus(context.Background(), k, gen.AgentStatusUpdate{AgentStatus: status})
		if err != nil {
			b.t.Error(err)
			return
		}
		b.mu.Lock()
		b.confirmed = append(b.confirmed, changed.Sequence)
		b.mu.Unlock()
	}
}

func (b *load) deliver(ctx context.Context) {
	room := webhook.ClaimLimits{Lanes: 5, PerReceiver: 5, Take: func(string, int64) bool { return true }}
	for ctx.Err() == nil {
		claimed, _, err := b.Claim(ctx, room)
		for _, d := range claimed {
			o := webhook.Outcome{
				Attempt: webhook.Attempt{StartedAt: b.clock.Now(), Verdict: webhook.Delivered, Status: 200},
			}
			_, err := b.Record(context.Background(), d, o, false)
			if err != nil {
				b.t.Error(err)
			}
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			b.t.Error(err)
		}
	}
}

func (b *load) known() []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.confirmed)
}

// wait returns when a number of further changes is confirmed.
func (b *load) wait(more int) {
	b.t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for n := len(b.known()) + more; len(b.known()) < n && !b.t.Failed(); {
		<-look.C
	}
}

// Each copy is consistent, and has all changes that were confirmed before.
func TestBackupOfABusyStoreHasAllConfirmedChanges(t *testing.T) {
	pgtest.SQLiteOnly(t, "a server makes backups itself")
	f := open(t)
	b := f.startLoad()
	for range 5 {
		b.wait(100)
		before := b.known()
		made := f.backup()
		c := f.of("sqlite:" + made.Path)
		c.verify()
		c.has(before, made)
	}
	b.stop()
	b.group.Wait()
	f.verify()
}

// has compares a copy with the confirmed changes and with the result of Backup.
func (f *fixture) has(changes []int64, made store.Saved) {
	f.t.Helper()
	db := f.db()
	defer db.Close()
	var last, mode int64
	var epoch, journal string
	f.check(db.QueryRow("SELECT max(id), (SELECT epoch FROM epochs), (SELECT auto_vacuum FROM pragma_auto_vacuum), "+
		"(SELECT journal_mode FROM pragma_journal_mode) FROM status_changes").Scan(&last, &epoch, &mode, &journal))
	if last != made.Sequence || epoch != "" || mode != 2 || journal != "delete" {
		f.t.Errorf("made %+v, and there is %d, %s, auto_vacuum %d, journal_mode %s", made, last, epoch, mode, journal)
	}
	there := map[int64]bool{}
	rows, err := db.Query("SELECT id FROM status_changes")
	f.check(err)
	defer rows.Close()
	for rows.Next() {
		var id int64
		f.check(rows.Scan(&id))
		there[id] = true
	}
	f.check(rows.Err())
	for _, sequence := range changes {
		if !there[sequence] {
			f.t.Errorf("change %d was confirmed before, and is missing", sequence)
		}
	}
}

// Pending deliveries of the copy are sent, and those that were in flight are due at once. The copy reuses sequence
// numbers of later changes, so readers of those get an error.
func TestRestoredCopyContinuesWithANewEpoch(t *testing.T) {
	pgtest.SQLiteOnly(t, "a server makes backups itself")
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	f.claimOne()
	made := f.backup()
	was := f.epoch()
	f.logout(k)

	epochs := map[string]bool{was: true}
	for range 3 { // restores of the same copy
		c := f.of(f.copyOf(made))
		epochs[c.wantContinues(k, made, was)] = true
	}
	if len(epochs) != 4 {
		t.Errorf("of the store, and of its copy that was restored three times, there are the epochs %v", epochs)
	}
}

// wantContinues checks a copy with one delivery in flight, and returns its epoch.
func (f *fixture) wantContinues(k store.AgentKey, made store.Saved, was string) string {
	f.t.Helper()
	f.open()
	defer func() { f.check(f.Close()) }()
	now := f.epoch()
	if d := f.claimOne(); d.Sequence != 1 || d.Epoch != now || now == "" {
		f.t.Errorf("sequence %d of epoch %s is sent again, want 1 of %s", d.Sequence, d.Epoch, now)
	}
	if status := f.logout(k); status.Sequence != 2 || made.Sequence != 1 {
		f.t.Errorf("the copy has %d changes and continues with %d", made.Sequence, status.Sequence)
	}
	f.restarted(2, was, now, 1)
	if got := f.feed("12", 1, 9); !slices.Equal(got, []int64{2}) {
		f.t.Errorf("after 1: %v", got)
	}
	f.restart()
	if f.epoch() != now {
		f.t.Errorf("after the next start the epoch is %s, want %s", f.epoch(), now)
	}
	return now
}

// copyOf restores a copy and returns its URL.
func (f *fixture) copyOf(made store.Saved) string {
	f.t.Helper()
	file := filepath.Join(f.t.TempDir(), "agentevents.db")
	content, err := os.ReadFile(made.Path)
	f.check(err)
	f.check(os.WriteFile(file, content, 0o600))
	return "sqlite:" + file
}

// restarted continues from a number of an earlier epoch.
func (f *fixture) restarted(after int64, epoch, now string, oldest int64) {
	f.t.Helper()
	if page, err := f.StatusChanges(f.ctx, "12", &after, now, 9); err != nil || page.Epoch != now {
		f.t.Errorf("after %d of %s: %+v, %v", after, now, page, err)
	}
	var gone *store.Error
	_, err := f.StatusChanges(f.ctx, "12", &after, epoch, 9)
	if !errors.As(err, &gone) || gone.Kind != store.Restarted || gone.Epoch != now || gone.Oldest != oldest ||
		epoch == now {
		f.t.Errorf("after %d of %s, which is now %s: %+v", after, epoch, now, err)
	}
}

// An operator may call NewEpoch while the store is served, after another kind of restore.
func TestNewEpochEndsTheEarlierOne(t *testing.T) {
	f := open(t)
	k := f.agent()
	f.createEvents(k, crm, both...)
	f.login(k)
	was := f.epoch()
	beside, err := store.OpenAlongside(f.ctx, store.Options{URL: f.url})
	f.check(err)
	now, err := beside.NewEpoch(f.ctx)
	f.check(errors.Join(err, beside.Close()))
	f.restarted(1, was, now, 1)
	if d := f.claimOne(); d.Epoch != now {
		t.Errorf("a delivery has the epoch %s, want %s", d.Epoch, now)
	}
	f.restart()
	if f.epoch() != now {
		t.Errorf("after a restart the epoch is %s, and was %s", f.epoch(), now)
	}
}

// A store without a process, and one whose process was killed, can be copied.
func TestBackupOfAStoppedStoreHasItsLog(t *testing.T) {
	pgtest.SQLiteOnly(t, "a server makes backups itself")
	f := openWithEverything(t)
	killed := f.of("sqlite:" + filepath.Join(t.TempDir(), "killed.db"))
	for _, end := range []string{"", "-wal"} {
		content, err := os.ReadFile(strings.TrimPrefix(f.url, "sqlite:") + end)
		f.check(err)
		f.check(os.WriteFile(strings.TrimPrefix(killed.url, "sqlite:")+end, content, 0o600))
	}
	f.check(f.Close())
	for _, idle := range []*fixture{f, killed} {
		made := idle.backup()
		if made.Sequence != 3 {
			t.Errorf("the copy of %s has %d changes", idle.url, made.Sequence)
		}
		idle.of("sqlite:" + made.Path).verify()
	}
	f.open()
}

// No file is created or changed.
func TestRefusedBackupChangesNothing(t *testing.T) {
	pgtest.SQLiteOnly(t, "a server makes backups itself")
	f := openWithEverything(t)
	dir := t.TempDir()
	f.check(os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	for _, name := range []string{"there.db", "old.db-wal", "older.db-journal", "garbage.db"} {
		f.check(os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("not a database\n", 1000)), 0o600))
	}
	f.check(os.Symlink("nowhere", filepath.Join(dir, "link.db")))
	before := tree(t, dir)
	for name, c := range map[string]struct{ url, to, want string }{
		"a file":           {f.url, "there.db", "there.db is there already"},
		"a folder":         {f.url, "folder", "folder is there already"},
		"a link":           {f.url, "link.db", "link.db is there already"},
		"another's log":    {f.url, "old.db", "old.db-wal is there already"},
		"another's undo":   {f.url, "older.db", "older.db-journal is there already"},
		"no folder":        {f.url, "none/copy.db", "no such file or directory"},
		"no store":         {"sqlite:" + dir + "/none.db", "copy.db", dir + "/none.db: `agentevents serve` creates it"},
		"no database":      {"sqlite:" + dir + "/garbage.db", "copy.db", "not a database"},
		"PostgreSQL":       {"postgres://x:secret@127.0.0.1:1/y", "copy.db", "pg_dump"},
		"PostgreSQL again": {"postgresql://x:secret@127.0.0.1:1/y", "copy.db", "new-epoch"},
		"nothing":          {"sqlite:", "copy.db", "must be sqlite:PATH"},
	} {
		_, err := store.Backup(f.ctx, store.Options{URL: c.url}, filepath.Join(dir, c.to))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := tree(t, dir); !slices.Equal(after, before) {
		t.Errorf("the files were %q, and are %q", before, after)
	}
}

// tree lists all files in a directory.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		all = append(all, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestBackupOfADamagedStoreFails(t *testing.T) {
	pgtest.SQLiteOnly(t, "a server checks its pages itself")
	f := openWithEverything(t)
	dir := t.TempDir()
	for plant, want := range map[string]string{
		"PRAGMA ignore_check_constraints = ON; " +
			"UPDATE lanes SET pending = -1 WHERE id = 4": "the copy is damaged: CHECK constraint failed in lanes",
		"DROP TABLE epochs": "no such table: epochs",
	} {
		c := f.of(f.copy(t))
		c.sql(plant)
		_, err := store.Backup(f.ctx, store.Options{URL: c.url}, filepath.Join(dir, "copy.db"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("after %s: %v", plant, err)
		}
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("after %s there is %q", plant, left)
		}
	}
}

// ending is a context that ends after a number of calls.
type ending struct {
	context.Context
	end   context.CancelFunc
	mu    sync.Mutex
	looks int
}

func (e *ending) Done() <-chan struct{} {
	e.look()
	return e.Context.Done()
}

func (e *ending) Err() error {
	e.look()
	return e.Context.Err()
}

func (e *ending) look() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.looks--; e.looks == 0 {
		e.end()
	}
}

// The context ends at each possible moment in turn.
func TestCancelledBackupLeavesNothing(t *testing.T) {
	pgtest.SQLiteOnly(t, "a server makes backups itself")
	f := openWithEverything(t)
	dir := t.TempDir()
	for looks := 1; ; looks++ {
		ctx, end := context.WithCancel(t.Context())
		_, err := store.Backup(&ending{Context: ctx, end: end, looks: looks}, store.Options{URL: f.url},
			filepath.Join(dir, "copy.db"))
		given := ctx.Err()
		end()
		if err == nil {
			t.Logf("cancelled at %d moments", looks-1)
			break
		}
		if given == nil || !errors.Is(err, context.Canceled) && !errors.Is(err, sql.ErrTxDone) {
			t.Fatalf("at moment %d: %v", looks, err)
		}
		if left := names(t, dir); len(left) > 0 {
			t.Fatalf("at moment %d there is %q", looks, left)
		}
	}
	f.of("sqlite:" + filepath.Join(dir, "copy.db")).verify()
}
