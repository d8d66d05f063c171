package e2e

import (
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store/pgtest"
)

var backupReport = regexp.MustCompile(`^path     \S+\nsize     [0-9]+\nsequence ([0-9]+)\n$`)

// A server continues from a backup that was made under load: it does not repeat finished deliveries. Readers of the
// feed whose position is later than the backup get the point at which the feed continues.
func TestBackupUnderLoad(t *testing.T) {
	pgtest.SQLiteOnly(t, "PostgreSQL has backups of its own")
	t.Parallel()
	r, file := newReceiver(t), newFile(t)
	p := serve(t, "sqlite:"+file)
	a := newAPI(t, p)
	a.putClient()
	a.login(r, 1, 2, 3, 4)
	end := a.load(1, 2, 3, 4)
	r.wait(t, 200)
	before := a.follow(nil, nil)
	to := filepath.Join(t.TempDir(), "copy.db")
	sequence := backup(t, file, to)
	r.wait(t, 400+len(r.arrivals()))
	end()
	after := a.follow(new(before.next()), &before.epoch)
	equal(t, "exit code", p.stop(t), 0)
	equal(t, "epoch", after.epoch, before.epoch)
	if sequence < before.next() || sequence > after.next() {
		t.Errorf("the copy has %d changes, and the store had %d and then %d", sequence, before.next(), after.next())
	}
	verify(t, "sqlite:"+to)
	checkRestored(t, r, to, sequence, after)
	verify(t, "sqlite:"+to)
}

// checkRestored serves a backup.
func checkRestored(t *testing.T, r *receiver, file string, sequence int64, was page) {
	t.Helper()
	sent := len(r.arrivals())
	p := serve(t, "sqlite:"+file)
	a := newAPI(t, p)
	a.putAgent(gen.AgentTypeLocal, 5, "x") // not in the backup
	a.createEvent(gen.AgentTypeLocal, 5, r.URL, gen.RequestMethodGET, gen.EventTypeAgentLogin)
	changed := a.set(gen.AgentTypeLocal, 5, gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable})
	equal(t, "the first sequence number after the backup", changed.Sequence, sequence+1)
	eventually(t, "the new change arrives", func() bool {
		return slices.ContainsFunc(r.arrivals()[sent:], func(got lab.Arrival) bool {
			return formValue(got.Form(), "agent_id") == "5"
		})
	})
	epoch := a.follow(nil, nil).epoch
	for _, got := range r.arrivals()[sent:] {
		equal(t, "agentevents-epoch", got.Header.Get("agentevents-epoch"), epoch)
	}
	equal(t, "agentevents-epoch before the restore", r.arrivals()[0].Header.Get("agentevents-epoch"), was.epoch)
	a.checkFeedRestarted(was, epoch)
	equal(t, "changes after the last one", len(a.follow(new(changed.Sequence), &epoch).changes), 0)
	equal(t, "exit code", p.stop(t), 0)
}

// checkFeedRestarted checks that a reader with a position of the original's feed gets feed_restarted.
func (a api) checkFeedRestarted(was page, epoch string) {
	a.t.Helper()
	resp, err := a.ListStatusChangesWithResponse(a.t.Context(), pbxClient,
		&gen.ListStatusChangesParams{After: new(was.next()), Epoch: &was.epoch})
	must(a.t, http.StatusGone, resp, err)
	equal(a.t, "status", resp.JSON410.Status, "feed_restarted")
	equal(a.t, "epoch", resp.JSON410.Epoch, epoch)
	equal(a.t, "oldest sequence", resp.JSON410.OldestSequence, 1)
}

// backup makes a backup and returns its last sequence number.
func backup(t *testing.T, file, to string) (sequence int64) {
	t.Helper()
	stdout, stderr, code := command(t, []string{"AGENTEVENTS_DATABASE_URL=sqlite:" + file}, "backup", "--to", to)
	report := backupReport.FindStringSubmatch(stdout)
	if code != 0 || stderr != "" || report == nil {
		t.Fatalf("backup: exit code %d, %s%s", code, stdout, stderr)
	}
	sequence, err := strconv.ParseInt(report[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return sequence
}

// load logs agents out and in, each in its own goroutine, until end is called.
func (a api) load(ids ...int64) (end func()) {
	var group sync.WaitGroup
	ended := make(chan struct{})
	for _, id := range ids {
		group.Go(func() {
			for n := 0; a.setStatus(id, both[n%2]); n++ {
				select {
				case <-ended:
					return
				default:
				}
			}
		})
	}
	end = sync.OnceFunc(func() {
		close(ended)
		group.Wait()
	})
	a.t.Cleanup(end)
	return end
}

var both = []gen.AgentStatusValue{gen.AgentStatusValueLoggedOut, gen.AgentStatusValueAvailable}

// setStatus sets a status, and reports whether the server accepted it. It is safe for concurrent use.
func (a api) setStatus(id int64, status gen.AgentStatusValue) bool {
	resp, err := a.PutLocalAgentStatusWithResponse(a.t.Context(), pbxClient, id,
		gen.AgentStatusUpdate{AgentStatus: status})
	if err != nil || resp.StatusCode() != http.StatusOK {
		a.t.Errorf("agent %d, %s: %v, %v", id, status, resp, err)
		return false
	}
	return true
}

// page is a part of the feed.
type page struct {
	changes []gen.StatusChange
	epoch   string
}

// next returns the number after which the feed continues.
func (p page) next() int64 {
	if len(p.changes) == 0 {
		return 0
	}
	return p.changes[len(p.changes)-1].Sequence
}

// follow reads the feed to its end.
func (a api) follow(after *int64, epoch *string) (all page) {
	a.t.Helper()
	for {
		resp, err := a.ListStatusChangesWithResponse(a.t.Context(), pbxClient,
			&gen.ListStatusChangesParams{After: after, Epoch: epoch})
		must(a.t, http.StatusOK, resp, err)
		all.changes, all.epoch = append(all.changes, *resp.JSON200...),
			resp.HTTPResponse.Header.Get("Agentevents-Epoch")
		if len(*resp.JSON200) == 0 {
			return all
		}
		after, epoch = new(all.next()), &all.epoch
	}
}
