package store_test

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/pgtest"
	"github.com/agentevents/agentevents/webhook"
)

// faults are statements that violate an invariant in a database with everything, and a part of the text that Verify
// must return.
var faults = map[string]struct{ plant, want string }{
	"a reference to nothing": {"DELETE FROM clients", "names a missing row of clients"},
	"pending counted too low": {
		"UPDATE lanes SET pending = pending - 1 WHERE id = 1", "lane 1: 2 pending, its row says 1",
	},
	"pending counted too high": {"UPDATE lanes SET pending = 1 WHERE id = 3", "lane 3: 0 pending, its row says 1"},
	"a lane that is never due": {
		"UPDATE lanes SET due_at = NULL WHERE id = 1", "lane 1: 2 pending, its row says 2; it is due at no time",
	},
	"a lane due too late": {"UPDATE lanes SET due_at = due_at + 1000 WHERE id = 1", "lane 1: 2 pending"},
	"a lane due in a year": {
		"UPDATE lanes SET due_at = due_at + 31536000000 WHERE id = 2", "lane 2: 1 pending",
	},
	"a lease that no claim finds": {"UPDATE lanes SET due_at = due_at + 1 WHERE id = 2", "lane 2: leased until"},
	"a lease for a year": {
		"UPDATE lanes SET due_at = 1e12 * 9, lease_until = 1e12 * 9 WHERE id = 2", "lane 2: leased until 9000000000000",
	},
	"a lease without a delivery":    {"UPDATE lanes SET delivery_id = NULL WHERE id = 2", "delivery none"},
	"a lease of a missing delivery": {"UPDATE lanes SET delivery_id = 4711 WHERE id = 2", "delivery 4711 (missing)"},
	"a lease of another lane's delivery": {
		"UPDATE lanes SET delivery_id = 2 WHERE id = 2", "delivery 2 (pending in lane 1)",
	},
	"a delivery without a lease": {"UPDATE lanes SET delivery_id = 2 WHERE id = 1", "lane 1: leased until no time"},
	"ended without a time": {
		"UPDATE deliveries SET finished_at = NULL WHERE state = 'failed'", "failed, finished at no time",
	},
	"pending and finished": {
		"UPDATE deliveries SET finished_at = 1 WHERE id = 2", "delivery 2: pending, finished at 1",
	},
	"moving though it has ended": {
		"UPDATE deliveries SET moved_to = lane_id WHERE id = 1", "delivery 1: delivered, finished at",
	},
	"due in a year": {
		"UPDATE deliveries SET due_at = due_at + 31536000000 WHERE id = 2", "delivery 2: due at",
	},
	"delivered without an attempt": {
		"DELETE FROM attempts WHERE delivery_id = 1", "delivery 1: delivered after 1 attempts, of which 0 are there",
	},
	"delivered by a failure": {
		"UPDATE attempts SET verdict = 'retry' WHERE delivery_id = 1", "delivery 1: delivered after 1 attempts",
	},
	"an attempt is missing": {
		"DELETE FROM attempts WHERE delivery_id = 2", "delivery 2: pending after 1 attempts",
	},
	"an older attempt as the last": {
		"UPDATE deliveries SET last_attempt = 1 WHERE id = 2", "delivery 2: its last attempt is 2, its row says 1",
	},
	"an unknown last attempt": {
		"UPDATE deliveries SET last_attempt = NULL WHERE id = 1",
		"delivery 1: its last attempt is 1, its row says none",
	},
	"a last attempt without attempts": {
		"UPDATE deliveries SET last_attempt = 9 WHERE id = 4", "delivery 4: its last attempt is none, its row says 9",
	},
	"shown of another agent": {
		"UPDATE deliveries SET agent_id = 137 WHERE id = 1", "delivery 1: of local agent 137, to available",
	},
	"shown of another kind": {
		"UPDATE deliveries SET kind = 'remote' WHERE id = 1", "delivery 1: of remote agent 136, to available",
	},
	"shown as another change": {
		"UPDATE deliveries SET new_status = 'logged_out' WHERE id = 1", "delivery 1: of local agent 136, to logged_out",
	},
	"shown at another time": {
		"UPDATE deliveries SET changed_at = 1 WHERE id = 1",
		"delivery 1: of local agent 136, to available at 1; change 1",
	},
	"shown to another client": {
		"UPDATE deliveries SET client_id = '13' WHERE id = 1", "delivery 1: of local agent 136, to available",
	},
	"two deliveries for one change and event": {
		"UPDATE deliveries SET event_id = 1, change_id = 1 WHERE id = 3", "change 1: 2 deliveries for event 1",
	},
	"an event that is not listed": {
		"UPDATE status_changes SET parked = '' WHERE id = 3",
		"change 3: delivery 6 for event 5, and the change names 1,3,4",
	},
	"two deliveries with one webhook-id": {
		"UPDATE deliveries SET webhook_id = 'msg_x' WHERE id IN (2, 3)", "msg_x: deliveries 2, 3",
	},
	"a change of another agent": {
		"UPDATE status_changes SET agent_id = 137 WHERE id = 3", "the change of local agent 137 of client 12",
	},
	"a lane of another client": {
		"UPDATE receivers SET client_id = '13' WHERE id = 1",
		"of client 13, the change of local agent 136 of client 12",
	},
	"an old URL": {
		"UPDATE agent_events SET url = url || '/new' WHERE id = 2", "event 2: POST, version 2: POST; the URLs differ",
	},
	"an old method": {
		"UPDATE agent_events SET method = 'GET' WHERE id = 2", "event 2: GET, version 2: POST",
	},
	"a current version that is past": {
		"UPDATE event_versions SET past = 1 WHERE id = 2", "event 2: POST, version 2: POST, past",
	},
	"a version of another event": {
		"UPDATE deliveries SET version_id = 1 WHERE id = 2",
		"delivery 2: pending, version 1 in lane 1; event 2 is enabled, version 2",
	},
	"a missing version": {
		"UPDATE attempts SET version_id = 99 WHERE id = 1", "attempt 1: version 99 is missing, and it is of event 1",
	},
	"pending though it is disabled": {
		"UPDATE agent_events SET state = 'disabled' WHERE id = 1",
		"delivery 3: pending, version 1 in lane 1; event 1 is disabled",
	},
	"parked though it is enabled": {"UPDATE agent_events SET state = 'enabled'", ": parked, version 5"},
	"in the lane of an earlier URL": {
		"UPDATE agent_events SET lane_id = 3 WHERE id = 1", "in lane 1; event 1 is enabled, version 1 in lane 3",
	},
	"a sweep to another URL": {
		"INSERT INTO event_sweeps (event_id, state, version_id, position) VALUES (1, 'pending', 2, 9)",
		"event 1: is enabled, version 1 in lane 1; its deliveries become pending, version 2",
	},
	"an event in a foreign lane": {
		"UPDATE lanes SET agent_id = 137 WHERE id = 3", "lane 3 is of local agent 137 of client 12",
	},
	"a key without an answer": {
		"UPDATE idempotency_keys SET answer = ''", "application 1: a request for client 12 has no answer",
	},
	"an expired lease, and due in an hour": {
		"UPDATE lanes SET lease_until = lease_until - 3600000, due_at = due_at + 3000000 WHERE id = 2",
		"lane 2: 1 pending",
	},
	"a lease for an hour": {
		"UPDATE lanes SET due_at = due_at + 3600000, lease_until = lease_until + 3600000 WHERE id = 2",
		"lane 2: leased until",
	},
	"empty and due": {
		"UPDATE lanes SET due_at = 1 WHERE id = 3", "lane 3: 0 pending, its row says 0; it is due at 1",
	},
	"an agent counted too many": {
		"UPDATE clients SET agents = 2", "client 12: 2 agents and 5 events by its row, 1 and 5 are there",
	},
	"an event counted too few": {
		"UPDATE clients SET events = 4", "client 12: 1 agents and 4 events by its row, 1 and 5 are there",
	},
	"a change counted too many": {
		"INSERT INTO retained (client_id, changes, deliveries) VALUES ('12', 1, 0)",
		"client 12: 1 changes and 0 deliveries are counted, 0 and 0 are there",
	},
	"an invalid secret": {"UPDATE secrets SET secret = 'x'", "client 12: no secret"},
	"no secret":         {"DELETE FROM secrets", "client 12: no secret"},
	"a change of nothing": {
		"UPDATE status_changes SET old_status = new_status WHERE id = 1", "change 1: from available to available",
	},
	"a change is missing": {
		"UPDATE status_changes SET old_status = new_status, new_status = old_status WHERE id = 2",
		"change 2: from logged_out to available, after one to available",
	},
	"a status without a change": {
		"UPDATE agents SET status = 'logged_out'", "logged_out since change 3; the last one is 3 to available",
	},
	"an old status": {
		"UPDATE agents SET sequence = 1", "since change 1; the last one is 3 to available",
	},
	"a status without a sequence number": {
		"UPDATE agents SET sequence = 0", "since change 0; the last one is 3 to available",
	},
	"a probe without a breaker": {
		"UPDATE receivers SET probe = 1 WHERE id = 1", "receiver 1: 1 failures, 0 probes, one by lane 1",
	},
	"probes without a breaker": {
		"UPDATE receivers SET probes = 2 WHERE id = 1", "receiver 1: 1 failures, 2 probes",
	},
	"a wait for a year": {"UPDATE receivers SET waits = 1e12 * 9 WHERE id = 1", "waits until 9000000000000"},
	"an open breaker without a wait": {
		"UPDATE receivers SET failures = 5 WHERE id = 1", "receiver 1: 5 failures, 0 probes",
	},
	"a probe of another receiver": {
		"UPDATE receivers SET failures = 5, waits = 1, probe = 2 WHERE id = 1", "one by lane 2",
	},
	"a lane for another receiver": {
		"UPDATE receivers SET host = 'elsewhere' WHERE id = 1", "lane 1: is for http://elsewhere, port 80",
	},
}

// Each check must find a fault, except the check of pages, which has a test of its own.
func TestVerifyFindsEachFault(t *testing.T) {
	f := openWithEverything(t)
	f.verify()
	idle := f.checks()
	if pgtest.OnPostgres() {
		f.check(f.Close())
	}
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(faults[name].want, "names a missing row") {
				pgtest.SQLiteOnly(t, "a server checks its references itself")
			}
			c := &fixture{t: t, ctx: t.Context(), clock: f.clock, url: f.copy(t)}
			c.sql(unreferenced() + strings.ReplaceAll(faults[name].plant, "1e12 * 9", "9000000000000"))
			var found []string
			for check, faults := range c.checks() {
				found = append(found, faults...)
				if len(faults) > 0 {
					delete(idle, check)
				}
			}
			if !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, faults[name].want) }) {
				t.Errorf("found %q, want %q", found, faults[name].want)
			}
		})
	}
	pages := 1
	if pgtest.OnPostgres() {
		pages = 0
	}
	if len(idle) != pages {
		t.Errorf("these checks have found no fault: %q", slices.Sorted(maps.Keys(idle)))
	}
}

// openWithEverything opens a store with deliveries in all states. Lane 1 has delivered 1, waits for the second attempt
// at 2, and has 3 behind it. 4 is in flight in lane 2, 5 has failed in lane 3, and 6 is parked.
func openWithEverything(t *testing.T) *fixture {
	t.Helper()
	f := open(t)
	fillWithEverything(f)
	return f
}

func fillWithEverything(f *fixture) {
	f.t.Helper()
	k := f.agent()
	f.create(f.creations()["rotation"], f.operator())
	f.createEvents(k, crm, gen.EventTypeAgentLogin, gen.EventTypeAgentLogout)
	f.login(k)
	f.record(f.claimOne(), webhook.Delivered, false)
	f.logout(k)
	f.record(f.claimOne(), webhook.Retry, false)
	f.createEvents(k, board, gen.EventTypeAgentLogin)
	f.createEvents(k, "http://payroll.example/hook", gen.EventTypeAgentLogin)
	parked := f.createEvents(k, "http://wages.example/hook", gen.EventTypeAgentLogin)[0]
	f.state(k, parked, gen.AgentEventStateValueDisabled)
	f.login(k)
	claimed := f.claim()
	if len(claimed) != 2 || claimed[1].Lane != 3 {
		f.t.Fatalf("claimed %+v, want lanes 2 and 3", claimed)
	}
	f.record(claimed[1], webhook.Failed, false)
}

// checks returns the checks of Verify with the faults that they find.
func (f *fixture) checks() map[string][]string {
	f.t.Helper()
	found := map[string][]string{}
	err := store.Verify(f.ctx, store.Options{URL: f.url, Now: f.clock.Now}, func(c store.Check) {
		found[c.Name] = c.Violations
	})
	f.check(err)
	return found
}

// unreferenced disables foreign keys for the statements that follow.
func unreferenced() string {
	if pgtest.OnPostgres() {
		return "SET session_replication_role = replica; "
	}
	return "PRAGMA foreign_keys = OFF; "
}

// copy copies the database and returns the copy's URL. On PostgreSQL the database must be closed.
func (f *fixture) copy(t *testing.T) string {
	t.Helper()
	if pgtest.OnPostgres() {
		return pgtest.CopyOf(t, f.url)
	}
	file := filepath.Join(t.TempDir(), "agentevents.db")
	db := f.db()
	defer db.Close()
	if _, err := db.Exec("VACUUM INTO ?", file); err != nil {
		t.Fatal(err)
	}
	return "sqlite:" + file
}

func TestVerifyFindsADamagedPage(t *testing.T) {
	pgtest.SQLiteOnly(t, "a server checks its pages itself")
	f := openWithEverything(t)
	file := strings.TrimPrefix(f.copy(t), "sqlite:")
	content, err := os.ReadFile(file)
	f.check(err)
	var page int
	db := f.db()
	defer db.Close()
	f.check(db.QueryRow("SELECT rootpage FROM sqlite_schema WHERE name = 'deliveries_change'").Scan(&page))
	copy(content[(page-1)*4096:page*4096], "damaged")
	f.check(os.WriteFile(file, content, 0o600))
	var found []string
	err = store.Verify(t.Context(), store.Options{URL: "sqlite:" + file, Now: f.clock.Now}, func(c store.Check) {
		found = append(found, c.Violations...)
	})
	if len(found) == 0 && !strings.Contains(fmt.Sprint(err), "malformed") {
		t.Errorf("no fault was found; %v", err)
	}
}

// Verify reads files that a process has open, that it has closed, and that it has left by a kill. The files stay the
// same, except for the files that a kill leaves.
func TestVerifyChangesNothing(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about files")
	f := openWithEverything(t)
	f.verify()
	killed := &fixture{
		t: t, ctx: t.Context(), clock: f.clock, url: "sqlite:" + filepath.Join(t.TempDir(), "agentevents.db"),
	}
	for name, content := range files(t, f.url) {
		f.check(
			os.WriteFile(filepath.Join(filepath.Dir(strings.TrimPrefix(killed.url, "sqlite:")), name), []byte(content),
				0o600),
		)
	}
	f.check(f.Close())
	before := files(t, f.url)
	f.verify()
	if after := files(t, f.url); !maps.Equal(before, after) || len(before) != 2 { // the database and its lock
		t.Errorf("the files were %q and are %q", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
	f.open()
	killed.verify()
	killed.open()
	defer killed.Close()
	if a, b := killed.states(), f.states(); !maps.Equal(a, b) {
		t.Errorf("after a kill and a check the states are %v, want %v", a, b)
	}
}

// files returns the files of a database with their contents.
func files(t *testing.T, url string) map[string]string {
	t.Helper()
	all := map[string]string{}
	paths, err := filepath.Glob(strings.TrimPrefix(url, "sqlite:") + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		content, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(p)] = string(content)
	}
	return all
}

// The file stays as it is.
func TestVerifyRefusesAFileThatIsNoStore(t *testing.T) {
	pgtest.SQLiteOnly(t, "it is about files")
	dir := t.TempDir()
	for name, c := range map[string]struct{ plant, want string }{
		"missing.db": {"", "there is no database yet at /"},
		"text.db":    {"what is this", "file is not a database"},
		"empty.db":   {" ", "no database of agentevents"},
	} {
		file := filepath.Join(dir, name)
		if c.plant != "" {
			if err := os.WriteFile(file, []byte(strings.TrimSpace(c.plant)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := store.Verify(t.Context(), store.Options{URL: "sqlite:" + file}, func(store.Check) {})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The error does not claim that the database is no store.
func TestVerifyReportsAnUnreachableServer(t *testing.T) {
	pgtest.PostgresOnly(t, "it is about a server")
	there := pgtest.Empty(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	const never, unreachable = "no database of agentevents", "cannot be reached: "
	for name, c := range map[string]struct{ url, want, never string }{
		"is down":     {"postgres://agents@" + free.Addr().String() + "/agents", unreachable, never},
		"unknown":     {changed(t, there, func(u *url.URL) { u.User = url.User("nobody_at_all") }), unreachable, never},
		"no such":     {changed(t, there, func(u *url.URL) { u.Path = "/nothing_at_all" }), unreachable, never},
		"without TLS": {changed(t, there, func(u *url.URL) { u.RawQuery = "sslmode=require" }), unreachable, never},
		"is empty":    {there, never, unreachable},
	} {
		err := store.Verify(t.Context(), store.Options{URL: c.url}, func(store.Check) {})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.never) {
			t.Errorf("a server that %s: %v", name, err)
		}
	}
}

func changed(t *testing.T, from string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}
